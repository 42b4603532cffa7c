"""Checks what must hold of the results of tools/wrapped_smollm2.sh, and prints it with perplexities and times:

    check.py FOLDER    reads FOLDER/{fixed,plain,wrapped-30,wrapped-3}.h5 and FOLDER/seconds.tsv

Exit status 1 if something does not hold.
"""
import math
import os
import sys

import h5py
import numpy as np

# Mean nll of the fixed text under transformers 5.24's LlamaForCausalLM in float64: against_transformers.py.
TRANSFORMERS_NLL = 2.891721185
LARGEST_RELATIVE_DIFFERENCE = 1e-4
LARGEST_WEIGHT_ERROR = 1e-6

failed = []


def say(holds, text):
    print(("holds   " if holds else "FAILED  ") + text)
    if not holds:
        failed.append(text)


def clean_nll(results):
    return float(results["clean/mean_nll"][()])


def compare(ours, theirs, what):
    relative = abs(math.expm1(ours - theirs))
    say(relative <= LARGEST_RELATIVE_DIFFERENCE,
        f"{what}: perplexity {math.exp(ours):.6f} and {math.exp(theirs):.6f}, relative difference {relative:.1e}")


def check_weights(results, bias):
    """Measured mean weights, and their spread over tokens, against train/model/SPEC.md's formula."""
    mean, std, sources = results["routing/mean"][:], results["routing/std"][:], results["site/n_sources"][:]
    error = spread = 0.0
    for site, n in enumerate(sources):
        others = 1 / (math.exp(bias) + n - 1)
        expected = np.full(n, others)
        expected[-1] = math.exp(bias) * others
        error = max(error, float(abs(mean[site, :n] - expected).max()))
        spread = max(spread, float(std[site, :n].max()))
    say(error <= LARGEST_WEIGHT_ERROR and spread <= LARGEST_WEIGHT_ERROR,
        f"recency bias {bias}: weights of {len(sources)} sites of {sources.min()} to {sources.max()} sources are e^b / (e^b + n - 1) and "
        f"1 / (e^b + n - 1) to {error:.1e}, the same for every token to {spread:.1e}")


def main(folder):
    opened = {name: h5py.File(os.path.join(folder, name + ".h5")) for name in ("fixed", "plain", "wrapped-30", "wrapped-3")}
    compare(clean_nll(opened["fixed"]), TRANSFORMERS_NLL, "fixed text, here and in transformers")
    plain = clean_nll(opened["plain"])
    compare(clean_nll(opened["wrapped-30"]), plain, "prose, wrapped with recency bias 30 and plain")
    for bias in (30, 3):
        check_weights(opened[f"wrapped-{bias}"], bias)
    routed = clean_nll(opened["wrapped-3"])
    print(f"prose, wrapped with recency bias 3: perplexity {math.exp(routed):.4f}, plain {math.exp(plain):.4f}")
    with open(os.path.join(folder, "seconds.tsv"), encoding="utf-8") as lines:
        for line in lines:
            name, seconds = line.split()
            tokens = int(opened[name].attrs["tokens_evaluated"])
            cells = len(opened[name]["cell/status"]) if "cell" in opened[name] else 0
            print(f"{name}: {int(seconds)} s for {tokens} tokens and {cells} cells, {1000 * int(seconds) / tokens:.1f} s per 1,000 tokens")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
