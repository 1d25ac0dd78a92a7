"""Prices for jobs that come one by one."""

import dataclasses

import numpy as np
import pytest

from slurm_carbon.planning.arrivals import Expected, _displaced, for_arrivals
from slurm_carbon.planning.columns import Multipliers
from slurm_carbon.planning.problem import Problem
from slurm_carbon.planning.sample import alike, week
from tests.unit.problems import simple


def one(problem: Problem) -> Expected:
    """A single future: these very jobs."""
    return Expected(problem, np.zeros(len(problem.jobs), dtype=int))


def weeks(problem: Problem, times: int) -> Expected:
    """Several futures like a week."""
    return Expected(alike(problem, 1, times), np.repeat(np.arange(times), len(problem.jobs)))


def test_prices_are_zero_where_there_is_room_and_rise_with_what_is_taken() -> None:
    """Four times the room makes slots all but free; without anybody to come, nothing has a price."""
    problem = week(300, 2, 72)
    expected = weeks(problem, 3)
    tight = for_arrivals(expected, 0, problem.places.capacity).by
    roomy = for_arrivals(expected, 0, problem.places.capacity * 4).by
    assert tight.price.min() >= 0
    assert tight.price.sum() > 0
    assert roomy.price.sum() < 0.05 * tight.price.sum()
    assert for_arrivals(expected, 72, problem.places.capacity).by.price.sum() == 0


def test_a_place_is_charged_with_what_is_lost_by_giving_way() -> None:
    """A job that cannot wait would have to go from 100 to 300 g/kWh: 200 g for its kWh, smoothed over neighbouring slots."""
    rigid = one(simple([[100.0] * 6, [300.0] * 6], [(2, 1, 3, 3)], cores=2))
    charged = _displaced(rigid, 0, np.full((2, 6), 2.0), Multipliers.zero(rigid.tables.problem))
    assert charged[0] == pytest.approx([0, 0, 50, 100, 50, 0])
    assert charged[1] == pytest.approx(0)


def test_nothing_is_charged_where_a_wide_job_finds_room_beside() -> None:
    """A job displaces nobody from a site that has room for both."""
    expected = one(simple([[100.0] * 6, [300.0] * 6], [(2, 1, 3, 3)], cores=4))
    zero = Multipliers.zero(expected.tables.problem)
    assert _displaced(expected, 0, np.full((2, 6), 4.0), zero).max() == 0
    assert _displaced(expected, 0, np.full((2, 6), 3.0), zero).max() > 0


def test_futures_count_alike() -> None:
    """The same future twice is worth what it is worth once; beside one in which nothing comes, a half."""
    jobs = [(2, 1, 3, 3), (1, 2, 0, 2)]
    once = one(simple([[100.0] * 6, [300.0] * 6], jobs, cores=2))
    twice = Expected(simple([[100.0] * 6, [300.0] * 6], jobs * 2, cores=2), np.array([0, 0, 1, 1]))
    half = Expected(once.tables.problem, np.ones(2, dtype=int))
    free, zero = np.full((2, 6), 2.0), Multipliers.zero(once.tables.problem)
    charged = _displaced(once, 0, free, zero)
    assert _displaced(twice, 0, free, zero) == pytest.approx(charged)
    assert _displaced(half, 0, free, zero) == pytest.approx(charged / 2)


def test_who_can_wait_leaves_room_for_one_who_cannot() -> None:
    """The hour at which a wide job is expected is dearer than the hours around it, at the site where it would go."""
    jobs = [(4, 1, 5, 5), *((1, 1, hour, min(hour + 6, 9)) for hour in range(5))]
    problem = simple([[100.0] * 10, [600.0] * 10], jobs, cores=4)
    expected = one(problem)
    price = for_arrivals(expected, 0, problem.places.capacity).by.price
    assert price[0].argmax() == 5
    assert price[0, 5] > 100
    assert price[1].max() < price[0, 5] / 10


def test_prices_are_made_anew_from_the_last_ones() -> None:
    """What has passed has no price any more, and the same state gives prices of the same size."""
    problem = week(300, 2, 72, load=0.9)
    expected = weeks(problem, 3)
    first = for_arrivals(expected, 0, problem.places.capacity)
    again = for_arrivals(expected, 0, problem.places.capacity, first)
    assert again.by.price.sum() == pytest.approx(first.by.price.sum(), rel=0.2)
    later = for_arrivals(expected, 20, problem.places.capacity, again)
    assert later.displaced[:, :19].sum() == pytest.approx(again.displaced[:, :19].sum() / 2)
    assert later.dual.price[:, :20].sum() == pytest.approx(0, abs=1e-9)


def test_several_resources_are_priced_apart() -> None:
    """Where cores run out and memory does not, only cores have a price."""
    base = simple([[100.0] * 6, [300.0] * 6], [(2, 1, 3, 3)] * 2, cores=2)
    places, profiles = base.places, base.profiles
    both = dataclasses.replace(
        base,
        resources=("cores", "memory"),
        places=dataclasses.replace(
            places, pool_names=("c0", "c1", "m0", "m1"), pool_resource=("cores",) * 2 + ("memory",) * 2,
            pool_members=np.concatenate((places.pool_members, places.pool_members)),
            capacity=np.concatenate((places.capacity, 50 * places.capacity)),
        ),
        profiles=dataclasses.replace(profiles, demand=np.ones((2, 2))),
    )  # fmt: skip
    price = for_arrivals(one(both), 0, both.places.capacity).by.price
    assert price[0, 3] > 0
    assert price[2:].max() == 0


def test_jobs_alike_are_others_of_the_same_kind() -> None:
    """Same places, about the same work in all, other jobs."""
    problem = week(1000, 3, 168)
    other = alike(problem, 1, 8)
    assert other.places is problem.places
    assert len(other.jobs) == 8 * len(problem.jobs)

    def work(of: Problem) -> float:
        return float(of.jobs.scale @ of.profiles.run_h[of.jobs.profile, 0])

    assert work(other) / 8 == pytest.approx(work(problem), rel=0.25)
    assert not np.array_equal(alike(problem, 2).jobs.earliest, alike(problem, 3).jobs.earliest)
