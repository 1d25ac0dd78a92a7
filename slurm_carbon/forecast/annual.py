"""The annual mean of a country: what is left to say where nothing else is known. It has no hours, so it delays nobody.

scripts/make-annual computed it from the country's energy mix, by the factors of `mix`.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.series import Series
from slurm_carbon.units import HOUR_S


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files("slurm_carbon.forecast").joinpath("annual.json").read_text("utf-8"))
    return table


def provenance() -> str:
    """Where its figures come from."""
    return str(_table()["source"])


def mean(zone: str, factors: str) -> tuple[int, float] | None:
    """Year and g/kWh of the country of a zone (`US` for `US-CAL-CISO`); None where it is not known."""
    found = _table()["countries"].get(zone.partition("-")[0])
    return (found[0], float(found[1 if factors == "lifecycle" else 2])) if found else None


def series(zone: str, start_epoch_s: int, end_epoch_s: int, factors: str) -> Series:
    """The same value for every hour. Raises ForecastError for a country that is not known."""
    found = mean(zone, factors)
    if found is None:
        raise ForecastError(
            f"zone {zone}: no annual mean of country {zone.partition('-')[0]!r}; there are {len(_table()['countries'])}"
        )
    year, g_per_kwh = found
    source = f"annual mean of {zone.partition('-')[0]}, {year}"
    hours = -(-(end_epoch_s - start_epoch_s) // HOUR_S)
    return Series(zone, start_epoch_s, HOUR_S, [g_per_kwh] * hours, source, "production", factors, start_epoch_s)
