#!/usr/bin/python3
"""Computes the study's claims again from the measured files alone, with h5py and numpy and none of the analysis's code, and compares:

    tools/study/recompute.py build/study/verdicts.json

Every claim's contrast, its interval, simultaneous over the claims of its file, and its verdict; every cell's effect and mass. Definitions:
eval/SPEC.md section 5. Exit status 1, and the worst difference, if any number differs by more than rounding.
"""

import argparse
import json
import math
import sys

import h5py
import numpy as np

SET_ALL_WEIGHTS = ("uniform", "schedule", "freeze", "hold")  # interventions without sources of their own, so without mass
CHUNK = 1 << 24  # bytes of counts in one chunk of draws: part of how they are numbered


def texts(dataset):
    return [value.decode() if isinstance(value, bytes) else str(value) for value in dataset[()]]


def sums_by_document(file, values):
    """[rows, documents] sums of [rows, segments], in the order of the documents' first tokens."""
    documents, index = np.unique(file["segment/document"][()], return_inverse=True)
    return np.stack([np.bincount(index, weights=row, minlength=len(documents)) for row in np.asarray(values, dtype=float)])


def draws(documents, count, seed):
    """[chunk of draws, documents] how often each document is drawn: chunk c from numpy's default generator seeded with [seed, c]."""
    rows = max(1, min(count, CHUNK // (8 * documents)))
    for chunk, begin in enumerate(range(0, count, rows)):
        size = min(rows, count - begin)
        picks = np.random.default_rng([seed, chunk]).integers(documents, size=(size, documents), dtype=np.int32)
        yield np.stack([np.bincount(row, minlength=documents) for row in picks]).astype(float)


def ratio_and_error(sums, tokens, weights):
    """[rows, draws] ratio of sums and its standard error, document d taken weights[draw, d] times, by their definition."""
    documents = len(tokens)
    total = weights @ tokens
    value = (sums @ weights.T) / total
    error = np.empty_like(value)
    for row in range(len(sums)):
        deviation = sums[row][None, :] - value[row][:, None] * tokens[None, :]
        error[row] = np.sqrt(documents / (documents - 1) * (weights * deviation**2).sum(axis=1)) / total
    return value, error


def simultaneous(sums, tokens, count, seed, alpha):
    value, error = (result[:, 0] for result in ratio_and_error(sums, tokens, np.ones((1, len(tokens)))))
    largest = []
    moving = error > 0  # a difference that is the same in every document is known exactly, and no draw of them differs
    for weights in draws(len(tokens), count, seed):
        drawn, drawn_error = ratio_and_error(sums, tokens, weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = np.abs(drawn - value[:, None]) / drawn_error
        largest.append(np.max(statistic[moving], axis=0, initial=0.0))
    largest = np.sort(np.concatenate(largest))
    critical = largest[math.ceil((1 - alpha) * (count + 1) - 1e-9) - 1]
    return value, value - critical * error, value + critical * error


def claims_again(file, count, seed, alpha):
    """{claim: [difference, low, high, verdict]}."""
    cells = texts(file["cell/cell"])
    segments = {measure: file[f"cell/{measure}_by_segment"] for measure in ("delta_nll", "kl")}
    claim = file["claim"]
    rows = []
    for cell, exceeds, measure, negative in zip(texts(claim["cell"]), texts(claim["exceeds"]), texts(claim["measure"]),
                                                claim["negative"][()]):
        row = segments[measure][cells.index(cell)].astype(float)
        if exceeds:
            row = row - segments[measure][cells.index(exceeds)]
        rows.append(-row if negative else row)
    tokens = sums_by_document(file, [file["segment/tokens"][()]])[0]
    value, low, high = simultaneous(sums_by_document(file, rows), tokens, count, seed, alpha)
    margin = claim["margin"][()]
    verdict = ["holds" if low[i] > margin[i] else "fails" if high[i] < margin[i] else "undecided" for i in range(len(value))]
    return {name: [value[i], low[i], high[i], verdict[i]] for i, name in enumerate(texts(claim["claim"]))}


def cells_again(file):
    """{cell: [delta_nll, mass]}: effects from sums by segment, mass from the mean weights of the sources that were ablated."""
    tokens = file["segment/tokens"][()].sum()
    effects = file["cell/delta_nll_by_segment"][()].astype(float).sum(axis=1) / tokens
    weights, ablated = file["routing/mean"][()], file["plan/sources"][()] == 1
    masses, names = [], texts(file["cell/cell"])
    for name, cell in zip(names, ablated):
        if name.split("/")[0] in SET_ALL_WEIGHTS:
            cell = np.zeros_like(cell)
        sites = np.flatnonzero(cell.any(axis=1))
        masses.append(np.mean([weights[site][cell[site]].sum() for site in sites]) if len(sites) else np.nan)
    return {name: [effects[i], masses[i]] for i, name in enumerate(names)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verdicts", help="verdicts.json of tools/study/judge.py")
    arguments = parser.parse_args()
    with open(arguments.verdicts) as file:
        verdicts = json.load(file)
    models, statistics = verdicts["models"], verdicts["statistics"]
    worst, where, compared, wrong = 0.0, "", 0, []

    def compare(what, ours, theirs):
        nonlocal worst, where, compared
        compared += 1
        if math.isnan(ours) and math.isnan(theirs):
            return
        difference = abs(ours - theirs)
        if not difference <= worst and not math.isnan(worst):  # a number against none is the worst there is
            worst, where = difference, what

    for model in models.values():
        with h5py.File(model["file"], "r") as file:
            again = {}
            if model["claims"]:
                again = claims_again(file, statistics["bootstrap"], statistics["seed"], statistics["alpha"])
            for name, (value, low, high, verdict) in again.items():
                claim = model["claims"][name]
                for column, number in (("difference", value), ("difference_low", low), ("difference_high", high)):
                    compare(f"{model['file']}: {name}: {column}", number, claim[column])
                if claim["verdict"] not in ("not_judged", verdict):
                    wrong.append(f"{model['file']}: {name}: {claim['verdict']} there, {verdict} here")
            for name, (effect, mass) in cells_again(file).items():
                compare(f"{model['file']}: {name}: delta_nll", effect, model["cells"][name]["delta_nll"])
                compare(f"{model['file']}: {name}: mass", mass, model["cells"][name]["mass"])
    print(f"{compared} numbers of {len(models)} files computed again; the largest difference is {worst:.1e} ({where})")
    for line in wrong:
        print(line)
    return 1 if wrong or not worst <= 1e-9 else 0


if __name__ == "__main__":
    sys.exit(main())
