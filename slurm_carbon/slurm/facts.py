"""What Slurm says of its clusters: partitions, nodes, licences, controllers.

Read by the slow plane, five short calls a cluster, from `scontrol show -o`: the one form that has been the same from
22.05 to 26.05 (`scontrol --json` does not exist in 22.05, and its schema changes with each release).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from slurm_carbon.errors import CommandError
from slurm_carbon.model import Cluster, NodeShape, Partition
from slurm_carbon.slurm.command import Command, Runner
from slurm_carbon.slurm.options import gres_counts
from slurm_carbon.units import slurm_duration_s

TIMEOUT_S = 20.0
_OUT_OF_SERVICE = frozenset(
    ["DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "FUTURE", "INVAL", "NOT_RESPONDING", "NO_RESPOND"]
)
SHOWN = ("config", "partition", "node", "lic", "federation")


class Facts(NamedTuple):
    """One cluster as its controller described it."""

    cluster: Cluster
    version: str
    partitions: tuple[Partition, ...]


def commands(cluster: str, slurm_conf: str) -> list[Command]:
    """The calls that describe a cluster: through its own slurm.conf where one is known, else by -M."""
    where = [] if slurm_conf else ["-M", cluster]
    environment = {"SLURM_CONF": slurm_conf} if slurm_conf else {}
    return [
        Command(["scontrol", *where, "show", "-o", what], f"{what} of {cluster}", environment=environment, timeout_s=TIMEOUT_S)
        for what in SHOWN
    ]


def read(runner: Runner, cluster: str, slurm_conf: str, filesystem: str) -> Facts:
    """Ask a cluster for its facts. Raises CommandError if its controller does not answer."""
    texts = []
    for command in commands(cluster, slurm_conf):
        done = runner.run(command)
        if done.exit_code:
            raise CommandError(f"cluster {cluster}: {command.why}: {done.complaint}")
        texts.append(done.stdout.decode("utf-8", "replace"))
    return parse(cluster, slurm_conf, filesystem, *texts)


def parse(
    cluster: str, slurm_conf: str, filesystem: str, config: str, partition: str, node: str, lic: str, federation: str
) -> Facts:
    """The facts in the five texts. Raises CommandError for a text that says nothing of this cluster."""
    values = dict(settings(config))
    name = values.get("ClusterName", "")
    if name != cluster:
        raise CommandError(f"asked cluster {cluster}, and {name or 'nobody'} answered: check its slurm_conf")
    port = int(values.get("SlurmctldPort", "6817").split("-")[0])
    controllers = tuple((_host(v), port) for k, v in values.items() if k.startswith("SlurmctldHost["))
    licenses = tuple((row["LicenseName"], int(row.get("Total", "0"))) for row in rows(lic) if "LicenseName" in row)
    nodes = list(rows(node))
    return Facts(
        Cluster(cluster, filesystem, slurm_conf, controllers, licenses, _federation(federation)),
        values.get("SLURM_VERSION", ""),
        tuple(_partition(cluster, row, nodes, values) for row in rows(partition) if "PartitionName" in row),
    )


def settings(text: str) -> Iterator[tuple[str, str]]:
    """Each `name = value` that `scontrol show config` prints."""
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name.strip(), value.strip()


def rows(text: str) -> Iterator[dict[str, str]]:
    """Each line of `scontrol show -o` as its fields. A value with blanks is cut there: we need none of those.

    The first of two with one name counts: the reason why a node is down stands at the end, and may say `State=IDLE`.
    """
    for line in text.split("\n"):  # what else splitlines() would split at may stand in such a reason
        if "=" in line:
            yield dict(word.split("=", 1) for word in reversed(line.split()) if "=" in word)


def _federation(text: str) -> str:
    """The name in the first line, `Federation: NAME`; without one nothing or a sentence is printed."""
    first, _, name = text.partition("\n")[0].partition(":")
    return name.strip() if first == "Federation" else ""


def _host(text: str) -> str:
    """The address in `name(address)`, or the name."""
    name, bracket, address = text.partition("(")
    return address.rstrip(")") if bracket else name


def _names(text: str) -> frozenset[str] | None:
    """A list of who is allowed: None for all."""
    return None if text in ("ALL", "(null)", "") else frozenset(text.split(","))


def _limit(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _time(text: str) -> int | None:
    return None if text in ("NONE", "") else slurm_duration_s(text)


def _partition(cluster: str, row: dict[str, str], nodes: Iterable[dict[str, str]], config: Mapping[str, str]) -> Partition:
    name = row["PartitionName"]
    per_cpu, per_node = _default_memory(row)
    if per_cpu is per_node is None:
        per_cpu, per_node = _default_memory(config)
    shapes = Counter(_shape(node) for node in nodes if name in node.get("Partitions", "").split(",") and in_service(node))
    return Partition(
        name=name,
        cluster=cluster,
        up=row.get("State", "UP") == "UP",
        is_default=row.get("Default") == "YES",
        default_time_s=_time(row.get("DefaultTime", "NONE")),
        max_time_s=_time(row.get("MaxTime", "UNLIMITED")),
        min_nodes=_limit(row.get("MinNodes", "0")) or 0,
        max_nodes=_limit(row.get("MaxNodes", "UNLIMITED")),
        root_only=row.get("RootOnly") == "YES",
        needs_reservation=row.get("ReqResv") == "YES",
        whole_nodes=row.get("OverSubscribe", "").startswith("EXCLUSIVE"),
        default_mb_per_cpu=per_cpu,
        default_mb_per_node=per_node,
        allow_groups=_names(row.get("AllowGroups", "ALL")),
        allow_accounts=_names(row.get("AllowAccounts", "ALL")),
        deny_accounts=_names(row.get("DenyAccounts", "")) or frozenset(),
        allow_qos=_names(row.get("AllowQos", "ALL")),
        deny_qos=_names(row.get("DenyQos", "")) or frozenset(),
        shapes=tuple(shape._replace(nodes=count) for shape, count in shapes.items()),
    )


def _default_memory(values: Mapping[str, str]) -> tuple[int | None, int | None]:
    """MB for each CPU, or for each node, of a job that asks for none; the one shown is the one that counts."""
    return _limit(values.get("DefMemPerCPU", "")), _limit(values.get("DefMemPerNode", ""))


def in_service(node: dict[str, str]) -> bool:
    """Whether a node runs jobs, or would if it were woken."""
    state = node.get("State", "DOWN")  # IDLE, MIXED+DRAIN, DOWN*: an asterisk says that the node does not answer
    return "*" not in state and _OUT_OF_SERVICE.isdisjoint(state.split("+"))


def _shape(node: dict[str, str]) -> NodeShape:
    features = _names(node.get("AvailableFeatures", "")) or frozenset()
    gres = gres_counts(re.sub(r"\([^)]*\)", "", node.get("Gres", "")))  # (null), and the sockets in gpu:2(S:0,1)
    cpus = int(node.get("CPUEfctv") or node.get("CPUTot", "0"))
    return NodeShape(0, cpus, int(node.get("RealMemory", "0")), features, tuple(sorted(gres)))
