"""A plan in the making: what is placed where, what is free, and what each start would cost.

Its pieces are items: a job, or some of the tasks of an array, that start together. The board never holds more than fits.
"""

from dataclasses import dataclass

import numpy as np

from slurm_carbon.planning.columns import Multipliers, Tables, running_prices
from slurm_carbon.planning.problem import FITS, NO_END, Bools, Floats, Ints, Plan

PIECES = 64  # that an array is cut into at most
CACHED = 1 << 24  # numbers, in the tables of costs by profile


State = tuple[Ints, Ints]  # [I] location and start of every item


@dataclass(frozen=True, eq=False)
class Items:
    """I pieces of jobs."""

    job: Ints
    tasks: Ints

    @staticmethod
    def of(tables: Tables) -> "Items":
        """Every job; an array in pieces, so that it can be spread over places and time."""
        jobs = tables.problem.jobs
        pieces = np.minimum(jobs.tasks, PIECES)
        job = np.repeat(np.arange(len(jobs)), pieces)
        nth = np.arange(len(job)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        return Items(job, jobs.tasks[job] // pieces[job] + (nth < jobs.tasks[job] % pieces[job]))

    def __len__(self) -> int:
        return len(self.job)


class Board:
    """Items on locations and slots. `location[i]` is -1 while item i is not placed."""

    def __init__(self, tables: Tables, items: Items, by: Multipliers) -> None:
        self.tables, self.items = tables, items
        jobs, places = tables.problem.jobs, tables.problem.places
        job = items.job
        self.kind = jobs.profile[job]
        self.amount = jobs.scale[job] * items.tasks
        self.earliest = np.maximum(jobs.earliest[job], 0)
        self.latest = np.minimum(jobs.latest[job], tables.slots - 1)
        self.finish_by = jobs.finish_by[job]
        pools = len(places.pool_names)
        pad = int(tables.run.max(initial=1)) + 1
        self.free = np.full((pools + 1, tables.slots + pad), np.inf)
        self.free[:pools, : tables.slots] = places.capacity * (1 + FITS)
        self.pools = [row.tolist() for row in tables.pool]  # of each location
        self.rows = [
            slice(0, tables.count) if np.array_equal(tables.pool[:, i], np.arange(tables.count)) else tables.pool[:, i]
            for i in range(tables.pool.shape[1])
        ]
        run = np.where(tables.problem.profiles.allowed, tables.run, 0)
        longest = run.max(1, initial=0)
        self.alike = np.all((run == longest[:, None]) | (run == 0), axis=1)  # [K] runs as long at every location
        self.longest = longest.tolist()
        # [K] whether every location allows the starts that the owner allows, and no others
        self.plain = ((np.diff(tables.lane_of_kind) <= 1) & ~np.any(tables.lag > 0, axis=1)).tolist()
        self.location = np.full(len(items), -1, dtype=np.int64)
        self.start = np.full(len(items), -1, dtype=np.int64)
        self.set_costs(by)

    def set_costs(self, by: Multipliers) -> None:
        """Cost starts as these weights of scenarios and budgets say; forget prices."""
        self.running = self.tables.effective(by)
        self.budget = np.append(1 + by.budget, 1.0)
        self._costs: dict[int, Floats] = {}
        self.set_prices(None)

    def set_prices(self, by: Multipliers | None) -> None:
        """Congestion prices for the next placements; None for none."""
        self._reduced: dict[int, Floats] = {}
        self._running_prices = None
        if by is not None:
            sums = running_prices(by.price)
            pad = self.free.shape[1] - sums.shape[1]
            self._running_prices = np.concatenate((sums, np.repeat(sums[:, -1:], max(0, pad), 1)), 1)

    def costs(self, kind: int) -> Floats:
        """[L, T] g per unit of scale of each start of a profile, inf where it may not run."""
        found = self._costs.get(kind)
        if found is None:
            tables = self.tables
            profiles = tables.problem.profiles
            if len(self._costs) * tables.count * tables.slots > CACHED:
                self._costs.clear()
            start = np.arange(tables.slots)
            where = np.arange(tables.count)[:, None]
            kinds = np.full(tables.slots, kind)
            lagged = np.maximum(start, tables.lag[kind][:, None])  # what starts before its data has come is never asked for
            if np.any(tables.lag[kind]):
                each = np.full(tables.slots, 1)
                grams = np.stack([tables.emissions(self.running, kinds, lagged[x], x * each) for x in range(tables.count)])
            else:
                grams = tables.emissions(self.running, kinds, start, where)
            grams = grams * self.budget[profiles.account[kind]]
            grams += profiles.delay_g_per_h[kind] * tables.problem.places.slot_h * start
            found = np.where(profiles.allowed[kind][:, None], grams, np.inf)
            self._costs[kind] = found
        return found

    def _priced(self, kind: int) -> Floats:
        if self._running_prices is None:
            return self.costs(kind)
        found = self._reduced.get(kind)
        if found is None:
            tables, sums = self.tables, self._running_prices
            if len(self._reduced) * tables.count * tables.slots > CACHED:
                self._reduced.clear()
            found = self.costs(kind).copy()
            start = np.arange(tables.slots)
            for i in range(tables.pool.shape[1]):
                pool = tables.pool[:, i, None]
                change = sums[pool, start + tables.run[kind][:, None]] - sums[pool, start]
                found += tables.use[kind, :, i, None] * change
            self._reduced[kind] = found
        return found

    # places

    def fits(self, item: int, first: int, last: int, late: bool = False) -> Bools:
        """[L, last - first + 1] whether there is room for the run, and, unless late, the finish-by allows it."""
        tables, kind = self.tables, int(self.kind[item])
        amount, longest = self.amount[item], self.longest[kind]
        full = self.free[self.rows[0], first : last + longest] < tables.use[kind, :, 0, None] * amount
        for i, rows in enumerate(self.rows[1:], 1):
            full |= self.free[rows, first : last + longest] < tables.use[kind, :, i, None] * amount
        count = np.zeros((tables.count, full.shape[1] + 1), dtype=np.int32)
        np.cumsum(full, 1, out=count[:, 1:])
        width = last - first + 1
        if self.alike[kind]:
            room: Bools = count[:, longest : longest + width] == count[:, :width]
        else:
            end = np.arange(width) + np.minimum(tables.run[kind], longest)[:, None]
            room = np.take_along_axis(count, end, 1) == count[:, :width]
        return room & self.opens(item, first, last, late)

    def opens(self, item: int, first: int, last: int, late: bool = False) -> Bools | bool:
        """[L, last - first + 1] the starts that each location allows an item: after its data has come, before its finish-by."""
        kind, tables = int(self.kind[item]), self.tables
        if self.plain[kind]:
            return True
        start = np.arange(first, last + 1)
        may = start >= (self.earliest[item] + tables.lag[kind])[:, None]
        if self.finish_by[item] < NO_END and not late:
            may &= start + tables.run[kind][:, None] <= self.finish_by[item]
        return may

    def window(self, item: int) -> tuple[int, int]:
        """First and last start that any location allows; empty if the last is before the first."""
        first, last = int(self.earliest[item]), int(self.latest[item])
        if self.finish_by[item] < NO_END or not self.plain[self.kind[item]]:
            kind = self.kind[item]
            allowed = self.tables.problem.profiles.allowed[kind]
            if not allowed.any():
                return 0, -1
            first += int(self.tables.lag[kind][allowed].min())
            if self.finish_by[item] < NO_END:
                last = min(last, int(self.finish_by[item] - self.tables.run[kind][allowed].min()))
        return first, last

    def reach(self, item: int, noise: Floats | None = None) -> tuple[int, Floats]:
        """The first start, and [L, W] what it and those after it would cost by emissions and prices: inf without room.

        Noise [L, T] is in g per unit of scale.
        """
        first, last = self.window(item)
        if last < first:
            return first, np.full((self.tables.count, 1), np.inf)
        value = self._priced(int(self.kind[item]))[:, first : last + 1]
        if noise is not None:
            value = value + noise[:, first : last + 1]
        return first, np.where(self.fits(item, first, last), value, np.inf)

    def best(self, item: int, noise: Floats | None = None) -> tuple[int, int] | None:
        """The cheapest start that fits, by cost and prices; None if none does."""
        first, value = self.reach(item, noise)
        location, slot = divmod(int(value.argmin()), value.shape[1])
        return (location, first + slot) if value[location, slot] < np.inf else None

    def put(self, item: int, location: int, start: int) -> None:
        """Place an item. There has to be room."""
        self._take(item, location, start, 1.0)
        self.location[item], self.start[item] = location, start

    def drop(self, item: int) -> None:
        """Take an item off the board."""
        self._take(item, int(self.location[item]), int(self.start[item]), -1.0)
        self.location[item] = -1

    def _take(self, item: int, location: int, start: int, sign: float) -> None:
        tables, kind = self.tables, self.kind[item]
        end = start + tables.run[kind, location]
        use = tables.use[kind, location] * (sign * self.amount[item])
        for i, pool in enumerate(self.pools[location]):
            if use[i]:
                self.free[pool, start:end] -= use[i]

    def place(self, item: int, noise: Floats | None = None) -> bool:
        """Put an item at its cheapest start; False if there is none."""
        found = self.best(item, noise)
        if found is None:
            return False
        self.put(item, *found)
        return True

    def random_starts(self, random: np.random.Generator) -> Floats:
        """[L, T] noise that outweighs every cost: with it, an item is placed at a random start that fits."""
        return random.random((self.tables.count, self.tables.slots)) * 1e30

    def soonest(self, item: int, home: int | None = None) -> tuple[int, int] | None:
        """The first start with room, whatever the window says, there or anywhere; None if no location is large enough.

        It may be beyond the plan, where everything is taken to be free.
        """
        kind, tables = int(self.kind[item]), self.tables
        allowed = tables.problem.profiles.allowed[kind].copy()
        if home is not None and allowed[home]:
            allowed &= np.arange(tables.count) == home
        first = int(self.earliest[item])
        if first < tables.slots:
            room = self.fits(item, first, tables.slots - 1, late=True) & allowed[:, None]
            when = np.flatnonzero(room.any(0))
            if len(when):
                where = np.flatnonzero(room[:, when[0]])
                cheapest = where[self.costs(kind)[where, first + when[0]].argmin()]
                return int(cheapest), first + int(when[0])
        most = np.append(tables.problem.places.capacity.max(1, initial=0), np.inf)[tables.pool]
        where = np.flatnonzero(allowed & np.all(tables.use[kind] * self.amount[item] <= most * (1 + FITS), axis=1))
        if not len(where):
            return None
        location = int(where[self.costs(kind)[where, -1].argmin()])
        return location, max(tables.slots, first + int(tables.lag[kind, location]))

    def clear(self, free: Floats) -> None:
        """Take everything off, without a trace; `free` [Q, T] is what there is from now on."""
        self.location[:] = self.start[:] = -1
        self.free[:-1, : self.tables.slots] = free

    # sums

    def grams(self, items: Ints) -> Floats:
        """What placed items cost, without prices."""
        kind, start = self.kind[items], self.start[items]
        tables = self.tables
        profiles = tables.problem.profiles
        slot = np.minimum(start, tables.slots)
        out = tables.emissions(self.running, kind, slot, self.location[items]) * self.budget[profiles.account[kind]]
        out += profiles.delay_g_per_h[kind] * tables.problem.places.slot_h * start
        return out * self.amount[items]

    def gram(self, item: int) -> float:
        """What one placed item costs, without prices."""
        start = min(int(self.start[item]), self.tables.slots - 1)
        return float(self.costs(int(self.kind[item]))[self.location[item], start] * self.amount[item])

    def plan(self) -> Plan:
        """The plan that the board holds: pieces of a job that start together are one placement."""
        placed = np.flatnonzero(self.location >= 0)
        items = self.items
        if np.all(items.tasks == 1) and len(items) == len(self.tables.problem.jobs):
            return Plan(items.job[placed], self.location[placed], self.start[placed], items.tasks[placed])
        key = np.stack([items.job[placed], self.location[placed], self.start[placed]])
        found, which = np.unique(key, axis=1, return_inverse=True)
        tasks = np.bincount(which.ravel(), items.tasks[placed], found.shape[1]).astype(np.int64)
        return Plan(found[0], found[1], found[2], tasks)

    def state(self) -> State:
        """Where all items are, to come back to."""
        return self.location.copy(), self.start.copy()

    def restore(self, state: State) -> None:
        """Back to an earlier state; free capacity is counted anew, so that rounding errors do not add up."""
        self.location, self.start = state[0].copy(), state[1].copy()
        places = self.tables.problem.places
        tables = self.tables
        pools = len(places.pool_names)
        change = np.zeros((pools + 1, self.free.shape[1] + 1))
        placed = np.flatnonzero(self.location >= 0)
        kind, where, start = self.kind[placed], self.location[placed], np.minimum(self.start[placed], tables.slots)
        end = np.minimum(start + tables.run[kind, where], self.free.shape[1])
        for i in range(tables.pool.shape[1]):
            use = tables.use[kind, where, i] * self.amount[placed]
            np.add.at(change, (tables.pool[where, i], start), use)
            np.subtract.at(change, (tables.pool[where, i], end), use)
        self.free[:pools, : tables.slots] = places.capacity * (1 + FITS) - np.cumsum(change, 1)[:pools, : tables.slots]
