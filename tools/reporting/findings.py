"""What the figures say about every cell of one results file: effect, interval, verdict. From the analysis where there is one."""
import numpy as np


class Findings:
    """Arrays by cell. `verdicts` are empty strings where nothing may be judged."""

    def __init__(self, results):
        count = len(results.cells)
        self.effect = results.cell_values("delta_nll")
        self.low, self.high = results.cell_values("delta_nll_low"), results.cell_values("delta_nll_high")
        self.verdicts = [""] * count
        self.significant = (self.low > 0) | (self.high < 0)
        self.paths = ["/cell/delta_nll_low", "/cell/delta_nll_high"]


class Subject:
    """One results file of the report, with its findings; `analysis` is None where nothing may be judged."""

    def __init__(self, results, analysis=None):
        self.results, self.analysis = results, analysis
        self.findings = Findings(results)
