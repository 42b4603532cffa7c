#!/usr/bin/python3
"""The study's result as Markdown, from verdicts.json and the seconds that tools/study.sh noted:

    tools/study/table.py build/study/verdicts.json --seconds build/study/seconds.tsv --output table.md

The table of files says which group of which analysis a model's numbers come from.
"""

import argparse
import collections
import json
import os
import sys


PRETRAINED = "smollm2/wrapped-3"  # what tools/wrapped_smollm2.sh measures, in the study's folder


def number(value, digits=3):
    return "–" if value != value else f"{value:+.{digits}f}".replace("-", "−")


def interval(claim):
    return f"{number(claim['difference'])} [{number(claim['difference_low'])}, {number(claim['difference_high'])}]"


def spread(values, form=None):
    """Smallest and largest of several seeds."""
    written = form.format if form else number
    ends = [written(value) for value in sorted(value for value in values if value == value)]
    return "–" if not ends else ends[0] if ends[0] == ends[-1] else f"{ends[0]} … {ends[-1]}"


def row(cells):
    return "| " + " | ".join(cells) + " |"


def claims_table(models, variant, seeds, verdicts):
    trained = [models[f"{variant}-{seed}/claims"] for seed in seeds]
    others = {arm: [models[f"{run}-{seed}/{name}"] for seed in seeds if f"{run}-{seed}/{name}" in models]
              for arm, run, name in (("step 0", variant, "step-0"), ("wrapped, b = 3", "additive", "wrapped-3"),
                                     ("wrapped, b = 30", "additive", "wrapped-30"))}
    lines = [row(["claim", *(f"seed {seed}" for seed in seeds), "k of n", *others, "motif"]),
             row(["---"] * (len(seeds) + len(others) + 3))]
    for name in trained[0]["claims"]:
        motif = name.split("/")[0]
        held = verdicts["motifs"].get(motif, {}).get("k_of_n", {}).get(name, ["–", "–"])
        lines.append(row([name, *(interval(model["claims"][name]) for model in trained), f"{held[0]} of {held[1]}",
                          *(spread([model["claims"][name]["difference"] for model in several]) for several in others.values()),
                          verdicts["motifs"].get(motif, {}).get("verdict", "–")]))
    return lines


def cells_table(models, variant, seeds):
    """Every family's mass and effects, smallest and largest over the seeds; what a claim compares stands here."""
    trained = [models[f"{variant}-{seed}/claims"]["cells"] for seed in seeds]
    others = [[models[f"{run}-{seed}/{arm}"]["cells"] for seed in seeds if f"{run}-{seed}/{arm}" in models]
              for run, arm in ((variant, "step-0"), ("additive", "wrapped-3"))]
    lines = [row(["family, sublayer, band", "mass", "mask", "mask, every copy", "resample, every copy", "an effect beyond the margin in",
                  "out of distribution in", "step 0: mask, every copy", "wrapped, b = 3: mask, every copy"]), row(["---"] * 9)]
    for name in trained[0]:
        intervention, _, cell = name.partition("/")
        if intervention != "mask" or not cell.endswith("/distinct"):
            continue
        plain, other = f"mask/{cell.removesuffix('/distinct')}", f"resample/{cell}"

        def effect(of, models=trained):
            return spread([cells[of]["delta_nll"] for cells in models if of in cells])

        def beyond(cell):
            return cell["verdict"] == "effect" and cell["small"] != 1

        mass = [cells[plain]["mass"] for cells in trained]
        lines.append(row([cell.removesuffix("/distinct").replace("/", ", "), spread(mass, "{:.2f}"), effect(plain), effect(name),
                          effect(other), f"{sum(beyond(cells[name]) for cells in trained)} of {len(seeds)}",
                          f"{sum(cells[name]['out_of_distribution'] == 1 for cells in trained)} of {len(seeds)}",
                          *(effect(name, several) for several in others)]))
    return lines


def trajectory_table(models, variant, seeds):
    """Effect of `mask` by training step, smallest and largest over the seeds, on the exploration split."""
    steps = collections.defaultdict(list)
    for key, model in models.items():
        run, arm = key.split("/")
        if arm.startswith("grid-") and run in [f"{variant}-{seed}" for seed in seeds]:
            steps[model["step"]].append(model)
    if not steps:
        return []
    steps = dict(sorted(steps.items()))
    lines = [row(["`mask` of", *(f"step {step}" for step in steps)]), row(["---"] * (len(steps) + 1)),
             row(["clean NLL", *(spread([model["nll"] for model in several], "{:.3f}") for several in steps.values())])]
    for name in next(iter(steps.values()))[0]["cells"]:
        effects = [[model["cells"][name]["delta_nll"] for model in several] for several in steps.values()]
        if any(value == value for several in effects for value in several):
            lines.append(row([name.removeprefix("mask/").replace("/", ", "), *(spread(several) for several in effects)]))
    return lines


def pretrained_table(models, name):
    """Every masked family of a pretrained model that was wrapped: what the formula weighs, and what taking it away costs."""
    lines = [row(["family, sublayer, band", "mass", "ΔNLL [95 % interval]", "KL", "verdict", "out of distribution"]), row(["---"] * 6)]
    for cell, one in models[name]["cells"].items():
        if one["delta_nll"] == one["delta_nll"]:
            effect = f"{number(one['delta_nll'])} [{number(one['delta_nll_low'])}, {number(one['delta_nll_high'])}]"
            lines.append(row([cell.removeprefix("mask/").replace("/", ", "), f"{one['mass']:.3f}", effect, f"{one['kl']:.3f}",
                              one["verdict"], "yes" if one["out_of_distribution"] == 1 else "no"]))
    return lines


def no_role_table(variant, verdicts):
    lines = [row(["family and band", "mass by seed", "verdicts by seed", "k of n", "no role", "inside the margin, whether sure or not"]),
             row(["---"] * 6)]
    for cell, one in verdicts["no_role"].items():
        ways = [", ".join(f"{way} {seen[way]}" for way in seen if way not in ("mass", "equivalent", "holds")) for seen in one["seeds"]]
        lines.append(row([cell, ", ".join(f"{seen['mass']:.2f}" for seen in one["seeds"]), "; ".join(ways),
                          f"{one['k_of_n'][0]} of {one['k_of_n'][1]}", one["verdict"],
                          f"{one['equivalent'][0]} of {one['equivalent'][1]}"]))
    return lines


def dissociation_table(verdicts):
    lines = [row(["sublayer", "heaviest", "most causal", "share of draws in which they differ", "mass is not effect"]),
             row(["---"] * 5)]
    for sublayer, one in verdicts["dissociation"].items():
        lines.append(row([sublayer, *("; ".join(seen[key] for seen in one["seeds"]) for key in ("heaviest", "most_causal")),
                          "; ".join(f"{seen['probability']:.3f}" for seen in one["seeds"]), one["verdict"]]))
    return lines


def models_table(models):
    base = os.path.commonpath([os.path.dirname(model["analysis"]) for model in models.values()])
    lines = [row(["file", "step", "documents", "tokens", "clean NLL", "cells out of distribution", "statistics", "sha256"]),
             row(["---"] * 8)]
    for name, model in sorted(models.items()):
        broken = sum(cell["out_of_distribution"] == 1 for cell in model["cells"].values())
        lines.append(row([name + ".h5", str(model["step"]), str(model["documents"]), str(model["tokens"]), f"{model['nll']:.4f}",
                          f"{broken} of {len(model['cells'])}", f"{os.path.relpath(model['analysis'], base)} {model['group']}",
                          f"`{model['sha256'][:16]}`"]))
    return lines


def price_table(path):
    spent = collections.Counter()
    with open(path) as file:
        for line in file:
            name, seconds = line.rstrip("\n").split("\t")
            spent[name] += int(seconds)
    lines = [row(["part", "minutes"]), row(["---"] * 2)]
    lines += [row([name, f"{seconds / 60:.1f}"]) for name, seconds in spent.items()]
    return lines + [row(["all", f"{sum(spent.values()) / 60:.1f}"])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verdicts")
    parser.add_argument("--seconds", required=True, help="lines of NAME, tab, seconds")
    parser.add_argument("--output", required=True, help="Markdown")
    arguments = parser.parse_args()
    with open(arguments.verdicts) as file:
        result = json.load(file)
    models, seeds = result["models"], result["seeds"]
    lines = []
    for variant, verdicts in result["verdicts"].items():
        lines += [f"### {variant}", "", "Nats per target token; 95 % intervals, simultaneous over the claims of a model.", ""]
        lines += claims_table(models, variant, seeds, verdicts) + [""]
        lines += [f"- **{name}: {one['verdict']}.** {one['because']}" for name, one in verdicts["motifs"].items()] + [""]
        lines += dissociation_table(verdicts) + [""] + no_role_table(variant, verdicts) + [""]
        lines += ["Effects, nats per target token, smallest … largest over the seeds:", "", *cells_table(models, variant, seeds), ""]
        along = trajectory_table(models, variant, seeds)
        if along:
            lines += ["Along training, on the exploration split (not judged):", "", *along, ""]
    if PRETRAINED in models:
        lines += ["### SmolLM2-135M-Instruct, wrapped as `cumulative`, b = 3", "", *pretrained_table(models, PRETRAINED), ""]
    lines += ["### Files", ""] + models_table(models) + ["", "### Price", ""] + price_table(arguments.seconds)
    temporary = f"{arguments.output}.tmp-{os.getpid()}"
    with open(temporary, "w") as file:
        file.write("\n".join(lines) + "\n")
    os.replace(temporary, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
