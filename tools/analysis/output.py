"""Writes analysis.h5 from the tables of every file; README.md has the layout."""
import numpy as np

from .across import CLAIM_VERDICTS
from .associations import BANDS, PREDICTORS, SUBLAYERS
from .cells import VERDICTS
from .layout import describe
from .writer import NewFile

COPIED = ("measurement_hash", "claims_hash", "checkpoint", "checkpoint_checksum", "checkpoint_step",
          "variant", "num_layers", "sublayers_per_block", "wrapped", "seed", "split", "device", "precision",
          "sequences", "tokens_evaluated", "unigram_entropy")
CELL_TEXTS = ("family", "sublayer", "band", "intervention", "site", "status")
CELL_NUMBERS = ("source", "sites_ablated", "sites_duplicate", "distinct")
COORDINATES = "family sublayer band intervention site source"


def put(group, name, values, axes, described=None, **attributes):
    units, long_name = describe(described or name)
    group.variable(name, values, axes, long_name, units, **attributes)


def file_name(number):
    return f"file_{number:04d}"


def write_analysis(path, attributes, files, across, wrapped, untrained):
    """files: one FileAnalysis (cli.py) each; across, wrapped, untrained: the classes of across.py or None."""
    with NewFile(path) as root:
        root.attributes(title="Statistics of causal routing ablations", schema_version=1, **attributes)
        for number, one in enumerate(files):
            write_file(root.child(file_name(number)), one)
        if across:
            write_across(root.child("across"), across)
        if wrapped:
            write_wrapped(root.child("wrapped"), wrapped)
        if untrained:
            write_untrained(root.child("untrained"), untrained)


def write_file(group, one):
    results = one.results
    group.attributes(path=results.path, sha256=results.sha256, wrap_recency_bias=results.recency_bias,
                     documents=len(one.documents), segments=len(results.tokens),
                     judged=int(not one.not_judged), not_judged_because=one.not_judged,
                     family_size=one.family_size, critical_t=one.critical_t,
                     **{name: results.attributes[name]
                        for name in COPIED})
    if one.warnings:
        group.attributes(warnings=one.warnings)
    clean = group.child("clean")
    for name, value in one.tables["clean"].items():
        put(clean, name, value, ())
    if one.tables["cell"]:
        write_cells(group.child("cell"), results, one)
    for name in ("contrast", "claim", "edge_miss"):
        table = one.tables[name]
        if table:
            axis = "miss" if name == "edge_miss" else name
            write_table(group.child(name), axis, table)
    if one.tables["rank"]:
        write_grids(group.child("rank"), one.grids, one.tables["rank"], "predictor", PREDICTORS)
        write_grids(group.child("dissociation"), one.grids, one.tables["dissociation"], "band", BANDS)


def write_table(group, axis, table):
    """Every entry of `table` over one axis, whose names are the entry called as the axis."""
    group.axis(axis, table[axis], axis)
    for name, values in table.items():
        if name != axis:
            put(group, name, flags(values), [axis])


def flags(values):
    """Small integers as they are, booleans as uint8 (writer.py), strings as lists."""
    return np.asarray(values)


def write_cells(group, results, one):
    group.axis("cell", results.names, "cell")
    for name in CELL_TEXTS:
        put(group, name, results.cell[name], ["cell"])
    for name in CELL_NUMBERS:
        put(group, name, results.cell[name], ["cell"], coordinates=COORDINATES)
    for name, values in one.tables["cell"].items():
        put(group, name, values, ["cell"], coordinates=COORDINATES)
    for name, values in one.predictors.items():
        put(group, name, values, ["cell"], coordinates=COORDINATES)


def write_grids(group, grids, table, last, names):
    group.axis("grid", grids, "grid of cells")
    group.axis("sublayer", list(SUBLAYERS), "kind of sublayer")
    group.axis(last, list(names), last)
    for name, values in table.items():
        put(group, name, values, ["grid", "sublayer", last][:np.ndim(values)])


def write_across(group, across):
    group.axis("file", [file_name(number) for number in range(len(across.files))], "group of the file")
    group.axis("setting", np.arange(len(across.settings)), "files that differ in the model alone")
    rows = {
        "path": [one.path for one in across.files],
        "model": [one.attributes["checkpoint_checksum"] for one in across.files],
        "checkpoint_step": across.steps,
        "setting": across.setting,
        "series": across.series,
        "counted": across.counted,
        "judged": across.judged
    }
    for name, values in rows.items():
        # A variable called as a dimension would have to be its scale.
        put(group, "setting_of" if name == "setting" else name, values, ["file"], name)
    keys = [across.series_keys[series] for series, _ in across.settings]
    columns = dict(
        zip(("variant", "wrapped", "wrap_recency_bias", "num_layers", "sublayers_per_block", "split"),
            zip(*keys)))
    columns["wrap_recency_bias"] = [np.nan if bias == "" else bias for bias in columns["wrap_recency_bias"]]
    columns.update(setting_step=[step for _, step in across.settings],
                   setting_series=[series for series, _ in across.settings], models=across.models())
    for name, values in columns.items():
        put(group, name, np.asarray(values), ["setting"])
    if across.cells:
        group.axis("cell", across.cells, "cell")
        for name in ("delta_nll", "delta_nll_low", "delta_nll_high", "kl", "mass"):
            put(group, name, across.by_cell(name), ["file", "cell"])
        put(group, "verdict", across.by_cell("verdict", -1), ["file", "cell"], "claim_verdict",
            flag_values=np.arange(-1, len(VERDICTS)), flag_meanings=" ".join(("no_such_cell", *VERDICTS)))
        for name, values in across.cell_counts().items():
            put(group, name, values, ["setting", "cell"], "negative_models" if name == "negative" else name)
    if across.claims:
        group.axis("claim", across.claims, "claim")
        put(group, "claim_verdict", across.claim_verdicts(), ["file", "claim"],
            flag_values=np.arange(-1, len(CLAIM_VERDICTS)), flag_meanings=" ".join(
                ("no_such_claim", *CLAIM_VERDICTS)))
        for name, values in across.claim_counts().items():
            put(group, name, values, ["setting", "claim"])


def write_wrapped(group, wrapped):
    group.axis("file", [file_name(row) for row in wrapped.rows], "group of the file")
    put(group, "recency_bias", wrapped.bias, ["file"])
    put(group, "largest_deviation", wrapped.deviation, ["file"])
    group.axis("site", np.arange(wrapped.weight.shape[1]), "site")
    group.axis("source", np.arange(wrapped.weight.shape[2]), "position of the source at its site")
    put(group, "weight", wrapped.weight, ["file", "site", "source"])
    put(group, "schedule_weight", wrapped.schedule, ["file", "site", "source"])
    if wrapped.cells:
        group.axis("cell", wrapped.cells, "cell")
        for name in ("mass", "schedule_mass", "delta_nll"):
            put(group, name, getattr(wrapped, name), ["file", "cell"])


def write_untrained(group, untrained):
    group.attributes(path=untrained.path, largest=untrained.largest, cell=untrained.cell,
                     limit=untrained.limit)
    group.axis("file", [file_name(number) for number in range(len(untrained.ratio))], "group of the file")
    for name, values in (("largest_trained", untrained.trained), ("ratio", untrained.ratio),
                         ("passed", untrained.passed)):
        put(group, name, values, ["file"])
