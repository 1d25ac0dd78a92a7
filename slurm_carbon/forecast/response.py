"""How the emissions of a grid answer to the calendar and to the weather: the first stage of our own forecaster.

A ridge regression of the logarithm of the intensity, less its mean of the last fortnight, on the hour of the day and, with
a weather forecast, on wind, sun, temperature and rain (by hinges, so that calm and storm may answer differently, and by
the hour), or without one, on the season and the week. What it leaves over is forecast from its own past by `design`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slurm_carbon.forecast.weather import COLUMNS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY_H, WEEK_H, YEAR_D = 24, 168, 365.2425
MONDAY_H = 72  # hours since the epoch, which was a Thursday, to the next Monday but for whole weeks
FORTNIGHT_H = 336
BLOCKS = 6  # stretches of the past; what one of them says is checked on coefficients of the others
PENALTIES = (10.0, 100.0, 1000.0, 5000.0)

WIND, TEMPERATURE, DEW_POINT, SUN, RAIN = range(len(COLUMNS))
SERIES = ("wind", "wind 6 h", "wind 12 h", "temperature", "temperature 12 h", "sun", "sun 12 h", "dew point", "rain")
# each series turns at these of its quantiles
HINGES: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("wind 6 h", (0, 0.2, 0.4, 0.6, 0.8, 0.95)), ("wind 12 h", (0, 0.5, 0.9)), ("temperature 12 h", (0, 0.2, 0.5, 0.8)),
    ("temperature", (0, 0.5)), ("sun", (0, 0.7)), ("sun 12 h", (0, 0.5)), ("dew point", (0,)), ("rain", (0,)),
    ("wind", (0, 0.5)),
)  # fmt: skip
BY_HOUR = (0, 1, 2, 3, 4, 6, 9, 10, 12, 13, 15)  # the hinges whose answer also depends on the hour of the day


# arithmetic on series


def harmonics(phase: Floats, count: int) -> Floats:
    """Sines, then cosines, of `count` harmonics of a phase from 0 to 1: one axis more."""
    angles = 2 * np.pi * phase[..., None] * np.arange(1, count + 1)
    return np.concatenate([np.sin(angles), np.cos(angles)], -1)


def trailing(values: Floats, hours: int) -> Floats:
    """Mean of the last hours up to and with each; of fewer where there are fewer. Along the first axis."""
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, 0)])
    ends = np.arange(len(values)) + 1
    starts = np.maximum(ends - hours, 0)
    return (sums[ends] - sums[starts]) / (ends - starts).reshape(-1, *(1,) * (values.ndim - 1))


def centred(values: Floats, hours: int) -> Floats:
    """Mean from so many hours before to so many after each, along the only axis."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    starts, ends = np.maximum(index - hours, 0), np.minimum(index + hours + 1, len(values))
    return (sums[ends] - sums[starts]) / (ends - starts)


def products(a: Floats, b: Floats) -> Floats:
    """All products of the last axes of two arrays."""
    return (a[..., :, None] * b[..., None, :]).reshape(*a.shape[:-1], -1)


def stretches(count: int) -> Ints:
    """Which stretch of the past each of so many moments belongs to."""
    return np.arange(count) * BLOCKS // max(count, 1)


def by_hour(hours: Ints, count: int) -> Floats:
    """Harmonics of the hour of the day; hours are counted from the epoch, UTC."""
    return harmonics(hours % DAY_H / DAY_H, count)


def by_week(hours: Ints, count: int) -> Floats:
    """Harmonics of the hour of the week."""
    return harmonics((hours + MONDAY_H) % WEEK_H / WEEK_H, count)


# the response


def weather_series(weather: Floats) -> dict[str, Floats]:
    """The series that the response goes by, of weather of shape (hours, COLUMNS)."""
    wind, sun = weather[:, WIND], weather[:, SUN]
    sun = (sun + centred(sun, 3)) / 2  # many services interpolate it from steps of three hours
    temperature = weather[:, TEMPERATURE]
    found = (
        wind, centred(wind, 6), centred(wind, 12), temperature, centred(temperature, 12), sun, centred(sun, 12),
        weather[:, DEW_POINT], np.log1p(10 * np.maximum(centred(weather[:, RAIN], 6), 0)),
    )  # fmt: skip
    return dict(zip(SERIES, found, strict=True))


class Response(NamedTuple):
    """A fitted response. Without weather the first three are empty."""

    knots: Floats
    mean: Floats
    scale: Floats
    beta: Floats

    def at(self, hours: Ints, weather: Floats | None) -> Floats:
        """The logarithm of the intensity, up to a level that changes slowly; hours since the epoch, one value each."""
        if weather is None:
            return _calendar(hours) @ self.beta
        return _columns(hours, (_hinged(weather, self.knots) - self.mean) / self.scale) @ self.beta


def fit(hours: Ints, log_g: Floats, weather: Floats | None) -> tuple[Response, Floats]:
    """The response to a past, and its values there, each stretch by coefficients that were fitted to the others."""
    knots = mean = scale = np.zeros(0)
    if weather is None:
        columns = _calendar(hours)
    else:
        series = weather_series(weather)
        knots = np.concatenate([np.quantile(series[name], quantiles) for name, quantiles in HINGES])
        hinged = _hinged(weather, knots)
        mean, scale = hinged.mean(0), hinged.std(0) + 1e-9
        columns = _columns(hours, (hinged - mean) / scale)
    x, y = columns - trailing(columns, FORTNIGHT_H), log_g - trailing(log_g, FORTNIGHT_H)
    stretch = stretches(len(hours))
    squares = np.stack([x[stretch == b].T @ x[stretch == b] for b in range(BLOCKS)])
    sides = np.stack([x[stretch == b].T @ y[stretch == b] for b in range(BLOCKS)])
    found: list[tuple[float, float, Floats]] = []
    for penalty in PENALTIES:
        ridge, values, error = penalty * np.eye(x.shape[1]), np.zeros(len(hours)), 0.0
        for b in range(BLOCKS):
            here = stretch == b
            beta = np.linalg.solve(squares.sum(0) - squares[b] + ridge, sides.sum(0) - sides[b])
            values[here] = columns[here] @ beta
            error += float(((y[here] - x[here] @ beta) ** 2).sum())
        found.append((error, penalty, values))
    _, penalty, values = min(found, key=lambda one: one[:2])
    beta = np.linalg.solve(squares.sum(0) + penalty * np.eye(x.shape[1]), sides.sum(0))
    return Response(knots, mean, scale, beta), values


def _calendar(hours: Ints) -> Floats:
    day, season, week = by_hour(hours, 6), harmonics(hours / DAY_H % YEAR_D / YEAR_D, 2), by_week(hours, 3)
    return np.concatenate([day, products(day, season), week, products(week, day[:, [0, 1, 6, 7]])], 1)


def _columns(hours: Ints, hinged: Floats) -> Floats:
    """With weather the season is left to it."""
    return np.concatenate([by_hour(hours, 6), hinged, products(hinged[:, BY_HOUR], by_hour(hours, 2))], 1)


def _hinged(weather: Floats, knots: Floats) -> Floats:
    series = weather_series(weather)
    values = np.stack([series[name] for name, quantiles in HINGES for _ in quantiles], 1)
    return np.maximum(values - knots, 0)
