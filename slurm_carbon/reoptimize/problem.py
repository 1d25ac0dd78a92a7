"""From the jobs that may be moved, and the room for them, to a problem for the planner.

Where more waits than fits, windows are widened as far as a plan that is sure to exist needs it: a plan always exists, and
who starts late by it is said to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from slurm_carbon.estimate.power import power_w
from slurm_carbon.model import Job
from slurm_carbon.outlook import Outlook
from slurm_carbon.planning.problem import NO_END, Floats, Ints, Jobs, Problem, Profiles
from slurm_carbon.policy import in_waves
from slurm_carbon.reoptimize.room import Room, first_fit, is_split, run_s
from slurm_carbon.reoptimize.standing import Rules, Standing
from slurm_carbon.reoptimize.totals import Totals

EQUAL = (
    1e-4  # of what a job emits in an hour: what each hour of waiting weighs at least, so that of equal hours the earlier counts
)


@dataclass(frozen=True, eq=False)
class Movable:
    """The jobs that may be moved: J of the standings."""

    number: Ints  # [J] which of the standings
    here: Ints  # [J] location where it waits
    present: Ints  # [J] slot in which it would start as things stand; `slots` if it would not
    latest: Ints  # [J] last slot that its owner and the site allow
    sure: tuple[Ints, Ints]  # [J] location and start of a plan that is sure to be possible; `slots` for no start
    problem: Problem
    power_w: Floats  # [K, L] of the tasks that run at a time, PUE included

    def use(self, job: int, location: int) -> tuple[Ints, Floats, int]:
        """Pools, how much of each for one task, and slots, of a job at a location."""
        kind = int(self.problem.jobs.profile[job])
        places, profiles = self.problem.places, self.problem.profiles
        pools = np.flatnonzero(places.pool_members[:, location] & (profiles.demand[kind] > 0))
        run = int(np.ceil(profiles.run_h[kind, location] / places.slot_h - 1e-9))
        return pools, profiles.demand[kind, pools], max(1, run)

    def take(self, free: Floats, job: int, location: int, start: int, tasks: int = 1) -> None:
        """Take what a run needs of [Q, T]; with a negative number of tasks, give it back."""
        pools, amounts, run = self.use(job, location)
        free[pools, start : start + run] -= tasks * amounts[:, None]

    def emitted_g(self, totals: Totals, job: Ints, location: Ints, start_epoch_s: Floats) -> Floats:
        """g CO2e of one task, or the whole of what is not split, at other places and times, exact to the second."""
        kind = self.problem.jobs.profile[job]
        return totals.emitted_g(
            location, start_epoch_s, self.problem.profiles.run_h[kind, location] * 3600, self.power_w[kind, location]
        )

    def some(self, which: Ints, capacity: Floats) -> "Movable":
        """Some of the jobs, on what is free for them. All of them find room where they are."""
        jobs = self.problem.jobs
        here, present = self.here[which], self.present[which]
        chosen = Jobs(
            jobs.profile[which], jobs.scale[which], jobs.tasks[which], jobs.earliest[which], jobs.latest[which],
            jobs.finish_by[which], jobs.home[which], tuple(jobs.names[i] for i in which.tolist()),
        )  # fmt: skip
        problem = replace(self.problem, places=replace(self.problem.places, capacity=capacity), jobs=chosen)
        part = Movable(self.number[which], here, present, self.latest[which], (here, present), problem, self.power_w)
        return _widened(part)


def movable(room: Room, standings: Sequence[Standing], outlook: Outlook, rules: Rules) -> Movable:
    """What is to be planned: every job that does not stay."""
    places = room.places
    column = {name: index for index, name in enumerate(places.locations)}
    kinds: dict[tuple[Job, tuple[str, ...], str], int] = {}
    rows: list[tuple[int, int, int, int, int, int]] = []
    for row, standing in enumerate(standings):
        if standing.stays or standing.here not in column:
            continue
        tasks = standing.asked.array_tasks if is_split(standing, rules) else 1
        asked = standing.asked._replace(array_tasks=1, array_waves=1) if tasks > 1 else standing.asked
        locations = standing.locations
        if tasks > 1:  # an array can be submitted anew as a whole only
            locations = tuple(name for name in locations if name.partition("/")[0] == standing.job.cluster)
        which = kinds.setdefault((asked, locations, standing.home), len(kinds))
        latest_slot = room.slot(standing.latest_epoch_s)
        rows.append((row, which, column[standing.here], tasks, latest_slot, int(room.present[row])))
    numbers, kind, here_at, tasks_of, latest, present = np.array(rows, dtype=np.int64).reshape(len(rows), 6).T
    profiles, power = profiles_of(room, list(kinds), outlook, column)
    zero = np.zeros(len(rows), dtype=np.int64)
    jobs = Jobs(
        kind, np.ones(len(rows)), tasks_of, zero, np.minimum(latest, places.slots - 1), np.full(len(rows), NO_END), here_at,
        tuple(f"{standings[i].job.cluster}:{standings[i].job.number}" for i in numbers.tolist()),
    )  # fmt: skip
    problem = Problem(places, places.pool_names, profiles, jobs)
    return _widened(Movable(numbers, here_at, present, latest, (here_at, present), problem, power))


def profiles_of(
    room: Room, kinds: Sequence[tuple[Job, tuple[str, ...], str]], outlook: Outlook, column: dict[str, int]
) -> tuple[Profiles, Floats]:
    """What jobs of each kind take at each location, and the power they draw there."""
    count, pools = len(room.places.locations), len(room.pools)
    by_name = {location.name: location for location in outlook.locations}
    demand, power = np.zeros((len(kinds), pools)), np.zeros((len(kinds), count))
    run_h, allowed = np.ones((len(kinds), count)), np.zeros((len(kinds), count), dtype=bool)
    needs: dict[tuple[Job, str], dict[int, float]] = {}
    for row, (asked, names, home_name) in enumerate(kinds):
        home_at = by_name[home_name]
        home = outlook.partitions[home_at.cluster, home_at.partition]
        for name in names:
            index = column.get(name)
            if index is None:
                continue
            location = by_name[name]
            partition = outlook.partitions[location.cluster, location.partition]
            there = in_waves(asked, partition)
            busy = asked.array_tasks * asked.array_waves / (there.array_tasks * there.array_waves)
            allowed[row, index] = True
            run_h[row, index] = run_s(there) / 3600
            power[row, index] = power_w(there, location, partition, home) * busy
            key = there, location.cluster
            if key not in needs:
                needs[key] = room.needs(*key)
            for pool, amount in needs[key].items():
                demand[row, pool] = max(demand[row, pool], amount)
    ones = np.ones((len(kinds), 1))
    nothing = np.zeros(len(kinds), dtype=np.int64)
    hourly_g = power.max(1, initial=0.0) / 1000 * float(room.places.intensity_g_per_kwh.max(initial=0.0))
    delay = np.maximum(outlook.policy.delay_g_per_h, EQUAL * hourly_g)
    return Profiles(demand, power / 1000, run_h, allowed, delay, ones, ones, np.zeros(len(kinds)), nothing, nothing - 1), power


def _widened(of: Movable) -> Movable:
    """Windows in which a plan is sure to exist: as things stand or, if fewer are late so, by the latest starts in order."""
    slots = of.problem.places.slots
    allowed = of.problem.profiles.allowed[of.problem.jobs.profile, of.here] if len(of.number) else np.zeros(0, dtype=bool)
    place, start = of.here, np.where(allowed, of.present, slots)
    late = int(np.sum(start > of.latest))
    if late:
        by_deadline = _by_deadline(of)
        if int(np.sum(by_deadline[1] > of.latest)) < late:
            place, start = by_deadline
    widest = np.minimum(np.maximum(of.latest, start), slots - 1)
    return replace(of, sure=(place, start), problem=replace(of.problem, jobs=replace(of.problem.jobs, latest=widest)))


def _by_deadline(of: Movable) -> tuple[Ints, Ints]:
    """Each job as soon as it finds room anywhere, those first that have to start first; of these the largest."""
    places, profiles, jobs = of.problem.places, of.problem.profiles, of.problem.jobs
    slots = places.slots
    pad = int(np.ceil(profiles.run_h.max(initial=1) / places.slot_h)) + 1
    free = np.concatenate((places.capacity, np.full((len(places.capacity), pad), np.inf)), axis=1)
    work = profiles.demand.sum(1) * profiles.run_h.max(1, initial=0)
    place, start = of.here.copy(), np.full(len(jobs), slots, dtype=np.int64)
    order = np.lexsort((-(work[jobs.profile] * jobs.tasks), of.latest))
    full_until: dict[tuple[int, int, int], int] = {}  # where the last one like it found room, there is none before
    for job in order.tolist():
        kind, tasks = int(jobs.profile[job]), int(jobs.tasks[job])
        best = slots
        for location in np.flatnonzero(profiles.allowed[kind]).tolist():
            pools, amounts, run = of.use(job, location)
            key = kind, location, tasks
            found = first_fit(free, pools, tasks * amounts, run, full_until.get(key, 0), slots)
            full_until[key] = found
            if found < best:
                place[job], best = location, found
        start[job] = best
        if best < slots:
            of.take(free, job, int(place[job]), best, tasks)
    return place, start
