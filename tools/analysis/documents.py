"""Sums of segments by document, and what is set beside a cell's effect: masses, shares and coefficients of
its sources."""
import numpy as np
from scipy import sparse

from .results_file import SHARES


class Documents:
    """Adds up the segments of each document; a document may lie in several sequences."""

    def __init__(self, results):
        self.ids, place = np.unique(results.document, return_inverse=True)
        segments = np.arange(len(place))
        self.gather = sparse.csr_matrix((np.ones(len(place)), (place, segments)),
                                        shape=(len(self.ids), len(place)))
        self.tokens = self.gather @ results.tokens

    def __len__(self):
        return len(self.ids)

    def sum(self, by_segment):
        """[segment] or [segment, column] to [document, column]."""
        values = np.asarray(by_segment, float)
        return self.gather @ (values[:, None] if values.ndim == 1 else values)


def contains(state, output, restart):
    """Whether S_state contains the output numbered `output` (0: the embedding, k: that of sublayer k − 1)."""
    return 0 <= output <= state and not np.any(restart[output:state])


def newest_coefficients(weight, state, restart):
    """The coefficient of the newest output of each source's state in what its site reads, [..., site,
    source]: the sum of the weights of the sources whose states contain that output. weight is [..., site,
    source], state [site, source] (−1: none)."""
    result = np.zeros_like(weight)
    for site, states in enumerate(state):
        for source, own in enumerate(states):
            if own < 0:
                continue
            holders = [
                other for other, held in enumerate(states) if held >= 0 and contains(held, own, restart)
            ]
            result[..., site, source] = weight[..., site, holders].sum(-1)
    return result


def predictors(results, documents):
    """For every predictor, sums by document and cell [document, cell]; divided by tokens they are the cell's
    mass, say.

    Weights, shares and cosines: summed over the cell's sources at a site, then the mean over its ablated
    sites, as mass is. Cosines and coefficients of several sources do not add up: the mean over the ablated
    (site, source) pairs. NaN for cells without such."""
    found = {}
    if results.flags is None or not results.shares:
        return found
    ablated = results.flags == 1
    by_site = ablated / np.maximum(ablated.any(2).sum(1), 1)[:, None, None]
    by_pair = ablated / np.maximum(ablated.sum((1, 2)), 1)[:, None, None]
    present = results.measured & ablated.any((1, 2)) & np.isfinite(results.cell["mass"])
    shares = {name: results.shares[name] for name in SHARES if name in results.shares}
    if "weight" in shares:
        state, restart = results.site["state"], results.site["restart"]
        if state is not None and restart is not None:
            shares["coefficient"] = newest_coefficients(shares["weight"], state, restart)
    masks = np.array([name == "mask" for name in results.cell["intervention"]])
    for name, values in shares.items():
        average = {"cosine": by_pair, "coefficient": by_pair, "edge_estimate": ablated}.get(name, by_site)
        table = documents.sum(values.reshape(len(values), -1)) @ average.reshape(len(average), -1).T
        given = present & masks if name == "edge_estimate" else present
        found["mass" if name == "weight" else name] = np.where(given, table, np.nan)
    return found
