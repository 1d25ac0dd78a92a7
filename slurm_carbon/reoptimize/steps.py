"""What to do next about a move to another cluster, from what can be seen of it: pure, so that every order can be tried.

A move is a row of the ledger, written before anything is done, and two jobs, the source and its copy. In each state one
of the two can start, or none of them for the moment, never both:

    INTENDED    the source is marked with the id of the move, then held, as our own: it was not held before
    HELD        the source was seen held. Then the copy is asked for, once, to be submitted as held
    SUBMITTED   the copy was seen, or its number is known. After a while in which slurmctld could still forget it, and with
                both still as we left them, the source is cancelled
    CANCELLED   the source was seen cancelled: from here on the copy is the job. It is released, its mark taken out, and
                both are looked at once more later on: a slurmctld that was killed forgets what it did in its last seconds
    RELEASED    done
    UNDOING     something was not as expected, or too little time is left: the copy is cancelled, the source gets its
                comment back and is released, if the hold is ours
    UNDONE      done, and everything as it was

What a command answers is not counted on, and least of all one that took too long: it may be carried out minutes later.
So a copy that was asked for may turn up until `patience_s` afterwards, and a cancel that was sent may happen until then.
What its owner does meanwhile counts: if he cancels, changes or releases a job, it is left to him.

How far a state has come stands in the first word of the note, and stands there before it is done.
"""

from collections.abc import Iterable

from slurm_carbon import marks
from slurm_carbon.ledger.values import CANCELLED, HELD, INTENDED, RELEASED, SUBMITTED, UNDOING, UNDONE, Transfer
from slurm_carbon.queued import QueuedJob
from slurm_carbon.reoptimize.signs import (
    NEVER_RAN,
    cleaned,
    given_back,
    is_held_by_user,
    is_loose,
    is_marked,
    is_ours,
    is_over,
    is_the_source,
    mark_of,
    marked,
)
from slurm_carbon.reoptimize.stage import (
    CANCEL_COPY,
    CANCEL_SOURCE,
    CANCELLING,
    CLEAN_COPY,
    CLEAN_SOURCE,
    FREED,
    HOLD,
    HOLDING,
    MARK,
    NONE,
    OURS,
    RELEASE_COPY,
    RELEASE_SOURCE,
    RELEASING,
    SUBMIT,
    TRIES,
    UNSURE,
    Effect,
    Run,
    Sight,
    Step,
    Times,
    phase,
)  # fmt: skip

_HELD_BY_ADMIN = "JobHeldAdmin"
_ALIVE = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING")
_WAITS = ("PENDING", "REQUEUED")


def step(t: Transfer, sight: Sight, now: int, times: Times, run: Run) -> Step:
    """The next step. The same transfer without effects: nothing can be done at this moment."""
    made = _STEPS[t.state](t, sight, now, times, run)
    if made.transfer != t or made.effects:
        return made._replace(transfer=made.transfer._replace(changed_epoch_s=now))
    return made


# parts of the states


def _note(t: Transfer, word: str, text: str = "") -> str:
    kept = f"as={mark_of(t)}" if mark_of(t) != t.id else ""
    return " ".join(part for part in (word, kept, text) if part)


def _reason(t: Transfer) -> str:
    words = t.note.split(" ")[1:]
    return " ".join(words[1:] if words and words[0].startswith("as=") else words)


def _to(t: Transfer, state: str, word: str = NONE, text: str | None = None, *effects: Effect, **changes: int) -> Step:
    note = _note(t, word, _reason(t) if text is None else text)
    return Step(t._replace(state=state, note=note)._replace(**changes), effects)  # type: ignore[arg-type]


def _undo(t: Transfer, why: str) -> Step:
    """Give it up; whose hold it is must be known afterwards too."""
    word = OURS
    if t.state == INTENDED:  # it was not seen held
        word = UNSURE if phase(t) == HOLDING else NONE
    return _to(t, UNDOING, word, why)


def _source(t: Transfer, kind: str, text: str = "") -> Effect:
    return Effect(kind, t.cluster, t.job_id, text)


def _is_late(t: Transfer, now: int, times: Times) -> bool:
    return now + times.margin_s > t.latest_epoch_s


def _changed(t: Transfer, sight: Sight) -> str:
    """What is in the way of moving the source; empty if nothing is."""
    job = sight.source
    if job is None:
        return "it is gone"
    if job.state != "PENDING":
        return f"it is {job.state.lower()} now"
    if job.submit_epoch_s != t.submit_epoch_s or job.restarts or job.uid != t.uid:
        return "it was put back into the queue meanwhile"
    if job.reason == _HELD_BY_ADMIN:
        return "an administrator holds it"
    return sight.entangled


def _changed_since_held(t: Transfer, sight: Sight) -> str:
    """The same, of a source that we hold."""
    why = _changed(t, sight)
    if why or sight.source is None:
        return why
    if not is_held_by_user(sight.source):
        return "its owner has released it"
    return "" if is_marked(sight.source.comment, mark_of(t)) else "its owner has changed its comment"


def _as_copy(job: QueuedJob) -> dict[str, int]:
    """By what the copy is known from now on, whatever becomes of its comment."""
    return {"target_id": job.id, "target_submit_epoch_s": job.submit_epoch_s}


def _has_settled(t: Transfer, clean: str, now: int, times: Times, run: Run) -> bool:
    """Whether a release is not forgotten any more, or would leave a mark: else only our word is left."""
    return clean in run.tried or now >= t.changed_epoch_s + times.settle_s


def _chosen(t: Transfer, copies: Iterable[QueuedJob]) -> QueuedJob | None:
    """The copy that counts: the one whose number is known, else one that runs, else the first."""

    def rank(job: QueuedJob) -> tuple[bool, bool, bool, int, int]:
        return job.id != t.target_id, not is_loose(job), is_over(job), job.submit_epoch_s, job.id

    return min(copies, key=rank, default=None)


def _is_unwanted(t: Transfer, job: QueuedJob) -> bool:
    """Whether a job that says that it is a copy may be cancelled. A true one is held, or was released by us."""
    return is_held_by_user(job) or (job.state == "PENDING" and job.id == t.target_id and not job.is_held)


def _cancels(t: Transfer, copies: Iterable[QueuedJob], run: Run) -> tuple[Effect, ...]:
    """Cancel copies that wait, unless that was tried."""
    return tuple(
        Effect(CANCEL_COPY, job.cluster, job.id)
        for job in copies
        if _is_unwanted(t, job) and run.tried.count(f"{CANCEL_COPY} {job.cluster} {job.id}") < TRIES
    )


def _may(run: Run, kind: str) -> bool:
    return run.tried.count(kind) < TRIES


# the states


def _intended(t: Transfer, sight: Sight, now: int, times: Times, run: Run) -> Step:
    job = sight.source
    if not run.fresh:
        return _undo(t, "an earlier run ended before the job was held")
    if not sight.source_answers:
        return _undo(t, "its cluster does not answer")
    why = _changed(t, sight)
    if why or job is None:
        return _undo(t, why)
    if _is_late(t, now, times):
        return _undo(t, "too little time is left")
    is_ours = is_marked(job.comment, mark_of(t))
    if phase(t) == HOLDING:
        if job.is_held and is_ours:
            return _to(t, HELD)
        if not is_ours or HOLD in run.tried:
            return _undo(t, "it could not be held")
        return _to(t, INTENDED, HOLDING, None, _source(t, HOLD))
    if job.is_held:
        return _undo(t, "its owner holds it")
    if is_ours:
        return _to(t, INTENDED, HOLDING, None, _source(t, HOLD))
    if MARK in run.tried:
        return _undo(t, "it could not be marked")
    if job.comment != t.source_comment:
        return _undo(t, "its comment has changed meanwhile")
    mark = marks.read(t.comment)[1]
    wanted = marked(job.comment, mark, mark_of(t)) if mark else None
    if wanted is None:
        return _undo(t, "its comment has no room for a mark")
    return _to(t, INTENDED, NONE, None, _source(t, MARK, wanted))


def _held(t: Transfer, sight: Sight, now: int, times: Times, run: Run) -> Step:
    found = _chosen(t, sight.copies)
    if t.asked_epoch_s and found is not None:
        return _to(t, SUBMITTED, NONE, None, **_as_copy(found))
    if _is_late(t, now, times):
        return _undo(t, "too little time is left")
    if sight.source_answers and (why := _changed_since_held(t, sight)):
        return _undo(t, why)
    if not t.asked_epoch_s:
        if not run.fresh:
            return _undo(t, "an earlier run ended before the copy was asked for")
        if not sight.source_answers:
            return _undo(t, "its cluster does not answer")
        if not sight.target_answers:
            return _undo(t, "the other cluster does not answer")
        return _to(t, HELD, NONE, None, Effect(SUBMIT), asked_epoch_s=now)
    waited_s = now - t.asked_epoch_s
    if waited_s < times.patience_s:
        return Step(t)
    if sight.target_answers and (sight.copies_accounted or waited_s >= times.give_up_s):
        return _undo(t, "the other cluster did not take it")
    if not sight.target_answers:
        return _undo(t, "the other cluster does not answer any more")
    return Step(t)


def _submitted(t: Transfer, sight: Sight, now: int, times: Times, run: Run) -> Step:
    copy = _chosen(t, sight.copies)
    if copy is not None and not t.target_submit_epoch_s:
        return _to(t, t.state, phase(t), None, **_as_copy(copy))
    if phase(t) == CANCELLING:
        return _cancelling(t, sight, copy, now, times, run)
    if sight.target_answers and (copy is None or is_over(copy)):
        return _undo(t, "its copy was cancelled")
    if sight.source_answers and (why := _changed_since_held(t, sight)):
        return _undo(t, why)
    if _is_late(t, now, times) and not (copy is not None and is_loose(copy)):
        return _undo(t, "too little time is left")
    if not sight.source_answers or not sight.target_answers or copy is None:
        return Step(t)
    others = _cancels(t, (job for job in sight.copies if job is not copy), run)
    if now < t.changed_epoch_s + times.settle_s:
        return Step(t, others, t.changed_epoch_s + times.settle_s)
    return _to(t, SUBMITTED, CANCELLING, None, _source(t, CANCEL_SOURCE), *others)


def _cancelling(t: Transfer, sight: Sight, copy: QueuedJob | None, now: int, times: Times, run: Run) -> Step:
    """The cancel may have been sent: the copy must live until it is known that the source does."""
    job = sight.source
    late = _is_late(t, now, times)
    if not sight.source_answers:
        # held for good since it settled, or cancelled: either way it does not start by itself
        return _to(t, CANCELLED) if late else Step(t)
    waited_s = now - t.changed_epoch_s
    if job is None:
        if sight.source_end not in ("", *_WAITS):
            return _ended(t, sight, run, sight.source_end)
        if not sight.source_accounted and waited_s < times.give_up_s and not late:
            return Step(t)
        return _to(t, CANCELLED)
    if job.state != "PENDING":
        return _ended(t, sight, run, job.state)
    if not sight.target_answers:
        return Step(t)
    gone = "its copy was cancelled, or lost" if copy is None or is_over(copy) else ""
    if _may(run, CANCEL_SOURCE) and not gone and not _changed_since_held(t, sight):
        return _to(t, SUBMITTED, CANCELLING, None, _source(t, CANCEL_SOURCE))
    sent = CANCEL_SOURCE in run.tried and CANCEL_SOURCE not in run.unanswered
    if not sent and waited_s < times.patience_s:
        return Step(t)  # it may still happen
    if copy is not None and is_loose(copy) and is_ours(t, job):
        return Step(t)  # its owner has released the copy, and we may not cancel the source: a later run may
    return _undo(t, gone or _changed_since_held(t, sight) or "it could not be cancelled")


def _ended(t: Transfer, sight: Sight, run: Run, state: str) -> Step:
    """The source has ended or runs, after the cancel was sent."""
    if state not in NEVER_RAN:
        return _undo(t, f"it is {state.lower()} now")
    by = sight.source_cancelled_by
    if by is not None and by == t.uid != run.us and CANCEL_SOURCE not in run.tried:
        return _undo(t, "its owner has cancelled it")
    return _to(t, CANCELLED)


def _cancelled(t: Transfer, sight: Sight, now: int, times: Times, run: Run) -> Step:
    copy, job, word = _chosen(t, sight.copies), sight.source, phase(t)
    if copy is not None and not t.target_submit_epoch_s:
        return _to(t, t.state, phase(t), None, **_as_copy(copy))
    effects: list[Effect] = []
    if sight.source_answers and is_the_source(t, job):
        if is_ours(t, job):
            if _may(run, CANCEL_SOURCE):
                effects.append(_source(t, CANCEL_SOURCE))
        elif job is not None and job.state in _ALIVE and copy is not None and copy.state == "PENDING":
            return _undo(t, f"it is {job.state.lower()} again")
    has_mark = copy is not None and is_marked(copy.comment, mark_of(t))
    waits = copy is not None and is_held_by_user(copy) and (word != FREED or has_mark)
    if sight.target_answers and copy is not None:
        effects += _cancels(t, (other for other in sight.copies if other is not copy), run)
        if waits:
            if _may(run, RELEASE_COPY):
                word = RELEASING
                effects.append(Effect(RELEASE_COPY, copy.cluster, copy.id))
        elif not has_mark or copy.state not in _ALIVE:
            settled = _has_settled(t, CLEAN_COPY, now, times, run)
            if word == RELEASING and copy.state == "PENDING" and not effects and not settled:
                return Step(t, (), t.changed_epoch_s + times.settle_s)
            word = FREED  # only now: if slurmctld forgets the release, it forgets that the mark was taken out
        elif _may(run, CLEAN_COPY):
            effects.append(Effect(CLEAN_COPY, copy.cluster, copy.id, cleaned(copy.comment)))
    if effects or word != phase(t):
        return _to(t, CANCELLED, word, None, *effects)
    quiet_s = now - t.changed_epoch_s
    over = sight.source_answers and sight.target_answers and not is_ours(t, job) and not waits
    if (over and quiet_s >= times.watch_s) or quiet_s >= times.forget_s:
        return _to(t, RELEASED, word, None if copy is not None else "the copy is gone")
    return Step(t)


def _undoing(t: Transfer, sight: Sight, now: int, times: Times, run: Run) -> Step:
    job, word = sight.source, phase(t)
    is_source = sight.source_answers and is_the_source(t, job)
    has_mark = is_source and job is not None and is_marked(job.comment, mark_of(t))
    waits = is_source and job is not None and _is_held_by_us(t, job, has_mark)
    loose = next((copy for copy in sight.copies if is_loose(copy)), None)
    if loose is not None and sight.source_answers:
        went = _to(t, SUBMITTED, CANCELLING, "its owner has released the copy", **_as_copy(loose))
        if loose.cluster != t.to_location.partition("/")[0]:
            went = Step(went.transfer._replace(to_location=f"{loose.cluster}/{loose.partition}"))
        if waits and has_mark and word == OURS and not sight.entangled:
            return went._replace(effects=(_source(t, CANCEL_SOURCE),))
        if job is None or is_over(job):
            return went  # the other one is gone
    pending = [copy for copy in sight.copies if _is_unwanted(t, copy)]
    if pending and sight.source_answers and job is None:
        if not sight.source_accounted and now - t.changed_epoch_s < times.give_up_s:
            return Step(t)
        if sight.source_end in _WAITS:  # nobody ended it: slurmctld has lost it, and the copy is all that is left
            return _to(t, CANCELLED, NONE, "the source was lost", **_as_copy(pending[0]))
    effects = list(_cancels(t, pending, run))
    waited_s = now - t.asked_epoch_s
    known = t.target_id > 0 or bool(sight.copies)  # a copy is asked for once
    none_left = not t.asked_epoch_s or (sight.target_answers and not pending and (known or waited_s >= times.patience_s))
    # a copy that may turn up later is held, and cancelled when it does
    if t.to_location:
        may_start = none_left or _is_late(t, now, times) or (not sight.target_answers and waited_s >= times.patience_s)
    else:  # found again: which of the jobs was the source is not known, and all have to be seen
        may_start = none_left or (sight.target_answers and not pending and _is_late(t, now, times))
    if waits:
        word = OURS if word == UNSURE else word
        if may_start and _may(run, RELEASE_SOURCE):
            effects.append(_source(t, RELEASE_SOURCE))
    elif is_source and job is not None and job.state in _ALIVE and not _may_be_held_yet(t, word, now, times, run):
        if word == OURS and not has_mark and not _has_settled(t, CLEAN_SOURCE, now, times, run):
            return Step(t, tuple(effects), t.changed_epoch_s + times.settle_s)
        if word == UNSURE or (word == OURS and not has_mark):
            word = FREED
        if has_mark and _may(run, CLEAN_SOURCE):
            effects.append(_source(t, CLEAN_SOURCE, given_back(t, job.comment)))
    if effects or word != phase(t):
        return _to(t, UNDOING, word, None, *effects)
    quiet_s = now - t.changed_epoch_s
    restored = sight.source_answers and not waits and not (has_mark and job is not None and job.state == "PENDING")
    restored &= word != UNSURE or quiet_s >= times.patience_s or not is_source
    watched = not t.asked_epoch_s or quiet_s >= times.watch_s
    if (restored and none_left and watched) or quiet_s >= times.forget_s:
        return _to(t, UNDONE, word)
    return Step(t)


def _is_held_by_us(t: Transfer, job: QueuedJob, has_mark: bool) -> bool:
    """Whether the source is held, and by us. One that runs is held as well, if we came too late: for when it is requeued."""
    held = is_held_by_user(job) or (job.state in ("RUNNING", "SUSPENDED") and job.priority == 0)
    word = phase(t)
    return held and (word in (OURS, UNSURE) or (word == FREED and has_mark))


def _may_be_held_yet(t: Transfer, word: str, now: int, times: Times, run: Run) -> bool:
    """Whether a hold that was sent and not seen may still happen: then the job is watched a little longer."""
    answered = HOLD in run.tried and HOLD not in run.unanswered
    return word == UNSURE and not answered and now - t.changed_epoch_s < times.patience_s


_STEPS = {INTENDED: _intended, HELD: _held, SUBMITTED: _submitted, CANCELLED: _cancelled, UNDOING: _undoing}
