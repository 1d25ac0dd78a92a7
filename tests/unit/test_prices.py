"""Congestion prices, their smoothed dual, and what it looks at."""

import dataclasses

import numpy as np
import pytest

from slurm_carbon.planning.columns import Multipliers, Tables
from slurm_carbon.planning.prices import Dual, _Near, per_hour, sampled, solve
from slurm_carbon.planning.sample import week
from tests.unit.problems import planned, simple


def test_prices_are_zero_where_there_is_room() -> None:
    """Prices are never negative, and nothing is charged for what nobody competes for."""
    free = per_hour(problem := simple([[100, 10, 50]], [(1, 1, 0, 2)], cores=9), planned(problem).by)
    assert free["site0"]["cores"].tolist() == [0.0, 0.0, 0.0]
    tight = per_hour(problem := simple([[100, 10, 50]], [(1, 1, 0, 2)] * 2, cores=1), planned(problem).by)
    assert tight["site0"]["cores"].min() >= 0
    assert tight["site0"]["cores"][1] > 0 == tight["site0"]["cores"][0]


@pytest.mark.parametrize("evaluations", [5, 40])
def test_looking_at_few_columns_loses_nothing(evaluations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound that is climbed to on the columns near the prices is that of a climb on all of them."""
    problem = week(400, 5, 168, seed=4)
    bounds = []
    for few in (0, 1 << 40):
        monkeypatch.setattr("slurm_carbon.planning.prices.FEW", few)
        tables = Tables(problem)
        bounds.append(solve(Dual(tables, Multipliers.zero(problem)), Multipliers.zero(problem), evaluations)[1])
    assert bounds[0] == pytest.approx(bounds[1], rel=2e-3 if evaluations > 5 else 2e-2)


def test_the_slope_of_the_smoothed_dual_is_what_it_says() -> None:
    """The gradient by price and by budget agrees with differences."""
    problem = week(40, 2, 24, seed=1)
    account = np.where(np.arange(len(problem.profiles)) % 2, 0, -1)
    problem = dataclasses.replace(
        problem, profiles=dataclasses.replace(problem.profiles, account=account), accounts=("a",), budget_g=np.array([100.0])
    )
    random = np.random.default_rng(0)
    tables = Tables(problem)
    by = Multipliers(random.random((2, 24)), np.array([0.3]), np.zeros(0))
    near = _Near(Dual(tables, by), [by], 0.1)
    _, by_price, by_budget, _ = near.smooth(by)
    step = 1e-5

    def value(price: np.ndarray, budget: float) -> float:
        return near.smooth(Multipliers(price, np.array([budget]), by.scenario))[0]

    for pool, slot in ((0, 3), (1, 10), (0, 23)):
        there = by.price.copy()
        there[pool, slot] += step
        assert (value(there, 0.3) - value(by.price, 0.3)) / step == pytest.approx(by_price[pool, slot], rel=1e-3, abs=1e-3)
    assert (value(by.price, 0.3 + step) - value(by.price, 0.3)) / step == pytest.approx(by_budget[0], rel=1e-3, abs=1e-2)


def test_a_sample_of_classes_stands_for_all() -> None:
    """The sampled weights keep the sum, within what chance allows, and the heavy classes."""
    tables = Tables(week(3000, 3, 168))
    weights = tables.weights()
    fewer = sampled(tables, weights, 5000, np.random.default_rng(0))
    assert (fewer > 0).sum() < 0.5 * (weights > 0).sum()
    assert fewer.sum() == pytest.approx(weights.sum(), rel=0.1)
