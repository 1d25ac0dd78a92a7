"""The forecast of a zone in a terminal: its hours with their band, where they come from, and what they are worth."""

from slurm_carbon.forecast.scores import Score
from slurm_carbon.intensity import Intensity
from slurm_carbon.report.text import attribution, origin, sparkline
from slurm_carbon.units import HOUR_S, time_text, zone_of_time

BAR = 30  # characters of the largest value
BEST_H = 4


def table(grid: Intensity, now_epoch_s: int, hours: int) -> list[str]:
    """A line an hour (or a slot, if that is longer), with a bar, and above it the course of the whole horizon."""
    first = max(0, (now_epoch_s - grid.start_epoch_s) // grid.slot_s)
    mean = grid.mean_g_per_kwh[first:]
    lines = [f"{grid.zone}: g CO2e/kWh of {grid.accounting}, {grid.factors} factors, before PUE"]
    lines += [f"  {said}" for said in (*origin(grid, now_epoch_s), *attribution([grid]))]
    if not mean:
        return [*lines, "  it has run out"]
    per_hour = max(1, HOUR_S // grid.slot_s)
    course = [sum(part) / len(part) for part in (mean[i : i + per_hour] for i in range(0, len(mean), per_hour))]
    for day in range(0, len(course), 72):
        shown = course[day : day + 72]
        at = time_text(grid.start_epoch_s + (first + day * per_hour) * grid.slot_s)
        lines.append(f"  {sparkline(shown, min(course), max(course))}  from {at}")
    lines.append(
        f"  ▁ is {min(course):.0f} and █ {max(course):.0f} g/kWh; after that its mean of {grid.beyond_g_per_kwh:.0f} is taken"
    )
    lines.append(f"  {best(grid, first)}")
    known = min(len(grid.low_g_per_kwh or ()), len(grid.high_g_per_kwh or ()))
    lines += ["", f"{f'start ({zone_of_time()})':16}  g/kWh  {'10 to 90 %' if known > first else ''}".rstrip()]
    top = max(mean) or 1.0
    for slot in range(first, min(len(grid.mean_g_per_kwh), first + max(1, hours * HOUR_S // grid.slot_s)), per_hour):
        value = course[(slot - first) // per_hour]
        band = f"{_mean(grid.low_g_per_kwh, slot, per_hour):4.0f} to {_mean(grid.high_g_per_kwh, slot, per_hour):<4.0f}"
        band = f"{band if slot < known else '':12}  " if known > first else ""
        bar = "█" * max(1, round(BAR * value / top))
        lines.append(f"{time_text(grid.start_epoch_s + slot * grid.slot_s):16}  {value:5.0f}  {band}{bar}")
    return lines


def _mean(values: list[float] | None, slot: int, count: int) -> float:
    part = (values or [])[slot : slot + count]
    return sum(part) / len(part) if part else 0.0


def best(grid: Intensity, first: int) -> str:
    """When a job of four hours would start within a day, and what that saves."""
    starts = [grid.start_epoch_s + slot * grid.slot_s for slot in range(first, len(grid.mean_g_per_kwh))]
    starts = [start for start in starts if start <= starts[0] + 20 * HOUR_S and start + BEST_H * HOUR_S <= grid.end_epoch_s]
    if not starts:
        return "too short for a job of four hours"
    means = [grid.over_run(start, BEST_H * HOUR_S) for start in starts]
    saved = 100 * (1 - min(means) / means[0]) if means[0] > 0 else 0.0
    at = starts[means.index(min(means))]
    when = "at once" if at == starts[0] else f"at {time_text(at)}, {saved:.0f} % less than now"
    return f"a job of 4 h within a day: best {when}"


def scores(zone: str, found: dict[str, Score]) -> list[str]:
    """A line a source."""
    if not found:
        return [f"{zone}: nothing to compare yet: forecasts are noted every six hours, and judged when a day was measured"]
    rows = [("source", "forecasts", "MAPE 24 h", "pinball", "in the band", "captured")]
    for source, score in found.items():
        rows.append(
            (
                source,
                str(score.issues),
                _number(score.mape_pct, "{:.1f} %"),
                _number(score.pinball_g_per_kwh, "{:.1f} g/kWh"),
                _number(None if score.coverage is None else 100 * score.coverage, "{:.0f} %"),
                _number(None if score.captured is None else 100 * score.captured, "{:.0f} %"),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [zone, *(f"  {line}" for line in lines)]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
