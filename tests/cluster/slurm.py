"""A Slurm of two nodes on this machine, for as long as it is needed.

Debian's packages `slurm-wlm` and `munge` bring the programs; they are started from a folder of their
own, with ports of their own, and touch no Slurm that is there. No accounting, as on many small
clusters; no job ends by its time limit, for this machine may have much else to do.
`python tests/cluster/slurm.py` starts one and waits, to try things by hand.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from memgen.pipeline.keeper import told_to_end

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
NODES = ("node1", "node2")
#: where Debian keeps what only an administrator calls
SBIN = ("/usr/sbin", "/sbin")
CONF = """\
ClusterName=memgen
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=5
OverTimeLimit=UNLIMITED
MinJobAge=300
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=8000
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=8000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> list[str]:
    """The programs that this machine lacks for a Slurm of its own."""
    return [name for name in NEEDED if not found(name)]


def found(name: str) -> str | None:
    """Where a program lies, also one that only an administrator calls."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *SBIN]))


def free_ports(n: int) -> list[int]:
    """Ports of this machine that nobody listens to."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


class Slurm:
    """The daemons of one cluster, and what is asked of it. `folder`: empty, gone afterwards."""

    def __init__(self, folder: Path):
        self.folder, self.daemons = folder, {}
        self.conf = folder / "slurm.conf"
        path = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", "")])
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": path}

    def start(self) -> None:
        """Start all daemons; returns when both nodes are ready. `TimeoutError`: they are not."""
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        (self.folder / "state").mkdir()
        # Snakemake's plugin hides SLURM_CONF from the srun inside a job: it would look in the usual place
        srun = self.folder / "bin" / "srun"
        srun.parent.mkdir()
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {found("srun")} "$@"\n')
        srun.chmod(0o755)
        text = CONF.format(
            host=socket.gethostname(),
            user=getpass.getuser(),
            folder=self.folder,
            ports=free_ports(3),
            nodes=NODES,
        )
        self.conf.write_text(text)
        own = {
            "key-file": key,
            "socket": self.folder / "munge.socket",
            "pid-file": self.folder / "munged.pid",
            "log-file": self.folder / "munged.log",
            "seed-file": self.folder / "munged.seed",
        }
        options = [f"--{name}={path}" for name, path in own.items()]
        # --force: the folder is not one that only root may write to
        self._daemon("munged", "--foreground", "--force", *options)
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged does not answer")
        self._daemon("slurmctld", "-D", "-i", "-f", str(self.conf))
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node, "-f", str(self.conf))
        self._until(
            lambda: self.ask("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(NODES),
            "the nodes are not ready",
        )

    def _daemon(self, program: str, *arguments: str) -> None:
        name = "-".join([program, *(one for one in arguments if one in NODES)])
        with open(self.folder / f"{name}.out", "w") as log:
            self.daemons[name] = subprocess.Popen(
                [found(program), *arguments], stdout=log, stderr=log, env=self.environment
            )

    def _until(self, holds, otherwise: str, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                raise TimeoutError(f"{otherwise} after {seconds:.0f} s; see {self.folder}/*.log")
            time.sleep(0.2)

    def ask(self, *command: str) -> str:
        """What a command of Slurm's prints; nothing if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    def tell(self, *command: str) -> None:
        """Run a command of Slurm's that has to succeed."""
        subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True)

    def jobs(self, *states: str) -> dict[str, tuple[str, str, str]]:
        """`{job: (state, node, name)}` of those in these states (default: pending or running)."""
        asked = ",".join(states or ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING"))
        lines = self.ask("squeue", "-h", "-t", asked, "-o", "%i %T %N %j").splitlines()
        words = [line.split(" ") for line in lines]
        return {one[0]: (one[1], one[2], one[3]) for one in words}

    def end(self) -> None:
        """End all jobs, then all daemons."""
        self.ask("scancel", "--state=PENDING", "--user", getpass.getuser())
        self.ask("scancel", "--signal=KILL", "--full", "--user", getpass.getuser())
        self.ask("scancel", "--user", getpass.getuser())
        with contextlib.suppress(TimeoutError):
            self._until(lambda: not self.jobs(), "jobs are left", 20)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid in self._left():  # what a daemon that was killed had not ended
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _left(self) -> list[int]:
        """Processes that were started with this cluster's settings, but for this one."""
        mark, found = f"SLURM_CONF={self.conf}".encode(), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    started = (entry / "environ").read_bytes().split(b"\0")
                    found += [int(entry.name)] if mark in started else []
        return found


@contextlib.contextmanager
def slurm() -> Iterator[Slurm]:
    """A running Slurm of two nodes in a folder under /tmp: a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # munged's socket is for everybody
        cluster = Slurm(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.end()


if __name__ == "__main__":
    if lacking():
        sys.exit(f"not here: {', '.join(lacking())}; install slurm-wlm and munge")
    with contextlib.suppress(KeyboardInterrupt), told_to_end(), slurm() as running:
        print(f"export SLURM_CONF={running.conf} PATH={running.folder}/bin:$PATH", flush=True)
        while True:
            time.sleep(1)
