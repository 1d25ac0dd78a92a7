"""Our own forecast of a zone: its history, the weather where the site has named a place, and the fitted model, put together.

A model is fitted with everything that is at hand, and without: where the weather or the mix is missing one day, the poorer
model answers, and the source says so.
"""

import itertools
from typing import NamedTuple

import numpy as np

from slurm_carbon.config import Zone
from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import model as models
from slurm_carbon.forecast import weather as weathers
from slurm_carbon.forecast.design import PAST_H
from slurm_carbon.forecast.http import Ask
from slurm_carbon.forecast.model import HORIZON_H, Model
from slurm_carbon.forecast.response import DAY_H, WEEK_H, Floats
from slurm_carbon.forecast.series import Series, iso
from slurm_carbon.forecast.store import MIX, Store
from slurm_carbon.forecast.weather import Weather
from slurm_carbon.units import HOUR_S, duration_text

READ_H = PAST_H + WEEK_H  # of the past, for one forecast
LONGEST_FIT_H = 3 * 366 * DAY_H
LATEST_S = 48 * HOUR_S  # how long ago the last measured hour may be
MOST_MISSING = 0.1
BRIDGED_H = 3  # a longer gap is filled from the same hours of other days
Kind = tuple[str, str]


class Own(NamedTuple):
    """A forecast, and the share of the possible saving that its model reached on what it was not fitted to."""

    series: Series
    captured: float
    trouble: str  # why there was no weather, where there should have been


def file_name(zone: str, kind: Kind) -> tuple[str, str]:
    """Where the store keeps the models of a zone."""
    return "models", f"{zone} {' '.join(kind)}.npz"


def forecast(zone: Zone, store: Store, ask: Ask, now_epoch_s: int, weather_url: str = "") -> Own:
    """The coming four days. Raises ForecastError where there is no model, or too little of the last month is known."""
    kind, fitted = _fitted(zone.name, store)
    history = store.history(zone.name, kind)
    end = max((start for start in history if start < now_epoch_s), default=0) + HOUR_S
    if now_epoch_s - end > LATEST_S:
        raise ForecastError(f"the history ends {duration_text(now_epoch_s - end)} ago")
    begin = end - READ_H * HOUR_S
    measured = filled(history, begin, end)
    mix = _mix(store, zone.name, begin, end) if any(model.uses[1] for model in fitted) else None
    weather, trouble = None, ""
    if zone.weather_at and any(model.uses[0] for model in fitted):
        try:
            weather = _cut(_asked(zone, ask, weather_url), begin, end + HORIZON_H * HOUR_S)
        except ForecastError as error:
            trouble = str(error)
    model = _richest(fitted, weather is not None, mix is not None)
    if model is None:
        raise ForecastError(f"the model needs weather: {trouble or 'the zone has no weather_at'}")
    ahead = HORIZON_H if weather is None else len(weather) - READ_H
    hours = np.arange(begin // HOUR_S, end // HOUR_S + ahead)
    try:
        found = model.at(
            hours, _padded(measured, len(hours)), np.array([READ_H]), weather if model.uses[0] else None,
            _padded(mix, len(hours)) if model.uses[1] and mix is not None else None,
        )  # fmt: skip
    except (ValueError, IndexError) as error:  # a file of another shape
        raise ForecastError(f"the model file is broken ({type(error).__name__}); fit it again") from None
    source = "own" + (", with weather" if model.uses[0] else "") + (", without weather today" if trouble else "")
    low, mean, high = (values[0].tolist() for values in (found.low, found.mean, found.high))
    series = Series(zone.name, end, HOUR_S, mean, source, *kind, end, low, high)
    return Own(series, float(model.skill[1]), trouble)


def fit(zone: str, store: Store, kind: Kind, weather: Weather | None = None) -> list[Model]:
    """Models for all that is at hand, from the history that is kept; kept themselves. Raises ForecastError."""
    history = store.history(zone, kind)
    if not history:
        raise ForecastError(f"zone {zone}: no history of {', '.join(kind)}")
    end = max(history) + HOUR_S
    begin = max(min(history), end - LONGEST_FIT_H * HOUR_S)
    if weather is not None:
        begin, end = max(begin, weather.start_epoch_s), min(end, weather.end_epoch_s)
        if end - begin < models.LEAST_FIT_H * HOUR_S:
            days = max(0, end - begin) // (HOUR_S * DAY_H)
            raise ForecastError(
                f"zone {zone}: the weather covers {days} days of the history, {models.LEAST_FIT_H // DAY_H} are needed"
            )
    try:
        measured = filled(history, begin, end)
        mix = _mix(store, zone, begin, end)
        moved = None if weather is None else _cut(weather, begin, end)
        hours = np.arange(begin // HOUR_S, end // HOUR_S)
        weathers_at_hand = [None] if moved is None else [None, moved]
        mixes_at_hand = [None] if mix is None else [None, mix]
        found = [models.fit(hours, measured, *inputs) for inputs in itertools.product(weathers_at_hand, mixes_at_hand)]
    except ForecastError as error:
        raise ForecastError(f"zone {zone}: {error}") from None
    store.write(models.dump(found), *file_name(zone, kind))
    return found


def _fitted(zone: str, store: Store) -> tuple[Kind, list[Model]]:
    """The models of the kind of history that is the newest."""
    newest = sorted(store.kinds(zone), key=lambda kind: max(store.history(zone, kind), default=0), reverse=True)
    for kind in newest:
        data = store.read(*file_name(zone, kind))
        if data is not None:
            return kind, models.load(data)
    raise ForecastError(f"no model; fit one with `slurm-carbon forecast fit {zone}`")


def _richest(fitted: list[Model], weather: bool, mix: bool) -> Model | None:
    """The model that makes the most of what is at hand."""
    fitting = [model for model in fitted if model.uses[0] <= weather and model.uses[1] <= mix]
    return max(fitting, key=lambda model: model.uses, default=None)


def _asked(zone: Zone, ask: Ask, url: str) -> Weather:
    days = (READ_H + LATEST_S // HOUR_S) // DAY_H + 1
    return weathers.forecast(ask, zone.weather_at, days, 2 + HORIZON_H // DAY_H, url)


# arrays


def filled(history: dict[int, float], begin: int, end: int) -> Floats:
    """Every hour of a span: short gaps by a straight line, longer ones by the same hours of days near by.

    Raises ForecastError where too much is missing.
    """
    starts = np.arange(begin, end, HOUR_S)
    values = np.array([history.get(int(start), np.nan) for start in starts])
    missing = np.isnan(values)
    if len(values) == 0:
        raise ForecastError("no hours at all")
    if missing.mean() > MOST_MISSING:
        raise ForecastError(
            f"{100 * missing.mean():.0f} % of the hours from {iso(begin)} to {iso(end)} are missing, "
            f"at most {100 * MOST_MISSING:.0f} % may be"
        )
    if not missing.any():
        return values
    places = np.arange(len(values))
    known = places[~missing]
    left = known[np.maximum(np.searchsorted(known, places, side="right") - 1, 0)]
    right = known[np.minimum(np.searchsorted(known, places), len(known) - 1)]
    straight = np.interp(places, known, values[known])
    for place in places[missing]:
        days = [place + sign * count * DAY_H for count in (1, 2, 7, 14) for sign in (-1, 1)]
        others = [values[day] for day in days if 0 <= day < len(values) and not missing[day]]
        long = right[place] - left[place] - 1 > BRIDGED_H or not left[place] < place < right[place]
        values[place] = others[0] if long and others else straight[place]
    return values


def _mix(store: Store, zone: str, begin: int, end: int) -> Floats | None:
    """The mix of a span, of shape (hours, MIX); None where too much of it is missing."""
    kept = store.mix(zone)
    try:
        columns = [filled({start: row[index] for start, row in kept.items()}, begin, end) for index in range(len(MIX))]
    except ForecastError:
        return None
    return np.stack(columns, 1)


def _cut(weather: Weather, begin: int, end: int) -> Floats:
    """Weather of shape (hours, COLUMNS) from a point in time on, to another or to its end."""
    if weather.start_epoch_s > begin or weather.end_epoch_s < begin + (READ_H + DAY_H) * HOUR_S:
        raise ForecastError(f"weather: from {iso(weather.start_epoch_s)} to {iso(weather.end_epoch_s)} only")
    first = (begin - weather.start_epoch_s) // HOUR_S
    return np.array(weather.columns).T[first : first + (end - begin) // HOUR_S]


def _padded(values: Floats, length: int) -> Floats:
    """As long as the span that is forecast; what is added is not read."""
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])
