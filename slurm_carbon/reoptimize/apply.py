"""Moves in time, between partitions and within a federation: looked at once more, written down, made, and looked at again.

What has changed since the queue was read is left alone: between the two lies the solver's time. Most jobs get their new
start together with a new mark in their comment, so that they are known again without the ledger; what is beyond REMARKED
goes into calls of many jobs, which can carry no comments.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from slurm_carbon import marks
from slurm_carbon.errors import CommandError
from slurm_carbon.ledger.store import Ledger
from slurm_carbon.ledger.values import MOVED, RELEASED, UNDOING, UNDONE, Decided, Entry, Transfer
from slurm_carbon.light import shell_words
from slurm_carbon.queued import QueuedJob
from slurm_carbon.reoptimize import faults, transfer
from slurm_carbon.reoptimize.choose import task_numbers
from slurm_carbon.reoptimize.move import FEDERATION, HERE, TRANSFER, Move
from slurm_carbon.reoptimize.sight import Seen, seen
from slurm_carbon.reoptimize.transfer import Means
from slurm_carbon.slurm import moves as commands
from slurm_carbon.slurm.command import Command
from slurm_carbon.slurm.moves import Site, look

REMARKED = 300  # jobs whose comments are written anew in one run: 5 ms each
SOON_S = 60  # a start that is nearer than this is made at once
SAME_S = 60  # what a start may differ by from what it was set to
SPREADS_S = 0.5  # that a federation takes to tell its clusters
SPREADS = 6  # times that it is waited for
DONE, GONE, CHANGED, STARTED = "done", "it is gone", "it has changed meanwhile", "it has started meanwhile"
LATE = "it is about to start"


class _Order(NamedTuple):
    """One command, and the moves that it makes: their places in the list."""

    command: Command
    which: tuple[int, ...]


# what is built


def why_not_now(move: Move, fresh: QueuedJob | None, now_epoch_s: int, margin_s: int) -> str:
    """Why a job that was to be moved is left alone after all; empty if it is as it was."""
    was = move.job
    if fresh is None or fresh.uid != was.uid or (fresh.submit_epoch_s != was.submit_epoch_s and not was.restarts):
        return GONE
    if fresh.state != "PENDING":
        return STARTED
    if fresh.is_held:
        return "it is held"
    same = (fresh.eligible_epoch_s, fresh.partition, fresh.comment, fresh.dependency, fresh.reservation)
    if same != (was.eligible_epoch_s, was.partition, was.comment, was.dependency, was.reservation):
        return CHANGED
    # squeue can show tasks that were split off in the row of their array: more of them are no change
    if not set(task_numbers(was.array_tasks)) <= set(task_numbers(fresh.array_tasks)):
        return CHANGED
    begin = was.eligible_epoch_s or 0
    return LATE if now_epoch_s < begin <= now_epoch_s + min(margin_s, SOON_S) else ""


def number_of(move: Move) -> str:
    """What scontrol takes for the tasks that are to be moved."""
    return f"{move.job.array_id}_[{move.tasks}]" if move.tasks else move.job.number


def start_of(move: Move, now_epoch_s: int) -> int | None:
    """The start to be set; None for now."""
    return None if move.to_epoch_s <= now_epoch_s + SOON_S else move.to_epoch_s


def comment_of(move: Move, now_epoch_s: int) -> str | None:
    """The job's comment with its mark written anew; None where it has none, or cannot be given back just as it is."""
    text, mark = marks.read(move.job.comment)
    if mark is None or mark.move or not move.job.comment.isprintable():
        return None
    entry = move.entry
    anew = mark._replace(
        begin_epoch_s=max(move.to_epoch_s, now_epoch_s), location=move.to_location, emissions_g=max(0.0, entry.planned_g),
        locations=mark.locations or ((mark.location, move.to_location) if mark.location != move.to_location else ()),
    )  # fmt: skip
    joined = marks.append(text, anew)
    if joined is None:
        return None
    reread, whole = marks.read(joined)
    # a mark that was made shorter to find room would lose what the owner's job needs
    return joined if reread == text and whole is not None and (whole.id, whole.locations) == (anew.id, anew.locations) else None


def orders(moves: Sequence[Move], which: Iterable[int], sites: Mapping[str, Site], now_epoch_s: int) -> list[_Order]:
    """The commands for these moves of the list, which are all within a cluster or a federation."""
    found: list[_Order] = []
    in_bulk: dict[tuple[str, int | None, str], list[int]] = defaultdict(list)
    remarked = 0
    for place in which:
        move = moves[place]
        site, start = sites[move.job.cluster], start_of(move, now_epoch_s)
        if move.way == FEDERATION:
            cluster = move.to_location.partition("/")[0]
            found.append(_Order(commands.set_cluster(site, str(move.job.id), cluster, start, move.to_partition), (place,)))
            continue
        comment = comment_of(move, now_epoch_s) if remarked < REMARKED else None
        if comment is not None:
            remarked += 1
            command = commands.set_start_and_comment(site, number_of(move), start, move.to_partition, comment)
            found.append(_Order(command, (place,)))
        else:
            in_bulk[move.job.cluster, start, move.to_partition].append(place)
    for (cluster, start, partition), places in in_bulk.items():
        for first in range(0, len(places), commands.PER_CALL):
            some = places[first : first + commands.PER_CALL]
            made = commands.set_start(sites[cluster], [number_of(moves[place]) for place in some], start, partition)
            found += (_Order(command, tuple(some)) for command in made)
    return found


def as_text(moves: Sequence[Move], sites: Mapping[str, Site], now_epoch_s: int) -> tuple[str, ...]:
    """The commands that a run would make, as a shell takes them."""
    here = [place for place, move in enumerate(moves) if move.way != TRANSFER]
    lines = [_shell(order.command) for order in orders(moves, here, sites, now_epoch_s)]
    for move in moves:
        if move.way == TRANSFER:
            site = sites[move.job.cluster]
            number = str(move.job.array_id or move.job.id)
            cluster, _, partition = move.to_location.partition("/")
            lines.append(_shell(commands.hold(site, [number])[0]))
            lines.append(
                f"# as {move.job.user}: sbatch -M {cluster} -p {partition} --hold "
                f"--begin=uts{max(move.to_epoch_s, now_epoch_s)}, and what record {move.entry.mark_id} has; its number is N"
            )
            lines.append(_shell(commands.cancel(site, [number])[0]))
            lines.append(_shell(commands.release(sites[cluster], ["N"])[0]))
    return tuple(lines)


def _shell(command: Command) -> str:
    return shell_words([*(f"{name}={value}" for name, value in command.environment.items()), *command.argv])


# what is done


def apply(
    moves: Sequence[Move], means: Means, ledger: Ledger, run: int, margin_s: int, silent: Callable[[str], None]
) -> tuple[Decided, ...]:
    """Make moves, as far as they can still be made. Returns what became of each; `silent` is told what did not answer.

    Raises LedgerError before anything is done that could not be written down.
    """
    return _Apply(moves, means, ledger, run, margin_s, silent).go()


class _Apply:
    def __init__(
        self, moves: Sequence[Move], means: Means, ledger: Ledger, run: int, margin_s: int, silent: Callable[[str], None]
    ) -> None:
        self.moves, self.means, self.ledger, self.run, self.margin_s, self.silent = moves, means, ledger, run, margin_s, silent
        self.outcomes: dict[int, str] = {}
        self.seen: dict[str, Seen] = {}

    def go(self) -> tuple[Decided, ...]:
        self.look({move.job.cluster for move in self.moves})
        now = int(self.means.clock())
        ready: list[int] = []
        for place, move in enumerate(self.moves):
            if move.job.cluster not in self.seen:
                self.outcomes[place] = "its cluster does not answer"
                continue
            why = why_not_now(move, self.fresh(move), now, self.margin_s)
            if why:
                self.outcomes[place] = why
            else:
                ready.append(place)
        here = [place for place in ready if self.moves[place].way != TRANSFER]
        if here:
            self.update(here, now)
        away = [place for place in ready if self.moves[place].way == TRANSFER]
        if away:
            self.take_away(away, now)
        decided = tuple(self.decided(place, now) for place in range(len(self.moves)))
        with faults.around("decisions"):
            self.ledger.add_decisions(decided)
        return decided

    def look(self, clusters: Iterable[str]) -> None:
        for cluster in sorted(clusters):
            self.seen.pop(cluster, None)
            try:
                self.seen[cluster] = seen(look(self.means.runner, self.means.sites[cluster]))
            except CommandError as error:
                self.silent(str(error))

    def fresh(self, move: Move, cluster: str = "") -> QueuedJob | None:
        at = self.seen.get(cluster or move.job.cluster)
        return at.jobs.get(move.job.id) if at else None

    # within a cluster, or a federation

    def update(self, places: list[int], now: int) -> None:
        before = self.known(places)
        after = [entry for place in places for entry in _entries(self.moves[place], before[place], now)]
        with faults.around("entries"):
            self.ledger.put_entries(after)
        answers: dict[int, str] = {}
        dead: set[str] = set()
        for order in orders(self.moves, places, self.means.sites, now):
            cluster = self.moves[order.which[0]].job.cluster
            if cluster in dead:
                continue
            try:
                with faults.around("update"):
                    done = self.means.runner.run(order.command)
            except CommandError as error:
                dead.add(cluster)
                self.silent(f"cluster {cluster}: {error}")
                continue
            for place in order.which:
                answers[place] = commands.outcome(done, str(self.moves[place].job.id))
        self.look({self.moves[place].job.cluster for place in places})
        for place in places:
            self.outcomes[place] = self.verdict(self.moves[place], answers.get(place, ""), now)
        self.follow([place for place in places if self.moves[place].way == FEDERATION])
        restored = [before[place] or transfer.unmoved(self.moves[place]) for place in places if self.undone(place)]
        if restored:
            with faults.around("entries"):
                self.ledger.put_entries(restored)

    def undone(self, place: int) -> bool:
        """Whether a job is known to be as it was. What cannot be seen may have happened: the ledger stays with the plan."""
        cluster = self.moves[place].job.cluster
        return self.outcomes[place] != DONE and cluster in self.seen

    def known(self, places: list[int]) -> dict[int, Entry | None]:
        """The entries as they are, to be put back where a move is not made."""
        numbers: dict[str, set[int]] = defaultdict(set)
        for place in places:
            job = self.moves[place].job
            numbers[job.cluster].add(job.array_id or job.id)
        found = {cluster: self.ledger.entries(cluster, ids) for cluster, ids in numbers.items()}
        return {
            place: _same(found[job.cluster].get(job.array_id or job.id), self.moves[place])
            for place in places
            for job in [self.moves[place].job]
        }

    def verdict(self, move: Move, answer: str, now: int) -> str:
        """What became of a move, by what is to be seen of the job."""
        cluster = move.job.cluster
        if cluster not in self.seen:
            return "its cluster took too long, and may have done it or not"
        jobs = self.seen[cluster].jobs.values() if move.tasks else filter(None, [self.fresh(move)])
        wanted = max(move.to_epoch_s, now)
        for job in jobs:
            if move.tasks and (job.array_id != move.job.array_id or job.array_tasks != move.tasks):
                continue
            if job.state != "PENDING":
                return DONE if start_of(move, now) is None and not answer else answer or STARTED
            begin = job.eligible_epoch_s or 0
            in_time = begin <= wanted + SOON_S if start_of(move, now) is None else abs(begin - wanted) <= SAME_S
            if in_time and move.to_partition in ("", job.partition):
                return DONE
        return answer or "slurmctld has not done it"

    def follow(self, places: list[int]) -> None:
        """A federation tells its clusters by and by: whether the job has come to the other one."""
        missing = set(places)
        for attempt in range(SPREADS):
            if not missing:
                return
            if attempt:
                self.means.sleep(SPREADS_S)
            targets = {self.moves[place].to_location.partition("/")[0] for place in missing}
            self.look(targets)
            for place in sorted(missing):
                cluster = self.moves[place].to_location.partition("/")[0]
                job = self.fresh(self.moves[place], cluster)
                if job is not None and job.state in ("PENDING", "RUNNING", "COMPLETING", "COMPLETED"):
                    self.outcomes[place] = DONE
                    missing.discard(place)
        for place in missing:
            if self.outcomes[place] == DONE:
                self.outcomes[place] = "the federation has not moved it"

    # to other clusters

    def take_away(self, places: list[int], now: int) -> None:
        begun: dict[str, int] = {}
        transfers: list[Transfer] = []
        before, entries = self.known(places), []
        for place in places:
            move = self.moves[place]
            job = self.fresh(move)
            if job is None:
                self.outcomes[place] = GONE
                continue
            made = transfer.intend(move, job, now)
            if isinstance(made, str):
                self.outcomes[place] = made
                continue
            if before[place] is None:
                entries.append(transfer.unmoved(move))
            begun[made.id] = place
            transfers.append(made)
        if entries:
            with faults.around("entries"):
                self.ledger.put_entries(entries)
        if transfers:
            with faults.around("intent"):
                self.ledger.put_transfers(transfers)
        for done in transfer.drive(transfers, self.means, frozenset(begun)):
            self.outcomes[begun[done.id]] = _state(done)

    # what is written down

    def decided(self, place: int, now: int) -> Decided:
        move = self.moves[place]
        return decision(move, self.run, now, self.outcomes.get(place, "nothing was done"))


def decision(move: Move, run: int, now_epoch_s: int, outcome: str) -> Decided:
    """A move as the ledger keeps it."""
    job = move.job
    return Decided(
        run, job.cluster, job.array_id or job.id, move.tasks, now_epoch_s, move.from_location, move.from_epoch_s,
        move.to_location, max(move.to_epoch_s, now_epoch_s), move.saved_g, move.reason, outcome,
    )  # fmt: skip


def _entries(move: Move, before: Entry | None, now: int) -> list[Entry]:
    """What the ledger has to know once a move is made: of a federation's, that the job is known by another cluster."""
    if move.way == HERE or before is None:
        return [move.entry]
    return [
        before._replace(state=MOVED, ended_epoch_s=now),
        move.entry._replace(follows=f"{before.cluster}:{before.job_id}"),
    ]


def _same(entry: Entry | None, move: Move) -> Entry | None:
    """An entry, if it is of the very job."""
    return entry if entry is not None and entry.user == move.job.user and entry.ended_epoch_s is None else None


def _state(done: Transfer) -> str:
    if done.state in (RELEASED, "cancelled"):
        return DONE if done.target_id else f"under way: {done.state}"
    if done.state in (UNDOING, UNDONE):
        words = done.note.partition(" ")[2]
        return f"undone: {words}" if words else "undone"
    return f"under way: {done.state}"
