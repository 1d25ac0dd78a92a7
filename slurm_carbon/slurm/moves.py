"""What changes jobs that wait, as commands, and the look at them right before and right after.

Many jobs go into one call, because each call costs slurmctld a connection and its locks. What such a call says of single
jobs cannot be relied on (the exit code is that of any of them, and a call that took too long may be carried out later
all the same): what was done is what `look` sees afterwards.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from slurm_carbon.errors import CommandError
from slurm_carbon.queued import QueuedJob
from slurm_carbon.slurm.command import Command, Completed, Runner
from slurm_carbon.slurm.queue_columns import MOST_BYTES, WITHOUT, draw_word

PER_CALL = 200  # jobs
_PER_CALL_BYTES = 60_000  # of one argument: Linux takes twice as much
TIMEOUT_S = 20.0
LOOK_TIMEOUT_S = 30.0
ACCOUNTING_TIMEOUT_S = 30.0
_YEAR_S = 366 * 86400


class Site(NamedTuple):
    """How a cluster is asked: through its own slurm.conf where one is known, else by -M."""

    name: str
    slurm_conf: str = ""

    @property
    def where(self) -> list[str]:
        """The options for it."""
        return [] if self.slurm_conf else ["-M", self.name]

    @property
    def environment(self) -> dict[str, str]:
        """The variables for it."""
        return {"SLURM_CONF": self.slurm_conf} if self.slurm_conf else {}


# changing


def set_start(site: Site, numbers: Iterable[str], start_epoch_s: int | None, partition: str = "") -> list[Command]:
    """Give jobs another start and, if it is named, another partition. No start: now.

    A number is as QueuedJob.number has it: of an array `12_[3-5]`, so that its other tasks stay as they are.
    """
    changes = [f"StartTime={_time(start_epoch_s)}", *([f"Partition={partition}"] if partition else [])]
    return [
        _scontrol(site, ["update", f"JobId={','.join(some)}", *changes], f"move {len(some)} jobs on {site.name}")
        for some in _calls(numbers)
    ]


def set_start_and_comment(site: Site, number: str, start_epoch_s: int | None, partition: str, comment: str) -> Command:
    """Give one job another start, and say so in its comment."""
    changes = [f"StartTime={_time(start_epoch_s)}", *([f"Partition={partition}"] if partition else [])]
    return _scontrol(site, ["update", f"JobId={number}", *changes, f"Comment={comment}"], f"move a job on {site.name}")


def set_comment(site: Site, number: str, comment: str) -> Command:
    """Write one job's comment: all of the argument behind the first `=` is taken as it is."""
    return _scontrol(site, ["update", f"JobId={number}", f"Comment={comment}"], f"mark a job on {site.name}")


def set_cluster(site: Site, number: str, cluster: str, start_epoch_s: int | None, partition: str = "") -> Command:
    """Have a federation run a job on another of its clusters: the number stays, nothing is submitted anew."""
    changes = [f"Clusters={cluster}", f"StartTime={_time(start_epoch_s)}", *([f"Partition={partition}"] if partition else [])]
    return _scontrol(site, ["update", f"JobId={number}", *changes], f"move a job of the federation to {cluster}")


def hold(site: Site, numbers: Iterable[str]) -> list[Command]:
    """Hold jobs so that their owners can release them. Only for jobs that nobody holds: it makes less of an admin's hold."""
    return [_scontrol(site, ["uhold", ",".join(some)], f"hold {len(some)} jobs on {site.name}") for some in _calls(numbers)]


def release(site: Site, numbers: Iterable[str]) -> list[Command]:
    """Release jobs; they start at their begin time."""
    return [
        _scontrol(site, ["release", ",".join(some)], f"release {len(some)} jobs on {site.name}") for some in _calls(numbers)
    ]


def cancel(site: Site, numbers: Iterable[str]) -> list[Command]:
    """Cancel jobs that still wait; to others it does nothing."""
    return [
        Command(
            ["scancel", *site.where, "--state=PENDING", *some],
            f"cancel {len(some)} jobs on {site.name}",
            environment=site.environment,
            timeout_s=TIMEOUT_S,
        )
        for some in _calls(numbers)
    ]


def _scontrol(site: Site, words: list[str], why: str) -> Command:
    return Command(["scontrol", *site.where, *words], why, environment=site.environment, timeout_s=TIMEOUT_S)


def _time(epoch_s: int | None) -> str:
    return "now" if epoch_s is None else f"uts{epoch_s}"


def _calls(numbers: Iterable[str]) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for number in numbers:
        if some and (len(some) == PER_CALL or size + len(number) > _PER_CALL_BYTES):
            yield some
            some, size = [], 0
        some.append(number)
        size += len(number) + 1
    if some:
        yield some


def outcome(done: Completed, number: str = "") -> str:
    """What Slurm's answer means for a job, in words for its owner; empty where nothing was said against it."""
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    about = [line for line in lines if number and line.rstrip().endswith(f" {number}")] or lines
    text = " ".join(about)
    for sign, meaning in _ANSWERS:
        if sign in text:
            return meaning
    return f"Slurm refused it: {text.strip()[:200]}" if text.strip() and done.exit_code else ""


_ANSWERS = (
    ("Access/permission denied", "not allowed: neither its owner nor an operator of Slurm"),
    ("Invalid user id", "not allowed: neither its owner nor an operator of Slurm"),
    ("no longer pending", "it has started meanwhile"),
    ("already finished", "it has ended meanwhile"),
    ("Invalid job id", "it is gone"),
    ("Invalid partition name", "its partition does not exist"),
    ("User's group not permitted", "its owner may not use that partition"),
    ("Requested time limit is invalid", "its time limit is too long for that partition"),
    ("Requested node configuration is not available", "that partition has no nodes for it"),
    ("temporarily unable", "slurmctld could not do it at the moment"),
    ("Socket timed out", "slurmctld took too long, and may have done it or not"),
    ("Unable to contact slurm controller", "slurmctld does not answer"),
    ("Connection refused", "slurmctld does not answer"),
    ("Transport endpoint", "slurmctld does not answer"),
)


# looking

_COLUMNS = (
    "JobID", "ArrayJobID", "JobArrayID", "State", "UserName", "UserID", "Partition", "SubmitTime", "EligibleTime",
    "PriorityLong", "Reason", "RestartCnt", "Dependency", "Name", "HetJobID", "Reservation", "SiblingsActive", "Comment",
)  # fmt: skip


def look_command(site: Site, word: str) -> Command:
    """All jobs that slurmctld has in memory, those that have ended too. For more than one it has to send them all anyway.

    Each value is followed by a word that is drawn for this call, and goes by the environment, where nobody else can read
    it: whatever a user has written, it cannot look like the next value.
    """
    return Command(
        ["squeue", *site.where, "--local", "-h", "-a", "-t", "all"],
        f"jobs of {site.name} as they are now",
        environment={
            **site.environment,
            "SQUEUE_FORMAT2": ",".join(f"{column}:0{word}" for column in _COLUMNS),
            "SQUEUE_ARRAY_UNIQUE": "1",
            "SLURM_TIME_FORMAT": "%s",
            "TZ": "UTC",  # an hour that the clocks repeat has two meanings
            "SLURM_BITSTR_LEN": "0",  # all tasks of an array, however many
        },
        without=WITHOUT,
        timeout_s=LOOK_TIMEOUT_S,
        most_bytes=MOST_BYTES,
    )


def look(runner: Runner, site: Site) -> dict[int, QueuedJob]:
    """The jobs of a cluster by their numbers. Raises CommandError if it does not answer: then nothing is known."""
    word = draw_word()
    done = runner.run(look_command(site, word))
    if done.exit_code:
        raise CommandError(f"cluster {site.name}: squeue: {done.complaint}")
    return {job.id: job for job in parse_look(site.name, os.fsdecode(done.stdout), word)}


def parse_look(cluster: str, text: str, word: str) -> Iterator[QueuedJob]:
    """The jobs in the text. Raises CommandError where it does not have the form that was asked for."""
    values = text.split(word)
    if len(values) % len(_COLUMNS) != 1 or values[-1].strip():
        raise CommandError(f"cluster {cluster}: squeue printed something else than it was asked for")
    for start in range(0, len(values) - 1, len(_COLUMNS)):
        row = dict(zip(_COLUMNS, values[start : start + len(_COLUMNS)], strict=True))
        try:
            yield _job(cluster, row)
        except ValueError as error:
            raise CommandError(f"cluster {cluster}: squeue printed a job that is not understood ({error})") from None


def _job(cluster: str, row: dict[str, str]) -> QueuedJob:
    number = int(row["JobID"].lstrip("\n"))
    array, underscore, tasks = row["JobArrayID"].partition("_")
    reason = row["Reason"]
    siblings = _text(row["SiblingsActive"])
    return QueuedJob(
        cluster=cluster,
        id=number,
        user=row["UserName"],
        uid=int(row["UserID"]),
        state=row["State"],
        partition=row["Partition"],
        submit_epoch_s=int(row["SubmitTime"]),
        reason=reason,
        name=row["Name"],
        eligible_epoch_s=int(row["EligibleTime"]) if row["EligibleTime"].isdigit() else None,
        priority=int(row["PriorityLong"]),
        array_id=int(array) if underscore else 0,
        array_tasks=tasks.strip("[]").partition("%")[0] if underscore else "",
        het_id=int(row["HetJobID"]) if row["HetJobID"].isdigit() else 0,
        dependency=_text(row["Dependency"]),
        reservation=_text(row["Reservation"]),
        restarts=int(row["RestartCnt"]),
        siblings=tuple(siblings.split(",")) if siblings not in ("", "NA", "0") else (),
        comment=_text(row["Comment"]),
    )


def _text(value: str) -> str:
    return "" if value in ("(null)", "N/A") else value


# the accounting: what slurmctld has forgotten

_ACCOUNTED = ("JobIDRaw", "UID", "State", "Submit")


class Accounted(NamedTuple):
    """A job as the accounting knows it."""

    job_id: int
    uid: int
    state: str  # COMPLETED, CANCELLED, ...
    ended_by_uid: int | None  # who cancelled it
    submit_epoch_s: int  # numbers are used anew where slurmctld has lost its state
    comment: str = ""


def accounted(runner: Runner, site: Site, since_epoch_s: int, job_ids: Sequence[int]) -> list[Accounted]:
    """Jobs by their numbers, without what their owners can write. Raises CommandError if the accounting does not answer."""
    return _accounted(runner, site, since_epoch_s, ["-j", ",".join(map(str, job_ids))], _ACCOUNTED)


def accounted_of(runner: Runner, site: Site, since_epoch_s: int, user: str, uid: int) -> list[Accounted]:
    """All jobs of a user, with their comments, if the site stores those (AccountingStoreFlags=job_comment).

    One user a call: the word between the values can be seen by others, and who is quick could forge a row of another's.
    """
    rows = _accounted(runner, site, since_epoch_s, ["-u", user], (*_ACCOUNTED, "Comment"))
    return [row for row in rows if row.uid == uid]


def _accounted(runner: Runner, site: Site, since_epoch_s: int, which: list[str], columns: Sequence[str]) -> list[Accounted]:
    word = draw_word()
    command = Command(
        # jobs that are to begin later are shown only if the time asked for goes so far
        ["sacct", *site.where, "-a", "-X", "-D", "-n", "-p", f"--delimiter={word}", "-S", f"uts{since_epoch_s}",
         "-E", f"uts{since_epoch_s + _YEAR_S}", *which, "-o", ",".join(columns)],
        f"jobs of {site.name} that have ended",
        environment={**site.environment, "SLURM_TIME_FORMAT": "%s", "TZ": "UTC"},
        timeout_s=ACCOUNTING_TIMEOUT_S,
        most_bytes=MOST_BYTES,
    )  # fmt: skip
    done = runner.run(command)
    if done.exit_code:
        raise CommandError(f"cluster {site.name}: sacct: {done.complaint}")
    values = os.fsdecode(done.stdout).split(word)
    found = []
    for start in range(0, len(values) - len(columns), len(columns)):
        number, uid, state, submit, *comment = values[start : start + len(columns)]
        state, _, who = state.partition(" by ")
        if number.lstrip("\n").isdigit() and uid.isdigit() and submit.isdigit():
            by = int(who) if who.isdigit() else None
            found.append(Accounted(int(number.lstrip("\n")), int(uid), state, by, int(submit), "".join(comment)))
    return found
