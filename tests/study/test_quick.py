"""tools/study.sh --quick, whole: killed in the middle and started again it ends with the numbers of a run that nobody disturbed.

    DEPTHROUTE_STUDY=all ctest --preset release -R study_quick      a quarter of an hour; needs the packages of tools/setup.sh --study
"""
import json
import os
import select
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SKIPPED = 77


def session_of(leader):
    """Process ids of the session."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat") as file:
                if name.isdigit() and int(file.read().rpartition(")")[2].split()[3]) == leader:
                    found.append(int(name))
        except OSError:
            pass  # ended meanwhile
    return found


def kill_session(leader):
    """SIGKILL to all of them, ninja's jobs too, which have process groups of their own; returns when they are gone."""
    while True:
        waited = []
        for process in session_of(leader):
            try:
                waited.append(os.pidfd_open(process))
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not waited:
            return
        for descriptor in waited:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll()
            os.close(descriptor)
        if set(session_of(leader)) <= {leader}:  # what is left of the leader until it is waited for
            return


def run(folder, programs, killed_after=None):
    study = subprocess.Popen([os.path.join(ROOT, "tools", "study.sh"), "--quick", "--folder", folder, "--bin", programs],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    for line in study.stdout:
        print(line, end="", flush=True)
        if killed_after and killed_after in line:
            kill_session(study.pid)
            break
    study.stdout.close()
    return study.wait()


def numbers(folder):
    """What the verdicts say, without what has to differ: paths, and checksums of files that hold times."""
    with open(os.path.join(folder, "verdicts.json")) as file:
        result = json.load(file)
    for model in result["models"].values():
        for name in ("file", "analysis", "sha256"):
            del model[name]
    return result


def main(programs):
    if os.environ.get("DEPTHROUTE_STUDY") != "all":
        print("skipped: takes a quarter of an hour; DEPTHROUTE_STUDY=all runs it")
        return SKIPPED
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="study-test-", dir=os.path.join(ROOT, "build")) as folder:
        killed, undisturbed = (os.path.join(folder, name) for name in ("killed", "undisturbed"))
        assert run(killed, programs, killed_after="kimi-1/trained") == -signal.SIGKILL
        assert not os.path.exists(os.path.join(killed, "verdicts.json"))
        for each in (killed, undisturbed):
            assert run(each, programs) == 0
            for name in ("table.md", "claims.svg", "report.html", "exploration.html", "analysis.h5", "exploration.h5"):
                assert os.path.getsize(os.path.join(each, name)) > 0, name
        first, second = numbers(killed), numbers(undisturbed)
        for model in first["models"]:
            assert first["models"][model] == second["models"][model], model
        assert first == second
        print(f"{len(first['models'])} files have the same numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
