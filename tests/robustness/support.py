"""Shared by the robustness tests: tiny data and a tiny model, running the programs, and comparing results."""
import ctypes
import ctypes.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

STEPS, EVERY = 15, 5
BATCHES = 4  # of an evaluation; two parts have two each
LAST, NEWEST, EARLIER = (f"step_{step:08d}" for step in (15, 10, 5))
# One thread each: other tests run at the same time.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "LC_ALL": "C.UTF-8"}
# Seconds after which a program counts as hung.
TIMEOUT = 120


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def write_text(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def put_copy(source, target):
    """Replaces `target` by a copy of `source`, file or folder; removes it if `source` is None."""
    remove(target)
    if source is not None and os.path.isdir(source):
        shutil.copytree(source, target, symlinks=True)
    elif source is not None:
        shutil.copyfile(source, target)


def tree(folder):
    """Every file below by its relative path: bytes, or the target of a link."""
    found = {}
    for base, folders, files in os.walk(folder):
        for name in files + [name for name in folders if os.path.islink(os.path.join(base, name))]:
            path = os.path.join(base, name)
            found[os.path.relpath(path, folder)] = os.readlink(path) if os.path.islink(path) else read_bytes(path)
    return found


def files_below(folder):
    return sorted(os.path.join(base, name) for base, _, names in os.walk(folder) for name in names)


def batch_of(unit):
    """The batch in the name of a unit file."""
    return int(os.path.basename(unit).split("_")[1])


def unfinished_below(folder):
    return sorted(os.path.join(base, name) for base, folders, files in os.walk(folder)
                  for name in folders + files if ".tmp-" in name)


def words_of(seed, count):
    """Text of `count` words."""
    chosen = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    known = ["".join(chosen.choice(letters) for _ in range(chosen.randint(2, 9))) for _ in range(300)]
    return " ".join(chosen.choice(known) for _ in range(count))


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


class Checksums:
    """XXH3-128 from the system's library, so that manifests are not checked by the code that wrote them."""

    def __init__(self):
        name = ctypes.util.find_library("xxhash")
        assert name, "libxxhash is not installed"
        self.function = ctypes.CDLL(name).XXH3_128bits
        self.function.restype, self.function.argtypes = Hash128, [ctypes.c_char_p, ctypes.c_size_t]

    def of(self, content):
        value = self.function(content, len(content))
        return f"{value.high:016x}{value.low:016x}"


class Ended:
    """How a program ended."""

    def __init__(self, status, out, err, hung=False):
        self.status, self.out, self.err, self.hung = status, out, err, hung

    def crashed(self):
        """Returns why the end was not orderly, or ""."""
        if self.hung:
            return f"hung for {TIMEOUT} s"
        if self.status < 0:
            return f"died of signal {-self.status}"
        for mark in ("Sanitizer", "runtime error:", "terminate called"):
            if mark in self.err:
                return f"ended with {mark!r}"
        return "" if self.status in (0, 1, 2, 3) else f"ended with status {self.status}"

    def __str__(self):
        return f"status {self.status}; it said: {self.err.strip()[-400:] or '(nothing)'}"


class Work:
    """A folder with data and configurations. `output` is where the trainer writes, `results` the file of the evaluation."""

    def __init__(self, folder, bin_folder):
        self.folder, self.bin = folder, os.path.abspath(bin_folder)
        self.place = f"{folder}/place"  # everything a program writes is below
        self.output, self.results = f"{self.place}/run", f"{self.place}/results.h5"
        self.units = f"{self.results}.units"
        self.kept = f"{folder}/kept"  # states to come back to
        self.checksums = Checksums()
        for made in (self.place, self.kept):
            os.mkdir(made)
        write_text(f"{folder}/text", words_of(1, 2000))
        self.must("depthroute-tokenize", f"{folder}/text", "--output", f"{folder}/shards", "--val-fraction", "0.1",
                  "--shard-tokens", "4000")
        write_text(f"{folder}/train.yaml", f"""
seed: 7
output: {self.output}
device: cpu
deterministic: true
model: {{vocab_size: 256, hidden_size: 16, num_layers: 2, num_heads: 2, num_kv_heads: 1, head_dim: 8, intermediate_size: 32,
        rope_theta: 10000, residual: {{variant: cumulative, num_blocks: 2}}}}
data: {{train: ["{folder}/shards/train_*.bin"], val: [{folder}/shards/val.bin], seq_len: 16}}
train: {{steps: {STEPS}, global_batch: 4, micro_batch: 2}}
optimizer: {{lr: 3.0e-3, lr_min: 3.0e-4, warmup: 5}}
validate: {{every: {EVERY}, sequences: 4}}
checkpoint: {{every: {EVERY}, keep: 2}}
distributed: {{shards: 2}}
log: {{every: 1}}
""")
        write_text(f"{folder}/eval.yaml", f"""
output: {self.results}
device: cpu
micro_batch: 2
model: {{from: {self.kept}/run_{STEPS}}}
data: {{shards: [{folder}/shards/val.bin], seq_len: 16, sequences: 8}}
cells: [{{name: first, sources: [0], sublayers: [mlp], intervention: mask}}]
statistics: {{bootstrap: 200}}
""")

    def words(self, program, *arguments):
        return [f"{self.bin}/{program}", *arguments]

    def train_words(self, *more):
        return self.words("depthroute-train", f"{self.folder}/train.yaml", *more)

    def eval_words(self, *more):
        return self.words("depthroute-eval", f"{self.folder}/eval.yaml", *more)

    def run(self, words):
        hung = False
        with subprocess.Popen(words, env=dict(os.environ, **ENVIRONMENT), cwd=self.folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                hung = True
                os.killpg(process.pid, signal.SIGKILL)  # strace's child too
                out, err = process.communicate()
        return Ended(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), hung)

    def must(self, program, *arguments):
        ended = self.run(self.words(program, *arguments))
        assert ended.status == 0, f"{program}, undisturbed: {ended}"
        return ended

    # -- training ------------------------------------------------------------------------------------------------------------

    def make_runs(self):
        """Trains undisturbed and keeps the output as it is after 5, 10 and 15 steps, for `start_from` and comparisons."""
        self.must("depthroute-train", f"{self.folder}/train.yaml", "--set", "checkpoint.keep=0")
        put_copy(self.output, f"{self.kept}/run_{STEPS}_all")
        for step, later in ((10, [15]), (5, [15, 10])):
            for gone in later:
                remove(f"{self.output}/checkpoints/step_{gone:08d}")
            remove(f"{self.output}/checkpoints/latest")
            os.symlink(f"step_{step:08d}", f"{self.output}/checkpoints/latest")
            put_copy(self.output, f"{self.kept}/run_{step}")
        remove(self.output)
        self.must("depthroute-train", f"{self.folder}/train.yaml")
        put_copy(self.output, f"{self.kept}/run_{STEPS}")
        self.final = tree(f"{self.output}/checkpoints/{LAST}")
        self.final_log = self.log()

    def start_from(self, step):
        put_copy(f"{self.kept}/run_{step}" if step else None, self.output)

    def log(self):
        """metrics.jsonl without times."""
        lines = [json.loads(line) for line in read_bytes(f"{self.output}/metrics.jsonl").decode().splitlines()]
        return [{key: value for key, value in line.items() if "second" not in key and "per_s" not in key} for line in lines]

    def damage_of(self, checkpoint):
        """Returns what disagrees with the checkpoint's manifest, or ""."""
        name = os.path.basename(checkpoint)
        try:
            manifest = json.loads(read_bytes(f"{checkpoint}/manifest.json"))
            listed = {entry["path"]: (entry["size"], entry["checksum"]) for entry in manifest["files"]}
            if f"step_{manifest['step']:08d}" != name:
                return f"{name}: its manifest is of step {manifest['step']}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{name}: no readable manifest: {error}"
        there = {path: (len(content), self.checksums.of(content)) for path, content in tree(checkpoint).items()
                 if path != "manifest.json"}
        different = sorted(path for path in listed.keys() | there.keys() if listed.get(path) != there.get(path))
        return f"{name}: {', '.join(different)} not as its manifest says" if different else ""

    def checkpoints(self):
        folder = f"{self.output}/checkpoints"
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return [f"{folder}/{name}" for name in names if name.startswith("step_") and ".tmp-" not in name]

    def broken_checkpoints(self):
        """Returns what under a final name, `latest` included, is not whole."""
        complaints = [damage for damage in map(self.damage_of, self.checkpoints()) if damage]
        latest = f"{self.output}/checkpoints/latest"
        if os.path.lexists(latest) and not os.path.exists(f"{latest}/manifest.json"):
            complaints.append(f"latest points at {os.readlink(latest)}, which is not there")
        return complaints

    def unlike_undisturbed(self):
        """Returns how a finished run differs from the undisturbed one."""
        complaints = self.broken_checkpoints()
        folder = f"{self.output}/checkpoints"
        found = tree(f"{folder}/{LAST}")
        complaints += [f"{LAST}/{path} differs from the undisturbed run's" for path in sorted(found.keys() | self.final.keys())
                       if found.get(path) != self.final.get(path)]
        latest = os.readlink(f"{folder}/latest") if os.path.islink(f"{folder}/latest") else "nothing"
        if latest != LAST:
            complaints.append(f"latest points at {latest}")
        if self.log() != self.final_log:
            complaints.append("metrics.jsonl differs from the undisturbed run's")
        return complaints + [f"left behind: {os.path.relpath(path, self.place)}" for path in unfinished_below(self.place)]

    # -- evaluation ----------------------------------------------------------------------------------------------------------

    def make_results(self):
        """Evaluates undisturbed and keeps the results, and the units by the command that measured them (a unit says which):
        units_plain, units_parts, units_replace. older.h5 are results of the same measurement with other statistics,
        another.h5 those of another measurement."""
        for name, more in (("older", ["--set", "statistics.seed=2"]), ("another", ["--set", "data.sequences=6"])):
            self.must("depthroute-eval", f"{self.folder}/eval.yaml", *more)
            self.keep_results(name)
        self.must("depthroute-eval", f"{self.folder}/eval.yaml", "--replace")
        self.keep_results("replace")
        for index in (0, 1):
            self.must("depthroute-eval", f"{self.folder}/eval.yaml", "--part", f"{index}/2")
        self.keep_results("parts")
        self.must("depthroute-eval", f"{self.folder}/eval.yaml")
        put_copy(self.results, f"{self.kept}/results.h5")
        self.keep_results("plain")

    def keep_results(self, name):
        """Moves results, if there are any, to <name>.h5 in `kept` and the units to units_<name>."""
        if os.path.exists(self.results):
            os.replace(self.results, f"{self.kept}/{name}.h5")
        for path in files_below(self.units):
            if not path.endswith(".h5"):
                remove(path)  # locks
        os.replace(self.units, f"{self.kept}/units_{name}")

    def put_units(self, name, batches=range(BATCHES)):
        """Starts from the kept units of some batches."""
        put_copy(f"{self.kept}/units_{name}", self.units)
        for path in files_below(self.units):
            if batch_of(path) not in batches:
                remove(path)

    def unit_stamps(self):
        """Changes where a unit is written again, even with the same bytes."""
        return {path: (os.stat(path).st_ino, os.stat(path).st_mtime_ns) for path in files_below(self.units)
                if path.endswith(".h5")}

    def written_again(self, stamps):
        now = self.unit_stamps()
        return [f"{os.path.basename(path)} was {'written again' if path in now else 'removed'}"
                for path in sorted(stamps) if now.get(path) != stamps[path]]

    def units_differ(self, name, whole=True):
        """How the units differ from the kept ones; `whole`: all must be there."""
        there = {path: content for path, content in tree(self.units).items() if path.endswith(".h5")}
        kept = tree(f"{self.kept}/units_{name}")
        complaints = [f"unit {path} differs from the undisturbed one" for path in sorted(there)
                      if there[path] != kept.get(path)]
        return complaints + [f"unit {path} is missing" for path in sorted(kept.keys() - there.keys()) if whole]

    def results_differ(self):
        """Every group, dataset and attribute except those that say when and how the file was made."""
        tool = os.path.join(os.path.dirname(__file__), "..", "slurm", "same_results.py")
        ended = self.run([sys.executable, "-B", tool, f"{self.kept}/results.h5", self.results])
        return [] if ended.status == 0 else [f"the results differ: {(ended.out + ended.err).strip()[-400:]}"]


# -- shares and reports ---------------------------------------------------------------------------------------------


def everything():
    """Whether to run everything instead of the day's share."""
    return os.environ.get("DEPTHROUTE_ROBUSTNESS", "") == "all"


def seed():
    return int(os.environ.get("DEPTHROUTE_ROBUSTNESS_SEED", "1"))


class Report:
    """Prints the outcome and writes to `folder` what summary.py adds up."""

    def __init__(self, folder, kind, name):
        self.folder, self.kind, self.name = folder, kind, name
        self.begin = time.monotonic()
        os.makedirs(folder, exist_ok=True)
        self.write({"skipped": "it did not come to its end"})

    def write(self, what):
        write_text(f"{self.folder}/{self.kind}_{self.name}.json", json.dumps(dict(what, kind=self.kind, name=self.name)) + "\n")

    def skip(self, why):
        self.write({"skipped": why})
        print(f"{self.kind} ({self.name}): skipped: {why}")
        sys.exit(77)

    def end(self, done, of, failures, outcomes):
        """`outcomes` counts each kind."""
        self.write({"done": done, "of": of, "failures": len(failures)})
        for failure in failures:
            print(f"FAILED: {failure}")
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        print(f"{self.kind} ({self.name}): {done} of {of}, seed {seed()}, {len(failures)} failures ({told}), "
              f"{time.monotonic() - self.begin:.0f} s")
        sys.exit(1 if failures else 0)
