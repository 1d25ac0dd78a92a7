"""From the options that sbatch understood to the Job that the placement needs.

The keys are sbatch's long option names, as `slurm.json_cli_options` prints them: only what was set, from the command
line, the environment or the script, abbreviations and precedence already resolved by sbatch itself.
"""

from slurm_carbon.model import Job
from slurm_carbon.units import memory_mb, slurm_duration_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# What makes us leave the whole job alone, and what ties it to the partition where sbatch would run it.
_FIXED = {
    "begin": "--begin was given",
    "hold": "--hold was given",
    "deadline": "--deadline was given: a later begin could get the job cancelled",
    "dependency": "--dependency was given: when it may start is not known",
    "reservation": "--reservation was given",
    "wait": "--wait was given: somebody is waiting for it",
    "test-only": "--test-only submits nothing",
    "het-job": "a heterogeneous job: sbatch shows only its first component",  # set by csbatch, no option of sbatch
}
_TIED = ("nodelist", "nodefile", "exclude", "bb", "bbf", "cluster-constraint", "batch", "switches", "mcs-label",
         "ntasks-per-gpu",  # by -M sbatch 22.05 counts its CPUs wrongly; those below name what no rule here knows of nodes
         "ntasks-per-socket", "ntasks-per-core", "sockets-per-node", "cores-per-socket", "threads-per-core", "extra-node-info",
         "contiguous", "core-spec", "thread-spec", "tmp", "mincpus", "mem-per-gpu", "gpus-per-socket", "tres-per-task",
         "distribution")  # fmt: skip


def job_of_options(options: "Mapping[str, str]") -> Job:
    """The job that a set of sbatch options describes. Raises ValueError for a value of an unknown form."""
    fixed = next((why for name, why in _FIXED.items() if name in options), "")
    tied = next((f"--{name} was given" for name in _TIED if name in options), "")
    clusters = _names(options.get("clusters", ""))
    if len(clusters) > 1 or clusters == ("all",):
        fixed = fixed or "several clusters were given: sbatch chooses the one that starts first"

    nodes, max_nodes = _node_range(options.get("nodes", ""))
    per_node = int(options.get("ntasks-per-node", "0"))
    tasks = int(options["ntasks"]) if "ntasks" in options else max(1, nodes * max(1, per_node))
    if per_node and "nodes" not in options:
        nodes = -(-tasks // per_node)
    cpus = nodes if "overcommit" in options else tasks * int(options.get("cpus-per-task", "1"))

    gres = gres_counts(options.get("gres", ""))
    per_node_gpus = gres_counts(options.get("gpus-per-node", ""), prefix="gpu:")
    gpus_of_gres = sum(count for name, count in gres if name.split(":")[0] == "gpu")
    gpus, gpu_type = gpus_of_gres * nodes, next((n[4:] for n, _ in gres if n.startswith("gpu:")), "")
    for name, times in (("gpus-per-node", nodes), ("gpus-per-task", tasks), ("gpus", 1)):
        if name in options:
            counted = gres_counts(options[name], prefix="gpu:")
            gpus = sum(count for _, count in counted) * times
            gpu_type = next((n[4:] for n, _ in counted if n != "gpu"), gpu_type)

    cpus = max(cpus, gpus * int(options.get("cpus-per-gpu", "0")))
    array = options.get("array", "")
    array_tasks = _array_tasks(array)
    throttle = array.partition("%")[2]
    together = min(array_tasks, int(throttle)) if throttle and int(throttle) > 0 else array_tasks
    features, simple = _features(options.get("constraint", ""))
    if not simple:
        tied = tied or f"--constraint={options['constraint']} was given"
    time_limit = options.get("time")
    limit_s = None if time_limit is None else slurm_duration_s(time_limit)
    return Job(
        time_limit_s=limit_s,
        unlimited=time_limit is not None and limit_s in (None, 0),
        array_tasks=together,
        array_waves=-(-array_tasks // together),
        nodes=nodes,
        max_nodes=max_nodes,
        cpus=max(cpus, nodes),
        gpus=gpus,
        gpu_type=gpu_type,
        memory_mb_per_node=_memory(options, "mem"),
        memory_mb_per_cpu=_memory(options, "mem-per-cpu"),
        exclusive=options.get("exclusive", "user") not in ("user", "mcs"),
        gres_per_node=gres + per_node_gpus,
        licenses=gres_counts(options.get("licenses", "")) if "|" not in options.get("licenses", "") else (),
        features=features,
        clusters=clusters,
        partitions=_names(options.get("partition", "")),
        account=options.get("account", ""),
        qos=options.get("qos", ""),
        comment=options.get("comment"),
        fixed=fixed,
        tied=tied,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _memory(options: "Mapping[str, str]", name: str) -> float | None:
    return memory_mb(options[name].rstrip("?")) if name in options else None  # Slurm writes 0 as `0?`


def _node_range(text: str) -> tuple[int, int | None]:
    """Least and most nodes of `4`, `2-8` or `2k`."""
    low, dash, high = text.split(":")[0].split(",")[0].partition("-")
    least = max(1, _count(low)) if low else 1
    return least, (_count(high) if dash and high else (least if low else None))


def _count(text: str) -> int:
    factor = {"k": 1024, "m": 1024**2}.get(text[-1:].lower(), 1)
    return int(text[:-1] if factor > 1 else text) * factor


def gres_counts(text: str, prefix: str = "") -> tuple[tuple[str, int], ...]:
    """Name (with type) and count of each of `gpu:a100:2,shard:1`, `gres/gpu:2`, `matlab:3`; prefix for `a100:2`."""
    found = []
    for item in text.split(","):
        item = item.removeprefix("gres:").removeprefix("gres/").partition("(")[0]  # the latter since 23.11
        if not item or item == "none":
            continue
        name, _, last = item.rpartition(":")
        if last[:1].isdigit():
            count = _count(last)
        else:
            name, count = item, 1
        found.append((f"{prefix}{name}".rstrip(":"), count))
    return tuple(found)


def _features(text: str) -> tuple[tuple[str, ...], bool]:
    """The features that all are needed, and whether that is all the expression says."""
    if any(character in text for character in "|[]()*"):
        return (), False
    return tuple(name for name in text.replace("&", ",").split(",") if name), True


def _array_tasks(text: str) -> int:
    """How many tasks `1-10:2,15%4` has; 1 for no array."""
    total = 0
    for part in text.partition("%")[0].strip("[]").split(","):
        if part:
            bounds, _, step = part.partition(":")
            first, dash, last = bounds.partition("-")
            total += (int(last) - int(first)) // int(step or 1) + 1 if dash else 1
    return max(1, total)
