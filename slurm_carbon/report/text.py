"""The outlook in a terminal."""

from collections.abc import Iterable

from slurm_carbon.forecast.services import SERVICES
from slurm_carbon.intensity import Intensity, Part
from slurm_carbon.outlook import Outlook
from slurm_carbon.units import duration_text, time_text

WEATHER_CREDIT = "weather by Open-Meteo.com, CC BY 4.0"
_BARS = "▁▂▃▄▅▆▇█"
SHOWN_S = 48 * 3600
AGELESS = ("climatology", "annual mean", "static")  # averages: when they were made says nothing


def sparkline(values: list[float], low: float, high: float) -> str:
    """One block a value, between a lowest and a highest that several lines share."""
    span = (high - low) or 1.0
    return "".join(_BARS[min(len(_BARS) - 1, int((value - low) / span * len(_BARS)))] for value in values)


def outlook_table(outlook: Outlook, path: str, now_epoch_s: int) -> list[str]:
    """A line a location: zone, now, lowest and highest of the coming 48 h with the hour, and their course."""
    if not outlook.locations:
        return [f"{path}: no locations"]
    rows = [("location", "zone", "now", "lowest", "at", "highest", f"from {time_text(now_epoch_s)}, 48 h")]
    courses = {}
    for zone, grid in outlook.zones.items():
        first = max(0, (now_epoch_s - grid.start_epoch_s) // grid.slot_s)
        courses[zone] = (first, grid.mean_g_per_kwh[first : first + SHOWN_S // grid.slot_s])
    low = min(min(values, default=0) for _, values in courses.values())
    high = max(max(values, default=0) for _, values in courses.values())
    for location in outlook.locations:
        first, values = courses[location.zone]
        if not values:
            continue
        grid = outlook.zones[location.zone]
        best = values.index(min(values))
        rows.append(
            (
                location.name,
                location.zone,
                f"{values[0]:.0f}",
                f"{values[best]:.0f}",
                time_text(grid.start_epoch_s + (first + best) * grid.slot_s),
                f"{max(values):.0f}",
                sparkline(_hourly(values, grid.slot_s), low, high),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append("g CO2e per kWh of electricity, before PUE")
    for zone, grid in outlook.zones.items():
        lines.append(f"{zone}: {grid.accounting}, {grid.factors} factors; {'; '.join(origin(grid, now_epoch_s))}")
    lines += attribution(outlook.zones.values())
    age = duration_text(now_epoch_s - outlook.generated_epoch_s)
    lines.append(f"{path}: {age} old, used until it is {duration_text(outlook.max_age_s)} old")
    return lines


def origin(grid: Intensity, now_epoch_s: int) -> list[str]:
    """Who says so, from when on and how long ago, and what delays by it are worth."""
    lines = []
    for number, part in enumerate(grid.parts or (Part(grid.start_epoch_s, grid.source, grid.issued_epoch_s),)):
        since = "" if number == 0 else f"from {time_text(part.start_epoch_s)} on the course of "
        age = duration_text(max(0, now_epoch_s - part.issued_epoch_s))
        how = f", from what was measured until {age} ago" if part.source.startswith("own") else f", issued {age} ago"
        lines.append(since + part.source + ("" if part.source.startswith(AGELESS) else how))
    lines.append(f"waiting by it captures {100 * grid.captured:.0f} % of the possible saving ({grid.captured_by or 'unknown'})")
    return lines


def attribution(grids: Iterable[Intensity]) -> list[str]:
    """Who has to be named for the figures, one line; nothing where nobody has."""
    sources = {part.source for grid in grids for part in grid.parts}
    named = sorted({SERVICES[source].credit for source in sources if source in SERVICES})
    named += [WEATHER_CREDIT] if any("with weather" in source for source in sources) else []
    return [f"data: {'; '.join(named)}"] if named else []


def _hourly(values: list[float], slot_s: int) -> list[float]:
    """At most one value an hour, so that the line fits a terminal."""
    step = max(1, 3600 // slot_s)
    return [sum(part) / len(part) for part in (values[i : i + step] for i in range(0, len(values), step))]
