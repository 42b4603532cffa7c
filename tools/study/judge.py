#!/usr/bin/python3
"""Says of every motif of configs/study/judgement.yaml whether it holds, from the analysis of all models together:

    tools/study/judge.py build/study --judgement configs/study/judgement.yaml --output build/study/verdicts.json

Reads FOLDER/analysis.h5, which tools/analyze.py made of VARIANT-SEED/{claims,step-0,wrapped-B}.h5, and writes what the tables need: every
number with the analysis, its group and the file that it comes from. Judges nothing that the analysis has not judged. What `--also` names is
carried along for the tables and judged by nobody.
"""

import argparse
import json
import os
import sys

import h5py
import numpy as np
import yaml

CLAIM = ("difference", "difference_low", "difference_high", "margin")
CELL = ("mass", "delta_nll", "delta_nll_low", "delta_nll_high", "kl", "out_of_distribution", "small", "equiv_bound")


class InputError(Exception):
    """Bad input: one line that says what, where and what to do."""


def texts(dataset):
    return [value.decode() if isinstance(value, bytes) else str(value) for value in np.ravel(dataset[()])]


def rows(group, kind, columns):
    """{name: {column: number, "verdict": text}} of a group of analysis.h5 with one axis."""
    if kind not in group:
        return {}
    table = group[kind]
    verdicts = texts(table["verdict"])
    return {name: {"verdict": verdicts[i], **{column: float(table[column][i]) for column in columns}}
            for i, name in enumerate(texts(table[kind]))}


def dissociation(group):
    """{(grid, sublayer): ...} over all bands."""
    if "dissociation" not in group:
        return {}
    table = group["dissociation"]
    grids, sublayers, bands = (texts(table[axis]) for axis in ("grid", "sublayer", "band"))
    found = {}
    for g, grid in enumerate(grids):
        for s, sublayer in enumerate(sublayers):
            at = (g, s, bands.index("all"))
            found[grid, sublayer] = {
                "probability": float(table["probability"][at]),
                "heaviest": texts(table["heaviest"])[np.ravel_multi_index(at, table["heaviest"].shape)],
                "most_causal": texts(table["most_causal"])[np.ravel_multi_index(at, table["most_causal"].shape)],
            }
    return found


def read_models(path, folder):
    """{(variant-seed, arm): what the analysis says of that file}, and the settings of its statistics."""
    models = {}
    with h5py.File(path, "r") as analysis:
        statistics = {"bootstrap": int(analysis.attrs["bootstrap"]), "alpha": float(analysis.attrs["alpha"]),
                      "seed": int(analysis.attrs["statistics_seed"])}
        for name in sorted(analysis):
            if not name.startswith("file_"):
                continue
            group = analysis[name]
            file = str(group.attrs["path"])
            run, arm = os.path.relpath(file, folder).removesuffix(".h5").split(os.sep)[-2:]
            models[run, arm] = {
                "file": file, "sha256": str(group.attrs["sha256"]), "analysis": path, "group": "/" + name,
                "margin": float(analysis.attrs["margin"]), "documents": int(group.attrs["documents"]), "tokens": int(group.attrs["tokens_evaluated"]),
                "step": int(group.attrs["checkpoint_step"]), "nll": float(group["clean/mean_nll"][()]),
                "not_judged_because": str(group.attrs["not_judged_because"]),
                "claims": rows(group, "claim", CLAIM), "cells": rows(group, "cell", CELL),
                "dissociation": dissociation(group),
            }
    return models, statistics


def of_seeds(models, variant, seeds, arm="claims"):
    missing = [seed for seed in seeds if (f"{variant}-{seed}", arm) not in models]
    if missing:
        raise InputError(f"the analysis has no {arm}.h5 of {variant}, seeds {', '.join(map(str, missing))}: run tools/study.sh again, "
                         "it goes on where it was")
    return [models[f"{variant}-{seed}", arm] for seed in seeds]


def judge_motif(models, motif, variant, seeds):
    trained = of_seeds(models, variant, seeds)
    untrained = of_seeds(models, variant, seeds, "step-0")
    names = [name for name in trained[0]["claims"] if name.split("/")[0] == motif["name"]]
    if not names:
        raise InputError(f"claims.yaml has no claim named {motif['name']}/...: judgement.yaml and claims.yaml must go together")
    verdicts = {name: [model["claims"][name]["verdict"] for model in trained] for name in names}
    unmeasured = [model["file"] for model in untrained if not set(names) <= set(model["claims"])]
    if unmeasured:
        raise InputError(f"{unmeasured[0]}: has not all claims of {motif['name']}: measure it again with configs/study/claims.yaml")
    at_step_0 = [name for name in names for model in untrained if model["claims"][name]["verdict"] == "holds"]
    if at_step_0:
        verdict, because = "fails", f"{at_step_0[0]} holds in an untrained model"
    elif all(verdict == "holds" for name in names for verdict in verdicts[name]):
        verdict, because = "holds", "every claim in every seed"
    else:
        lost = [name for name in names if all(verdict == "fails" for verdict in verdicts[name])]
        short = [name for name in names if any(verdict != "holds" for verdict in verdicts[name])]
        verdict = "fails" if lost else "undecided"
        because = "; ".join(f"{name}: {', '.join(verdicts[name])}" for name in (lost or short))
    return {"verdict": verdict, "because": because,
            "k_of_n": {name: [sum(v == "holds" for v in verdicts[name]), len(seeds)] for name in names}}


def judge_dissociation(models, rule, variant, seeds):
    result = {}
    for sublayer in rule["sublayers"]:
        found = [model["dissociation"][rule["grid"], sublayer] for model in of_seeds(models, variant, seeds)]
        shares = [one["probability"] for one in found]
        if all(share >= rule["share"] for share in shares):
            verdict = "holds"
        elif all(share <= 1 - rule["share"] for share in shares):
            verdict = "fails"
        else:
            verdict = "undecided"
        result[sublayer] = {"verdict": verdict, "seeds": found}
    return result


def judge_no_role(models, rule, variant, seeds):
    result = {}
    for cell in rule["cells"]:
        seen = []
        for model in of_seeds(models, variant, seeds):
            ways = {}
            for intervention in rule["interventions"]:
                name = f"{intervention}/{cell}" + ("" if intervention == "mean" else "/distinct")
                ways[intervention] = model["cells"][name]
            mass = model["cells"][f"mask/{cell}"]["mass"]
            # An effect that is sure and yet inside the margin has the verdict `effect`: equivalence alone is told apart.
            seen.append({"mass": mass, **{way: values["verdict"] for way, values in ways.items()},
                         "equivalent": mass >= rule["mass"] and all(v["equiv_bound"] <= model["margin"] for v in ways.values()),
                         "holds": mass >= rule["mass"] and all(v["verdict"] == "negligible" for v in ways.values())})
        held = sum(one["holds"] for one in seen)
        verdict = "holds" if held == len(seeds) else "fails" if held == 0 else "undecided"
        result[cell] = {"verdict": verdict, "k_of_n": [held, len(seeds)], "seeds": seen,
                        "equivalent": [sum(one["equivalent"] for one in seen), len(seeds)]}
    return result


def judge(models, judgement):
    seeds = judgement["seeds"]
    return {variant: {
        "motifs": {motif["name"]: judge_motif(models, motif, variant, seeds) for motif in judgement["motifs"]},
        "dissociation": judge_dissociation(models, judgement["dissociation"], variant, seeds),
        "no_role": judge_no_role(models, judgement["no_role"], variant, seeds),
    } for variant in judgement["variants"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what tools/study.sh wrote")
    parser.add_argument("--judgement", required=True, help="judgement.yaml")
    parser.add_argument("--seeds", help="these seeds only, as 1,2: what a quick study has")
    parser.add_argument("--also", metavar="ANALYSIS.h5", action="append", default=[],
                        help="another analysis: of explorations, of checkpoints along the way, of a pretrained model")
    parser.add_argument("--output", required=True, help="JSON")
    arguments = parser.parse_args()
    with open(arguments.judgement) as file:
        judgement = yaml.safe_load(file)
    if arguments.seeds:
        judgement["seeds"] = [int(seed) for seed in arguments.seeds.split(",")]
    path = os.path.join(arguments.folder, "analysis.h5")
    for each in [path, *arguments.also]:
        if not os.path.isfile(each):
            raise InputError(f"{each}: no such file; tools/analyze.py makes it of the results files")
    models, statistics = read_models(path, arguments.folder)
    for each in arguments.also:
        models.update(read_models(each, arguments.folder)[0])
    result = {"statistics": statistics, "seeds": judgement["seeds"], "verdicts": judge(models, judgement),
              "models": {"/".join(key): {name: value for name, value in model.items() if name != "dissociation"}
                         for key, model in models.items()}}
    temporary = f"{arguments.output}.tmp-{os.getpid()}"
    with open(temporary, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    os.replace(temporary, arguments.output)
    for variant, verdicts in result["verdicts"].items():
        for name, one in verdicts["motifs"].items():
            print(f"{variant:12} {name:24} {one['verdict']:10} {one['because']}")
        for sublayer, one in verdicts["dissociation"].items():
            print(f"{variant:12} {'mass is not effect, ' + sublayer:24} {one['verdict']}")
        for cell, one in verdicts["no_role"].items():
            print(f"{variant:12} {'no role: ' + cell:24} {one['verdict']:10} {one['k_of_n'][0]} of {one['k_of_n'][1]}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"judge.py: {error}", file=sys.stderr)
        sys.exit(2)
