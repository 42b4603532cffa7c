"""The paragraph for a paper, from the options that were used."""
import textwrap

MAIN = """
    Effects are changes of the next-token negative log-likelihood (ΔNLL, nats per token) and the KL divergence
    of the ablated from the clean prediction, over the same tokens. The unit of analysis is the document
    ({documents} per model): outcomes of tokens were summed within documents, and estimates are ratios of
    sums. Uncertainty comes from one studentised cluster bootstrap over documents per model, with {draws:,}
    draws shared by all cells and contrasts (seed {seed}), each studentised by its own linearised cluster
    standard error. We report symmetric {level} bootstrap-t intervals and two-sided p-values, adjusted
    over all measured cells of a model by the step-down max-T procedure (Westfall and Young, 1993; Romano and
    Wolf, 2005). A cell has an effect if its adjusted p-value is below {alpha}; it is negligible if it has
    none and both ΔNLL (two one-sided tests, {inner} interval within ±{margin}) and KL (one-sided {level}
    upper bound below {margin}) are equivalent to zero; otherwise it is inconclusive. Minimal detectable
    effects are for 80 % power."""
RANKS = """
    Rank correlations (Spearman's ρ, Kendall's τ-b) of routing mass and related quantities with ΔNLL have
    percentile intervals that recompute both sides in every draw ({draws:,} draws over families,
    {rank_draws:,} over edges); the probability of dissociation is the share of draws in which the source of
    the largest mass is not that of the largest ΔNLL."""
CLAIMS = """
    Claims were fixed in the configuration and judged on the confirmation split only, whose documents are in
    no other split: a claim holds if the lower end of its {level} interval, simultaneous over the model's
    claims (max-T), exceeds its margin, and fails if the upper end is below it."""
MANY = "Models are never pooled: we report for how many of n models a verdict holds."
WARNED = "{warned} of {files} files carry warnings, which limit what their intervals promise."


def describe_methods(options, files):
    """files: FileAnalysis (cli.py)."""
    counts = sorted({len(one.documents) for one in files})
    chosen = [MAIN]
    if any(one.tables["rank"] for one in files):
        chosen.append(RANKS)
    if any(one.results.claims and one.results.attributes["split"] == "confirmation" for one in files):
        chosen.append(CLAIMS)
    if len(files) > 1:
        chosen.append(MANY)
    warned = sum(bool(one.warnings) for one in files)
    if warned:
        chosen.append(WARNED)
    text = " ".join(textwrap.dedent(part).strip().replace("\n", " ") for part in chosen)
    return text.format(
        documents=" to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))),
        draws=options.bootstrap, rank_draws=options.rank_draws, seed=options.seed, alpha=f"{options.alpha:g}",
        level=f"{100 * options.level:g} %", inner=f"{100 * (1 - 2 * options.alpha):g} %",
        margin=f"{options.margin:g}", warned=warned, files=len(files))
