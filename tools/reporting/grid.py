"""Reads the dense block of family cells, /grid, in the order every figure shows it."""
import numpy as np

BANDS = ("early", "mid", "late")
SUBLAYERS = ("attn", "mlp", "final")
FAMILIES = ("embedding", "older", "recent", "current")


def ordered(found, known):
    """The names of `found` once each: those of `known` in its order, then others in their own."""
    return [name for name in known if name in found] + [
        name for name in dict.fromkeys(found) if name not in known
    ]


class Grid:
    """The cells of one intervention: arrays [row, family], a row being a (sublayer, band)."""

    def __init__(self, results, intervention):
        self.intervention = intervention
        self.families = ordered(results.names("family"), FAMILIES)
        sublayers, bands = ordered(results.names("sublayer"), SUBLAYERS), ordered(
            results.names("band"), BANDS
        )
        take = [results.names("family").index(name) for name in self.families]
        of_kind = results.names("intervention").index(intervention)
        index = np.asarray(results["grid/cell_index"])
        self.rows, lines = [], []
        for sublayer in sublayers:
            for band in bands:
                line = index[
                    of_kind,
                    take,
                    results.names("sublayer").index(sublayer),
                    results.names("band").index(band),
                ]
                if (line >= 0).any():
                    self.rows.append((sublayer, band))
                    lines.append(line)
        self.cells = np.array(lines, dtype=int).reshape(len(lines), len(self.families))  # -1: no such cell

    def take(self, values, missing=np.nan):
        """`values` by cell as [row, family]."""
        values = np.asarray(values)
        return np.where(self.cells >= 0, values[np.maximum(self.cells, 0)], missing)

    def row_names(self):
        return [f"{sublayer} {band}" for sublayer, band in self.rows]

    def apart_rows(self):
        return [i for i in range(1, len(self.rows)) if self.rows[i][0] != self.rows[i - 1][0]]

    def apart_columns(self):
        return [i for i, name in enumerate(self.families) if name == "current" and i > 0]


def interventions(results):
    """Interventions with family cells in /grid, `mask` first."""
    if "grid/cell_index" not in results:
        return []
    index = np.asarray(results["grid/cell_index"])
    found = [name for i, name in enumerate(results.names("intervention")) if (index[i] >= 0).any()]
    return ordered(found, ("mask",))
