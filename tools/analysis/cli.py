"""The command line: reads results files, analyses each, writes analysis.h5."""
import argparse
import dataclasses
import hashlib
import json
import os
import sys

import numpy as np

from . import adjust
from .across import Across, Untrained, Wrapped, check_distinct
from .associations import Associations
from .bootstrap import Draws
from .cells import MODERATE_SKEWNESS, Options, clean_estimates, judge_cells, why_not_judged
from .contrasts import estimate_contrasts, judge_claims
from .documents import Documents
from .methods import describe_methods
from .output import write_analysis
from .results_file import AnalysisError, read_results

FEWEST_DOCUMENTS = 200
FEWEST_DRAWS = 10000


class FileAnalysis:
    """All tables of one results file."""

    def __init__(self, results, options):
        self.results, self.documents = results, Documents(results)
        draws = Draws(len(self.documents), options.bootstrap, options.seed)
        self.not_judged = why_not_judged(results)
        self.judged = not self.not_judged
        self.warnings = self._warnings(options)
        self.tables = dict.fromkeys(("cell", "contrast", "claim", "rank", "dissociation", "edge_miss"))
        self.tables["clean"] = clean_estimates(results, self.documents, draws, options.level)
        self.grids, self.predictors, self.family_size, self.critical_t = [], {}, 0, np.nan
        if results.names:
            self.tables["cell"], delta = judge_cells(results, self.documents, draws, options)
            skewed = int((np.abs(self.tables["cell"]["skewness"]) > MODERATE_SKEWNESS).sum())
            if skewed:
                self.warnings.append(
                    f"{skewed} of {len(results.names)} cells have a skewness over documents above"
                    f" {MODERATE_SKEWNESS}: their intervals may cover less than they say")
            self.family_size = int(adjust.family_of(delta).sum())
            self.critical_t = adjust.critical(delta, options.level)
            self.tables["contrast"] = estimate_contrasts(results, self.documents, draws, options)
            self.tables["claim"] = judge_claims(results, self.documents, draws, options)
            found = Associations(results, self.documents, draws, options)
            self.grids, self.predictors = list(found.grids), found.of_cells
            self.tables.update(rank=found.rank, dissociation=found.dissociation, edge_miss=found.edge_miss)
            if "mass" not in self.predictors:
                self.predictors["mass"] = results.cell["mass"]

    def _warnings(self, options):
        found = []
        if len(self.documents) < FEWEST_DOCUMENTS:
            found.append(
                f"documents: {len(self.documents)}; intervals keep their promise from {FEWEST_DOCUMENTS} on,"
                " measure more")
        if self.results.attributes["documents_from"] == "none":
            found.append("no separator was configured and the shards know no documents, so every sequence"
                         " counts as a document: if real documents span several sequences, intervals are too"
                         " narrow")
        if self.not_judged:
            found.append(f"no verdicts: {self.not_judged}")
        if options.bootstrap < FEWEST_DRAWS:
            found.append(f"{options.bootstrap} draws of the bootstrap: use at least {FEWEST_DRAWS}")
        return found

    @property
    def mean_weights(self):
        """Mean weights [site, source] over all tokens, or None for a model without routing."""
        weight = self.results.shares.get("weight")
        return None if weight is None else weight.sum(0) / self.results.tokens.sum()


def parse(arguments):
    parser = argparse.ArgumentParser(prog="analyze.py",
                                     description="Statistics over results files of depthroute-eval.")
    parser.add_argument("results", nargs="+", help="results files, one per model, step or wrapper")
    parser.add_argument("-o", "--output", required=True, help="the file to write, as analysis.h5")
    parser.add_argument("--bootstrap", type=int,
                        help="draws (default: the first file's statistics.bootstrap)")
    parser.add_argument("--alpha", type=float, help="level of tests (default: the first file's)")
    parser.add_argument("--margin", type=float,
                        help="margin of equivalence, nats per token (default: the first file's)")
    parser.add_argument("--seed", type=int, help="seed of the draws (default: the first file's)")
    parser.add_argument("--rank-draws", type=int, default=2000, help="draws of rank correlations over edges")
    parser.add_argument("--contrast", nargs=2, action="append", default=[], metavar="CELL",
                        help="a difference of two cells; again for more")
    parser.add_argument("--untrained", help="results of the same cells on untrained weights, a known answer")
    parser.add_argument("--untrained-limit", type=float, default=0.1,
                        help="largest untrained over trained effect that passes")
    return parser.parse_args(arguments)


def make_options(parsed, first):
    """Options from the command line, and what it leaves out from the first file."""
    of_file = {
        "bootstrap": int(first["bootstrap"]),
        "alpha": float(first["alpha"]),
        "margin": float(first["margin"]),
        "seed": int(first["statistics_seed"])
    }
    given = {name: value for name in of_file if (value := getattr(parsed, name)) is not None}
    values = {**of_file, **given}
    options = Options(rank_draws=parsed.rank_draws, contrasts=tuple(tuple(pair) for pair in parsed.contrast),
                      untrained_limit=parsed.untrained_limit, **values)
    rules = {
        "bootstrap": (options.bootstrap >= 100, "at least 100"),
        "alpha": (0 < options.alpha < 0.5, "between 0 and 0.5"),
        "margin": (options.margin > 0, "above 0"),
        "seed": (options.seed >= 0, "0 or more"),
        "rank_draws": (options.rank_draws >= 100, "at least 100"),
        "untrained_limit": (options.untrained_limit > 0, "above 0"),
    }
    for name, (good, rule) in rules.items():
        if not good:
            raise AnalysisError(f"--{name.replace('_', '-')}: must be {rule}, not {getattr(options, name)}")
    return options


def check_output(parsed):
    folder = os.path.dirname(os.path.abspath(parsed.output))
    if not os.path.isdir(folder):
        raise AnalysisError(f"{parsed.output}: the folder {folder} does not exist; create it")
    for path in parsed.results + ([parsed.untrained] if parsed.untrained else []):
        if os.path.exists(parsed.output) and os.path.exists(path) and os.path.samefile(path, parsed.output):
            raise AnalysisError(
                f"{parsed.output}: is one of the inputs; results are never changed, name another file")


def analyse(parsed):
    check_output(parsed)
    results = [read_results(path) for path in parsed.results]
    check_distinct(results)
    options = make_options(parsed, results[0].attributes)
    untrained_results = read_results(parsed.untrained) if parsed.untrained else None
    files = [FileAnalysis(one, options) for one in results]
    tables = [one.tables for one in files]
    across = Across(results, tables, [one.judged for one in files]) if len(files) > 1 else None
    wrapped = Wrapped(results, tables, [one.mean_weights for one in files])
    untrained = None
    if untrained_results:
        plain = dataclasses.replace(options, contrasts=())
        table = judge_cells_of(untrained_results, plain)
        untrained = Untrained(untrained_results, table, results, tables, options.untrained_limit)
    warnings = [f"{one.results.path}: {warning}" for one in files for warning in one.warnings]
    warnings += across.warnings() if across else []
    settings = dataclasses.asdict(options)
    inputs = [one.sha256 for one in results] + ([untrained_results.sha256] if untrained_results else [])
    digest = hashlib.sha256(json.dumps([inputs, settings], sort_keys=True).encode()).hexdigest()[:32]
    attributes = dict(analysis_hash=digest, files=parsed.results, bootstrap=options.bootstrap,
                      alpha=options.alpha, margin=options.margin, level=options.level,
                      statistics_seed=options.seed, rank_draws=options.rank_draws,
                      methods=describe_methods(options, files))
    if warnings:
        attributes["warnings"] = warnings
    refused = [f"{one.results.path}: {one.not_judged}" for one in files if one.not_judged]
    if refused:
        attributes["not_judged"] = refused
    write_analysis(parsed.output, attributes, files, across, wrapped if wrapped.rows else None, untrained)
    return warnings


def judge_cells_of(results, options):
    documents = Documents(results)
    if not results.names:
        return {}
    return judge_cells(results, documents, Draws(len(documents), options.bootstrap, options.seed), options)[0]


def main(arguments=None):
    parsed = parse(arguments)
    try:
        warnings = analyse(parsed)
    except AnalysisError as error:
        print(f"analyze.py: {error}", file=sys.stderr)
        return 2
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(parsed.output)
    return 0
