"""What the figures say about every cell of one results file: effect, interval, verdict. From the analysis
where there is one."""
import hashlib
from dataclasses import dataclass

import numpy as np

from .results import File, InputError

EFFECT = "effect"


class Analysis(File):
    """The file that tools/analyze.py writes (tools/analysis/README.md)."""

    def __init__(self, path):
        super().__init__(path)
        if "file_0000" not in self.groups or "analysis_hash" not in self.attributes:
            raise InputError(f"{path}: not an analysis file; make it with tools/analyze.py")

    def group_of(self, results):
        """The name of the group that holds a results file, found by the file's checksum; none if it was not
        analysed."""
        with open(results.path, "rb") as file:
            checksum = hashlib.sha256(file.read()).hexdigest()
        for name in sorted(self.groups):
            if "/" not in name and self.groups[name].get("sha256") == checksum:
                return name
        return None


@dataclass
class Claim:
    name: str
    contrast: str
    measure: str
    margin: float
    estimate: float
    low: float
    high: float
    verdict: str
    reason: str
    runs: str


class Findings:
    """Arrays by cell. `verdicts` are empty strings where nothing may be judged, as after a failed known
    answer."""

    def __init__(self, results, may_judge=True):
        self.results = results
        self.effect = results.cell_values("delta_nll")
        self.low, self.high = results.cell_values("delta_nll_low"), results.cell_values("delta_nll_high")
        self.verdicts = [""] * len(results.cells)
        self.beyond = results.cell_values("out_of_distribution") == 1
        self.significant = (self.low > 0) | (self.high < 0)
        self.paths = ["/cell/delta_nll_low", "/cell/delta_nll_high"]
        self.analysis, self.group, self.may_judge = None, None, may_judge
        self.claims, self.claim_paths, self.warnings, self.because = [], [], [], ""

    def use(self, analysis):
        """Takes intervals and, unless a known answer failed, verdicts and claims from the analysis."""
        self.analysis, self.group = analysis, analysis.group_of(self.results)
        if self.group is None:
            raise InputError(
                f"{analysis.path}: does not hold {self.results.path} as it is now; run tools/analyze.py again"
            )
        attributes = analysis.groups[self.group]
        self.because = str(attributes.get("not_judged_because", ""))
        self.warnings = self._warnings(attributes)
        if f"{self.group}/cell/delta_nll" not in analysis:
            return
        self.effect, self.low, self.high = (
            self.column(name) for name in ("delta_nll", "delta_nll_low", "delta_nll_high")
        )
        self.significant = (self.low > 0) | (self.high < 0)
        self.paths = [
            f"{self.group}/cell/{name} of the analysis"
            for name in ("delta_nll_low", "delta_nll_high", "verdict")
        ]
        if self.may_judge:
            self.verdicts = [str(word) for word in self.column("verdict", "")]
            if int(attributes.get("judged", 1)):
                self.significant = np.array([word == EFFECT for word in self.verdicts])
            self.claims = self._claims()

    def _warnings(self, attributes):
        """The file's own, and those about all files together; not what the box after a failed known answer
        says already."""
        own = [str(text) for text in np.atleast_1d(attributes.get("warnings", []))]
        files = [str(path) for path in np.atleast_1d(self.analysis.attribute("files", []))]
        of_all = [str(text) for text in np.atleast_1d(self.analysis.attribute("warnings", []))]
        of_all = [text for text in of_all if not any(text.startswith(f"{path}:") for path in files)]
        return [text for text in own + of_all if self.may_judge or text != f"no verdicts: {self.because}"]

    def remarks(self, cell):
        """What qualifies a cell's verdict, in a few words."""
        flags = (
            ("small", "inside the margin"),
            ("cancelling", "gains and losses cancel"),
            ("few_documents", "few documents"),
        )
        words = [word for name, word in flags if self.may_judge and self.column(name)[cell] == 1]
        return ", ".join(words + (["out of distribution"] if self.beyond[cell] else []))

    def column(self, name, missing=np.nan):
        """A variable of the analysis by cell, in the order of the results file."""
        values = self.analysis.get(f"{self.group}/cell/{name}") if self.analysis else None
        if values is None:
            return np.full(len(self.results.cells), missing, dtype=object if missing == "" else float)
        place = {str(cell): i for i, cell in enumerate(self.analysis[f"{self.group}/cell/cell"])}
        return np.array(
            [values[place[cell]] if cell in place else missing for cell in self.results.cells],
            dtype=object if missing == "" else float,
        )

    def _claims(self):
        base = f"{self.group}/claim"
        if f"{base}/verdict" not in self.analysis:
            return []
        self.claim_paths = [f"{base} of the analysis", "/claim"]
        get = lambda name, i, missing: self.analysis.get(f"{base}/{name}", [missing] * (i + 1))[i]
        claims = []
        for i, name in enumerate(self.analysis[f"{base}/claim"]):
            exceeds, sign = str(get("exceeds", i, "")), "−" if int(get("negative", i, 0)) else ""
            contrast = (
                f"{sign}({get('cell', i, '')} − {exceeds})"
                if exceeds and sign
                else (f"{sign}{get('cell', i, '')}" + (f" − {exceeds}" if exceeds else ""))
            )
            claims.append(
                Claim(
                    str(name),
                    f"{contrast} > {float(get('margin', i, 0.0)):g}",
                    str(get("measure", i, "")),
                    *(
                        float(get(key, i, np.nan))
                        for key in ("margin", "difference", "difference_low", "difference_high")
                    ),
                    str(get("verdict", i, "")),
                    str(get("reason", i, "")),
                    self._runs(str(name)),
                )
            )
        return claims

    def _setting(self):
        """The row of /across that counts this file; none with one file."""
        names, settings = self.analysis.groups, self.analysis.get("across/setting_of")
        if settings is None:
            return None
        files = sorted(name for name in names if name.startswith("file_") and "/" not in name)
        setting = int(settings[files.index(self.group)])
        return setting if setting >= 0 else None

    def _runs(self, claim):
        """ "2 of 3": in how many models the claim holds."""
        setting, holds = self._setting(), self.analysis.get("across/holds")
        names = [str(name) for name in self.analysis.get("across/claim", [])]
        if setting is None or holds is None or claim not in names:
            return ""
        return f"{int(holds[setting, names.index(claim)])} of {int(self.analysis['across/models'][setting])}"

    def rank(self, grid, sublayer, predictor="mass"):
        """Spearman of a predictor with the effect: (estimate, low, high); None where there is none."""
        return self._table(
            "rank",
            grid,
            sublayer,
            last=("predictor", predictor),
            names=("spearman", "spearman_low", "spearman_high"),
        )

    def predictors(self):
        """What the analysis correlates with effects, mass first; none without an analysis."""
        found = self.analysis.get(f"{self.group}/rank/predictor", []) if self.analysis else []
        return [str(name) for name in found]

    def dissociation(self, grid, sublayer, band="all"):
        """The share of draws in which the heaviest source is not the most causal one, as a tuple of one; None
        where there is none."""
        return self._table("dissociation", grid, sublayer, last=("band", band), names=("probability",))

    def _table(self, table, grid, sublayer, last, names):
        base = f"{self.group}/{table}"
        if self.analysis is None or f"{base}/{names[0]}" not in self.analysis:
            return None
        place = []
        for axis, value in (("grid", grid), ("sublayer", sublayer), last):
            labels = [str(name) for name in self.analysis[f"{base}/{axis}"]]
            if value not in labels:
                return None
            place.append(labels.index(value))
        found = tuple(float(self.analysis[f"{base}/{name}"][tuple(place)]) for name in names)
        return found if np.isfinite(found[0]) else None


class Subject:
    """One results file of the report, with its findings; `judged` is false after a failed known answer."""

    def __init__(self, results, analysis=None):
        self.results, self.analysis = results, analysis
        self.judged = not (results.failed_answers() or results.parameters_changed())
        self.findings = Findings(results, self.judged)
        if analysis is not None:
            self.findings.use(analysis)
