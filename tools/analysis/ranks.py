"""Rank correlations of many draws at once; scipy.stats has those of one."""
import numpy as np
from scipy import stats

PAIR_BYTES = 1 << 24


def rank_rows(values):
    """stats.rankdata(values, axis=1), ties averaged: that one goes through a Python loop over the rows."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, 1)
    differs = ordered[:, 1:] != ordered[:, :-1]
    places = np.arange(values.shape[1])
    edge = np.ones((len(values), 1), bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), places, 0), axis=1)
    last = np.where(np.hstack([differs, edge]), places, places[-1])
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, 1)
    return ranks


def spearman_rows(x, y):
    """Spearman's rho of each row of x with that row of y, [draw, cell]; NaN where a row is constant."""
    x, y = (rank_rows(values) for values in (x, y))
    x, y = (values - values.mean(1, keepdims=True) for values in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (x * y).sum(1) / np.sqrt(np.square(x).sum(1) * np.square(y).sum(1))


def kendall_rows(x, y):
    """Kendall's tau-b of each row of x with that row of y, [draw, cell]; NaN where a row is constant."""
    first, second = np.triu_indices(x.shape[1], 1)
    result = np.empty(len(x))
    rows = max(1, PAIR_BYTES // (8 * len(first)))
    for start in range(0, len(x), rows):
        signs = [_signs(values[start:start + rows], first, second) for values in (x, y)]
        concordant, x_untied, y_untied = (np.einsum("ij,ij->i", a, b)
                                          for a, b in ((signs[0], signs[1]), (signs[0], signs[0]),
                                                       (signs[1], signs[1])))
        with np.errstate(divide="ignore", invalid="ignore"):
            result[start:start + rows] = concordant / np.sqrt(x_untied * y_untied)
    return result


def _signs(values, first, second):
    return np.sign(values[:, first] - values[:, second])


STATISTICS = {
    "spearman": (lambda x, y: stats.spearmanr(x, y)[0], spearman_rows),
    "kendall": (lambda x, y: stats.kendalltau(x, y)[0], kendall_rows)
}


def correlate(x, y, x_draws, y_draws, level):
    """{name: (estimate, low, high)} of both statistics; percentile intervals over draws that recompute x and
    y."""
    result = {}
    for name, (of_one, of_rows) in STATISTICS.items():
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            result[name] = (np.nan, np.nan, np.nan)
            continue
        draws = of_rows(x_draws, y_draws)
        draws = draws[np.isfinite(draws)]
        tail = (1 - level) / 2
        low, high = np.quantile(draws, [tail, 1 - tail]) if len(draws) else (np.nan, np.nan)
        result[name] = (float(of_one(x, y)), low, high)
    return result


def dissociated(mass, effect):
    """For each row [draw, cell]: whether the cell of the largest mass is not one of the largest effect."""
    heaviest = np.argmax(mass, axis=1)
    return np.take_along_axis(effect, heaviest[:, None], 1)[:, 0] < effect.max(1)
