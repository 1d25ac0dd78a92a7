"""What waits, why, until when and what that saves: for the owners of the jobs and for operators."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from slurm_carbon import marks
from slurm_carbon.hook.records import of_job
from slurm_carbon.ledger.values import Decided, Entry
from slurm_carbon.outlook import Outlook
from slurm_carbon.reoptimize.look import Story
from slurm_carbon.reoptimize.standing import Standing
from slurm_carbon.units import duration_text, energy_text, mass_text, printable, time_text

ADVISED = "advised"


class Row(NamedTuple):
    """One waiting job. Masses in g CO2e; None where nothing is known."""

    cluster: str
    number: str
    user: str
    name: str
    location: str
    start_epoch_s: int  # as things stand; full clusters can make it later
    latest_epoch_s: int | None
    baseline_g: float | None  # at once, at home
    planned_g: float | None
    by_comment: bool  # the two are known by the comment only, which its owner can write
    moves: int
    late: bool
    why: str

    @property
    def saved_g(self) -> float | None:
        """What it should save."""
        return None if self.baseline_g is None or self.planned_g is None else self.baseline_g - self.planned_g


def row(standing: Standing, advised: str = "") -> Row:
    """A job as it stands; `advised` is what would be done about it."""
    job, entry = standing.job, standing.entry
    hook, mark = of_job(job.admin_comment), marks.read(job.comment)[1]
    figures: tuple[float | None, float | None] = (None, None)
    if entry is not None:
        figures = entry.baseline_g, entry.planned_g
    elif hook is not None and hook.mode == "enforce" and hook.home:
        figures = hook.baseline_g, hook.emissions_g
    elif mark is not None:
        figures = mark.baseline_g, mark.emissions_g
    late = entry is not None and entry.late
    why = advised or standing.stays or {"site": "the site plans all jobs"}.get(standing.may, "placed when it was submitted")
    if not advised and not standing.stays and entry is not None and entry.moves:
        often = "once" if entry.moves == 1 else f"{entry.moves} times, the last"
        why = f"moved {often} {time_text(entry.moved_epoch_s)}"
    if late:
        why += "; late: all was full before"
    return Row(
        job.cluster, job.number, printable(job.user), printable(job.name), standing.here, standing.start_epoch_s,
        standing.latest_epoch_s or None, *figures, entry is None and hook is None and mark is not None,
        standing.moves, late, why,
    )  # fmt: skip


def advice(decisions: Sequence[Decided]) -> str:
    """What the last run would have done about a job, if it was only to say so; empty otherwise."""
    if not decisions or decisions[-1].outcome != ADVISED:
        return ""
    last = decisions[-1]
    saves = f", which should save {mass_text(last.saved_g)}" if last.saved_g > 0 else ""
    return f"better {time_text(last.to_epoch_s)} on {last.to_location}{saves}"


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for tools."""
    return [{**each._asdict(), "saved_g": each.saved_g} for each in rows]


def table(rows: Sequence[Row], now_epoch_s: int) -> list[str]:
    """The rows for a terminal, the soonest start first."""
    if not rows:
        return ["no job waits"]
    cells = [("job", "user", "name", "location", "start", "latest", "saves", "why")]
    for each in sorted(rows, key=lambda r: (r.start_epoch_s, r.cluster, r.number)):
        saved = "-" if each.saved_g is None else ("~" if each.by_comment else "") + mass_text(each.saved_g)
        start = "when there is room" if each.start_epoch_s <= now_epoch_s else time_text(each.start_epoch_s)
        latest = time_text(each.latest_epoch_s) if each.latest_epoch_s else "-"
        cells.append((each.number, each.user, each.name[:24], each.location, start, latest, saved, each.why))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    known = [each for each in rows if each.saved_g is not None and not each.by_comment]
    if known:
        lines.append(
            f"{len(known)} of {len(rows)} jobs should save {mass_text(sum(each.saved_g or 0.0 for each in known))} CO2e"
        )
    if any(each.by_comment for each in rows):
        lines.append("~ by the job's comment, which its owner can write")
    return lines


def explained(story: Story, outlook: Outlook, now_epoch_s: int) -> list[str]:
    """All about one job."""
    standing, entry = story.standing, story.entry
    lines = _standing(standing, story, now_epoch_s) if standing is not None else [_gone(story)]
    lines += _of_entry(entry, now_epoch_s)
    for name, (start, grams) in story.choices.items():
        when = "at once" if start <= now_epoch_s else time_text(start)
        lines.append(f"if there were room: {mass_text(grams)} at {name}, {when}")
    for each in story.decisions:
        lines.append(f"{time_text(each.decided_epoch_s)}: {_change(each)}: {printable(each.outcome)}; {printable(each.reason)}")
    for move in story.transfers:
        copy = f" job {move.target_id}" if move.target_id else ""
        lines.append(
            f"{time_text(move.changed_epoch_s)}: from {move.cluster} job {move.job_id} to {move.to_location}{copy}: "
            + move.state
        )
    return [*lines, f"outlook {duration_text(now_epoch_s - outlook.generated_epoch_s)} old"]


BY = {"mark": "csbatch, in its comment", "hook": "the submit hook, in its AdminComment", "site": "the site's configuration"}


def _standing(standing: Standing, story: Story, now_epoch_s: int) -> list[str]:
    each = row(standing, advice(story.decisions))
    starts = "as soon as there is room" if each.start_epoch_s <= now_epoch_s else time_text(each.start_epoch_s)
    lines = [
        f"job {each.number} of {each.user} on {each.cluster}: {each.name}",
        f"waits at {each.location}, starts {starts}",
    ]
    if each.latest_epoch_s and standing.may:
        late = ": it will be late, all was full before" if each.late else ""
        lines.append(f"latest start {time_text(each.latest_epoch_s)}{late}")
    if standing.stays:
        lines.append(f"is left alone: {standing.stays}")
    elif standing.may:
        lines.append(f"may be moved, by {BY[standing.may]}, to {', '.join(standing.locations)}")
    if each.baseline_g is not None and each.planned_g is not None:
        claim = " (by its comment)" if each.by_comment else ""
        lines.append(f"should emit {mass_text(each.planned_g)} CO2e instead of {mass_text(each.baseline_g)} at once{claim}")
    return lines


def _gone(story: Story) -> str:
    who = f" of {printable(story.entry.user)}" if story.entry else ""
    return f"job {story.job_id}{who} on {story.cluster} does not wait"


def _change(decided: Decided) -> str:
    place = "" if decided.from_location == decided.to_location else f"{decided.from_location} to {decided.to_location}, "
    tasks = f"tasks {printable(decided.tasks)}, " if decided.tasks else ""
    return f"{tasks}{place}{time_text(decided.from_epoch_s)} to {time_text(decided.to_epoch_s)}"


def _of_entry(entry: Entry | None, now_epoch_s: int) -> list[str]:
    if entry is None:
        return []
    lines = [f"energy {energy_text(entry.energy_kwh)}, forecast of {printable(entry.forecast)}"] if entry.forecast else []
    if entry.follows:
        lines.append(f"was {printable(entry.follows)} before")
    if entry.ended_epoch_s is not None:
        used = f", {energy_text(entry.used_kwh)} measured" if entry.used_kwh is not None else ""
        started = f"ran from {time_text(entry.started_epoch_s)}, " if entry.started_epoch_s is not None else ""
        lines.append(f"{started}ended {time_text(entry.ended_epoch_s)}: {printable(entry.state)}{used}")
    elif entry.started_epoch_s is not None:
        lines.append(f"runs for {duration_text(now_epoch_s - entry.started_epoch_s)}")
    return lines
