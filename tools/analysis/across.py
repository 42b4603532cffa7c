"""Many files side by side: seeds, steps, wrapped models, the untrained model. Nothing is pooled: models are
counted."""
import numpy as np

from .cells import VERDICTS
from .results_file import AnalysisError

CLAIM_VERDICTS = ("not_judged", "undecided", "fails", "holds")
SERIES = ("variant", "wrapped", "recency_bias", "num_layers", "sublayers_per_block", "split")
COUNTED = ("effect", "negligible", "inconclusive", "not_judged", "not_run")


def series_of(results):
    """What two files must share to be models of one kind: seeds or steps of each other."""
    bias = results.recency_bias
    values = {**results.attributes, "recency_bias": "" if np.isnan(bias) else bias}
    return tuple(values[name] for name in SERIES)


def check_distinct(files):
    """The same measurement twice would be counted as two models."""
    seen = {}
    for one in files:
        other = seen.setdefault(one.attributes["measurement_hash"], one)
        if other is not one:
            raise AnalysisError(f"{one.path}: is the same measurement as {other.path}; name each once")


def union(lists):
    return list(dict.fromkeys(name for names in lists for name in names))


class Across:
    """The tables of /across. files: Results; tables: {"cell", "claim"} of each, as cells.py and contrasts.py
    make them; judged: whether each file has verdicts."""

    def __init__(self, files, tables, judged):
        self.files, self.tables, self.judged = files, tables, np.array(judged)
        keys = [series_of(one) for one in files]
        self.series_keys = union([keys])
        self.series = np.array([self.series_keys.index(key) for key in keys])
        steps = [int(one.attributes["checkpoint_step"]) for one in files]
        self.settings = sorted(set(zip(self.series.tolist(), steps)))
        self.setting = np.array([self.settings.index(pair) for pair in zip(self.series.tolist(), steps)])
        self.steps = np.array(steps)
        self.cells = union(one.names for one in files)
        self.claims = union([claim["name"] for claim in one.claims] for one in files)
        self.counted = np.ones(len(files), bool)
        seen = set()
        for row, one in enumerate(files):
            model = (int(self.setting[row]), one.attributes["checkpoint_checksum"])
            self.counted[row] = model not in seen
            seen.add(model)

    def warnings(self):
        """Second files of a model are measured but not counted."""
        words = "an earlier file is of the same model, step and split; this one is not counted"
        return [f"{self.files[row].path}: {words}" for row in np.flatnonzero(~self.counted)]

    def by_cell(self, variable, missing=np.nan):
        """[file, cell] of a variable of the table `cell`; `mass` comes from the results."""
        result = np.full((len(self.files), len(self.cells)), missing)
        for row, (one, table) in enumerate(zip(self.files, self.tables)):
            if one.names:
                values = one.cell["mass"] if variable == "mass" else table["cell"][variable]
                if variable == "verdict":
                    values = [VERDICTS.index(verdict) for verdict in values]
                result[row, [self.cells.index(name) for name in one.names]] = values
        return result

    def claim_verdicts(self):
        result = np.full((len(self.files), len(self.claims)), -1, np.int64)
        for row, table in enumerate(self.tables):
            if table["claim"]:
                columns = [self.claims.index(name) for name in table["claim"]["claim"]]
                result[row,
                       columns] = [CLAIM_VERDICTS.index(verdict) for verdict in table["claim"]["verdict"]]
        return result

    def count(self, hits):
        """hits [file, column] to how many counted files of each setting, [setting, column]."""
        member = (self.setting == np.arange(len(self.settings))[:, None]) & self.counted
        return member.astype(np.int64) @ hits.astype(np.int64)

    def cell_counts(self):
        """k of n models for every setting and cell."""
        verdict, delta = self.by_cell("verdict", -1), self.by_cell("delta_nll")
        counts = {name: self.count(verdict == VERDICTS.index(name)) for name in COUNTED}
        counts["positive"], counts["negative"] = self.count(delta > 0), self.count(delta < 0)
        counts["agree"] = np.maximum(counts["positive"], counts["negative"])
        return counts

    def claim_counts(self):
        verdict = self.claim_verdicts()
        return {
            name: self.count(verdict == CLAIM_VERDICTS.index(name))
            for name in ("holds", "fails", "undecided")
        }

    def models(self):
        return self.count(np.ones((len(self.files), 1)))[:, 0]


class Wrapped:
    """Wrapped models of one shape side by side: measured weights against the formula's, and effects, by
    recency bias."""

    def __init__(self, files, tables, means):
        """means: for each file the mean weights [site, source] over its tokens, or None."""
        rows = [
            row for row, one in enumerate(files) if one.attributes["wrapped"] and means[row] is not None
            and one.site["schedule_weight"] is not None
        ]
        rows = [row for row in rows if means[row].shape == means[rows[0]].shape]
        self.rows = sorted(rows, key=lambda row: (np.nan_to_num(files[row].recency_bias, nan=np.inf), row))
        if not self.rows:
            return
        chosen = [files[row] for row in self.rows]
        self.bias = np.array([one.recency_bias for one in chosen])
        self.schedule = np.stack([one.site["schedule_weight"] for one in chosen])
        self.weight = np.where(np.isfinite(self.schedule), np.stack([means[row] for row in self.rows]),
                               np.nan)
        self.deviation = np.nanmax(np.abs(self.weight - self.schedule), axis=(1, 2))
        self.cells = union(one.names for one in chosen)
        shape = (len(chosen), len(self.cells))
        self.mass, self.schedule_mass, self.delta_nll = (np.full(shape, np.nan) for _ in range(3))
        for place, (row, one) in enumerate(zip(self.rows, chosen)):
            if not one.names:
                continue
            columns = [self.cells.index(name) for name in one.names]
            ablated = one.flags == 1
            formula = np.tensordot(ablated, np.nan_to_num(self.schedule[place]), 2) / np.maximum(
                ablated.any(2).sum(1), 1)
            self.mass[place, columns] = one.cell["mass"]
            self.schedule_mass[place, columns] = np.where(np.isfinite(one.cell["mass"]), formula, np.nan)
            self.delta_nll[place, columns] = tables[row]["cell"]["delta_nll"]


class Untrained:
    """The largest effect of a model that has learnt nothing, beside the trained files' at the same cells."""

    def __init__(self, untrained, table, files, tables, limit):
        if not untrained.names or not untrained.measured.any():
            raise AnalysisError(
                f"--untrained: {untrained.path} has no measured cells; measure the same grids at step 0")
        size = np.abs(table["delta_nll"])
        place = int(np.nanargmax(size))
        self.path, self.cell, self.largest, self.limit = untrained.path, untrained.names[place], size[
            place], limit
        rows = [self._compare(untrained, size, one, of_one["cell"]) for one, of_one in zip(files, tables)]
        self.trained, self.ratio = (np.array(column) for column in zip(*rows))
        self.passed = self.ratio <= limit

    @staticmethod
    def _compare(untrained, size, one, table):
        both = [(untrained.index(name), row) for row, name in enumerate(one.names)
                if untrained.index(name) is not None]
        if not both:
            return np.nan, np.nan
        before, after = (np.array(column) for column in zip(*both))
        sizes = size[before], np.abs(table["delta_nll"][after])
        known = np.isfinite(sizes[0]) & np.isfinite(sizes[1])
        if not known.any():
            return np.nan, np.nan
        trained = sizes[1][known].max()
        return trained, sizes[0][known].max() / trained if trained > 0 else np.inf
