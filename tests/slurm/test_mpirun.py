"""test_mpirun.py SOURCE BIN: tools/slurm/train-mpirun.sh with a tiny model. Exit status 0, 1, or 77 without MPI."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import support
from support import STEPS

PROCESSES = 2


class MpirunRuns(support.Runs):
    def start(self, output, *options):
        """The script, its output in <output>.out."""
        command = [f"{self.source}/tools/slurm/train-mpirun.sh", *options, str(PROCESSES), *self.train_options(output)]
        with open(f"{self.folder}/{output}.out", "ab") as out:
            return subprocess.Popen(command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def wait_for_checkpoint(self, output, script):
        support.wait_until(f"a checkpoint of {output}", lambda: self.checkpoints(output) or script.poll() is not None)
        assert script.poll() is None, f"ended by itself: {self.log(f'{output}.out')}"

    def expect_status(self, output, script, status):
        assert script.wait(120) == status, f"status {script.returncode}: {self.log(f'{output}.out')}"

    def a_process_of(self, output):
        """Returns a rank of the run: its arguments name the output."""
        found = support.wait_until("a process of the run", lambda: [
            int(name) for name in os.listdir("/proc") if name.isdigit() and self.is_trainer(name, output)])
        return max(found)

    def is_trainer(self, process, output):
        try:
            words = support.read_bytes(f"/proc/{process}/cmdline").decode().split("\0")
        except OSError:
            return False  # has ended
        return words[0].endswith("/depthroute-train") and f"output={self.folder}/{output}" in words


def check_all(runs, scripts):
    def started(*words):
        scripts.append(runs.start(*words))
        return scripts[-1]

    script = started("undisturbed")
    runs.expect_status("undisturbed", script, 0)

    # The script is signalled: status 3, also with --restart; the same command resumes.
    script = started("stopped", "--restart")
    runs.wait_for_checkpoint("stopped", script)
    script.send_signal(signal.SIGTERM)
    runs.expect_status("stopped", script, 3)
    script = started("stopped")
    runs.expect_status("stopped", script, 0)
    assert "resuming after step" in runs.log("stopped.out"), runs.log("stopped.out")
    runs.expect_same_run("undisturbed", "stopped")

    # One rank is signalled: all stop, and --restart resumes.
    script = started("restarted", "--restart")
    runs.wait_for_checkpoint("restarted", script)
    os.kill(runs.a_process_of("restarted"), signal.SIGUSR1)
    runs.expect_status("restarted", script, 0)
    log = runs.log("restarted.out")
    stopped = re.search(r"interrupted at step (\d+), starting again", log)
    assert stopped and int(stopped[1]) < STEPS and f"resuming after step {stopped[1]} " in log, log
    runs.expect_same_run("undisturbed", "restarted")

    for words in ([], ["2"], ["two", "c.yaml"], ["2", "--set"]):
        result = runs.run(f"{runs.source}/tools/slurm/train-mpirun.sh", *words, check=False)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, f"{words}: {result.returncode}: {result.stderr}"


def main():
    source, bin_folder = (os.path.realpath(path) for path in sys.argv[1:3])
    if not shutil.which("mpirun") or not support.has_mpi(bin_folder):
        print("SKIPPED: no mpirun, or depthroute was built without MPI")
        return 77
    folder = os.path.realpath(tempfile.mkdtemp(prefix="depthroute_mpirun_"))
    scripts = []
    try:
        check_all(MpirunRuns(source, bin_folder, folder, dict(os.environ, TMPDIR=folder)), scripts)
        print("train-mpirun.sh: stopped, gone on, started again by itself: the same bits")
        return 0
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        print(f"FAILED: {type(error).__name__}: {error}")
        return 1
    finally:
        for script in scripts:
            if script.poll() is None:
                script.terminate()
                try:
                    script.wait(20)
                except subprocess.TimeoutExpired:
                    script.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
