"""What a move to another cluster is judged by, and what is done next: the values between `sight`, `steps` and `transfer`."""

from typing import NamedTuple

from slurm_carbon.ledger.values import Transfer
from slurm_carbon.queued import QueuedJob

# first words of notes
HOLDING = "holding"  # INTENDED: the hold may have been sent
CANCELLING = "cancelling"  # SUBMITTED: the cancel may have been sent
RELEASING = "releasing"  # CANCELLED: the release of the copy may have been sent
UNSURE = "unsure"  # UNDOING: a hold was sent and not seen; it may still happen
OURS = "ours"  # UNDOING: the source was held by us, and was not seen free since
FREED = "freed"  # UNDOING, CANCELLED: the source or the copy was seen free and without our mark: who holds it now is its owner
NONE = "-"

# what is done; the names of the crash points too
MARK, HOLD, SUBMIT, CANCEL_SOURCE, CANCEL_COPY = "mark", "hold", "submit", "cancel source", "cancel copy"
RELEASE_COPY, CLEAN_COPY, RELEASE_SOURCE, CLEAN_SOURCE = "release copy", "clean copy", "release source", "clean source"
TRIES = 2  # of each in one run


class Times(NamedTuple):
    """How long things take at most, in seconds."""

    patience_s: int = 400  # slurmctld refuses a submission that is older than 330 s
    settle_s: int = 10  # slurmctld writes down what it did within 5 s
    watch_s: int = 60  # after the end of a move it is looked at once more
    margin_s: int = 120  # if its latest start is nearer than that, a job is given back
    give_up_s: int = 3600  # without an answer of the accounting
    forget_s: int = 30 * 86400  # of a cluster that never answers again


class Sight(NamedTuple):
    """What can be seen of one move."""

    source_answers: bool  # the source's cluster does: else nothing is known of it
    target_answers: bool
    source: QueuedJob | None = None
    source_end: str = ""  # state by the accounting, of one that slurmctld does not know any more; empty: it does not either
    source_cancelled_by: int | None = None  # uid, by the accounting
    source_accounted: bool = True  # the accounting answered
    entangled: str = ""  # what keeps the source where it is
    copies: tuple[QueuedJob, ...] = ()  # those that the accounting alone still knows as well
    copies_accounted: bool = True


class Run(NamedTuple):
    """What this run has done about one move so far."""

    fresh: bool  # the move was begun in this run
    us: int = 0  # uid we act as
    tried: tuple[str, ...] = ()  # each time that something was sent
    unanswered: tuple[str, ...] = ()  # what took too long


class Effect(NamedTuple):
    """One thing to be done."""

    kind: str
    cluster: str = ""
    job_id: int = 0
    text: str = ""  # the comment


class Step(NamedTuple):
    """The move as it is to be written down, and after that what is to be done."""

    transfer: Transfer
    effects: tuple[Effect, ...] = ()
    wait_until_epoch_s: int = 0  # nothing to be done before; 0: nothing to wait for in this run


def phase(t: Transfer) -> str:
    """The first word of the note."""
    return t.note.partition(" ")[0] or NONE
