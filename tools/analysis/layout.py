"""Units and long names of the variables of analysis.h5."""
NATS = "nats/token"

# name: (units, long name); the suffixes below add to both the name and the long name.
VARIABLES = {
    "mean_nll": (NATS, "negative log-likelihood of the clean run"), "accuracy": ("1", "top-1 accuracy of the clean run"),
    "perplexity": ("1", "perplexity of the clean run"),
    "family": (None, "source family"), "sublayer": (None, "kind of sublayer"), "band": (None, "depth band"),
    "intervention": (None, "intervention"), "site": (None, "site of an edge"), "status": (None, "measured or not_run"),
    "source": ("1", "position of the source of an edge"), "sites_ablated": ("1", "sites that the cell changes"),
    "sites_duplicate": ("1", "ablated sites where a touched source has an untouched copy"),
    "distinct": ("1", "whether all copies of a state are touched"),
    "verdict": (None, "verdict"), "small": ("1", "effect within the margin"),
    "cancelling": ("1", "KL above the margin while delta_nll is within it"),
    "few_documents": ("1", "left out of the family: rests on too few documents"),
    "out_of_distribution": ("1", "ablated NLL above the unigram entropy"),
    "delta_nll": (NATS, "change of NLL"), "kl": (NATS, "KL divergence of the ablated from the clean prediction"),
    "abs_delta_nll": (NATS, "absolute change of NLL per token"), "flip_rate": ("1", "share of tokens whose top-1 prediction changes"),
    "hit_change": ("1", "change of top-1 accuracy"),
    "p": ("1", "two-sided p-value of no change"), "p_adjusted": ("1", "p-value adjusted over the family, step-down max-T"),
    "equivalence_low": (NATS, "lower end of the equivalence interval of delta_nll"),
    "equivalence_high": (NATS, "upper end of the equivalence interval of delta_nll"),
    "kl_upper": (NATS, "one-sided upper bound of KL"), "delta_nll_equivalent": ("1", "delta_nll is equivalent to 0"),
    "kl_equivalent": ("1", "KL is below the margin"), "equiv_bound": (NATS, "smallest margin at which both would be equivalent"),
    "delta_nll_equiv_bound": (NATS, "smallest margin at which delta_nll would be equivalent"),
    "kl_equiv_bound": (NATS, "smallest margin at which KL would be equivalent"),
    "minimal_detectable_effect": (NATS, "delta_nll found with 80 % probability, for the cell alone"),
    "minimal_detectable_effect_adjusted": (NATS, "delta_nll found with 80 % probability, adjusted over the family"),
    "mass": ("1", "mean routing weight of the sources"), "norm_share": ("1", "share of the norms of what the site reads"),
    "projection_share": ("1", "signed share of the projection on what the site reads"),
    "cosine": ("1", "cosine of the sources to the current state"),
    "coefficient": ("1", "coefficient of the sources' newest outputs in what the site reads"),
    "edge_estimate": (NATS, "first-order estimate of the effect of masking"),
    "cell": (None, "cell"), "minus": (None, "cell that is subtracted"), "kind": (None, "family or requested"),
    "difference": (NATS, "difference"), "exceeds": (None, "cell that the claim compares with"), "measure": (None, "measure of the claim"),
    "margin": (NATS, "margin of the claim"), "negative": ("1", "whether the sign is turned"), "reason": (None, "why there is no verdict"),
    "spearman": ("1", "Spearman's rank correlation with delta_nll"), "kendall": ("1", "Kendall's tau-b with delta_nll"),
    "cells": ("1", "cells that are correlated"), "draws": ("1", "draws of the intervals"),
    "probability": ("1", "share of draws in which the largest mass is not the largest effect"),
    "heaviest": (None, "cell of the largest mass"), "most_causal": (None, "cell of the largest effect"),
    "heaviest_mass": ("1", "mass of the heaviest"), "heaviest_delta_nll": (NATS, "change of NLL of the heaviest"),
    "most_causal_mass": ("1", "mass of the most causal"), "most_causal_delta_nll": (NATS, "change of NLL of the most causal"),
    "path": (None, "results file as given"), "model": (None, "checksum of the checkpoint"), "checkpoint_step": ("1", "training step"),
    "setting": ("1", "index of the setting"), "series": ("1", "index of the series"), "counted": ("1", "whether the model is counted"),
    "judged": ("1", "whether the file has verdicts"), "variant": (None, "routing variant"), "wrapped": ("1", "whether the model is wrapped"),
    "wrap_recency_bias": ("1", "recency bias of the wrapper"), "num_layers": ("1", "layers"),
    "sublayers_per_block": ("1", "sublayers per block"), "split": (None, "split of the data"), "setting_step": ("1", "training step"),
    "setting_series": ("1", "index of the series"), "models": ("1", "models that are counted"),
    "effect": ("1", "models with an effect"), "negligible": ("1", "models where it is negligible"),
    "inconclusive": ("1", "models where it is inconclusive"), "not_judged": ("1", "models that are not judged"),
    "not_run": ("1", "models where it was not run"), "positive": ("1", "models where delta_nll is positive"),
    "negative_models": ("1", "models where delta_nll is negative"), "agree": ("1", "models with the more frequent sign of delta_nll"),
    "claim_verdict": ("1", "verdict of the claim"), "holds": ("1", "models where the claim holds"),
    "fails": ("1", "models where the claim fails"), "undecided": ("1", "models where the claim is undecided"),
    "recency_bias": ("1", "recency bias of the wrapper"), "largest_deviation": ("1", "largest distance of a mean weight from the formula"),
    "weight": ("1", "mean weight"), "schedule_weight": ("1", "weight by the formula"), "schedule_mass": ("1", "mass by the formula"),
    "largest_trained": (NATS, "largest absolute delta_nll of the trained model"), "ratio": ("1", "largest untrained over largest trained effect"),
    "passed": ("1", "whether the ratio is within the limit"),
}
SUFFIXES = {"_simultaneous_low": ", lower end, simultaneous", "_simultaneous_high": ", upper end, simultaneous",
            "_low": ", lower end", "_high": ", upper end", "_se": ", standard error"}


def describe(name):
    """(units, long name) of the variable `name`."""
    if name in VARIABLES:
        return VARIABLES[name]
    for suffix, words in SUFFIXES.items():
        if name.endswith(suffix):
            units, long_name = describe(name[:-len(suffix)])
            return units, long_name + words
    raise KeyError(name)
