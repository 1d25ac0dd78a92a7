"""Prices for jobs that come one by one: each is placed for good before the next is known.

The dual of what is expected on the whole prices a slot by those who would pay for it. But what comes is not the mean of what
may come, and jobs do not come in pieces: at the hour when a wide one comes that cannot wait, the cleanest sites are just full.
What that costs is measured: futures are played through, every job placed as it would be, and where a job comes to be that a
wide one before it would have displaced, the slots are charged with what it would have lost: the external cost of congestion
(Pigou 1920; by simulated paths: van Ryzin and Vulcano 2008, doi:10.1287/opre.1080.0549). The price is a mixture of both.
"""

from dataclasses import dataclass

import numpy as np

from slurm_carbon.place import still_due
from slurm_carbon.planning.board import Board, Items
from slurm_carbon.planning.columns import Multipliers, Tables
from slurm_carbon.planning.prices import EVALUATIONS, Dual
from slurm_carbon.planning.problem import Floats, Ints, Problem

# chosen by what jobs placed one by one emit: see scripts/benchmarks/_arrivals.py
FUTURES = 12  # weeks of arrivals like those expected, which together stand for what may come
BLURRED = (0.3, 0.1)  # smoothings of the dual: nobody knows what comes
USABLE = 0.8  # of what is free: wide jobs find the rest cut in pieces
EXPECTED, DISPLACED = 0.7, 0.5  # weights of the dual's price and of the measured one
AHEAD_S = 60 * 3600  # of each future is played; before the rest comes, prices are made anew
FIRST = 2  # times that the futures are played at first: the second time, by what the first has measured
WIDE = 0.9  # share of the work that is in jobs no wider than a wide one


class Expected:
    """What may come: the jobs of several futures, each as likely as the others. `future` [J] says whose a job is."""

    def __init__(self, problem: Problem, future: Ints) -> None:
        self.tables = Tables(problem)
        self.futures = int(future.max(initial=0)) + 1
        self.board = Board(self.tables, Items.of(self.tables), Multipliers.zero(problem))
        whose = future[self.board.items.job]
        order = np.argsort(self.board.earliest, kind="stable")
        self.order = [order[whose[order] == one] for one in range(self.futures)]
        self.wide = self._wide()

    def _wide(self) -> Floats:
        """[Q] how much of each pool a wide job takes."""
        board, tables = self.board, self.tables
        wide = np.zeros(len(tables.problem.places.pool_names) + 1)
        for location in range(tables.count):
            run = tables.run[board.kind, location]
            for i, pool in enumerate(tables.pool[location].tolist()):
                use = tables.use[board.kind, location, i] * board.amount
                order = np.argsort(use)
                work = np.cumsum((use * run)[order])
                if work.size and work[-1] > 0:
                    wide[pool] = max(wide[pool], use[order][np.searchsorted(work, WIDE * work[-1])])
        return wide


@dataclass(frozen=True, eq=False)
class Priced:
    """Prices, and what the next ones start from."""

    by: Multipliers
    dual: Multipliers  # of what is expected
    displaced: Floats  # [Q, T] g per unit and slot: what those lose whose place is taken
    unit_g: Floats


def for_arrivals(expected: Expected, now: int, free: Floats, last: Priced | None = None) -> Priced:
    """Prices that jobs are to be placed by one after the other, as they come, from slot `now` on.

    `free` [Q, T] is what those who are there leave. Made anew from time to time, from the `last` ones.
    """
    tables = expected.tables
    problem = tables.problem
    weights = tables.weights(np.flatnonzero(problem.jobs.earliest >= now)) / expected.futures
    free = np.maximum(free, 0.0)
    by = Multipliers.zero(problem) if last is None else last.dual
    dual = Dual(tables, by, weights, free * USABLE, None if last is None else last.unit_g)
    for smoothing in BLURRED if last is None else BLURRED[1:]:
        by = dual.climb(by, smoothing, EVALUATIONS)
    if last is None:
        displaced = _displaced(expected, now, free, by)
        turns = FIRST - 1
    else:
        displaced, turns = last.displaced, 1
    for _ in range(turns):
        displaced = (displaced + _displaced(expected, now, free, _mixed(by, displaced))) / 2
    return Priced(_mixed(by, displaced), by, displaced, dual.unit_g)


def _mixed(by: Multipliers, displaced: Floats) -> Multipliers:
    return Multipliers(EXPECTED * by.price + DISPLACED * displaced, by.budget, by.scenario)


def _displaced(expected: Expected, now: int, free: Floats, by: Multipliers) -> Floats:
    """[Q, T] g per unit and slot that jobs to come would lose if a wide one were there before them: the mean of the futures.

    A job that leaves less than a wide one needs would have to give way; what it loses is how much dearer its next place
    is, and is shared among the slots where it is so.
    """
    board, tables = expected.board, expected.tables
    slot_s = tables.problem.places.slot_s
    until = now + AHEAD_S // slot_s
    total = np.zeros((len(expected.wide), board.free.shape[1]))
    due: dict[int, Multipliers] = {}
    for order in expected.order:
        board.clear(free)
        begin, end = np.searchsorted(board.earliest[order], (now, until))
        at = -1
        for item in order[begin:end].tolist():
            if board.earliest[item] != at:
                at = int(board.earliest[item])
                if at not in due:
                    left = [still_due(row, 0, slot_s, at * slot_s) for row in by.price.tolist()]
                    due[at] = Multipliers(np.array(left), by.budget, by.scenario)
                board.set_prices(due[at])
            _place(expected, item, total)
    board.set_prices(None)
    mean = total[:-1, : tables.slots] / expected.futures
    beside = np.pad(mean, ((0, 0), (1, 1)), mode="edge")
    return np.asarray((beside[:, :-2] + 2 * mean + beside[:, 2:]) / 4)


def _place(expected: Expected, item: int, total: Floats) -> None:
    """Place an item as it would be, and charge the slots where a wide one would displace it."""
    board, tables = expected.board, expected.tables
    kind = int(board.kind[item])
    first, value = board.reach(item)
    location, nth = divmod(int(value.argmin()), value.shape[1])
    cost_g = value[location, nth]
    if cost_g == np.inf:
        return
    start = first + nth
    board.put(item, location, start)
    run = int(tables.run[kind, location])
    pools = tables.pool[location]
    tight = board.free[pools, start : start + run] < expected.wide[pools, None]
    if not tight.any():
        return
    sums = np.concatenate(([0], np.cumsum(tight.any(0))))
    shift = np.arange(value.shape[1]) - nth
    value[location, sums[np.clip(shift + run, 0, run)] > sums[np.clip(shift, 0, run)]] = np.inf
    lost_g = (value.min() - cost_g) * board.amount[item]
    if lost_g < np.inf:
        pool, slot = np.nonzero(tight)
        total[pools[pool], start + slot] += lost_g / (expected.wide[pools[pool]] * len(pool))
