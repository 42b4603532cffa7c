#!/usr/bin/env python3
"""Measures tools/tokenize_text.py beside the tokenizers library alone, by hand: same documents, same cores, in turns.
    python3 tests/tools/tokenize_speed.py TEXT... --tokenizer TOKENIZER.json [--repeats 3] [--separator LINE]

The library's time is encode_batch() over a list of documents in memory with its own threads, tokens not even looked at; the program's is
the whole command, from start to finished shards. Prints seconds and processor seconds of both, their ratios, and the program's memory:
the largest sum over its processes of what each holds alone and its share of what they hold together (PSS), looked at every 50 ms."""
import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
ALONE = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
import packages
packages.use_installed()
import tokenizers
tokenizer = tokenizers.Tokenizer.from_file(sys.argv[2])
with open(sys.argv[3], encoding="utf-8") as file:
    documents = [json.loads(line)["text"] for line in file]
cpu = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
start, used = time.perf_counter(), cpu()
for i in range(0, len(documents), 1000):
    tokenizer.encode_batch(documents[i:i + 1000], add_special_tokens=False)
print(time.perf_counter() - start, cpu() - used)
"""


def documents(paths, separator):
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        for document in text.split(separator):
            if document.strip():
                yield document


def processes_of(parent):
    found = [parent]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                if int(file.read().rsplit(")", 1)[1].split()[1]) == parent:
                    found.append(int(pid))
        except OSError:
            pass
    return found


def memory(parent):
    total = 0
    for pid in processes_of(parent):
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except OSError:
            pass
    return total / 1024


def run_program(tokenizer, jsonl, output, watch):
    """(seconds, processor seconds, MiB) of one run."""
    command = [sys.executable, os.path.join(TOOLS, "tokenize_text.py"), jsonl, "--tokenizer", tokenizer, "--output", output]
    used, start, most = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]), time.perf_counter(), 0
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while watch and child.poll() is None:
        most = max(most, memory(child.pid))
        time.sleep(0.05)
    assert child.wait() == 0
    return time.perf_counter() - start, sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - used, most


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="+")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--separator", default="\n\n")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="depthroute_speed_")
    jsonl = os.path.join(folder, "text.jsonl")
    with open(jsonl, "w", encoding="utf-8") as file:
        for document in documents(options.text, options.separator):
            file.write(json.dumps({"text": document}, ensure_ascii=False) + "\n")
    print(f"{os.path.getsize(jsonl) / 1e6:.1f} MB, {len(os.sched_getaffinity(0))} cores")
    ratios = []
    for repeat in range(options.repeats):
        alone = subprocess.run([sys.executable, "-c", ALONE, TOOLS, options.tokenizer, jsonl], capture_output=True, text=True, check=True)
        seconds, used = map(float, alone.stdout.split())
        ours, our_used, _ = run_program(options.tokenizer, jsonl, os.path.join(folder, f"out{repeat}"), False)
        ratios.append((seconds / ours, used / our_used))
        print(f"library {seconds:.2f} s ({used:.2f} s of processor), program {ours:.2f} s ({our_used:.2f} s)", flush=True)
    for what, values in zip(("throughput", "throughput per processor second"), zip(*ratios)):
        print(f"{what}, program over library: {statistics.median(values):.2f}")
    print(f"memory of the program: {run_program(options.tokenizer, jsonl, os.path.join(folder, 'watched'), True)[2]:.0f} MiB")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
