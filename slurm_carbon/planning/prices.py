"""Congestion prices, and a bound that no plan can beat: the Lagrangian dual of the placement, without an LP solver.

With the capacity rows priced into the columns, every job takes its cheapest column, and the sum of those, less what the
capacities earn, is a lower bound for any prices that are not negative (Geoffrion 1974, doi:10.1007/BFb0120690; Fisher
1981, doi:10.1287/mnsc.27.1.1). It is concave in the prices but has kinks; each minimum is therefore smoothed by entropy
(Nesterov 2005, doi:10.1007/s10107-004-0552-5), the smooth function is climbed by L-BFGS-B (Byrd et al. 1995,
doi:10.1137/0916069), and the smoothing is taken back step by step. The bound that is reported is never the smoothed one,
and always over all columns.

A budget of an account is priced the same way. The worst scenarios of a forecast enter as weights on the scenarios, each
at most risk weight / ((1 - level) S): the dual of the conditional value at risk.
"""

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, minimize

from slurm_carbon.planning.columns import Columns, Multipliers, Tables, running_prices
from slurm_carbon.planning.problem import Floats, Ints, Problem

SMOOTHING = (0.3, 0.1, 0.03, 0.01, 0.003)  # shares of the mean cost of a unit of capacity
EVALUATIONS = 40  # for each of them
WORSENED, WORSE = 0.01, 20  # the smoothing at which the scenarios are weighed, and in how many steps
DEARER, LEAST_DEARER = 40, 2.0  # smoothings, or typical costs, by which a column is too dear to be looked at
FEW = 20_000  # columns: of no more than that, all are looked at
AGAIN = 4  # times at most that a climb is tried, because it went where other columns are best; the last time with all
HOTTEST, COLDEST = 500.0, 1e-200  # so that no exponential overflows, and no logarithm is of zero
HIGHEST = 1e4  # times that cost: a slot that is dearer is as good as closed
SEARCHED = 200_000  # stretches of classes in one climb: of more than that, a sample sets the prices
SAFE = 1e-9  # relative: how far rounding errors could lift the bound


class Dual:
    """The dual of some jobs of a problem on what is free for them."""

    def __init__(
        self, tables: Tables, by: Multipliers, weights: Floats | None = None, capacity: Floats | None = None,
        unit_g: Floats | None = None,
    ) -> None:  # fmt: skip
        self.tables = tables
        self.columns = columns = Columns(tables, tables.weights() if weights is None else weights)
        self.capacity = tables.problem.places.capacity if capacity is None else capacity
        self.account = tables.problem.profiles.account[columns.kind]
        self.budgets = len(tables.problem.accounts) > 0
        self.delay_g = columns.delay()
        self.constant_g = columns.constant()
        self.evaluated = 0  # how often, so far
        self._to_integral: sparse.csr_matrix | None = None
        self.set_emissions(by)
        run = tables.run[columns.kind].T
        self.unit_g = self._typical_g(run) if unit_g is None else unit_g
        self.heat_g = heat_g(tables, self.unit_g)
        length = columns.last - columns.first + 1
        self.edge = np.cumsum(length) - length
        query = np.repeat(np.arange(len(length)), length)
        self.cell = np.arange(len(query)) - self.edge[query] + columns.first[query]
        # a class with several lanes has several stretches, one behind the other
        opens = np.flatnonzero(np.diff(columns.class_of_query, prepend=-1))
        self.edge = self.edge[opens]
        self.of_cell = columns.class_of_query[query]
        self.kind_of_class = tables.classes[0, columns.classes]

    def set_emissions(self, by: Multipliers) -> None:
        """Count emissions as these weights of the scenarios say."""
        self.emission_g = self.columns.emissions(self.tables.effective(by))

    def _typical_g(self, run: Ints) -> Floats:
        """[Q] mean cost of a unit and slot of each pool, were it all that a job needs."""
        tables, columns = self.tables, self.columns
        base = self.emission_g.min(0, initial=np.inf) + self.delay_g - self.delay_g.min(initial=0)
        out = np.zeros(len(tables.problem.places.pool_names) + 1)
        cost, taken = out.copy(), out.copy()
        for i in range(tables.pool.shape[1]):
            use = np.where(columns.member, tables.use[columns.kind, :, i].T * run, 0.0)
            np.add.at(cost, tables.pool[:, i], np.where(use > 0, base, 0.0).sum(1))
            np.add.at(taken, tables.pool[:, i], use.sum(1))
        np.divide(cost, taken, out=out, where=taken > 0)
        some = out[:-1]
        return np.where(some > 0, some, some.max(initial=0) or 1.0)

    def cost_g(self, budget: Floats) -> Floats:
        """[L, N] without congestion."""
        if not self.budgets:
            return self.emission_g + self.delay_g
        more = np.append(1 + budget, 1.0)[self.account]
        return self.emission_g * more + self.delay_g

    def reduced_g(self, by: Multipliers) -> Floats:
        """[L, N] with congestion."""
        columns, tables = self.columns, self.tables
        total = self.cost_g(by.budget)
        sums = running_prices(by.price)
        end = np.minimum(columns.start + tables.run[columns.kind].T, tables.slots)
        for i in range(tables.pool.shape[1]):
            pool = tables.pool[:, i, None]
            total = total + tables.use[columns.kind, :, i].T * (sums[pool, end] - sums[pool, columns.start])
        return total

    def least_g(self, value: Floats) -> tuple[Floats, Floats]:
        """The least of `value` [L, N] over the locations [N], and over all starts of each class."""
        least = value.min(0)
        return least, np.minimum.reduceat(least[self.cell], self.edge)

    def bound_g(self, by: Multipliers) -> float:
        """What no plan for these jobs can be below, whatever the multipliers are."""
        value = self.reduced_g(by).min(0, initial=np.inf)
        total = self.columns.weight @ self.columns.least(value) + self.constant_g
        paid = np.sum(self.capacity * by.price) + by.budget @ self.tables.problem.budget_g
        return float(total - paid - SAFE * (abs(total) + paid))

    def worse(self, by: Multipliers, smoothing: float, step: float) -> Multipliers:
        """Scenarios weighted more that come out worse: a step up the dual of the conditional value at risk."""
        tables = self.tables
        if tables.samples is None:
            return by
        if self._to_integral is None:
            where = np.arange(tables.count)[:, None]
            self._to_integral = tables.emission_matrix(self.columns.kind, self.columns.start, where)
        near = _Near(self, [by], smoothing)
        taken = np.zeros(self.emission_g.size)
        taken[near.rows] = near.smooth(by)[3]
        outcomes = tables.samples.reshape(len(tables.samples), -1) @ (self._to_integral.T @ taken)
        spread = outcomes - outcomes.mean()
        problem = tables.problem
        most = problem.risk_weight / max(1.0, (1 - problem.risk_level) * len(outcomes))
        moved = by.scenario + step * most * spread / max(float(np.abs(spread).max()), 1e-300)
        by = Multipliers(by.price, by.budget, capped(moved, most, problem.risk_weight))
        self.set_emissions(by)
        return by

    def climb(self, by: Multipliers, smoothing: float, evaluations: int) -> Multipliers:
        """Better prices and budget weights, after so many evaluations at most."""
        shape, accounts = self.capacity.shape, len(self.tables.problem.accounts)
        count = by.price.size
        scale = np.concatenate((np.repeat(self.unit_g, shape[1]), np.ones(accounts)))
        norm = max(float(self.columns.weight @ self.heat_g[self.kind_of_class]), 1e-300)

        def at(point: Floats) -> Multipliers:
            values = point * scale
            return Multipliers(values[:count].reshape(shape), values[count:], by.scenario)

        def downhill(point: Floats) -> tuple[float, Floats]:
            dual, by_price, by_budget, _ = near.smooth(at(point))
            return -dual / norm, -np.concatenate((by_price.ravel(), by_budget)) * scale / norm

        if not count + accounts or not self.columns.size:
            return by
        point = np.minimum(np.concatenate((by.price.ravel(), by.budget)) / scale, HIGHEST)
        limits = Bounds(np.zeros(len(point)), np.full(len(point), HIGHEST))
        points = [by]
        for turn in range(AGAIN):
            near = _Near(self, points, smoothing, every=turn == AGAIN - 1)
            result = minimize(
                downhill, point, jac=True, method="L-BFGS-B", bounds=limits,
                options={"maxiter": evaluations, "maxfun": 2 * evaluations, "maxcor": 10, "ftol": 1e-9, "gtol": 1e-9},
            )  # fmt: skip
            self.evaluated += int(result.nfev)
            found = at(result.x)
            if near.missed_g(found) <= smoothing * norm:
                break
            points = [by, found]
        return found


class _Near:
    """The smoothed dual over those columns of it that can matter near some prices: the others are too dear by far.

    Values are kept in units of the smoothing, relative to what is least at those prices. A class then adds up, with fixed
    weights, what its starts add up over locations: its share of them is a product with a sparse matrix.

    With R columns (`rows`, in the flat [L, N]) of M pairs of a lane and a start, and C classes: `owner` [R] is the pair of
    a column and `first` [M] where the columns of a pair begin; `height` [R] is what a column costs without congestion, and
    `adds` [C, M] what a start adds to its class, both in smoothings; `cold` [C] and `colder` [R] are -1 / g of a smoothing.
    """

    def __init__(self, dual: Dual, points: list[Multipliers], smoothing: float, every: bool = False) -> None:
        """Near any of these prices, or every column. Numbers are kept relative to the first: begin to climb there."""
        self.dual = dual
        tables, columns = dual.tables, dual.columns
        margin = max(DEARER * smoothing, LEAST_DEARER)
        every |= dual.emission_g.size <= FEW
        near = np.full(dual.emission_g.shape, every) & columns.member
        seen = np.full(len(dual.cell), every)
        for by in reversed(points[:1] if every else points):
            value = dual.reduced_g(by)
            least, best = dual.least_g(value)
            near |= value <= least + margin * dual.heat_g[columns.kind]
            seen |= least[dual.cell] <= (best + margin * dual.heat_g[dual.kind_of_class])[dual.of_cell]
        cell, of_cell = dual.cell[seen], dual.of_cell[seen]
        used = np.zeros(columns.size, dtype=bool)
        used[cell] = True
        at = np.flatnonzero(used)
        least = least[at]
        cold = -1 / (smoothing * dual.heat_g[columns.kind[at]])
        self.owner, location = np.nonzero(near[:, at].T)
        self.first = np.flatnonzero(np.diff(self.owner, prepend=-1))
        self.rows = location * columns.size + at[self.owner]  # in the flat [L, N]
        kind, start = columns.kind[at][self.owner], columns.start[at][self.owner]
        end = np.minimum(start + tables.run[kind, location], tables.slots)
        colder = cold[self.owner]
        self.pools = []
        for i in range(tables.pool.shape[1]):
            base = tables.pool[location, i] * (tables.slots + 1)
            use = tables.use[kind, location, i]
            self.pools.append((base + start, base + end, use, use * colder))
        self.least_g = best
        self.cold = -1 / (smoothing * dual.heat_g[dual.kind_of_class])
        self.account = dual.account[at[self.owner]]
        self.emission_g = dual.emission_g.ravel()[self.rows]
        self.colder = colder
        plain_g = self.emission_g + np.broadcast_to(dual.delay_g, dual.emission_g.shape).ravel()[self.rows]
        self.height = (plain_g - least[self.owner]) * colder
        place = (np.cumsum(used) - 1)[cell]
        height = (least[place] - best[of_cell]) * cold[place]
        self.adds = sparse.csr_matrix(
            (np.exp(height), place.astype(np.int32), np.searchsorted(of_cell, np.arange(len(best) + 1)).astype(np.int32)),
            shape=(len(best), len(at)),
        )

    def missed_g(self, by: Multipliers) -> float:
        """How much less it would cost by these prices if every column were looked at."""
        dual = self.dual
        value = dual.reduced_g(by)
        here = np.full(value.size, np.inf)
        here[self.rows] = value.ravel()[self.rows]
        all_g, here_g = dual.least_g(value)[1], dual.least_g(here.reshape(value.shape))[1]
        return float(dual.columns.weight @ (here_g - all_g))

    def smooth(self, by: Multipliers) -> tuple[float, Floats, Floats, Floats]:
        """The smoothed dual in g, its gradient by price [Q, T] and by budget [A], and how far each of `rows` is taken."""
        dual = self.dual
        weight = dual.columns.weight
        sums = running_prices(by.price)
        flat = sums.ravel()
        height = self.height
        if dual.budgets:
            height = height + self.emission_g * np.append(by.budget, 0.0)[self.account] * self.colder
        for start, end, _, use in self.pools:
            height = height + use * (flat[end] - flat[start])
        share = np.exp(np.minimum(height, HOTTEST))
        total = np.maximum(self.adds @ np.add.reduceat(share, self.first), COLDEST)
        found = float(weight @ (self.least_g + np.log(total) / self.cold)) - float(np.sum(dual.capacity * by.price))
        share *= (self.adds.T @ (weight / total))[self.owner]
        used = np.zeros(flat.size)
        for start, end, use, _ in self.pools:
            each = share * use
            used += np.bincount(start, each, flat.size)
            used -= np.bincount(end, each, flat.size)
        by_price = np.cumsum(used.reshape(sums.shape)[:-1], 1)[:, :-1] - dual.capacity
        by_budget = by.budget
        if dual.budgets:
            budget = dual.tables.problem.budget_g
            by_budget = np.bincount(self.account + 1, self.emission_g * share, len(budget) + 1)[1:] - budget
            found -= float(by.budget @ budget)
        return found, by_price, by_budget, share


def capped(weights: Floats, most: float, total: float) -> Floats:
    """The nearest weights between 0 and `most` that add up to `total`, by bisection on their common shift."""
    low, high = float(weights.min()) - most, float(weights.max())
    for _ in range(60):
        shift = (low + high) / 2
        if np.clip(weights - shift, 0, most).sum() > total:
            low = shift
        else:
            high = shift
    near = np.clip(weights - high, 0, most)
    return np.asarray(near * min(1.0, total / max(near.sum(), 1e-300)))


def heat_g(tables: Tables, unit_g: Floats) -> Floats:
    """[K] what a profile's use of the pools would cost at their typical prices, in g: the scale for smoothing and noise."""
    unit = np.append(unit_g, 0.0)[tables.pool]  # [L, pools of a location]
    pools = np.maximum(1, (tables.use > 0).sum(2))
    each = (tables.use * unit).sum(2) / pools * tables.run
    allowed = tables.problem.profiles.allowed
    heat = (each * allowed).sum(1) / np.maximum(1, allowed.sum(1))
    return np.asarray(np.maximum(heat, 1e-12 * max(float(heat.max(initial=0)), 1e-288)))


def sampled(tables: Tables, weights: Floats, limit: int, random: np.random.Generator) -> Floats:
    """[C] weights of fewer classes that stand for all: heavy ones as they are, light ones by lot, each with its share.

    Prices found on some 100,000 stretches are as good as those found on millions; the bound is computed on all.
    """
    length = tables.stretch
    total = float(length[weights > 0].sum())
    if total <= limit:
        return weights
    least = np.partition(weights[weights > 0], -1)[-1]
    keep = np.minimum(1.0, weights / least)
    for _ in range(60):  # the chance of a class is in proportion to its weight, and at most 1
        kept = float(keep @ length)
        if kept >= limit:
            break
        least /= 1.3
        keep = np.minimum(1.0, weights / least)
    chosen = random.random(len(weights)) < keep
    return np.where(chosen, weights / np.maximum(keep, 1e-300), 0.0)


def solve(dual: Dual, by: Multipliers, evaluations: int = EVALUATIONS) -> tuple[Multipliers, float]:
    """Multipliers near the best, and their bound in g; from `by` on, which may be those of an earlier tick."""
    best, bound_g = by, dual.bound_g(by)
    for smoothing in SMOOTHING:
        if smoothing == WORSENED:
            for turn in range(WORSE if dual.tables.samples is not None else 0):
                by = dual.climb(dual.worse(by, smoothing, (turn + 1) ** -0.5), smoothing, evaluations // 6)
        by = dual.climb(by, smoothing, evaluations)
        if (here_g := dual.bound_g(by)) > bound_g:
            best, bound_g = by, here_g
    dual.set_emissions(best)
    return best, bound_g


def per_hour(problem: Problem, by: Multipliers) -> dict[str, dict[str, Floats]]:
    """Per location and resource, [T] the price of a unit for an hour in g: what a single job is placed against.

    A location pays for every pool that it draws on. Zero where there is room.
    """
    places = problem.places
    found: dict[str, dict[str, Floats]] = {name: {} for name in places.locations}
    for pool, resource in enumerate(places.pool_resource):
        for location in np.flatnonzero(places.pool_members[pool]):
            of = found[places.locations[location]]
            of[resource] = of.get(resource, 0.0) + by.price[pool] / places.slot_h
    return found
