"""The groups of a synthetic results file that are about cells, each written from a synthetic.Numbers."""
import numpy as np

import synthetic_numbers as numbers
from synthetic_groups import COORDINATES, INTERVAL, NATS, SUM, coefficients, intervals, missing_beyond, start
from synthetic_plan import BANDS, FAMILIES, SUBLAYERS


def cell(root, file):
    cells, plan = file.cells, file.plan
    group = start(root, file, "cell", "cell", "segment")
    for name in ("family", "sublayer", "band", "intervention", "site", "tokens", "union"):
        group.variable(name, [getattr(cell, name) for cell in cells], ["cell"], f"{name} of the cell")
    group.variable("status", ["measured" if cell.measured else "not_run" for cell in cells], ["cell"],
                   "status")
    for name, value in (("replace", "both"), ("average", "all"), ("same_as", "")):
        group.variable(name, [value if cell.intervention in ("mean", "resample") else "" for cell in cells],
                       ["cell"], name)
    group.variable("hash", [f"{index:032x}" for index in range(len(cells))], ["cell"], "hash")
    write = lambda name, values, units="1": group.variable(name, values, ["cell"], name, units, coordinates=
                                                           COORDINATES)
    for name, of in (("source", lambda c: c.source), ("sites_ablated", lambda c: len(c.ablated)),
                     ("sites_skipped", lambda c: c.skipped), ("sites_absent", lambda c: c.absent),
                     ("sites_duplicate", lambda c: c.duplicate), ("first_site", lambda c: c.ablated[0]
                                                                  if c.ablated else plan.sites)):
        write(name, np.array([of(c) for c in cells], np.int64))
    write("status_code", np.array([c.measured for c in cells], np.uint8))
    write("distinct", np.array([c.distinct for c in cells], np.uint8))
    total, mean_nll = file.tokens.sum(), file.nll_by_segment.sum() / file.tokens.sum()
    ablated_nll = mean_nll + file.sums_by["delta_nll"].sum(1) / total
    write("out_of_distribution", np.nan_to_num(ablated_nll > file.unigram_entropy).astype(np.uint8))
    write("value", np.array([c.value for c in cells]))
    write("cost", np.array([1 - c.ablated[0] / plan.sites if c.ablated else np.nan for c in cells]))
    write("mass", cell_mass(file))
    write("eps_sensitivity", np.full(len(cells), np.nan), NATS)
    write("largest_change", np.abs(file.sums_by["delta_nll"]).max(1), "nats")
    for name, sums, units in (("delta_nll", file.sums_by["delta_nll"],
                               NATS), ("kl", file.sums_by["kl"], NATS), ("abs_delta_nll",
                                                                         file.sums_by["abs_delta_nll"], NATS),
                              ("flip_rate", file.sums_by["flips"], "1"), ("hit_change",
                                                                          file.sums_by["hit_change"], "1")):
        intervals(group, ["cell"], name, sums, file.segment, units)
    donors = np.array([0.1 if c.intervention == "resample" else np.nan for c in cells])
    write("delta_nll_donor_std", donors * np.abs(file.sums_by["delta_nll"].sum(1) / total), NATS)
    for name, sums in file.sums_by.items():
        units = "1" if name in ("flips", "hit_change") else SUM
        group.variable(f"{name}_by_segment", sums, ["cell", "segment"], f"sum of {name} over the segment",
                       units, coordinates=COORDINATES)


def cell_routing(root, file):
    """Mean weights and coefficients under each cell; a group of its own because `site` and `source` are
    variables of /cell."""
    group = start(root, file, "cell_routing", "cell", "site", "source", "output")
    mean = file.weight.sum(0) / file.tokens.sum()
    under = np.repeat(mean[None], len(file.cells), 0)
    for c, cell in enumerate(file.cells):
        if cell.intervention == "mask":
            under[c][np.array(cell.flags) == 1] = 0
    under /= under.sum(2, keepdims=True)
    present = np.stack([missing_beyond(file.plan, weight) for weight in under])
    group.variable("weight_mean", present, ["cell", "site", "source"], "mean weight under the cell")
    group.variable("coefficient", [coefficients(file.plan, weight) for weight in under],
                   ["cell", "site", "output"], "coefficient under the cell")


def token_effect(root, file):
    """delta_nll of every token of the first cell that ran: its sum over a segment spread evenly."""
    first = next(index for index, cell in enumerate(file.cells) if cell.measured)
    group = start(root, file, "token_effect", "sequence", "token")
    group.axis("token_cell", [file.cells[first].name], "name of the cell")
    effect = np.full((1, *file.nll.shape), np.nan, np.float32)
    segment = file.segment
    for sequence, start_at, tokens, total in zip(segment["sequence"], segment["first_token"],
                                                 segment["tokens"], file.sums_by["delta_nll"][first]):
        effect[0, sequence, start_at:start_at + tokens] = total / tokens
    group.variable("delta_nll", effect, ["token_cell", "sequence", "token"], "change of the token's NLL",
                   NATS)


def cell_mass(file):
    mean = file.weight.sum(0) / file.tokens.sum()
    return np.array([
        np.sum(mean * (np.array(cell.flags) == 1)) / len(cell.ablated) if cell.measured else np.nan
        for cell in file.cells
    ])


def grid(root, file):
    """The cells of family grids as a block [intervention, family, sublayer, band]."""
    names = {cell.name: index for index, cell in enumerate(file.cells)}
    if not file.grids:
        return
    group = start(root, file, "grid", "family", "band")
    group.axis("intervention", list(file.grids), "intervention")
    group.axis("sublayer", SUBLAYERS, "kind of sublayer")
    index = np.array([[[[names.get(f"{i}/{f}/{s}/{b}", -1) for b in BANDS] for s in SUBLAYERS]
                       for f in FAMILIES] for i in file.grids])
    four = ["intervention", "family", "sublayer", "band"]
    group.variable("cell_index", index, four, "index of the cell")
    pick = lambda values: np.where(index >= 0, values[index], np.nan)
    for name, of, units in (("delta_nll", "delta_nll", NATS), ("kl", "kl", NATS),
                            ("abs_delta_nll", "abs_delta_nll", NATS), ("flip_rate", "flips", "1")):
        for suffix, values in zip(("", "_low", "_high"),
                                  numbers.ratio_interval(file.sums_by[of], file.segment)):
            group.variable(name + suffix, pick(values), four, name + suffix, units, **INTERVAL)
    group.variable("mass", pick(cell_mass(file)), four, "mass")


def plan(root, file):
    group = start(root, file, "plan", "cell", "site", "source")
    flags = np.array([cell.flags for cell in file.cells], np.uint8)
    group.variable("sources", flags, ["cell", "site", "source"], "what the cell does to the source",
                   flag_values=np.array([0, 1, 2],
                                        np.uint8), flag_meanings="not_aimed_at ablated site_skipped")
