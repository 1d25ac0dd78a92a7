"""Laws that every plan keeps, on thousands of small problems."""

import os

import pytest

from slurm_carbon.planning.planner import Planner
from slurm_carbon.planning.problem import check
from tests.planning import tiny

NUMBER = int(os.environ.get("SLURM_CARBON_PROBLEMS", "2000"))
PARTS = 20


@pytest.mark.parametrize("part", range(PARTS))
def test_bound_optimum_plan(part: int) -> None:
    """Bound <= exact optimum <= plan, every plan is feasible, and none is late where none has to be."""
    optimal = 0
    for seed in range(part * NUMBER // PARTS, (part + 1) * NUMBER // PARTS):
        problem = tiny.problem(seed)
        outcome = Planner(problem, exact=seed % 3 == 0).run()
        verdict = outcome.verdict
        assert not verdict.broken, (seed, verdict.broken)
        assert sum(outcome.plan.tasks) + sum(problem.jobs.tasks[list(verdict.unplaced)]) == sum(problem.jobs.tasks), seed
        best = tiny.optimum(problem)
        if best is None:
            assert verdict.late or verdict.unplaced, seed
            continue
        assert verdict.late + verdict.unplaced == (), seed
        value, plan = best
        recount = check(problem, plan)
        assert recount.broken + recount.late == (), seed
        tolerance = 1e-6 * max(value, 1e-6)
        assert recount.cost_g == pytest.approx(value, rel=1e-6, abs=1e-9), seed
        assert outcome.bound_g <= value + tolerance, seed
        assert value <= verdict.cost_g + tolerance, seed
        optimal += verdict.cost_g <= value + tolerance
    assert optimal > 0


@pytest.mark.parametrize("seed", range(0, 400, 20))
def test_bound_is_that_of_the_textbook_relaxation(seed: int) -> None:
    """The certified bound is the optimum of the textbook linear program."""
    for each in range(seed, seed + 20):
        problem = tiny.problem(each)
        found = tiny.optimum(problem, integral=False)
        if found is None or found[0] < 1e-3:
            continue
        planner = Planner(problem)
        planner._price()
        assert planner.bound_g == pytest.approx(found[0], rel=1e-3), each
