"""What became of the jobs in the ledger: who has started, who has ended and how, what that took."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from slurm_carbon.ledger.values import MOVED, Entry
from slurm_carbon.queued import Queue
from slurm_carbon.slurm.accounting import Outcome
from slurm_carbon.units import DAY_S

LOST_S = 30 * DAY_S  # what neither slurmctld nor the accounting has known for so long is given up
LOST = "UNKNOWN"
LATE_S = 60  # how much after its latest start a job is late: slurmctld needs some time, too


class Remembered(NamedTuple):
    """What the ledger has to change."""

    changed: tuple[Entry, ...]
    to_ask: Mapping[str, tuple[int, ...]]  # cluster: numbers of jobs that have left its queue


def in_queues(unsettled: Iterable[Entry], queues: Sequence[Queue]) -> Remembered:
    """Entries of jobs that have started since, and which jobs the accounting has to be asked about."""
    started: dict[tuple[str, int], int | None] = {}
    answering = {queue.cluster for queue in queues}
    for queue in queues:
        for job in queue.jobs:
            key = job.cluster, job.array_id or job.id
            begun = job.start_epoch_s if job.state != "PENDING" else None
            known = started.get(key)
            started[key] = begun if known is None else known if begun is None else min(known, begun)
    changed, gone = [], defaultdict(list)
    for entry in unsettled:
        key = entry.cluster, entry.job_id
        if key in started:
            if started[key] != entry.started_epoch_s:  # of one that was requeued, none again
                changed.append(_started(entry, started[key]))
        elif entry.cluster in answering and entry.job_id:
            gone[entry.cluster].append(entry.job_id)
    return Remembered(tuple(changed), {cluster: tuple(sorted(ids)) for cluster, ids in gone.items()})


def ended(
    unsettled: Iterable[Entry],
    outcomes: Mapping[str, Mapping[int, Outcome]],
    asked: Mapping[str, Iterable[int]],
    now_epoch_s: int,
) -> tuple[Entry, ...]:
    """Entries of jobs that the accounting has seen end. `outcomes` and `asked` by cluster and number."""
    changed = []
    wanted = {(cluster, number) for cluster, numbers in asked.items() for number in numbers}
    for entry in unsettled:
        if (entry.cluster, entry.job_id) not in wanted:
            continue
        outcome = outcomes.get(entry.cluster, {}).get(entry.job_id)
        if outcome is not None and outcome.state == "REVOKED":  # another cluster of the federation runs it
            changed.append(entry._replace(ended_epoch_s=now_epoch_s, state=MOVED))
        elif outcome is not None and outcome.end_epoch_s is not None:
            changed.append(
                _started(entry, outcome.start_epoch_s)._replace(
                    ended_epoch_s=outcome.end_epoch_s, state=outcome.state,
                    used_kwh=None if outcome.energy_j is None else outcome.energy_j / 3.6e6,
                )
            )  # fmt: skip
        elif entry.cluster in outcomes and now_epoch_s - max(entry.begin_epoch_s, entry.started_epoch_s or 0) > LOST_S:
            changed.append(entry._replace(ended_epoch_s=now_epoch_s, state=LOST))
    return tuple(changed)


def _started(entry: Entry, begun_epoch_s: int | None) -> Entry:
    """The entry of a job that has started, or not after all. One that was due to start until the last moment is late, too."""
    late = begun_epoch_s is not None and begun_epoch_s > entry.latest_epoch_s + LATE_S
    return entry._replace(started_epoch_s=begun_epoch_s, late=entry.late or late)
