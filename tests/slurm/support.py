"""Shared by the tests of tools/slurm/: a tiny model, its data, and comparing two runs."""
import glob
import json
import os
import re
import subprocess
import time

STEPS = 1500
TINY = ["deterministic=true", "data.seq_len=48", "model.hidden_size=48", "model.num_layers=3", "model.num_heads=3",
        "model.num_kv_heads=1", "model.head_dim=16", "model.intermediate_size=96", "model.residual.num_blocks=3",
        "train.global_batch=8", "train.micro_batch=1", "optimizer.lr=1e-2", "optimizer.lr_min=1e-3", "optimizer.warmup=10",
        "validate.every=500", "validate.sequences=8", "log.every=1", "checkpoint.every=100", "checkpoint.keep=0"]


def run(words, environment, check=True, **more):
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, **more)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: status {result.returncode}: {result.stderr.strip()}")
    return result


def mpi_settings(source):
    """Settings for several ranks on few cores, from the file that the scripts read too."""
    lines = read_text(f"{source}/tools/mpi_one_machine.env").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def wait_until(what, ready, seconds=120):
    """Polls ready() and returns its result."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ready()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(0.1)


def read_text(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def tensors_below(folder):
    """Bytes by name. A tensor may be split into `name[begin:end]` over several files."""
    parts = {}
    for path in glob.glob(f"{folder}/**/*.safetensors", recursive=True):
        content = read_bytes(path)
        data = 8 + int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8:data]).items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            name, first = re.fullmatch(r"(.*?)(?:\[(\d+):\d+\])?", name).groups()
            parts.setdefault(name, {})[int(first or 0)] = content[data + begin:data + end]
    return {name: b"".join(pieces[first] for first in sorted(pieces)) for name, pieces in parts.items()}


def has_mpi(bin_folder):
    return "libmpi" in run(["ldd", f"{bin_folder}/depthroute-train"], dict(os.environ)).stdout


def sets(values):
    return [word for value in values for word in ("--set", value)]


class Runs:
    """A folder with shards and runs of the tiny model."""

    def __init__(self, source, bin_folder, folder, environment):
        self.source, self.bin, self.folder = source, bin_folder, folder
        self.environment = dict(environment, **mpi_settings(source), OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive",
                                DEPTHROUTE_BIN=bin_folder)
        texts = [f"{source}/{name}" for name in ("LICENSE", "README.md", "train/model/SPEC.md", "eval/SPEC.md")]
        self.run(f"{bin_folder}/depthroute-tokenize", *texts, "--output", f"{folder}/shards", "--val-fraction", "0.25")

    def run(self, *words, environment=None, **more):
        return run(words, dict(self.environment, **(environment or {})), cwd=self.folder, **more)

    def log(self, name):
        """A program's output so far, without the progress of steps."""
        path = f"{self.folder}/{name}"
        lines = read_text(path).splitlines(keepends=True) if os.path.exists(path) else []
        return "".join(line for line in lines if not re.match(r"step \d+/", line))

    def train_options(self, output, steps=STEPS):
        return [f"{self.source}/configs/demo.yaml"] + sets(TINY + [
            f"output={self.folder}/{output}", f"train.steps={steps}", f"data.train=[{self.folder}/shards/train.bin]",
            f"data.val=[{self.folder}/shards/val.bin]"])

    def checkpoints(self, output):
        return glob.glob(f"{self.folder}/{output}/checkpoints/step_*")

    def expect_same_run(self, a, b):
        """Weights and moments bit for bit, whatever files they are spread over; one line per step, the same numbers in it."""
        state = [tensors_below(f"{self.folder}/{run_name}/checkpoints/step_{STEPS:08d}") for run_name in (a, b)]
        assert state[0] and set(state[0]) == set(state[1]), f"other tensors: {set(state[0]) ^ set(state[1])}"
        different = [name for name in state[0] if state[0][name] != state[1][name]]
        assert not different, f"{a} and {b} differ in {different}"
        lines = [self.metrics(run_name) for run_name in (a, b)]
        for run_name, of_run in zip((a, b), lines):
            steps = [line["step"] for line in of_run if "loss" in line]
            assert steps == list(range(1, STEPS + 1)), f"{run_name}/metrics.jsonl has not every step once: {steps}"
        assert lines[0] == lines[1], f"the logs of {a} and {b} differ"

    def metrics(self, run_name):
        lines = [json.loads(line) for line in read_text(f"{self.folder}/{run_name}/metrics.jsonl").splitlines()]
        return [{key: value for key, value in line.items() if "second" not in key and "per_s" not in key} for line in lines]
