"""kills.py trainer|evaluation|tokenizer BIN RESULTS [ONLY]: kills a program at a system call that writes to its output, inspects what
is left, and starts it again; the end must be that of an undisturbed run.

An undisturbed run under strace counts the calls; then there is one run per kill. strace counts calls by name and thread and hits
the first thread that makes its n-th one. Calls that only a later thread makes are reached from another start (a resumed run).
DEPTHROUTE_ROBUSTNESS=all kills at every call; otherwise a share is drawn, evenly over the names. ONLY repeats one kill:
'from 5 steps: rename 3'."""
import collections
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

from support import BATCHES, Report, Work, everything, put_copy, read_bytes, remove, seed, tree, unfinished_below, words_of, write_text

SHARE = {"trainer": 14, "evaluation": 10, "tokenizer": 12}
# Calls that change something. Opening counts if it may create or write.
CALLS = ["open", "openat", "creat", "write", "pwrite64", "writev", "pwritev", "ftruncate", "truncate", "fallocate", "fsync",
         "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "mkdir", "mkdirat", "unlink",
         "unlinkat", "rmdir", "flock", "copy_file_range", "sendfile"]
Scenario = collections.namedtuple("Scenario", "name prepare words after_kill finish")
Kill = collections.namedtuple("Kill", "scenario call count")


def strace(words, *options):
    return ["strace", "-f", "-qq", "-y", "-s", "0", "-e", "signal=none", *options, *words]


def kills_of(work, scenario):
    """Every (call, count) at which strace can kill the program while it touches its output."""
    trace = f"{work.folder}/trace"
    scenario.prepare()
    ended = work.run(strace(scenario.words, "-o", trace, "-e", "trace=" + ",".join("?" + call for call in CALLS)))
    assert ended.status == 0, f"{scenario.name}, under strace: {ended}"
    counts, hit, kills = collections.Counter(), set(), []
    touches = re.compile(r'[<"]' + re.escape(work.place) + "/")
    for line in read_bytes(trace).decode("utf-8", "replace").splitlines():
        entered = re.match(r"(\d+) +(\w+)\(", line)
        if not entered:
            continue  # the second half of a call that another thread interrupted
        thread, call = entered.groups()
        counts[thread, call] += 1
        first = (call, counts[thread, call]) not in hit
        hit.add((call, counts[thread, call]))
        reads = call.startswith("open") and not re.search("O_(WRONLY|RDWR|CREAT|TRUNC)", line)
        if first and not reads and touches.search(line):
            kills.append(Kill(scenario, call, counts[thread, call]))
    return kills


def drawn(kills, share):
    """Draws `share` of them, in turn from each kind of call."""
    chosen = random.Random(seed())
    by_call = {}
    for kill in kills:
        by_call.setdefault(kill.call, []).append(kill)
    for of_call in by_call.values():
        chosen.shuffle(of_call)
    turns = [kill for row in range(len(kills)) for of_call in by_call.values() for kill in of_call[row:row + 1]]
    return turns[:share]


def try_kill(work, kill):
    """(outcome, complaints)"""
    scenario = kill.scenario
    scenario.prepare()
    ended = work.run(strace(scenario.words, "-o", f"{work.folder}/trace", "-e", f"trace={kill.call}",
                            "-e", f"inject={kill.call}:signal=SIGKILL:when={kill.count}"))
    if ended.status == 0:
        return "ended before their call", scenario.after_kill() + scenario.finish()
    if ended.status != -9 or ended.hung:
        return "ended otherwise", [f"instead of being killed: {ended}"]
    complaints = scenario.after_kill()
    return "killed", [f"when killed: {complaint}" for complaint in complaints] + scenario.finish()


# -- the programs ------------------------------------------------------------------------------------------------------------


def trainer(work):
    work.make_runs()

    def finish():
        ended = work.run(work.train_words())
        return work.unlike_undisturbed() if ended.status == 0 else [f"started again: {ended}"]

    return [Scenario(f"from {step} steps", lambda step=step: work.start_from(step), work.train_words(),
                     work.broken_checkpoints, finish) for step in (0, 5, 10)]


def evaluation(work):
    work.make_runs()
    remove(work.output)
    work.make_results()
    older, another = f"{work.kept}/older.h5", f"{work.kept}/another.h5"

    def prepare(results, units, batches):
        for path in os.listdir(work.place):
            remove(f"{work.place}/{path}")
        put_copy(results, work.results)
        if batches:
            work.put_units(units, batches)
            there.update(work.unit_stamps())

    def after_kill(results, units):
        complaints = work.units_differ(units, whole=False) + work.written_again(there)
        if os.path.exists(work.results) and (results is None or read_bytes(work.results) != read_bytes(results)):
            complaints += work.results_differ()
        elif results is not None and not os.path.exists(work.results):
            complaints.append("the earlier results are gone")
        return complaints

    def finish(units, steps):
        stamps = work.unit_stamps()
        complaints = []
        for more in steps:
            if os.path.exists(work.results) and read_bytes(work.results) == read_bytes(another):
                refused = work.run(work.eval_words())
                if refused.status != 2 or "another measurement" not in refused.err:
                    complaints.append(f"would write over another measurement: {refused}")
            ended = work.run(work.eval_words(*more))
            if ended.status != 0:
                return complaints + [f"started again: {ended}"]
        return complaints + work.written_again(stamps) + work.units_differ(units) + work.results_differ() + [
            f"left behind: {os.path.relpath(path, work.place)}" for path in unfinished_below(work.place)]

    def scenario(name, results, units, batches, *steps):
        """`units` names the kept units that the command makes, `batches` those that are there already."""
        def begin():
            there.clear()
            prepare(results, units, batches)

        return Scenario(name, begin, work.eval_words(*steps[0]), lambda: after_kill(results, units),
                        lambda: finish(units, steps))

    there = {}  # stamps of the units a scenario starts from
    merge, part, everywhere = ["--merge", "2"], ["--part", "1/2"], range(BATCHES)
    return [scenario("whole", None, "plain", [], []),
            scenario("going on", None, "plain", [0, 2], []),
            scenario("over other statistics", older, "plain", everywhere, []),
            scenario("over another measurement", another, "replace", [], ["--replace"]),
            scenario("part", None, "parts", [0, 1], part, merge),
            scenario("merge", older, "parts", everywhere, merge)]


def tokenizer(work):
    output = f"{work.place}/shards"
    write_text(f"{work.folder}/older_text", words_of(2, 2500))

    def words(text, shard_tokens):
        return work.words("depthroute-tokenize", f"{work.folder}/{text}", "--output", output, "--shard-tokens", shard_tokens,
                          "--val-fraction", "0.1", "--overwrite")

    def shards():
        """The shards that a pattern would match."""
        return {path: content for path, content in tree(output).items()
                if "/" not in path and path.endswith(".bin") and ".tmp-" not in path}

    def make(name, *arguments):
        assert work.run(words(*arguments)).status == 0
        put_copy(output, f"{work.kept}/{name}")
        return shards()

    older, newer = make("older", "older_text", "3000"), None
    remove(output)
    newer = make("newer", "text", "4000")
    assert older.keys() - newer.keys() and not any(older.get(name) == newer[name] for name in newer)

    def prepare(there):
        remove(output)
        if there:
            put_copy(f"{work.kept}/older", output)
            write_text(f"{output}/notes.txt", "somebody's own")

    def after_kill(there):
        found = shards()
        if found in (newer, older if there else {}):
            return []
        kinds = {name: "new" if newer.get(name) == content else "old" if older.get(name) == content else "broken"
                 for name, content in found.items()}
        return [f"neither the old set nor the new one: {kinds}"]

    def finish(there):
        ended = work.run(words("text", "4000"))
        if ended.status != 0:
            return [f"started again: {ended}"]
        complaints = [] if shards() == newer else ["started again: another set of shards"]
        if there and not os.path.exists(f"{output}/notes.txt"):
            complaints.append("somebody's own file is gone")
        return complaints

    return [Scenario(name, lambda there=there: prepare(there), words("text", "4000"), lambda there=there: after_kill(there),
                     lambda there=there: finish(there)) for name, there in (("into nothing", False), ("over older shards", True))]


def main():
    name, bin_folder, results = sys.argv[1:4]
    only = sys.argv[4] if len(sys.argv) > 4 else None
    report = Report(results, "kills", name)
    if shutil.which("strace") is None:
        report.skip("strace is not installed")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        report.skip(f"tracing is not permitted here ({tried.stderr.strip().splitlines()[-1:]})")
    with tempfile.TemporaryDirectory() as folder:
        work = Work(os.path.realpath(folder), bin_folder)
        scenarios = {"trainer": trainer, "evaluation": evaluation, "tokenizer": tokenizer}[name](work)
        kills = [kill for scenario in scenarios for kill in kills_of(work, scenario)]
        chosen = kills if everything() else drawn(kills, SHARE[name])
        if only:
            chosen = [kill for kill in kills if f"{kill.scenario.name}: {kill.call} {kill.count}" == only]
            assert chosen, f"there is no {only!r}"
        outcomes, failures = collections.Counter(), []
        for kill in chosen:
            outcome, complaints = try_kill(work, kill)
            outcomes[outcome] += 1
            if complaints:
                failures.append(f"{kill.scenario.name}: {kill.call} {kill.count}: {'; '.join(complaints)}")
    report.end(len(chosen), len(kills), failures, outcomes)


main()
