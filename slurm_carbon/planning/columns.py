"""The columns of a problem in a form in which all of them can be priced at once.

A column is one (profile, location, start), and its cost and use are per unit of scale: jobs that differ in size only
share it. Columns stand in `lanes`: a profile and the locations at which the same starts are allowed to all its jobs.
Jobs with equal windows form a class, and a class looks at a stretch of one lane or of several.

Capacity enters by differences: with P[q,t] the running sum of the prices of pool q, a column that starts in t and ends
in e costs u (P[q,e] - P[q,t]) of it: two numbers a column and pool, however long it runs.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from slurm_carbon.planning.problem import NO_END, Floats, Ints, Problem


@dataclass(frozen=True, eq=False)
class Multipliers:
    """What a solution of the dual is made of: prices, and how much more each emission counts than by the mean forecast."""

    price: Floats  # [Q, T] g per unit and slot
    budget: Floats  # [A] further weight of an account's emissions
    scenario: Floats  # [S] weight of each scenario; adds up to the risk weight

    @staticmethod
    def zero(problem: Problem) -> "Multipliers":
        """No prices; every scenario alike."""
        places = problem.places
        samples = 0 if places.scenarios_g_per_kwh is None or problem.risk_weight == 0 else len(places.scenarios_g_per_kwh)
        scenario = np.full(samples, problem.risk_weight / max(1, samples))
        return Multipliers(np.zeros(places.capacity.shape), np.zeros(len(problem.accounts)), scenario)


class Tables:
    """What is worked out once a problem: slots, uses, running integrals of the intensity, classes of equal jobs."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        places, jobs = problem.places, problem.jobs
        self.count, self.slots = len(places.locations), places.slots
        self.run = problem.run_slots()
        self.lag = problem.lag_slots()
        use = problem.use()
        # pools that a location draws on, padded: pool Q is one that costs nothing
        pools = use.shape[2]
        width = max(1, int(places.pool_members.sum(0).max(initial=0)))
        self.pool = np.full((self.count, width), pools, dtype=np.int64)
        self.use = np.zeros((len(problem.profiles), self.count, width))
        for location in range(self.count):
            for i, q in enumerate(np.flatnonzero(places.pool_members[:, location])):
                self.pool[location, i] = q
                self.use[:, location, i] = use[:, location, q]
        longest = (problem.profiles.run_h * problem.profiles.run_share.max(1, initial=0)[:, None]).max(initial=0)
        points = self.slots + int(self.lag.max(initial=0)) + int(np.ceil(longest / places.slot_h)) + 2
        beyond = places.beyond_g_per_kwh
        self.mean = _running(places.intensity_g_per_kwh, beyond, places.slot_h, points)  # [L, H']
        sample = places.scenarios_g_per_kwh if problem.risk_weight > 0 else None
        self.samples = None if sample is None else _running(sample, beyond, places.slot_h, points)  # [S, L, H']
        key = np.stack([jobs.profile, jobs.earliest, jobs.latest, jobs.finish_by])
        kinds, first, self.class_of = np.unique(
            _as_one(key) if len(jobs) else np.zeros(0, np.int64), return_index=True, return_inverse=True
        )
        self.classes = key[:, first] if len(kinds) else key[:, :0]  # [4, C]
        self._groups()
        self.queries = self._queries()
        of, _, first, last = self.queries
        self.stretch = np.bincount(of, last - first + 1, self.classes.shape[1])  # [C] starts that a class looks at

    def _groups(self) -> None:
        """Per profile, the sets of locations at which the same starts are allowed: lag and, with a finish-by, run alike."""
        profiles = self.problem.profiles
        ends = np.zeros(len(profiles), dtype=bool)
        ends[self.problem.jobs.profile[self.problem.jobs.finish_by < NO_END]] = True
        keys = self.lag * (int(self.run.max(initial=0)) + 1) + np.where(ends[:, None], self.run, 0)
        lanes = []
        for kind in range(len(profiles)):
            allowed = np.flatnonzero(profiles.allowed[kind])
            lanes += [(kind, allowed[keys[kind, allowed] == value]) for value in np.unique(keys[kind, allowed])]
        self.lane_kind = np.array([kind for kind, _ in lanes], dtype=np.int64)
        self.lane_member = np.zeros((len(lanes), self.count), dtype=bool)
        for lane, (_, members) in enumerate(lanes):
            self.lane_member[lane, members] = True
        self.lane_of_kind = np.searchsorted(self.lane_kind, np.arange(len(profiles) + 1))

    def _queries(self) -> tuple[Ints, Ints, Ints, Ints]:
        """(class, lane, first start, last start) for every lane that a class looks at; classes in order."""
        kind, earliest, latest, finish_by = self.classes
        number = np.diff(self.lane_of_kind)[kind]
        of = np.repeat(np.arange(len(kind)), number)
        lane = np.arange(len(of)) - np.repeat(np.cumsum(number) - number, number) + self.lane_of_kind[kind[of]]
        member = self.lane_member[lane].argmax(1) if len(lane) else np.zeros(0, np.int64)
        first = np.maximum(earliest[of], 0) + self.lag[kind[of], member]
        last = np.minimum(latest[of], self.slots - 1)
        last = np.minimum(last, np.where(finish_by[of] < NO_END, finish_by[of] - self.run[kind[of], member], last))
        some = first <= last
        return of[some], lane[some], first[some], last[some]

    def weights(self, jobs: Ints | None = None) -> Floats:
        """[C] sum of scale x tasks over the jobs of each class (all jobs, or those named)."""
        every = self.problem.jobs
        chosen = slice(None) if jobs is None else jobs
        return np.bincount(self.class_of[chosen], (every.scale * every.tasks)[chosen], self.classes.shape[1])

    def effective(self, by: Multipliers) -> Floats:
        """[L, H'] running integral of the intensity, with the scenarios' weights added."""
        if self.samples is None:
            return self.mean
        return self.mean + np.tensordot(by.scenario, self.samples, 1)

    def terms(self, kind: Ints, start: Ints, where: Ints) -> list[tuple[Ints, Floats, Floats]]:
        """Emissions per unit of scale as a sum of coefficient x running integral at (location, slot), [L, N] or [N] each."""
        problem = self.problem
        places, profiles = problem.places, problem.profiles
        begin = start + 0.0 * where
        power_kw = profiles.power_kw[kind, where] * places.pue[where]
        length = profiles.run_h[kind, where] / places.slot_h
        out = [(where, begin, -power_kw)]
        for b in range(profiles.run_share.shape[1]):
            weight = profiles.run_weight[kind, b]
            if np.any(weight):
                out.append((where, begin + profiles.run_share[kind, b] * length, weight * power_kw))
        if np.any(profiles.data_gb[kind] > 0):
            source = profiles.data_at[kind] + 0 * where
            hours = np.where(source != where, profiles.data_gb[kind] / places.gb_per_h, 0.0)
            grams = np.where(hours > 0, profiles.data_gb[kind] * places.kwh_per_gb / 2, 0.0) / np.where(hours > 0, hours, 1.0)
            before = begin - hours / places.slot_h
            for end in (where, source):
                out += [(end, begin, grams), (end, before, -grams)]
        return out

    def emissions(self, running: Floats, kind: Ints, start: Ints, where: Ints) -> Floats:
        """g per unit of scale of runs of profile `kind` that start in `start` at `where`, and of their transfers."""
        total = np.zeros(where.shape if where.ndim == 1 else (where.shape[0], len(start)))
        for location, slot, grams in self.terms(kind, start, where):
            low = slot.astype(np.int64)
            value = running[location, low]
            inside = slot - low
            if np.any(inside):
                value = value + inside * (running[location, np.minimum(low + 1, running.shape[1] - 1)] - value)
            total += grams * value
        return total

    def emission_matrix(self, kind: Ints, start: Ints, where: Ints) -> sparse.csr_matrix:
        """[cells, L x H'] that takes a running integral to the emissions of each cell."""
        rows, columns, data = [], [], []
        points = self.mean.shape[1]
        shape = np.broadcast_shapes(where.shape, start.shape)
        cells = np.arange(int(np.prod(shape)))
        for location, slot, grams in self.terms(kind, start, where):
            low = slot.astype(np.int64)
            for point, share in ((low, 1 - (slot - low)), (np.minimum(low + 1, points - 1), slot - low)):
                rows.append(cells)
                columns.append(np.broadcast_to(location * points + point, shape).ravel())
                data.append((grams * share).ravel())
        entries = (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns)))
        return sparse.csr_matrix(entries, shape=(len(cells), self.count * points))


def _running(intensity: Floats, beyond: Floats, slot_h: float, points: int) -> Floats:
    """[..., L, points] integral from the start of the plan to the start of each slot, in g/kWh x h."""
    more = max(0, points - 1 - intensity.shape[-1])
    tail = np.broadcast_to(beyond[:, None], (*intensity.shape[:-1], more))
    sums = np.cumsum(np.concatenate((intensity, tail), -1), -1) * slot_h
    return np.concatenate((np.zeros((*sums.shape[:-1], 1)), sums), -1)


def _as_one(key: Ints) -> Ints:
    """Rows of small integers as one integer a column, in the same order."""
    value = np.zeros(key.shape[1], dtype=np.int64)
    for row in key:
        levels, place = np.unique(row, return_inverse=True)
        value = value * len(levels) + place
    return value


class Columns:
    """All columns of some classes, and the stretches of them that each class looks at.

    There are N pairs of a lane and a start; a column is one of them at one of the L locations.
    """

    def __init__(self, tables: Tables, weights: Floats) -> None:
        self.tables = tables
        of, lane, first, last = tables.queries
        live = weights[of] > 0
        of, lane, first, last = of[live], lane[live], first[live], last[live]
        lanes, lane = np.unique(lane, return_inverse=True)
        low = np.full(len(lanes), tables.slots, dtype=np.int64)
        high = np.zeros(len(lanes), dtype=np.int64)
        np.minimum.at(low, lane, first)
        np.maximum.at(high, lane, last)
        length = high - low + 1
        base = np.cumsum(length) - length
        row = np.repeat(np.arange(len(lanes)), length)
        self.size = len(row)
        self.start = np.arange(self.size) - base[row] + low[row]  # [N]
        self.kind = tables.lane_kind[lanes][row]  # [N]
        self.member = tables.lane_member[lanes][row].T  # [L, N]
        self.first = base[lane] + first - low[lane]  # [queries]
        self.last = base[lane] + last - low[lane]
        self.classes, self.class_of_query = np.unique(of, return_inverse=True)  # those of all that have a column
        self.weight = weights[self.classes]

    def emissions(self, running: Floats) -> Floats:
        """[L, N] g per unit of scale; inf where the lane has no such location."""
        where = np.arange(self.tables.count)[:, None]
        return np.where(self.member, self.tables.emissions(running, self.kind, self.start, where), np.inf)

    def delay(self) -> Floats:
        """[N] g per unit of scale from the start of the plan on; what each class has waited by its earliest is `constant`."""
        places = self.tables.problem.places
        return self.tables.problem.profiles.delay_g_per_h[self.kind] * self.start * places.slot_h

    def constant(self) -> float:
        """What has to be added to the sum over the classes: delays count from the earliest start of each."""
        kind, earliest = self.tables.classes[:2, self.classes]
        rate = self.tables.problem.profiles.delay_g_per_h[kind] * self.tables.problem.places.slot_h
        return -float(np.sum(self.weight * rate * earliest))

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """[L x N, (Q + 1) x (T + 1)] that takes the running sums of the prices to the price of each column."""
        tables = self.tables
        edges = tables.slots + 1
        width = tables.pool.shape[1]
        end = np.minimum(self.start + tables.run[self.kind].T, tables.slots)  # [L, N]
        index = np.empty((tables.count, self.size, width, 2), dtype=np.int32)
        data = np.empty(index.shape)
        for i in range(width):
            base = tables.pool[:, i, None] * edges
            use = np.where(self.member, tables.use[self.kind, :, i].T, 0.0)
            index[..., i, 0], index[..., i, 1] = base + self.start, base + end
            data[..., i, 0], data[..., i, 1] = -use, use
        rows = tables.count * self.size
        shape = (rows, (len(tables.problem.places.pool_names) + 1) * edges)
        pointer = np.arange(0, 2 * width * rows + 1, 2 * width)
        return sparse.csr_matrix((data.ravel(), index.ravel(), pointer), shape=shape)

    def least(self, value: Floats) -> Floats:
        """[classes] the least of `value` [N] in the stretches of each class, by tables of powers of two."""
        level = np.frexp(self.last - self.first + 1)[1] - 1
        found = np.empty(len(level))
        table = value
        for power in range(int(level.max(initial=0)) + 1):
            if power:
                half = 1 << (power - 1)
                table = np.minimum(table[:-half], table[half:])
            here = level == power
            found[here] = np.minimum(table[self.first[here]], table[self.last[here] - (1 << power) + 1])
        out = np.full(len(self.classes), np.inf)
        np.minimum.at(out, self.class_of_query, found)
        return out


def running_prices(price: Floats) -> Floats:
    """[Q + 1, T + 1] running sums of prices [Q, T]; the last row is of the pool that costs nothing."""
    out = np.zeros((price.shape[0] + 1, price.shape[1] + 1))
    np.cumsum(price, 1, out=out[:-1, 1:])
    return out
