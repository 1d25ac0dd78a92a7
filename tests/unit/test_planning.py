"""The planner on problems that are easy to see through."""

import dataclasses
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from slurm_carbon.errors import PlanError
from slurm_carbon.intensity import Intensity
from slurm_carbon.model import Estimate, Location, Power, Window
from slurm_carbon.place import best_start
from slurm_carbon.planning import relax as relaxation
from slurm_carbon.planning import rules
from slurm_carbon.planning.board import Board, Items
from slurm_carbon.planning.columns import Multipliers, Tables
from slurm_carbon.planning.planner import Planner, Progress
from slurm_carbon.planning.prices import Dual, capped, solve
from slurm_carbon.planning.problem import Jobs, Plan, Problem, check, cvar
from slurm_carbon.planning.rounding import Improver, dive
from slurm_carbon.planning.sample import week
from slurm_carbon.planning.uncertainty import run_times, scenarios
from tests.unit.problems import planned, simple


@pytest.mark.parametrize("seed", range(25))
def test_one_job_is_placed_as_the_scan_places_it(seed: int) -> None:
    """Without contention the joint plan and `place.py` agree on place, start and emissions."""
    random = np.random.default_rng(seed)
    grams = random.random((3, 24)) * 500
    run, earliest = int(random.integers(1, 9)), int(random.integers(0, 8))
    latest = earliest + int(random.integers(0, 8))
    outcome = planned(simple(grams.tolist(), [(1, run, earliest, latest)]))
    power = Power(1, 0, 0, 1)
    scans = [
        best_start(
            Location("a", f"site{row}", "Z", power),
            Intensity("Z", 0, 3600, values.tolist(), float(values.mean()), "test", "production", "lifecycle", 0),
            Estimate(run * 3600, 1000.0, "test"),
            Window(earliest * 3600, latest * 3600, "test"),
        )
        for row, values in enumerate(grams)
    ]
    best = min(scans, key=lambda placement: placement.cost_g)
    assert outcome.verdict.cost_g == pytest.approx(best.cost_g)
    assert (f"site{outcome.plan.location[0]}", outcome.plan.start[0] * 3600) == (best.location.partition, best.start_epoch_s)
    assert outcome.gap == 0.0


def test_two_jobs_share_the_cleanest_hour_only_if_both_fit() -> None:
    """Capacity sends the second job to the second best hour, and the bound knows it."""
    problem = simple([[100, 10, 50]], [(1, 1, 0, 2), (1, 1, 0, 2)], cores=1)
    outcome = planned(problem)
    assert outcome.verdict.cost_g == pytest.approx(60)
    assert sorted(outcome.plan.start.tolist()) == [1, 2]
    assert outcome.gap == 0.0
    assert planned(simple([[100, 10, 50]], [(1, 1, 0, 2), (1, 1, 0, 2)], cores=2)).verdict.cost_g == pytest.approx(20)


@pytest.mark.parametrize("seed", range(6))
def test_more_room_slack_or_places_never_raise_the_bound(seed: int) -> None:
    """The bound of a problem that allows more is not higher."""
    problem = week(30, 2, 24, seed=seed)

    def bound(of: Problem) -> float:
        planner = Planner(of)
        planner._price()
        return planner.bound_g

    here = bound(problem)
    places, jobs = problem.places, problem.jobs
    roomier = dataclasses.replace(problem, places=dataclasses.replace(places, capacity=places.capacity * 1.3))
    later = dataclasses.replace(problem, jobs=dataclasses.replace(jobs, latest=jobs.latest + 3))
    assert bound(roomier) <= here * (1 + 2e-4)
    assert bound(later) <= here * (1 + 2e-4)
    fewer = np.zeros_like(problem.profiles.allowed)
    fewer[:, 0] = True
    wide = dataclasses.replace(places, capacity=places.capacity * 3)
    one = dataclasses.replace(problem, places=wide, profiles=dataclasses.replace(problem.profiles, allowed=fewer))
    assert bound(dataclasses.replace(problem, places=wide)) <= bound(one) * (1 + 2e-4)


def test_order_of_jobs_and_hour_of_the_clock_change_nothing() -> None:
    """Permuted jobs and a plan that starts a day later have the same optimum."""
    problem = week(8, 2, 12, seed=3)
    here = planned(problem)
    order = np.random.default_rng(0).permutation(len(problem.jobs))
    fields = {f.name: getattr(problem.jobs, f.name) for f in dataclasses.fields(problem.jobs) if f.name != "names"}
    permuted = dataclasses.replace(problem, jobs=Jobs(**{name: values[order] for name, values in fields.items()}))
    later = dataclasses.replace(problem, places=dataclasses.replace(problem.places, start_epoch_s=86400))
    assert here.gap == 0.0
    assert planned(permuted).verdict.cost_g == pytest.approx(here.verdict.cost_g)
    assert planned(later).verdict.cost_g == here.verdict.cost_g


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3, 1e9])
def test_power_scales_everything(factor: float) -> None:
    """A plan in mW or in GW is the same plan: cost and bound scale, places and starts stay."""
    problem = week(40, 2, 24, seed=1)
    profiles = dataclasses.replace(problem.profiles, power_kw=problem.profiles.power_kw * factor)
    here, there = planned(problem), planned(dataclasses.replace(problem, profiles=profiles))
    assert there.bound_g == pytest.approx(here.bound_g * factor, rel=1e-3)
    assert there.verdict.cost_g == pytest.approx(here.verdict.cost_g * factor, rel=0.05)


def test_the_same_plan_whatever_the_number_of_threads() -> None:
    """Two processes with one and two threads give the same plan, to the last bit."""
    code = (
        "from slurm_carbon.planning.sample import alike, week\nfrom slurm_carbon.planning.planner import Planner\n"
        "outcome = Planner(week(150, 3, 48)).run()\n"
        "print(outcome.plan.location.tolist(), outcome.plan.start.tolist(), outcome.bound_g)"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number},
        ).stdout
        for number in ("1", "2")
    }  # fmt: skip
    assert len(answers) == 1
    assert "Running HiGHS" not in answers.pop()


# degenerate problems


def test_no_jobs() -> None:
    """Nothing to do is a plan, too."""
    outcome = planned(simple([[1.0, 2.0]], []))
    assert len(outcome.plan) == 0
    assert outcome.gap == 0.0


def test_no_capacity_at_all() -> None:
    """Where there never is room, jobs are said to have no place; nothing is invented."""
    outcome = planned(simple([[1.0, 2.0]], [(1, 1, 0, 1)], cores=0))
    assert outcome.verdict.unplaced == (0,)


def test_a_job_that_is_too_wide() -> None:
    """What fits nowhere is reported, and the others are placed."""
    outcome = planned(simple([[1.0, 2.0]], [(5, 1, 0, 1), (1, 1, 0, 1)], cores=2))
    assert outcome.verdict.unplaced == (0,)
    assert outcome.plan.job.tolist() == [1]
    assert (outcome.complete, outcome.gap) == (False, math.inf)


def test_too_many_jobs_for_the_window_come_least_late() -> None:
    """Three jobs for one slot: one in time, the others in the next slots."""
    outcome = planned(simple([[9.0, 9.0, 1.0, 1.0]], [(1, 1, 0, 0)] * 3, cores=1))
    assert sorted(outcome.plan.start.tolist()) == [0, 1, 2]
    assert len(outcome.verdict.late) == 2
    assert (outcome.complete, outcome.gap) == (False, math.inf)


def test_a_run_longer_than_the_horizon_is_counted_whole() -> None:
    """What runs on beyond the forecast emits by what holds beyond it."""
    outcome = planned(simple([[10.0, 20.0]], [(1, 6, 0, 0)]))
    assert outcome.verdict.cost_g == pytest.approx(10 + 20 + 4 * 15)


def test_ties_and_a_grid_without_emissions() -> None:
    """Equal or zero costs are no trouble."""
    assert planned(simple([[5.0] * 6] * 3, [(1, 2, 0, 4)] * 6, cores=1)).gap == 0.0
    assert planned(simple([[0.0] * 6] * 2, [(1, 2, 0, 4)] * 4, cores=1)).verdict.cost_g == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_numbers_that_make_no_sense(value: float) -> None:
    """A problem with NaN, infinite or negative numbers is refused when it is stated."""
    with pytest.raises(PlanError, match="intensity_g_per_kwh"):
        simple([[1.0, value]], [(1, 1, 0, 1)])


# solvers that fail


@pytest.mark.parametrize("how", ["error", "status", "nan", "inaccurate", "memory"])
def test_a_solver_that_fails_costs_no_plan(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever CVXPY's solver does, a plan comes back, and the bound is one."""
    problem = week(60, 2, 24, seed=2)
    sound = planned(problem, exact=False)

    def solve_badly(self: relaxation.cp.Problem, *_: object, **__: object) -> None:
        if how == "error":
            raise relaxation.cp.SolverError("the solver is gone")
        if how == "memory":
            raise MemoryError
        self._status = "infeasible" if how == "status" else relaxation.cp.OPTIMAL_INACCURATE
        for variable in self.variables():
            variable.save_value(np.full(variable.shape, np.nan if how == "nan" else 0.5))
        for constraint in self.constraints:
            for dual in constraint.dual_variables:
                dual.save_value(np.full(dual.shape, 1e3 if how == "inaccurate" else 0.0))

    monkeypatch.setattr(relaxation.cp.Problem, "solve", solve_badly)
    outcome = planned(problem, exact=False)
    assert outcome.bound_g <= sound.verdict.cost_g
    assert outcome.bound_g == pytest.approx(sound.bound_g, rel=5e-3)
    assert outcome.gap < 0.2


def test_another_solver_by_name() -> None:
    """Any LP solver that CVXPY knows gives the same relaxation."""
    problem = week(40, 2, 24, seed=2)
    tables = Tables(problem)
    dual = Dual(tables, Multipliers.zero(problem))
    by, _ = solve(dual, Multipliers.zero(problem))
    values = [relaxation.relax(dual, by, solver=solver).value_g for solver in ("HIGHS", "CLARABEL")]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    gone = relaxation.relax(dual, by, solver="NOSUCHSOLVER")
    assert "NOSUCHSOLVER" in gone.why
    assert gone.bound_g <= values[0]


# time and watching


def test_ends_in_time_and_reports_progress() -> None:
    """A limit is kept, and what is told on the way has a bound and a plan."""
    told: list[Progress] = []
    ticks = iter(range(10**9))
    outcome = Planner(week(100, 3, 48), 30.0, watch=told.append, clock=lambda: next(ticks) * 0.05).run()
    assert outcome.verdict.late == ()
    assert told[-1].seconds < 40
    assert 0 < told[-1].bound_g <= told[-1].best_g < math.inf


def test_stopped_at_once_it_still_has_a_plan() -> None:
    """Stopped before the first dive, it places all jobs all the same."""
    planner = Planner(week(200, 3, 48))
    planner.stop = True
    outcome = planner.run()
    assert outcome.verdict.broken == outcome.verdict.late == outcome.verdict.unplaced == ()


def test_in_however_little_time_it_is_no_worse_than_the_plan_that_is_known() -> None:
    """Stopped before the first dive, or after it, the plan costs no more than the one that it was given."""
    problem = week(100, 3, 48)
    known = planned(problem, limit_s=4.0)
    place, start = np.full(100, -1), np.full(100, 48)
    place[known.plan.job], start[known.plan.job] = known.plan.location, known.plan.start
    for stop in (True, False):
        planner = Planner(problem, 0.0, sure=(place, start))
        planner.stop = stop
        outcome = planner.run()
        assert outcome.verdict.broken == outcome.verdict.late == outcome.verdict.unplaced == ()
        assert outcome.verdict.cost_g <= known.verdict.cost_g
    careless = Planner(problem)
    careless.stop = True
    assert careless.run().verdict.cost_g > known.verdict.cost_g


def test_starts_from_the_prices_of_the_last_tick() -> None:
    """With the prices of an earlier run the bound is as good, and the run as sound."""
    problem = week(100, 3, 48)
    first = planned(problem)
    again = planned(problem, by=first.by)
    assert again.bound_g == pytest.approx(first.bound_g, rel=1e-3)


# uncertainty


def test_the_mean_over_scenarios_needs_only_the_mean() -> None:
    """With no weight on the worst, scenarios change nothing."""
    grams = [[100.0, 10.0, 50.0]]
    sample = np.array([[[50.0, 20, 50]], [[150.0, 0, 50]]])
    assert planned(simple(grams, [(1, 1, 0, 2)], scenarios_g_per_kwh=sample)).verdict.cost_g == pytest.approx(10)


def test_risk_prefers_the_hour_that_is_surely_good() -> None:
    """An hour that is cleaner in the mean but uncertain loses against a sure one when the worst counts."""
    grams, sample = [[30.0, 40.0]], np.array([[[0.0, 40]], [[60.0, 40]]])
    problem = simple(grams, [(1, 1, 0, 1)], scenarios_g_per_kwh=sample)
    assert planned(problem).plan.start.tolist() == [0]
    averse = planned(dataclasses.replace(problem, risk_weight=2.0, risk_level=0.5))
    assert averse.plan.start.tolist() == [1]
    assert averse.bound_g <= averse.verdict.cost_g == pytest.approx(40 + 2 * 40)
    assert averse.gap < 0.01


def test_cvar_is_the_mean_of_the_worst() -> None:
    """By the definition, also where the level cuts an outcome in two."""
    outcomes = np.array([1.0, 2, 3, 4])
    assert cvar(outcomes, 0.5) == pytest.approx(3.5)
    assert cvar(outcomes, 0.625) == pytest.approx((4 + 0.5 * 3) / 1.5)
    assert cvar(outcomes, 0.0) == pytest.approx(2.5)


def test_weights_within_their_limits() -> None:
    """Projected weights keep the cap and the sum."""
    weights = capped(np.array([5.0, 0.1, 0.2, -3.0]), 0.5, 1.0)
    assert weights.sum() == pytest.approx(1.0)
    assert weights.max() <= 0.5
    assert weights.min() >= 0.0


def test_run_times_and_scenarios_keep_their_promises() -> None:
    """Points below and above the median; scenarios with the mean of the forecast and none negative."""
    kept, points = run_times(0.5, 0.9)
    assert points[2] == pytest.approx(1.0)
    assert points[0] < 1 < kept < points[-1] * 1.3
    assert run_times(0.0, 0.9) == (1.0, np.ones(1))
    mean = np.full((2, 24), 100.0)
    sample = scenarios(mean, mean * 0.7, mean * 1.3, 50, 1.0)
    assert sample.mean(0) == pytest.approx(mean)
    assert sample.min() >= 0
    assert 0.6 < np.mean((sample > 70) & (sample < 130)) < 0.95


# budgets, and the policies of others


def test_a_budget_moves_an_accounts_jobs() -> None:
    """A budget that the cheapest plan breaks is kept where it can be, and reported where it cannot."""
    # both want the clean slot; B is larger and gets it, unless A's budget needs it
    problem = simple([[100.0, 10.0]], [(1, 1, 0, 1), (1, 1, 0, 1)], cores=1)
    profiles = dataclasses.replace(problem.profiles, account=np.array([0, -1]), power_kw=np.array([[1.0], [2.0]]))
    free = dataclasses.replace(problem, profiles=profiles, accounts=("a",), budget_g=np.array([1000.0]))
    assert planned(free).plan.start[planned(free).plan.job == 0].tolist() == [0]
    tight = planned(dataclasses.replace(free, budget_g=np.array([50.0])))
    assert tight.verdict.overspent_g == {}
    assert tight.plan.start[tight.plan.job == 0].tolist() == [1]
    assert planned(dataclasses.replace(free, budget_g=np.array([5.0]))).verdict.overspent_g == {"a": pytest.approx(5.0)}


def test_the_plan_beats_the_policies_of_others() -> None:
    """At least as good as run at once, greedy and random, on problems where all of them keep the windows."""
    problem = week(200, 3, 72, load=0.6)
    board = Board(tables := Tables(problem), Items.of(tables), Multipliers.zero(problem))
    empty = board.state()
    best = planned(problem).verdict
    for rule in (rules.run_at_once, rules.greedy, lambda b: rules.at_random(b, np.random.default_rng(0))):
        board.restore(empty)
        rule(board)
        verdict = check(problem, board.plan())
        assert verdict.broken == ()
        assert best.cost_g < verdict.cost_g


# the proof


def test_check_finds_what_is_wrong() -> None:
    """Each kind of breach is found: the proof is no rubber stamp."""
    problem = simple([[100, 10, 50]], [(1, 1, 0, 1), (1, 1, 1, 2)], cores=1)

    def verdict(*rows: tuple[int, int, int, int]) -> tuple[str, ...]:
        return check(problem, Plan(*np.array(rows).T)).broken

    assert verdict((0, 0, 0, 1), (1, 0, 1, 1)) == ()
    assert "capacity" in verdict((0, 0, 1, 1), (1, 0, 1, 1))[0]
    assert "before it may" in verdict((0, 0, 0, 1), (1, 0, 0, 1))[0]
    assert "tasks" in verdict((0, 0, 0, 2), (1, 0, 1, 1))[0]
    assert "not" in verdict((0, 7, 0, 1))[0]
    late = check(problem, Plan(*np.array([(0, 0, 2, 1), (1, 0, 1, 1)]).T))
    assert (late.broken, late.late) == ((), (0,))


@pytest.mark.parametrize("seed", range(4))
def test_falling_back_leaves_nobody_out_whom_run_at_once_has_in_time(seed: int) -> None:
    """A careless dive leaves jobs without room; with the sure plan to fall back on, all are in time."""
    problem = week(300, 2, 96, load=0.99, seed=seed)
    tables, zero = Tables(problem), Multipliers.zero(problem)
    sure = Board(tables, Items.of(tables), zero)
    rules.run_at_once(sure)
    board = Board(tables, Items.of(tables), zero)
    absent = dive(board, zero, Dual(tables, zero).unit_g, 1, 1, 0.01, np.random.default_rng(0))
    assert absent
    improver = Improver(board, np.random.default_rng(0))
    assert improver.fall_back(absent, sure.state()) == []
    verdict = check(problem, board.plan())
    assert verdict.broken == verdict.late == verdict.unplaced == ()
