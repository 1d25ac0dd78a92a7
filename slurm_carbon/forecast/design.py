"""What our own forecaster looks at: the columns of its regressions, for each issue of a forecast and each hour ahead.

An issue is the first hour that is not known yet. `rest` is the logarithm of the intensity less the response to calendar and
weather; of it and of the measured series only hours before the issue are read. The response and the weather are read up to
the hour that is forecast: of the weather that is the weather forecast.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slurm_carbon.forecast.response import (
    DAY_H,
    WEEK_H,
    Floats,
    Ints,
    by_hour,
    by_week,
    centred,
    products,
    trailing,
    weather_series,
)

PAST_D = 28  # days before an issue that are read
PAST_H = PAST_D * DAY_H
HOUR_COLUMNS = [0, 1, 3, 4]  # sine and cosine of the day and the half day
FREE = 1e-6  # a column that is not to be shrunk


class Known(NamedTuple):
    """A span of hours: one value each, aligned. After the last hour that was measured, `rest` and `log_g` are not read."""

    hours: Ints  # since the epoch, UTC
    log_g: Floats
    response: Floats
    weather: Floats | None  # of shape (hours, 5), see `drivers`
    mix: Floats | None  # of shape (hours, 5), see `store.MIX`

    @property
    def rest(self) -> Floats:
        """What the response leaves over."""
        return self.log_g - self.response


class Issues(NamedTuple):
    """What is known at each of several issues: of shape (issues, ...)."""

    known: Known
    places: Ints  # of the issues in the span
    days: Floats  # (issues, 28, 24): the rest, in days cut backwards from the issue, the latest first
    volatility: Floats  # mean change from day to day in the last fortnight


def drivers(weather: Floats) -> Floats:
    """Of weather of shape (hours, COLUMNS) what the regressions see beside the response: (hours, 5)."""
    series = weather_series(weather)
    columns = (centred(series["wind"], 1), series["wind 6 h"], series["sun"], centred(series["temperature"], 3))
    return np.stack([*columns, series["temperature 12 h"]], 1)


def issues(known: Known, places: Ints) -> Issues:
    """The issues at positions of a span, each of which has PAST_H hours before it."""
    days = _days(known.rest, places, PAST_D)
    return Issues(known, places, days, np.abs(np.diff(days[:, :15], axis=1)).mean((1, 2)) + 1e-4)


def _days(values: Floats, places: Ints, count: int) -> Floats:
    return values[places[:, None, None] - DAY_H * np.arange(1, count + 1)[:, None] + np.arange(DAY_H)]


def columns(at: Issues, leads: Ints) -> tuple[Floats, Floats, Floats]:
    """Columns (issues, leads, columns), how strongly each is shrunk, and the simple forecast (issues, leads) they add to.

    A lead of 0 is the hour of the issue itself. The simple forecast is half the profile of the last week's days and half
    that of the same day of the last four weeks, plus the response.
    """
    known, days = at.known, at.days
    shape = (len(at.places), len(leads))
    target = at.places[:, None] + leads
    phase = np.broadcast_to(leads % DAY_H, shape)
    hour, week = by_hour(known.hours[target], 3), by_week(known.hours[target], 3)
    daily = days.mean(2)
    level, long_level = daily[:, :7].mean(1), daily.mean(1)
    profile, last = days[:, :7].mean(1), days[:, 0]

    def then(values: Floats, less: Floats = level) -> Floats:
        """Of values by the hour after the issue, that of the target hour, less a level."""
        return (np.take_along_axis(values, phase, 1) - less[:, None])[..., None]

    def always(values: Floats) -> Floats:
        """Values of the issue, at every lead."""
        return np.broadcast_to(values[:, None, :], (*shape, values.shape[1]))

    weeks = [known.rest[target - WEEK_H * count] for count in (1, 2, 3, 4)]
    same_day = sum(weeks) / 4 - long_level[:, None]
    simple = 0.5 * then(profile)[..., 0] + 0.5 * same_day + level[:, None] + known.response[target]
    own = np.concatenate(
        [then(days[:, day]) for day in range(7)]
        + [then(days[:, :count].mean(1)) for count in (3, 7, 14, PAST_D)]
        + [then(np.roll(values, hours, 1)) for values in (profile, last) for hours in (-2, 2)],
        -1,
    )
    deviation = last - profile
    recent = np.stack([deviation[:, -count:].mean(1) for count in (1, 4, 12)], 1)
    levels = np.concatenate(
        [daily[:, :7] - level[:, None], (daily[:, 7:14].mean(1) - level)[:, None], (long_level - level)[:, None]], 1
    )
    usual = trailing(known.response, WEEK_H)[at.places - 1]
    answer = (known.response[target] - usual[:, None])[..., None]
    yesterday = trailing(known.response, DAY_H)[at.places - 1] - usual
    parts: list[tuple[Floats, float]] = [
        (np.ones((*shape, 1)), FREE), (own, 1), (always(recent), 1), (always(levels), 1), (hour, 1), (week, 1),
        (np.stack([weeks[0] - level[:, None], same_day], -1), 1),
        (np.concatenate([answer, answer * np.abs(answer), answer * hour[..., [0]], answer * hour[..., [3]]], -1), 1),
        (always(yesterday[:, None]), 1),
    ]  # fmt: skip
    if known.weather is not None:
        moving = np.concatenate([own[..., [0, 1, 8, 10]], always(recent), always(levels[:, [0, -1]])], -1)
        parts += [(always(last - days[:, :14].mean(1)), 1), (products(moving, hour[..., HOUR_COLUMNS]), 3)]
        parts += [(values, 1) for values in (*_weather(at, target, leads, hour), *_measured(at, then, always))]
    if known.mix is not None:
        parts += [(values, 1) for column in known.mix.T for values in _generated(at.places, column, then, always)]
    x = np.concatenate([values for values, _ in parts], -1)
    shrunk = np.concatenate([np.full(values.shape[-1], strength) for values, strength in parts])
    return x, shrunk, simple


def _weather(at: Issues, target: Ints, leads: Ints, hour: Floats) -> tuple[Floats, ...]:
    """How the weather of the hour differs from that of the last week, and from that of the last such hour."""
    weather = at.known.weather
    if weather is None:
        return ()
    week = weather[target] - trailing(weather, WEEK_H)[at.places - 1][:, None]
    day = weather[target] - weather[target - DAY_H * (leads // DAY_H + 1)]
    return week, day, products(week, hour[..., HOUR_COLUMNS])


def _measured(at: Issues, then: Callable[..., Floats], always: Callable[[Floats], Floats]) -> tuple[Floats, ...]:
    """The series as it was measured, beside what the weather leaves over of it."""
    days = _days(at.known.log_g, at.places, PAST_D)
    level = days[:, :7].mean((1, 2))
    recent = np.stack([days[:, 0].mean(1) - level, days.mean((1, 2)) - level], 1)
    return (*(then(values, level) for values in (days[:, 0], days[:, :7].mean(1), days.mean(1))), always(recent))


def _generated(
    places: Ints, values: Floats, then: Callable[..., Floats], always: Callable[[Floats], Floats]
) -> tuple[Floats, ...]:
    """The course of one part of the mix in the last fortnight: its days, and where it stands."""
    days = _days(values, places, 14)
    level, profile = days[:, :7].mean((1, 2)), days[:, :7].mean(1)
    recent = days[:, 0] - profile
    state = [recent[:, -count:].mean(1) for count in (1, 4, 12)]
    state += [days[:, 0].mean(1) - level, level - days.mean((1, 2)), level]
    return then(days[:, 0], level), then(profile, level), always(np.stack(state, 1))
