"""Two real clusters on which every job may run, csbatch that keeps records, and its owner's process."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slurm_carbon import marks
from slurm_carbon.marks import Mark
from slurm_carbon.owner import NOTHING_SUBMITTED
from tests.conftest import VERSIONS, Done, Lab, job_fields, start_lab

UIDS = {"user1": 20001, "user2": 20002, "root": 0}
RECORDS = "~/.local/state/slurm_carbon/submissions"
# calls the owner's process as `reoptimize` does, and prints what came of it
CALL = """
import json, os, sys
from slurm_carbon.owner import Resubmission, read_answer, resubmit_command
from slurm_carbon.slurm.command import Runner
request = json.loads(sys.argv[1])
command = resubmit_command(Resubmission(**request), os.geteuid(), **json.loads(sys.argv[2]))
done = Runner().run(command)
print(json.dumps([done.exit_code, done.stdout.decode(), done.stderr.decode(), list(read_answer(done))]))
"""


@dataclass(frozen=True)
class Outcome:
    """How the owner's process ended, and what is made of that."""

    code: int
    out: str
    said: str
    job_id: int | None
    certain: bool

    @property
    def nothing(self) -> bool:
        """Whether nothing was submitted for certain."""
        return self.code == NOTHING_SUBMITTED and self.certain and self.job_id is None


@dataclass
class Bench:
    """The clusters, on which nothing is started, and what is in their queues."""

    lab: Lab
    login: dict[str, dict[str, str]]  # environment of a client, by cluster
    last: str = ""  # job that was submitted with a record

    def slurm(self, cluster: str, *argv: str) -> str:
        """What one of Slurm's commands prints to root, times in UTC."""
        environment = {"TZ": "UTC", "LANG": "C.UTF-8", **self.login[cluster]}
        done = subprocess.run(argv, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout.decode("utf-8", "surrogateescape")

    def csbatch(self, *words: str | Path, user: str = "user1", through: str = "", **more: Any) -> Done:
        """Submit by csbatch on alpha."""
        argv = [self.lab.bin / "csbatch", *words]
        if through:
            argv = ["bash", "-c", through, "bash", *argv]
        return self.lab.run(*argv, user=user, **more)

    def kept(self, *words: str | Path, user: str = "user1", **more: Any) -> tuple[str, Mark]:
        """Submit by csbatch on alpha; id and mark of the job, which must have a record."""
        done = self.csbatch("--parsable", *words, user=user, **more)
        assert done.code == 0, done
        job_id = done.out.strip().partition(";")[0]
        mark = self.mark("alpha", job_id)
        assert mark is not None, done
        assert mark.id, done
        assert self.record(mark.id, user).is_file()
        self.last = job_id
        return job_id, mark

    def mark(self, cluster: str, job_id: str | int) -> Mark | None:
        """The mark of a job."""
        return marks.read(self.job(cluster, job_id).get("Comment", ""))[1]

    def records(self, user: str = "user1") -> list[Path]:
        """All records of a user."""
        folder = self.lab.home(user) / RECORDS[2:]
        return sorted(path for path in folder.glob("??/*") if path.is_file())

    def record(self, record_id: str, user: str = "user1") -> Path:
        """Where a record is."""
        return self.lab.home(user) / RECORDS[2:] / record_id[:2] / record_id

    def request(self, record_id: str, user: str = "user1", **changes: Any) -> dict[str, Any]:
        """A request to submit a job anew on beta, held, in an hour."""
        return {
            "user": user, "uid": UIDS[user], "mark_id": record_id, "records": RECORDS,
            "slurm_conf": f"{self.lab.folder}/beta/slurm.conf", "cluster": "beta", "partition": "batch",
            "begin_epoch_s": self.soon(), "comment": "a copy", "held": False, **changes,
        }  # fmt: skip

    def soon(self) -> int:
        """In an hour, epoch seconds."""
        return int(time.time()) + 3600

    def again(
        self, record_id: str, user: str = "user1", as_user: str | None = None, limit: int = 25, **changes: Any
    ) -> Outcome:
        """Let root, or `as_user`, submit a job anew."""
        return self.ask(self.request(record_id, user, **changes), as_user, limit)

    def ask(
        self,
        request: dict[str, Any],
        as_user: str | None = None,
        limit: int = 25,
        passwd: Path | None = None,
        **environment: str,
    ) -> Outcome:
        """Let root, or `as_user`, carry out a request; with another table of users, if need be."""
        words = [json.dumps(request), json.dumps({"limit_s": limit})]
        users = ["env", f"NSS_WRAPPER_PASSWD={passwd}"] if passwd else []
        done = self.lab.run(*users, self.lab.bin / "python3", "-I", "-c", CALL, *words, user=as_user, **environment)
        assert done.code == 0, done.err
        code, out, err, (job_id, certain, _) = json.loads(done.out)
        return Outcome(code, out, err, job_id, certain)

    def job(self, cluster: str, job_id: str | int) -> dict[str, str]:
        """Every field of `scontrol show job`, times in UTC."""
        return job_fields(self.slurm(cluster, "scontrol", "show", "job", "-d", str(job_id)))

    def shown(self, cluster: str, job_id: str | int) -> dict[str, str]:
        """The same without what two jobs that are alike have of their own."""
        job = self.job(cluster, job_id)
        for name in ("JobId", "ArrayJobId", "SubmitTime", "EligibleTime", "AccrueTime", "StartTime", "EndTime", "LastSchedEval",
                     "Comment", "Reason", "Scheduler", "Priority"):  # fmt: skip
            job.pop(name, None)
        job["NumNodes"] = job["NumNodes"].partition("-")[0]  # `1-1` until the scheduler has looked
        return {name: re.sub(rf"\b{job_id}\b", "ID", value) for name, value in job.items()}

    def environment(self, cluster: str, job_id: str | int) -> list[bytes]:
        """The environment that Slurm stored."""
        file = self.lab.folder / cluster / "state" / f"hash.{int(job_id) % 10}" / f"job.{job_id}" / "environment"
        return file.read_bytes()[4:].split(b"\0")  # the first four bytes count them

    def script(self, cluster: str, job_id: str | int) -> bytes:
        """The script that Slurm stored."""
        return self.slurm(cluster, "scontrol", "write", "batch_script", str(job_id), "-").encode("utf-8", "surrogateescape")

    def queued(self, cluster: str) -> set[str]:
        """Number and user of each job that waits or runs."""
        return set(self.slurm(cluster, "squeue", "-h", "-o", "%A %u").splitlines())

    def set_partitions(self, state: str) -> None:
        """Whether anything is started."""
        for cluster in self.lab.clusters:
            for partition in ("batch", "short", "gpu"):
                self.slurm(cluster, "scontrol", "update", f"partition={partition}", f"state={state}")


def write_site(lab: Lab, mode: str = "enforce") -> None:
    """Power that is as clean everywhere and always, so that csbatch leaves jobs where they are, and the reoptimizer on."""
    hour = int(lab.run("date", "+%s").out) // 3600 * 3600
    rows = [f"{hour + h * 3600},300" for h in range(-2, 24 * 8)]
    (lab.site / "flat.csv").write_text("start,g_per_kwh\n" + "\n".join(rows) + "\n")
    text = lab.config.read_text()
    head = "[outlook]" + text.partition("[outlook]")[2].partition("\n[")[0]
    tables = f'[zones.Z]\nsources = ["file"]\nfile = "{lab.site}/flat.csv"\n' + "".join(
        f'[clusters.{c}]\nzone = "Z"\nfilesystem = "home"\nslurm_conf = "{lab.folder}/{c}/slurm.conf"\npue = 1.5\n'
        + "".join(f"[clusters.{c}.partitions.{p}]\n" for p in ("batch", "short", "gpu"))
        for c in lab.clusters
    )
    lab.config.write_text(f'{head}\n[reoptimize]\nmode = "{mode}"\n{tables}')
    lab.refresh()


def bring_up(installed: Path, version: str) -> Iterator[Bench]:
    """Two clusters on which nothing is started."""
    for lab in start_lab(installed, "kept", version=version):
        write_site(lab)
        bench = Bench(lab, {})
        for cluster in lab.clusters:
            lines = lab.control("env", "--cluster", cluster).splitlines()
            words = dict(shlex.split(line)[1].split("=", 1) for line in lines)
            words["PATH"] = words.get("PATH", "$PATH").replace("$PATH", "/usr/bin:/bin")
            bench.login[cluster] = words
        bench.set_partitions("down")
        yield bench


@pytest.fixture(scope="package")
def clusters(installed: Path) -> Iterator[Bench]:
    """The clusters for all tests of this folder."""
    yield from bring_up(installed, VERSIONS[0])


@pytest.fixture
def bench(clusters: Bench) -> Iterator[Bench]:
    """The clusters, emptied afterwards."""
    yield clusters
    for cluster in clusters.lab.clusters:
        for user in UIDS:
            clusters.slurm(cluster, "scancel", "-u", user)
