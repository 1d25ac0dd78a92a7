"""The weather forecast of a place, hour by hour, from Open-Meteo (no key for non-commercial use) or from a file.

It feeds our own forecaster. What was forecast for the past hours comes in the same answer as what is forecast for the
coming ones, by the same weather model: the forecaster compares the two.
"""

import csv
import io
import os
from typing import NamedTuple

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.http import Ask, Request, parsed
from slurm_carbon.forecast.series import FIRST_S, LAST_S, ODD, broken, epoch_s, iso, value
from slurm_carbon.units import DAY_S, HOUR_S, utc

COLUMNS = ("wind_m_s", "temperature_c", "dew_point_c", "irradiance_w_m2", "rain_mm")
_VARIABLES = {
    "wind_speed_100m": ("wind_m_s", "m/s"), "temperature_2m": ("temperature_c", "°C"), "dew_point_2m": ("dew_point_c", "°C"),
    "shortwave_radiation": ("irradiance_w_m2", "W/m²"), "precipitation": ("rain_mm", "mm"),
}  # fmt: skip
_RANGES = {
    "wind_m_s": (0, 120), "temperature_c": (-90, 70), "dew_point_c": (-100, 60), "irradiance_w_m2": (-20, 1600),
    "rain_mm": (0, 500),
}  # fmt: skip
URL = "https://api.open-meteo.com/v1/forecast"
PAST_URL = "https://historical-forecast-api.open-meteo.com/v1/forecast"
NEAR_DEG = 0.6  # how far the point of the weather model may be from the one that was asked for
FILLED_H = 3


class Weather(NamedTuple):
    """Hours without a gap from a start on: one list a column, in the order of COLUMNS."""

    start_epoch_s: int
    columns: tuple[list[float], ...]

    @property
    def end_epoch_s(self) -> int:
        """End of the last hour."""
        return self.start_epoch_s + HOUR_S * len(self.columns[0])


def request(at: tuple[float, ...], past_days: int, days: int, url: str = "") -> Request:
    """The last and the coming days at a place (latitude, longitude)."""
    return Request(url or URL, (*_query(at), ("past_days", str(past_days)), ("forecast_days", str(days))))


def past_request(at: tuple[float, ...], start_epoch_s: int, end_epoch_s: int, url: str = "") -> Request:
    """What was forecast for a span of years."""
    days = (("start_date", f"{utc(start_epoch_s):%Y-%m-%d}"), ("end_date", f"{utc(end_epoch_s - 1):%Y-%m-%d}"))
    return Request(url or PAST_URL, (*_query(at), *days))


def _query(at: tuple[float, ...]) -> tuple[tuple[str, str], ...]:
    place = (("latitude", f"{at[0]:g}"), ("longitude", f"{at[1]:g}"))
    return (
        *place,
        ("hourly", ",".join(_VARIABLES)),
        ("wind_speed_unit", "ms"),
        ("timeformat", "unixtime"),
        ("timezone", "GMT"),
    )


def answer(body: bytes, asked: Request) -> Weather:
    """The hours of an answer. Raises ForecastError for another place or unit, and for gaps that are too long."""
    raw = parsed(body, asked)
    wanted = dict(asked.query)
    try:
        if not all(abs(float(raw[name]) - float(wanted[name])) <= NEAR_DEG for name in ("latitude", "longitude")):
            raise ForecastError(f"weather: answers for {raw['latitude']}, {raw['longitude']}")
        for variable, (_, unit) in _VARIABLES.items():
            if raw["hourly_units"][variable] != unit:
                raise ForecastError(f"weather: {variable} in {str(raw['hourly_units'][variable])[:20]!r}, not in {unit}")
        times, hourly = raw["hourly"]["time"], raw["hourly"]
        rows = {int(start): [value(hourly[variable][index]) for variable in _VARIABLES] for index, start in enumerate(times)}
    except ODD as error:
        raise ForecastError(f"weather: {broken(error)}") from None
    return _regular(rows)


def read(path: str) -> Weather:
    """The weather in a CSV file: `start` and the COLUMNS. Raises ForecastError with the line."""
    if os.path.exists(path) and not os.path.isfile(path):  # a FIFO would hold us up for ever
        raise ForecastError(f"{path}: is no file")
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = csv.DictReader(io.StringIO(file.read()), skipinitialspace=True)
            missing = [name for name in ("start", *COLUMNS) if name not in (lines.fieldnames or ())]
            if missing:
                raise ForecastError(f"{path}: has no {missing[0]!r}; expected {', '.join(('start', *COLUMNS))}")
            rows = {}
            for line in lines:
                start = int(line["start"]) if (line["start"] or "").isdecimal() else epoch_s(line["start"])
                rows[start] = [value(line[name] or None) for name in COLUMNS]
    except OSError as error:
        raise ForecastError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, csv.Error) as error:
        raise ForecastError(f"{path}: {error}") from None
    return _regular(rows)


def _regular(rows: dict[int, list[float | None]]) -> Weather:
    """Hours in order; a few that are missing repeat the one before."""
    if not rows or any(start % HOUR_S or not FIRST_S <= start <= LAST_S for start in rows):
        raise ForecastError("weather: has no whole hours of our times")
    first, last = min(rows), max(rows)
    if last - first > 20 * 366 * DAY_S:
        raise ForecastError(f"weather: from {iso(first)} to {iso(last)}")
    columns: list[list[float]] = [[] for _ in COLUMNS]
    for column, name in zip(columns, COLUMNS, strict=True):
        index = COLUMNS.index(name)
        known, missing = None, 0
        for start in range(first, last + 1, HOUR_S):
            found = rows.get(start, [None] * len(COLUMNS))[index]
            missing = 0 if found is not None else missing + 1
            known = found if found is not None else known
            if known is None or missing > FILLED_H:
                raise ForecastError(f"weather: no {name} at {iso(start)}")
            if not _RANGES[name][0] <= known <= _RANGES[name][1]:
                raise ForecastError(f"weather: {name} {known:g} at {iso(start)} is not possible")
            column.append(known)
    return Weather(first, tuple(columns))


def forecast(ask: Ask, at: tuple[float, ...], past_days: int, days: int, url: str = "") -> Weather:
    """The last and the coming days. Raises ForecastError."""
    asked = request(at, past_days, days, url)
    return answer(ask(asked), asked)


def past(ask: Ask, at: tuple[float, ...], start_epoch_s: int, end_epoch_s: int, url: str = "") -> Weather:
    """What was forecast for a span of the past. Raises ForecastError."""
    asked = past_request(at, start_epoch_s, end_epoch_s, url)
    return answer(ask(asked), asked)
