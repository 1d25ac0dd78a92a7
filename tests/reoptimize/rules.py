"""The same jobs under one rule or another, side by side, and what they really emitted.

What is counted here is counted by nothing of the product: start, end and cluster as sacct has them, the cores that were asked
for, and a true intensity that no rule knows beforehand.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from slurm_carbon.ledger.values import Entry
from slurm_carbon.units import time_text
from tests.conftest import start_lab
from tests.reoptimize.burst import (
    CLUSTERS,
    CORES,
    DAY,
    HOUR,
    NODES,
    USERS,
    Asked,
    Truth,
    cleanest,
    one_green_hour,
    truth,
)
from tests.reoptimize.days import Days, Ran

SLACK_S = 300  # how much later than its time a start is seen on a clock that jumps
T = TypeVar("T")


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

    def history(self, job: Asked) -> list[str]:
        """What became of a job, and what was decided about it, run by run."""
        ran = [r for r in self.ran if r.name == job.name]
        numbers = [(ran[0].cluster, ran[0].job_id)]
        while (entry := self.entries.get(numbers[-1])) is not None and entry.follows:
            cluster, _, number = entry.follows.partition(":")
            numbers.append((cluster, int(number)))
        latest = time_text(self.submitted_epoch_s + job.max_delay_s)
        lines = [f"{job}: latest {latest}, room on {self.had_room(job)}"]
        lines += [f"  ran on {r.node} from {time_text(r.start_epoch_s)}, {r.cluster} {r.job_id}" for r in ran]
        for report in self.reports:
            lines += [
                f"  {time_text(report['at'])} {one['cluster']} {one['job_id']} to {one['to_location']} "
                f"{time_text(one['to_epoch_s'])}: {one['outcome']}; {one['reason']}"
                for one in report["decided"]
                if (one["cluster"], one["job_id"]) in numbers
            ]
        return lines

    def sent(self, job: Asked) -> str:
        """Where a job was submitted to at first."""
        ran = next(r for r in self.ran if r.name == job.name)
        cluster, number, place = ran.cluster, ran.job_id, f"{ran.cluster}/{ran.partition}"
        while (entry := self.entries.get((cluster, number))) is not None and entry.follows:
            cluster, _, text = entry.follows.partition(":")
            number, place = int(text), self.entries[cluster, int(text)].location
        return place

    def had_room(self, job: Asked) -> str:
        """A node that had room for a job all through the minutes after its latest start; empty if all was full."""
        latest = self.submitted_epoch_s + job.max_delay_s
        places = job.places()
        if not job.max_delay_s:  # it goes to one place at once, before there is any plan
            places = {self.sent(job)}
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
