"""One submission, decided: the estimate, the rules and the exact placement put together.

This is what csbatch runs, what the hook's Lua does in the same order, and what the simulator evaluates.
"""

from slurm_carbon.errors import UsageError
from slurm_carbon.estimate.power import power_w
from slurm_carbon.model import Alternative, Decision, Estimate, Job, Location, Owner, Partition, Placement, Window, Wishes
from slurm_carbon.outlook import Outlook
from slurm_carbon.place import best_start, still_due
from slurm_carbon.policy import choose, in_waves, run_time, why_left_alone, why_not_there, window


def decide(
    job: Job, owner: Owner, wishes: Wishes, outlook: Outlook, home_cluster: str, now_epoch_s: int,
    ruled_out: dict[str, str] | None = None,
) -> Decision:  # fmt: skip
    """What to do with a job whose sbatch belongs to `home_cluster`.

    `ruled_out` has the names of locations that have turned out not to take the job, and why.
    Raises UsageError for a wish that names no location.
    """
    if problem := unknown_location(wishes, outlook):
        raise UsageError(f"locations: {problem}")
    home, problem = home_of(job, outlook, home_cluster)
    if home is None:
        return _leave(problem)
    if reason := why_left_alone(job, owner, outlook.policy, home.name):
        return _leave(reason)
    if wishes.off:
        return _leave("--carbon-off was given")
    timed = run_time(job, home)
    if timed is None:
        return _leave(f"no --time was given and {home.cluster}/{home.name} has no default")
    run_time_s, source = timed

    def may_start(partition: Partition) -> Window:
        return window(wishes, outlook.policy, now_epoch_s, run_time_s * in_waves(job, partition).array_waves)

    may = may_start(home)

    home_location = outlook.location(home.cluster, home.name)
    if home_location is None:
        return _leave(f"{home.cluster}/{home.name}, where it would run, is not a configured location")
    nobody = Wishes()
    if problem := why_not_there(
        job, owner, nobody, outlook.policy, home_location, home, outlook.clusters[home.cluster], home,
        outlook.clusters[home.cluster],
    ):  # fmt: skip
        return _leave(f"{home_location.name}, where sbatch sends it: {problem}")

    def estimate(location: Location, partition: Partition) -> Estimate:
        there = in_waves(job, partition)
        busy = job.array_tasks * job.array_waves / (there.array_tasks * there.array_waves)  # the last round may be half empty
        return Estimate(run_time_s * there.array_waves, power_w(there, location, partition, home) * busy, source)

    def placed(location: Location, partition: Partition, *latest_epoch_s: int) -> list[Placement]:
        """The best start by each of these times."""
        expected = estimate(location, partition)
        price_g_per_h = price(in_waves(job, partition), expected, location, outlook, now_epoch_s)
        return [
            best_start(
                location, outlook.zones[location.zone], expected, may._replace(latest_epoch_s=latest),
                delay_g_per_h=outlook.policy.delay_g_per_h, price_g_per_h=price_g_per_h,
            )
            for latest in latest_epoch_s
        ]  # fmt: skip

    [baseline] = placed(home_location, home, may.earliest_epoch_s)
    home_grid = outlook.zones[home_location.zone]
    alternatives, at_once, best = [], [], []
    for location in sorted(outlook.locations, key=lambda x: x.partition != home.name):  # of equals the like-named wins
        partition = outlook.partitions.get((location.cluster, location.partition))
        grid = outlook.zones[location.zone]
        why = (ruled_out or {}).get(location.name, "") or why_not_there(
            job, owner, wishes, outlook.policy, location, partition, outlook.clusters.get(location.cluster), home,
            outlook.clusters[home.cluster],
        )  # fmt: skip
        if not why and (grid.accounting, grid.factors) != (home_grid.accounting, home_grid.factors):
            why = (
                f"its intensity ({grid.accounting}, {grid.factors}) cannot be compared with that of "
                f"{home_location.name} ({home_grid.accounting}, {home_grid.factors})"
            )
        if why or partition is None:
            alternatives.append(Alternative(location, None, why))
            continue
        now, later = placed(location, partition, may.earliest_epoch_s, may_start(partition).latest_epoch_s)
        at_once.append(now)
        best.append(later)
        alternatives.append(Alternative(location, later, ""))
    chosen, reason = choose(
        baseline, at_once, best, outlook.policy, {zone: grid.captured for zone, grid in outlook.zones.items()}
    )
    if chosen is not None and (chosen.location, chosen.start_epoch_s) == (home_location, may.earliest_epoch_s):
        chosen, reason = None, "at once and where it is, is best"
    return Decision(chosen, baseline, may, reason, tuple(alternatives))


def home_of(job: Job, outlook: Outlook, home_cluster: str) -> tuple[Partition | None, str]:
    """The partition where plain sbatch would run a job, or why that is not known."""
    cluster = job.clusters[0] if job.clusters else home_cluster
    if cluster not in outlook.clusters:
        return None, f"cluster {cluster or '(unknown)'} is not in the outlook"
    if job.partitions:
        first = outlook.partitions.get((cluster, job.partitions[0]))
        return first, "" if first else f"cluster {cluster} has no partition {job.partitions[0]}"
    default = next((p for p in outlook.partitions.values() if p.cluster == cluster and p.is_default), None)
    return default, "" if default else f"cluster {cluster} has no default partition, and no --partition was given"


def price(job: Job, estimate: Estimate, location: Location, outlook: Outlook, now_epoch_s: int) -> list[float] | None:
    """What a job's resources at a location cost now, in g per hour for each slot; None where there is room."""
    total: list[float] | None = None
    tasks = job.array_tasks
    amounts = {
        "cores": float(job.cpus * tasks),
        "gpus": float(job.gpus * tasks),
        "nodes": float(job.nodes * tasks),
        "memory_gb": (job.memory_mb_per_node or 0.0) * job.nodes * tasks / 1024,
        "power_kw": estimate.power_w / 1000,
    }
    due = outlook.prices_g_per_h.get(location.name, {})
    for resource, amount in amounts.items():
        prices = due.get(resource, [])
        if amount and any(prices):
            total = [sum_ + amount * p for sum_, p in zip(total or [0.0] * len(prices), prices, strict=True)]
    if total is None:
        return None
    grid = outlook.zones[location.zone]
    return still_due(total, grid.start_epoch_s, grid.slot_s, now_epoch_s)


def _leave(reason: str) -> Decision:
    return Decision(None, None, None, reason)


def unknown_location(wishes: Wishes, outlook: Outlook) -> str:
    """What is wrong with the wished locations; empty if the site has configured all of them."""
    known = {*outlook.names, *(name for x in outlook.locations for name in (x.name, x.cluster, x.zone))}
    name = next((name for name in wishes.locations or () if name not in known), "")
    return f"no location {name!r}; known: {', '.join(sorted(known))}" if name else ""
