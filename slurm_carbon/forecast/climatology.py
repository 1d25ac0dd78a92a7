"""The embedded climatology: what a zone's electricity usually emits at this hour, on this kind of day, in this month.

An average of past years, never a measurement or a forecast of this very day; everything made from it says so. It needs
no network and no key. scripts/make-climatology made the table, and names where its figures come from.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.series import Series
from slurm_carbon.units import HOUR_S, utc

SOURCE = "climatology"
YEAR_D = 365.25


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files("slurm_carbon.forecast").joinpath("climatology.json").read_text("utf-8"))
    return table


def zones() -> list[str]:
    """The zones that it knows."""
    return sorted(_table()["zones"])


def provenance() -> str:
    """Where its figures come from."""
    return str(_table()["source"])


def captured(zone: str) -> tuple[float, str]:
    """Share of the possible saving that its hours let a job reach, and where that was measured (scripts/make-climatology)."""
    table = _table()
    share = table["captured"].get(zone)
    return (table["captured_usually"], "usual for a climatology") if share is None else (share, "measured on 2022")


def series(zone: str, start_epoch_s: int, end_epoch_s: int) -> Series:
    """The usual intensity of a zone in g/kWh, hour by hour over a span. Raises ForecastError."""
    table = _table()["zones"].get(zone)
    if table is None:
        raise ForecastError(f"zone {zone}: not in the climatology, which has {', '.join(zones())}")

    first = start_epoch_s - start_epoch_s % HOUR_S
    hours = [usual(table, hour) for hour in range(first, end_epoch_s, HOUR_S)]
    return Series(zone, first, HOUR_S, hours, SOURCE, "production", "lifecycle", start_epoch_s)


def usual(table: dict[str, Any], epoch_s: int) -> float:
    """The usual value of an hour, from 12 months of 24 hours for each kind of day.

    A month's hours are those of its middle; in between they pass over to the next, so that no job waits for the first.
    """
    moment = utc(epoch_s)
    kind = table["weekend" if moment.weekday() >= 5 else "weekday"]
    day = moment.timetuple().tm_yday - 1 + moment.hour / 24
    month, share = divmod(day / YEAR_D * 12 - 0.5, 1)
    before, after = kind[int(month) % 12][moment.hour], kind[(int(month) + 1) % 12][moment.hour]
    return float(before + share * (after - before))
