"""The rules: may this job move, where to, how far, and is it worth it. Every answer carries its reason."""

from slurm_carbon.light import NamedTuple
from slurm_carbon.model import Cluster, Job, Location, NodeShape, Owner, Partition, Placement, Window, Wishes
from slurm_carbon.units import duration_text, mass_text


class Policy(NamedTuple):
    """What the site allows. Durations in seconds, masses in g CO2e."""

    max_delay_s: int = 86400
    max_delay_limit_s: int = 7 * 86400
    min_saving_pct: float = 5.0
    min_saving_g: float = 1.0
    delay_g_per_h: float = 0.0
    move_clusters: bool = True
    move_partitions: bool = True
    opt_out: tuple[str, ...] = ("everyone",)  # everyone, or user:NAME and account:NAME; empty: nobody
    left_alone: tuple[str, ...] = ()  # user:NAME, account:NAME, partition:NAME, qos:NAME


LIKE_HOME = 0.95  # of nodes that are sold as equal, some report a little less memory
TOO_LATE = "the time it must be done by, which its time limit would pass even at once"


def may_opt_out(policy: Policy, owner: Owner, account: str) -> bool:
    """Whether the site lets this owner say --carbon-off."""
    who = {"everyone", f"user:{owner.name}", f"account:{account}"}
    return not who.isdisjoint(policy.opt_out)


def why_left_alone(job: Job, owner: Owner, policy: Policy, partition: str) -> str:
    """Why a job is submitted just as it was written, whatever it could save; empty if nothing speaks against it."""
    if job.fixed:
        return job.fixed
    named = {
        f"user:{owner.name}": f"user {owner.name}",
        f"account:{job.account}": f"account {job.account}",
        f"partition:{partition}": f"partition {partition}",
        f"qos:{job.qos}": f"QOS {job.qos}",
    }
    for key in policy.left_alone:
        if key in named:
            return f"the site leaves {named[key]} alone"
    if job.unlimited:
        return "the job has no time limit, so its end is not known"
    return ""


def run_time(job: Job, partition: Partition) -> tuple[int, str] | None:
    """Seconds that a job, or one task of an array, is planned with in a partition, and their source; None if unknown."""
    if job.time_limit_s is not None:
        return job.time_limit_s, "--time"
    if partition.default_time_s is not None:
        return partition.default_time_s, f"default of {partition.cluster}/{partition.name}"
    return None


def in_waves(job: Job, partition: Partition) -> Job:
    """A job with no more array tasks at a time than an empty partition has room for, and the waves that this takes."""
    if job.array_tasks == 1:
        return job
    fitting = [shape for shape in partition.shapes if _node_fits(job, shape)]
    if job.exclusive or partition.whole_nodes or job.nodes > 1:
        room = sum(shape.nodes for shape in fitting) // job.nodes
    else:
        room = sum(shape.nodes * _tasks_on(job, shape) for shape in fitting)
    together = max(1, min(job.array_tasks, room))
    return job._replace(array_tasks=together, array_waves=-(-job.array_tasks * job.array_waves // together))


def _tasks_on(job: Job, shape: NodeShape) -> int:
    """Array tasks of one node each that a node of a shape runs at a time."""
    memory_mb = job.memory_mb_per_node or (job.memory_mb_per_cpu or 0) * job.cpus
    return min(
        shape.cpus // job.cpus,
        int(shape.memory_mb // memory_mb) if memory_mb else shape.cpus,
        gpu_count(shape, job.gpu_type) // job.gpus if job.gpus else shape.cpus,
    )


def window(wishes: Wishes, policy: Policy, now_epoch_s: int, run_time_s: int) -> Window:
    """When a job may start. A finish that cannot be met any more leaves only `at once`."""
    delay_s, bound = policy.max_delay_s, f"the site's {duration_text(policy.max_delay_s)}"
    if wishes.max_delay_s is not None:
        delay_s, bound = wishes.max_delay_s, "the longest delay you allow"
    elif wishes.finish_by_epoch_s is not None:
        delay_s = policy.max_delay_limit_s
    if delay_s >= policy.max_delay_limit_s:
        delay_s, bound = policy.max_delay_limit_s, f"the site's limit of {duration_text(policy.max_delay_limit_s)}"
    latest = now_epoch_s + delay_s
    if wishes.finish_by_epoch_s is not None and wishes.finish_by_epoch_s - run_time_s <= latest:
        latest, bound = wishes.finish_by_epoch_s - run_time_s, "the time it must be done by"
    if latest < now_epoch_s:
        bound = TOO_LATE
    return Window(now_epoch_s, max(now_epoch_s, latest), bound)


def why_not_there(
    job: Job, owner: Owner, wishes: Wishes, policy: Policy, location: Location, partition: Partition | None,
    cluster: Cluster | None, home: Partition, home_cluster: Cluster,
) -> str:  # fmt: skip
    """Why a job cannot or may not run at a location; empty if it can. `home` is where plain sbatch would run it."""
    if partition is None or cluster is None:
        return f"Slurm knows no partition {location.name}"
    if wishes.locations is not None and not _is_named(location, wishes.locations):
        return "not among the locations you named"
    if partition.cluster != home.cluster:
        if job.clusters and partition.cluster not in job.clusters:
            return f"--clusters={','.join(job.clusters)} was given"
        if job.tied:
            return job.tied
        if not policy.move_clusters:
            return "the site moves no jobs between clusters"
        if not cluster.filesystem or cluster.filesystem != home_cluster.filesystem:
            return f"does not share files with {home.cluster}"
    if partition.name != home.name:
        if job.partitions:
            return f"--partition={','.join(job.partitions)} was given"
        if job.tied:
            return job.tied
        if partition.cluster == home.cluster and not policy.move_partitions:
            return "the site moves no jobs between partitions"
    return (
        _not_admitted(job, owner, partition)
        or _does_not_fit(job, partition, cluster)
        or _less_memory(job, partition, home)
        or _less_time(job, partition, home)
        or _no_place_for_it(job, partition, home)
    )


def _is_named(location: Location, names: tuple[str, ...]) -> bool:
    return not {location.name, location.cluster, location.zone}.isdisjoint(names)


def _not_admitted(job: Job, owner: Owner, partition: Partition) -> str:
    if not partition.up:
        return "the partition is not up"
    if partition.needs_reservation:
        return "only for jobs with a reservation"
    if owner.is_root:
        return ""
    if partition.root_only:
        return "only for root"
    if partition.allow_groups is not None and owner.groups.isdisjoint(partition.allow_groups):
        return f"not for the groups of {owner.name}"
    if job.account and (
        job.account in partition.deny_accounts
        or (partition.allow_accounts is not None and job.account not in partition.allow_accounts)
    ):
        return f"not for account {job.account}"
    if not job.account and partition.allow_accounts is not None:
        return "only for some accounts, and no --account was given"
    if (job.qos and job.qos in partition.deny_qos) or (
        partition.allow_qos is not None and (job.qos or "normal") not in partition.allow_qos
    ):
        return f"not for QOS {job.qos or 'normal'}"
    return ""


def _does_not_fit(job: Job, partition: Partition, cluster: Cluster) -> str:
    if job.time_limit_s is not None and partition.max_time_s is not None and job.time_limit_s > partition.max_time_s:
        return f"time limit {duration_text(job.time_limit_s)}, at most {duration_text(partition.max_time_s)} there"
    if partition.max_nodes is not None and job.nodes > partition.max_nodes:
        return f"{job.nodes} nodes, at most {partition.max_nodes} there"
    if job.max_nodes is not None and job.max_nodes < partition.min_nodes:
        return f"{job.max_nodes} nodes, at least {partition.min_nodes} there"
    has = dict(cluster.licenses)
    for name, count in job.licenses:
        if has.get(name, 0) < count:
            return f"{count} licences {name}, {has.get(name, 0)} there"
    fitting = [shape for shape in partition.shapes if _node_fits(job, shape)]
    nodes, cpus = sum(s.nodes for s in fitting), sum(s.nodes * _usable_cpus(job, s) for s in fitting)
    if nodes < job.nodes or cpus < job.cpus:
        return f"{job.nodes} nodes and {job.cpus} CPUs are needed, {nodes} and {cpus} there are of a kind that fits"
    gpus = sum(s.nodes * gpu_count(s, job.gpu_type) for s in fitting)
    if gpus < job.gpus:
        return f"{gpus} fitting GPUs there, {job.gpus} are needed"
    return ""


def _less_memory(job: Job, partition: Partition, home: Partition) -> str:
    """Whether a job that asks for no memory, and so runs with what Slurm gives it, would get less than at home."""
    if job.memory_mb_per_node is not None or job.memory_mb_per_cpu is not None:
        return ""
    there_mb, home_mb = (min(_memory_given(job, p), default=0.0) for p in (partition, home))
    if there_mb >= home_mb * LIKE_HOME:
        return ""
    return f"{there_mb / 1024:.3g} GB of memory on a node there, {home_mb / 1024:.3g} GB at home, and no --mem was given"


def _less_time(job: Job, partition: Partition, home: Partition) -> str:
    """Whether a job that asks for no time, and so gets the partition's default, would be ended earlier than at home."""
    there_s = partition.max_time_s if partition.default_time_s is None else partition.default_time_s
    if job.time_limit_s is not None or home.default_time_s is None or there_s is None or there_s >= home.default_time_s:
        return ""
    return f"time limit {duration_text(there_s)} there, {duration_text(home.default_time_s)} at home, and no --time was given"


def _no_place_for_it(job: Job, partition: Partition, home: Partition) -> str:
    """Whether a job would keep GPUs from others, or its array tasks take longer because fewer of them run at a time."""
    with_gpus = all(gpu_count(shape, "") for shape in partition.shapes)
    if not job.gpus and with_gpus and not all(gpu_count(shape, "") for shape in home.shapes):
        return "all nodes there have GPUs, and it needs none"
    there, here = in_waves(job, partition).array_waves, in_waves(job, home).array_waves
    return f"its tasks would run in {there} rounds there, in {here} at home" if there > here else ""


def _memory_given(job: Job, partition: Partition) -> list[float]:
    """MB on a node of each shape for a job that asks for none: by default, else its cores' share of the node."""
    cpus = -(-job.cpus // job.nodes)
    fitting = [shape for shape in partition.shapes if _node_fits(job, shape)]
    if job.exclusive or partition.whole_nodes:
        return [float(shape.memory_mb) for shape in fitting]
    if partition.default_mb_per_node:
        return [float(partition.default_mb_per_node)]
    if partition.default_mb_per_cpu:
        return [float(partition.default_mb_per_cpu * cpus)]
    return [shape.memory_mb * min(1.0, cpus / shape.cpus) for shape in fitting]


def gpu_count(shape: NodeShape, gpu_type: str) -> int:
    """GPUs of a type (any, if empty) on one node of a shape."""
    wanted = f"gpu:{gpu_type}" if gpu_type else "gpu"
    return sum(count for name, count in shape.gres if name == wanted or (not gpu_type and name.startswith("gpu:")))


def _node_fits(job: Job, shape: NodeShape) -> bool:
    cpus = -(-job.cpus // job.nodes) if job.nodes > 1 or job.max_nodes == 1 else 1
    memory = job.memory_mb_per_node
    if memory is None and job.memory_mb_per_cpu is not None:
        memory = job.memory_mb_per_cpu * cpus
    return (
        shape.cpus >= cpus
        and (memory is None or shape.memory_mb >= memory)
        and shape.features.issuperset(job.features)
        and (not job.gpus or gpu_count(shape, job.gpu_type) > 0)
        and all(_gres_of(shape, name) >= count for name, count in job.gres_per_node)
    )


def _usable_cpus(job: Job, shape: NodeShape) -> int:
    """CPUs of a node that a job which asks for memory by the CPU finds memory for."""
    if not job.memory_mb_per_cpu:
        return shape.cpus
    return min(shape.cpus, int(shape.memory_mb / job.memory_mb_per_cpu))


def _gres_of(shape: NodeShape, name: str) -> int:
    return sum(count for has, count in shape.gres if has == name or has.startswith(name + ":"))


def choose(
    baseline: Placement, at_once: list[Placement], best: list[Placement], policy: Policy, captured: dict[str, float]
) -> tuple[Placement | None, str]:
    """The placement to take, or None with the reason why the job stays as it was written.

    `at_once` and `best` hold a placement a location: started now, and at its best start. A job is delayed only if the
    delay itself saves enough beyond the best place now, and moved only if that saves enough beyond the baseline.
    What a delay is expected to save counts by the share that the forecast of the zone has been shown to capture.
    """
    now = min(at_once, key=lambda p: p.cost_g, default=baseline)
    if not _worth(now, baseline, policy):
        now = baseline
    by_cost = sorted(best, key=lambda p: p.cost_g) or [baseline]
    for later in by_cost:  # of a zone whose forecasts are worth nothing, another may still be worth waiting for
        if _worth(later, now, policy, captured.get(later.location.zone, 1.0)):
            return later, ""
    if now is baseline:
        later = by_cost[0]
        shown = captured.get(later.location.zone, 1.0)
        saving = max(0.0, baseline.emissions_g - later.emissions_g)
        share = 100 * saving / baseline.emissions_g if baseline.emissions_g else 0.0
        counts = f", of which forecasts of {later.location.zone} have captured {100 * shown:.0f} %" if shown < 1 else ""
        return None, (
            f"no choice saves enough: {mass_text(saving)} ({share:.1f} %) at best{counts}; "
            f"the site asks for {mass_text(policy.min_saving_g)} and {policy.min_saving_pct:g} %"
        )
    return now, ""


def _worth(new: Placement, old: Placement, policy: Policy, captured: float = 1.0) -> bool:
    saving = (old.emissions_g - new.emissions_g) * captured
    return new.cost_g < old.cost_g and saving >= max(policy.min_saving_g, old.emissions_g * policy.min_saving_pct / 100)
