"""The linear relaxation in CVXPY, on few columns: the formulation of `problem`, with x between 0 and 1.

The prices of the dual say which columns can matter: the cheapest of each class, and the best at each location. What
CVXPY solves is therefore small; all columns are then priced with the duals of that solution, which gives the bound for
the whole problem (column generation: Desaulniers, Desrosiers and Solomon 2005, doi:10.1007/b135457), and those that
would still lower the cost come in, until nothing is left that could.

Capacity stands in differences, u[q,s] - u[q,s-1] = what starts in s - what ends in s with 0 <= u <= capacity: three
entries a column instead of one for each slot of its run.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cvxpy as cp
import numpy as np
from scipy import sparse

from slurm_carbon.planning.columns import Multipliers
from slurm_carbon.planning.prices import Dual
from slurm_carbon.planning.problem import Bools, Floats, Ints

CHEAPEST = 24  # columns of a class to begin with
ROUNDS = 6
NODES = 2000  # of branch and bound, so that it ends everywhere at the same place


@dataclass(frozen=True, eq=False)
class Relaxed:
    """The relaxation, solved and certified."""

    value_g: float  # of the linear program over the chosen columns
    bound_g: float  # of the whole problem
    by: Multipliers
    columns: int
    rounds: int
    why: str = ""  # why it is not solved to the tolerance

    @property
    def gap(self) -> float:
        """How much the columns that were left out can be worth at most."""
        return (self.value_g - self.bound_g) / self.bound_g if self.bound_g > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Exact:
    """An integral solution, and how good it could be at best."""

    owner: Ints
    location: Ints
    start: Ints
    bound_g: float


@dataclass(frozen=True, eq=False)
class _Columns:
    """E columns of a program: whose they are, where they stand in the dual, and how many units of scale their owner has."""

    owner: Ints
    location: Ints
    cell: Ints
    weight: Floats

    def __getitem__(self, some: Bools) -> "_Columns":
        return _Columns(self.owner[some], self.location[some], self.cell[some], self.weight[some])


def relax(
    dual: Dual, by: Multipliers, *, tolerance: float = 1e-4, cheapest: int | None = CHEAPEST, solver: str = "HIGHS",
    limit_s: float | None = None,
) -> Relaxed:  # fmt: skip
    """Solve the relaxation, from good prices on. `cheapest` None takes every column at once.

    Whatever the solver does, the bound holds: it is priced anew, and never below that of the prices given.
    """
    best, bound_g, value_g, why = by, dual.bound_g(by), float("inf"), ""
    every = _columns(dual, np.arange(len(dual.columns.classes)), dual.columns.weight)
    taken = _cheapest(every, dual.reduced_g(by), cheapest)
    rounds = 0
    while rounds < ROUNDS and len(taken):
        rounds += 1
        chosen = every[taken]
        program = _Program(dual, chosen, by, integral=False)
        why = program.solve(solver, limit_s)
        if why:
            break
        value_g, here = program.value_g(), program.multipliers()
        if here is None:
            why = f"{solver}: duals that are no numbers"
            break
        here_g = dual.bound_g(here)
        if here_g > bound_g:
            best, bound_g = here, here_g
        if value_g - bound_g <= tolerance * abs(bound_g) or cheapest is None:
            break
        more = _cheapest(every, dual.reduced_g(here), 10) & ~taken
        if not more.any():
            break
        taken |= more
    return Relaxed(value_g, bound_g, best, int(taken.sum()), rounds, why)


def exact(dual: Dual, by: Multipliers, owners: Ints, amounts: Floats, limit_s: float | None) -> Exact | str:
    """The best integral solution that HiGHS finds in a time, for items of given classes and sizes; or why there is none.

    For a handful of jobs: of more than some sixty, branch and bound proves nothing in a minute.
    """
    chosen = _columns(dual, owners, amounts)
    program = _Program(dual, chosen, by, integral=True)
    why = program.solve("HIGHS", limit_s, {"mip_rel_gap": 1e-9, "mip_max_nodes": NODES})
    if why:
        return why
    taken = np.flatnonzero(program.taken() > 0.5)
    if not np.array_equal(chosen.owner[taken], np.arange(len(owners))):
        return "HIGHS: no integral solution"
    bound_g = program.proven_g()
    return Exact(chosen.owner[taken], chosen.location[taken], dual.columns.start[chosen.cell[taken]], bound_g)


def _columns(dual: Dual, classes: Ints, weights: Floats) -> _Columns:
    """Every column of owners of these classes, owners in order."""
    columns = dual.columns
    first = np.searchsorted(dual.of_cell, classes)
    length = np.searchsorted(dual.of_cell, classes, side="right") - first
    owner = np.repeat(np.arange(len(classes)), length)
    cell = dual.cell[np.arange(len(owner)) - np.repeat(np.cumsum(length) - length - first, length)]
    count = dual.tables.count
    owner, cell, location = np.repeat(owner, count), np.repeat(cell, count), np.tile(np.arange(count), len(cell))
    real = columns.member[location, cell]
    return _Columns(owner[real], location[real], cell[real], weights[owner[real]])


def _cheapest(every: _Columns, reduced_g: Floats, number: int | None) -> Bools:
    """The cheapest columns of each owner, and the cheapest at each location."""
    if number is None:
        return np.ones(len(every.owner), dtype=bool)
    value = reduced_g[every.location, every.cell]
    order = np.lexsort((value, every.owner))
    owner = every.owner[order]
    taken = np.zeros(len(owner), dtype=bool)
    taken[order[np.arange(len(owner)) - np.searchsorted(owner, owner) < number]] = True
    order = np.lexsort((value, every.location, every.owner))
    new = (np.diff(every.owner[order], prepend=-1) != 0) | (np.diff(every.location[order], prepend=-1) != 0)
    taken[order[new]] = True
    return taken


class _Program:
    """The formulation in CVXPY: fractions x of some columns, and how far each pool is used."""

    def __init__(self, dual: Dual, chosen: _Columns, by: Multipliers, integral: bool) -> None:
        self.dual, self.by = dual, by
        tables, columns = dual.tables, dual.columns
        pools, slots = dual.capacity.shape
        number = len(chosen.owner)
        emission_g = dual.emission_g[chosen.location, chosen.cell] * chosen.weight
        cost_g = emission_g + dual.delay_g[chosen.cell] * chosen.weight
        self.constant_g, self.cost_g = dual.constant_g, cost_g
        self.scale_g = max(float(np.abs(cost_g).mean()), 1e-300)
        one = sparse.csr_matrix((np.ones(number), (chosen.owner, np.arange(number))))
        # what starts and ends, from the matrix that prices the columns; pools in shares of their capacity
        self.unit = np.repeat(np.maximum(dual.capacity.max(1, initial=0), 1e-12), slots)
        rows = columns.matrix[chosen.location * columns.size + chosen.cell].T.tocsr()
        index = (np.arange(pools)[:, None] * (slots + 1) + np.arange(slots)).ravel()
        change = sparse.diags_array(1 / self.unit) @ rows[index] @ sparse.diags_array(chosen.weight)
        step = sparse.kron(sparse.eye_array(pools), sparse.diags_array([1.0, -1.0], offsets=[0, -1], shape=(slots, slots)))

        self.x = cp.Variable(number, boolean=True) if integral else cp.Variable(number)
        used = cp.Variable(pools * slots)
        self.full = used <= dual.capacity.ravel() / self.unit
        constraints = [one @ self.x == 1, change @ self.x + step @ used == 0, self.full]
        if not integral:
            constraints.append(self.x >= 0)
        account = dual.account[chosen.cell]
        budget_g = tables.problem.budget_g
        self.spent = {
            a: (emission_g[account == a] / self.scale_g) @ self.x[np.flatnonzero(account == a)] <= budget_g[a] / self.scale_g
            for a in range(len(budget_g))
            if np.any(account == a)
        }
        self.program = cp.Problem(cp.Minimize((cost_g / self.scale_g) @ self.x), [*constraints, *self.spent.values()])

    def solve(self, solver: str, limit_s: float | None, options: dict[str, object] | None = None) -> str:
        """Solve it. Returns what went wrong, in words."""
        try:
            with quiet():
                self.program.solve(solver=solver, **_options(solver, limit_s, options or {}))  # type: ignore[no-untyped-call]
        except (cp.SolverError, ValueError, ArithmeticError, MemoryError) as error:
            return f"{solver}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        if self.program.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE, cp.USER_LIMIT) or self.x.value is None:
            return f"{solver}: {self.program.status}"
        return "" if np.all(np.isfinite(self.x.value)) else f"{solver}: a solution that is no number"

    def value_g(self) -> float:
        """The value of the program."""
        return float(self.cost_g @ self.x.value) + self.constant_g

    def taken(self) -> Floats:
        """How far each column is taken."""
        return np.asarray(self.x.value)

    def proven_g(self) -> float:
        """What the solver has proved of an integral program; minus infinity if it does not say."""
        stats = getattr(self.program.solver_stats, "extra_stats", None)
        proven = float(getattr(stats, "mip_dual_bound", -np.inf))
        return proven * self.scale_g + self.constant_g - 1e-9 * abs(proven * self.scale_g)

    def multipliers(self) -> Multipliers | None:
        """The duals; None if they are no numbers."""
        if self.full.dual_value is None:
            return None
        price = np.maximum(np.asarray(self.full.dual_value), 0.0) * self.scale_g / self.unit
        budget = np.zeros(len(self.dual.tables.problem.budget_g))
        for account, row in self.spent.items():
            budget[account] = max(0.0, float(row.dual_value)) if row.dual_value is not None else np.nan
        if not np.all(np.isfinite(price)) or not np.all(np.isfinite(budget)):
            return None
        return Multipliers(price.reshape(self.dual.capacity.shape), budget, self.by.scenario)


def _options(solver: str, limit_s: float | None, more: dict[str, object]) -> dict[str, object]:
    options: dict[str, object] = {"canon_backend": cp.SCIPY_CANON_BACKEND, "ignore_dpp": True}
    if solver == "HIGHS":
        highs: dict[str, object] = {"threads": 1, **(more or {"solver": "ipm", "run_crossover": "off"})}
        if limit_s is not None:
            highs["time_limit"] = limit_s
        options["highs_options"] = highs
    return options


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing that a solver prints reaches our standard output; it goes to the bin, warnings with it."""
    sys.stdout.flush()
    saved, bin_ = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(bin_, 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(bin_)
