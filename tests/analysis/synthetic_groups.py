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
    return {
        "site": (plan.names, "name of the site"),
        "source": (np.arange(plan.widest), "position of the source at its site"),
        "output": (plan.outputs, "sublayer output"),
        "sequence": (np.arange(segment["sequence"].max() + 1), "sequence"),
        "token": (np.arange(file.seq_len), "position in the sequence"),
        "segment": (np.arange(len(file.tokens)), "segment"),
        "cell": ([cell.name for cell in file.cells], "name of the cell"),
        "family": (FAMILIES, "source family"),
        "sublayer": (SUBLAYERS + ["final"] * ("final" in plan.sublayer), "kind of sublayer"),
        "band": (BANDS, "depth band")
    }


def start(root, file, name, *scales):
    """Makes the group `name` with these axes."""
    group = root.child(name)
    for scale in scales:
        group.axis(scale, *axes(file)[scale])
    return group


def by_source(plan, value, missing):
    return [[value(s, j) if j < len(plan.states[s]) else missing for j in range(plan.widest)]
            for s in range(plan.sites)]


def missing_beyond(plan, array):
    """NaN where a site has fewer sources."""
    present = np.array(by_source(plan, lambda s, j: True, False))
    return np.where(present, array, np.nan)


def site(root, file):
    plan = file.plan
    group = start(root, file, "site", "site", "source")
    for name, values in (("layer", plan.layer), ("block", plan.block), ("n_sources",
                                                                        [len(x) for x in plan.states])):
        group.variable(name, np.array(values), ["site"], f"{name} of the site")
    for name, values in (("sublayer", plan.sublayer), ("band", plan.band)):
        group.variable(name, values, ["site"], f"{name} of the site")
    group.variable("restart", np.array(plan.restart, np.uint8), ["site"],
                   "whether the output starts a new state")
    both = ["site", "source"]
    group.variable("state", by_source(plan, lambda s, j: plan.states[s][j], -1), both, "state read")
    group.variable("duplicate_of", by_source(plan, plan.duplicate_of, -1), both,
                   "first source that is the same state")
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
    group.variable("std", missing_beyond(plan, spread.std(0)), both,
                   "standard deviation of the weight over tokens")
    entropy = -np.sum(mean * np.log(np.where(mean > 0, mean, 1)), 1)
    group.variable("entropy", entropy, ["site"], "entropy of the weights", "nats")
    shares = {
        "norm_share": 0.9 * file.weight + 0.1 * file.weight[:, :, ::-1],
        "projection_share": 1.1 * file.weight - 0.02,
        "cosine": 0.3 + 0.1 * np.arange(plan.widest) * file.tokens[:, None, None] * np.ones((plan.sites, 1))
    }
    for name, sums in shares.items():
        group.variable(name, missing_beyond(plan, sums.sum(0) / total), both, name.replace("_", " "))
    group.variable("coefficient", coefficients(plan, mean), ["site", "output"],
                   "coefficient of the output in what the site reads")
    mass = [[[family_mass(plan, mean, family, sublayer, band) for band in BANDS]
             for sublayer in SUBLAYERS + ["final"] * ("final" in plan.sublayer)] for family in FAMILIES]
    group.variable("family_mass", mass, ["family", "sublayer", "band"],
                   "mean weight of the family over all sites")
    three = ["segment", "site", "source"]
    for name, sums in {"weight": file.weight, **shares}.items():
        group.variable(f"{name}_by_segment", missing_beyond(plan, sums), three, f"sum of {name} over tokens")
    if file.estimates:
        # Saturated: large effects are underestimated.
        sums = np.tanh(2 * file.edge_effects) / 3 * file.tokens[:, None, None]
        group.variable("edge_estimate_by_segment", missing_beyond(plan, sums), three,
                       "first-order estimate of mask", SUM)


def coefficients(plan, mean):
    """The sum of the weights of the sources whose state contains the output, [site, output]; NaN for later
    outputs."""
    return [[
        sum(mean[s, j] for j, state in enumerate(states)
            if plan.contains(state, output)) if output <= min(s, 2 * plan.layers) else np.nan
        for output in range(len(plan.outputs))
    ] for s, states in enumerate(plan.states)]


def family_mass(plan, mean, family, sublayer, band):
    sites = [s for s in range(plan.sites) if plan.sublayer[s] == sublayer and plan.band[s] == band]
    total = sum(mean[s, j] for s in sites for j in range(len(plan.states[s])) if plan.family(s, j) == family)
    return total / len(sites) if sites else np.nan


def sequences(root, file):
    count = file.segment["sequence"].max() + 1
    group = start(root, file, "sequence", "sequence")
    group.variable("tokens",
                   np.bincount(file.segment["sequence"], file.tokens, count).astype(int), ["sequence"],
                   "targets that count")
    group.variable("first_token",
                   np.arange(count) * file.seq_len, ["sequence"], "stream position of the first token")
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


def known_answers(root, file):
    names = ["identity", "scale_all_by_2", "uniform_everywhere"]
    group = root.child("known_answer")
    group.axis("known_answer", names, "known answer")
    axis = ["known_answer"]
    sums = np.array([[0.0], [1e-7], [0.4]]) * file.tokens
    group.variable("expectation", ["exactly 0", "0 up to rms_norm_eps", "above 0 if routing matters"], axis,
                   "expected")
    group.variable("limit", np.array([0.0, np.nan, np.nan]), axis, "largest change that passes", SUM)
    for name, units in (("delta_nll", NATS), ("kl", NATS), ("flip_rate", "1")):
        intervals(group, axis, name, sums, file.segment, units)
    group.variable("largest_change", np.array([0.0, 1e-6, 2.0]), axis, "largest change of any token", SUM)
    group.variable("passed", np.array([1 if file.answers_pass else 0, 2, 2], np.uint8), axis, "outcome")
    before = "11" * 16
    group.attributes(parameters_checksum_before=before, parameters_checksum_after=file.checksum_after
                     or before)
    if file.wrapped is not None:
        group.attributes(wrapper_largest_deviation=6e-8, wrapper_largest_std=0.0)


def claims(root, file):
    group = root.child("claim")
    group.axis("claim", [claim["name"] for claim in file.claims], "name of the claim")
    for name, missing in (("cell", ""), ("exceeds", ""), ("measure", "delta_nll")):
        group.variable(name, [claim.get(name, missing) for claim in file.claims], ["claim"],
                       f"{name} of the claim")
    group.variable("margin", np.array([claim.get("margin", 0.0) for claim in file.claims]), ["claim"],
                   "margin", NATS)
    group.variable("negative", np.array([int(claim.get("negative", 0)) for claim in file.claims]), ["claim"],
                   "sign")
