"""From a plan to moves: only what is worth it, never what makes others late, and for everything a reason.

Jobs must not be moved for the noise of a forecast, so each move has to save something, and of what has been moved before more.
The plan is made more than once: first of all jobs freely; then, of the moves that are chosen of it, with all others fixed where
they stand. A job that would start too late as things stand is moved whatever that saves.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slurm_carbon.ledger.values import Entry
from slurm_carbon.outlook import Outlook
from slurm_carbon.planning.columns import Multipliers
from slurm_carbon.planning.planner import Outcome, Planner, Progress
from slurm_carbon.planning.problem import Bools, Floats, Ints
from slurm_carbon.reoptimize.accept import accept
from slurm_carbon.reoptimize.joint import Menu
from slurm_carbon.reoptimize.move import Move
from slurm_carbon.reoptimize.problem import Movable, movable
from slurm_carbon.reoptimize.room import Room
from slurm_carbon.reoptimize.standing import Rules, Standing
from slurm_carbon.reoptimize.worth import Scales, Spots, Worth
from slurm_carbon.units import mass_text, time_text, utc

PASSES = (0.6, 0.9)  # shares of the time that is left for each plan
PLANNING = 0.8  # share of the time for plans; the rest is for those whose place is taken
CHOOSING = 0.08  # share for a choice of moves, after each of them
FEW = 0.02  # of the jobs to be moved, whom a plan may lose without being made again
LOOKED_AT = 64  # jobs at most, for one to change places with
BEST = "where and when it is, is best"


@dataclass(frozen=True)
class Stays:
    """A job that is left as it is, and why."""

    standing: Standing
    reason: str  # for its owner
    late: bool = False  # it will start after its latest start, as far as is known


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is to be done with every waiting job."""

    moves: tuple[Move, ...]  # the best first, users in turn
    stays: tuple[Stays, ...]
    entries: tuple[Entry, ...]  # of the jobs that may be moved but stay: what the ledger shall know, where it does not
    figures: dict[str, float | int | str]
    free: Floats  # [Q, T] what is left of each pool when all this is done
    free_as_is: Floats  # [Q, T] what is left if nothing is done
    by: Multipliers | None  # congestion prices of the plan


def choose(
    room: Room, standings: Sequence[Standing], outlook: Outlook, rules: Rules, now_epoch_s: int, solver_s: float | None,
    watch: Callable[[Progress], None] | None = None, clock: Callable[[], float] = time.monotonic,
) -> Chosen:  # fmt: skip
    """The moves of one run. `solver_s` None is a fixed amount of work, the same on every machine."""
    return _Chooser(room, standings, outlook, rules, now_epoch_s, watch, clock, solver_s).chosen()


class _Chooser:
    def __init__(
        self, room: Room, standings: Sequence[Standing], outlook: Outlook, rules: Rules, now_epoch_s: int,
        watch: Callable[[Progress], None] | None, clock: Callable[[], float], solver_s: float | None,
    ) -> None:  # fmt: skip
        self.room, self.standings, self.rules, self.now = room, standings, rules, now_epoch_s
        self.watch, self.clock, self.solver_s = watch, clock, solver_s
        self.began = clock()
        self.all = of = movable(room, standings, outlook, rules)
        self.mine = [standings[number] for number in of.number.tolist()]
        self.scales = scales = Scales(room, of, self.mine, outlook, rules, now_epoch_s)
        self.free = self.with_present(room.places.capacity, np.flatnonzero(~scales.stuck), 1)
        self.free_as_is = self.free.copy()
        self.bound: Outcome | None = None

    def with_present(self, free: Floats, jobs: Ints, sign: int) -> Floats:
        """What is free when these jobs take, or give back, their places as things stand."""
        of, left = self.all, free.copy()
        for job in jobs.tolist():
            if not self.scales.stuck[job]:
                of.take(left, job, int(of.here[job]), int(of.present[job]), sign * int(of.problem.jobs.tasks[job]))
        return np.maximum(left, 0.0)

    def left_s(self, share: float = 1.0) -> float:
        """Seconds until a share of the solver's time is over."""
        return float("inf") if self.solver_s is None else share * self.solver_s - (self.clock() - self.began)

    def plan(self, of: Movable, share: float) -> Spots:
        limit_s = None if self.solver_s is None else max(0.02 * self.solver_s, share * self.left_s(PLANNING))
        outcome = Planner(of.problem, limit_s, watch=self.watch, clock=self.clock, sure=of.sure).run()
        self.bound = self.bound or outcome
        return Spots(outcome.plan.job, outcome.plan.location, outcome.plan.start, outcome.plan.tasks)

    def chosen(self) -> Chosen:
        scales = self.scales
        if not self.mine:
            return self.result(Spots.none(), scales.worth(Spots.none()), scales.worth(Spots.none()))
        menu = Menu(scales, self.free, self.rules.max_updates, self.rules.max_transfers)
        everyone = some = np.arange(len(self.mine))
        spots = going = Spots.none()
        first = scales.worth(spots)
        for number, share in enumerate(PASSES):
            again = self.plan(self.all.some(some, self.with_present(self.free, some, -1)) if number else self.all, share)
            spots = self.fair(self.kept(Spots(some[again.job], again.location, again.start, again.tasks)))
            first = first if number else scales.worth(spots)
            menu.add(spots)
            going = menu.choose(None if self.solver_s is None else CHOOSING * self.solver_s)
            fewer = np.unique(going.job)
            if not len(fewer) or len(fewer) >= (1 - FEW) * len(some) or self.left_s(PLANNING) <= 0:
                break
            some = fewer
        if not len(going.job):  # no choice was found in time
            going = spots.only(np.flatnonzero(first.good))
        worth, moved = scales.worth(going), np.isin(everyone, going.job)
        order = self.in_turn(worth, moved)
        others = self.in_turn(first, ~moved & (~scales.only_rescue | scales.late))
        most, most_anew = self.rules.max_updates, self.rules.max_transfers
        settled = accept(scales, order, going, worth.good, others, most, most_anew, self.free, lambda: self.left_s() < 0)
        return self.result(settled, scales.worth(settled), first)

    def kept(self, spots: Spots) -> Spots:
        """The same spots, but of jobs of one kind those stay that are at one of them already: a plan knows no difference."""
        of, jobs, late = self.all, self.all.problem.jobs, self.scales.late
        order, location, start = spots.job.tolist(), spots.location.tolist(), spots.start.tolist()
        home = list(zip(jobs.profile.tolist(), of.here.tolist(), of.present.tolist(), strict=True))
        spot = [(home[job][0], where, when) for job, where, when in zip(order, location, start, strict=True)]
        of_others: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for row, job in enumerate(order):
            if jobs.tasks[job] == 1 and home[job] != spot[row]:
                of_others[spot[row]].append(row)
        for row, job in enumerate(order):
            if jobs.tasks[job] > 1 or late[job] or home[job] == spot[row]:
                continue
            there = of_others.get(home[job], [])
            may = (r for r in there[:LOOKED_AT] if home[order[r]] != spot[r] and start[row] <= jobs.latest[order[r]])
            if (other := next(may, -1)) >= 0:
                order[row], order[other] = order[other], job
                there.remove(other)
        return Spots(np.array(order, dtype=np.int64), spots.location, spots.start, spots.tasks)

    def fair(self, spots: Spots) -> Spots:
        """The same spots, but among jobs that are alike the best ones go to users in turn, who came first first."""
        of, jobs = self.all, self.all.problem.jobs
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, job in enumerate(spots.job.tolist()):
            if jobs.tasks[job] == 1:
                mine = self.mine[job]
                key = int(jobs.profile[job]), int(of.here[job]), mine.start_epoch_s, mine.latest_epoch_s, mine.moves
                alike[key].append(row)
        order = spots.job.copy()
        emitted_g = of.emitted_g(self.scales.totals, spots.job, spots.location, self.scales.begins(spots.start))
        for rows in alike.values():
            if len(rows) == 1:
                continue
            turn: dict[str, int] = defaultdict(int)
            ranked: list[tuple[int, int, int]] = []
            for job in sorted(spots.job[rows].tolist(), key=lambda j: (self.mine[j].job.submit_epoch_s, self.mine[j].job.id)):
                user = self.mine[job].job.user
                ranked.append((turn[user], len(ranked), job))
                turn[user] += 1
            best = sorted(rows, key=lambda row: (emitted_g[row], spots.start[row]))
            order[best] = [job for _, _, job in sorted(ranked)]
        return Spots(order, spots.location, spots.start, spots.tasks)

    def in_turn(self, worth: Worth, which: Bools) -> Ints:
        """Some jobs in order: who is late first, then the best of each user, the second best of each, ..."""
        some, late = np.flatnonzero(which), self.scales.late
        order = some[np.lexsort((some, -worth.saved_g[some], ~late[some]))]
        turn: dict[str, int] = defaultdict(int)
        rank = []
        for job in order.tolist():
            user = self.mine[job].job.user
            rank.append(turn[user])
            turn[user] += 1
        return order[np.lexsort((np.arange(len(order)), np.array(rank, dtype=int), ~late[order]))]

    # what comes of it

    def result(self, spots: Spots, worth: Worth, first: Worth) -> Chosen:
        moves: list[Move] = []
        by_job: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        begin = self.scales.begins(spots.start).astype(np.int64)
        rows = zip(*(x.tolist() for x in (spots.job, spots.location, begin, spots.start, spots.tasks)), strict=True)
        for job, *spot in rows:
            by_job[job].append(tuple(spot))
        for job, of_job in by_job.items():
            moves += self.moves_of(job, of_job, not worth.good[job])
        stays, entries = [], []
        at = {int(number): job for job, number in enumerate(self.all.number.tolist())}
        for number, standing in enumerate(self.standings):
            job = at.get(number, -1)
            if job in by_job:
                continue
            if job < 0:
                late = bool(standing.may) and standing.start_epoch_s > standing.latest_epoch_s
                stays.append(Stays(standing, standing.stays, late))
                continue
            stays.append(Stays(standing, self.why_stays(job, first), bool(self.scales.late[job])))
            if (entry := self.news(job, standing)) is not None:
                entries.append(entry)
        present_g, going = self.scales.present_g, np.array(list(by_job), dtype=np.int64)
        figures: dict[str, float | int | str] = {
            "waiting": len(self.standings), "movable": len(self.mine), "moves": len(moves),
            "late": sum(s.late for s in stays) + sum(move.entry.late for move in moves),
            "present_g": float(present_g.sum()), "saved_g": sum(move.saved_g for move in moves),
            "planned_g": float(present_g.sum() - present_g[going].sum() + worth.new_g[going].sum()),
            "decided_s": self.clock() - self.began,
        }  # fmt: skip
        if self.bound is not None:
            figures |= {"bound_g": self.bound.bound_g, "free_plan_g": self.bound.verdict.cost_g}
        by = self.bound.by if self.bound is not None else None
        return Chosen(tuple(moves), tuple(stays), tuple(entries), figures, np.maximum(self.free, 0.0), self.free_as_is, by)

    def news(self, job: int, standing: Standing) -> Entry | None:
        """What the ledger does not know yet of a job that stays. Of an array that is in pieces it follows one."""
        queued, late = standing.job, bool(self.scales.late[job])
        if queued.array_id not in (0, queued.id):
            return None
        old = standing.entry
        if old is not None:
            new = old._replace(latest_epoch_s=standing.latest_epoch_s, locations=standing.locations, late=late)
            return None if new == old else new
        begin = queued.eligible_epoch_s or queued.submit_epoch_s
        return self.entry(job, int(self.all.here[job]), begin, float(self.scales.present_g[job]), late)

    def moves_of(self, job: int, spots: list[tuple[int, int, int, int]], makes_way: bool) -> list[Move]:
        """The moves of one job: one, or one for each part of an array that starts apart."""
        of, standing = self.all, self.mine[job]
        split = int(of.problem.jobs.tasks[job]) > 1
        numbers = task_numbers(standing.job.array_tasks) if split else []
        found, used = [], 0
        for where, begin, start, tasks in sorted(spots, key=lambda x: (x[1], x[0])):
            some = numbers[used : used + tasks]
            used += tasks
            if (where, start) == (int(of.here[job]), int(of.present[job])):
                continue
            one = np.array([job])
            here_g = float(of.emitted_g(self.scales.totals, one, of.here[one], self.scales.starts[one])[0]) * tasks
            there_g = float(of.emitted_g(self.scales.totals, one, np.array([where]), np.array([float(begin)]))[0]) * tasks
            late = begin > standing.latest_epoch_s
            # who is late anyhow takes the first room that there is; who starts at the last moment stands in line before it
            may_from = self.now if late else max(self.now, min(begin, standing.latest_epoch_s - self.rules.margin_s))
            entry = self.moved(self.entry(job, where, may_from, there_g, late), standing, where)
            found.append(Move(
                standing.job, ranges(some) if split and len(some) < len(numbers) else "", standing.here,
                standing.start_epoch_s, self.scales.locations[where].name, may_from, standing.latest_epoch_s, entry,
                here_g - there_g, self.why_moves(job, where, begin, here_g, there_g, makes_way), begin,
            ))  # fmt: skip
        return found

    def moved(self, entry: Entry, standing: Standing, where: int) -> Entry:
        """The entry of a job that has moved. One that is submitted anew gets its number, and what Slurm says, only then."""
        job, cluster = standing.job, self.scales.locations[where].cluster
        entry = entry._replace(cluster=cluster, moves=standing.moves + 1, moved_epoch_s=self.now)
        if cluster == job.cluster:
            return entry
        entry = entry._replace(follows=f"{job.cluster}:{job.array_id or job.id}")
        return entry if job.siblings else entry._replace(job_id=0, submit_epoch_s=self.now)

    def entry(self, job: int, where: int, begin_epoch_s: int, planned_g: float, late: bool) -> Entry:
        """What the ledger shall know of a job that will be there, then."""
        of, standing = self.all, self.mine[job]
        kind = int(of.problem.jobs.profile[job])
        zone = self.scales.zones[where]
        issued = utc(zone.issued_epoch_s).strftime("%Y-%m-%dT%H:%MZ")
        tasks = int(of.problem.jobs.tasks[job])
        energy = float(of.power_w[kind, where] * of.problem.profiles.run_h[kind, where]) / 1000 * tasks
        queued, old = standing.job, standing.entry
        submit = old.submit_epoch_s if old is not None else queued.submit_epoch_s
        return Entry(
            queued.cluster, queued.array_id or queued.id, submit, queued.user, self.scales.locations[where].name, standing.home,
            begin_epoch_s, standing.latest_epoch_s, standing.may, standing.mark_id, standing.locations,
            float(self.scales.baseline_g[job]), float(planned_g), energy, f"{zone.zone} {zone.source}, issued {issued}",
            standing.moves, standing.moved_epoch_s, old.follows if old is not None else "", late,
        )  # fmt: skip

    # reasons

    def why_moves(self, job: int, where: int, begin: int, here_g: float, there_g: float, makes_way: bool) -> str:
        standing = self.mine[job]
        if self.scales.late[job]:
            if self.scales.stuck[job]:
                text = "as things stand, there is no room for it"
            else:
                text = f"as things stand, it would start {time_text(standing.start_epoch_s)}"
            text += f", and its latest start is {time_text(standing.latest_epoch_s)}"
            return text if begin <= standing.latest_epoch_s else f"{text}; all is full before {time_text(begin)}"
        to = f"{'at once' if begin <= self.now else time_text(begin)} on {self.scales.locations[where].name}"
        if makes_way:
            more = f"emits {mass_text(there_g - here_g)} more" if there_g > here_g else f"saves {mass_text(here_g - there_g)}"
            return f"it makes room for others, who save more than that costs: starting {to} it {more}"
        share = 100 * (here_g - there_g) / here_g if here_g else 0.0
        saves = (
            f"saves {mass_text(here_g - there_g)} ({share:.0f} %) of {mass_text(here_g)}, by {self.scales.zones[where].source}"
        )
        if begin <= self.now and where == int(self.all.here[job]):
            return f"the forecast has changed: to start at once {saves}"
        return f"starting {to} {saves}"

    def why_stays(self, job: int, first: Worth) -> str:
        saved, present_g = float(first.saved_g[job]), float(self.scales.present_g[job])
        if self.scales.late[job]:
            return "no place is free earlier, and it will start after its latest start"
        if saved <= 0:
            return BEST
        saves = f"a move would save {mass_text(saved)} ({100 * saved / present_g if present_g else 0.0:.1f} %)"
        if self.scales.only_rescue[job]:
            return f"{saves}, but it has been moved {self.mine[job].moves} times, as often as the site allows"
        if first.good[job]:
            most = (
                f"the {self.rules.max_updates} moves that a run may make, {self.rules.max_transfers} of them to other clusters,"
            )
            return f"{saves}, but others stay there, or {most} save more"
        return f"{saves}, and has to save {mass_text(float(first.needed_g[job]))}"


def task_numbers(text: str) -> list[int]:
    """The numbers in 0-9, 3,5-7 or 1-9:2."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        bounds, _, step = part.partition(":")
        low, dash, high = bounds.partition("-")
        found += range(int(low), int(high) + 1, int(step or 1)) if dash else [int(low)]
    return found


def ranges(numbers: Sequence[int]) -> str:
    """Numbers as Slurm takes them: 3,5-7."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
