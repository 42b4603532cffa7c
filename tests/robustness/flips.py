"""flips.py checkpoint|reading|units BIN RESULTS [ONLY]: damages one file at random (a flipped bit, a page of zeros, a missing or a
surplus end) and expects a program to notice.

checkpoint: a file of the newest checkpoint. The run resumes from the earlier one, says so, and ends with the same bits.
reading:    a file of the checkpoint an evaluation reads. It refuses and names the damaged file.
units:      a unit of an evaluation. A merge refuses and names it; a plain run or its part measures it again to the same bytes, and
            nothing else.

Each attack has a number and depends on it and the seed alone; ONLY repeats one. DEPTHROUTE_ROBUSTNESS=all runs all of them."""
import collections
import json
import os
import random
import sys
import tempfile

from support import BATCHES, EARLIER, NEWEST, Report, Work, batch_of, everything, files_below, put_copy, read_bytes, remove, seed

FULL = {"checkpoint": 300, "reading": 100, "units": 300}
SHARE = {"checkpoint": 14, "reading": 8, "units": 12}
PAGE = 4096


# -- damage: (chosen, bytes) -> bytes, None for a file that is gone ------------------------------------------------------------


def flipped(chosen, content):
    # Half of them near the beginning, where headers are.
    end = len(content) if chosen.random() < 0.5 else min(len(content), PAGE)
    at = chosen.randrange(end)
    return content[:at] + bytes([content[at] ^ 1 << chosen.randrange(8)]) + content[at + 1:]


def overwritten(chosen, content):
    at = chosen.randrange(len(content))
    size = min(chosen.choice([1, 8, 100]), len(content) - at)
    return content[:at] + chosen.randbytes(size) + content[at + size:]


def zeroed(chosen, content):
    at = chosen.randrange(0, len(content), PAGE)
    return content[:at] + bytes(len(content[at:at + PAGE])) + content[at + PAGE:]


def cut(chosen, content):
    return content[:chosen.choice([0, len(content) - 1, chosen.randrange(len(content))])]


def lengthened(chosen, content):
    return content + chosen.choice([b"\0", b"\n", chosen.randbytes(100), content])


def moved_up(chosen, content):
    at = chosen.randrange(len(content))
    return content[:at] + content[at + 1:] + b"\0"


def gone(chosen, content):
    return None


KINDS = [flipped] * 12 + [overwritten, overwritten, zeroed, zeroed, cut, cut, lengthened, moved_up, gone]


def says_the_same(path, content, changed):
    """White space after a manifest is no damage."""
    try:
        return content == changed or path.endswith("manifest.json") and json.loads(content) == json.loads(changed)
    except (TypeError, ValueError):
        return False


def damage(chosen, paths):
    """Damages one of the files, each equally likely, and returns what it did."""
    path = chosen.choice(sorted(paths))
    content = read_bytes(path)
    while True:
        kind = chosen.choice(KINDS)
        changed = kind(chosen, content)
        if not says_the_same(path, content, changed):
            break
    remove(path)
    if changed is not None:
        with open(path, "wb") as file:
            file.write(changed)
    return path, f"{os.path.basename(path)} {kind.__name__}"


def refusal(ended, path):
    """What is wrong with how a program refuses the damaged `path`."""
    if ended.crashed():
        return [f"{ended.crashed()}: {ended}"]
    if ended.status != 2:
        return [f"status {ended.status} instead of 2: {ended}"]
    if path not in ended.err:
        return [f"does not name {path}: {ended}"]
    return [] if ended.err.count("\n") == 1 else [f"not one line: {ended}"]


# -- the attacks: (work, chosen) -> (what was done, outcome, complaints) -------------------------------------------------------


def attack_checkpoint(work, chosen):
    work.start_from(10)
    newest = f"{work.output}/checkpoints/{NEWEST}"
    _, what = damage(chosen, files_below(newest))
    ended = work.run(work.train_words())
    if ended.crashed() or ended.status != 0:
        return what, "failed", [f"{ended.crashed()}: {ended}"]
    outcome = "resumed" if f"after step 10 of {newest}" in ended.out else "fell back" if EARLIER in ended.out else "started over"
    complaints = work.unlike_undisturbed()
    if outcome == "fell back" and newest not in ended.err:
        complaints.append(f"fell back without a warning: {ended}")
    if outcome == "resumed":
        complaints.append(f"resumed from the damaged checkpoint: {ended}")
    if outcome == "started over":
        complaints.append(f"started over although a whole checkpoint is there: {ended}")
    return what, outcome, complaints


def attack_reading(work, chosen):
    folder = f"{work.place}/checkpoint"
    put_copy(f"{work.kept}/run_10/checkpoints/{NEWEST}", folder)
    remove(work.results)
    _, what = damage(chosen, files_below(folder))
    ended = work.run(work.eval_words("--set", f"model.from={folder}"))
    complaints = refusal(ended, folder)
    if os.path.exists(work.results) or os.path.exists(work.units):
        complaints.append("something was written")
    return what, "refused" if ended.status == 2 else "failed", complaints


def attack_units(work, chosen):
    more, units = chosen.choice([([], "plain"), (["--part"], "parts")])
    work.put_units(units)
    remove(work.results)
    path, what = damage(chosen, files_below(work.units))
    there = os.path.exists(path)
    ended = work.run(work.eval_words("--merge", "2"))
    # For a missing unit the message has the number of the part instead of the path.
    complaints = refusal(ended, path if there else work.units)
    if os.path.exists(work.results):
        complaints.append("results were written")
    stamps = {unit: stamp for unit, stamp in work.unit_stamps().items() if unit != path}
    again = work.run(work.eval_words(*more, *[f"{batch_of(path) * 2 // BATCHES}/2" for _ in more]))
    if again.status != 0 or there and f"{path}: is damaged" not in again.err:
        complaints.append(f"measured again: {again}")
    complaints += work.written_again(stamps) + work.units_differ(units)
    if more:
        again = work.run(work.eval_words("--merge", "2"))
        if again.status != 0:
            complaints.append(f"merged: {again}")
    complaints += work.results_differ()
    return f"{what}, then {units}", "refused" if ended.status == 2 else "failed", complaints


def main():
    name, bin_folder, results = sys.argv[1:4]
    report = Report(results, "flips", name)
    attack = {"checkpoint": attack_checkpoint, "reading": attack_reading, "units": attack_units}[name]
    numbers = range(FULL[name] if everything() else SHARE[name])
    if len(sys.argv) > 4:
        numbers = [int(sys.argv[4])]
    with tempfile.TemporaryDirectory() as folder:
        work = Work(os.path.realpath(folder), bin_folder)
        work.make_runs()
        remove(work.output)
        if name == "units":
            work.make_results()
        outcomes, failures = collections.Counter(), []
        for number in numbers:
            what, outcome, complaints = attack(work, random.Random(f"{seed()} {name} {number}"))
            outcomes[outcome] += 1
            if complaints:
                failures.append(f"number {number} ({what}): {'; '.join(complaints)}")
    report.end(len(numbers), FULL[name], failures, outcomes)


main()
