"""Days of two real clusters on a clock that jumps: the same jobs under one rule or another, and what they really emitted.

What is counted here is counted by nothing of the product: start, end and cluster as sacct has them, the cores that were asked
for, and a true intensity that no rule knows beforehand. A job runs until its time limit ends it.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

from slurm_carbon import marks
from slurm_carbon.ledger.store import open_ledger
from slurm_carbon.ledger.values import Entry
from tests.conftest import CLUSTER_SCRIPT, ROOT, Lab, start_lab

HOUR, DAY = 3600, 86400
USERS = ("user1", "user2")
CLUSTERS = ("alpha", "beta")
PARTITIONS = ("batch", "short")
SHORT_S = 4 * HOUR  # that a job in `short` runs at most
NODES, CORES = 4, 16
FIRST_SOLVER_S, SOLVER_S = 10, 2  # time for a plan: all of the burst is to be placed first, later there is little to do
W_PER_CORE = 10.0
PUE = {"alpha": 1.3, "beta": 1.2}
GRID = 1800  # s: what all run times and most starts are a multiple of
SLACK_S = 300  # how much later than its time a start is seen on a clock that jumps
LOOKS_S = 31  # how often slurmctld looks for jobs whose time is over: after a jump by so much it does at once
STEP_S, LEAD_S = 3000, 120  # a step of the clock, and how long before what is due the last one begins
TOGETHER_S = 180  # ends that are waited for together
T = TypeVar("T")
RUN = Path(__file__).parent / "days_run.py"


# what is true, and what is known of it


class Truth(NamedTuple):
    """The intensity of each cluster's power, hour by hour: a daily cycle, and weather that is forecast as well as can be."""

    start_epoch_s: int
    cycle: dict[str, list[float]]
    weather: dict[str, list[float]]
    lasts: float  # share of the weather that is left an hour later

    def now(self, cluster: str, hour: int) -> float:
        """g/kWh."""
        return max(20.0, self.cycle[cluster][hour] + self.weather[cluster][hour])

    def expected(self, cluster: str, hour: int, at_hour: int) -> float:
        """g/kWh of an hour, as the best forecast of an earlier one has it."""
        known = self.weather[cluster][min(hour, at_hour)] * self.lasts ** max(0, hour - at_hour)
        return max(20.0, self.cycle[cluster][hour] + known)

    def hour_of(self, epoch_s: float) -> int:
        """The hour of a time."""
        return int((epoch_s - self.start_epoch_s) // HOUR)

    def emitted_g(self, cluster: str, start_epoch_s: float, end_epoch_s: float, cores: int) -> float:
        """g CO2e of cores that were busy from one time to another: second by second, in pieces of an hour."""
        grams, at = 0.0, start_epoch_s
        while at < end_epoch_s:
            hour = self.hour_of(at)
            until = min(end_epoch_s, self.start_epoch_s + (hour + 1) * HOUR)
            grams += (until - at) / HOUR * self.now(cluster, hour)
            at = until
        return grams * cores * W_PER_CORE * PUE[cluster] / 1000

    def forecast(self, cluster: str, now_epoch_s: int) -> str:
        """What a file of the site says at a time, as CSV."""
        at = self.hour_of(now_epoch_s)
        rows = [
            f"{self.start_epoch_s + hour * HOUR},{self.expected(cluster, hour, at):.3f}"
            for hour in range(max(0, at - 2), len(self.cycle[cluster]))
        ]
        return "start,g_per_kwh\n" + "\n".join(rows) + "\n"


def one_green_hour(begin_epoch_s: int, days: int = 12, green: int = 10) -> Truth:
    """One clean hour a day; the others differ little, and both clusters are the same. All of it is known beforehand."""
    day = [50.0 if hour == green else 350.0 + 50 * ((hour * 7) % 24 - 12) / 12 for hour in range(24)]
    still = [0.0] * 24 * days
    start = begin_epoch_s - begin_epoch_s % DAY - DAY
    return Truth(start, dict.fromkeys(CLUSTERS, day * days), dict.fromkeys(CLUSTERS, still), 1.0)


def truth(begin_epoch_s: int, seed: int, days: int = 12, weather: float = 40.0, lasts: float = 0.95) -> Truth:
    """alpha has its clean hours about noon, beta in the night. `weather` is its standard deviation in g/kWh."""
    random = Random(seed)
    start = begin_epoch_s - begin_epoch_s % DAY - DAY
    cycle: dict[str, list[float]] = {"alpha": [], "beta": []}
    spells: dict[str, list[float]] = {"alpha": [], "beta": []}
    for cluster, dip, mean, depth, width in (("alpha", 13, 460, 330, 3.0), ("beta", 2, 430, 260, 3.5)):
        spell = 0.0
        for hour in range(days * 24):
            away = abs((hour - dip + 12) % 24 - 12)
            cycle[cluster].append(mean - depth * math.exp(-((away / width) ** 2)))
            spell = lasts * spell + random.gauss(0, weather * math.sqrt(1 - lasts**2))
            spells[cluster].append(spell)
    return Truth(start, cycle, spells, lasts)


# the jobs


class Asked(NamedTuple):
    """One job, or an array, as its user submits it."""

    name: str
    user: str
    home: str  # cluster of his login node
    cores: int
    run_s: int  # which is its time limit
    max_delay_s: int
    tasks: int = 1
    words: tuple[str, ...] = ()  # of sbatch
    locations: tuple[str, ...] = ()  # --carbon-locations
    off: bool = False

    def places(self) -> set[str]:
        """CLUSTER/PARTITION where it may run."""
        if self.off:
            return {f"{self.home}/batch"}
        partition = next((w[2:] for w in self.words if w.startswith("-p")), "")
        cluster = next((w[2:] for w in self.words if w.startswith("-M")), "")
        found = {
            f"{c}/{p}" for c in ([cluster] if cluster else CLUSTERS) for p in ([partition] if partition else PARTITIONS)
            if p != "short" or self.run_s <= SHORT_S
        }  # fmt: skip
        named = {x for x in found if not self.locations or x in self.locations or x.partition("/")[0] in self.locations}
        return named | {f"{self.home}/{partition or 'batch'}"}  # where sbatch sends it, if nothing is worth it

    def sbatch(self, ran: Path) -> list[str]:
        """What of its command line is sbatch's. The job writes into a file that it has begun."""
        array = [f"--array=1-{self.tasks}"] if self.tasks > 1 else []
        # a job that took the library of the fake clock along would look for what its sbatch has left in memory
        return [
            "-J", self.name, f"-t{self.run_s // 60}", "-N1", f"-n{self.cores}", "--mem-per-cpu=1000", "--export=PATH",
            "-o/dev/null", *array,
            *self.words, f'--wrap=echo "$SLURM_CLUSTER_NAME $SLURM_JOB_ID" >> {ran}; exec sleep 999999',
        ]  # fmt: skip

    def carbon(self) -> list[str]:
        """What of it is csbatch's."""
        if self.off:
            return ["--carbon-off"]
        where = [f"--carbon-locations={','.join(self.locations)}"] if self.locations else []
        return [f"--carbon-max-delay={self.max_delay_s // HOUR}h", *where]


NARROW, WIDE = (1, 1, 2, 2, 3, 4, 4, 6, 8, 16), (1, 4, 4, 8, 8, 8, 12, 16, 16, 16)  # cores


def mixed(count: int, seed: int, widths: tuple[int, ...] = NARROW) -> list[Asked]:
    """Jobs of two users: 1 to 16 cores, 0.5 to 8 h, up to 48 h of delay; some are arrays, or tied to a place, or opt out."""
    random = Random(seed)
    found = []
    for number in range(count):
        home = random.choice(CLUSTERS)
        cores = random.choice(widths)
        run_s = random.choice((1, 1, 2, 2, 2, 4, 4, 6, 8, 16)) * GRID
        delay_s = random.choices((0, 6, 12, 24, 36, 48), (1, 3, 4, 5, 4, 4))[0] * HOUR
        asked = Asked(f"j{number:03}", random.choice(USERS), home, cores, run_s, delay_s)
        kind = random.random()
        if kind < 0.08 and run_s <= SHORT_S:
            asked = asked._replace(words=("-pshort",))
        elif kind < 0.14:
            asked = asked._replace(words=("-pbatch",))
        elif kind < 0.24:
            asked = asked._replace(words=(f"-M{home}",))
        elif kind < 0.30:
            asked = asked._replace(locations=(home,))
        elif kind < 0.36:
            asked = asked._replace(locations=(f"{random.choice(CLUSTERS)}/batch",))
        elif kind < 0.42:
            asked = asked._replace(tasks=random.randint(2, 4), cores=min(cores, 4))
        elif kind < 0.47:
            asked = asked._replace(off=True, max_delay_s=0)
        found.append(asked)
    return found


def cleanest(asked: Asked, known: Callable[[str, int], float], now_epoch_s: int) -> int:
    """The CATS rule: the start whose window is cleanest by the forecast of its own cluster, on a half-hourly grid."""
    if asked.off:
        return now_epoch_s

    def mean(start: int) -> float:
        return sum(known(asked.home, at) for at in range(start, start + asked.run_s, GRID))

    edges = range(-(-now_epoch_s // GRID) * GRID, now_epoch_s + asked.max_delay_s + 1, GRID)
    starts: list[int] = [now_epoch_s, *edges]
    return min(starts, key=mean)


# the clusters


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
        fields = "JobID,JobName,Partition,State,Start,End,ElapsedRaw,NCPUS,NodeList"
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
        for cluster, (shown, name, partition, state, start, end, elapsed, cores, node) in rows:
            if state.startswith("CANCELLED") and int(elapsed) == 0:
                continue  # it has gone to the other cluster
            assert state == "TIMEOUT", (cluster, shown, name, state, self.complaints(cluster))
            number, _, task = shown.partition("_")
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


# the rules


class Result(NamedTuple):
    """What came of all jobs under one rule."""

    rule: str
    ran: list[Ran]
    emitted_g: float
    mean_wait_h: float
    late: tuple[str, ...]  # names of those that started after their latest start
    moves: int
    wall_s: float
    submitted_epoch_s: int
    reports: list[dict[str, Any]]
    entries: dict[tuple[str, int], Entry]  # that the ledger has, by cluster and number
    spent: Counter[str]  # ms of the wall's time

    def wrong(self, jobs: Sequence[Asked]) -> list[str]:
        """What no rule may do: a job that did not run just once, or on a place where it may not."""
        asked = {job.name: job for job in jobs}
        times = Counter((r.name, r.task) for r in self.ran)
        wanted = {(j.name, str(task)) for j in jobs if j.tasks > 1 for task in range(1, j.tasks + 1)}
        wanted |= {(j.name, "") for j in jobs if j.tasks == 1}
        found = [f"{name} {task} ran {times[name, task]} times" for name, task in wanted | set(times) if times[name, task] != 1
                 or (name, task) not in wanted]  # fmt: skip
        return found + [
            f"{r.name} ran at {r.cluster}/{r.partition}, but may only at {sorted(asked[r.name].places())}"
            for r in self.ran if r.name in asked and f"{r.cluster}/{r.partition}" not in asked[r.name].places()
        ]  # fmt: skip

    def had_room(self, job: Asked) -> str:
        """A node that had room for a job all through the minutes after its latest start; empty if all was full."""
        latest = self.submitted_epoch_s + job.max_delay_s
        places = job.places()
        if not job.max_delay_s:  # it goes at once where its user sends it, and before there is any plan
            places = {place for place in places if place.startswith(f"{job.home}/")} or places
        for place in sorted(places):
            cluster, _, partition = place.partition("/")
            for number in range(NODES if partition == "batch" else NODES // 2):
                node = f"{cluster}{number}"
                here = [r for r in self.ran if r.node == node and r.start_epoch_s < latest + SLACK_S and r.end_epoch_s > latest]
                if sum(r.cores for r in here) + job.cores <= CORES:
                    return node
        return ""


PLAIN, ALONE, CATS, OURS = "plain sbatch", "each alone", "CATS rule", "slurm-carbon"
RULES = (PLAIN, ALONE, CATS, OURS)


def follow(days: Days, rule: str, jobs: Sequence[Asked], ticks_s: int, begin_epoch_s: int, most_s: int = 8 * DAY) -> Result:
    """Submit all jobs in a burst under a rule, and let the days pass."""
    wall = time.monotonic()
    days.jump_to(begin_epoch_s)
    days.set_up()
    now = days.now()
    csbatch, sbatch = [days.lab.bin / "csbatch"], ["sbatch"]
    if rule == PLAIN:
        days.submit(sbatch, [(asked, []) for asked in jobs])
    elif rule == CATS:

        def known(cluster: str, epoch_s: int) -> float:
            return days.truth.expected(cluster, days.truth.hour_of(epoch_s), days.truth.hour_of(now))

        begins = [cleanest(asked, known, now) for asked in jobs]
        days.submit(sbatch, [(a, [f"--begin=uts{b}"] if b > now else []) for a, b in zip(jobs, begins, strict=True)])
    else:
        days.submit(csbatch, [(asked, asked.carbon()) for asked in jobs])
    days.play(ticks_s if rule == OURS else None, most_s)
    ran = days.ran()
    emitted = sum(days.truth.emitted_g(r.cluster, r.start_epoch_s, r.end_epoch_s, r.cores) for r in ran)
    waits = [r.start_epoch_s - now for r in ran]
    first: dict[str, Ran] = {}  # of an array, which flows into what is free, the task that started first
    for each in sorted(ran, key=lambda r: r.start_epoch_s):
        first.setdefault(each.name, each)
    asked = [(first[job.name], job) for job in jobs if job.name in first and not job.off]
    late = [r.name for r, job in asked if r.start_epoch_s > now + job.max_delay_s + SLACK_S]
    moves = sum(each["outcome"] == "done" for report in days.reports for each in report["decided"])
    return Result(
        rule, ran, emitted, sum(waits) / max(1, len(waits)) / HOUR, tuple(sorted(late)), moves, time.monotonic() - wall, now,
        days.reports, days.entries() if rule == OURS else {}, days.spent,
    )  # fmt: skip


class Herd(NamedTuple):
    """What came of equal jobs that were submitted one after the other."""

    priced: bool
    jobs: int
    at_a_time: int  # as many of them fit
    beyond_h: float  # mean wait beyond the planned start
    longest_h: float
    emitted_g: float
    wall_s: float


def herd(
    days: Days, priced: bool, count: int, cores: int, nodes: int, submitted_s: int, every_s: int, begin_epoch_s: int
) -> Herd:
    """Equal jobs of an hour that come over some hours to one cluster, by csbatch, with runs between them.

    With prices, or with nothing but a new outlook instead of each run.
    """
    wall = time.monotonic()
    days.jump_to(begin_epoch_s)
    days.set_up(CLUSTERS[:1], 0.1)  # a job of one core has no more to save, and would go at once into what is full
    home = CLUSTERS[0]
    for node in range(nodes, NODES):
        days.ask(home, "scontrol", "update", f"nodename={home}{node}", "state=drain", "reason=fewer")
    begin, sent = days.now(), 0
    begins: dict[str, int] = {}
    for at in range(begin, begin + submitted_s, every_s):
        days.jump_to(at)
        if priced:
            days.tick()
        else:
            with days.timed("ticks"):
                days.new_forecast()
                days.run("refresh")
        until = count * (at - begin + every_s) // submitted_s
        some = [
            Asked(f"h{number:03}", USERS[number % 2], home, cores, HOUR, 3 * DAY, words=("-pbatch",))
            for number in range(sent, until)
        ]
        days.submit([days.lab.bin / "csbatch"], [(asked, asked.carbon()) for asked in some])
        sent = until
        begins |= days.begins(home)
    days.play(None, 8 * DAY)
    ran = days.ran()
    assert Counter(r.name for r in ran) == Counter(begins.keys()), (len(ran), len(begins))
    beyond = [max(0, r.start_epoch_s - begins[r.name]) / HOUR for r in ran]
    emitted = sum(days.truth.emitted_g(r.cluster, r.start_epoch_s, r.end_epoch_s, r.cores) for r in ran)
    return Herd(
        priced, count, nodes * (CORES // cores), sum(beyond) / len(beyond), max(beyond), emitted, time.monotonic() - wall
    )


def table(results: Sequence[Result]) -> str:
    """Rule, g CO2e, saving, mean wait, late, moves."""
    plain = next(r.emitted_g for r in results if r.rule == PLAIN)
    head = f"{'rule':<14}{'g CO2e':>10}{'saving':>9}{'mean wait':>11}{'late':>6}{'moves':>7}{'wall':>8}"
    rows = [
        f"{r.rule:<14}{r.emitted_g:>10.0f}{100 * (1 - r.emitted_g / plain):>8.1f}%{r.mean_wait_h:>9.1f} h{len(r.late):>6}"
        f"{r.moves:>7}{r.wall_s:>6.0f} s"
        for r in results
    ]
    return "\n".join([head, *rows])


def tomorrow() -> int:
    """17:00 UTC of the next day, when every day's cleaner hours are still to come; epoch seconds."""
    at = datetime.now(UTC).replace(hour=17, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return int(at.timestamp())


def at_once(installed: Path, name: str, jobs: Sequence[Asked], rules: Sequence[str], ticks_s: int, seed: int) -> list[Result]:
    """The rules side by side, each on two clusters of its own, all from the same hour on."""
    begin = tomorrow()

    def one(days: Days, rule: str) -> Result:
        return follow(days, rule, jobs, ticks_s, begin)

    return _side_by_side(installed, name, one, rules, truth(begin, seed), "enforce")


def herds(installed: Path, name: str, count: int, *, cores: int, nodes: int, submitted_s: int, every_s: int) -> list[Herd]:
    """The same equal jobs with prices and without, side by side."""
    begin = tomorrow()

    def one(days: Days, how: str) -> Herd:
        return herd(days, how == "priced", count, cores, nodes, submitted_s, every_s, begin)

    return _side_by_side(installed, name, one, ("priced", "unpriced"), one_green_hour(begin), "enforce")


def _side_by_side(
    installed: Path, name: str, do: Callable[[Days, str], T], which: Sequence[str], true: Truth, mode: str
) -> list[T]:
    lock = threading.Lock()
    lab_of = contextmanager(start_lab)

    def one(what: str) -> T:
        with ExitStack() as stack:
            with lock:  # they are brought up one by one: each takes all that this machine has
                lab = stack.enter_context(lab_of(installed, f"{name}-{what.split()[0]}", "--fake-clock"))
            days = Days(lab, true, mode=f'"{mode}"')
            stack.callback(days.end)
            return do(days, what)

    with ThreadPoolExecutor(len(which)) as pool:
        return list(pool.map(one, which))
