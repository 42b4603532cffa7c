"""Estimates, intervals, equivalence and the verdict of every cell."""
from dataclasses import dataclass

import numpy as np
from scipy import stats

from . import adjust
from .bootstrap import studentise

MEASURES = ("delta_nll", "kl", "abs_delta_nll", "flip_rate", "hit_change")
VERDICTS = ("not_run", "not_judged", "inconclusive", "negligible", "effect")
POWER = 0.8
# Simulated documents with effects of lognormal sigma 0.7 stay below this in nine cells of ten.
MODERATE_SKEWNESS = 6


@dataclass(frozen=True)
class Options:
    """What the statistics depend on besides the files."""
    bootstrap: int = 10000
    alpha: float = 0.05
    margin: float = 0.01
    seed: int = 1
    rank_draws: int = 2000
    contrasts: tuple = ()
    untrained_limit: float = 0.1

    @property
    def level(self):
        return 1 - self.alpha


def why_not_judged(results):
    """Why this file's numbers deserve no verdict, or ""."""
    failed = [name for name, passed in results.known_answers.items() if passed == 0]
    if failed:
        return f"known answers failed: {', '.join(failed)}"
    before, after = results.checksums
    if before != after:
        return "the model's parameters changed during the measurement: their checksums differ"
    return ""


def spread(values, measured):
    """[column of a measured cell] to [cell], NaN elsewhere."""
    result = np.full(len(measured), np.nan)
    result[measured] = values
    return result


def with_interval(table, name, estimates, level, place):
    """Adds name, name_low, name_high and name_se."""
    low, high = estimates.interval(level)
    for suffix, values in (("", estimates.value), ("_low", low), ("_high", high), ("_se", estimates.error)):
        table[name + suffix] = place(values)


def skewness(sums, value, tokens):
    """Of the documents' contributions x − θ n to each column's error: intervals were tested up to moderate
    skew."""
    residual = sums - np.outer(tokens, value)
    varies = np.ptp(residual, axis=0) > 0
    result = np.zeros(len(value))
    result[varies] = stats.skew(residual[:, varies], axis=0)
    return result


def equivalence(delta, kl, options):
    """Bounds and outcomes of the tests of equivalence. delta_nll: within ± margin, two one-sided tests; kl:
    below the margin."""
    low, high = delta.lower(options.level), delta.upper(options.level)
    upper = kl.upper(options.level)
    bound = np.maximum(np.abs(low), np.abs(high))  # NaN where either is
    return {
        "equivalence_low": low,
        "equivalence_high": high,
        "kl_upper": upper,
        "delta_nll_equivalent": bound < options.margin,
        "kl_equivalent": upper < options.margin,
        "delta_nll_equiv_bound": bound,
        "kl_equiv_bound": upper,
        "equiv_bound": np.maximum(bound, upper)
    }


def detectable(delta, documents, level):
    """The smallest effects found with 80 % probability: for a cell alone, and among the family."""
    power = stats.t.ppf(POWER, max(documents - 1, 1))
    alone = (delta.critical(level) + power) * delta.error
    family = (adjust.critical(delta, level) + power) * delta.error
    return alone, np.where(adjust.family_of(delta), family, np.nan)


def verdicts(status, p_adjusted, equivalent, judged, alpha):
    """One of VERDICTS for every cell. An effect within the margin stays an effect (flag `small`): it is
    there."""
    result = []
    for one, p, both in zip(status, p_adjusted, equivalent):
        if one != "measured":
            result.append("not_run")
        elif not judged:
            result.append("not_judged")
        elif p < alpha:
            result.append("effect")
        else:
            result.append("negligible" if both else "inconclusive")
    return result


def judge_cells(results, documents, draws, options):
    """A table {variable: [cell]} of all cells, and the Estimates of delta_nll of the measured ones."""
    measured = results.measured
    place = lambda values: spread(values, measured)  # noqa: E731
    table, estimates = {}, {}
    for measure in MEASURES:
        sums = documents.sum(results.sums[measure][measured].T)
        one = studentise(sums, documents.tokens, draws)
        with_interval(table, measure, one, options.level, place)
        if measure in ("delta_nll", "kl"):
            estimates[measure] = one
        if measure == "delta_nll":
            table["skewness"] = place(skewness(sums, one.value, documents.tokens))
    delta, kl = estimates["delta_nll"], estimates["kl"]
    low, high = adjust.simultaneous(delta, options.level)
    table["delta_nll_simultaneous_low"], table["delta_nll_simultaneous_high"] = place(low), place(high)
    table["p"], table["p_adjusted"] = place(delta.p_values()), place(adjust.step_down(delta))
    for name, values in equivalence(delta, kl, options).items():
        filled = place(values)
        table[name] = filled == 1 if values.dtype == bool else filled
    alone, family = detectable(delta, len(documents), options.level)
    table["minimal_detectable_effect"] = place(alone)
    table["minimal_detectable_effect_adjusted"] = place(family)
    table["few_documents"] = place(delta.few_documents) == 1
    total = documents.tokens.sum()
    ablated_nll = results.nll.sum() / total + table["delta_nll"]
    table["out_of_distribution"] = ablated_nll > results.attributes["unigram_entropy"]
    equivalent = table["delta_nll_equivalent"] & table["kl_equivalent"]
    judged = not why_not_judged(results)
    table["verdict"] = verdicts(results.cell["status"], table["p_adjusted"], equivalent, judged,
                                options.alpha)
    table["small"] = np.array([one == "effect" for one in table["verdict"]]) & table["delta_nll_equivalent"]
    table["cancelling"] = table["delta_nll_equivalent"] & (place(kl.lower(options.level)) > options.margin)
    return table, delta


def clean_estimates(results, documents, draws, level):
    """The clean run's NLL and accuracy with intervals, and its perplexity."""
    table = {}
    for name, sums in (("mean_nll", results.nll), ("accuracy", results.hits)):
        estimates = studentise(documents.sum(sums), documents.tokens, draws)
        with_interval(table, name, estimates, level, lambda values: values[0])
    table["perplexity"] = np.exp(table["mean_nll"])
    return table
