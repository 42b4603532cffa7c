#!/usr/bin/python3
"""Draws every claim of the study with its interval in every seed, beside the untrained and the wrapped models, from verdicts.json:

    tools/study/figure.py build/study/verdicts.json --output claims.svg

One panel a variant. Equal numbers give equal bytes.
"""

import argparse
import json
import os
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend comes first)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from reporting import plot  # noqa: E402

SEEDS = ("#b35900", "#3b5bdb", "#0b7a75")
COMPARED = (("step 0", "{variant}-{seed}/step-0", "D", "#6e7681"), ("wrapped, b = 3", "additive-{seed}/wrapped-3", "x", "#7b4fa3"))


def places_of(names):
    """[(name, height)], a gap wherever the motif changes, and [(motif, height)] of its headings."""
    lines, headings, at, before = [], [], 0.0, None
    for name in names:
        motif = name.split("/")[0]
        if motif != before:
            at += 1.1
            headings.append((motif, at))
            at += 0.9
        lines.append((name, at))
        at += 1.0
        before = motif
    return lines, headings


def draw(axes, result, variant, lines, headings, reach):
    models, seeds = result["models"], result["seeds"]
    verdicts = result["verdicts"][variant]["motifs"]
    for name, at in lines:
        for number, seed in enumerate(seeds):
            claim = models[f"{variant}-{seed}/claims"]["claims"][name]
            place = at + 0.22 * (number - (len(seeds) - 1) / 2)
            axes.plot([claim["difference_low"], claim["difference_high"]], [place] * 2, color=SEEDS[number % 3], linewidth=1.8)
            filled = SEEDS[number % 3] if claim["verdict"] == "holds" else "white"
            axes.plot(claim["difference"], place, "o", markersize=5, color=SEEDS[number % 3], markerfacecolor=filled, zorder=3,
                      label=f"seed {seed}" if at == lines[0][1] else None)
        for label, key, marker, colour in COMPARED:
            found = [models[key.format(variant=variant, seed=seed)]["claims"][name]["difference"] for seed in seeds
                     if key.format(variant=variant, seed=seed) in models]
            axes.plot(found, [at + 0.42] * len(found), marker, markersize=4, color=colour, markerfacecolor="none", linestyle="none",
                      label=label if at == lines[0][1] else None)
        held = verdicts[name.split("/")[0]]["k_of_n"][name]
        axes.text(1.01, at, f"{held[0]} of {held[1]}", transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    for motif, at in headings:
        axes.text(0.0, at, f"{motif}: {verdicts[motif]['verdict']}", transform=axes.get_yaxis_transform(), va="center", fontsize=11,
                  fontweight="bold")
    margin = models[f"{variant}-{seeds[0]}/claims"]["claims"][lines[0][0]]["margin"]
    axes.axvline(0, color="#6e7681", linewidth=0.8)
    axes.axvline(margin, color="#6e7681", linewidth=0.8, linestyle=":")
    plot.symlog(axes, "x", 0.01, reach)
    axes.set_xlim(-1.4 * reach, 1.4 * reach)
    axes.set_ylim(lines[-1][1] + 0.9, headings[0][1] - 0.8)
    axes.set_yticks([at for _, at in lines], [name.split("/", 1)[1].replace("/", ", ") for name, _ in lines])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_title(variant)
    axes.set_xlabel("difference of effects, nats/token")


def figure(result):
    variants, seeds = list(result["verdicts"]), result["seeds"]
    names = [name for name in result["models"][f"{variants[0]}-{seeds[0]}/claims"]["claims"]
             if name.split("/")[0] in result["verdicts"][variants[0]]["motifs"]]
    lines, headings = places_of(names)
    ends = [abs(claim[end]) for key, model in result["models"].items() for name, claim in model["claims"].items()
            for end in ("difference", "difference_low", "difference_high") if key.endswith("/claims") and claim[end] == claim[end]]
    with matplotlib.rc_context({**plot.STYLE, "svg.fonttype": "path", "figure.facecolor": "white", "axes.facecolor": "white",
                                "savefig.transparent": False, "font.size": 10, "xtick.labelsize": 8, "ytick.labelsize": 9}):
        page, axes = pyplot.subplots(1, len(variants), figsize=(5.6 * len(variants), 6.6), sharey=True, squeeze=False,
                                     layout="constrained")
        for place, variant in zip(axes[0], variants):
            draw(place, result, variant, lines, headings, max(ends))
        handles, labels = axes[0][0].get_legend_handles_labels()
        page.get_layout_engine().set(rect=(0, 0.05, 1, 0.95))
        page.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=9)
        return page


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verdicts", help="verdicts.json of tools/study/judge.py")
    parser.add_argument("--output", required=True, help="SVG or, for looking, PNG")
    arguments = parser.parse_args()
    with open(arguments.verdicts) as file:
        result = json.load(file)
    kind = os.path.splitext(arguments.output)[1][1:]
    temporary = f"{arguments.output}.tmp-{os.getpid()}"
    with matplotlib.rc_context({"svg.hashsalt": "depthroute"}):
        figure(result).savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else None)
    os.replace(temporary, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
