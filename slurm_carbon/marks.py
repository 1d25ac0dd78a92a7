"""The note that a decision leaves in a job's comment: short, versioned, after the user's own text.

    cs1 begin=1795489200 latest=1795546800 at=beta/batch g=412 base=1033 kwh=1.93 id=5f0c... in=alpha/batch,beta/batch

`begin` and `latest` are epoch seconds, `g` the expected emissions, `base` those of starting at once, both g CO2e. `id`
names the record that csbatch keeps of the submission, `in` says where the job may run (only `at`, if it is missing), and
`mv` stands there while the job moves to another cluster. A job that its owner wants left alone has `cs1 off` instead.
Anybody can write a comment: what is read here is a claim, to be checked before anything is done because of it.
"""

from slurm_carbon.light import NamedTuple
from slurm_carbon.model import Decision
from slurm_carbon.outlook import Outlook

VERSION = "cs1"
OFF = f"{VERSION} off"
COMMENT_LIMIT = 1024  # bytes; sbatch refuses a longer one
LOCATIONS = 256  # that one mark names at most
_SEPARATOR = " | "
_HEXADECIMAL = frozenset("0123456789abcdef")


class Mark(NamedTuple):
    """What a comment claims about a job."""

    begin_epoch_s: int
    latest_epoch_s: int
    location: str
    emissions_g: float
    baseline_g: float
    energy_kwh: float
    id: str = ""  # of the submission record that csbatch keeps: 16 hexadecimal digits
    locations: tuple[str, ...] = ()  # where the job may run; empty: only at `location`
    move: str = ""  # id of the transfer that is under way


def write(mark: Mark) -> str:
    """The text of a mark, without what the user wrote."""
    text = (
        f"{VERSION} begin={mark.begin_epoch_s} latest={mark.latest_epoch_s} at={mark.location} "
        f"g={mark.emissions_g:.4g} base={mark.baseline_g:.4g} kwh={mark.energy_kwh:.4g}"
    )
    more = (("id", mark.id), ("in", ",".join(mark.locations)), ("mv", mark.move))
    return text + "".join(f" {name}={value}" for name, value in more if value)


def of_decision(decision: Decision, outlook: Outlook, mark_id: str = "") -> Mark | None:
    """The mark of a decision; None for one that leaves nothing on the job.

    Where the site plans waiting jobs again, a job that is best off at once and at home is marked, too: it may have to wait.
    """
    placed = decision.chosen or (decision.baseline if outlook.reoptimize else None)
    if placed is None or decision.baseline is None or decision.window is None:
        return None
    locations = may_run_at(decision, outlook)
    return Mark(
        placed.start_epoch_s,
        decision.window.latest_epoch_s,
        placed.location.name,
        placed.emissions_g,
        decision.baseline.emissions_g,
        placed.estimate.energy_kwh,
        mark_id,
        () if locations == (placed.location.name,) else locations,
    )


def may_run_at(decision: Decision, outlook: Outlook) -> tuple[str, ...]:
    """The names of all locations where a job may run, in the order of the outlook: always the one of plain sbatch."""
    found = {alternative.location.name for alternative in decision.alternatives if alternative.best is not None}
    found |= {placed.location.name for placed in (decision.chosen, decision.baseline) if placed is not None}
    return tuple(location.name for location in outlook.locations if location.name in found)


def append(comment: str | None, mark: Mark | str) -> str | None:
    """The user's comment with the mark behind it; None where both do not fit, even without what the mark can do without.

    That is, in this order, where else the job may run, and the id of its record.
    """
    if isinstance(mark, Mark):
        for shorter in (mark, mark._replace(locations=()), mark._replace(locations=(), id="")):
            if (joined := append(comment, write(shorter))) is not None:
                return joined
        return None
    joined = comment + _SEPARATOR + mark if comment else mark
    return joined if len(joined.encode("utf-8", "surrogateescape")) <= COMMENT_LIMIT else None


def is_off(comment: str) -> bool:
    """Whether the comment ends in the owner's word that the job is to be left alone."""
    return comment.rpartition(_SEPARATOR)[2] == OFF


def read(comment: str) -> tuple[str, Mark | None]:
    """The user's own text and the mark, if the comment ends in one that is whole and sensible."""
    before, separator, tail = comment.rpartition(_SEPARATOR)
    words = tail.split(" ")
    if words[0] != VERSION or len(comment) > 2 * COMMENT_LIMIT:
        return comment, None
    fields = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    try:
        mark = Mark(
            _seconds(fields["begin"]),
            _seconds(fields["latest"]),
            _location(fields["at"]),
            float(fields["g"]),
            float(fields["base"]),
            float(fields["kwh"]),
            _id(fields.get("id", "")),
            tuple(map(_location, fields["in"].split(",", LOCATIONS))) if "in" in fields else (),
            _id(fields.get("mv", "")),
        )
    except (KeyError, ValueError):
        return comment, None
    numbers = (mark.emissions_g, mark.baseline_g, mark.energy_kwh)
    if not all(0 <= n < 1e15 for n in numbers) or len(mark.locations) > LOCATIONS:
        return comment, None
    return (before if separator else ""), mark


def is_id(text: str) -> bool:
    """Whether a text has the form of the id of a record or a transfer: it may name a file."""
    return len(text) == 16 and _HEXADECIMAL.issuperset(text)


def _id(text: str) -> str:
    if text and not is_id(text):
        raise ValueError("no id")
    return text


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 13):
        raise ValueError("no time")
    return int(text)


def _location(text: str) -> str:
    cluster, slash, partition = text.partition("/")
    if not (cluster and slash and partition) or "/" in partition or not text.isprintable():
        raise ValueError("no location")
    return text
