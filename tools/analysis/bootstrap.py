"""One studentised cluster bootstrap over documents, shared by all cells and contrasts of a file.

Documents d have sums x_d of an outcome and n_d tokens; the estimate is θ = Σx / Σn. Linearised, its
standard error is s = sqrt(D/(D−1) Σ(x_d − θ n_d)²) / Σn. A draw takes D documents with replacement and
gives θ*, s* and t* = (θ* − θ) / s*.
"""
import math
from dataclasses import dataclass

import numpy as np

# Below this share of the file's own standard error, a draw's error carries no information: nearly all of
# its documents agree.
DEGENERATE_ERROR = 0.1
# Below this share it is rounding: all documents of the draw agree, and t* is infinite.
ROUNDING_ERROR = 1e-6
# A cell with a larger share of such draws rests on too few documents to be compared with others.
DEGENERATE_DRAWS = 1e-3
CHUNK_BYTES = 1 << 24


class Draws:
    """Iterates over (rows, counts): counts[b, d] is how often draw b takes document d. The same each time."""

    def __init__(self, documents, draws, seed):
        self.documents, self.draws, self.seed = documents, draws, seed
        self.rows = max(1, min(draws, CHUNK_BYTES // (8 * documents)))

    def __iter__(self):
        for number, start in enumerate(range(0, self.draws, self.rows)):
            rows = min(self.rows, self.draws - start)
            random = np.random.default_rng([self.seed, number])
            picks = random.integers(self.documents, size=(rows, self.documents),
                                    dtype=np.int32).astype(np.int64)
            picks += np.arange(rows)[:, None] * self.documents
            counts = np.bincount(picks.ravel(), minlength=rows * self.documents).reshape(rows, self.documents)
            yield slice(start, start + rows), counts.astype(float)


def ratio(sums, tokens):
    """Returns θ and its standard error for every column of sums [document, column]; NaN errors for a single
    document."""
    total, documents = tokens.sum(), len(tokens)
    value = sums.sum(0) / total
    if documents < 2:
        return value, np.full_like(value, np.nan)
    squares = np.square(sums - np.outer(tokens, value)).sum(0)
    return value, np.sqrt(documents / (documents - 1) * squares) / total


def order_quantile(values, level):
    """The smallest value of each column that at least a share `level` of B + 1 lies at or below; infinite
    beyond the last.

    So p = (1 + #{t* ≥ t}) / (B + 1) ≤ 1 − level exactly where t is above it."""
    rank = math.ceil(level * (len(values) + 1) - 1e-9)
    if rank > len(values):
        return np.full(values.shape[1:], np.inf)
    return np.partition(values, rank - 1, axis=0)[rank - 1]


@dataclass
class Estimates:
    """Ratio estimates of the columns of one outcome, with what the draws say of them."""
    value: np.ndarray  # [column]
    error: np.ndarray  # [column] standard errors
    studentised: np.ndarray  # [draw, column] t*
    degenerate: np.ndarray  # [column] share of draws without a usable standard error

    @property
    def statistic(self):
        """θ / s; 0 where both are 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where((self.value == 0) & (self.error == 0), 0.0, self.value / self.error)

    @property
    def few_documents(self):
        return ~(self.degenerate <= DEGENERATE_DRAWS)

    def p_values(self):
        """Two-sided, of θ = 0."""
        reached = (np.abs(self.studentised) >= np.abs(self.statistic)).sum(0)
        return self._missing((1 + reached) / (len(self.studentised) + 1))

    def interval(self, level):
        """Symmetric: θ ± s times the quantile of |t*|, so that it excludes 0 exactly where p ≤ 1 − level."""
        half = self._times_error(order_quantile(np.abs(self.studentised), level))
        return self._missing(self.value - half), self._missing(self.value + half)

    def lower(self, level):
        """The one-sided lower bound."""
        return self._missing(self.value - self._times_error(order_quantile(self.studentised, level)))

    def upper(self, level):
        return self._missing(self.value + self._times_error(order_quantile(-self.studentised, level)))

    def critical(self, level):
        """The quantile of |t*| of each column."""
        return self._missing(order_quantile(np.abs(self.studentised), level))

    def _times_error(self, quantile):
        with np.errstate(invalid="ignore"):
            return np.where(self.error == 0, 0.0, quantile * self.error)

    def _missing(self, values):
        return np.where(np.isfinite(values) & np.isfinite(self.error), values, np.nan)

    def take(self, columns):
        return Estimates(self.value[columns], self.error[columns], self.studentised[:, columns],
                         self.degenerate[columns])


def studentise(sums, tokens, draws):
    """Estimates for sums [document, column] over tokens [document]."""
    value, error = ratio(sums, tokens)
    studentised = np.zeros((draws.draws, len(value)))
    degenerate = np.ones(len(value))
    if len(tokens) < 2:
        return Estimates(value, error, studentised, degenerate)
    # Around θ, replicates are small differences that do not cancel in the sums below. Scaled, squares do
    # not underflow.
    residual = sums - np.outer(tokens, value)
    scale = np.where(error > 0, error * tokens.sum(), 1.0)
    residual = residual / scale
    products = residual * tokens[:, None]
    squares = np.square(residual)
    factor = len(tokens) / (len(tokens) - 1)
    bad = np.zeros(len(value))
    for rows, counts in draws:
        total, total_squares = (counts @ values[:, None] for values in (tokens, np.square(tokens)))
        shift = counts @ residual / total
        spread = counts @ squares - 2 * shift * (counts @ products) + np.square(shift) * total_squares
        # In units of the file's own error; times Σn, as `scale` is.
        own = np.sqrt(np.maximum(factor * spread, 0)) * (tokens.sum() / total)
        bad += (own < DEGENERATE_ERROR).sum(0)
        own[own < ROUNDING_ERROR] = 0
        with np.errstate(divide="ignore", invalid="ignore"):
            studentised[rows] = shift * tokens.sum() / own
    still = error == 0  # the same in every document: no draw differs
    studentised[:, still] = 0.0
    np.nan_to_num(studentised, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)
    degenerate = np.where(still, 0.0, bad / draws.draws)
    return Estimates(value, error, studentised, degenerate)


def replicates(sums, tokens, draws):
    """Yields θ* [draw, column] chunk by chunk."""
    for rows, counts in draws:
        yield rows, counts @ sums / (counts @ tokens)[:, None]
