"""The paragraph for a paper, from the options that were used."""


def describe_methods(options, files):
    """files: FileAnalysis (cli.py)."""
    documents = sorted({len(one.documents) for one in files})
    counted = f"{documents[0]:,}" if len(documents) == 1 else f"{documents[0]:,} to {documents[-1]:,}"
    alpha, level = f"{options.alpha:g}", f"{100 * options.level:g} %"
    text = (
        f"Effects are changes of the next-token negative log-likelihood (ΔNLL, nats per token) and the KL divergence of the ablated from"
        f" the clean prediction, over the same tokens. The unit of analysis is the document ({counted} per model): token-level outcomes were"
        f" summed within documents and estimates are ratios of sums. Uncertainty comes from one studentised cluster bootstrap over"
        f" documents per model with {options.bootstrap:,} draws shared by all cells and contrasts (seed {options.seed}); each draw was studentised by its own"
        f" linearised cluster-robust standard error. We report symmetric {level} bootstrap-t intervals and two-sided p-values,"
        f" adjusted over all measured cells of a model by the step-down max-T procedure (Westfall and Young, 1993; Romano and Wolf, 2005)."
        f" A cell has an effect if its adjusted p-value is below {alpha}; it is negligible if it has none and both ΔNLL (two one-sided tests,"
        f" {100 * (1 - 2 * options.alpha):g} % interval within ±{options.margin:g}) and KL (one-sided {level} upper bound below {options.margin:g}) are equivalent to zero; otherwise it is"
        f" inconclusive. Minimal detectable effects are for 80 % power.")
    if any(one.tables["rank"] for one in files):
        text += (
            f" Rank correlations (Spearman, Kendall's tau-b) of routing mass and related quantities with ΔNLL have percentile intervals that"
            f" recompute both sides in every draw ({options.bootstrap:,} draws over families, {options.rank_draws:,} over edges); the probability of dissociation is the"
            f" share of draws in which the source of the largest mass is not that of the largest ΔNLL.")
    claims = sum(len(one.results.claims) for one in files if one.results.attributes["split"] == "confirmation")
    if claims:
        text += (" Claims were fixed in the configuration before the confirmation split was measured and judged on that split only: a claim"
                 f" holds if the lower end of its {level} interval, simultaneous over the model's claims (max-T), exceeds its margin, and fails if"
                 " the upper end is below it.")
    if len(files) > 1:
        text += " Models are never pooled: we report for how many of n models a verdict holds."
    few = [one for one in files if any("documents" in warning for warning in one.warnings)]
    if few:
        text += f" {len(few)} of {len(files)} files have limits that their warnings name; there intervals may be too narrow."
    return text
