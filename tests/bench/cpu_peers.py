#!/usr/bin/env python3
"""A training step on this machine's CPUs beside PyTorch's, as ratios of tokens per second:

  cpu_peers.py [--bin build/release/bin] [--python PYTHON] [--model demo,100m] [--rounds 3]

PYTHON has torch. depthroute-bench-step, PyTorch eager and PyTorch compiled (tools/bench_peers.py) take turns, each in a process of its
own with one thread per processor. A ratio is the median over the turns of two neighbours' median steps; beside it that of the best steps of
all turns, which a busy machine disturbs least. For a machine with nothing else to do.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SHAPES = {"demo": (16, 256, 20), "100m": (4, 512, 4)}  # sequences, their tokens, timed steps


def rates_of(command, folder):
    """Tokens per second of the median and of the best step, from the last line that a command writes to its --json file."""
    path = os.path.join(folder, "lines.json")
    ran = subprocess.run([*command, "--json", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"cpu_peers.py: {command[0]} failed: {ran.stdout.strip().splitlines()[-1:]}")
    with open(path) as file:
        line = json.loads(file.read().splitlines()[-1])
    os.remove(path)
    if "tokens_per_s" not in line:
        sys.exit(f"cpu_peers.py: not measured: {line}")
    return line["tokens_per_s"], line["tokens_per_s"] * line["step_ms"] / line["best_ms"]


def commands(args, model):
    sequences, length, steps = SHAPES[model]
    shape = ["--model", model, "--variant", args.variant, "--micro-batch", str(sequences), "--seq-len", str(length), "--device", "cpu",
             "--steps", str(steps)]
    peers = [args.python, os.path.join(ROOT, "tools", "bench_peers.py"), *shape, "--warm-up", "2", "--peak-tflops", "1"]
    return {"depthroute": [os.path.join(args.bin, "depthroute-bench-step"), *shape, "--peak-tflops", "1"],
            "eager": [*peers, "--impl", "eager"], "compile": [*peers, "--impl", "compile"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(ROOT, "build", "release", "bin"))
    parser.add_argument("--python", default="python3")
    parser.add_argument("--model", default="demo,100m")
    parser.add_argument("--variant", default="cumulative")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    unknown = sorted(set(args.model.split(",")) - set(SHAPES))
    if unknown or args.rounds < 1:
        parser.error(f"--model: there is no {unknown[0]}; {', '.join(SHAPES)}" if unknown else "--rounds: at least 1")
    for model in args.model.split(","):
        rates = {}
        with tempfile.TemporaryDirectory(prefix="depthroute-cpu-peers-") as folder:
            for turn in range(args.rounds):
                for name, command in commands(args, model).items():
                    rates.setdefault(name, []).append(rates_of(command, folder))
                    median, best = rates[name][-1]
                    print(f"{model}, turn {turn + 1}, {name}: {median:.0f} tokens/s, best {best:.0f}", flush=True)
        ours = rates.pop("depthroute")
        for name, theirs in rates.items():
            ratios = [mine[0] / other[0] for mine, other in zip(ours, theirs)]
            best = max(mine[1] for mine in ours) / max(other[1] for other in theirs)
            print(f"{model}, {args.variant}: {statistics.median(ratios):.2f} times PyTorch {name} (turns {min(ratios):.2f} to "
                  f"{max(ratios):.2f}), best steps {best:.2f} times; here {statistics.median(r[0] for r in ours):.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
