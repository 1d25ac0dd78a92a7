"""Queues and worlds for the tests of what is decided: two clusters of four nodes with 16 cores, dirty alpha and clean beta."""

from __future__ import annotations

import json
from typing import Any

from slurm_carbon import marks
from slurm_carbon.ledger.values import Entry
from slurm_carbon.marks import Mark
from slurm_carbon.model import NodeShape, Partition
from slurm_carbon.outlook import Outlook
from slurm_carbon.queued import Node, Queue, QueuedJob
from slurm_carbon.reoptimize.choose import Chosen, choose
from slurm_carbon.reoptimize.room import Room, furnish
from slurm_carbon.reoptimize.standing import Rules, Standing, standings
from tests.unit.factory import NOW, intensity, outlook, partition

HOUR = 3600
DAY = 86400
GROUPS = {f"user{n}": frozenset({"users"}) for n in range(10)}
BOTH = ("alpha/batch", "beta/batch")
ID = "0123456789abcdef"

__all__ = ["BOTH", "DAY", "GROUPS", "HOUR", "ID", "NOW", "intensity", "outlook", "partition"]


def job(number: int = 1, cluster: str = "alpha", begin: int | None = None, **changes: Any) -> QueuedJob:
    """A job of user1 that wants four cores for an hour; with a begin it waits for that."""
    base = QueuedJob(
        cluster, number, "user1", 1001, "PENDING", "batch", NOW - 60, "BeginTime" if begin else "", "work",
        eligible_epoch_s=NOW - 60 if begin is None else begin, time_limit_s=HOUR, cpus=4,
    )  # fmt: skip
    return base._replace(**changes)


def marked(
    number: int = 1, cluster: str = "alpha", begin: int = NOW + 5 * HOUR, latest: int = NOW + DAY,
    locations: tuple[str, ...] = (), mark_id: str = "", **changes: Any,
) -> QueuedJob:  # fmt: skip
    """A job with a mark of csbatch."""
    mark = Mark(begin, latest, f"{cluster}/batch", 1.0, 1e9, 1.0, mark_id, locations)
    return job(number, cluster, begin, comment=marks.write(mark))._replace(**changes)


def hooked(
    number: int = 1, cluster: str = "alpha", begin: int = NOW + 5 * HOUR, mode: str = "enforce", **changes: Any
) -> QueuedJob:
    """A job with a record of the hook."""
    record = {
        "slurm_carbon": "1", "mode": mode, "decided": NOW - 60, "outlook": NOW - 100, "reason": "",
        "home": f"{cluster}/batch", "baseline_g": 100.0, "latest": NOW + DAY, "bound": "the site", "run_time_s": HOUR,
        "run_time_by": "--time", "power_w": 100.0, "energy_kwh": 0.1, "zone": "D", "source": "test", "counts": "x",
        "issued": NOW, "at": f"{cluster}/batch", "begin": begin, "emissions_g": 50.0, "in": [f"{cluster}/batch"],
    }  # fmt: skip
    return job(number, cluster, begin, admin_comment=json.dumps(record, separators=(",", ":")), **changes)


def entry(of: QueuedJob, **changes: Any) -> Entry:
    """What the ledger knows of a job: it may run at both clusters until tomorrow."""
    here = f"{of.cluster}/{of.partition}"
    begin = of.eligible_epoch_s or NOW
    return Entry(
        of.cluster,
        of.array_id or of.id,
        of.submit_epoch_s,
        of.user,
        here,
        here,
        begin,
        NOW + DAY,
        "mark",
        ID,
        BOTH,
        100.0,
        50.0,
    )._replace(**changes)


def nodes(cluster: str = "alpha", count: int = 4, partitions: tuple[str, ...] = ("batch",), **changes: Any) -> tuple[Node, ...]:
    """Nodes as the partitions of the outlook have them."""
    return tuple(Node(f"{cluster}{n}", 16, 64000, 2, "a100", partitions)._replace(**changes) for n in range(count))


def queue(*jobs: QueuedJob, cluster: str = "alpha", **changes: Any) -> Queue:
    """A cluster as it was read just now."""
    return Queue(cluster, "22.05.8", NOW, jobs, nodes(cluster))._replace(**changes)


def stand(
    *jobs: QueuedJob, world: Outlook | None = None, rules: Rules | None = None, entries: tuple[Entry, ...] = (),
    now: int = NOW, queues: list[Queue] | None = None,
) -> list[Standing]:  # fmt: skip
    """How these jobs stand, each on its cluster."""
    queues = queues or [queue(*(j for j in jobs if j.cluster == name), cluster=name) for name in ("alpha", "beta")]
    known = {(e.cluster, e.job_id): e for e in entries}
    return standings(queues, known, world or outlook(), GROUPS, rules or Rules(), now)


def decided(
    queues: list[Queue], world: Outlook | None = None, rules: Rules | None = None, entries: tuple[Entry, ...] = (),
    now: int = NOW, horizon: int = 2 * DAY, solver_s: float | None = None,
) -> tuple[Room, list[Standing], Chosen]:  # fmt: skip
    """All of one run: how jobs stand, what room there is, what is chosen."""
    world, rules = world or outlook(), rules or Rules()
    known = {(e.cluster, e.job_id): e for e in entries}
    found = standings(queues, known, world, GROUPS, rules, now)
    room, found = furnish(queues, found, world, rules, now, horizon)
    return room, found, choose(room, found, world, rules, now, solver_s)


def wide(cluster: str, cores: int) -> Partition:
    """The partition `batch` with one node of that many cores."""
    return partition(cluster, shapes=(NodeShape(1, cores, 4000 * cores),))
