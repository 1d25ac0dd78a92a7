"""What is to be changed about one waiting job: the value between those who decide and those who carry it out."""

from typing import NamedTuple

from slurm_carbon.ledger.values import Entry
from slurm_carbon.queued import QueuedJob

HERE, FEDERATION, TRANSFER = "here", "federation", "transfer"


class Move(NamedTuple):
    """A job, or some tasks of an array, and where and when it is to start instead. Masses in g CO2e."""

    job: QueuedJob  # as it was when the queue was read: if it has changed since, it is left alone
    tasks: str  # of an array, which of this record: 3,5-7; empty: the whole record
    from_location: str  # CLUSTER/PARTITION
    from_epoch_s: int  # when it would start as things stand
    to_location: str
    to_epoch_s: int  # from when on it may start; now or earlier: at once
    latest_epoch_s: int
    entry: Entry  # what the ledger shall know once the move is done
    saved_g: float  # expected, against the present plan
    reason: str  # for its owner: why it is moved
    planned_epoch_s: int  # when there is room for it by the plan

    @property
    def way(self) -> str:
        """How it is done: within its cluster, by its federation, or by submitting it anew on another cluster."""
        if self.to_location.partition("/")[0] == self.job.cluster:
            return HERE
        return FEDERATION if self.job.siblings else TRANSFER

    @property
    def to_partition(self) -> str:
        """The partition, where it has to be changed; else empty."""
        partition = self.to_location.partition("/")[2]
        return "" if self.way == HERE and partition == self.job.partition else partition
