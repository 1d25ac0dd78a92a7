"""Problems of the planner that are easy to see through."""

import numpy as np

from slurm_carbon.planning.planner import Outcome, Planner
from slurm_carbon.planning.problem import NO_END, Jobs, Places, Problem, Profiles


def simple(
    grams: list[list[float]], jobs: list[tuple[float, int, int, int]], cores: float = 1e9, slots: int | None = None,
    **places: object,
) -> Problem:  # fmt: skip
    """A problem of jobs (cores, run slots, earliest, latest) of 1 kW a core, on locations with these intensities."""
    intensity = np.array(grams, dtype=float)
    count, horizon = intensity.shape
    slots = slots or horizon
    names = tuple(f"site{i}" for i in range(count))
    rows = np.array(jobs, dtype=float).reshape(len(jobs), 4)
    every = len(jobs)
    return Problem(
        Places(
            0, 3600, slots, names, np.ones(count), intensity, intensity.mean(1), names, ("cores",) * count,
            np.eye(count, dtype=bool), np.full((count, slots), float(cores)), **places,  # type: ignore[arg-type]
        ),
        ("cores",),
        Profiles(
            np.ones((every, 1)), np.ones((every, count)), np.repeat(rows[:, 1:2], count, 1),
            np.ones((every, count), dtype=bool), np.zeros(every),
            np.ones((every, 1)), np.ones((every, 1)), np.zeros(every), np.zeros(every, dtype=int),
            np.full(every, -1),
        ),
        Jobs(
            np.arange(every), rows[:, 0], np.ones(every, dtype=int), rows[:, 2].astype(int), rows[:, 3].astype(int),
            np.full(every, NO_END), np.zeros(every, dtype=int),
        ),
    )  # fmt: skip


def planned(problem: Problem, **options: object) -> Outcome:
    """The plan of a fixed amount of work, checked."""
    outcome = Planner(problem, **options).run()  # type: ignore[arg-type]
    assert outcome.verdict.broken == ()
    return outcome
