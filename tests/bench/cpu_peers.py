#!/usr/bin/env python3
"""A training step on this machine's CPUs beside PyTorch's, as ratios of tokens per second:

  cpu_peers.py [--bin build/release/bin] [--python PYTHON] [--model demo,100m] [--rounds 3]

PYTHON has torch. depthroute-bench-step, PyTorch eager and PyTorch compiled (tools/bench_peers.py) take turns, each in a process of its
own with one thread per processor; a ratio is the median over the turns of two neighbours'. For a machine with nothing else to do.
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


def tokens_per_second(command, folder):
    """Of the last line that a command writes to its --json file."""
    path = os.path.join(folder, "lines.json")
    ran = subprocess.run([*command, "--json", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"cpu_peers.py: {command[0]} failed: {ran.stdout.strip().splitlines()[-1:]}")
    with open(path) as file:
        line = json.loads(file.read().splitlines()[-1])
    os.remove(path)
    if "tokens_per_s" not in line:
        sys.exit(f"cpu_peers.py: not measured: {line}")
    return line["tokens_per_s"]


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
                    rates.setdefault(name, []).append(tokens_per_second(command, folder))
                    print(f"{model}, turn {turn + 1}, {name}: {rates[name][-1]:.0f} tokens/s", flush=True)
        ours = rates.pop("depthroute")
        for name, theirs in rates.items():
            ratios = [a / b for a, b in zip(ours, theirs)]
            print(f"{model}, {args.variant}: {statistics.median(ours):.0f} tokens/s, {statistics.median(ratios):.2f} times PyTorch's "
                  f"({name}: {statistics.median(theirs):.0f}); turns {min(ratios):.2f} to {max(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
