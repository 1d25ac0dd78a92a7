"""Prices for the jobs that come before the next run: what is left in each slot is worth what those to come would give for it.

csbatch and the hook place each job by itself. Without prices all that come between two runs would pick the same green hour.
What comes next is expected to be like what came lately: in the next hours as in the last ones, later as a day before.
"""

from collections.abc import Iterable, Sequence
from math import exp
from typing import NamedTuple

import numpy as np

from slurm_carbon import marks
from slurm_carbon.hook.records import of_job
from slurm_carbon.model import Job
from slurm_carbon.outlook import Outlook
from slurm_carbon.place import PERISHES_S
from slurm_carbon.planning.arrivals import FUTURES, Expected, for_arrivals
from slurm_carbon.planning.prices import per_hour
from slurm_carbon.planning.problem import NO_END, Floats, Jobs, Problem
from slurm_carbon.queued import Queue, QueuedJob
from slurm_carbon.reoptimize.problem import profiles_of
from slurm_carbon.reoptimize.room import CORES, GPUS, MEMORY_GB, Room
from slurm_carbon.reoptimize.standing import Standing, job_asks
from slurm_carbon.units import DAY_S, HOUR_S

LATELY_S = 3 * HOUR_S  # for so long it goes on as it did; then as a day before
AHEAD_S = 2 * DAY_S  # of what is to come is expected; before the rest comes, prices are made anew
MOST = 3000  # jobs in all futures together: of more than that, some stand for several
FEWEST = 2  # futures
DEARER = 1.05  # times the dirtiest hour: what a slot without room costs
LEAST_SHARE = 0.05  # of a price that is due at its time; see place.still_due


class Arrival(NamedTuple):
    """A job that came: what one like it will ask for, where and for how long it may wait."""

    submit_epoch_s: int
    asked: Job
    home: str
    locations: tuple[str, ...]
    may_wait_s: int


def arrivals(
    queues: Sequence[Queue], standings: Sequence[Standing], outlook: Outlook, now_epoch_s: int
) -> list[Arrival]:  # fmt: skip
    """The jobs of the last day that are still in the queues, waiting or running; nobody knows those that have ended."""
    known = {location.name for location in outlook.locations if (location.cluster, location.partition) in outlook.partitions}
    since = now_epoch_s - DAY_S
    found = []
    for standing in standings:
        job = standing.job
        if since <= job.submit_epoch_s <= now_epoch_s and standing.here in known and not job.is_held and job.time_limit_s:
            waits_s = max(0, standing.latest_epoch_s - job.submit_epoch_s) if standing.may else 0
            locations = standing.locations if standing.may and standing.locations else (standing.here,)
            found.append(
                Arrival(job.submit_epoch_s, standing.asked, _home(standing.home, known, standing.here), locations, waits_s)
            )
    for queue in queues:
        for job in queue.jobs:
            here = f"{job.cluster}/{job.partition}"
            if job.state != "PENDING" and since <= job.submit_epoch_s <= now_epoch_s and here in known and job.time_limit_s:
                found.append(_of_running(job, here, known))
    return found


def _home(name: str, known: set[str], here: str) -> str:
    return name if name in known else here


def _of_running(job: QueuedJob, here: str, known: set[str]) -> Arrival:
    """By its mark or the hook's record. What a mark claims is only a guess at what may come."""
    asked = job_asks(job)._replace(array_tasks=1, array_waves=1)
    mark, hook = marks.read(job.comment)[1], of_job(job.admin_comment)
    latest, home = job.submit_epoch_s, here
    locations: tuple[str, ...] = (here,)
    if hook is not None and hook.latest_epoch_s:
        latest, locations, home = hook.latest_epoch_s, hook.locations, hook.home
    elif mark is not None:
        latest, locations = mark.latest_epoch_s, mark.locations
    named = tuple(name for name in locations if name in known) or (here,)
    waits_s = min(max(0, latest - job.submit_epoch_s), 7 * DAY_S)
    return Arrival(job.submit_epoch_s, asked, _home(home, known, here), named, waits_s)


def prices(
    room: Room, free: Floats, came: Iterable[Arrival], outlook: Outlook, now_epoch_s: int, seed: int = 0
) -> dict[str, dict[str, list[float]]]:
    """Per location and resource, g per unit and hour for each slot of the room, for `outlook.with_prices`.

    `free` [Q, T] is what all that is placed by now leaves.
    """
    came = [arrival for arrival in came if arrival.home in room.places.locations]
    places = room.places
    problem, future = _to_come(room, came, outlook, now_epoch_s, seed)
    found: dict[str, dict[str, Floats]] = {name: {} for name in room.places.locations}
    if len(problem.jobs):
        priced = for_arrivals(Expected(problem, future), 0, free)
        kinds = {pool.name: pool.kind for pool in room.pools}
        for location, by_pool in per_hour(problem, priced.by).items():
            of = found[location]
            typed = [values for name, values in by_pool.items() if kinds[name].startswith(f"{GPUS}:")]
            for name, values in by_pool.items():
                if not kinds[name].startswith(f"{GPUS}:"):
                    of[kinds[name]] = of.get(kinds[name], 0.0) + values
            if typed:
                of[GPUS] = of.get(GPUS, 0.0) + np.max(typed, axis=0)
            if MEMORY_GB in of:  # most jobs name no memory and take it with their cores: these carry its price
                per_core = _gb_per_core(room, problem, places.locations.index(location))
                of[CORES] = of.get(CORES, 0.0) + per_core * of.pop(MEMORY_GB)
    _without_room(room, free, problem, found)
    return {name: {kind: values.tolist() for kind, values in of.items() if values.any()} for name, of in found.items()}


def _gb_per_core(room: Room, problem: Problem, location: int) -> float:
    """Memory for each core of the jobs that are expected, where it is scarce."""
    often = np.bincount(problem.jobs.profile, weights=problem.jobs.scale, minlength=len(problem.profiles))
    taken = {
        kind: sum(
            float(often @ problem.profiles.demand[:, index])
            for index, pool in enumerate(room.pools)
            if pool.kind == kind and room.places.pool_members[index, location]
        )
        for kind in (CORES, MEMORY_GB)
    }
    return taken[MEMORY_GB] / taken[CORES] if taken[CORES] else 0.0


def _to_come(
    room: Room, came: Sequence[Arrival], outlook: Outlook, now_epoch_s: int, seed: int
) -> tuple[Problem, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """Futures made of what came: each job again as often as chance has it, at about its time."""
    random = np.random.default_rng(seed)
    places = room.places
    times: list[tuple[float, int]] = []  # when, and which of those that came
    for number, arrival in enumerate(came):
        ago_s = now_epoch_s - arrival.submit_epoch_s
        if ago_s <= LATELY_S:
            times.append((now_epoch_s + max(1, ago_s), number))
        times += [
            (at, number) for day in (1, 2, 3)
            if LATELY_S < (at := arrival.submit_epoch_s + day * DAY_S) - now_epoch_s <= AHEAD_S
        ]  # fmt: skip
    futures = int(np.clip(MOST // max(1, len(times)), FEWEST, FUTURES))
    stands_for = max(1, -(-len(times) * futures // MOST))  # so many of them each
    kinds: dict[tuple[Job, tuple[str, ...], str], int] = {}
    kind_of = [kinds.setdefault((a.asked, a.locations, a.home), len(kinds)) for a in came]
    column = {name: index for index, name in enumerate(places.locations)}
    profiles, _ = profiles_of(room, list(kinds), outlook, column)
    when = np.array([at for at, _ in times], dtype=float)
    which = np.array([number for _, number in times], dtype=np.int64)
    count = random.poisson(1 / stands_for, (futures, len(times)))
    future, nth = np.nonzero(count)
    repeat = count[future, nth]
    future, nth = np.repeat(future, repeat), np.repeat(nth, repeat)
    jitter = random.uniform(-0.5, 0.5, len(nth)) * np.minimum(places.slot_s, when[nth] - now_epoch_s)
    slot = np.floor((when[nth] + jitter - places.start_epoch_s) / places.slot_s).astype(np.int64).clip(0)
    nth = which[nth]
    waits = np.array([a.may_wait_s for a in came], dtype=np.int64)[nth] // places.slot_s
    # who comes when the plan ends has most of his choice beyond it, and must not be thought to press into its last slots
    inside = places.slots - 1 - slot >= np.minimum(waits, places.slots // 2)
    future, nth, slot, waits = future[inside], nth[inside], slot[inside], waits[inside]
    homes = np.array([column[a.home] for a in came], dtype=np.int64)[nth]
    number_of = len(nth)
    jobs = Jobs(
        np.array(kind_of, dtype=np.int64)[nth], np.full(number_of, float(stands_for)),
        np.ones(number_of, dtype=np.int64), slot, np.minimum(slot + waits, places.slots - 1), np.full(number_of, NO_END), homes,
    )  # fmt: skip
    return Problem(places, places.pool_names, profiles, jobs), future


def _without_room(room: Room, free: Floats, problem: Problem, found: dict[str, dict[str, Floats]]) -> None:
    """Where one more job of the usual size has no room, cores cost so much that it is better off in any other slot.

    For a slot that is near, more: part of a price is not due any more when its time comes.
    """
    places, profiles, jobs = room.places, problem.profiles, problem.jobs
    if not len(jobs):
        return
    often = np.bincount(jobs.profile, minlength=len(profiles)) / len(jobs)
    dirtiest = DEARER * float(places.intensity_g_per_kwh.max(initial=0.0))
    starts = places.start_epoch_s + np.arange(places.slots) * places.slot_s
    share = np.array([1 - exp(-max(0, start - room.now_epoch_s) / PERISHES_S) for start in starts.tolist()])
    for index, pool in enumerate(room.pools):
        if pool.kind != CORES:
            continue
        weight = often * (profiles.demand[:, index] > 0)
        if not weight.any():
            continue
        usual = float(weight @ profiles.demand[:, index] / weight.sum())
        full = free[index] < usual * (1 - 1e-6)
        for location in np.flatnonzero(places.pool_members[index]).tolist():
            kw = float(weight @ profiles.power_kw[:, location] / max(1e-12, float(weight @ profiles.demand[:, index])))
            floor = kw * (dirtiest - places.intensity_g_per_kwh[location]) / np.maximum(share, LEAST_SHARE)
            of = found[places.locations[location]]
            of[CORES] = np.maximum(of.get(CORES, 0.0), np.where(full, floor, 0.0))
