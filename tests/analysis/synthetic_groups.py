"""The groups of a synthetic results file, each written from a synthetic.Numbers."""
import numpy as np

import synthetic_numbers as numbers
from synthetic_plan import BANDS, FAMILIES, SUBLAYERS

NATS, SUM = "nats/token", "nats"
COORDINATES = "family sublayer band intervention site source"
INTERVAL = {"level": 0.95, "method": "percentile cluster bootstrap over documents"}


def axes(file):
    """The values of every axis, and what they are."""
    plan, segment = file.plan, file.segment
    return {"site": (plan.names, "name of the site"), "source": (np.arange(plan.widest), "position of the source at its site"),
            "output": (plan.outputs, "sublayer output"), "sequence": (np.arange(segment["sequence"].max() + 1), "sequence"),
            "token": (np.arange(file.seq_len), "position in the sequence"), "segment": (np.arange(len(file.tokens)), "segment"),
            "cell": ([cell.name for cell in file.cells], "name of the cell"), "family": (FAMILIES, "source family"),
            "sublayer": (SUBLAYERS + ["final"] * ("final" in plan.sublayer), "kind of sublayer"), "band": (BANDS, "depth band")}


def start(root, file, name, *scales):
    """Makes the group `name` with these axes."""
    group = root.child(name)
    for scale in scales:
        group.axis(scale, *axes(file)[scale])
    return group


def by_source(plan, value, missing):
    return [[value(s, j) if j < len(plan.states[s]) else missing for j in range(plan.widest)] for s in range(plan.sites)]


def missing_beyond(plan, array):
    """NaN where a site has fewer sources."""
    present = np.array(by_source(plan, lambda s, j: True, False))
    return np.where(present, array, np.nan)


def site(root, file):
    plan = file.plan
    group = start(root, file, "site", "site", "source")
    for name, values in (("layer", plan.layer), ("block", plan.block), ("n_sources", [len(x) for x in plan.states])):
        group.variable(name, np.array(values), ["site"], f"{name} of the site")
    for name, values in (("sublayer", plan.sublayer), ("band", plan.band)):
        group.variable(name, values, ["site"], f"{name} of the site")
    group.variable("restart", np.array(plan.restart, np.uint8), ["site"], "whether the output starts a new state")
    both = ["site", "source"]
    group.variable("state", by_source(plan, lambda s, j: plan.states[s][j], -1), both, "state read")
    group.variable("duplicate_of", by_source(plan, plan.duplicate_of, -1), both, "first source that is the same state")
    group.variable("family", by_source(plan, plan.family, ""), both, "family of the source")
    formula = np.full((plan.sites, plan.widest), np.nan)
    if file.wrapped is not None:
        for s, states in enumerate(plan.states):
            a = np.array([1.0] * (len(states) - 1) + [np.exp(file.wrapped)])
            formula[s, :len(states)] = a / a.sum()
    group.variable("schedule_weight", formula, both, "weight by the recency schedule's formula")


def routing(root, file):
    if file.variant == "additive":
        return
    plan, total = file.plan, file.tokens.sum()
    group = start(root, file, "routing", "site", "source", "output", "segment", "family", "sublayer", "band")
    mean = file.weight.sum(0) / total
    both = ["site", "source"]
    group.variable("mean", missing_beyond(plan, mean), both, "mean weight")
    spread = file.weight / file.tokens[:, None, None] - mean
    group.variable("std", missing_beyond(plan, spread.std(0)), both, "standard deviation of the weight over tokens")
    entropy = -np.sum(mean * np.log(np.where(mean > 0, mean, 1)), 1)
    group.variable("entropy", entropy, ["site"], "entropy of the weights", "nats")
    shares = {"norm_share": 0.9 * file.weight + 0.1 * file.weight[:, :, ::-1], "projection_share": 1.1 * file.weight - 0.02,
              "cosine": 0.3 + 0.1 * np.arange(plan.widest) * file.tokens[:, None, None] * np.ones((plan.sites, 1))}
    for name, sums in shares.items():
        group.variable(name, missing_beyond(plan, sums.sum(0) / total), both, name.replace("_", " "))
    group.variable("coefficient", coefficients(plan, mean), ["site", "output"], "coefficient of the output in what the site reads")
    mass = [[[family_mass(plan, mean, family, sublayer, band) for band in BANDS]
             for sublayer in SUBLAYERS + ["final"] * ("final" in plan.sublayer)] for family in FAMILIES]
    group.variable("family_mass", mass, ["family", "sublayer", "band"], "mean weight of the family over all sites")
    three = ["segment", "site", "source"]
    for name, sums in {"weight": file.weight, **shares}.items():
        group.variable(f"{name}_by_segment", missing_beyond(plan, sums), three, f"sum of {name} over tokens")
    if file.estimates:
        # Saturated: large effects are underestimated.
        sums = np.tanh(2 * file.edge_effects) / 3 * file.tokens[:, None, None]
        group.variable("edge_estimate_by_segment", missing_beyond(plan, sums), three, "first-order estimate of mask", SUM)


def coefficients(plan, mean):
    """The sum of the weights of the sources whose state contains the output, [site, output]; NaN for later outputs."""
    return [[sum(mean[s, j] for j, state in enumerate(states) if plan.contains(state, output))
             if output <= min(s, 2 * plan.layers) else np.nan for output in range(len(plan.outputs))]
            for s, states in enumerate(plan.states)]


def family_mass(plan, mean, family, sublayer, band):
    sites = [s for s in range(plan.sites) if plan.sublayer[s] == sublayer and plan.band[s] == band]
    total = sum(mean[s, j] for s in sites for j in range(len(plan.states[s])) if plan.family(s, j) == family)
    return total / len(sites) if sites else np.nan


def sequences(root, file):
    count = file.segment["sequence"].max() + 1
    group = start(root, file, "sequence", "sequence")
    group.variable("tokens", np.bincount(file.segment["sequence"], file.tokens, count).astype(int), ["sequence"], "targets that count")
    group.variable("first_token", np.arange(count) * file.seq_len, ["sequence"], "stream position of the first token")
    group = start(root, file, "segment", "segment")
    for name in ("document", "sequence", "first_token", "tokens"):
        group.variable(name, np.asarray(file.segment[name], np.int64), ["segment"], name.replace("_", " "))
    group.variable("split", [file.split] * len(file.tokens), ["segment"], "split")


def intervals(group, axes_of, name, sums, segment, units):
    for suffix, values in zip(("", "_low", "_high", "_se"), numbers.ratio_interval(sums, segment)):
        values = values if axes_of else values[0]
        more = {**INTERVAL, **({"coordinates": COORDINATES} if axes_of == ["cell"] else {})}
        group.variable(name + suffix, values, axes_of, name + suffix, units, **more)


def clean(root, file):
    group = start(root, file, "clean", "sequence", "token", "segment")
    group.variable("nll", file.nll, ["sequence", "token"], "clean NLL", NATS)
    group.variable("hit", file.hit, ["sequence", "token"], "top-1 hit", _FillValue=np.uint8(255))
    group.variable("nll_by_segment", file.nll_by_segment, ["segment"], "sum of the clean NLL", SUM)
    group.variable("hits_by_segment", np.asarray(file.clean_hits, float), ["segment"], "top-1 hits")
    intervals(group, [], "mean_nll", file.nll_by_segment, file.segment, NATS)
    group.variable("perplexity", np.exp(file.nll_by_segment.sum() / file.tokens.sum()), [], "perplexity")
    group.variable("accuracy", file.clean_hits.sum() / file.tokens.sum(), [], "top-1 accuracy")


def cell(root, file):
    cells, plan = file.cells, file.plan
    group = start(root, file, "cell", "cell", "segment")
    for name in ("family", "sublayer", "band", "intervention", "site", "tokens", "union"):
        group.variable(name, [getattr(cell, name) for cell in cells], ["cell"], f"{name} of the cell")
    group.variable("status", ["measured" if cell.measured else "not_run" for cell in cells], ["cell"], "status")
    for name, value in (("replace", "both"), ("average", "all"), ("same_as", "")):
        group.variable(name, [value if cell.intervention in ("mean", "resample") else "" for cell in cells], ["cell"], name)
    group.variable("hash", [f"{index:032x}" for index in range(len(cells))], ["cell"], "hash")
    write = lambda name, values, units="1": group.variable(name, values, ["cell"], name, units, coordinates=COORDINATES)
    for name, of in (("source", lambda c: c.source), ("sites_ablated", lambda c: len(c.ablated)), ("sites_skipped", lambda c: c.skipped),
                     ("sites_absent", lambda c: c.absent), ("sites_duplicate", lambda c: c.duplicate),
                     ("first_site", lambda c: c.ablated[0] if c.ablated else plan.sites)):
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
    hit_change = file.sums_by["hits"] - file.clean_hits
    for name, sums, units in (("delta_nll", file.sums_by["delta_nll"], NATS), ("kl", file.sums_by["kl"], NATS),
                              ("abs_delta_nll", file.sums_by["abs_delta_nll"], NATS), ("flip_rate", file.sums_by["flips"], "1"),
                              ("hit_change", hit_change, "1")):
        intervals(group, ["cell"], name, sums, file.segment, units)
    donors = np.array([0.1 if c.intervention == "resample" else np.nan for c in cells])
    write("delta_nll_donor_std", donors * np.abs(file.sums_by["delta_nll"].sum(1) / total), NATS)
    for name, sums in file.sums_by.items():
        units = "1" if name in ("flips", "hits") else SUM
        group.variable(f"{name}_by_segment", sums, ["cell", "segment"], f"sum of {name} over the segment", units, coordinates=COORDINATES)


def cell_routing(root, file):
    """Mean weights and coefficients under each cell; a group of its own because `site` and `source` are variables of /cell."""
    group = start(root, file, "cell_routing", "cell", "site", "source", "output")
    mean = file.weight.sum(0) / file.tokens.sum()
    under = np.repeat(mean[None], len(file.cells), 0)
    for c, cell in enumerate(file.cells):
        if cell.intervention == "mask":
            under[c][np.array(cell.flags) == 1] = 0
    under /= under.sum(2, keepdims=True)
    present = np.stack([missing_beyond(file.plan, weight) for weight in under])
    group.variable("weight_mean", present, ["cell", "site", "source"], "mean weight under the cell")
    group.variable("coefficient", [coefficients(file.plan, weight) for weight in under], ["cell", "site", "output"],
                   "coefficient under the cell")


def token_effect(root, file):
    """delta_nll of every token of the first cell that ran: its sum over a segment spread evenly."""
    first = next(index for index, cell in enumerate(file.cells) if cell.measured)
    group = start(root, file, "token_effect", "sequence", "token")
    group.axis("token_cell", [file.cells[first].name], "name of the cell")
    effect = np.full((1, *file.nll.shape), np.nan, np.float32)
    segment = file.segment
    for sequence, start_at, tokens, total in zip(segment["sequence"], segment["first_token"], segment["tokens"],
                                                 file.sums_by["delta_nll"][first]):
        effect[0, sequence, start_at:start_at + tokens] = total / tokens
    group.variable("delta_nll", effect, ["token_cell", "sequence", "token"], "change of the token's NLL", NATS)


def cell_mass(file):
    mean = file.weight.sum(0) / file.tokens.sum()
    return np.array([np.sum(mean * (np.array(cell.flags) == 1)) / len(cell.ablated) if cell.measured else np.nan for cell in file.cells])


def grid(root, file):
    """The cells of family grids as a block [intervention, family, sublayer, band]."""
    names = {cell.name: index for index, cell in enumerate(file.cells)}
    if not file.grids:
        return
    group = start(root, file, "grid", "family", "band")
    group.axis("intervention", list(file.grids), "intervention")
    group.axis("sublayer", SUBLAYERS, "kind of sublayer")
    index = np.array([[[[names.get(f"{i}/{f}/{s}/{b}", -1) for b in BANDS] for s in SUBLAYERS] for f in FAMILIES] for i in file.grids])
    four = ["intervention", "family", "sublayer", "band"]
    group.variable("cell_index", index, four, "index of the cell")
    pick = lambda values: np.where(index >= 0, values[index], np.nan)
    for name, of, units in (("delta_nll", "delta_nll", NATS), ("kl", "kl", NATS), ("abs_delta_nll", "abs_delta_nll", NATS), ("flip_rate", "flips", "1")):
        for suffix, values in zip(("", "_low", "_high"), numbers.ratio_interval(file.sums_by[of], file.segment)):
            group.variable(name + suffix, pick(values), four, name + suffix, units, **INTERVAL)
    group.variable("mass", pick(cell_mass(file)), four, "mass")


def plan(root, file):
    group = start(root, file, "plan", "cell", "site", "source")
    flags = np.array([cell.flags for cell in file.cells], np.uint8)
    group.variable("sources", flags, ["cell", "site", "source"], "what the cell does to the source",
                   flag_values=np.array([0, 1, 2], np.uint8), flag_meanings="not_aimed_at ablated site_skipped")


def known_answers(root, file):
    names = ["identity", "scale_all_by_2", "uniform_everywhere"]
    group = root.child("known_answer")
    group.axis("known_answer", names, "known answer")
    axis = ["known_answer"]
    sums = np.array([[0.0], [1e-7], [0.4]]) * file.tokens
    group.variable("expectation", ["exactly 0", "0 up to rms_norm_eps", "above 0 if routing matters"], axis, "expected")
    group.variable("limit", np.array([0.0, np.nan, np.nan]), axis, "largest change that passes", SUM)
    for name, units in (("delta_nll", NATS), ("kl", NATS), ("flip_rate", "1")):
        intervals(group, axis, name, sums, file.segment, units)
    group.variable("largest_change", np.array([0.0, 1e-6, 2.0]), axis, "largest change of any token", SUM)
    group.variable("passed", np.array([1 if file.answers_pass else 0, 2, 2], np.uint8), axis, "outcome")
    before = "11" * 16
    group.attributes(parameters_checksum_before=before, parameters_checksum_after=file.checksum_after or before)
    if file.wrapped is not None:
        group.attributes(wrapper_largest_deviation=6e-8, wrapper_largest_std=0.0)


def claims(root, file):
    group = root.child("claim")
    group.axis("claim", [claim["name"] for claim in file.claims], "name of the claim")
    for name, missing in (("cell", ""), ("exceeds", ""), ("measure", "delta_nll")):
        group.variable(name, [claim.get(name, missing) for claim in file.claims], ["claim"], f"{name} of the claim")
    group.variable("margin", np.array([claim.get("margin", 0.0) for claim in file.claims]), ["claim"], "margin", NATS)
    group.variable("negative", np.array([int(claim.get("negative", 0)) for claim in file.claims]), ["claim"], "sign")
