"""The rows of the ledger as values: all frozen, times in epoch seconds, masses in g CO2e."""

from typing import NamedTuple

# the way of a move to another cluster; see reoptimize/transfer.py for what each state promises
INTENDED, HELD, SUBMITTED, CANCELLED, RELEASED = "intended", "held", "submitted", "cancelled", "released"
UNDOING, UNDONE = "undoing", "undone"
OPEN = (INTENDED, HELD, SUBMITTED, CANCELLED, UNDOING)  # a later run has to finish or undo these
MOVED = "MOVED"  # state of an entry that ended because another one goes on


class Entry(NamedTuple):
    """What is known of one job. A job that has moved to another cluster has a new entry, and `follows` names the old one."""

    cluster: str
    job_id: int  # of an array, the array's number
    submit_epoch_s: int  # as first seen; with cluster and job_id it names the entry
    user: str
    location: str  # CLUSTER/PARTITION it is planned at
    home: str  # where plain sbatch would have run it
    begin_epoch_s: int  # planned start
    latest_epoch_s: int  # that its owner and the site allow
    may: str = ""  # by whose word it may be moved: mark, hook, site
    mark_id: str = ""  # of the submission record that csbatch keeps
    locations: tuple[str, ...] = ()  # where it may run
    baseline_g: float = 0.0  # if it had started at once at home
    planned_g: float = 0.0
    energy_kwh: float = 0.0
    forecast: str = ""  # source of the intensity and when it was issued
    moves: int = 0  # how often it was moved, before its present cluster too
    moved_epoch_s: int = 0  # when the last time
    follows: str = ""  # CLUSTER:JOBID of the entry it came from
    late: bool = False  # it was found to start after its latest start, because all was full
    # what happened then; None until it is known
    started_epoch_s: int | None = None
    ended_epoch_s: int | None = None
    state: str = ""  # as sacct calls it at the end; MOVED where another entry goes on
    used_kwh: float | None = None  # measured, from sacct
    emitted_g: float | None = None  # of the run as it was


class Decided(NamedTuple):
    """One decision of one run about one job."""

    run: int
    cluster: str
    job_id: int
    tasks: str  # of an array, which; empty: all
    decided_epoch_s: int
    from_location: str
    from_epoch_s: int
    to_location: str
    to_epoch_s: int
    saved_g: float  # expected
    reason: str
    outcome: str  # done, advised, observed, or what went wrong


class Transfer(NamedTuple):
    """One move to another cluster, as far as it has come."""

    id: str  # 16 hexadecimal digits, in the marks of both jobs while it is under way
    cluster: str  # where it comes from
    job_id: int
    submit_epoch_s: int
    user: str
    uid: int
    mark_id: str  # of the submission record
    to_location: str
    begin_epoch_s: int
    latest_epoch_s: int
    comment: str  # that the copy gets
    source_comment: str  # that the source had, to be given back if the move is undone
    state: str
    created_epoch_s: int
    changed_epoch_s: int
    asked_epoch_s: int = 0  # when the copy was asked for: until PATIENCE after that it may still appear
    target_id: int = 0  # of the copy, once known
    note: str = ""
    target_submit_epoch_s: int = 0  # of the copy, once seen: a number alone may be given again


class Run(NamedTuple):
    """One run of the reoptimizer."""

    id: int
    started_epoch_s: int
    mode: str
    ended_epoch_s: int | None = None  # None: under way, or it was killed
    figures: dict[str, float | int | str] = {}  # noqa: RUF012  (what it counted; never changed)


class Sums(NamedTuple):
    """What the settled jobs of a time come to. The masses are of those whose emissions are known, so that they compare."""

    jobs: int
    measured: int  # of them, with known emissions
    baseline_g: float
    planned_g: float
    emitted_g: float
