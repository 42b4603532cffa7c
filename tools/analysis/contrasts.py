"""Differences between cells from the same draws, and claims: differences that were written down before."""
from itertools import combinations

import numpy as np

from . import adjust
from .bootstrap import studentise
from .cells import why_not_judged, with_interval
from .results_file import AnalysisError


def sums_of(results, documents, measure, name):
    return documents.sum(results.sums[measure][results.index(name)])[:, 0]


def family_pairs(results):
    """Every pair of families that a grid measures at the same intervention, sublayer and band."""
    pairs = []
    for index in results.grids.values():
        for at in np.ndindex(*index.shape[1:]):
            cells = [cell for cell in index[(slice(None), *at)] if cell >= 0 and results.measured[cell]]
            pairs += [(results.names[a], results.names[b]) for a, b in combinations(cells, 2)]
    return pairs


def check_requested(results, pairs):
    for name in {name for pair in pairs for name in pair}:
        index = results.index(name)
        if index is None:
            raise AnalysisError(f"--contrast: {results.path} has no cell '{name}'; /cell/cell has the names")
        if not results.measured[index]:
            raise AnalysisError(f"--contrast: {results.path}: cell '{name}' was not run; name measured cells")


def estimate_contrasts(results, documents, draws, options):
    """A table {variable: [contrast]}, or None without any."""
    check_requested(results, options.contrasts)
    requested = list(dict.fromkeys(tuple(pair) for pair in options.contrasts))
    pairs = requested + [pair for pair in family_pairs(results) if pair not in requested]
    if not pairs:
        return None
    sums = np.stack([
        sums_of(results, documents, "delta_nll", a) - sums_of(results, documents, "delta_nll", b)
        for a, b in pairs
    ], 1)
    estimates = studentise(sums, documents.tokens, draws)
    table = {
        "contrast": [f"{a} − {b}" for a, b in pairs],
        "cell": [a for a, _ in pairs],
        "minus": [b for _, b in pairs],
        "kind": ["requested"] * len(requested) + ["family"] * (len(pairs) - len(requested))
    }
    with_interval(table, "difference", estimates, options.level, np.asarray)
    low, high = adjust.simultaneous(estimates, options.level)
    table["difference_simultaneous_low"], table["difference_simultaneous_high"] = low, high
    table["p"], table["p_adjusted"] = estimates.p_values(), adjust.step_down(estimates)
    return table


def why_no_verdict(results, claim):
    """Why the claim has no verdict, or "". The split comes first: a look at exploration data is not a
    test."""
    if results.attributes["split"] != "confirmation":
        return f"split is {results.attributes['split']}"
    if why_not_judged(results):
        return why_not_judged(results)
    return missing_cell(results, claim)


def missing_cell(results, claim):
    """Which cell of the claim has no outcomes, in words, or ""."""
    for name in filter(None, (claim["cell"], claim["exceeds"])):
        index = results.index(name)
        if index is None:
            return f"there is no cell {name}"
        if not results.measured[index]:
            return f"cell {name} was not run"
    return ""


def judge_claims(results, documents, draws, options):
    """A table {variable: [claim]}, or None without claims. Intervals hold for all claims of the file at
    once."""
    claims = results.claims
    if not claims:
        return None
    table = {"claim": [claim["name"] for claim in claims]}
    for name in ("cell", "exceeds", "measure", "margin", "negative"):
        table[name] = [claim[name] for claim in claims]
    reasons = [why_no_verdict(results, claim) for claim in claims]
    able = [row for row, claim in enumerate(claims) if not missing_cell(results, claim)]
    difference, low, high, error = (np.full(len(claims), np.nan) for _ in range(4))
    if able:
        estimates = studentise(np.stack([_sums(results, documents, claims[row]) for row in able], 1),
                               documents.tokens, draws)
        difference[able], error[able] = estimates.value, estimates.error
        low[able], high[able] = adjust.simultaneous(estimates, options.level)
    verdict = []
    for row, claim in enumerate(claims):
        if not reasons[row] and not np.isfinite(low[row]):
            reasons[row] = "too few documents"
        if reasons[row]:
            verdict.append("not_judged")
        elif low[row] > claim["margin"]:
            verdict.append("holds")
        else:
            verdict.append("fails" if high[row] < claim["margin"] else "undecided")
    table.update(verdict=verdict, reason=reasons, difference=difference, difference_low=low,
                 difference_high=high, difference_se=error)
    return table


def _sums(results, documents, claim):
    sums = sums_of(results, documents, claim["measure"], claim["cell"])
    if claim["exceeds"]:
        sums = sums - sums_of(results, documents, claim["measure"], claim["exceeds"])
    return -sums if claim["negative"] else sums
