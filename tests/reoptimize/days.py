"""Days of two real clusters on a clock that jumps to whatever is due next. A job runs until its time limit ends it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from slurm_carbon import marks
from slurm_carbon.ledger.store import open_ledger
from slurm_carbon.ledger.values import Entry
from tests.conftest import CLUSTER_SCRIPT, ROOT, Lab
from tests.reoptimize.burst import CLUSTERS, DAY, GRID, PARTITIONS, PUE, W_PER_CORE, Asked, Truth

FIRST_SOLVER_S, SOLVER_S = 10, 2  # time for a plan: all of the burst is to be placed first, later there is little to do
LOOKS_S = 31  # how often slurmctld looks for jobs whose time is over: after a jump by so much it does at once
STEP_S, LEAD_S = 3000, 120  # a step of the clock, and how long before what is due the last one begins
TOGETHER_S = 180  # ends that are waited for together
RUN = Path(__file__).parent / "days_run.py"


class Row(NamedTuple):
    """A job, or a task, as squeue has it."""

    job_id: int
    name: str
    state: str
    start_epoch_s: int  # begin, expected or real
    end_epoch_s: int
    reason: str


class Ran(NamedTuple):
    """One time that a job, or a task of an array, ran."""

    name: str
    task: str
    cluster: str
    partition: str
    job_id: int
    start_epoch_s: int
    end_epoch_s: int
    cores: int
    node: str


class Days:
    """Two clusters, their clock, and one process that does what cron would."""

    def __init__(self, lab: Lab, what_is_true: Truth, **reoptimize: str) -> None:
        self.lab = lab
        self.offset_s = 0
        self.login = {c: self._login(c) for c in CLUSTERS}
        self.truth = what_is_true
        self.reports: list[dict[str, Any]] = []
        self.spent: Counter[str] = Counter()
        self.helper: subprocess.Popen[str] | None = None
        self.ran_file = lab.site / "ran"
        self.ran_file.touch()
        self.ran_file.chmod(0o666)
        for cluster in CLUSTERS:
            with (lab.folder / cluster / "site.conf").open("a") as conf:
                # a node that was not asked for hours, because time jumped, is not down; nor one that starts many jobs at once
                conf.write("SlurmdTimeout=0\nMessageTimeout=60\n")
            self.ask(cluster, "scontrol", "reconfigure")
        self.settings = {"mode": '"enforce"', "solver_time": f'"{FIRST_SOLVER_S}s"', **reoptimize}

    def _login(self, cluster: str) -> dict[str, str]:
        lines = self.lab.control("env", "--cluster", cluster).splitlines()
        words = dict(shlex.split(line)[1].split("=", 1) for line in lines)
        return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", "SLURM_TIME_FORMAT": "%s", **words}

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how much of the wall's time goes where."""
        before = time.monotonic()
        yield
        self.spent[what] += int(1000 * (time.monotonic() - before))

    # time

    def now(self) -> int:
        """The clusters' time."""
        return int(time.time()) + self.offset_s

    def jump_to(self, epoch_s: int) -> None:
        """Set the clock, never back, and far ahead in some steps.

        slurmd tells how long the machine has been up. If slurmctld last heard of it before that, it thinks that the node
        was started anew, and that its jobs are lost.
        """
        while epoch_s - self.now() > 2 * STEP_S:
            self._set(min(self.now() + STEP_S, epoch_s - LEAD_S))
            time.sleep(0.3)  # all nodes are asked meanwhile
        self._set(epoch_s)

    def _set(self, epoch_s: int) -> None:
        self.offset_s = max(self.offset_s, epoch_s - int(time.time()))
        new = self.lab.folder / "clock.next"
        new.write_text(f"+{self.offset_s}\n")
        new.rename(self.lab.folder / "clock")

    # what is asked of the clusters

    def ask(self, cluster: str, *argv: str) -> str:
        """What a command of Slurm prints to root."""
        done = subprocess.run(
            argv, env=self.login[cluster], capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False, text=True
        )
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def queue(self, cluster: str) -> list[Row]:
        """Who waits or runs."""
        rows = [line.split("|") for line in self.ask(cluster, "squeue", "-hr", "-o", "%A|%j|%t|%S|%e|%r").splitlines()]
        return [Row(int(i), name, state, _moment(start), _moment(end), reason) for i, name, state, start, end, reason in rows]

    def begins(self, cluster: str) -> dict[str, int]:
        """When each job that waits or runs was to begin, by name."""
        found = {}
        for line in self.ask(cluster, "squeue", "-h", "-o", "%j|%V|%k").splitlines():
            name, submitted, comment = line.split("|", 2)
            mark = marks.read(comment)[1]
            found[name] = mark.begin_epoch_s if mark else int(submitted)
        return found

    def cycles(self, cluster: str) -> int:
        """How often backfill has looked at the queue."""
        lines = self.ask(cluster, "sdiag").splitlines()
        return next(int(line.split()[-1]) for line in reversed(lines) if line.strip().startswith("Total cycles"))

    # the site

    def set_up(self, clusters: Sequence[str] = CLUSTERS, min_saving_g: float = 1.0) -> None:
        """The site's configuration and its first outlook."""
        tables = "".join(
            f'[zones.{c}]\nsources = ["file"]\nfile = "{self.lab.site}/{c}.csv"\n'
            f'[clusters.{c}]\nzone = "{c}"\nfilesystem = "home"\nslurm_conf = "{self.lab.folder}/{c}/slurm.conf"\n'
            f"pue = {PUE[c]}\nwatts_per_core = {W_PER_CORE}\nwatts_per_gb = 0\n"
            + "".join(f"[clusters.{c}.partitions.{p}]\n" for p in PARTITIONS)
            for c in clusters
        )
        again = "".join(f"{name} = {value}\n" for name, value in self.settings.items())
        self.lab.config.write_text(
            f'[outlook]\nfile = "{self.lab.outlook}"\nslot = "{GRID // 60}m"\nmax_age = "12h"\nhorizon = "3d"\n'
            f"[policy]\nmin_saving_g = {min_saving_g}\n"
            f'[reoptimize]\nmin_saving_g = {min_saving_g}\n{again}[hook]\nmode = "off"\n{tables}'
        )
        self.new_forecast()
        self.lab.refresh()

    def new_forecast(self) -> None:
        """Write what is known by now of the hours to come."""
        for cluster in CLUSTERS:
            new = self.lab.site / f"{cluster}.new"
            new.write_text(self.truth.forecast(cluster, self.now()))
            os.utime(new, (self.now(), self.now()))
            new.rename(self.lab.site / f"{cluster}.csv")

    def run(self, what: str) -> dict[str, Any]:
        """`reoptimize`, or `refresh`: see days_run.py."""
        if self.helper is None:
            command = [CLUSTER_SCRIPT, "--dir", self.lab.folder, "run", "--cluster", CLUSTERS[0], "--", sys.executable, RUN]
            environment = {
                "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1",
                "SLURM_CARBON_CONFIG": str(self.lab.config), "SLURM_CARBON_OUTLOOK": str(self.lab.outlook),
            }  # fmt: skip
            self.helper = subprocess.Popen(
                [str(word) for word in command], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self.helper.stdin is not None
        assert self.helper.stdout is not None
        self.helper.stdin.write(json.dumps([what, str(self.lab.folder / "clock"), self.offset_s]) + "\n")
        self.helper.stdin.flush()
        found: dict[str, Any] = json.loads(self.helper.stdout.readline())
        self.offset_s = found["offset_s"]
        assert not found["problems"], found["problems"]
        return found

    def tick(self) -> dict[str, Any]:
        """One run of `slurm-carbon reoptimize`, on the forecast of now."""
        with self.timed("ticks"):
            self.new_forecast()
            report = self.run("reoptimize")
            self.reports.append({**report, "at": self.now()})
            text = self.lab.config.read_text()
            self.lab.config.write_text(text.replace(f'solver_time = "{FIRST_SOLVER_S}s"', f'solver_time = "{SOLVER_S}s"'))
        return report

    def end(self) -> None:
        """End the process."""
        if self.helper is not None:
            self.helper.communicate(timeout=60)

    # submitting and waiting

    def submit(self, command: Sequence[str | Path], jobs: Sequence[tuple[Asked, list[str]]]) -> None:
        """Submit jobs, each with words of its own, from every login node at once."""
        lines: dict[tuple[str, str], list[str]] = defaultdict(list)
        for asked, words in jobs:
            lines[asked.user, asked.home].append(shlex.join([*map(str, command), *words, *asked.sbatch(self.ran_file)]))

        def all_of(key: tuple[str, str]) -> None:
            done = self.lab.run("sh", "-e", "-c", "\n".join(lines[key]), user=key[0], cluster=key[1], timeout=170)
            assert done.code == 0, (key, done.out[-500:], done.err[-2000:])

        with self.timed("submissions"), ThreadPoolExecutor(len(lines)) as pool:
            list(pool.map(all_of, lines))

    def settle(self, until_epoch_s: int) -> dict[str, list[Row]]:
        """Let all end that ends until a time, and all start that can; the queues then."""
        with self.timed("settling"):
            return self._settle(until_epoch_s)

    def _settle(self, until_epoch_s: int) -> dict[str, list[Row]]:
        patience = time.monotonic() + 60
        seen: dict[str, object] = {}
        since: dict[str, int] = {}
        looked: dict[str, float] = {}
        while True:
            assert time.monotonic() < patience, {c: self.queue(c) for c in CLUSTERS}
            now = self.now()
            queues = {c: self.queue(c) for c in CLUSTERS}
            rows = [row for rows in queues.values() for row in rows]
            assert not any(row.reason.startswith("launch") for row in rows), rows
            begun = self.ran_file.read_text().splitlines()
            # what is being started must not find that hours have passed since it was sent
            starting = {f"{c} {row.job_id}" for c, mine in queues.items() for row in mine if row.state == "R"} - set(begun)
            if starting or any(row.state in ("CG", "CF") or (row.state == "R" and row.end_epoch_s <= now) for row in rows):
                time.sleep(0.05)
                self.spent["ending"] += 50
                continue
            soon = [row.end_epoch_s for row in rows if row.state == "R" and row.end_epoch_s <= until_epoch_s]
            if soon:
                self.jump_to(max(max(soon) + 1, now + LOOKS_S))
                continue
            restless = False
            for cluster, mine in queues.items():
                due = [row for row in mine if row.state == "PD" and is_due(row, now)]
                if not due:
                    continue
                state = [(row.job_id, row.state) for row in mine if row.state != "PD" or is_due(row, now)]
                cycles = self.cycles(cluster)
                if seen.get(cluster) != state:
                    seen[cluster], since[cluster], looked[cluster] = state, cycles, time.monotonic()
                if cycles < since[cluster]:
                    since[cluster] = 0  # at midnight slurmctld begins to count anew
                restless |= cycles == since[cluster] and time.monotonic() < looked[cluster] + 3
            if not restless:
                return queues
            time.sleep(0.1)
            self.spent["sched"] += 100

    def play(self, ticks_s: int | None, most_s: int) -> None:
        """Days: jump to whatever is due next, and run every so many seconds, until nobody waits or runs."""
        begin = self.now()
        queues = self.settle(begin + TOGETHER_S)
        tick_at = begin
        while any(queues.values()):
            now = self.now()
            assert now < begin + most_s, queues
            if ticks_s and now >= tick_at:
                self.tick()
                tick_at = (now // ticks_s + 1) * ticks_s
                queues = self.settle(now + TOGETHER_S)
                continue
            rows = [row for rows in queues.values() for row in rows]
            times = [row.end_epoch_s for row in rows if row.state == "R"]
            times += [row.start_epoch_s for row in rows if row.state == "PD" and not is_due(row, now)]
            if ticks_s and any(row.state == "PD" for row in rows):
                times.append(tick_at)
            first = max(min(times, default=now + GRID), now + LOOKS_S)
            self.jump_to(max([first, *(at for at in times if at <= first + TOGETHER_S)]) + 1)
            queues = self.settle(first + TOGETHER_S)

    # what became of it

    def ran(self) -> list[Ran]:
        """Every time that a job ran, as sacct has it."""
        fields = "JobID,JobName,Partition,State,Start,End,ElapsedRaw,TimelimitRaw,NCPUS,NodeList"
        since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.now() - 11 * DAY))
        patience = time.monotonic() + 30
        while True:
            rows = [
                (cluster, line.split("|"))
                for cluster in CLUSTERS
                for line in self.ask(
                    cluster, "sacct", "-aDXnP", "--local", "-S", since, "-E", "now+9days", "-o", fields
                ).splitlines()
            ]
            states = {words[3] for _, words in rows}
            if states.isdisjoint(("RUNNING", "PENDING")) or time.monotonic() > patience:
                break
            time.sleep(0.3)  # slurmctld tells slurmdbd a little later
        found = []
        for cluster, (shown, name, partition, state, start, end, elapsed, limit_min, cores, node) in rows:
            if state.startswith("CANCELLED") and int(elapsed) == 0:
                continue  # it has gone to the other cluster
            assert state == "TIMEOUT", (cluster, shown, name, state, self.complaints(cluster))
            number, _, task = shown.partition("_")
            if not start.isdigit():  # now and then the accounting has lost it; its limit has ended the job
                start = str(int(end) - 60 * int(limit_min))
            found.append(Ran(name, task, cluster, partition, int(number), int(start), int(end), int(cores), node))
        return found

    def complaints(self, cluster: str) -> str:
        """What slurmctld thinks has gone wrong."""
        lines = (self.lab.folder / "log" / f"slurmctld-{cluster}.log").read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if "error:" in line or "ode " in line][-30:])

    def entries(self) -> dict[tuple[str, int], Entry]:
        """The newest entry that the ledger has of each job, by cluster and number."""
        with open_ledger(f"sqlite:///{self.lab.site}/ledger/ledger.sqlite", read_only=True) as ledger:
            return {(c, number): entry for c in CLUSTERS for number, entry in ledger.entries(c, range(1, 5000)).items()}


def is_due(row: Row, now_epoch_s: int) -> bool:
    """Whether a job that waits waits for room."""
    if row.reason == "None":  # not looked at yet
        return row.start_epoch_s <= now_epoch_s
    return row.reason not in ("BeginTime", "JobHeldUser", "JobHeldAdmin")


def _moment(text: str) -> int:
    return int(text) if text.isdigit() else 0
