"""Carries moves to other clusters from state to state: what steps.py says is written into the ledger first, then done.

Every run finishes or undoes what earlier runs have left. A cluster that does not answer is left alone for the rest of the
run, so that a run takes a bounded time whatever is down.
"""

import os
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from slurm_carbon import marks
from slurm_carbon.errors import CommandError, LedgerError
from slurm_carbon.ledger.values import (
    INTENDED,
    MOVED,
    OPEN,
    RELEASED,
    SUBMITTED,
    UNDOING,
    Entry,
    Transfer,
)
from slurm_carbon.owner import Answer
from slurm_carbon.queued import QueuedJob
from slurm_carbon.reoptimize import faults, signs, steps
from slurm_carbon.reoptimize.move import Move
from slurm_carbon.reoptimize.sight import Eyes
from slurm_carbon.reoptimize.stage import (
    CANCEL_COPY,
    CANCEL_SOURCE,
    CLEAN_COPY,
    CLEAN_SOURCE,
    HOLD,
    MARK,
    NONE,
    OURS,
    RELEASE_COPY,
    RELEASE_SOURCE,
    SUBMIT,
    Effect,
    Run,
    Times,
    phase,
)
from slurm_carbon.slurm import moves as commands
from slurm_carbon.slurm.command import Command, Runner
from slurm_carbon.slurm.moves import Site

PASSES = 16  # a move that goes well takes eight
USER_S = 120.0  # that submissions of one user may take in one run: his record can make them slow
UNHEARD_USERS = 3  # as many as this, and it is the cluster that does not answer
LATE_S = 3600  # for so long a job that is late anyhow may be on its way
_ORDER = (CANCEL_COPY, CANCEL_SOURCE, MARK, HOLD, SUBMIT, RELEASE_COPY, RELEASE_SOURCE, CLEAN_COPY, CLEAN_SOURCE)
_IN_BULK: Mapping[str, Callable[[Site, Iterable[str]], list[Command]]] = {
    CANCEL_COPY: commands.cancel,
    CANCEL_SOURCE: commands.cancel,
    HOLD: commands.hold,
    RELEASE_COPY: commands.release,
    RELEASE_SOURCE: commands.release,
}


class Books(Protocol):
    """What of the ledger is needed here. All raise LedgerError; what returns is on the disk."""

    def put_transfer(self, transfer: Transfer) -> None: ...  # noqa: D102
    def put_transfers(self, transfers: Iterable[Transfer]) -> None: ...  # noqa: D102
    def transfer(self, id_: str) -> Transfer | None: ...  # noqa: D102
    def entries(self, cluster: str, job_ids: Iterable[int]) -> dict[int, Entry]: ...  # noqa: D102
    def put_entries(self, entries: Iterable[Entry]) -> None: ...  # noqa: D102


class Means(NamedTuple):
    """What moves are carried out with."""

    runner: Runner
    sites: Mapping[str, Site]  # every cluster, by its name
    books: Books
    submit: Callable[[Transfer], Answer]  # have the owner submit the copy, held. Raises CommandError if it takes too long
    times: Times = Times()
    clock: Callable[[], float] = time.time  # epoch seconds
    sleep: Callable[[float], None] = time.sleep
    us: int = os.geteuid()


# beginning


def intend(move: Move, job: QueuedJob, now_epoch_s: int) -> Transfer | str:
    """A move to another cluster as it begins, of a job as it is now; or why it cannot be."""
    text, old = marks.read(job.comment)
    if old is not None and old.move:
        return "it is being moved already"
    if not marks.is_id(move.entry.mark_id):
        return "no record of its submission is kept"
    if move.tasks:
        return "some tasks of an array stay where the others are"
    move_id = secrets.token_hex(8)
    begin = max(move.to_epoch_s, now_epoch_s)
    entry = move.entry
    mark = marks.Mark(
        begin, move.latest_epoch_s, move.to_location, max(0.0, entry.planned_g),
        old.baseline_g if old is not None else max(0.0, entry.baseline_g),  # what the owner was told
        max(0.0, entry.energy_kwh), entry.mark_id, entry.locations, move_id,
    )  # fmt: skip
    comment = marks.append(text, mark)
    if comment is None or not signs.is_marked(comment, move_id) or signs.marked(job.comment, mark, move_id) is None:
        return "its comment has no room for a mark"
    # who would be late here is not given back because it is late: it can only win
    latest = move.latest_epoch_s if move.from_epoch_s <= move.latest_epoch_s else max(move.latest_epoch_s, now_epoch_s + LATE_S)
    return Transfer(
        move_id, job.cluster, job.id, job.submit_epoch_s, job.user, job.uid, entry.mark_id, move.to_location, begin,
        latest, comment, job.comment, INTENDED, now_epoch_s, now_epoch_s, note=NONE,
    )  # fmt: skip


def unmoved(move: Move) -> Entry:
    """What the ledger has to know of a job that stays, or starts out, where it is, if it has no entry yet."""
    job = move.job
    return move.entry._replace(
        cluster=job.cluster, job_id=job.array_id or job.id, submit_epoch_s=job.submit_epoch_s, location=move.from_location,
        begin_epoch_s=job.eligible_epoch_s or job.submit_epoch_s, moves=max(0, move.entry.moves - 1), moved_epoch_s=0,
        follows="",
    )  # fmt: skip


# carrying on


def drive(transfers: Iterable[Transfer], means: Means, fresh: frozenset[str] = frozenset()) -> list[Transfer]:
    """Bring moves as far as they can come in this run; `fresh` are those begun in it. Returns them as they are then.

    A move that the ledger does not take any more is left as it is: nothing is done that is not written down first.
    """
    return _Drive(transfers, means, fresh).go()


class _Drive:
    def __init__(self, transfers: Iterable[Transfer], means: Means, fresh: frozenset[str]) -> None:
        self.means = means
        self.now = {t.id: t for t in transfers if t.state in OPEN}
        self.runs = {id_: Run(id_ in fresh, means.us) for id_ in self.now}
        self.eyes = Eyes(means.runner, means.sites, means.times)
        self.unheard: set[tuple[str, str]] = set()  # users and clusters where a submission was not answered
        self.took_s: dict[str, float] = defaultdict(float)  # submissions of each user, in all

    def go(self) -> list[Transfer]:
        active = set(self.now)
        waiting: dict[str, int] = {}
        has_waited = False
        for _ in range(PASSES):
            if not active:
                if has_waited or not waiting:
                    break
                has_waited = True
                self._wait_until(max(waiting.values()))
                active, waiting = set(waiting), {}
            done = self._one_pass(active)
            waiting |= {id_: until for id_, (_, until) in done.items() if until}
            active = {id_ for id_, (has_moved, until) in done.items() if has_moved and not until}
        return list(self.now.values())

    def _wait_until(self, epoch_s: int) -> None:
        left_s = min(epoch_s - self.means.clock(), float(self.means.times.settle_s))
        if left_s > 0:
            self.means.sleep(left_s + 0.05)

    def _one_pass(self, active: set[str]) -> dict[str, tuple[bool, int]]:
        """One step of each. Which have come on, and until when the others wait."""
        now = int(self.means.clock())
        mine = {id_: self.now[id_] for id_ in sorted(active)}
        self.eyes.look(self._clusters(mine.values()))
        sights = self.eyes.sights(mine, self.runs, now)
        done: dict[str, tuple[bool, int]] = {}
        effects: list[tuple[str, Effect]] = []
        steps_of = {id_: steps.step(t, sights[id_], now, self.means.times, self.runs[id_]) for id_, t in mine.items()}
        changes = [(t, steps_of[id_].transfer) for id_, t in mine.items() if steps_of[id_].transfer != t]
        together = self._write_together(changes)
        for id_, t in mine.items():
            made = steps_of[id_]
            if made.transfer != t and not together and not self._write(t, made.transfer):
                continue
            self.now[id_] = made.transfer
            has_moved = (made.transfer != t or bool(made.effects)) and made.transfer.state in OPEN
            done[id_] = (has_moved, made.wait_until_epoch_s)
            effects += ((id_, effect) for effect in made.effects)
        self._carry_out(effects)
        return done

    def _clusters(self, transfers: Iterable[Transfer]) -> set[str]:
        wanted: set[str] = set()
        for t in transfers:
            wanted |= {t.cluster, t.to_location.partition("/")[0]} if t.to_location else set(self.means.sites)
        return wanted

    def _write_together(self, changes: Sequence[tuple[Transfer, Transfer]]) -> bool:
        """All of one pass in one transaction: each would cost the disk as much alone. If that fails, one has to be at fault."""
        if len(changes) < 2:
            return False
        names = [f"{after.state} {phase(after)}" for _, after in changes]
        over = [after for before, after in changes if after.state == RELEASED and before.state != RELEASED]
        try:
            if over:
                with faults.around("entries"):
                    self.means.books.put_entries([entry for after in over for entry in _entries(after, self.means)])
            for name in names:
                faults.point(f"before {name}")
            self.means.books.put_transfers([after for _, after in changes])
            for name in names:
                faults.point(f"after {name}")
        except LedgerError:
            return False
        return True

    def _write(self, before: Transfer, after: Transfer) -> bool:
        """Put it into the ledger, with the entries of both jobs where the move is done."""
        try:
            if after.state == RELEASED and before.state != RELEASED:
                with faults.around("entries"):
                    self.means.books.put_entries(_entries(after, self.means))
            with faults.around(f"{after.state} {phase(after)}"):
                self.means.books.put_transfer(after)
        except LedgerError:
            return False
        return True

    def _carry_out(self, effects: list[tuple[str, Effect]]) -> None:
        by_kind: dict[str, list[tuple[str, Effect]]] = defaultdict(list)
        for id_, effect in self._in_turn(effects):
            by_kind[effect.kind].append((id_, effect))
        for kind in _ORDER:
            some = by_kind[kind]
            if kind == SUBMIT:
                for id_, _ in some:
                    self._submit(id_)
            elif kind in _IN_BULK:
                self._in_bulk(kind, some)
            else:
                for id_, effect in some:
                    site = self.means.sites[effect.cluster]
                    self._send(effect.cluster, commands.set_comment(site, str(effect.job_id), effect.text), [(id_, effect)])

    def _in_turn(self, effects: list[tuple[str, Effect]]) -> list[tuple[str, Effect]]:
        """One of each user after the other."""
        turns: dict[tuple[str, str], int] = defaultdict(int)
        ranked = []
        for id_, effect in effects:
            key = (self.now[id_].user, effect.kind)
            ranked.append((turns[key], id_, effect))
            turns[key] += 1
        ranked.sort(key=lambda item: item[0])
        return [(id_, effect) for _, id_, effect in ranked]

    def _in_bulk(self, kind: str, some: list[tuple[str, Effect]]) -> None:
        by_cluster: dict[str, list[tuple[str, Effect]]] = defaultdict(list)
        for id_, effect in some:
            by_cluster[effect.cluster].append((id_, effect))
        for cluster, theirs in by_cluster.items():
            for start in range(0, len(theirs), commands.PER_CALL):
                part = theirs[start : start + commands.PER_CALL]
                numbers = dict.fromkeys(str(effect.job_id) for _, effect in part)
                for command in _IN_BULK[kind](self.means.sites[cluster], numbers):
                    self._send(cluster, command, part)

    def _send(self, cluster: str, command: Command, effects: list[tuple[str, Effect]]) -> None:
        """Run what changes jobs of one cluster, unless that is silent. What it answers is looked at, not listened to."""
        if cluster in self.eyes.silent:
            return
        unanswered = False
        try:
            with faults.around(effects[0][1].kind):
                self.means.runner.run(command)
        except CommandError as error:
            self.eyes.give_up(cluster, str(error))
            unanswered = True
        for id_, effect in effects:
            run, name = self.runs[id_], _name(effect)
            more = (name,) if unanswered else ()
            self.runs[id_] = run._replace(tried=(*run.tried, name), unanswered=(*run.unanswered, *more))

    def _submit(self, id_: str) -> None:
        t = self.now[id_]
        cluster = t.to_location.partition("/")[0]
        if cluster in self.eyes.silent:
            answer = Answer(None, True, "the other cluster does not answer")
        elif (t.user, cluster) in self.unheard:
            answer = Answer(None, True, "another submission of its owner was not answered")
        elif self.took_s[t.user] > USER_S:
            answer = Answer(None, True, "submissions of its owner take too long in this run")
        else:
            now = int(self.means.clock())
            if now > t.asked_epoch_s:  # others were asked for first, and that took its time
                asked = t._replace(asked_epoch_s=now, changed_epoch_s=now)
                if not self._write(t, asked):
                    return  # it was not asked for, and stands as asked for: it will be found missing
                self.now[id_] = t = asked
            began = time.monotonic()
            try:
                with faults.around(SUBMIT):
                    answer = self.means.submit(t)
            except CommandError as error:
                answer = Answer(None, False, str(error))
            self.took_s[t.user] += time.monotonic() - began
        run = self.runs[id_]
        self.runs[id_] = run._replace(tried=(*run.tried, SUBMIT))
        if answer.job_id is not None:
            after = t._replace(state=SUBMITTED, target_id=answer.job_id)
        elif answer.certain:
            why = f"{OURS} the other cluster did not take it: {answer.said}"[:500]
            after = t._replace(state=UNDOING, asked_epoch_s=0, note=why)
        else:
            self._not_answered(t.user, cluster, answer.said)
            after = t._replace(note=f"{NONE} {answer.said}"[:500])
        after = after._replace(changed_epoch_s=int(self.means.clock()))
        if self._write(t, after):
            self.now[id_] = after

    def _not_answered(self, user: str, cluster: str, said: str) -> None:
        """Nothing more of this user's goes there in this run, and nothing at all if it is not his doing.

        That a submission ends like this a user can bring about himself: by sbatch's --quiet, by a script that is a pipe.
        """
        self.unheard.add((user, cluster))
        try:
            commands.look(self.means.runner, self.means.sites[cluster])
            others = {other for other, at in self.unheard if at == cluster}
            if len(others) < UNHEARD_USERS:
                return
        except CommandError as error:
            said = str(error)
        self.eyes.give_up(cluster, f"cluster {cluster}: {said}")


def _name(effect: Effect) -> str:
    return f"{effect.kind} {effect.cluster} {effect.job_id}" if effect.kind == CANCEL_COPY else effect.kind


def _entries(t: Transfer, means: Means) -> list[Entry]:
    """The entry of the source, which ends here, and that of the copy, which goes on."""
    old = means.books.entries(t.cluster, [t.job_id]).get(t.job_id)
    mark = marks.read(t.comment)[1]
    if old is None or not t.target_id:
        return []
    now = int(means.clock())
    new = old._replace(
        cluster=t.to_location.partition("/")[0], job_id=t.target_id, submit_epoch_s=t.target_submit_epoch_s or t.asked_epoch_s,
        location=t.to_location, begin_epoch_s=t.begin_epoch_s, planned_g=mark.emissions_g if mark else old.planned_g,
        energy_kwh=mark.energy_kwh if mark else old.energy_kwh, moves=old.moves + 1, moved_epoch_s=now,
        follows=f"{t.cluster}:{t.job_id}", state="", started_epoch_s=None, ended_epoch_s=None,
    )  # fmt: skip
    return [old._replace(state=MOVED, ended_epoch_s=now), new]
