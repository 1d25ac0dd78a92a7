"""Problems to measure and test with: weeks as sites have them, from a seed.

Jobs arrive over the first 70 % of the horizon; run times are lognormal (median 3 h, 30 min to 48 h), widths powers of two
with a heavy tail, power 3, 6, 10 or 15 W a core. A quarter may not be delayed, the others by up to 48 h. Every job could
run at its home, first come first served with backfill, and may wait as long as it would there: a plan exists. `load` is
the work over the capacity while jobs arrive. The means of the sites go from 25 to 690 g/kWh in equal ratios, with a day, a
week and noise, times a PUE of 1.08 to 1.5.
"""

from typing import Any, NamedTuple

import numpy as np

from slurm_carbon.planning.problem import NO_END, Floats, Ints, Jobs, Places, Problem, Profiles

WATTS_PER_CORE = (3.0, 6.0, 10.0, 15.0)


def week(jobs: int, sites: int, slots: int, slot_s: int = 3600, load: float = 0.9, seed: int = 0) -> Problem:
    """A problem of that many jobs."""
    random = np.random.default_rng(seed)
    slot_h = slot_s / 3600
    intensity, pue = _grids(random, sites, slots + int(48 / slot_h) + 1, slot_h)
    drawn = _draw(random, jobs, sites, slots, slot_h)
    width, cores = _widths(drawn.uniform, drawn.run, sites * 0.7 * slots, load)
    found = None
    while found is None:
        found = _first_come(drawn.home, drawn.earliest, drawn.run, width, sites, slots, cores)
        cores = cores if found else float(np.ceil(cores * 1.03))
    names = tuple(f"site{i}" for i in range(sites))
    places = Places(
        0, slot_s, slots, names, pue, intensity, intensity.mean(1), names, ("cores",) * sites,
        np.eye(sites, dtype=bool), np.full((sites, slots), cores),
    )  # fmt: skip
    return _problem(places, drawn, width, *found)


def alike(problem: Problem, seed: int, times: int = 1) -> Problem:
    """Other jobs than those of a `week`, from the same distribution, for the same places: what is expected of such a week.

    They are those of several weeks, one week after the other, as many jobs in each.
    """
    random = np.random.default_rng(seed)
    places, jobs = problem.places, problem.jobs
    sites, slots = len(places.locations), places.slots
    weeks: list[tuple[Any, ...]] = []
    while len(weeks) < times:
        drawn = _draw(random, len(jobs), sites, slots, places.slot_h)
        width = _width(drawn.uniform, round(np.log2(jobs.scale.max())))
        found = _first_come(drawn.home, drawn.earliest, drawn.run, width, sites, slots, float(places.capacity.max()))
        if found is not None:  # a week that would not even fit first come, first served, is none of those
            weeks.append((*drawn, width, *found))
    together = [np.concatenate(column) for column in zip(*weeks, strict=True)]
    return _problem(places, _Drawn(*together[:-3]), *together[-3:])


class _Drawn(NamedTuple):
    """What is drawn of J jobs, each [J]; times in slots."""

    earliest: Ints
    run: Ints
    uniform: Floats  # between 0 and 1: makes the width
    kind: Ints  # index of WATTS_PER_CORE
    home: Ints
    margin: Ints


def _draw(random: np.random.Generator, jobs: int, sites: int, slots: int, slot_h: float) -> _Drawn:
    earliest = np.sort(random.integers(0, max(1, int(0.7 * slots)), jobs))
    run_h = np.exp(random.normal(np.log(3), 1.1, jobs)).clip(0.5, min(48.0, 0.28 * slots * slot_h))
    run = np.ceil(run_h / slot_h - 1e-9).astype(np.int64)
    uniform = random.random(jobs)
    kind = random.integers(0, len(WATTS_PER_CORE), jobs)
    home = random.integers(0, sites, jobs)
    margin = np.where(random.random(jobs) < 0.25, 0, random.uniform(0, 48, jobs) / slot_h).astype(np.int64)
    return _Drawn(earliest, run, uniform, kind, home, margin)


def _problem(places: Places, drawn: _Drawn, width: Floats, place: Ints, start: Ints) -> Problem:
    """Jobs of these cores (`width`), with a profile for each power and run time.

    They may wait as long as they would first come, first served: until `start`, at `place`, which is their home.
    """
    sites, slots, jobs = len(places.locations), places.slots, len(width)
    latest = np.maximum(start, np.minimum(drawn.earliest + drawn.margin, slots - drawn.run))
    key, profile = np.unique(drawn.kind * (slots + 1) + drawn.run, return_inverse=True)
    kinds = len(key)
    per_core_kw = np.array(WATTS_PER_CORE)[key // (slots + 1)] / 1000
    return Problem(
        places,
        ("cores",),
        Profiles(
            np.ones((kinds, 1)), np.repeat(per_core_kw[:, None], sites, 1),
            np.repeat((key % (slots + 1) * places.slot_h)[:, None], sites, 1), np.ones((kinds, sites), dtype=bool),
            np.zeros(kinds),
            np.ones((kinds, 1)), np.ones((kinds, 1)), np.zeros(kinds), np.full(kinds, -1), np.full(kinds, -1),
        ),
        Jobs(profile, width, np.ones(jobs, dtype=np.int64), drawn.earliest, latest, np.full(jobs, NO_END), place),
    )  # fmt: skip


def _grids(random: np.random.Generator, sites: int, slots: int, slot_h: float) -> tuple[Floats, Floats]:
    """[L, H] g/kWh, and [L] PUE."""
    mean = random.permutation(np.geomspace(25, 690, sites)) if sites > 1 else np.full(1, 130.0)
    hour = np.arange(slots) * slot_h
    keep = 0.95**slot_h
    noise = np.zeros((sites, slots))
    noise[:, 0] = random.normal(0, 0.1, sites)
    for slot in range(1, slots):
        noise[:, slot] = keep * noise[:, slot - 1] + random.normal(0, 0.1 * np.sqrt(1 - keep**2), sites)
    day = random.uniform(0.05, 0.35, (sites, 1)) * np.cos(2 * np.pi * (hour - random.uniform(0, 24, (sites, 1))) / 24)
    weekend = random.uniform(0, 0.15, (sites, 1)) * (hour // 24 % 7 >= 5)
    return mean[:, None] * np.clip(1 + day - weekend + noise, 0.1, None), random.uniform(1.08, 1.5, sites)


def _widths(uniform: Floats, run: Ints, capacity_slots: float, load: float) -> tuple[Floats, float]:
    """Cores of each job, P(2^i) ~ 2^(-0.75 i), none above half a site at load 0.9; and the cores of a site at this load."""
    for top in range(24, -1, -1):
        width = _width(uniform, top)
        work = float(width @ run)
        if top == 0 or 2.0**top <= work / (capacity_slots * 0.9) / 2:
            break
    return width, float(np.ceil(max(work / (capacity_slots * load), width.max())))


def _width(uniform: Floats, top: int) -> Floats:
    chance = 2.0 ** (-0.75 * np.arange(top + 1))
    return np.asarray(2.0 ** np.searchsorted(np.cumsum(chance / chance.sum()), uniform).clip(0, top))


def _first_come(
    home: Ints, earliest: Ints, run: Ints, width: Floats, sites: int, slots: int, cores: float
) -> tuple[Ints, Ints] | None:
    """Location and start of each job in order of arrival, each as early as it fits; None if one does not."""
    free = np.full((sites, slots), cores)
    place, start = home.copy(), earliest.copy()

    def fit(site: int, job: int) -> int:
        room = free[site, earliest[job] :]
        if room[: run[job]].min() >= width[job] and len(room) >= run[job]:
            return int(earliest[job])
        edges = np.concatenate(([-1], np.flatnonzero(room < width[job]), [len(room)]))
        gaps = np.flatnonzero(np.diff(edges) > run[job])
        return int(earliest[job] + edges[gaps[0]] + 1) if len(gaps) else slots

    for job in range(len(home)):
        at = fit(home[job], job)
        if at == slots:
            at, place[job] = min((fit(site, job), site) for site in range(sites))
            if at == slots:
                return None
        start[job] = at
        free[place[job], at : at + run[job]] -= width[job]
    return place, start
