"""Two real clusters with jobs of two users that can be moved, runs that are killed, and the books that are kept of them."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm_carbon import marks
from slurm_carbon.queued import QueuedJob
from slurm_carbon.slurm.command import Runner
from slurm_carbon.slurm.moves import Site, look
from tests.conftest import Done, Lab, start_lab
from tests.kept.conftest import write_site

USERS = ("user1", "user2")
RUN = Path(__file__).parent / "crash_run.py"
HOUR_S = 3600
BEGIN_IN_S, LATEST_IN_S = 6 * HOUR_S, 48 * HOUR_S


@dataclass
class Books:
    """The clusters, and each job that was ever submitted, by what its owner wrote into its comment."""

    lab: Lab
    record: dict[str, str] = field(default_factory=dict)  # id of a record of each user
    jobs: dict[str, tuple[str, int]] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    ledgers: int = 0
    clock_s: int = 0

    @property
    def sites(self) -> dict[str, Site]:
        return {name: Site(name, f"{self.lab.folder}/{name}/slurm.conf") for name in self.lab.clusters}

    # jobs

    def prepare(self) -> None:
        """One record of each user: all his jobs are the same one."""
        script = self.lab.site / "job.sh"
        script.write_text("#!/bin/sh\nexit 0\n")
        script.chmod(0o755)
        self.set_partitions("down")
        for user in USERS:
            done = self.lab.run(self.lab.bin / "csbatch", "--parsable", "-t", "5", "-o", "/dev/null", script, user=user)
            assert done.code == 0, done
            comment = self.lab.job("alpha", done.out.strip().partition(";")[0])["Comment"]
            mark = marks.read(comment)[1]
            assert mark is not None, comment
            assert mark.id, comment
            self.record[user] = mark.id
            self.lab.run("scancel", "-u", user, user=None)
        self.set_partitions("up")

    def set_partitions(self, state: str) -> None:
        """Whether anything is started."""
        for cluster in self.lab.clusters:
            done = self.lab.run("sh", "-c", f"for p in batch short gpu; do scontrol update partition=$p state={state}; done",
                                user=None, cluster=cluster)  # fmt: skip
            assert done.code == 0, done

    def now(self) -> int:
        return int(time.time()) + self.clock_s

    def jump(self, seconds: int) -> None:
        self.clock_s += seconds
        self.lab.control("jump", f"+{self.clock_s}")

    def add(self, names: dict[str, str]) -> None:
        """Submit a job of each name as its user, with a mark as csbatch writes it; it is to begin in some hours."""
        begin = self.now() + BEGIN_IN_S
        for user in USERS:
            mine = [name for name, owner in names.items() if owner == user]
            mark = marks.Mark(begin, self.now() + LATEST_IN_S, "alpha/batch", 5, 9, 1, self.record[user])
            lines = [
                shlex.join(["sbatch", "--parsable", "-t", "5", "-o", "/dev/null", f"--begin=uts{begin}",
                            f"--comment={name} | {marks.write(mark)}", str(self.lab.site / "job.sh")])
                for name in mine
            ]  # fmt: skip
            done = self.lab.run("sh", "-e", "-c", "\n".join(lines), user=user)
            assert done.code == 0, done
            self.jobs |= {name: ("alpha", int(number)) for name, number in zip(mine, done.out.split(), strict=True)}

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Have something change on both clusters every second.

        slurmctld writes its state down within 5 s; on a clock that was set ahead it waits for the next change instead.
        """
        ended = threading.Event()

        def change(cluster: str) -> None:
            while not ended.wait(1.0):
                words = "scancel $(sbatch --parsable -H -o /dev/null --wrap true)"
                self.lab.run("sh", "-c", words, user=None, cluster=cluster, cwd=self.lab.site)

        threads = [threading.Thread(target=change, args=(cluster,)) for cluster in self.lab.clusters]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()
            for cluster in self.lab.clusters:
                self.lab.run("scancel", "-u", "root", user=None, cluster=cluster)

    def written_down(self) -> None:
        """Wait until no controller that is killed would forget what was submitted so far."""
        state = self.lab.folder / "alpha" / "state" / "job_state"
        before = time.time()
        while not state.exists() or state.stat().st_mtime <= before:
            assert time.time() < before + 20, "slurmctld has not written down its state"
            self.lab.run("sh", "-c", "scancel $(sbatch --parsable -H -o /dev/null --wrap true)")
            time.sleep(0.5)

    def look(self, cluster: str) -> dict[int, QueuedJob]:
        """The queue of a cluster."""
        done = self.lab.control("env", "--cluster", cluster)
        environment = dict(shlex.split(line)[1].split("=", 1) for line in done.splitlines())
        return look(_Through(environment), self.sites[cluster])

    # runs

    def ledger(self) -> Path:
        """Another new ledger."""
        self.ledgers += 1
        return self.lab.site / f"ledger{self.ledgers}.sqlite"

    def tick(self, ledger: Path, *moves: tuple[Any, ...], end_at: int = 0, points: Path | None = None, **more: Any) -> Done:
        """A run that begins moves: (name, where to, how much later[, which tasks])."""
        asked = {
            "confs": {name: site.slurm_conf for name, site in self.sites.items()},
            "ledger": str(ledger),
            "moves": [(*self.jobs[name], *how) for name, *how in moves],
            "times": self.times,
            **more,
        }
        environment = {
            "SLURM_CARBON_END_AT": str(end_at) if end_at else None,
            "SLURM_CARBON_POINTS": str(points) if points else None,
        }
        return self.lab.run(
            sys.executable, RUN, json.dumps(asked), user=None, timeout=170, PYTHONPATH=str(RUN.parents[2]), **environment
        )

    # the books

    def close(self) -> None:
        """Let all that waits run, and count: lost 0, doubled 0, held 0."""
        owner_text: dict[tuple[str, int], str] = {}
        problems = []
        for cluster in self.lab.clusters:
            for job in self.look(cluster).values():
                text, mark = marks.read(job.comment)
                owner_text[cluster, job.id] = text
                if job.state == "PENDING" and text and (job.is_held or (mark is not None and mark.move)):
                    problems.append(f"{text}: {cluster} {job.id} is {job.reason}: {job.comment}")
        assert not problems, problems
        self.jump(LATEST_IN_S)
        end = time.monotonic() + 60
        while any(job.state in ("PENDING", "RUNNING") for c in self.lab.clusters for job in self.look(c).values()):
            assert time.monotonic() < end, {c: self.look(c) for c in self.lab.clusters}
            time.sleep(0.3)
        while wrong := self.wrong(owner_text):
            assert time.monotonic() < end + 20, f"ran not once: {wrong}; {self.account()}"
            time.sleep(0.5)
        self.clear()

    def wrong(self, owner_text: dict[tuple[str, int], str]) -> dict[str, int]:
        """The jobs that were not started just once, by the accounting, and how often they were."""
        done = self.lab.run("sacct", "-L", "-a", "-X", "-D", "-n", "-P", "-S", "now-9days", "-E", "now+9days",
                            "-o", "Cluster,JobIDRaw,Start", user=None)  # fmt: skip
        counts: Counter[str] = Counter()
        for line in done.out.splitlines():
            cluster, number, start = line.split("|")
            if start[:1].isdigit():
                counts[owner_text.get((cluster, int(number)), "")] += 1
        return {name: counts[name] for name in self.jobs if counts[name] != 1}

    def clear(self) -> None:
        """Leave nothing behind, for the next test."""
        if self.jobs:
            self.lab.cancel_all()
        self.jobs.clear()

    def account(self) -> str:
        """All jobs as the accounting has them, to find out what went wrong."""
        columns = "Cluster,JobIDRaw,User,State,Submit,Start,End,ExitCode,Comment%100"
        done = self.lab.run("sacct", "-L", "-a", "-X", "-D", "-S", "now-9days", "-E", "now+9days", "-o", columns, user=None)
        return done.out + done.err


class _Through(Runner):
    """Runs commands as a client of a cluster."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def run(self, command: Any) -> Any:
        from slurm_carbon.slurm.command import Completed

        environment = {"PATH": "/usr/bin:/bin", **self.environment, **command.environment}
        done = subprocess.run(
            command.argv, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False
        )
        return Completed(done.returncode, done.stdout, done.stderr)


def bring_up(installed: Path, name: str) -> Iterator[Books]:
    """Two clusters on the fake clock."""
    for lab in start_lab(installed, name, "--fake-clock"):
        write_site(lab)
        books = Books(lab)
        books.prepare()
        yield books
