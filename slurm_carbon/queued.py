"""What a cluster's controller says waits and runs at this moment, and what there is to run it on: all frozen.

Whoever reads it (squeue by columns, squeue by JSON, pyslurm) gives these values, and whoever decides sees only these.
"""

from typing import NamedTuple


class QueuedJob(NamedTuple):
    """One record of slurmctld: a job, or those tasks of an array that stand together. Amounts are per task of an array.

    Everything that its owner can write (name, comment, features, dependency, ...) is data, checked before use.
    """

    cluster: str
    id: int  # the number of this record; of an array that was never split, that of the array
    user: str
    uid: int
    state: str  # PENDING, RUNNING, SUSPENDED, COMPLETING, ...
    partition: str  # may be a list while it waits: a,b
    submit_epoch_s: int
    reason: str = ""  # why it waits, as Slurm calls it: BeginTime, Priority, JobHeldUser, ...
    name: str = ""
    account: str = ""
    qos: str = ""
    eligible_epoch_s: int | None = None  # its begin time, if that is or was set; else about when it was submitted
    start_epoch_s: int | None = None  # when it started; of a waiting one Slurm's guess, if there is one
    end_epoch_s: int | None = None  # when its time limit ends it, if it runs
    time_limit_s: int | None = None  # None: unlimited
    priority: int = 1  # 0: held
    array_id: int = 0  # of the array that it is, or was split off; 0: no array
    array_tasks: str = ""  # which tasks stand in this record: 0-9, or 3,5-7; without the throttle
    task_count: int = 1
    throttle: int = 0  # how many tasks may run at a time: --array=...%N; 0: all
    het_id: int = 0  # of the heterogeneous job that it is a component of
    dependency: str = ""
    nodes: int = 1
    max_nodes: int | None = None
    cpus: int = 1  # over all nodes
    gpus: int = 0  # over all nodes
    gpu_type: str = ""
    gres_per_node: tuple[tuple[str, int], ...] = ()
    memory_mb_per_node: float | None = None
    memory_mb_per_cpu: float | None = None
    exclusive: bool = False
    features: str = ""  # as Slurm prints them: a&b, [a|b], ...
    licenses: str = ""
    reservation: str = ""
    wanted_nodes: str = ""  # --nodelist
    unwanted_nodes: str = ""  # --exclude
    restarts: int = 0  # how often it was requeued
    is_batch: bool = True
    siblings: tuple[str, ...] = ()  # clusters of a federation that have a copy of it
    deadline_epoch_s: int | None = None
    comment: str = ""
    admin_comment: str = ""

    @property
    def number(self) -> str:
        """What scontrol takes to change just this record, and no other tasks of its array: 12, or 12_[3-5,7]."""
        return f"{self.array_id}_[{self.array_tasks}]" if self.array_id and self.array_tasks else str(self.id)

    @property
    def is_held(self) -> bool:
        """Whether somebody holds it."""
        return self.priority == 0 or self.reason in ("JobHeldUser", "JobHeldAdmin")


class Node(NamedTuple):
    """A node as it is now. What is out of service has no partition that counts."""

    name: str
    cpus: int
    memory_mb: int
    gpus: int = 0
    gpu_type: str = ""
    partitions: tuple[str, ...] = ()
    in_service: bool = True


class Reservation(NamedTuple):
    """Nodes that are kept for somebody for a time, so that others' jobs cannot use them."""

    name: str
    start_epoch_s: int
    end_epoch_s: int
    nodes: frozenset[str]


class Queue(NamedTuple):
    """All of one cluster, read at one time."""

    cluster: str
    version: str  # of its Slurm: 22.05.8
    read_epoch_s: int
    jobs: tuple[QueuedJob, ...]
    nodes: tuple[Node, ...]
    reservations: tuple[Reservation, ...] = ()
