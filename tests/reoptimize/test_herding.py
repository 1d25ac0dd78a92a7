"""Jobs that are placed one by one between two runs do not all pick the same green hour: prices keep them apart."""

from __future__ import annotations

import heapq
from functools import cache

from slurm_carbon import marks
from slurm_carbon.decide import decide
from slurm_carbon.marks import Mark
from slurm_carbon.model import Job, NodeShape, Wishes
from slurm_carbon.outlook import Outlook, with_prices
from slurm_carbon.queued import Node, Queue, QueuedJob
from slurm_carbon.reoptimize.choose import choose
from slurm_carbon.reoptimize.expect import arrivals, prices
from slurm_carbon.reoptimize.room import furnish
from slurm_carbon.reoptimize.standing import Rules, standings
from tests.reoptimize.factory import DAY, HOUR, NOW, outlook, partition
from tests.unit.factory import OWNER

JOBS, CORES, AT_A_TIME = 500, 4, 50  # a green hour holds a tenth of the jobs
EVERY = 300  # s between two runs
GREEN = 10  # the hour of each day
SUBMITTED = 3 * HOUR
NODES = tuple(Node(f"n{n}", 20, 64000, partitions=("batch",)) for n in range(AT_A_TIME * CORES // 20))


def world() -> Outlook:
    """One cluster; a green hour a day, and otherwise between 300 and 400 g/kWh; three days to wait."""
    day = [50.0 if hour == GREEN else 350.0 + 50 * ((hour * 7) % 24 - 12) / 12 for hour in range(24)]
    shape = NodeShape(len(NODES), 20, 64000)
    return outlook(dirty=day * 6, partitions=[partition("alpha", shapes=(shape,))], max_delay_s=3 * DAY)


def submitted(number: int) -> int:
    """When a job comes."""
    return NOW + number * SUBMITTED // JOBS


def queue(begins: dict[int, int], starts: dict[int, int], now: int) -> Queue:
    """The cluster at a time: who waits for his begin or for room, and who runs."""
    jobs = []
    for number, begin in begins.items():
        start = starts[number] if starts[number] <= now else None
        if start is not None and start + HOUR <= now:
            continue
        mark = marks.write(Mark(begin, submitted(number) + 3 * DAY, "alpha/batch", 1, 1, 1))
        jobs.append(QueuedJob(
            "alpha", number + 1, "user1", 1001, "PENDING" if start is None else "RUNNING", "batch", submitted(number),
            "BeginTime" if begin > now else "" if start else "Priority", eligible_epoch_s=begin, start_epoch_s=start,
            end_epoch_s=None if start is None else start + HOUR, time_limit_s=HOUR, cpus=CORES, comment=mark,
        ))  # fmt: skip
    return Queue("alpha", "22.05.8", now, tuple(jobs), NODES)


def first_come(begins: dict[int, int]) -> dict[int, int]:
    """When each job really starts, first come, first served, by the second."""
    ends: list[int] = []
    starts = {}
    for begin, number in sorted((begin, number) for number, begin in begins.items()):
        start = begin if len(ends) < AT_A_TIME else max(begin, heapq.heappop(ends))
        heapq.heappush(ends, start + HOUR)
        starts[number] = start
    return starts


@cache
def play(priced: bool) -> tuple[float, float, float]:
    """Hours that a job waits on the mean beyond its planned start, its mean emissions in g, and its longest wait."""
    published, rules = world(), Rules(max_updates=0)
    begins: dict[int, int] = {}
    number = 0
    for now in range(NOW, NOW + SUBMITTED, EVERY):
        if priced:
            queues = [queue(begins, first_come(begins), now)]
            found = standings(queues, {}, published, {}, rules, now)
            room, found = furnish(queues, found, published, rules, now, 3 * DAY)
            chosen = choose(room, found, published, rules, now, 0.1)
            assert not chosen.moves
            asked = prices(room, chosen.free, arrivals(queues, found, published, now), published, now)
            published = with_prices(published, asked, room.places.start_epoch_s, room.places.slot_s, now)
        while number < JOBS and submitted(number) < now + EVERY:
            asks = Job(time_limit_s=HOUR, cpus=CORES)
            decision = decide(asks, OWNER, Wishes(), published, "alpha", submitted(number))
            begins[number] = decision.chosen.start_epoch_s if decision.chosen else submitted(number)
            number += 1
    starts = first_come(begins)
    waits = [(starts[n] - begins[n]) / HOUR for n in begins]
    zone, (location,) = published.zones["D"], published.locations
    one = decide(Job(time_limit_s=HOUR, cpus=CORES), OWNER, Wishes(), published, "alpha", NOW).baseline
    assert one is not None
    assert location.zone == "D"
    emitted = [zone.over_run(start, HOUR) * one.estimate.energy_kwh for start in starts.values()]
    return sum(waits) / JOBS, sum(emitted) / JOBS, max(waits)


def test_with_prices_jobs_hardly_wait_beyond_their_plan() -> None:
    """500 jobs over 3 h, a tenth of which fits into the green hour of a day, a run every 5 min: under one slot on the mean."""
    assert play(True)[0] < 1.0


def test_without_prices_they_all_pick_the_same_hour() -> None:
    """The same jobs against the same forecast wait hours for each other."""
    assert play(False)[0] > 1.0
    assert play(False)[0] > 4 * play(True)[0]


def test_prices_save_emissions_as_well() -> None:
    """Who is turned away from the full hour finds another green one, instead of the dirty hours right behind it."""
    assert play(True)[1] < 0.9 * play(False)[1]
