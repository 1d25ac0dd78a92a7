"""What is free on the clusters, slot by slot, once those have their place who run, who wait for us or in spite of us.

Nodes that several partitions share are one pool. Running jobs take it until their time limit ends them, waiting ones from
when Slurm expects them, or first come, first served where it does not say. That order also tells when a job would really
start as things stand: of those that are all to begin in the same green hour, most would have to wait for the others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from slurm_carbon.model import Job
from slurm_carbon.outlook import Outlook
from slurm_carbon.planning.problem import FITS, Floats, Ints, Places
from slurm_carbon.policy import in_waves
from slurm_carbon.queued import Node, Queue, QueuedJob
from slurm_carbon.reoptimize.standing import FOR_ROOM, Rules, Standing, job_asks, waits_in_line
from slurm_carbon.reoptimize.totals import on_slots

CORES, GPUS, MEMORY_GB = "cores", "gpus", "memory_gb"
TOUCHED = 0.1  # of a slot: who takes less of it does not take it
LEFTOVER = 0.5  # of the cores of a node that jobs of one size leave over, the share that others cannot use either
LEAST = 1e-6  # relative: how much less is free than a job needs that Slurm says has no room
LONGEST_WAIT_S = 6 * 3600  # that is expected of a job for which there seems to be room
ABOUT_TO_START = "it is about to start"


@dataclass(frozen=True)
class Pool:
    """Nodes that some partitions have to themselves, or share, and one kind of what they have."""

    name: str
    kind: str  # cores, memory_gb, gpus, or gpus:TYPE where there are several
    cluster: str
    partitions: frozenset[str]
    nodes: frozenset[str]
    most: float  # on one node
    mean: float
    cores: float  # of the largest node
    whole: bool  # jobs get whole nodes
    mb_per_cpu: float | None  # that a job gets which asks for no memory
    mb_per_node: float | None


@dataclass(frozen=True, eq=False)
class Room:
    """What is free for the jobs that may be moved, on a grid of slots whose first one is now."""

    now_epoch_s: int
    places: Places
    pools: tuple[Pool, ...]
    present: Ints  # [S] slot in which each standing would start as things stand; `slots` for later than all

    def slot(self, epoch_s: int) -> int:
        """The slot of a point in time; the first for what has passed."""
        return max(0, (epoch_s - self.places.start_epoch_s) // self.places.slot_s)

    def time(self, slot: int) -> int:
        """When what is planned for a slot starts: in the first one, at once."""
        return max(self.now_epoch_s, self.places.start_epoch_s + slot * self.places.slot_s) if slot else self.now_epoch_s

    def run_slots(self, run_s: int) -> int:
        """Slots that a run takes."""
        return max(1, -(-run_s // self.places.slot_s))

    def needs(self, asked: Job, cluster: str) -> dict[int, float]:
        """What a job takes of each pool of a cluster, if it runs in one of its partitions."""
        share = min(1.0, run_s(asked) / self.places.slot_s)  # short ones run one after the other in a slot
        found = {}
        for index, pool in enumerate(self.pools):
            if pool.cluster == cluster and (amount := _needed(asked, pool)):
                found[index] = amount * share
        return found


def run_s(asked: Job) -> int:
    """How long a job, or an array as a whole, is planned to run: its time limit, for each of its rounds."""
    return max(1, (asked.time_limit_s or 0) * asked.array_waves)


def furnish(
    queues: Sequence[Queue], standings: Sequence[Standing], outlook: Outlook, rules: Rules, now_epoch_s: int, horizon_s: int
) -> tuple[Room, list[Standing]]:
    """The room for the jobs that may be moved, and when each job would start as things stand.

    Jobs that are about to start stay from here on. The horizon is when the last slot begins.
    """
    pools = tuple(pool for queue in queues for pool in _pools(queue, outlook))
    places = _places(queues, outlook, pools, now_epoch_s, horizon_s)
    room = Room(now_epoch_s, places, pools, np.zeros(0, dtype=np.int64))
    free = np.full((len(pools), places.slots + 1), 0.0)
    for queue in queues:
        _offer(room, queue, free)
    for queue in queues:
        _run(room, queue, free)
    np.maximum(free, 0.0, out=free)
    return _Line(room, free, [_as_it_flows(standing, outlook, rules) for standing in standings]).served(rules)


def _as_it_flows(standing: Standing, outlook: Outlook, rules: Rules) -> Standing:
    """An array with no more tasks at a time than half of the partition has room for: it flows into what is free."""
    asked = standing.asked
    if asked.array_tasks == 1 or is_split(standing, rules):
        return standing
    cluster, _, name = standing.here.partition("/")
    partition = outlook.partitions.get((cluster, name))
    if partition is None:
        return standing
    flows = in_waves(asked, partition)
    at_a_time = max(1, flows.array_tasks // 2) if flows.array_waves > asked.array_waves else flows.array_tasks
    waves = -(-standing.job.task_count // at_a_time)
    return standing._replace(asked=asked._replace(array_tasks=at_a_time, array_waves=waves))


def is_split(standing: Standing, rules: Rules) -> bool:
    """Whether the tasks of an array may start apart from each other."""
    job = standing.job
    return rules.split_arrays and not standing.stays and job.task_count > 1 and not job.throttle and "." not in job.array_tasks


# places


def _places(queues: Sequence[Queue], outlook: Outlook, pools: tuple[Pool, ...], now_epoch_s: int, horizon_s: int) -> Places:
    answering = {queue.cluster for queue in queues}
    locations = [x for x in outlook.locations if x.cluster in answering and (x.cluster, x.partition) in outlook.partitions]
    zones = [outlook.zones[x.zone] for x in locations]
    coarsest = max(zones or list(outlook.zones.values()), key=lambda zone: zone.slot_s)
    slot_s = coarsest.slot_s
    first = -(-(2 * (now_epoch_s - coarsest.start_epoch_s) - slot_s) // (2 * slot_s))  # the edge that is nearest to now
    start = coarsest.start_epoch_s + first * slot_s
    slots = max(1, -(-(now_epoch_s + horizon_s - start) // slot_s) + 1)
    known = {zone.zone: on_slots(zone, now_epoch_s, start, slot_s, slots) for zone in zones}
    members = np.zeros((len(pools), len(locations)), dtype=bool)
    for index, pool in enumerate(pools):
        for column, x in enumerate(locations):
            members[index, column] = x.cluster == pool.cluster and x.partition in pool.partitions
    grams = np.array([known[x.zone] for x in locations]).reshape(len(locations), slots)
    beyond = np.array([zone.beyond_g_per_kwh for zone in zones])
    return Places(
        start, slot_s, slots, tuple(x.name for x in locations), np.ones(len(locations)), grams, beyond,
        tuple(pool.name for pool in pools), tuple(pool.name for pool in pools), members, np.zeros((len(pools), slots)),
    )  # fmt: skip


# pools


def _pools(queue: Queue, outlook: Outlook) -> Iterable[Pool]:
    nodes = {node.name: node for node in queue.nodes if node.in_service}
    has: dict[str, frozenset[str]] = {}
    for name in sorted({partition for node in nodes.values() for partition in node.partitions}):
        has[name] = frozenset(node.name for node in nodes.values() if name in node.partitions)
    for together in _node_sets(set(has.values())):
        members = frozenset(name for name, some in has.items() if some <= together)
        yield from _pools_of(queue.cluster, members, [nodes[name] for name in sorted(together)], outlook)


def _node_sets(of_partitions: set[frozenset[str]]) -> list[frozenset[str]]:
    """The nodes of each partition, and all of those that overlap, so that no node is given away twice."""
    joined: list[frozenset[str]] = []
    for some in of_partitions:
        apart = [other for other in joined if not other & some]
        joined = [*apart, frozenset().union(some, *(other for other in joined if other & some))]
    return sorted({*of_partitions, *joined}, key=lambda some: (len(some), sorted(some)))


def _pools_of(cluster: str, members: frozenset[str], nodes: list[Node], outlook: Outlook) -> Iterable[Pool]:
    known = [outlook.partitions[cluster, name] for name in sorted(members) if (cluster, name) in outlook.partitions]
    per_cpu = [p.default_mb_per_cpu for p in known if p.default_mb_per_cpu is not None]
    per_node = [p.default_mb_per_node for p in known if p.default_mb_per_node is not None]
    types = sorted({node.gpu_type for node in nodes if node.gpus})
    kinds = [CORES, MEMORY_GB, *([GPUS] if types else []), *(f"{GPUS}:{name}" for name in types if len(types) > 1)]
    for kind in kinds:
        each = [amount for node in nodes if (amount := _on_node(node, kind))]
        if each:
            yield Pool(
                f"{kind} {cluster}/{'+'.join(sorted(members))}", kind, cluster, members, frozenset(node.name for node in nodes),
                max(each), sum(each) / len(nodes), max(node.cpus for node in nodes),
                bool(known) and all(p.whole_nodes for p in known), max(per_cpu, default=None), max(per_node, default=None),
            )  # fmt: skip


def _on_node(node: Node, kind: str) -> float:
    if kind == CORES:
        return float(node.cpus)
    if kind == MEMORY_GB:
        return node.memory_mb / 1024
    return float(node.gpus) if kind == GPUS or node.gpu_type == kind.partition(":")[2] else 0.0


def _needed(asked: Job, pool: Pool) -> float:
    """What all tasks together that run at a time take of a pool."""
    nodes, tasks = asked.nodes, asked.array_tasks
    each = -(-asked.cpus // nodes)
    whole = asked.exclusive or pool.whole
    if pool.kind == CORES:
        if whole:
            return max(asked.cpus, nodes * pool.mean) * tasks
        if each > pool.most:
            return float(asked.cpus * tasks)
        left_over = pool.most / (pool.most // each) - each  # what each of them leaves on a full node
        return nodes * (each + LEFTOVER * left_over) * tasks
    if pool.kind == MEMORY_GB:
        if whole or asked.memory_mb_per_node == 0:
            return nodes * pool.mean * tasks
        mb = asked.memory_mb_per_node
        if mb is None and (per_cpu := asked.memory_mb_per_cpu or pool.mb_per_cpu) is not None:
            mb = per_cpu * each
        if mb is None:
            mb = pool.mb_per_node or 0.0
        return nodes * mb / 1024 * tasks
    if pool.kind == GPUS:
        return float(asked.gpus * tasks)
    return float(asked.gpus * tasks) if asked.gpu_type == pool.kind.partition(":")[2] else 0.0


# what is taken


def _offer(room: Room, queue: Queue, free: Floats) -> None:
    """Nodes in service, but for those that are kept for somebody at the time."""
    nodes = {node.name: node for node in queue.nodes if node.in_service}
    slots = room.places.slots
    for index, pool in enumerate(room.pools):
        if pool.cluster != queue.cluster:
            continue
        free[index] += sum(_on_node(nodes[name], pool.kind) for name in pool.nodes)
        kept = np.zeros((len(pool.nodes), slots + 1), dtype=bool)
        order = sorted(pool.nodes)
        for reservation in queue.reservations:
            begin, end = _span(room, reservation.start_epoch_s, reservation.end_epoch_s)
            rows = [row for row, name in enumerate(order) if name in reservation.nodes]
            kept[rows, begin:end] = True
        free[index] -= np.array([_on_node(nodes[name], pool.kind) for name in order]) @ kept


def _span(room: Room, start_epoch_s: int, end_epoch_s: int | None) -> tuple[int, int]:
    """The slots that are taken by what runs from one time to another; None is for ever."""
    places = room.places
    begin = int(np.floor((start_epoch_s - places.start_epoch_s) / places.slot_s + TOUCHED))
    if end_epoch_s is None:
        return min(max(0, begin), places.slots + 1), places.slots + 1
    end = int(np.ceil((end_epoch_s - places.start_epoch_s) / places.slot_s - TOUCHED))
    return min(max(0, begin), places.slots + 1), min(max(0, end), places.slots + 1)


def _run(room: Room, queue: Queue, free: Floats) -> None:
    """Take what running jobs hold until their end. Those in a reservation run on nodes that are not counted anyhow."""
    needs: dict[tuple[Job, str], dict[int, float]] = {}
    for job in queue.jobs:
        if job.state in ("PENDING", "REVOKED") or job.reservation:
            continue
        asked = job_asks(job)._replace(array_tasks=1, array_waves=1)  # a running task is a record of its own
        key = asked._replace(time_limit_s=room.places.slot_s), job.partition.split(",")[0]
        if key not in needs:
            needs[key] = _there(room, room.needs(key[0], queue.cluster), queue.cluster, key[1])
        _, end = _span(room, room.now_epoch_s, job.end_epoch_s)
        for index, amount in needs[key].items():
            free[index, :end] -= amount


def _there(room: Room, needs: dict[int, float], cluster: str, partition: str) -> dict[int, float]:
    return {
        index: amount for index, amount in needs.items()
        if room.pools[index].cluster == cluster and partition in room.pools[index].partitions
    }  # fmt: skip


class _Line:
    """All waiting jobs in the order in which Slurm would start them."""

    def __init__(self, room: Room, free: Floats, standings: Sequence[Standing]) -> None:
        self.room, self.standings = room, standings
        pad = max((room.run_slots(run_s(standing.asked)) for standing in standings), default=1) + 1
        self.free = np.concatenate((free[:, :-1], np.full((len(free), pad), np.inf)), axis=1)
        self.cache: dict[tuple[Job, str], tuple[Ints, Floats]] = {}

    def takes(self, standing: Standing) -> tuple[Ints, Floats]:
        """The pools that a job draws on where it waits, and how much of each."""
        key = standing.asked, standing.here
        found = self.cache.get(key)
        if found is None:
            cluster, _, partition = standing.here.partition("/")
            needs = _there(self.room, self.room.needs(standing.asked, cluster), cluster, partition)
            index = np.array(list(needs), dtype=np.int64)
            found = self.cache[key] = index, np.array(list(needs.values()))
        return found

    def served(self, rules: Rules) -> tuple[Room, list[Standing]]:
        room, slots, standings = self.room, self.room.places.slots, list(self.standings)
        present = np.full(len(standings), slots, dtype=np.int64)
        where: list[tuple[Ints, Floats, int]] = [(np.zeros(0, np.int64), np.zeros(0), 1)] * len(standings)
        order = []
        for number, standing in enumerate(standings):
            job = standing.job
            pools, amounts = self.takes(standing)
            where[number] = pools, amounts, room.run_slots(run_s(standing.asked))
            if not _expected(job):
                continue
            first = room.slot(standing.start_epoch_s)
            if job.reason == "Resources" and len(pools):
                self._has_no_room(standing, pools, amounts)
            known = job.start_epoch_s and (job.eligible_epoch_s or 0) <= room.now_epoch_s
            if standing.stays and known and not waits_in_line(job):
                present[number] = min(first, slots)  # Slurm knows better what others wait for
                self._take(*where[number], first)
            else:
                order.append((first, -job.priority, job.submit_epoch_s, job.id, number))
        np.maximum(self.free, 0.0, out=self.free)
        ours = []
        for first, _, _, _, number in sorted(order):
            start = first_fit(self.free, *where[number], first, slots)
            job = standings[number].job
            waited_s = min(LONGEST_WAIT_S, room.now_epoch_s - (job.eligible_epoch_s or room.now_epoch_s))
            begins = standings[number].start_epoch_s
            if start == 0 and waited_s > rules.margin_s and not standings[number].stays:
                # Slurm would have started it: what is free is in pieces too small. It is expected to wait as long again
                begins = room.now_epoch_s + waited_s
                start = first_fit(self.free, *where[number], room.slot(begins), slots)
            if job.start_epoch_s and (job.eligible_epoch_s or 0) <= room.now_epoch_s:  # it will not be later than Slurm says
                start = min(start, max(first, room.slot(job.start_epoch_s)))
            present[number] = start
            if start < slots:
                self._take(*where[number], start)
            if start > first:
                begins = max(begins, room.time(start))
            standings[number] = standings[number]._replace(start_epoch_s=begins)
            if not standings[number].stays:
                if begins <= room.now_epoch_s + rules.margin_s:
                    standings[number] = standings[number]._replace(stays=ABOUT_TO_START)
                elif start < slots:
                    ours.append(number)
        for number in ours:
            pools, amounts, run = where[number]
            self.free[pools, present[number] : present[number] + run] += amounts[:, None]
        capacity = np.maximum(self.free[:, :slots], 0.0)
        places = room.places
        furnished = Places(
            places.start_epoch_s, places.slot_s, slots, places.locations, places.pue, places.intensity_g_per_kwh,
            places.beyond_g_per_kwh, places.pool_names, places.pool_resource, places.pool_members, capacity,
        )  # fmt: skip
        return Room(room.now_epoch_s, furnished, room.pools, present), standings

    def _take(self, pools: Ints, amounts: Floats, run: int, start: int) -> None:
        self.free[pools, start : start + run] -= amounts[:, None]

    def _has_no_room(self, standing: Standing, pools: Ints, amounts: Floats) -> None:
        """Slurm says so: what seems to be free is in pieces too small for this job until it is expected to start."""
        job = standing.job
        until = max(1, self.room.slot(job.start_epoch_s)) if job.start_epoch_s else 1
        scarce = GPUS if job.gpus else CORES
        for pool, amount in zip(pools.tolist(), amounts / max(1, standing.asked.array_tasks), strict=True):
            if self.room.pools[pool].kind == scarce:
                np.minimum(self.free[pool, :until], amount * (1 - LEAST), out=self.free[pool, :until])


def _expected(job: QueuedJob) -> bool:
    """Whether a waiting job will start at a time that is known, or can be worked out."""
    if job.is_held:
        return False
    waits_for_room = not job.dependency and (not job.reason or job.reason.startswith(FOR_ROOM))
    return bool(job.start_epoch_s) or waits_for_room


def first_fit(free: Floats, pools: Ints, amounts: Floats, run: int, first: int, slots: int) -> int:
    """The first slot from `first` on in which a run finds room; `slots` if there is none."""
    if first >= slots:
        return slots
    need = amounts[:, None] * (1 - FITS)
    if (free[pools, first : first + run] >= need).all():
        return first
    full = (free[pools, first : slots + run] < need).any(0)
    edges = np.append(np.insert(np.flatnonzero(full), 0, -1), full.size)
    wide = np.flatnonzero(np.diff(edges) > run)
    return min(slots, first + int(edges[wide[0]]) + 1) if len(wide) else slots
