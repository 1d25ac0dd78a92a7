"""Plans a problem within a time: prices and bound, dives, then improvement; the best plan is at hand at any moment."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slurm_carbon.planning import rules
from slurm_carbon.planning.board import Board, Items, State
from slurm_carbon.planning.columns import Multipliers, Tables
from slurm_carbon.planning.prices import SEARCHED, Dual, sampled, solve
from slurm_carbon.planning.problem import Floats, Ints, Plan, Problem, Verdict, check
from slurm_carbon.planning.rounding import Improver, dive

DIVING = 0.5  # share of the time for dives; the rest improves the best of them
FIRST, ALONE = 0.8, 0.9  # share of what is left that the first dive may take, with and without improvement
FINE = (50, 12)  # several dives of this are better than one that is finer
SEVERAL, TOO_FEW = 4, 3  # dives: to afford finer ones, and too few for that to hold
FINEST = (100, 20)  # rounds and evaluations of a dive, time permitting
COARSER = ((80, 15), (60, 15), FINE, (40, 10), (30, 10), (25, 8), (20, 8), (12, 6), (8, 5))
SMOOTHED = 0.04  # in a dive; prices that are less smooth follow each job too far
# how a dive differs from the first: times more rounds, times more evaluations, times smoother, noise
KINDS = ((1, 1, 1, 0.0), (1, 1, 1.5, 0.0), (1, 1, 0.75, 0.0), (1, 2, 1, 0.0), (1, 1, 1, 0.003))
DIVES = 3  # without a limit of time
MENDING = 1.3  # times the limit: so long those who were left out by a dive may be given places one by one
PLACING_S = 15e-6  # that an item takes to be placed
SETUP, SLOWER = 12, 0.76  # a round of a dive costs so many evaluations more, each so much of one of the first climb
IMPROVED = 30_000  # items: of more than that, single steps change too little to be worth it
STEPS = 20  # of improvement for each item, without a limit of time
RELAXED = 200_000  # columns up to which the relaxation is solved as well
RELAXED_S = 4.0  # seconds that have to be left for it
EXACT = 1500  # columns up to which the exact solution is tried
SAME = 1e-7  # relative: what solvers and floating point cannot tell apart


@dataclass(frozen=True)
class Progress:
    """How far a run is, for whoever watches."""

    seconds: float
    bound_g: float
    best_g: float
    doing: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """A plan, and what it is worth."""

    plan: Plan
    verdict: Verdict
    bound_g: float  # no plan that keeps all windows and budgets costs less
    by: Multipliers  # congestion prices, to place single jobs by, and to start the next tick from
    steps: tuple[str, ...]  # how it came about

    @property
    def complete(self) -> bool:
        """Whether every job has a place and keeps its window, and every account its budget."""
        verdict = self.verdict
        return not (verdict.late or verdict.unplaced or verdict.overspent_g)

    @property
    def gap(self) -> float:
        """How far above the bound it is at most: (cost - bound) / bound.

        The bound is one of complete plans: it says nothing of a plan that is not, whose gap is infinite.
        """
        if not self.complete:
            return float("inf")
        over_g = self.verdict.cost_g - self.bound_g
        if over_g <= SAME * abs(self.bound_g):
            return 0.0
        return over_g / self.bound_g if self.bound_g > 0 else float("inf")


Score = tuple[int, int, float, float]


class Planner:
    """One run. `stop` may be set at any time, by a signal handler say: the answer is then what is at hand."""

    def __init__(
        self, problem: Problem, limit_s: float | None = None, *, by: Multipliers | None = None, seed: int = 0,
        exact: bool = True, watch: Callable[[Progress], None] | None = None, clock: Callable[[], float] = time.monotonic,
        sure: tuple[Ints, Ints] | None = None,
    ) -> None:  # fmt: skip
        self.problem, self.limit_s, self.seed, self.watch, self.clock = problem, limit_s, seed, watch, clock
        self.exact = exact  # branch and bound, where there are few columns
        self.sure = sure  # [J] location and start of a plan that has a place for every job, if one is known
        self.began = clock()
        self.stop = False
        self.tables = Tables(problem)
        self.first = Multipliers.zero(problem) if by is None else by
        self.evaluation_s = 0.0
        self.bound_g = 0.0
        self.best: tuple[Score, State] | None = None
        self.at_once: State | None = None
        self.steps: list[str] = []

    def run(self) -> Outcome:
        """The best plan within the limit; without one, that of a fixed amount of work, the same on every machine."""
        dual, by = self._price()
        board = Board(self.tables, Items.of(self.tables), by)
        self._prove(board, dual, by)
        self._stand(board)
        self._dive(board, by, dual.unit_g)
        self._improve(board)
        if self.best is not None:
            board.restore(self.best[1])
        plan = board.plan()
        return Outcome(plan, check(self.problem, plan), self.bound_g, by, tuple(self.steps))

    def left(self, share: float = 1.0) -> float:
        """Seconds until a share of the limit is used."""
        return float("inf") if self.limit_s is None else share * self.limit_s - (self.clock() - self.began)

    def over(self) -> bool:
        """Whether it is time to end."""
        return self.stop or self.left() <= 0

    def _much_over(self) -> bool:
        """Whether even what is left to be mended has to be left."""
        return self.stop or self.left(MENDING) <= 0

    def _note(self, doing: str, said: str = "") -> None:
        if said:
            self.steps.append(f"{doing}: {said}")
        if self.watch:
            self.watch(Progress(self.clock() - self.began, self.bound_g, self.best[0][3] if self.best else np.inf, doing))

    def _keep(self, board: Board) -> Verdict:
        """Remember the board if it is the best so far: nobody left out, fewest late, no budget overspent, least cost."""
        verdict = check(self.problem, board.plan())
        score = (len(verdict.unplaced), len(verdict.late), sum(verdict.overspent_g.values()), verdict.cost_g)
        if not verdict.broken and (self.best is None or score < self.best[0]):
            self.best = score, board.state()
        return verdict

    # one thing after the other

    def _price(self) -> tuple[Dual, Multipliers]:
        """Prices and the bound; by the relaxation in CVXPY too, where that is quick."""
        weights = self.tables.weights()
        fewer = sampled(self.tables, weights, SEARCHED, np.random.default_rng(self.seed))
        dual = Dual(self.tables, self.first, fewer)
        before = self.clock()
        by, self.bound_g = solve(dual, self.first)
        self.evaluation_s = (self.clock() - before) / max(1, dual.evaluated)
        if fewer is not weights:
            dual = Dual(self.tables, by, weights, unit_g=dual.unit_g)
            self.bound_g = dual.bound_g(by)
        self._note("prices", f"bound {self.bound_g:.6g} g")
        if len(dual.cell) * self.tables.count <= RELAXED and self.left() > RELAXED_S and not self.stop:
            from slurm_carbon.planning.relax import relax

            relaxed = relax(dual, by, limit_s=None if self.limit_s is None else self.left(0.3))
            by, self.bound_g = relaxed.by, max(self.bound_g, relaxed.bound_g)
            how = relaxed.why or f"certified to {max(0.0, relaxed.gap):.1e}"
            self._note("relaxation", f"bound {self.bound_g:.6g} g, {relaxed.columns} columns, {how}")
        self.bound_g = max(self.bound_g, 0.0)
        return dual, by

    def _stand(self, board: Board) -> None:
        """The plan that is known already: in however little time, no answer is worse."""
        if self.sure is not None and not self._proven():
            board.restore(self._sure(board))
            verdict = self._keep(board)
            self._note("known plan", f"{verdict.cost_g:.6g} g, {len(verdict.late)} late")

    def _dive(self, board: Board, by: Multipliers, unit_g: Floats) -> None:
        """Plans from scratch, each a little different; the best is kept."""
        random = np.random.default_rng(self.seed + 1)
        empty = _nowhere(board)
        longest_s = 0.0
        rounds, evaluations = self._effort(len(board.items))
        number = 0
        while not self._proven() and (number == 0 or not self._enough(number, longest_s, len(board.items))):
            more, finer, smoother, noise = KINDS[min(number, len(KINDS) - 1)]
            before = self.clock()
            board.restore(empty)
            absent = dive(board, by, unit_g, more * rounds, finer * evaluations, smoother * SMOOTHED, random, noise, self.over)
            if absent:
                improver = Improver(board, random)
                absent = improver.rescue(absent, self.over)
                absent = improver.fall_back(absent, self._sure(board), self._much_over) if absent else []
            for item in absent:
                if (found := board.soonest(item)) is not None:
                    board.put(item, *found)
            verdict = self._keep(board)
            by = self._respect(board, verdict, by)
            longest_s = max(longest_s, self.clock() - before)
            self._note("dive", f"{verdict.cost_g:.6g} g, {len(verdict.late)} late")
            number += 1

    def _effort(self, items: int) -> tuple[int, int]:
        """Rounds and evaluations of a dive that leaves time to improve."""
        if self.limit_s is None:
            return FINEST
        share = ALONE if items > IMPROVED else FIRST

        def takes_s(rounds: int, evaluations: int) -> float:
            return rounds * (evaluations + SETUP) * SLOWER * self.evaluation_s + items * PLACING_S

        several = items <= IMPROVED and takes_s(*FINE) * TOO_FEW <= self.left(DIVING)
        for effort in (FINEST, *COARSER):
            expected_s = takes_s(*effort)
            too_fine = several and effort > FINE and expected_s * SEVERAL >= self.left(DIVING)
            if not too_fine and expected_s < self.left() * share:
                break
        return effort

    def _enough(self, number: int, longest_s: float, items: int) -> bool:
        if self.stop or items > IMPROVED:
            return True
        return number >= DIVES if self.limit_s is None else self.left(DIVING) < longest_s * 0.7

    def _sure(self, board: Board) -> State:
        """A plan that has a place for every job: the one that is known, or to run at once, if the windows were made for it."""
        if self.at_once is None and self.sure is not None:
            place, start = (part[board.items.job] for part in self.sure)
            self.at_once = np.where(start < self.tables.slots, place, -1), start
        if self.at_once is None:
            alone = Board(self.tables, board.items, self.first)
            rules.run_at_once(alone)
            self.at_once = alone.state()
        return self.at_once

    def _respect(self, board: Board, verdict: Verdict, by: Multipliers) -> Multipliers:
        """Weigh the emissions of accounts that overspent more in the next dive."""
        if not verdict.overspent_g:
            return by
        over = np.isin(self.problem.accounts, list(verdict.overspent_g))
        by = Multipliers(by.price, np.where(over, 2 * by.budget + 0.2, by.budget), by.scenario)
        board.set_costs(by)
        return by

    def _improve(self, board: Board) -> None:
        """Step by step from the best, until the time is over."""
        if len(board.items) > IMPROVED or self.best is None or self.over() or self._proven():
            return
        board.restore(self.best[1])
        improver = Improver(board, np.random.default_rng(self.seed + 2))
        steps = STEPS * len(board.items) if self.limit_s is None else 1 << 60
        kept_s = told_s = self.clock()
        while improver.steps < steps and not self.over():
            for _ in range(50):
                improver.step()
            if self.clock() - kept_s > 5.0:
                self._keep(board)
                kept_s = self.clock()
            if self.clock() - told_s > 0.2:
                told_s = self.clock()
                self._note("improvement")
        verdict = self._keep(board)
        self._note("improvement", f"{improver.steps} steps to {verdict.cost_g:.6g} g")

    def _proven(self) -> bool:
        """Whether the best plan is optimal, as far as floating point can tell."""
        return self.best is not None and self.best[0][:3] == (0, 0, 0.0) and self.best[0][3] <= self.bound_g * (1 + SAME)

    def _prove(self, board: Board, dual: Dual, by: Multipliers) -> None:
        """The exact optimum, for a handful of jobs."""
        columns = int(self.tables.stretch[self.tables.class_of[board.items.job]].sum()) * self.tables.count
        simple = not self.problem.accounts and self.tables.samples is None
        if not self.exact or not simple or not 0 < columns <= EXACT or self.over():
            return
        classes = np.searchsorted(dual.columns.classes, self.tables.class_of[board.items.job])
        if not np.all(np.isin(self.tables.class_of[board.items.job], dual.columns.classes)):
            return  # somebody has no start at all
        from slurm_carbon.planning.relax import exact

        found = exact(dual, by, classes, board.amount, None if self.limit_s is None else self.left(0.5))
        if isinstance(found, str):
            self._note("exact solution", found)
            return
        board.restore(_nowhere(board))
        for item, location, start in zip(found.owner.tolist(), found.location.tolist(), found.start.tolist(), strict=True):
            board.put(item, location, start)
        self._keep(board)
        self.bound_g = max(self.bound_g, found.bound_g)
        self._note("exact solution", f"proven from {found.bound_g:.6g} g on")


def _nowhere(board: Board) -> State:
    """The state in which nothing is placed."""
    nothing = np.full(len(board.items), -1)
    return nothing, nothing
