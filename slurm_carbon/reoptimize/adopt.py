"""Moves that marks speak of and the ledger does not know: it was lost, or slurmctld has forgotten what was done."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable

from slurm_carbon import marks
from slurm_carbon.ledger.values import CANCELLED, OPEN, RELEASED, UNDOING, UNDONE, Transfer
from slurm_carbon.queued import Queue, QueuedJob
from slurm_carbon.reoptimize import faults, signs
from slurm_carbon.reoptimize.stage import NONE, OURS, RELEASING
from slurm_carbon.reoptimize.transfer import Means

ADOPTED_PER_RUN = 50


def adopt(queues: Iterable[Queue], means: Means, now_epoch_s: int, most: int = ADOPTED_PER_RUN) -> list[Transfer]:
    """Write them down, so that they can be driven to their end.

    A mark can be forged: so a group of jobs is of one user, and what comes of it happens to his own jobs only. They are
    undone: one job of each group is released, if its owner could release it, and held others are cancelled. Nothing is
    done before all clusters can be seen.
    """
    every = list(queues)
    if {queue.cluster for queue in every} < set(means.sites):
        return []
    groups: dict[tuple[int, str], list[QueuedJob]] = defaultdict(list)
    for queue in every:
        for job in queue.jobs:
            mark = marks.read(job.comment)[1] if " mv=" in job.comment else None
            if mark is not None and mark.move and job.state in ("PENDING", "RUNNING", "SUSPENDED"):
                groups[job.uid, mark.move].append(job)
    turns: dict[int, int] = defaultdict(int)
    ranked = []
    for (uid, move_id), jobs in sorted(groups.items()):
        ranked.append((turns[uid], uid, move_id, jobs))
        turns[uid] += 1
    ranked.sort(key=lambda item: item[:2])
    adopted: list[Transfer] = []
    for _, uid, move_id, jobs in ranked:
        if len(adopted) >= most:
            break
        adopted += _adopted(uid, move_id, jobs, means, now_epoch_s)
    for t in adopted:
        with faults.around("adopt"):
            means.books.put_transfer(t)
    return adopted


def _adopted(uid: int, move_id: str, jobs: list[QueuedJob], means: Means, now: int) -> list[Transfer]:
    move_id_here, known = _of_user(move_id, uid, means)
    if known is not None and known.state in OPEN:
        return []
    held = sorted((job for job in jobs if job.state == "PENDING" and job.reason == "JobHeldUser"), key=_age)
    if known is not None and known.state in (RELEASED, UNDONE) and any(_belongs(known, job) for job in held):
        state, word = (CANCELLED, RELEASING) if known.state == RELEASED else (UNDOING, OURS)
        return [known._replace(state=state, note=_note(word, known, move_id, "found again"), changed_epoch_s=now)]
    if held and known is None:
        return [_again(move_id_here, move_id, held[0], OURS, now, asked=now)]
    # nobody is kept waiting: only the mark is to go
    found = []
    for job in jobs:
        own_id = hashlib.sha256(f"{move_id} {uid} {job.cluster} {job.id}".encode()).hexdigest()[:16]
        own_id, clean = _of_user(own_id, uid, means)
        if clean is None or clean.state not in OPEN:
            found.append(_again(own_id, move_id, job, NONE, now, asked=0))
    return found


def _of_user(id_: str, uid: int, means: Means) -> tuple[str, Transfer | None]:
    """The move of a user's with this id, or with one that follows from it: others can have forged marks with any of them."""
    while (known := means.books.transfer(id_)) is not None and known.uid != uid:
        id_ = hashlib.sha256(f"{id_} {uid}".encode()).hexdigest()[:16]
    return id_, known


def _age(job: QueuedJob) -> tuple[int, str, int]:
    return job.submit_epoch_s, job.cluster, job.id


def _belongs(t: Transfer, job: QueuedJob) -> bool:
    """Whether a job is the source or the copy of a move that was over."""
    number = job.array_id or job.id
    if job.cluster == t.cluster and number == t.job_id:
        return job.submit_epoch_s == t.submit_epoch_s
    if not t.to_location:
        return True
    return job.cluster == t.to_location.partition("/")[0] and (number == t.target_id or not t.target_id)


def _again(id_: str, move_id: str, job: QueuedJob, word: str, now: int, asked: int) -> Transfer:
    mark = marks.read(job.comment)[1]
    return Transfer(
        id_, job.cluster, job.array_id or job.id, job.submit_epoch_s, job.user, job.uid, "", "", now,
        mark.latest_epoch_s if mark else now, "", signs.cleaned(job.comment), UNDOING, now, now, asked,
        note=_note(word, None, move_id, "found again", id_),
    )  # fmt: skip


def _note(word: str, known: Transfer | None, move_id: str, text: str, id_: str = "") -> str:
    own = known.id if known is not None else id_
    return f"{word} as={move_id} {text}" if own != move_id else f"{word} {text}"
