"""The embedded climatology: what a zone's electricity usually emits at this hour, on this kind of day, in this month.

An average of past years, never a measurement or a forecast of this very day; everything made from it says so. It needs
no network and no key. scripts/make-climatology made the table, and names where its figures come from.
"""

import json
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from slurm_carbon.errors import ForecastError
from slurm_carbon.intensity import Intensity
from slurm_carbon.units import HOUR_S, utc

SOURCE = "climatology"


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


def series(zone: str, start_epoch_s: int, slot_s: int, slots: int) -> Intensity:
    """The usual intensity of a zone in g/kWh, `slots` of them from a start on. Raises ForecastError."""
    table = _table()["zones"].get(zone)
    if table is None:
        raise ForecastError(f"zone {zone}: not in the climatology, which has {', '.join(zones())}")

    def at(epoch_s: float) -> float:
        moment = utc(epoch_s)
        kind = "weekend" if moment.weekday() >= 5 else "weekday"
        return float(table[kind][moment.month - 1][moment.hour])

    def over(begin: int) -> float:
        """Mean over a slot: exact for slots that divide the hour or are whole hours."""
        steps = max(1, slot_s // HOUR_S)
        return sum(at(begin + step * slot_s / steps) for step in range(steps)) / steps

    end = utc(start_epoch_s + slots * slot_s)
    week = [at((end + timedelta(hours=hour)).timestamp()) for hour in range(7 * 24)]
    return Intensity(
        zone, start_epoch_s, slot_s, [over(start_epoch_s + i * slot_s) for i in range(slots)], sum(week) / len(week),
        SOURCE, "production", "lifecycle", start_epoch_s,
    )  # fmt: skip
