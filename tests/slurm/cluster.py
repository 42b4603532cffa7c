"""A private Slurm: munged, slurmctld and one slurmd of the current user, on free ports, with all files in one new folder. It is
independent of any Slurm on the machine. Everything is stopped by process id however the program ends: a keeper process outlives it."""
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import support

CPUS = 64  # what Slurm is told, whatever the machine has: waiting jobs would only make the tests longer
NODE = "depthroute0"

SLURM_CONF = """\
ClusterName=depthroute_test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A requeued job waits until its first credential has expired; the default is 120 s.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# PMIx's sockets: two Slurms would share those in /tmp.
TmpFS={folder}/tmp
PlugStackConfig={folder}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
MinJobAge=600
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes={node} Default=YES PriorityTier=2 PreemptMode=OFF
PartitionName=low Nodes={node} PriorityTier=1 GraceTime=30 PreemptMode=REQUEUE
"""


class Unavailable(Exception):
    """This machine has no Slurm, or does not allow starting one."""


def find(program):
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")
    if not path:
        raise Unavailable(f"{program} is not installed")
    return path


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def processes_of(folder):
    """Ids of the processes whose environment names our slurm.conf: the daemons, their steps, and jobs."""
    mark = f"SLURM_CONF={folder}/slurm.conf\0".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read() + b"\0":
                    found.append(int(name))
        except OSError:
            continue  # it has ended, or is another user's
    return found


def stop_everything(folder):
    # Daemons killed while a job ends may have started one more process: look again.
    for _ in range(20):
        ids = processes_of(folder)
        if not ids:
            break
        for process in ids:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def start_keeper(folder):
    """A process that waits for the end of this one, whatever ends it, and then cleans up. Returns what must stay open."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(reading)
        os.waitpid(child, 0)
        return writing
    try:
        os.setsid()
        if os.fork() == 0:  # init's child now: whoever kills the test's family spares it
            os.close(writing)
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            os.read(reading, 1)
            stop_everything(folder)
    finally:
        os._exit(0)


class Cluster:
    def __init__(self):
        programs = {name: find(name) for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")}
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="depthroute_slurm_"))
        os.chmod(self.folder, 0o755)  # munged wants its clients to be able to reach the socket
        self._lifeline = start_keeper(self.folder)
        self.environment = {name: value for name, value in os.environ.items()
                            if not re.match(r"(SLURM|SBATCH|SRUN|SALLOC|SCANCEL|SQUEUE|MUNGE|PMI|OMPI_COMM)", name)}
        self.environment["SLURM_CONF"] = f"{self.folder}/slurm.conf"
        self.environment["TMPDIR"] = f"{self.folder}/tmp"
        self.daemons = []
        self._write_files(programs["slurmd"])
        self._start(programs["munged"], "--foreground", f"--key-file={self.folder}/munge.key",
                    f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munged.pid",
                    f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munged.seed", "--num-threads=1")
        self._wait("munged", lambda: os.path.exists(f"{self.folder}/munge.socket"))
        self._start(programs["slurmctld"], "-D", "-c")
        self._wait("slurmctld", lambda: self.command("scontrol", "ping", check=False).returncode == 0)
        self._start(programs["slurmd"], "-D", "-c", "-N", NODE)
        self._wait("slurmd", lambda: "State=IDLE " in self.command("scontrol", "-o", "show", "node", NODE, check=False).stdout)

    def _write_files(self, slurmd):
        ports = free_ports(2)
        for name in ("state", "spool", "tmp"):
            os.mkdir(f"{self.folder}/{name}")
        text = SLURM_CONF.format(host=socket.gethostname().split(".")[0], user=pwd.getpwuid(os.getuid()).pw_name,
                                 folder=self.folder, ctld_port=ports[0], slurmd_port=ports[1], node=NODE, cpus=CPUS)
        # Slurm 24.11 starts no slurmd where control groups are not mounted, unless told that none are wanted. 23.11 cannot yet be
        # told.
        version = re.search(r"(\d+)\.(\d+)", self.command(slurmd, "-V").stdout)
        cgroups = "CgroupPlugin=disabled\n" if version and tuple(map(int, version.groups())) >= (24, 5) else ""
        files = {"slurm.conf": text, "plugstack.conf": "", "cgroup.conf": cgroups}
        for name, content in files.items():
            with open(f"{self.folder}/{name}", "w", encoding="utf-8") as file:
                file.write(content)
        with open(f"{self.folder}/munge.key", "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(os.urandom(1024))

    def _start(self, *command):
        with open(f"{self.folder}/daemons.out", "ab") as out:
            self.daemons.append(subprocess.Popen(command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                                                 stdout=out, stderr=out))

    def _wait(self, name, ready, seconds=20):
        deadline = time.monotonic() + seconds
        while not ready():
            if self.daemons[-1].poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"{name} does not start here: {self._last_error(name)}")
            time.sleep(0.1)

    def _last_error(self, name):
        for log in (f"{name}.log", "daemons.out"):
            try:
                with open(f"{self.folder}/{log}", encoding="utf-8", errors="replace") as file:
                    lines = [line.strip() for line in file if re.search(r"error|fatal", line, re.IGNORECASE)]
            except OSError:
                continue
            if lines:
                return lines[-1]
        return "no error in its log"

    def command(self, *words, check=True, **more):
        return support.run(words, self.environment, check, **more)

    def close(self):
        stop_everything(self.folder)
        for daemon in self.daemons:
            daemon.wait()
        os.close(self._lifeline)
