"""Clusters, an owner process and a ledger that fail in every way that real ones do, in no time: for thousands of orders.

slurmctld that is killed forgets its last seconds; a call that takes too long may be carried out, later, or not at all; a
submission may happen up to 330 s after it was given up; the process that plans may be killed before and after each thing
that it does. The oracle decides, so that hypothesis can look for the worst.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from slurm_carbon import marks
from slurm_carbon.errors import CommandError, LedgerError
from slurm_carbon.ledger.values import OPEN, Entry, Transfer
from slurm_carbon.owner import Answer
from slurm_carbon.queued import Queue
from slurm_carbon.reoptimize.adopt import adopt
from slurm_carbon.reoptimize.transfer import Means, Times, drive
from slurm_carbon.slurm.command import Command, Completed, Runner
from slurm_carbon.slurm.moves import Site, look

START = 1_800_000_000
MIN_JOB_AGE_S = 300
RUN_TIME_S = 60
FORGETS_S = 5
# what becomes of a call
DONE, REFUSED, LATE, LOST, UNHEARD = "done", "refused", "late", "lost", "unheard"
FATES = (DONE, REFUSED, LATE, LOST, UNHEARD)
COMMENT = "mine | cs1 begin=1800000000 latest=1800090000 at=alpha/batch g=5 base=9 kwh=1 id=00000000000000aa"


class Killed(BaseException):
    """The process that plans is no more."""


@dataclass
class Job:
    """A job as slurmctld has it."""

    id: int
    name: str
    uid: int
    submit: int
    begin: int
    comment: str
    state: str = "PENDING"
    reason: str = "BeginTime"
    priority: int = 1
    start: int = 0
    end: int = 0
    restarts: int = 0
    dependency: str = ""

    def is_due(self, now: int) -> bool:
        return self.state == "PENDING" and bool(self.priority) and self.begin <= now and not self.dependency

    def hold(self, by: str = "JobHeldUser") -> None:
        self.priority, self.reason = 0, by


@dataclass
class Controller:
    """A slurmctld with its queue, what it has written down, and what it is still to do."""

    name: str
    jobs: dict[int, Job] = field(default_factory=dict)
    next_id: int = 100
    answers: bool = True
    written: list[tuple[int, int, dict[int, Job]]] = field(default_factory=list)  # when, next number, jobs
    to_do: list[tuple[int, Callable[[], None]]] = field(default_factory=list)
    accounts: dict[int, Job] = field(default_factory=dict)

    def write_down(self, now: int) -> None:
        """Keep the state of this moment for a later fall back."""
        self.written.append((now, self.next_id, {number: copy.copy(job) for number, job in self.jobs.items()}))
        del self.written[:-20]


class World(Runner):
    """Clusters alpha and beta, a ledger, and one clock."""

    def __init__(self, oracle: Callable[[str], str] = lambda what: DONE) -> None:
        self.now = START
        self.oracle = oracle
        self.clusters = {"alpha": Controller("alpha", next_id=1), "beta": Controller("beta")}
        self.ran: dict[str, set[tuple[str, int]]] = {}
        self.accounting = True
        self.books = Books(self)
        self.calls = 0
        self.end_at = 0
        self.sent: list[list[str]] = []

    # the process that plans

    def point(self) -> None:
        """Where it can be killed."""
        self.calls += 1
        if self.calls == self.end_at:
            raise Killed

    def means(self, **times: int) -> Means:
        sites = {name: Site(name, f"/{name}/slurm.conf") for name in self.clusters}
        return Means(self, sites, self.books, self.submit, Times(**times), lambda: self.now, self.pass_time, 0)

    def tick(self, begin: Iterable[Transfer] = (), end_at: int = 0, **times: int) -> None:
        """One run: what is open, what marks speak of, and moves that begin. It may be killed at its n-th point."""
        self.calls, self.end_at = 0, end_at
        means = self.means(**times)
        try:
            queues = [
                Queue(name, "22.05", self.now, tuple(look(self, means.sites[name]).values()), ()) for name in self.clusters
            ]
            adopt(queues, means, self.now)
        except (CommandError, LedgerError):
            pass
        except Killed:
            return
        try:
            drive(self.books.open_transfers(), means)
            fresh = list(begin)
            for t in fresh:
                self.books.put_transfer(t)
            drive(fresh, means, frozenset(t.id for t in fresh))
        except (Killed, LedgerError):
            pass
        finally:
            self.end_at = 0

    # time

    def pass_time(self, seconds: float) -> None:
        """From event to event: what is due happens."""
        end = self.now + max(1, int(seconds))
        while True:
            for ctld in self.clusters.values():
                ctld.write_down(self.now)
            if self.now == end:
                return
            self.now = min(self._next_event(), end)
            for ctld in self.clusters.values():
                if ctld.answers:
                    due = [what for when, what in ctld.to_do if when <= self.now]
                    ctld.to_do = [item for item in ctld.to_do if item[0] > self.now]
                    for what in due:
                        what()
                self._schedule(ctld)

    def _next_event(self) -> int:
        times = [self.now + 3600]
        for ctld in self.clusters.values():
            times += [when for when, _ in ctld.to_do]
            for job in ctld.jobs.values():
                times += [
                    job.begin,
                    job.start + RUN_TIME_S,
                    job.end + MIN_JOB_AGE_S + 1,
                    self.now + 1 if job.is_due(self.now) else 0,
                ]
        return min(when for when in times if when > self.now)

    def _schedule(self, ctld: Controller) -> None:
        if not ctld.answers:
            return
        for job in list(ctld.jobs.values()):
            if job.is_due(self.now):
                job.state, job.start, job.reason = "RUNNING", self.now, "None"
                self.ran.setdefault(job.name, set()).add((ctld.name, job.id))
            elif job.state == "RUNNING" and job.start + RUN_TIME_S <= self.now:
                job.state, job.end = "COMPLETED", self.now
            elif job.end and job.end + MIN_JOB_AGE_S < self.now:
                del ctld.jobs[job.id]
                continue
            ctld.accounts[job.id] = replace(job)

    def forget(self, name: str, seconds: int = FORGETS_S) -> None:
        """Kill a slurmctld and start it again, which takes a second: it has what it had written down before. Runs go on."""
        ctld = self.clusters[name]
        known = [(next_id, jobs) for when, next_id, jobs in ctld.written if when <= self.now - seconds]
        if known:
            running = {job.id: job for job in ctld.jobs.values() if job.state in ("RUNNING", "COMPLETED")}
            ctld.jobs = {number: copy.copy(job) for number, job in known[-1][1].items()} | running
            ctld.written = [each for each in ctld.written if each[0] <= self.now - seconds]
            ctld.next_id = max(known[-1][0], *running, 0)  # the numbers of what is forgotten are given again
        self.now += 1

    # what users do

    def add(self, name: str, uid: int = 1001, begin_in_s: int = 7200, comment: str = COMMENT, cluster: str = "alpha") -> Job:
        ctld = self.clusters[cluster]
        ctld.next_id += 1
        job = Job(ctld.next_id, name, uid, self.now, self.now + begin_in_s, comment)
        ctld.jobs[job.id] = job
        self.pass_time(FORGETS_S + 1)
        return job

    def alive(self) -> list[tuple[str, Job]]:
        return [(c.name, job) for c in self.clusters.values() for job in c.jobs.values() if job.state in ("PENDING", "RUNNING")]

    # Slurm

    def run(self, command: Command) -> Completed:
        self.point()
        program, *words = command.argv
        ctld = self.clusters[command.environment["SLURM_CONF"].split("/")[1]]
        fate = self.oracle(f"{program} {words[0]}")
        if not ctld.answers and program != "sacct":
            raise CommandError("Unable to contact slurm controller")
        if program in ("squeue", "sacct"):
            if fate != DONE or (program == "sacct" and not self.accounting):
                raise CommandError("took longer than 30 s")
            text = self._squeue(ctld, command.environment) if program == "squeue" else self._sacct(ctld, words)
            self.point()
            return Completed(0, text.encode(), b"")
        self.sent.append(command.argv)
        done = self._after(ctld, fate, lambda: self._change(ctld, program, words))
        self.point()
        return done

    def _after(self, ctld: Controller, fate: str, what: Callable[[], None]) -> Completed:
        if fate == REFUSED:
            return Completed(1, b"", b"Access/permission denied")
        if fate == LATE:
            ctld.to_do.append((self.now + 90, what))
        elif fate in (DONE, UNHEARD):
            what()
        if fate != DONE:
            self.point()
            raise CommandError("took longer than 20 s")
        return Completed(0, b"", b"")

    def _change(self, ctld: Controller, program: str, words: list[str]) -> None:
        if program == "scancel":
            assert words[0] == "--state=PENDING"
            for job in (ctld.jobs[int(n)] for n in words[1:] if int(n) in ctld.jobs):
                if job.state == "PENDING":
                    job.state, job.end = "CANCELLED", self.now
            return
        if words[0] == "update":
            job = ctld.jobs.get(int(words[1].removeprefix("JobId=")))
            if job is not None and job.state in ("PENDING", "RUNNING"):
                job.comment = words[2].removeprefix("Comment=")
            return
        for number in words[1].split(","):
            job = ctld.jobs.get(int(number))
            if job is None or job.end:
                continue
            if words[0] == "uhold":
                job.hold()
            else:
                assert words[0] == "release"
                assert job.reason != "JobHeldAdmin", "an administrator's hold was released"
                job.priority, job.reason = 1, "BeginTime"

    def _squeue(self, ctld: Controller, environment: Mapping[str, str]) -> str:
        columns = environment["SQUEUE_FORMAT2"]
        end = columns.split(",")[0].removeprefix("JobID:0")
        text = ""
        for job in ctld.jobs.values():
            values = {
                "JobID": job.id, "ArrayJobID": job.id, "JobArrayID": job.id, "State": job.state, "UserName": f"u{job.uid}",
                "UserID": job.uid, "Partition": "batch", "SubmitTime": job.submit, "EligibleTime": job.begin,
                "PriorityLong": job.priority, "Reason": job.reason, "RestartCnt": job.restarts,
                "Dependency": job.dependency or "(null)", "Name": job.name, "HetJobID": "N/A", "Reservation": "(null)",
                "SiblingsActive": "NA", "Comment": job.comment or "(null)",
            }  # fmt: skip
            text += "".join(f"{values[c.partition(':')[0]]}{end}" for c in columns.split(",")) + "\n"
        return text

    def _sacct(self, ctld: Controller, words: list[str]) -> str:
        end = next(word for word in words if word.startswith("--delimiter=")).removeprefix("--delimiter=")
        asked = words[words.index("-j") + 1].split(",") if "-j" in words else []
        user = words[words.index("-u") + 1] if "-u" in words else ""
        text = ""
        for job in ctld.accounts.values():
            if str(job.id) in asked or user == f"u{job.uid}":
                state = "CANCELLED by 0" if job.state == "CANCELLED" else job.state
                row = [job.id, job.uid, state, job.submit, *([job.comment if job.end else ""] if not asked else [])]
                text += "".join(f"{value}{end}" for value in row) + "\n"
        return text

    def submit(self, t: Transfer) -> Answer:
        """The owner process."""
        self.point()
        cluster, _, _ = t.to_location.partition("/")
        ctld = self.clusters[cluster]
        fate = self.oracle("sbatch")
        numbers: list[int] = []

        def submitted() -> None:
            ctld.next_id += 1
            source = self.clusters[t.cluster].accounts[t.job_id]
            job = Job(ctld.next_id, source.name, t.uid, self.now, t.begin_epoch_s, t.comment)
            job.hold()
            ctld.jobs[job.id] = job
            numbers.append(job.id)

        if not ctld.answers:
            return Answer(None, False, "Unable to contact slurm controller")
        if fate == REFUSED:
            return Answer(None, True, "nothing was submitted")
        if fate == LATE:
            ctld.to_do.append((self.now + 300, submitted))
        elif fate in (DONE, UNHEARD):
            submitted()
        self.point()
        return Answer(numbers[0], True, "") if fate == DONE else Answer(None, False, "Socket timed out")


class Books:
    """A ledger that can be lost, or take nothing more."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows: dict[str, Transfer] = {}
        self.entered: dict[tuple[str, int], Entry] = {}
        self.fails = False

    def _write(self) -> None:
        self.world.point()
        if self.fails:
            raise LedgerError("disk full")

    def put_transfer(self, transfer: Transfer) -> None:
        self._write()
        self.rows[transfer.id] = transfer
        self.world.point()

    def put_transfers(self, transfers: Iterable[Transfer]) -> None:
        self._write()
        for transfer in transfers:
            self.rows[transfer.id] = transfer
        self.world.point()

    def transfer(self, id_: str) -> Transfer | None:
        return self.rows.get(id_)

    def open_transfers(self) -> list[Transfer]:
        return [t for t in self.rows.values() if t.state in OPEN]

    def entries(self, cluster: str, job_ids: Iterable[int]) -> dict[int, Entry]:
        return {n: self.entered[cluster, n] for n in job_ids if (cluster, n) in self.entered}

    def put_entries(self, entries: Iterable[Entry]) -> None:
        self._write()
        for entry in entries:
            self.entered[entry.cluster, entry.job_id] = entry


def transfer_of(world: World, job: Job, move_id: str, begin_in_s: int = 3600, latest_in_s: int = 86400) -> Transfer:
    """A move of a job from alpha to beta."""
    text, old = marks.read(job.comment)
    mark = old or marks.Mark(0, 0, "alpha/batch", 1, 2, 3)
    begin = world.now + begin_in_s
    comment = marks.append(text, mark._replace(begin_epoch_s=begin, location="beta/batch", move=move_id))
    assert comment is not None
    return Transfer(
        move_id, "alpha", job.id, job.submit, f"u{job.uid}", job.uid, "00000000000000aa", "beta/batch", begin,
        world.now + latest_in_s, comment, job.comment, "intended", world.now, world.now, note="-",
    )  # fmt: skip


def settle(world: World, runs: int = 12) -> None:
    """Nothing fails any more, and runs come every 5 minutes; then all that is left runs."""
    world.oracle = lambda what: DONE
    world.accounting, world.books.fails = True, False
    for ctld in world.clusters.values():
        ctld.answers = True
    for _ in range(runs):
        world.pass_time(300)
        world.tick()
    world.pass_time(7200)
    world.tick()


def check_books(world: World, *names: str) -> None:
    """Lost 0, doubled 0, held 0; no mark and no row is left over."""
    for name in names:
        assert len(world.ran.get(name, ())) == 1, f"{name} ran {world.ran.get(name)}"
    assert not world.alive(), f"left over: {world.alive()}"
    assert not world.books.open_transfers(), "a move is still open"
