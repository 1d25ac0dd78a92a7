"""What is read from and written into the comments of jobs that move to another cluster, how they stand, and what ties them."""

import re
from collections.abc import Iterable

from slurm_carbon import marks
from slurm_carbon.ledger.values import Transfer
from slurm_carbon.queued import QueuedJob

HELD_BY_USER = "JobHeldUser"
NEVER_RAN = ("CANCELLED", "DEADLINE", "REVOKED")
FEDERATED = 1 << 26  # job ids of a federation begin here


def mark_of(t: Transfer) -> str:
    """The id that stands in the comments. That of a move found again may differ from its own, if another user has it."""
    word = t.note.split(" ", 2)[1:2]
    return word[0][3:] if word and word[0].startswith("as=") else t.id


def is_marked(comment: str, mark_id: str) -> bool:
    """Whether a comment says that its job belongs to that move."""
    mark = marks.read(comment)[1]
    return mark is not None and mark.move == mark_id


def marked(comment: str, mark: marks.Mark, move_id: str) -> str | None:
    """A comment with the id of a move in its mark, or in the one given. None where there is no room for it."""
    text, old = marks.read(comment)
    wanted = (old or mark)._replace(move=move_id)
    joined = marks.append(text, wanted)
    return joined if joined is not None and is_marked(joined, move_id) else None


def cleaned(comment: str) -> str:
    """A comment without the id of a move; all else stays."""
    text, mark = marks.read(comment)
    if mark is None or not mark.move:
        return comment
    return marks.append(text, mark._replace(move="")) or text


def given_back(t: Transfer, comment: str) -> str:
    """What the source's comment was before, if its owner has not changed his text since; else his text as it is now."""
    text, mark = marks.read(comment)
    old_text, old_mark = marks.read(t.source_comment)
    if text == old_text:
        return t.source_comment
    return text if mark is None or old_mark is None else cleaned(comment)


def is_held_by_user(job: QueuedJob) -> bool:
    """Whether it waits and is held, but not by an administrator: its owner can release it."""
    return job.state == "PENDING" and job.reason == HELD_BY_USER


def is_loose(job: QueuedJob) -> bool:
    """Whether a copy runs, has run, or will without us."""
    if job.state == "PENDING":
        return not job.is_held
    return job.state not in NEVER_RAN


def is_over(job: QueuedJob) -> bool:
    """Whether it has ended and never ran."""
    return job.state in NEVER_RAN


def is_ours(t: Transfer, job: QueuedJob | None) -> bool:
    """Whether the source waits held and marked as we left it."""
    return (
        job is not None
        and is_held_by_user(job)
        and job.submit_epoch_s == t.submit_epoch_s
        and job.uid == t.uid
        and is_marked(job.comment, mark_of(t))
    )


def is_the_source(t: Transfer, job: QueuedJob | None) -> bool:
    """Whether it is still the same job: a requeue makes another one of it."""
    return job is not None and job.submit_epoch_s == t.submit_epoch_s and job.uid == t.uid


def entangled(job: QueuedJob, others: Iterable[QueuedJob]) -> str:
    """Why a job has to stay on its cluster, by what can change while it waits; empty if it need not."""
    if job.dependency:
        return "it depends on other jobs"
    if job.het_id:
        return "it is part of a heterogeneous job"
    if job.reservation:
        return "it has a reservation"
    if job.siblings or job.id >= FEDERATED:
        return "it is in a federation"
    if job.array_id and job.array_id != job.id:
        return "it is a part of an array"
    for other in others:
        if other.id == job.id:
            continue
        if job.array_id and other.array_id == job.array_id:
            return "some of its tasks are apart from it"
        if other.dependency and depends(other, job):
            return "other jobs depend on it"
    return ""


def depends(other: QueuedJob, job: QueuedJob) -> bool:
    """Whether a job waits for another one, by its number or by its name."""
    if "singleton" in other.dependency and other.uid == job.uid and other.name == job.name:
        return True
    return str(job.id) in re.findall(r"\d+", other.dependency)
