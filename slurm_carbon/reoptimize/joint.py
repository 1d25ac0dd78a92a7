"""Which moves of some plans to make, all together: who makes way for others does so only if they save more than that costs.

Most jobs of a good plan are moved for the sake of others. If only those were moved that save enough by themselves, the room
that they need would be taken. So one binary program decides on all: each job stays, or goes where one of the plans has it.
"""

from collections import defaultdict
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from slurm_carbon.planning.problem import FITS, Floats, Ints
from slurm_carbon.reoptimize.worth import Scales, Spots

CLOSE = 5e-4  # of what is emitted as things stand: how near to the best choice is near enough
NODES = 2000  # of branch and bound at most
MOST_NUMBERS = 2_000_000  # of more than that in the matrix, no choice is tried

Parts = tuple[tuple[int, int, int], ...]  # location, slot and tasks of each part of a job


class Menu:
    """What the plans have for each job, and what is chosen of it."""

    def __init__(self, scales: Scales, free: Floats, most: int, most_anew: int) -> None:
        self.scales, self.of, self.free, self.most, self.most_anew = scales, scales.of, free, most, most_anew
        self.options: dict[tuple[int, Parts], float] = {}  # what each costs more than to stay, in g
        self.best: tuple[float, Spots] = 0.0, Spots.none()

    def add(self, spots: Spots) -> None:
        """A plan: whoever may be where it has him, has one more choice."""
        worth = self.scales.worth(spots)
        parts: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        rows = zip(*(x.tolist() for x in (spots.job, spots.location, spots.start, spots.tasks)), strict=True)
        for job, *part in rows:
            if worth.may[job]:
                parts[job].append(tuple(part))
        for job, of_job in parts.items():
            self.options[job, tuple(sorted(of_job))] = float(worth.cost_g[job])

    def choose(self, limit_s: float | None) -> Spots:
        """The choice that costs least, as far as is found in time; no worse than the last one. Nothing: all stay.

        If more would move than may in one run, users have equal shares of what may, but for jobs that are rescued.
        """
        numbers = sum(self.of.use(job, where)[2] for job, parts in self.options for where, _, _ in parts)
        if not self.options or numbers > MOST_NUMBERS:
            return self.best[1]
        program = _Program(self.scales, self.free, list(self.options), np.array(list(self.options.values())))
        for counts, most in ((program.moves, self.most), (program.anew, self.most_anew)):
            if float(counts[program.solved(limit_s)].sum()) > most:
                program.share(counts, most)
        chosen = program.solved(limit_s)
        if program.cost(chosen) < self.best[0]:
            self.best = program.cost(chosen), program.spots(chosen)
        return self.best[1]


class _Program:
    """One of its options, or none, for each job, no more than there is in any slot, and the least cost."""

    def __init__(self, scales: Scales, free: Floats, options: list[tuple[int, Parts]], cost_g: Floats) -> None:
        self.scales, self.options, self.cost_g = scales, options, cost_g
        of, count = scales.of, len(options)
        self.job = np.array([job for job, _ in options])
        places = [[(where, start) for where, start, _ in parts] for _, parts in options]
        self.moves = np.array([
            sum(place != (of.here[job], of.present[job]) for place in mine) for job, mine in zip(self.job, places, strict=True)
        ], dtype=float)  # fmt: skip
        self.anew = np.array([
            scales.is_anew(job, np.array([at for at, _ in mine])).any() for job, mine in zip(self.job, places, strict=True)
        ], dtype=float)  # fmt: skip
        one = csr_array((np.ones(count), (self.job, np.arange(count))), shape=(len(scales.starts), count))
        self.limits = [LinearConstraint(one, -np.inf, 1.0)]
        taken = self._taken(free.shape)
        full = np.flatnonzero(np.asarray(taken.maximum(0).sum(axis=1)).ravel() > free.ravel())  # the others have room anyhow
        if len(full):
            self.limits.append(LinearConstraint(taken[full], -np.inf, free.ravel()[full] * (1 + FITS)))
        self._solved: Ints | None = None

    def _taken(self, shape: tuple[int, ...]) -> Any:
        """[Q x T, O] what each option takes of each pool in each slot, less what its job takes as things stand."""
        of, slots = self.scales.of, shape[1]
        row: list[Ints] = []
        value: list[Floats] = []
        column: list[Ints] = []

        def takes(option: int, job: int, where: int, start: int, tasks: int) -> None:
            pools, amounts, run = of.use(job, where)
            until = min(slots, start + run)
            cells = pools[:, None] * slots + np.arange(start, until)
            row.append(cells.ravel())
            value.append(np.repeat(tasks * amounts, until - start))
            column.append(np.full(cells.size, option))

        for option, (job, parts) in enumerate(self.options):
            for where, start, tasks in parts:
                takes(option, job, where, start, tasks)
            if not self.scales.stuck[job]:
                takes(option, job, int(of.here[job]), int(of.present[job]), -int(self.scales.jobs.tasks[job]))
        cells = np.concatenate(row), np.concatenate(column)
        return csr_array((np.concatenate(value), cells), shape=(shape[0] * slots, len(self.options)))

    def share(self, counts: Floats, most: int) -> None:
        """No more than so many in all, of which each user has as much as any other who wants as much."""
        chosen = self.solved(None)
        users = np.array([self.scales.users[job] for job in self.job.tolist()])
        names, user = np.unique(users, return_inverse=True)
        wants = np.bincount(user[chosen], counts[chosen], len(names))
        level = max(1, next((n for n in range(most) if np.minimum(wants, n + 1).sum() > most), most))
        mine = np.where(self.scales.late[self.job], 0.0, counts)
        each = csr_array((mine, (user, np.arange(len(user)))), shape=(len(names), len(user)))
        self.limits += [LinearConstraint(counts[None, :], -np.inf, most), LinearConstraint(each, -np.inf, level)]
        self._solved = None

    def solved(self, limit_s: float | None) -> Ints:
        """The options that are chosen."""
        if self._solved is None:
            least = np.zeros(len(self.scales.starts))
            np.minimum.at(least, self.job, self.cost_g)
            gap = min(0.05, CLOSE * float(self.scales.present_g.sum()) / max(1e-9, -float(least.sum())))
            options = {
                "node_limit": NODES,
                "mip_rel_gap": gap,
                **({} if limit_s is None else {"time_limit": max(0.01, limit_s)}),
            }
            ones = np.ones(len(self.options))
            found = milp(self.cost_g, integrality=ones, bounds=Bounds(0, 1), constraints=self.limits, options=options)
            self._solved = np.zeros(0, dtype=np.int64) if found.x is None else np.flatnonzero(found.x > 0.5)
        return self._solved

    def cost(self, chosen: Ints) -> float:
        """What options cost more than if all stay, in g."""
        return float(self.cost_g[chosen].sum())

    def spots(self, chosen: Ints) -> Spots:
        """Where options have their jobs."""
        rows = [(self.options[n][0], *part) for n in chosen.tolist() for part in self.options[n][1]]
        return Spots(*np.array(rows, dtype=np.int64).reshape(len(rows), 4).T)
