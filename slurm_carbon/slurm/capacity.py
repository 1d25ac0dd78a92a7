"""What there is to run jobs on at this moment: nodes, and what is reserved of them, from `scontrol show -o`.

The outlook knows partitions as they were when it was made; a node that was drained since, or a maintenance that was
announced, counts here already.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from slurm_carbon.errors import CommandError
from slurm_carbon.queued import Node, Reservation
from slurm_carbon.slurm.command import Command, Runner
from slurm_carbon.slurm.facts import in_service, rows, settings
from slurm_carbon.slurm.queue_columns import WITHOUT
from slurm_carbon.slurm.queue_values import gres
from slurm_carbon.units import DAY_S, HOUR_S, utc

TIMEOUT_S = 20.0
MOST_BYTES = 64 << 20
MOST_NODES = 100_000  # that one reservation may name: a mistake in a name must not eat the memory
FOR_EVER_EPOCH_S = 4_102_444_800  # the year 2100: end of a reservation that has none
AHEAD_S = 14 * DAY_S
_AGAIN_S = {"HOURLY": HOUR_S, "DAILY": DAY_S, "WEEKDAY": DAY_S, "WEEKEND": DAY_S, "WEEKLY": 7 * DAY_S}
_RANGE = re.compile(r"\[([^\]]*)\]")


class Settings(NamedTuple):
    """What of a cluster's configuration the reading of its queue needs."""

    version: str  # of its slurmctld
    memory_counts: bool  # memory is a resource that jobs are given
    has_gpus: bool
    counts_gpus: bool  # GPUs are among what Slurm counts for each job


def command(cluster: str, slurm_conf: str, what: str) -> Command:
    """The call for `config`, `node` or `reservation`."""
    where = [] if slurm_conf else ["-M", cluster]
    return Command(
        ["scontrol", *where, "--local", "-a", "show", "-o", what],
        f"{what} of {cluster}",
        environment={"SLURM_TIME_FORMAT": "%s", "TZ": "UTC"} | ({"SLURM_CONF": slurm_conf} if slurm_conf else {}),
        without=WITHOUT,
        timeout_s=TIMEOUT_S,
        most_bytes=MOST_BYTES,
    )


def read(runner: Runner, cluster: str, slurm_conf: str) -> tuple[tuple[Node, ...], tuple[Reservation, ...]]:
    """Nodes and reservations of a cluster. Raises CommandError if its controller does not answer."""
    return (
        nodes(_ask(runner, cluster, slurm_conf, "node")),
        reservations(_ask(runner, cluster, slurm_conf, "reservation")),
    )


def read_settings(runner: Runner, cluster: str, slurm_conf: str) -> Settings:
    """The settings of a cluster. Raises CommandError if its controller does not answer, or another one does."""
    found = dict(settings(_ask(runner, cluster, slurm_conf, "config")))
    name = found.get("ClusterName", "")
    if name != cluster:
        raise CommandError(f"asked cluster {cluster}, and {name or 'nobody'} answered: check its slurm_conf")
    return Settings(
        version=found.get("SLURM_VERSION", ""),
        memory_counts="MEMORY" in found.get("SelectTypeParameters", "MEMORY").upper(),
        has_gpus="gpu" in found.get("GresTypes", "").split(","),
        counts_gpus="gres/gpu" in found.get("AccountingStorageTRES", "").split(","),
    )


def _ask(runner: Runner, cluster: str, slurm_conf: str, what: str) -> str:
    asking = command(cluster, slurm_conf, what)
    done = runner.run(asking)
    if done.exit_code:
        raise CommandError(f"cluster {cluster}: {asking.why}: {done.complaint}")
    return done.stdout.decode("utf-8", "replace")


def nodes(text: str) -> tuple[Node, ...]:
    """The nodes in what `scontrol show -o node` prints."""
    return tuple(_node(row) for row in rows(text) if "NodeName" in row)


def _node(row: dict[str, str]) -> Node:
    gpus = [(name, count) for name, count in gres(row.get("Gres", "")) if name.split(":")[0] == "gpu"]
    partitions = row.get("Partitions", "")
    return Node(
        name=row["NodeName"],
        cpus=_number(row.get("CPUEfctv") or row.get("CPUTot", "0")),
        memory_mb=max(0, _number(row.get("RealMemory", "0")) - _number(row.get("MemSpecLimit", "0"))),
        gpus=sum(count for _, count in gpus),
        gpu_type=next((name[4:] for name, _ in gpus if name.startswith("gpu:")), ""),
        partitions=tuple(name for name in partitions.split(",") if name),
        in_service=in_service(row),
    )


def reservations(text: str) -> tuple[Reservation, ...]:
    """The reservations in what `scontrol show -o reservation` prints.

    One of a few cores counts as one of their nodes. Of one that comes again each of the next two weeks is there.
    """
    return tuple(found for row in rows(text) if "ReservationName" in row for found in _times(row))


def _times(row: dict[str, str]) -> Iterator[Reservation]:
    names = frozenset(node_names(row.get("Nodes", "")))
    if not names:  # of licences or of a burst buffer
        return
    start, end = _number(row["StartTime"]), row.get("EndTime", "")
    first = Reservation(row["ReservationName"], start, _number(end) if end.isdigit() else FOR_EVER_EPOCH_S, names)
    yield first
    flags = set(row.get("Flags", "").split(","))
    every_s = next((seconds for flag, seconds in _AGAIN_S.items() if flag in flags), 0)
    for later_s in range(every_s, AHEAD_S, every_s) if every_s else ():
        weekend = utc(start + later_s).weekday() >= 5
        if not (weekend and "WEEKDAY" in flags) and (weekend or "WEEKEND" not in flags):
            yield first._replace(start_epoch_s=start + later_s, end_epoch_s=first.end_epoch_s + later_s)


def node_names(text: str) -> Iterator[str]:
    """Each name in a list of nodes as Slurm writes it: `a[0-2,07]b,c1`. Raises CommandError for one without end."""
    count = 0
    for word in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", "" if text in ("(null)", "None") else text):
        for name in _expanded(word):
            count += 1
            if count > MOST_NODES:
                raise CommandError(f"{text[:40]!r} names more than {MOST_NODES} nodes: check the reservation")
            yield name


def _expanded(word: str) -> Iterator[str]:
    found = _RANGE.search(word)
    if not found:
        yield word
        return
    for part in found[1].split(","):
        first, dash, last = part.partition("-")
        numbers = range(_number(first), _number(last) + 1) if dash else [part]
        for number in numbers:
            inside = str(number).zfill(len(first)) if dash else part
            yield from _expanded(f"{word[: found.start()]}{inside}{word[found.end() :]}")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise CommandError(f"scontrol prints {text[:40]!r} where a number should be")
    return int(text)
