"""The note that a decision leaves in a job's comment: short, versioned, after the user's own text.

    cs1 begin=1795489200 latest=1795546800 at=beta/batch g=412 base=1033 kwh=1.93

`begin` and `latest` are epoch seconds, `g` the expected emissions, `base` those of starting at once, both g CO2e.
Anybody can write a comment: what is read here is a claim, to be checked before anything is done because of it.
"""

from slurm_carbon.light import NamedTuple
from slurm_carbon.model import Decision

VERSION = "cs1"
COMMENT_LIMIT = 1024  # bytes; sbatch refuses a longer one
_SEPARATOR = " | "


class Mark(NamedTuple):
    """What a comment claims about a job."""

    begin_epoch_s: int
    latest_epoch_s: int
    location: str
    emissions_g: float
    baseline_g: float
    energy_kwh: float


def write(mark: Mark) -> str:
    """The text of a mark, without what the user wrote."""
    return (
        f"{VERSION} begin={mark.begin_epoch_s} latest={mark.latest_epoch_s} at={mark.location} "
        f"g={mark.emissions_g:.4g} base={mark.baseline_g:.4g} kwh={mark.energy_kwh:.4g}"
    )


def of_decision(decision: Decision) -> str:
    """The mark of a decision that changes something; empty for one that does not."""
    if decision.chosen is None or decision.baseline is None or decision.window is None:
        return ""
    chosen = decision.chosen
    return write(
        Mark(
            chosen.start_epoch_s,
            decision.window.latest_epoch_s,
            chosen.location.name,
            chosen.emissions_g,
            decision.baseline.emissions_g,
            chosen.estimate.energy_kwh,
        )
    )


def append(comment: str | None, mark: str) -> str | None:
    """The user's comment with the mark behind it; None where both do not fit."""
    joined = comment + _SEPARATOR + mark if comment else mark
    return joined if len(joined.encode("utf-8", "surrogateescape")) <= COMMENT_LIMIT else None


def read(comment: str) -> tuple[str, Mark | None]:
    """The user's own text and the mark, if the comment ends in one that is whole and sensible."""
    before, separator, tail = comment.rpartition(_SEPARATOR)
    words = tail.split(" ")
    if words[0] != VERSION:
        return comment, None
    fields = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    try:
        mark = Mark(
            int(fields["begin"]),
            int(fields["latest"]),
            fields["at"],
            float(fields["g"]),
            float(fields["base"]),
            float(fields["kwh"]),
        )
    except (KeyError, ValueError):
        return comment, None
    numbers = (mark.emissions_g, mark.baseline_g, mark.energy_kwh)
    if mark.begin_epoch_s < 0 or mark.latest_epoch_s < 0 or not all(0 <= n < 1e15 for n in numbers):
        return comment, None
    return (before if separator else ""), mark
