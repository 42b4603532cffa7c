"""test_scripts.py SOURCE BIN [CHECK...]: tools/slurm/ among stand-ins (stand_ins.py), so without Slurm and MPI: whatever names,
links, states and signals they may meet. One line for each check; status 0 or 1."""
import concurrent.futures
import os
import random
import shutil
import subprocess
import sys
import tempfile

import support
from stand_ins import Stage, write_program

SBATCH = ("train.sbatch", "eval-array.sbatch", "eval-merge.sbatch")
ARRAY = {"SLURM_ARRAY_TASK_ID": "1", "DEPTHROUTE_PARTS": "4"}
REQUEUED = ["scontrol requeue 7"]


def expect(what, condition, result):
    assert condition, f"{what}: status {result.returncode}, {result.stdout!r}, {result.stderr!r}"


def expect_refused(what, result, words, status=2):
    """One line that holds `words`."""
    expect(what, result.returncode == status and result.stderr.count("\n") == 1 and words in result.stderr, result)


class Checks:
    """Each check returns the line to print when it passes."""

    def __init__(self, source, bin_folder, folder):
        self.source, self.bin, self.folder = source, bin_folder, folder

    def stage(self, **more):
        return Stage(self.source, tempfile.mkdtemp(dir=self.folder), **more)

    # ---- reading configurations
    def output_of_any_name(self):
        """The program reads a name from YAML and prints it as YAML; the script reads the same folder from that, to the byte."""
        rng = random.Random(8)
        # Three in one path, which takes a third of the time.
        odd = ["-", "--", "~", "$(touch pwned)", "`touch pwned`", "a b  c ", " a", "*", "a?", "'", '"', "\\", "\\x41", "a\\", '"a"', "#",
               "a: b", "null", "[a]", "{a}", "é\u2028\U0001f600", "a\n", "\nsteps: 7\ntrain:\n  steps: 1\n", "\t\x7f\x1b"]
        names = ["-x", "run/", "./.", "../work/up"] + ["/".join(odd[i:i + 3]) for i in range(0, len(odd), 3)]
        parts = ['"', "\\", "\\\\", "\n", "\r", "\t", "\x01", "\x7f", " ", "x0a", "0", "-", "$", "*", "?", "!", "é", "/", "%",
                 "~", "'", ":"]
        names += ["r" + "".join(rng.choice(parts) for _ in range(60)) for _ in range(4)]

        def check(name):
            stage = self.stage(trainer=f"{self.bin}/depthroute-train", output=name)
                # In YAML's quotes.
            quoted = "".join(f"\\x{ord(c):02x}" if c < " " or c in '"\\\x7f' else c for c in name)
            result = stage.submit("train.sbatch", f"{self.source}/configs/demo.yaml", "--set", f'output="{quoted}"',
                                  environment={"FAKE_RUN": "save 00000007; exit 3"})
            expect(repr(name), result.returncode == 3 and stage.calls("scontrol requeue") == REQUEUED, result)
            expect(repr(name), "interrupted at step 7, back into the queue" in result.stdout, result)
            expect(repr(name) + " is one line", result.stdout.count("\n") == 2 and not result.stderr, result)
            made = {os.path.join(at, file) for at, _, files in os.walk(stage.work.encode()) for file in files}
            want = os.path.normpath(os.path.join(stage.work.encode(), os.fsencode(name)))
            assert made == {want + b"/checkpoints/step_00000007/manifest.json"}, f"{name!r}: also {made}"

        for name in names:
            check(name)
        stage = self.stage(trainer=f"{self.bin}/depthroute-train")
        result = stage.submit("train.sbatch", f"{self.source}/configs/demo.yaml", "--set", 'output="a\\0b"')
        expect_refused("a NUL", result, "NUL")
        assert os.listdir(stage.work) == [], "something was written"
        return f"{len(names)} names"

    def no_configuration(self):
        stage = self.stage(trainer=f"{self.bin}/depthroute-train")
        for option in ("--help", "--dry-run"):
            for result in (stage.submit("train.sbatch", f"{self.source}/configs/demo.yaml", option),
                           stage.mpirun("2", f"{self.source}/configs/demo.yaml", option)):
                expect_refused(option, result, "depthroute-train")
                assert not stage.calls("trainer"), "something was started"
        return "refused before anything is started"

    # ---- finding files
    def own_folder(self):
        """The script finds its folder whatever its path, its arguments and Slurm's output."""
        odd = ["output=/x/train.sbatch", "/x/eval-array.sbatch", "Command=/x/eval-merge.sbatch", "a\n   Command=/x/train.sbatch y",
               "a  b"]
        count = 0
        for scripts in ("opt/slurm", "opt/my  scripts/x train.sbatch y", "opt/-d/$(touch pwned)"):
            stage = self.stage(scripts=scripts)
            os.symlink(f"{stage.scripts}/train.sbatch", f"{stage.folder}/link to it")
            os.symlink(stage.scripts, f"{stage.folder}/folder")
            for script in SBATCH:
                shutil.copy(f"{stage.scripts}/{script}", f"{stage.scripts}/{script} copy")
                commands = [f"{stage.scripts}/{script}", f"./{scripts}/{script}", f"spool/../folder/{script}",
                            f"{stage.scripts}/{script} copy"]
                for command in commands + ["link to it"] * (script == SBATCH[0]):
                    arguments = ["4"] * (script == SBATCH[2]) + ["c.yaml", *odd]
                    environment = {**ARRAY, "FAKE_RUN": "save 00000100"}
                    result = stage.submit(script, *arguments, command=command, environment=environment)
                    expect(f"{command} in {scripts}", result.returncode == 0 and not result.stderr, result)
                    shutil.rmtree(f"{stage.work}/run", ignore_errors=True)
                    count += 1
        result = stage.submit("eval-array.sbatch", "c.yaml", environment=ARRAY, job={"times": 3000})  # all tasks of an array
        expect("an array of 3000 tasks", result.returncode == 0 and "1/4" in result.stdout, result)
        result = stage.submit("train.sbatch", "c.yaml", job={"name": "Command=/x/train.sbatch"},
                              environment={"FAKE_RUN": "save 00000100"})
        expect("a job's name", result.returncode == 0, result)
        for script in SBATCH:
            shutil.copy(f"{stage.scripts}/{script}", f"{stage.folder}/{script}")
            expect_refused("alone", stage.submit(script, "4", "c.yaml", command=script), "common.sh")
            expect_refused("no job", stage.run(f"{stage.scripts}/{script}", "4", "c.yaml"), "sbatch")
        return f"{count} ways to name them"

    def programs(self):
        """DEPTHROUTE_BIN, CDPATH, a link to a script, DEPTHROUTE_MPIRUN_OPTIONS."""
        stage = self.stage()
        os.symlink(f"{stage.scripts}/train-mpirun.sh", f"{stage.work}/start it")
        os.makedirs(f"{stage.folder}/cd/bin")
        os.symlink(f"{stage.folder}/bin", f"{stage.work}/bin")
        for relative in ("bin", "./bin", "../bin/"):
            for script in ("./start it", "../opt/slurm/train-mpirun.sh"):
                result = stage.run(script, "2", "c.yaml", environment={"CDPATH": f"{stage.folder}/cd", "DEPTHROUTE_BIN": relative})
                expect(f"{script}, programs in {relative}", result.returncode == 0 and not result.stderr, result)
        for missing in ("-", "/nothing", "cd"):
            result = stage.mpirun("2", "c.yaml", environment={"DEPTHROUTE_BIN": missing})
            expect_refused(missing, result, "no program depthroute-train")
        stage.mpirun("2", "c.yaml", environment={"DEPTHROUTE_MPIRUN_OPTIONS": "--a\n--b  --c *"})
        call, = stage.calls("mpirun")
        assert call.startswith("mpirun -n 2 --a --b --c * /"), call
        return "found"

    def setup_file(self):
        """DEPTHROUTE_SETUP does not see the script's arguments, and need not work under `set -u`."""
        stage = self.stage()
        write_program(f"{stage.work}/setup.sh",
                      'echo "arguments: $# $UNKNOWN"; set -- x y z; set +e; false; export FAKE_RUN="save 00000100"')
        write_program(f"{stage.folder}/stand-ins/setup.sh", "exit 9")  # bash looks in PATH first
        for script in SBATCH:
            result = stage.submit(script, *["4"] * (script == SBATCH[2]), "c.yaml",
                                  environment={**ARRAY, "DEPTHROUTE_SETUP": "setup.sh"})
            expect(script, result.returncode == 0 and "arguments: 0 \n" in result.stdout and not result.stderr, result)
            for missing in ("nothing.sh", "."):
                expect_refused(script, stage.submit(script, "4", "c.yaml", environment={**ARRAY, "DEPTHROUTE_SETUP": missing}),
                               "DEPTHROUTE_SETUP")
        return "sourced without arguments"

    # ---- checkpoints
    def newest_step(self):
        """Taken from the folders that have a manifest, whatever `latest` names."""
        whole, cases = "step_00000010", []
        for link in (None, whole, "step_00000007", "step_00000099", "/nowhere", "step_", "step_0x10", "step_-00000001", "-n",
                     "step_00000010/", "x[$(touch pwned)]", "step_a[$(touch pwned)]", "../checkpoints/step_00000010"):
            cases.append(([whole, "step_00000002"], [], link, 10))
        for folders, without_manifest, step in (
                ([], [], 0), ([], [whole], 0), ([whole], ["step_00000099"], 10), (["step_00000008", "step_00000009"], [], 9),
                (["step_99999999", "step_100000000"], [], 100000000), (["step_123456789012345"], [], 123456789012345),
                ([whole, "step_00000011.tmp-42", "step_11", "step_0000001a", "step_1234567890123456", "step_00000011 "], [], 10)):
            cases.append((folders, without_manifest, None, step))
        for folders, without_manifest, link, step in cases:
            stage = self.stage()
            stage.save(*folders)
            stage.save(*without_manifest, manifest=False)
            if link:
                stage.link(link)
            result = stage.submit("train.sbatch", "c.yaml", environment={"FAKE_RUN": "exit 7"})
            expect(f"{folders}, {link}", f"run is at step {step}\n" in result.stdout and result.returncode == 7, result)
            assert os.listdir(stage.work) in ([], ["run"]), f"{link}: {os.listdir(stage.work)}"
        return f"{len(cases)} folders"

    def end_of_training(self):
        """Exit statuses of the program, and what the folder then holds."""
        for run, status, words in (("save 00000100", 0, "done"), ("save 00000101", 0, "done"), ("", 1, "srun returned 0"),
                                   ("save 00000099; link step_00000100", 1, "at step 99 of 100"), ("exit 1", 1, "status 1"),
                                   ("exit 2", 2, "status 2"), ("kill -KILL $$", 137, "status 137"),
                                   ("kill -SEGV $$", 139, "status 139"), ("kill -TERM $$", 143, "status 143")):
            stage = self.stage()
            os.makedirs(f"{stage.work}/run")
            with open(f"{stage.work}/run/stalled_restarts", "w", encoding="utf-8") as file:
                file.write("2\n")
            result = stage.submit("train.sbatch", "c.yaml", environment={"FAKE_RUN": run, "SLURM_RESTART_COUNT": "1"})
            expect(run, result.returncode == status and words in result.stdout + result.stderr, result)
            assert not stage.calls("scontrol requeue"), run
            assert os.path.exists(f"{stage.work}/run/stalled_restarts") == (status != 0), run
            if "00000100" in run and status == 0 or not run:
                continue
            result = stage.mpirun("--restart", "2", "c.yaml", environment={"FAKE_RUN": run})
            expect(run, result.returncode == (0 if "save" in run else status), result)
        return "passed on"

    def restarts_with_progress(self):
        """A new checkpoint is progress, whatever stale or damaged files lie beside it."""
        link = "link step_00000060"
        for before, at, run, progress in (
                (["step_00000050"], "step_00000050", f"save 00000060; {link}", True),
                (["step_00000050"], "step_00000050", "save 00000060", True),  # killed before it made the link
                (["step_00000050", "step_00000060"], "step_00000050", link, False),  # it only mends the link
                (["step_00000050"], "step_00000040", "link step_00000050", False),
                (["step_00000050"], None, "link step_00000050", False),
                (["step_00000050", "step_00000070"], "step_00000070", f"save 00000060; {link}", True),  # 70 is damaged
                (["step_00000050"], "step_00000050", f"save 00000060; {link}; rm -r run/checkpoints/step_00000050", True),
                (["step_00000050"], "step_00000050", "rm -r run/checkpoints/step_00000050", False),
                (["step_99999999"], None, "save 100000000", True), (["step_00000100"], None, "save 00000099", True),
                ([], None, "mkdir -p run/checkpoints/step_00000001", False), ([], None, "true", False)):
            stage = self.stage()
            stage.save(*before)
            if at:
                stage.link(at)
            result = stage.submit("train.sbatch", "c.yaml", environment={"FAKE_RUN": f"{run}; exit 3"})
            expect(f"{before}, {run}", result.returncode == 3 and stage.calls("scontrol requeue") == REQUEUED, result)
            assert os.path.exists(f"{stage.work}/run/stalled_restarts") != progress, f"{before}, {run}: progress is {not progress}"
        return "told from the folders"

    def restarts_without_progress(self):
        stage = self.stage()
        count = f"{stage.work}/run/stalled_restarts"
        stage.save("step_00000050")

        def start(limit, restarts="1"):
            return stage.submit("train.sbatch", "c.yaml", environment={
                "FAKE_RUN": "exit 3", "DEPTHROUTE_STALLED_RESTARTS": limit, "SLURM_RESTART_COUNT": restarts})
        for limit in ("0", "1", "2", "3"):
            for number in range(int(limit)):
                result = start(limit, str(number))
                expect(f"limit {limit}", result.returncode == 3 and stage.calls("scontrol requeue") == REQUEUED, result)
                assert support.read_text(count) == f"{number + 1}\n"
            result = start(limit)
            expect_refused(f"limit {limit}", result, "no checkpoint newer than step 50 of run", status=1)
            assert os.listdir(f"{stage.work}/run") == ["checkpoints"] and not stage.calls("scontrol requeue")
        for garbage in ("x", "-1", "08", "1.5", "9999999", "a[$(touch pwned)]", " ", "PATH", "1\n2"):
            for result in (start(garbage), stage.mpirun("2", "c.yaml", environment={"DEPTHROUTE_STALLED_RESTARTS": garbage})):
                expect_refused(garbage, result, "DEPTHROUTE_STALLED_RESTARTS")
                assert not stage.calls("trainer"), garbage
        # Whatever the file holds; a new job starts over.
        for content, restarts, after in (("", 1, 1), ("x", 1, 1), ("a[$(touch pwned)]", 1, 1), ("-9", 1, 1), ("08", 1, 1),
                                         ("1", 1, 2), ("1 \nx", 1, 2), ("\0\0", 1, 1), ("9" * 100000, 1, 1), ("2", 0, 1)):
            with open(count, "w", encoding="utf-8") as file:
                file.write(content)
            expect(content[:20], start("3", str(restarts)).returncode == 3, result)
            assert support.read_text(count) == f"{after}\n", content[:20]
            assert sorted(os.listdir(f"{stage.work}/run")) == ["checkpoints", "stalled_restarts"]
        os.remove(count)
        os.mkdir(count)  # it cannot be counted, so it could go on for ever
        expect_refused("a folder", start("3"), "stalled_restarts", status=1)
        assert os.listdir(stage.work) == ["run"] and sorted(os.listdir(f"{stage.work}/run")) == ["checkpoints", "stalled_restarts"]
        result = stage.mpirun("--restart", "2", "c.yaml", environment={"FAKE_RUN": "exit 3", "DEPTHROUTE_STALLED_RESTARTS": "2",
                                                                      "FAKE_OUTPUT": "run"})
        expect("mpirun", result.returncode == 1, result)
        os.rmdir(count)
        result = stage.mpirun("--restart", "2", "c.yaml", environment={"FAKE_RUN": "exit 3", "DEPTHROUTE_STALLED_RESTARTS": "2"})
        expect("mpirun", result.returncode == 1 and "newer than step 50" in result.stderr, result)
        assert len(stage.calls("trainer")) == 3
        return "counted, whatever the file holds"

    # ---- Slurm's states, and signals
    def state_of_the_job(self):
        running, cancelled = "JobState=RUNNING Reason=None", "JobState=CANCELLED Reason=None"
        run = {"FAKE_RUN": "save 00000060; exit 3"}
        for state, argument, queued in (
                (running, "x", True), ("JobState=COMPLETING Reason=TimeLimit", "x", True), (running, "JobState=CANCELLED", True),
                (cancelled, "x", False), (cancelled, "output=JobState=RUNNING", False), (cancelled, "Reason=TimeLimit", False),
                (cancelled, "a\n   JobState=RUNNING Reason=None", False), ("JobState=PREEMPTED Reason=None", "x", False)):
            stage = self.stage()
            result = stage.submit("train.sbatch", "c.yaml", argument, state=state, environment=run)
            expect(f"{state}, {argument}", result.returncode == 3 and not result.stderr, result)
            assert stage.calls("scontrol requeue") == REQUEUED * queued, f"{state}, {argument}"
            assert queued or f"not queued again: {state}" in result.stdout, result.stdout
        result = stage.submit("train.sbatch", "c.yaml", environment={"FAKE_RUN": "save 00000070; rm $FAKE_JOB; exit 3"})
        expect("no answer", result.returncode == 3 and "submit it again" in result.stderr, result)
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = stage.submit("train.sbatch", "c.yaml", environment={"FAKE_RUN": "save 00000080; exit 3"}, stdout=full)
        expect("a full disk for the log", result.returncode == 3 and stage.calls("scontrol requeue") == REQUEUED, result)
        return "told from Slurm's own line alone"

    def signals_of_slurm(self):
        """A signal before the program listens: it is not started, or killed; nothing is lost, so the job resumes."""
        stage = self.stage()
        for setup, run, started in (("kill -TERM $$", "exit 9", False), ("kill -USR1 $$", "exit 9", False),
                                    ("", "kill -USR1 $$", True), (":", 'kill -TERM "$SCRIPT"; kill -TERM $$', True)):
            write_program(f"{stage.work}/setup.sh", setup)
            result = stage.submit("train.sbatch", "c.yaml", environment={"FAKE_RUN": run, "DEPTHROUTE_SETUP": "setup.sh"})
            expect(f"{setup}, {run}", result.returncode == 3 and stage.calls("scontrol requeue") == REQUEUED, result)
            assert bool(stage.calls("trainer")) == started, f"{setup}: started"
        run = 'trap "save 00000060; exit 3" USR1; kill -TERM "$SCRIPT"; while :; do :; done'
        write_program(f"{stage.folder}/stand-ins/scancel", 'kill -USR1 "$(<"$FAKE_OUTPUT/pid")"')
        result = stage.submit("train.sbatch", "c.yaml", environment={
            "DEPTHROUTE_SETUP": "setup.sh", "FAKE_RUN": f"mkdir -p run; echo $$ >run/pid; {run}"})
        expect("SIGTERM", result.returncode == 3 and "interrupted at step 60" in result.stdout, result)
        return "the job goes on"

    def signals_of_mpirun(self):
        """A signalled script stops, even between two starts, with status 3."""
        progress = {"FAKE_RUN": "save 00000060; exit 3"}
        for name in ("TERM", "USR1", "INT", "HUP"):
            stage = self.stage()
            # While mpirun starts, the signal kills it; or it arrives as the run ends, when bash could lose the status.
            kill = f'kill -{name} "$SCRIPT"'
            for mpirun in [f"{kill}; while :; do :; done"] + [f"{kill}; exit 3"] * 6:
                result = stage.mpirun("--restart", "2", "c.yaml", environment={"FAKE_MPIRUN": f"trap - USR1; {mpirun}"})
                expect(f"{name}, {mpirun}", result.returncode == 3 and len(stage.calls("mpirun")) == 1, result)
            # Between two starts.
            write_program(f"{stage.folder}/stand-ins/mv", f'{kill}; exec {shutil.which("mv")} "$@"')
            result = stage.mpirun("--restart", "2", "c.yaml", environment={"FAKE_RUN": "exit 3"})
            expect(f"{name} between", result.returncode == 3 and len(stage.calls("mpirun")) == 1, result)
        result = stage.mpirun("2", "c.yaml", environment=progress)
        expect("no --restart", result.returncode == 3 and len(stage.calls("mpirun")) == 1, result)
        return "stopped"

    def tasks(self):
        """Slurm tells the number of tasks only if sbatch was told."""
        stage = self.stage()
        for environment, words in (({}, "1 tasks"), ({"SLURM_JOB_NUM_NODES": "3"}, "3 tasks"),
                                   ({"SLURM_NTASKS": "16"}, "16 tasks")):
            environment = {"SLURM_NTASKS": None, **environment}
            result = stage.submit("train.sbatch", "c.yaml", environment={"FAKE_RUN": "save 00000100", **environment})
            expect(words, result.returncode == 0 and words in result.stdout, result)
        write_program(f"{stage.folder}/stand-ins/srun", "echo srun")
        for environment, several in (({}, False), ({"SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}, False),
                                     ({"SLURM_JOB_NUM_NODES": "2"}, True), ({"SLURM_NTASKS": "8"}, True)):
            environment = {"SLURM_NTASKS": None, **environment}
            result = stage.submit("eval-array.sbatch", "c.yaml", environment={**ARRAY, **environment})
            expect(environment, result.returncode == 0 and ("srun\n" in result.stdout) == several, result)
        return "counted"

    def submitting_an_evaluation(self):
        stage = self.stage()
        open(f"{stage.work}/c.yaml", "w", encoding="utf-8").close()
        script, ids = f"{stage.scripts}/submit-eval.sh", 'echo "4$(wc -l <"$FAKE_CALLS");cluster"'
        os.symlink(script, f"{stage.work}/submit")
        result = stage.run("./submit", "--only", "08,2-3", "c.yaml", "9", "--time=1", "--", "--set", "output=a b",
                           environment={"FAKE_SBATCH": ids, "CDPATH": "/"})
        expect("both", (result.returncode, result.stdout, result.stderr) == (0, "parts: 41\nmerge: 42\n", ""), result)
        array, merge = support.read_text(f"{stage.folder}/calls").splitlines()
        assert array.endswith(f"|--array=08,2-3|{stage.scripts}/eval-array.sbatch|c.yaml|--set|output=a b|"), array
        assert f"|--dependency=afterok:41|--kill-on-invalid-dep=yes|{stage.scripts}/eval-merge.sbatch|9|c.yaml|" in merge, merge
        result = stage.run(script, "c.yaml", "9", environment={"FAKE_SBATCH": f'[[ $* == *array=* ]] || exit 1; {ids}'})
        expect("the second is refused", (result.returncode, result.stdout) == (1, "parts: 41\n") and "merge" in result.stderr, result)
        for words in (["--only", "9", "c.yaml", "9"], ["--only", "9" * 30, "c.yaml", "9"], ["--only", "x", "c.yaml", "9"],
                      ["--only", "3-1", "c.yaml", "9"], ["-c", "9"], ["c.yaml", "0"], ["c.yaml", "a[$(touch pwned)]"],
                      ["nothing", "9"]):
            expect_refused(words, stage.run(script, *words, environment={"FAKE_SBATCH": ids}), "")
            assert support.read_text(f"{stage.folder}/calls") == "" and not os.path.exists(f"{stage.work}/pwned"), words
        return "both jobs, or a word about the first"

    def shellcheck(self):
        program = shutil.which("shellcheck")
        if not program:
            return "SKIPPED: not installed"
        scripts = [f"{self.source}/tools/slurm/{name}" for name in os.listdir(f"{self.source}/tools/slurm")
                   if not name.endswith(".md")]
        result = subprocess.run([program, "-x", *scripts], capture_output=True, text=True, check=False)
        expect("shellcheck", result.returncode == 0, result)
        return f"content with {len(scripts)} scripts"


def main():
    folder = os.path.realpath(tempfile.mkdtemp(prefix="depthroute_scripts_"))
    checks = Checks(os.path.realpath(sys.argv[1]), os.path.realpath(sys.argv[2]), folder)
    wanted = sys.argv[3:] or [name for name in vars(Checks) if not name.startswith("_") and name != "stage"]
    failed = 0
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            running = {pool.submit(getattr(checks, name)): name for name in wanted}
            for done in concurrent.futures.as_completed(running):
                try:
                    print(f"passed  {running[done]}: {done.result()}", flush=True)
                except (AssertionError, OSError, subprocess.SubprocessError) as error:
                    failed += 1
                    print(f"FAILED  {running[done]}: {type(error).__name__}: {error}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(wanted) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
