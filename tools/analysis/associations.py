"""What a source's mass, shares and coefficients have to do with its effect: rank correlations, dissociation,
edge estimates."""
import numpy as np

from .bootstrap import Draws, replicates, studentise
from .cells import with_interval
from .documents import predictors
from .ranks import STATISTICS, correlate, dissociated

PREDICTORS = ("mass", "norm_share", "projection_share", "cosine", "coefficient", "edge_estimate")
SUBLAYERS = ("attn", "mlp", "final", "all")
BANDS = ("early", "mid", "late", "all")
FEWEST_CELLS = 3
MOST_MISSES = 20


def find_grids(results):
    """{"mask/families": indices of measured cells with a mass, "mask/edges": ...}, where there are three or
    more."""
    grids = {}
    for intervention, index in results.grids.items():
        grids[f"{intervention}/families"] = np.unique(index[index >= 0])
    if results.names:
        cell = results.cell
        edges = (cell["site"] != "") & (cell["source"] >= 0) & (cell["distinct"] == 0)
        for intervention in dict.fromkeys(cell["intervention"][edges]):
            grids[f"{intervention}/edges"] = np.flatnonzero(edges & (cell["intervention"] == intervention))
    usable = results.measured & np.isfinite(results.cell["mass"]) if results.names else None
    grids = {name: cells[usable[cells]] for name, cells in grids.items()}
    return {name: cells for name, cells in grids.items() if len(cells) >= FEWEST_CELLS}


class Associations:
    """One file's tables `rank`, `dissociation` and `edge_miss`; None where there is nothing for them."""

    def __init__(self, results, documents, draws, options):
        self.results, self.documents, self.draws, self.options = results, documents, draws, options
        self.by_document = predictors(results, documents)
        total = documents.tokens.sum()
        self.of_cells = {name: sums.sum(0) / total for name, sums in self.by_document.items()}
        self.grids = find_grids(results) if self.by_document else {}
        self.rank = self.dissociation = None
        if self.grids:
            self._start_tables()
            for row, (name, cells) in enumerate(self.grids.items()):
                self._measure(row, name, cells)
            self._compare_pairs()
        self.edge_miss = self._misses()

    def _start_tables(self):
        shape = (len(self.grids), len(SUBLAYERS), len(PREDICTORS))
        self.rank = {
            name + suffix: np.full(shape, np.nan)
            for name in STATISTICS
            for suffix in ("", "_low", "_high")
        }
        self.rank["cells"] = np.zeros(shape[:2], np.int64)
        self.rank["draws"] = np.zeros(shape[0], np.int64)
        shape = (len(self.grids), len(SUBLAYERS), len(BANDS))
        self.dissociation = {
            name: np.full(shape, np.nan)
            for name in ("probability", "heaviest_mass", "heaviest_delta_nll", "most_causal_mass",
                         "most_causal_delta_nll", "difference", "difference_low", "difference_high")
        }
        self.dissociation.update({name: np.full(shape, "", object) for name in ("heaviest", "most_causal")})
        self.pairs = []  # (place in the table, cell, cell)

    def _draw(self, sums, cells, draws):
        """θ* of the columns `cells` of sums [document, cell], [draw, column]."""
        result = np.empty((draws.draws, len(cells)))
        for rows, values in replicates(sums[:, cells], self.documents.tokens, draws):
            result[rows] = values
        return result

    def _measure(self, row, name, cells):
        many = name.endswith("/edges")
        draws = Draws(len(self.documents), self.options.rank_draws, self.options.seed) if many else self.draws
        self.rank["draws"][row] = draws.draws
        effects = self.documents.sum(self.results.sums["delta_nll"][cells].T)
        effect = effects.sum(0) / self.documents.tokens.sum()
        effect_draws = self._draw(effects, np.arange(len(cells)), draws)
        sublayer, band = (self.results.cell[key][cells].astype(str) for key in ("sublayer", "band"))
        for column, predictor in enumerate(PREDICTORS):
            if predictor not in self.by_document:
                continue
            values = self.of_cells[predictor][cells]
            value_draws = self._draw(self.by_document[predictor], cells, draws)
            for at, kind in enumerate(SUBLAYERS):
                chosen = np.flatnonzero(((sublayer == kind) | (kind == "all")) & np.isfinite(values))
                if predictor == "mass":
                    self.rank["cells"][row, at] = len(chosen)
                    self._dissociate(row, at, cells, chosen, band, effect, values, effect_draws, value_draws)
                if len(chosen) < FEWEST_CELLS:
                    continue
                found = correlate(values[chosen], effect[chosen], value_draws[:, chosen],
                                  effect_draws[:, chosen], self.options.level)
                for statistic, three in found.items():
                    for suffix, value in zip(("", "_low", "_high"), three):
                        self.rank[statistic + suffix][row, at, column] = value

    def _dissociate(self, row, at, cells, chosen, band, effect, mass, effect_draws, mass_draws):
        for place, name in enumerate(BANDS):
            some = chosen[(band[chosen] == name) | (name == "all")]
            if len(some) < 2:
                continue
            table, where = self.dissociation, (row, at, place)
            table["probability"][where] = dissociated(mass_draws[:, some], effect_draws[:, some]).mean()
            heaviest, causal = some[np.argmax(mass[some])], some[np.argmax(effect[some])]
            for key, one in (("heaviest", heaviest), ("most_causal", causal)):
                table[key][where] = self.results.names[cells[one]]
                table[f"{key}_mass"][where], table[f"{key}_delta_nll"][where] = mass[one], effect[one]
            self.pairs.append((where, cells[causal], cells[heaviest]))

    def _compare_pairs(self):
        if not self.pairs:
            return
        sums = self.results.sums["delta_nll"]
        differences = np.stack([sums[causal] - sums[heaviest] for _, causal, heaviest in self.pairs], 1)
        found = {}
        with_interval(found, "difference",
                      studentise(self.documents.sum(differences), self.documents.tokens, self.draws),
                      self.options.level, np.asarray)
        for number, (where, _, _) in enumerate(self.pairs):
            for suffix in ("", "_low", "_high"):
                self.dissociation["difference" + suffix][where] = found["difference" + suffix][number]

    def _misses(self):
        """The edges whose first-order estimate is furthest from the exact mask, worst first."""
        if "edge_estimate" not in self.of_cells or "mask/edges" not in self.grids:
            return None
        cells = self.grids["mask/edges"]
        exact = self.results.sums["delta_nll"][cells].sum(1) / self.documents.tokens.sum()
        estimate = self.of_cells["edge_estimate"][cells]
        worst = np.argsort(-np.abs(estimate - exact), kind="stable")[:MOST_MISSES]
        return {
            "miss": [self.results.names[cell] for cell in cells[worst]],
            "delta_nll": exact[worst],
            "edge_estimate": estimate[worst],
            "difference": (estimate - exact)[worst]
        }
