"""Small random problems with every feature, and a reference that solves them by the book."""

import itertools

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from slurm_carbon.planning.problem import NO_END, POWER, Jobs, Places, Plan, Problem, Profiles


def problem(seed: int, plain: bool = False) -> Problem:
    """A problem of up to 7 jobs, 3 locations and 12 slots. Plain: one resource, no windows that differ by place, no data."""
    random = np.random.default_rng(seed)
    sites, slots, kinds, jobs = (int(random.integers(1, n)) for n in (4, 13, 5, 8))
    resources = ("cores",) if plain else ("cores", "gpus")[: int(random.integers(1, 3))]
    horizon = slots + int(random.integers(0, 6))
    members = [np.eye(sites, dtype=bool)[i] for i in range(sites)] * len(resources)
    names = [f"{r}@{i}" for r in resources for i in range(sites)]
    of = [r for r in resources for _ in range(sites)]
    if not plain and random.random() < 0.3:  # partitions that share nodes
        members.append(random.random(sites) < 0.7)
        names.append("shared")
        of.append("cores")
    if not plain and random.random() < 0.3:
        members.append(np.ones(sites, dtype=bool))
        names.append("power")
        of.append(POWER)
    size = {"cores": 8, "gpus": 4, POWER: 0.2}
    capacity = np.array([[size[r] * random.integers(1, 4) / 2] * slots for r in of])
    capacity *= np.where(random.random(capacity.shape) < 0.2, random.random(capacity.shape), 1.0)
    points = 1 if plain or random.random() < 0.6 else 3
    weight = random.random((kinds, points)) + 0.1
    run_h = random.integers(1, 6, (kinds, 1)) * np.ones((1, sites))
    if not plain and random.random() < 0.4:
        run_h = run_h * random.choice([0.5, 0.75, 1.0, 1.3], (kinds, sites))
    data = np.zeros(kinds) if plain else np.where(random.random(kinds) < 0.25, random.integers(1, 2000, kinds), 0.0)
    allowed = random.random((kinds, sites)) < 0.85
    allowed[np.arange(kinds), random.integers(0, sites, kinds)] = True
    demand = random.integers(0, 4, (kinds, len(resources))) * 1.0
    demand[:, 0] = np.maximum(demand[:, 0], 1)
    profiles = Profiles(
        demand, random.random((kinds, sites)) * 0.1 + 0.01, run_h, allowed,
        np.zeros(kinds) if plain else np.where(random.random(kinds) < 0.3, random.random(kinds) * 5, 0.0),
        np.ones((kinds, 1)) if points == 1 else random.random((kinds, points)) * 1.5, weight / weight.sum(1, keepdims=True),
        data, random.integers(0, sites, kinds), np.full(kinds, -1),
    )  # fmt: skip
    profile = random.integers(0, kinds, jobs)
    earliest = random.integers(0, slots, jobs)
    scale = np.where(data[profile] > 0, 1.0, random.integers(1, 4, jobs) / 2)
    finish_by = np.where(random.random(jobs) < (0 if plain else 0.3), earliest + random.integers(1, 10, jobs), NO_END)
    every = Jobs(
        profile, scale, np.ones(jobs, dtype=int) if plain else np.where(random.random(jobs) < 0.2, 3, 1), earliest,
        earliest + random.integers(0, slots, jobs), finish_by, random.integers(0, sites, jobs),
    )  # fmt: skip
    places = Places(
        0, 3600, slots, tuple(f"site{i}" for i in range(sites)), 1 + random.random(sites),
        random.random((sites, horizon)) * 500 * np.where(random.random() < 0.1, 0, 1), random.random(sites) * 500,
        tuple(names), tuple(of), np.array(members), capacity,
    )  # fmt: skip
    return Problem(places, resources, profiles, every)


def emissions_g(of: Problem, kind: int, where: int, start: int) -> float:
    """Expected emissions of one unit of scale, slot by slot, by the book."""
    places, profiles = of.places, of.profiles

    def over(location: int, first: float, last: float) -> float:
        total, horizon = 0.0, places.intensity_g_per_kwh.shape[1]
        for slot in range(int(np.floor(first)), int(np.ceil(last))):
            grams = places.intensity_g_per_kwh[location, slot] if slot < horizon else places.beyond_g_per_kwh[location]
            total += grams * max(0.0, min(last, slot + 1) - max(first, slot)) * places.slot_h
        return total

    total = 0.0
    for share, weight in zip(profiles.run_share[kind], profiles.run_weight[kind], strict=True):
        end = start + share * profiles.run_h[kind, where] / places.slot_h
        total += weight * over(where, start, end) * profiles.power_kw[kind, where] * places.pue[where]
    source = int(profiles.data_at[kind])
    if profiles.data_gb[kind] > 0 and source != where:
        hours = profiles.data_gb[kind] / places.gb_per_h
        mean = sum(over(x, start - hours / places.slot_h, start) for x in (where, source)) / hours / 2
        total += profiles.data_gb[kind] * places.kwh_per_gb * mean
    return total


def columns(of: Problem) -> list[tuple[int, int, int, float]]:
    """Every (job, location, start) that windows allow, with the cost of one task."""
    places, profiles, jobs = of.places, of.profiles, of.jobs
    out = []
    for job, where, start in itertools.product(range(len(jobs)), range(len(places.locations)), range(places.slots)):
        kind = jobs.profile[job]
        away = profiles.data_gb[kind] > 0 and profiles.data_at[kind] != where
        lag = int(np.ceil(profiles.data_gb[kind] / places.gb_per_h / places.slot_h - 1e-9)) if away else 0
        run = int(np.ceil(profiles.run_h[kind, where] / places.slot_h - 1e-9))
        if not profiles.allowed[kind, where] or not jobs.earliest[job] + lag <= start <= jobs.latest[job]:
            continue
        if start + run > jobs.finish_by[job]:
            continue
        delay = profiles.delay_g_per_h[kind] * (start - jobs.earliest[job]) * places.slot_h
        out.append((job, where, start, (emissions_g(of, kind, where, start) + delay) * jobs.scale[job]))
    return out


def optimum(of: Problem, integral: bool = True) -> tuple[float, Plan] | None:
    """The best plan that keeps every window, by the textbook model; None if there is none."""
    places, profiles, jobs = of.places, of.profiles, of.jobs
    every = columns(of)
    if not len(jobs):
        return 0.0, Plan(*(np.zeros(0, dtype=int) for _ in range(4)))
    if len({job for job, *_ in every}) < len(jobs):
        return None
    owner = np.array([job for job, *_ in every])
    one = sparse.csr_matrix((np.ones(len(every)), (owner, np.arange(len(every)))))
    rows = sparse.lil_matrix((len(places.pool_names) * places.slots, len(every)))
    for column, (job, where, start, _) in enumerate(every):
        kind = jobs.profile[job]
        run = int(np.ceil(profiles.run_h[kind, where] / places.slot_h - 1e-9))
        for pool, resource in enumerate(places.pool_resource):
            if not places.pool_members[pool, where]:
                continue
            if resource == POWER:
                each = profiles.power_kw[kind, where] * places.pue[where]
            else:
                each = profiles.demand[kind, of.resources.index(resource)]
            for slot in range(start, min(start + run, places.slots)):
                rows[pool * places.slots + slot, column] += each * jobs.scale[job]
    cost = np.array([c for *_, c in every])
    scale = max(float(cost.max()), 1e-12)
    result = milp(
        cost / scale, integrality=np.full(len(every), int(integral)), bounds=Bounds(0, jobs.tasks[owner]),
        constraints=[
            LinearConstraint(one, jobs.tasks, jobs.tasks), LinearConstraint(rows.tocsr(), -np.inf, places.capacity.ravel()),
        ],
        options={"mip_rel_gap": 1e-9},
    )  # fmt: skip
    if not result.success:
        return None
    x = np.round(result.x).astype(int) if integral else result.x
    some = np.flatnonzero(x > 0)
    job, where, start, _ = zip(*[every[i] for i in some], strict=True)
    return float(result.fun * scale), Plan(np.array(job), np.array(where), np.array(start), x[some])
