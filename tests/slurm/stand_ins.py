"""Stand-ins for Slurm, mpirun and depthroute's programs, so that the scripts of tools/slurm/ run in milliseconds and meet what a
real cluster does once a year. Each is a few lines of bash controlled by environment variables."""
import os
import shutil
import subprocess

import support

STAND_INS = {
    # Prints a file as the job's state; fails without one.
    "scontrol": """
        echo "scontrol $*" >>"$FAKE_CALLS"
        [[ $1 != show ]] || if [[ -e $FAKE_JOB ]]; then cat "$FAKE_JOB"; else echo "scontrol: no answer" >&2; exit 1; fi""",
    "scancel": 'echo "scancel $*" >>"$FAKE_CALLS"',
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "mpirun": """
        echo "mpirun $*" >>"$FAKE_CALLS"
        eval "${FAKE_MPIRUN:-}"
        shift 2
        while [[ $1 == --* ]]; do shift; done
        exec "$@" """,
    "sbatch": 'printf "%s|" "$@" >>"$FAKE_CALLS"; echo >>"$FAKE_CALLS"; eval "$FAKE_SBATCH"',
}
# Prints a configuration on request; otherwise does what FAKE_RUN says: `save 7` writes the checkpoint of step 7.
TRAINER = """
    for word; do
      [[ $word != --print-config ]] || {{ {printer}; exit; }}
    done
    save() {{ mkdir -p -- "$FAKE_OUTPUT/checkpoints/step_$1" && touch -- "$FAKE_OUTPUT/checkpoints/step_$1/manifest.json"; }}
    link() {{ ln -sfn -- "$1" "$FAKE_OUTPUT/checkpoints/latest"; }}
    echo trainer >>"$FAKE_CALLS"
    eval "$FAKE_RUN" """
CONFIGURATION = "seed: 1\noutput: run\ntrain:\n  steps: 100\nvalidate:\n  every: 0\n"


def write_program(path, text):
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o755)) as file:
        file.write(f"#!/usr/bin/env bash\n{text}\n")


class Stage:
    """A folder that serves as the cluster's and the user's; scripts run in its subfolder `work`."""

    def __init__(self, source, folder, trainer=None, scripts="opt/slurm", output="run"):
        """`trainer` prints configurations (default: a fixed one); `scripts` is where the scripts are installed."""
        self.folder, self.work, self.scripts = folder, f"{folder}/work", f"{folder}/{scripts}"
        shutil.copytree(f"{source}/tools/slurm", self.scripts)
        for name in ("work", "stand-ins", "bin", "spool"):
            os.mkdir(f"{folder}/{name}")
        for name, text in STAND_INS.items():
            write_program(f"{folder}/stand-ins/{name}", text)
        with open(f"{folder}/config.txt", "w", encoding="utf-8") as file:
            file.write(CONFIGURATION)
        printer = f'{trainer} "$@"' if trainer else f"cat {folder}/config.txt"
        write_program(f"{folder}/bin/depthroute-train", TRAINER.format(printer=printer))
        write_program(f"{folder}/bin/depthroute-eval", 'printf "%s\\n" "$@"')
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "DEPTHROUTE"))}
        self.environment.update({
            "PATH": f"{folder}/stand-ins:{os.environ['PATH']}", "DEPTHROUTE_BIN": f"{folder}/bin", "FAKE_CALLS": f"{folder}/calls",
            "FAKE_JOB": f"{folder}/job", "FAKE_OUTPUT": output, "FAKE_RUN": "exit 0"})

    def run(self, *words, environment=None, **more):
        """Variables that are None are unset."""
        open(f"{self.folder}/calls", "w", encoding="utf-8").close()
        environment = {name: value for name, value in {**self.environment, **(environment or {})}.items() if value is not None}
        more.setdefault("stdout", subprocess.PIPE)
        words = ("bash", "-c", 'export SCRIPT=$$; exec "$@"', "-", *words)  # stand-ins send signals there
        return subprocess.run(words, env=environment, cwd=self.work, text=True, timeout=60,
                              errors="surrogateescape", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)

    def describe_job(self, command, state="JobState=RUNNING Reason=None", name="job", times=1):
        """Sets what scontrol prints of the job, in Slurm 22.05's form."""
        record = (f"JobId=7 JobName={name}\n   UserId=root(0) GroupId=root(0)\n   {state} Dependency=(null)\n"
                  f"   Network=(null)\n   Command={command}\n   WorkDir={self.work}\n   Power=\n\n")
        with open(f"{self.folder}/job", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(record * times)

    def submit(self, script, *arguments, command=None, state="JobState=RUNNING Reason=None", job=None, environment=None, **more):
        """Runs a copy of the script, as slurmd does. `command` is how the user named it, in the stage's folder, before sbatch went
        to another (--chdir); `job` more words for describe_job."""
        path = command or f"{self.scripts}/{script}"
        self.describe_job(" ".join([path, *arguments]), state, **(job or {}))
        shutil.copy(os.path.join(self.folder, path), f"{self.folder}/spool/slurm_script")
        slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "node0",
                 "SLURM_SUBMIT_DIR": self.folder}
        return self.run(f"{self.folder}/spool/slurm_script", *arguments, environment={**slurm, **(environment or {})}, **more)

    def mpirun(self, *arguments, **more):
        return self.run(f"{self.scripts}/train-mpirun.sh", *arguments, **more)

    def calls(self, program):
        """Returns the calls of a stand-in, one line each."""
        return [line for line in support.read_text(f"{self.folder}/calls").splitlines() if line.startswith(program)]

    def save(self, *names, manifest=True):
        for name in names:
            os.makedirs(f"{self.work}/run/checkpoints/{name}")
            if manifest:
                open(f"{self.work}/run/checkpoints/{name}/manifest.json", "w", encoding="utf-8").close()

    def link(self, target):
        os.makedirs(f"{self.work}/run/checkpoints", exist_ok=True)
        os.symlink(target, f"{self.work}/run/checkpoints/latest")
