"""The joint placement of many jobs over locations and time: what is asked, and a proof that an answer keeps to it.

Time is cut into `slots` of equal length; jobs start at the beginning of one. With x[j,l,t] = 1 where job j starts at
location l in slot t, and W[j,l] the slots in which it may,

    minimise    sum x[j,l,t] c[j,l,t]
    subject to  sum over l and t in W[j,l] of x[j,l,t] = 1                                             for each job j
                sum of u[j,q] x[j,l,t] over l in q, t <= s < t + d[j,l]  <=  capacity[q,s]      for each pool q, slot s
                sum over j of account a of e[j,l,t] x[j,l,t]  <=  budget[a]                        for each account a

    c[j,l,t] = e[j,l,t] + delay weight x (t - earliest)
    e[j,l,t] = PUE x power x sum over the possible run times b of P(b) x integral of the intensity over [t, t + b]
             + GB x kWh/GB x mean intensity of both ends over the transfer before t

This is the time-indexed formulation of scheduling (Sousa and Wolsey 1992, doi:10.1007/BF01585718; van den Akker, Hurkens
and Savelsbergh 2000, doi:10.1287/ijoc.12.2.111.11896). A pool is what several jobs share: the cores of a partition, the
GPUs of several, the power of a site. With scenarios of the forecast, the objective is the mean plus `risk_weight` x the
conditional value at risk (Rockafellar and Uryasev 2000, doi:10.21314/JOR.2000.038) of the emissions.

An array of k equal tasks is one job of k tasks. Jobs that differ only in size and window share a profile: one row of
numbers for a unit of `scale`, so that a million jobs are a few hundred profiles and five numbers each.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slurm_carbon.errors import PlanError

Floats = NDArray[Any]  # of float64
Ints = NDArray[Any]  # of int64
Bools = NDArray[Any]  # of bool

POWER = "power_kw"  # the resource of a pool that limits electric power, PUE included
NO_END = 1 << 40  # finish_by of a job that has none, in slots
FITS = 1e-9  # relative: how far over its capacity rounding errors may put a pool


@dataclass(frozen=True, eq=False)
class Places:
    """Locations (L), their electricity on the grid of slots, and what is free there (Q pools).

    The forecast has H slots, at least as many as jobs may start in; beyond them `beyond_g_per_kwh` holds.
    """

    start_epoch_s: int
    slot_s: int
    slots: int  # T: jobs start in one of them
    locations: tuple[str, ...]
    pue: Floats  # [L]
    intensity_g_per_kwh: Floats  # [L, H]
    beyond_g_per_kwh: Floats  # [L]
    pool_names: tuple[str, ...]
    pool_resource: tuple[str, ...]
    pool_members: Bools  # [Q, L]: which locations draw on it
    capacity: Floats  # [Q, T]: what is free, in units of its resource
    scenarios_g_per_kwh: Floats | None = None  # [S, L, H], equally likely
    kwh_per_gb: float = 0.06  # Aslan et al. 2018, doi:10.1111/jiec.12630, for 2015; it has fallen since
    gb_per_h: float = 450.0  # 1 Gbit/s

    @property
    def slot_h(self) -> float:
        """Length of a slot in hours."""
        return self.slot_s / 3600


@dataclass(frozen=True, eq=False)
class Profiles:
    """What jobs of one kind (K of them) take at each location, per unit of their scale, over R resources."""

    demand: Floats  # [K, R]
    power_kw: Floats  # [K, L] at the plug of the nodes, before PUE
    run_h: Floats  # [K, L] that capacity is kept for
    allowed: Bools  # [K, L]
    delay_g_per_h: Floats  # [K]
    run_share: Floats  # [K, B] possible run times, as shares of run_h,
    run_weight: Floats  # [K, B] and how likely each is; a row adds up to 1
    data_gb: Floats  # [K] to be moved when the job runs elsewhere; such a profile is for scale 1
    data_at: Ints  # [K] location where they are
    account: Ints  # [K] index of a budget, or -1

    def __len__(self) -> int:
        return len(self.demand)


@dataclass(frozen=True, eq=False)
class Jobs:
    """J jobs. Slots count from the start of the plan; `latest` is the last slot in which the owner lets it start."""

    profile: Ints  # [J]
    scale: Floats  # [J]
    tasks: Ints  # [J]
    earliest: Ints  # [J]
    latest: Ints  # [J]
    finish_by: Ints  # [J] slot before which its run has to be over, NO_END if there is none
    home: Ints  # [J] location where Slurm alone would run it: what savings are counted against
    names: tuple[str, ...] = ()  # empty, or one a job

    def __len__(self) -> int:
        return len(self.profile)

    def name(self, job: int) -> str:
        """How to call a job in a message."""
        return self.names[job] if self.names else f"job {job}"


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be planned."""

    places: Places
    resources: tuple[str, ...]  # [R], of which pools and demands speak
    profiles: Profiles
    jobs: Jobs
    accounts: tuple[str, ...] = ()
    budget_g: Floats = field(default_factory=lambda: np.zeros(0))  # [A]
    risk_weight: float = 0.0
    risk_level: float = 0.9  # the CVaR is the mean of the worst 10 %

    def __post_init__(self) -> None:
        """Raise PlanError for numbers that no plan can be made from."""
        places, profiles, jobs = self.places, self.profiles, self.jobs
        count, kinds, pools = len(places.locations), len(profiles), len(places.pool_names)
        horizon = places.intensity_g_per_kwh.shape[-1]
        shapes: list[tuple[str, Any, tuple[int, ...]]] = [
            ("pue", places.pue, (count,)),
            ("intensity_g_per_kwh", places.intensity_g_per_kwh, (count, horizon)),
            ("beyond_g_per_kwh", places.beyond_g_per_kwh, (count,)),
            ("pool_members", places.pool_members, (pools, count)),
            ("capacity", places.capacity, (pools, places.slots)),
            ("demand", profiles.demand, (kinds, len(self.resources))),
            ("power_kw", profiles.power_kw, (kinds, count)),
            ("run_h", profiles.run_h, (kinds, count)),
            ("allowed", profiles.allowed, (kinds, count)),
            ("run_weight", profiles.run_weight, profiles.run_share.shape),
            ("budget_g", self.budget_g, (len(self.accounts),)),
        ]
        if places.scenarios_g_per_kwh is not None:
            sample = places.scenarios_g_per_kwh
            shapes.append(("scenarios_g_per_kwh", sample, (len(sample), count, horizon)))
        for name, array, shape in shapes:
            if array.shape != shape:
                raise PlanError(f"{name} has the shape {array.shape}, not {shape}")
            if not np.all(np.isfinite(array)) or np.any(array < 0):
                raise PlanError(f"{name}: every number has to be finite and not negative")
        for part in (profiles, jobs):
            for item in fields(part):
                array = getattr(part, item.name)
                if isinstance(array, np.ndarray) and (len(array) != len(part) or not np.all(np.isfinite(array))):
                    raise PlanError(f"{item.name}: {len(part)} finite numbers are needed")
        if horizon < places.slots or places.slots < 1 or places.slot_s < 1:
            raise PlanError(f"{places.slots} slots of {places.slot_s} s need a forecast of as many, not of {horizon}")
        if len(profiles) and np.any(profiles.run_h[profiles.allowed] <= 0):
            raise PlanError("run_h: a run has to take some time")
        if np.any(jobs.scale <= 0) or np.any(jobs.tasks < 1) or np.any((jobs.profile < 0) | (jobs.profile >= kinds)):
            raise PlanError("jobs need a scale above 0, at least one task and a known profile")
        if np.any((jobs.home < 0) | (jobs.home >= count)):
            raise PlanError("home: every job needs a location of its own to be compared with")
        if np.any((profiles.data_gb > 0)[jobs.profile] & (jobs.scale != 1)):
            raise PlanError("a job that has data to move needs a profile of its own, with scale 1")
        if unknown := {*places.pool_resource} - {*self.resources, POWER}:
            raise PlanError(f"pools of unknown resources: {', '.join(sorted(unknown))}")

    # what follows from the numbers, shared by bound and plan

    def run_slots(self) -> Ints:
        """[K, L] slots that a run takes capacity in: a slot that it only begins counts whole."""
        return np.ceil(self.profiles.run_h / self.places.slot_h - 1e-9).astype(np.int64).clip(1)

    def lag_slots(self) -> Ints:
        """[K, L] slots that moving a job's data takes, before it can start."""
        profiles = self.profiles
        away = np.arange(len(self.places.locations)) != profiles.data_at[:, None]
        hours = np.where(away, profiles.data_gb[:, None] / self.places.gb_per_h, 0.0)
        return np.ceil(hours / self.places.slot_h - 1e-9).astype(np.int64)

    def use(self) -> Floats:
        """[K, L, Q] what a unit of scale takes of each pool while it runs at a location."""
        places, profiles = self.places, self.profiles
        columns = []
        for pool, resource in enumerate(places.pool_resource):
            if resource == POWER:
                amount = profiles.power_kw * places.pue
            else:
                amount = np.repeat(profiles.demand[:, self.resources.index(resource), None], len(places.locations), 1)
            columns.append(np.where(places.pool_members[pool], amount, 0.0))
        if not columns:
            return np.zeros((len(profiles), len(places.locations), 0))
        return np.stack(columns, axis=-1)


@dataclass(frozen=True, eq=False)
class Plan:
    """Where and when: P placements, several for a job whose tasks are spread."""

    job: Ints  # [P]
    location: Ints  # [P]
    start: Ints  # [P] slot; from `slots` on, where nothing is known to be free or taken: beyond the plan
    tasks: Ints  # [P]

    def __len__(self) -> int:
        return len(self.job)


# the proof: it shares no code with the planner, so that neither hides the other's mistake


@dataclass(frozen=True)
class Verdict:
    """What a plan comes to, counted anew. `broken` is empty for a plan that keeps to the problem."""

    cost_g: float  # what was minimised: emissions + weight of the delays + risk
    emissions_g: float  # of runs and transfers, mean forecast
    transfer_g: float  # the transfers' part
    delay_g: float
    risk_g: float
    late: tuple[int, ...]  # jobs that start after their window, or have none at the place
    beyond: tuple[int, ...]  # those of them that start where the plan knows nothing any more
    unplaced: tuple[int, ...]
    overspent_g: dict[str, float]  # by account
    broken: tuple[str, ...]


def check(problem: Problem, plan: Plan) -> Verdict:
    """Count a plan anew: whether it keeps to places, times and capacities, and what it emits.

    A late job or one without a place is no breach: where there is no room, that is the honest answer.
    """
    places, profiles, jobs = problem.places, problem.profiles, problem.jobs
    broken: list[str] = []
    inside = (plan.job >= 0) & (plan.job < len(jobs)) & (plan.location >= 0) & (plan.location < len(places.locations))
    if not inside.all():
        return Verdict(0, 0, 0, 0, 0, (), (), (), {}, ("the plan names jobs or locations that there are not",))
    job, where, start = plan.job, plan.location, plan.start
    kind, amount = jobs.profile[job], jobs.scale[job] * plan.tasks
    placed = np.bincount(job, plan.tasks, len(jobs)).astype(np.int64)
    if np.any(plan.tasks < 1) or np.any((placed != jobs.tasks) & (placed != 0)):
        broken.append("a job has more or fewer tasks in the plan than it has")
    if not profiles.allowed[kind, where].all():
        broken.append(f"{jobs.name(int(job[~profiles.allowed[kind, where]][0]))} is where it may not run")

    run_h, slot_h = profiles.run_h[kind, where], places.slot_h
    moved = (profiles.data_gb[kind] > 0) & (profiles.data_at[kind] != where)
    transfer_h = np.where(moved, profiles.data_gb[kind] / places.gb_per_h, 0.0)
    if np.any(start * slot_h < jobs.earliest[job] * slot_h + transfer_h - 1e-6):
        broken.append("a job starts before it may, or before its data has arrived")
    late = start > jobs.latest[job]
    late |= (start * slot_h + run_h > jobs.finish_by[job] * slot_h + 1e-6) | (start >= places.slots)
    beyond = start >= places.slots

    end = np.minimum(np.ceil((start * slot_h + run_h) / slot_h - 1e-6).astype(np.int64), places.slots)
    for pool, (name, resource) in enumerate(zip(places.pool_names, places.pool_resource, strict=True)):
        taken = np.zeros(places.slots + 1)
        here = places.pool_members[pool][where] & ~beyond
        if resource == POWER:
            each = profiles.power_kw[kind, where] * places.pue[where]
        else:
            each = profiles.demand[kind, problem.resources.index(resource)]
        np.add.at(taken, start[here], (each * amount)[here])
        np.subtract.at(taken, np.maximum(end[here], start[here] + 1), (each * amount)[here])
        over = np.cumsum(taken)[:-1] - places.capacity[pool]
        if over.size and over.max() > 1e-6 * max(1.0, float(np.abs(taken).max())):
            slot = int(over.argmax())
            broken.append(f"pool {name} is over its capacity by {over[slot]:g} {resource} in slot {slot}")

    def emitted(intensity: Floats) -> tuple[Floats, Floats]:
        """[P] g of the runs, and of the transfers, under one forecast."""
        horizon = intensity.shape[1]
        edges_h = np.arange(horizon + 1) * slot_h

        def integral(location: int, hours: Floats) -> Floats:
            sums = np.concatenate(([0.0], np.cumsum(intensity[location]) * slot_h))
            past = np.maximum(hours - edges_h[-1], 0.0) * places.beyond_g_per_kwh[location]
            return np.interp(hours, edges_h, sums) + past

        runs, transfers = np.zeros(len(job)), np.zeros(len(job))
        for location in range(len(places.locations)):
            here = np.flatnonzero(where == location)
            from_h = start[here] * slot_h
            for share, weight in zip(profiles.run_share[kind[here]].T, profiles.run_weight[kind[here]].T, strict=True):
                until_h = from_h + share * run_h[here]
                runs[here] += weight * (integral(location, until_h) - integral(location, from_h))
            runs[here] *= profiles.power_kw[kind[here], location] * places.pue[location] * amount[here]
            go = here[moved[here]]
            for source in np.unique(profiles.data_at[kind[go]]):
                some = go[profiles.data_at[kind[go]] == source]
                to_h = start[some] * slot_h
                both = np.zeros(len(some))
                for end in (int(source), location):
                    both += integral(end, to_h) - integral(end, to_h - transfer_h[some])
                transfers[some] += profiles.data_gb[kind[some]] * places.kwh_per_gb * both / 2 / transfer_h[some]
        return runs, transfers * plan.tasks

    runs, transfers = emitted(places.intensity_g_per_kwh)
    waits_h = (start - jobs.earliest[job]) * slot_h
    delay_g = float(np.sum(profiles.delay_g_per_h[kind] * amount * waits_h))
    risk_g = 0.0
    if places.scenarios_g_per_kwh is not None and problem.risk_weight > 0:
        outcomes = np.array([sum(map(np.sum, emitted(sample))) for sample in places.scenarios_g_per_kwh])
        risk_g = problem.risk_weight * cvar(outcomes, problem.risk_level)
    overspent = {}
    for account, budget in enumerate(problem.budget_g):
        spent = float(np.sum((runs + transfers)[profiles.account[kind] == account]))
        if spent > budget * (1 + 1e-9):
            overspent[problem.accounts[account]] = spent - float(budget)
    emissions_g = float(np.sum(runs) + np.sum(transfers))
    return Verdict(
        emissions_g + delay_g + risk_g, emissions_g, float(np.sum(transfers)), delay_g, risk_g,
        tuple(np.unique(job[late]).tolist()), tuple(np.unique(job[beyond]).tolist()),
        tuple(np.flatnonzero(placed == 0).tolist()), overspent, tuple(broken),
    )  # fmt: skip


def cvar(outcomes: Floats, level: float) -> float:
    """Mean of the worst 1 - level share of equally likely outcomes, the last of them counted in part."""
    worst = np.sort(outcomes)[::-1]
    room = len(worst) * (1 - level)
    share = np.clip(room - np.arange(len(worst)), 0.0, 1.0)
    return float(worst @ share / share.sum()) if share.sum() > 0 else float(worst[0])
