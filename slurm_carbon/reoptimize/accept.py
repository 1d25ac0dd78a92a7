"""Which of the moves that are worth it can be made, so that at no time more is promised than there is."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from slurm_carbon.planning.problem import FITS, Bools, Floats, Ints
from slurm_carbon.reoptimize.worth import Scales, Spots

Parts = list[tuple[int, int, int]]  # location, slot and tasks of each part of a job


def accept(
    scales: Scales, order: Ints, spots: Spots, good: Bools, others: Ints, most: int, most_anew: int, free: Floats,
    over: Callable[[], bool],
) -> Spots:  # fmt: skip
    """Where those end up that are moved, in the order of the jobs: `most` moves, of which `most_anew` are submitted anew.

    If they do not all fit together, only those are moved for whom it is `good` [J] by itself.

    Who would be one more of these gets the best place that is free on his own cluster.

    `free` [Q, T] is what is free as things stand; what is taken then is taken from it. Who finds his place taken by one who
    stays, and the `others` in their order, get the best that is free, if that is worth a move; once time is `over`, only those
    who would be late.
    """
    return _Board(scales, spots, free, most_anew).settled(order.tolist(), good, others.tolist(), most, over)


class _Board:
    def __init__(self, scales: Scales, spots: Spots, free: Floats, most_anew: int) -> None:
        self.scales, self.of, self.free, self.left_anew = scales, scales.of, free, most_anew
        self.parts: dict[int, Parts] = defaultdict(list)
        rows = zip(*(x.tolist() for x in (spots.job, spots.location, spots.start, spots.tasks)), strict=True)
        for job, where, start, tasks in rows:
            self.parts[job].append((where, start, tasks))

    def leave(self, job: int, sign: int = 1) -> None:
        """Give back what a job takes as things stand."""
        if not self.scales.stuck[job]:
            tasks = int(self.scales.jobs.tasks[job])
            self.of.take(self.free, job, int(self.of.here[job]), int(self.of.present[job]), -sign * tasks)

    def enter(self, job: int, parts: Parts, sign: int = 1) -> None:
        for where, start, tasks in parts:
            self.of.take(self.free, job, where, start, sign * tasks)

    def updates(self, job: int) -> int:
        """How many moves it takes."""
        return sum((where, start) != (self.of.here[job], self.of.present[job]) for where, start, _ in self.parts[job])

    def is_anew(self, job: int) -> bool:
        """Whether it is submitted anew."""
        return bool(self.scales.is_anew(np.array(job), np.array([where for where, _, _ in self.parts[job]], dtype=int)).any())

    def fits(self, job: int) -> bool:
        """Whether there is room for all parts of a job, which may overlap."""
        done: Parts = []
        if not self.parts[job]:
            return False
        for part in self.parts[job]:
            pools, amounts, run = self.of.use(job, part[0])
            if not (self.free[pools, part[1] : part[1] + run] >= part[2] * amounts[:, None] * (1 - FITS)).all():
                break
            self.enter(job, [part])
            done.append(part)
        self.enter(job, done, -1)
        return len(done) == len(self.parts[job])

    def settled(self, order: list[int], good: Bools, others: list[int], most: int, over: Callable[[], bool]) -> Spots:
        count = sum(map(self.updates, order))
        taken: list[int] = []
        waiting: list[int] = []
        anew = sum(map(self.is_anew, order))
        if count <= most and anew <= self.left_anew and self.together(order):
            taken = list(order)
            self.left_anew -= anew
        else:
            count, waiting = 0, [job for job in order if good[job]]
        waiting, count = self.sweep(waiting, taken, count, most, None)
        waiting, count = self.sweep([*waiting, *others], taken, count, most, over)
        before = -1
        while before != count:  # who has moved since may have left room for one who would be late
            before = count
            waiting = [job for job in waiting if self.scales.late[job]]
            waiting, count = self.sweep(waiting, taken, count, most, over)
        return self.spots(taken)

    def sweep(
        self, jobs: list[int], taken: list[int], count: int, most: int, over: Callable[[], bool] | None
    ) -> tuple[list[int], int]:
        """Move those that find room, elsewhere than planned only if `over` is given. Returns the others, and the count."""
        blocked = []
        for job in jobs:
            if over is not None and over() and not self.scales.late[job]:
                continue
            if count + max(1, self.updates(job)) > most:
                continue
            self.leave(job)
            one_more = self.is_anew(job) and not self.left_anew
            if (one_more or not self.fits(job)) and not (over is not None and self.elsewhere(job)):
                self.leave(job, -1)
                blocked.append(job)
                continue
            self.enter(job, self.parts[job])
            taken.append(job)
            count += self.updates(job)
            self.left_anew -= self.is_anew(job)
        return blocked, count

    def together(self, order: list[int]) -> bool:
        """Move all at once, also those who change places with each other; take it back if that does not fit."""
        for job in order:
            self.leave(job)
            self.enter(job, self.parts[job])
        if self.free.min(initial=0.0) >= -FITS * max(1.0, float(self.scales.room.places.capacity.max(initial=0.0))):
            return True
        for job in order:
            self.enter(job, self.parts[job], -1)
            self.leave(job, -1)
        return False

    def elsewhere(self, job: int) -> bool:
        """Give a job whose place is taken the best one that is free."""
        if self.scales.jobs.tasks[job] > 1:
            return False
        found = self.scales.alternative(job, self.free, near=not self.left_anew)
        if found is not None:
            self.parts[job] = [(*found, 1)]
        return found is not None

    def spots(self, order: list[int]) -> Spots:
        rows = [(job, *part) for job in order for part in self.parts[job]]
        return Spots(*np.array(rows, dtype=np.int64).reshape(len(rows), 4).T)
