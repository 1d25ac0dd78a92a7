"""What a move is worth: its saving against what is as things stand, on one forecast, and whether that is enough."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slurm_carbon.outlook import Outlook
from slurm_carbon.planning.problem import FITS, Bools, Floats, Ints
from slurm_carbon.reoptimize.problem import Movable
from slurm_carbon.reoptimize.room import Room
from slurm_carbon.reoptimize.standing import Rules, Standing
from slurm_carbon.reoptimize.totals import Totals

BROKEN = 3.0  # times what the largest job emits: what a latest start that is not kept weighs,
LATEST_H = 100  # and as much again after so many hours
EARLIER_S = 3600  # by how much a job that will be late anyhow has to start earlier to be moved for that


@dataclass(frozen=True, eq=False)
class Spots:
    """Where jobs would be: one spot a job, or several of an array whose tasks may be apart."""

    job: Ints
    location: Ints
    start: Ints
    tasks: Ints

    @staticmethod
    def none() -> "Spots":
        """No job is anywhere."""
        return Spots(*[np.zeros(0, dtype=np.int64)] * 4)

    def only(self, jobs: Ints) -> "Spots":
        """Those of some jobs."""
        rows = np.isin(self.job, jobs)
        return Spots(self.job[rows], self.location[rows], self.start[rows], self.tasks[rows])


@dataclass(frozen=True, eq=False)
class Worth:
    """What spots would do for each job [J], beside what is as things stand. A job without a spot stays where it is."""

    good: Bools  # worth a move by itself
    may: Bools  # it may be there: by itself, because it is rescued, or to make way
    cost_g: Floats  # what a move there costs, less what it saves: what it would have to save, or what its wait weighs
    rescued: Bools  # because it would start too late as things stand
    saved_g: Floats  # what counts of the saving: delays by the share that forecasts have been shown to capture
    new_g: Floats
    needed_g: Floats


class Scales:
    """The jobs that may be moved, as they are, and what is else worth to them."""

    def __init__(
        self, room: Room, of: Movable, mine: Sequence[Standing], outlook: Outlook, rules: Rules, now_epoch_s: int
    ) -> None:
        self.room, self.of, self.now, self.rules = room, of, now_epoch_s, rules
        self.jobs, self.profiles = of.problem.jobs, of.problem.profiles
        by_name = {location.name: location for location in outlook.locations}
        self.locations = [by_name[name] for name in room.places.locations]
        self.zones = [outlook.zones[location.zone] for location in self.locations]
        self.users = [s.job.user for s in mine]
        self.in_federation = np.array([bool(s.job.siblings) for s in mine], dtype=bool)
        self.cluster = np.unique([location.cluster for location in self.locations], return_inverse=True)[1]
        self.totals = Totals(self.zones)
        self.captured = np.array([zone.captured for zone in self.zones])
        count = len(mine)
        self.starts = np.array([s.start_epoch_s for s in mine], dtype=float)
        self.latest = np.array([s.latest_epoch_s for s in mine], dtype=float)
        here_allowed = self.profiles.allowed[self.jobs.profile, of.here] if count else np.zeros(0, dtype=bool)
        self.stuck = (of.present >= room.places.slots) | ~here_allowed  # it would not start within the plan
        end = room.places.start_epoch_s + room.places.slots * room.places.slot_s
        begins_beyond = here_allowed & np.array([(s.job.eligible_epoch_s or 0) >= end for s in mine], dtype=bool)
        self.late = (self.starts > self.latest) | (self.stuck & ~begins_beyond)
        self.present_g = of.emitted_g(self.totals, np.arange(count), of.here, self.starts) * self.jobs.tasks
        self.baseline_g = self._baseline_g(mine)
        self.once_g = np.maximum(rules.min_saving_g, self.present_g * rules.min_saving_pct / 100)
        self.needed_g = self.once_g * rules.dearer ** np.array([s.moves for s in mine], dtype=float)
        self.only_rescue = np.array([s.only_rescue for s in mine], dtype=bool)
        self.eligible = np.array([(s.job.eligible_epoch_s or 0) <= now_epoch_s for s in mine], dtype=bool)
        self.weight_g_per_s = self.profiles.delay_g_per_h[self.jobs.profile] / 3600
        self._rows: dict[tuple[int, int], Floats] = {}
        self.times = self.begins(np.arange(room.places.slots))

    def begins(self, start: Ints) -> Floats:
        """When what is planned for these slots starts: in the first one, at once."""
        places = self.room.places
        edges = places.start_epoch_s + start * float(places.slot_s)
        return np.where(start > 0, np.maximum(edges, self.now), self.now)

    def worth(self, spots: Spots) -> Worth:
        """What moving to these spots saves, and whether that is enough."""
        of, count = self.of, len(self.starts)
        job, where = spots.job, spots.location
        begin, was = self.begins(spots.start), self.starts[job]
        there = of.emitted_g(self.totals, job, where, begin)
        here_then = of.emitted_g(self.totals, job, of.here[job], was)
        there_then = of.emitted_g(self.totals, job, where, was)
        counts = np.where((begin > was) & (there_then > there), self.captured[where], 1.0)
        saved = np.bincount(job, (here_then - there_then + counts * (there_then - there)) * spots.tasks, count)
        waits_g = np.bincount(job, self.weight_g_per_s[job] * (begin - was) * spots.tasks, count)
        new_g = np.bincount(job, there * spots.tasks, count)
        placed = np.bincount(job, spots.tasks, count) == self.jobs.tasks
        placed &= np.bincount(job, spots.start >= self.room.places.slots, count) == 0
        moved = np.bincount(job, ~self.at_home(job, where, spots.start), count) > 0
        last = np.zeros(count)
        np.maximum.at(last, job, begin)
        at_once = np.bincount(job, (where != of.here[job]) | (spots.start > 0), count) == 0
        needed = np.where(at_once, self.once_g, self.needed_g)  # who starts at once is not moved again
        earlier = (last <= self.latest) | (((last < self.starts - EARLIER_S) | self.stuck) & ~self.only_rescue)
        rescued = moved & placed & self.late & earlier
        in_time = moved & placed & ~self.only_rescue & (last <= self.latest)
        enough = in_time & (saved >= needed) & (saved > waits_g) & (saved > 0)
        makes_way = in_time & ~self.late & (new_g <= np.maximum(self.present_g, self.baseline_g) + self.once_g)
        was_late_g = self.lateness_g(np.where(self.stuck & self.late, np.inf, self.starts))
        cost_g = np.where(rescued, self.lateness_g(last) - was_late_g, np.maximum(needed, waits_g)) - saved
        return Worth(enough | rescued, enough | rescued | makes_way, cost_g, rescued, saved, new_g, needed)

    def lateness_g(self, start: Floats) -> Floats:
        """What starts [J] after the latest start weigh: more than any job emits, and more for each hour."""
        late_h = np.clip((start - self.latest) / 3600, 0.0, LATEST_H)
        weight_g = BROKEN * max(1.0, float(self.present_g.max(initial=0.0)))
        return np.where(late_h > 0, weight_g * (1 + late_h / LATEST_H), 0.0)

    def _baseline_g(self, mine: Sequence[Standing]) -> Floats:
        """At once at home, when each was submitted: as it was recorded, or else by what is known of that time now."""
        names = {name: index for index, name in enumerate(self.room.places.locations)}
        home = np.array([names.get(s.home, -1) for s in mine], dtype=np.int64)
        home = np.where((home >= 0) & self.profiles.allowed[self.jobs.profile, home], home, self.of.here)
        when = np.array([s.job.submit_epoch_s for s in mine], dtype=float)
        counted_g = self.of.emitted_g(self.totals, np.arange(len(mine)), home, when) * self.jobs.tasks
        recorded_g = np.array([np.nan if s.baseline_g is None else s.baseline_g for s in mine], dtype=float)
        return np.where(np.isnan(recorded_g), counted_g, recorded_g)

    def at_home(self, job: Ints, where: Ints, start: Ints) -> Bools:
        """Whether spots are where and when jobs start as things stand.

        One that may start already, and only waits for room, does not start earlier there for being told to.
        """
        of = self.of
        return np.asarray(
            (where == of.here[job]) & ((start == of.present[job]) | (self.eligible[job] & (start < of.present[job])))
        )

    def is_anew(self, job: Ints, location: Ints) -> Bools:
        """Whether jobs would be submitted anew to come to locations."""
        return np.asarray((self.cluster[self.of.here[job]] != self.cluster[location]) & ~self.in_federation[job])

    def row(self, kind: int, location: int) -> Floats:
        """[T] g of a profile at a location, by the slot in which it starts."""
        found = self._rows.get((kind, location))
        if found is None:
            run = np.full(len(self.times), self.profiles.run_h[kind, location] * 3600)
            power = np.full(len(self.times), self.of.power_w[kind, location])
            found = self.totals.emitted_g(np.full(len(self.times), location), self.times, run, power)
            self._rows[kind, location] = found
        return found

    def alternative(self, job: int, free: Floats, near: bool = False) -> tuple[int, int] | None:
        """Where and when in what is free a move is worth most to a job; None if it is to nowhere. Not for split arrays.

        `near`: only where it need not be submitted anew.
        """
        of, kind, slots = self.of, int(self.jobs.profile[job]), len(self.times)
        late, here, was = bool(self.late[job]), int(of.here[job]), float(self.starts[job])
        until = slots if late else min(slots, int(of.latest[job]) + 1)
        best: tuple[float, int, int] | None = None
        for location in np.flatnonzero(self.profiles.allowed[kind]).tolist():
            if near and self.is_anew(np.array(job), np.array(location)):
                continue
            pools, amounts, run = of.use(job, location)
            full: Bools = np.any(free[pools, : until + run - 1] < amounts[:, None] * (1 - FITS), axis=0)
            taken = np.zeros(until + run, dtype=np.int64)
            taken[1 : len(full) + 1] = np.cumsum(full)
            taken[len(full) + 1 :] = taken[len(full)]  # beyond the plan everything is free
            fits = taken[run : run + until] == taken[:until]
            fits &= ~self.at_home(np.full(until, job), np.full(until, location), np.arange(until))
            choice = np.flatnonzero(fits)
            if not len(choice):
                continue
            times = self.times[choice]
            grams = self.row(kind, location)[choice]
            if late:
                in_time = times <= self.latest[job]
                may = in_time | (((times < was - EARLIER_S) | self.stuck[job]) & ~self.only_rescue[job])
                score = np.where(in_time, -grams, -1e18 - times)
            else:
                one, at = np.array([job]), np.array([location])
                there_then = float(of.emitted_g(self.totals, one, at, np.array([was]))[0])
                by_waiting = there_then - grams
                counts = np.where((times > was) & (by_waiting > 0), self.captured[location], 1.0)
                score = self.present_g[job] - there_then + counts * by_waiting
                needed = np.where((location == here) & (choice == 0), self.once_g[job], self.needed_g[job])
                may = (score >= needed) & (score > 0) & (score > self.weight_g_per_s[job] * (times - was))
                may &= ~self.only_rescue[job] & (times <= self.latest[job])
            if may.any():
                nth = int(np.where(may, score, -np.inf).argmax())
                if best is None or score[nth] > best[0]:
                    best = float(score[nth]), location, int(choice[nth])
        return None if best is None else best[1:]
