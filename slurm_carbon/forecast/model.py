"""Our own forecaster: from the history of a zone, with or without a weather forecast, the next four days with their band.

1. The response of the logarithm of the intensity to calendar and weather (`response`).
2. For every two hours ahead, a ridge regression of what is left on the recent past (`design`); one for issues about
   midnight and one about noon (UTC), four with weather, blended in between. The strength of the ridge is an average of
   several, by how well they did on stretches of the past that they were not fitted to.
3. The band: quantiles of the errors on those stretches, by hours ahead, by hour of the day, and wider after restless weeks.

All of it is linear algebra: it needs numpy, is fitted in seconds, and a file of some ten to a hundred kB holds it. How good
it is: `scripts/bench forecast`.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import response as responses
from slurm_carbon.forecast.design import PAST_H, Issues, Known, columns, drivers, issues
from slurm_carbon.forecast.response import BLOCKS, DAY_H, Floats, Ints, Response, stretches

Floats32 = NDArray[np.float32]

HORIZON_H = 96
FORMAT = 1
STEP_H = 5  # from one issue that is learnt from to the next: no divisor of a day
GROUP_H = 2  # hours ahead that share their coefficients
ANCHORS_H = (0, 12)  # issues of which hour have coefficients of their own
ANCHORS_WEATHER_H = (0, 6, 12, 18)
HALF_LIFE_H = 1.5 * 365.25 * DAY_H  # of the weight of what is learnt from
PENALTIES = np.array([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
SOFT = 0.01  # penalties count by exp(-(error / least error - 1) / SOFT)
QUANTILES = (0.1, 0.5, 0.9)
WIDER = 1.5  # than what was ever measured, no forecast goes
LEAST_FIT_H = 120 * DAY_H


class Forecast(NamedTuple):
    """g/kWh, each of shape (issues, hours ahead): quantiles, and the mean."""

    low: Floats
    median: Floats
    high: Floats
    mean: Floats


class Model(NamedTuple):
    """A fitted forecaster. Coefficients: (anchors, groups of hours ahead, columns)."""

    response: Response
    weather_mean: Floats  # empty: it goes without weather
    weather_scale: Floats
    with_mix: Floats  # (1,): 1 or 0
    anchors_h: Floats
    beta: Floats
    errors: Floats  # (2, HORIZON_H): quantiles 10 and 90 % of the scaled errors, in logarithms
    hour_scale: Floats  # (24,)
    volatility: Floats  # (2,): the usual one, and the power with which the band follows it
    range_g: Floats  # (3,): what the logarithm takes for zero, and between which values a forecast is believed
    skill: Floats  # (2,): MAPE of the first day in percent, and share of the saving captured, on what it was not fitted to

    @property
    def uses(self) -> tuple[bool, bool]:
        """Whether it needs a weather forecast, and the history of the mix."""
        return len(self.weather_mean) > 0, bool(self.with_mix[0])

    def at(
        self, hours: Ints, g_per_kwh: Floats, places: Ints, weather: Floats | None = None, mix: Floats | None = None
    ) -> Forecast:
        """Forecasts from issues at `places` in a span of hours since the epoch.

        Of the intensities, and of the mix (hours, MIX), only those before an issue are read. The span, and the weather
        (hours, COLUMNS), begin PAST_H hours before the first issue; they end where the forecasts do, HORIZON_H hours after
        the last or earlier.
        """
        ahead = min(HORIZON_H, len(hours) - int(places.max()))
        at = issues(self._known(hours, g_per_kwh, weather, mix), places)
        weights = _weights(hours[places], self.anchors_h)
        log_g = np.empty((len(places), ahead))
        for group in range(-(-ahead // GROUP_H)):
            leads = _leads(group)[: ahead - group * GROUP_H]
            x, _, simple = columns(at, leads)
            log_g[:, leads] = simple + np.einsum("nlc,ac,na->nl", x, self.beta[:, group], weights)
        scale = self._scale(hours, at, ahead)
        least, most = np.log(self.range_g[1:])
        log_g = np.clip(log_g, least, most)
        low, high = (np.exp(np.clip(log_g + scale * quantile[:ahead], least, most)) for quantile in self.errors)
        median = np.exp(log_g)
        return Forecast(low, median, high, 0.3 * low + 0.4 * median + 0.3 * high)  # Swanson's rule: Hurst et al. 2000

    def _known(self, hours: Ints, g_per_kwh: Floats, weather: Floats | None, mix: Floats | None) -> Known:
        if (weather is not None, mix is not None) != self.uses:
            raise ForecastError("the model was fitted with other inputs")
        log_g = np.log(np.maximum(g_per_kwh, self.range_g[0]))
        moved = None if weather is None else (drivers(weather) - self.weather_mean) / self.weather_scale
        return Known(hours, log_g, self.response.at(hours, weather), moved, mix)

    def _scale(self, hours: Ints, at: Issues, ahead: int) -> Floats:
        """How wide the band is, beside the quantiles of each hour ahead."""
        hour = (hours[at.places][:, None] + np.arange(ahead)) % DAY_H
        return self.hour_scale[hour] * ((at.volatility / self.volatility[0]) ** self.volatility[1])[:, None]


def _leads(group: int) -> Ints:
    return np.arange(group * GROUP_H, min(HORIZON_H, (group + 1) * GROUP_H))


def _weights(hours: Ints, anchors_h: Floats) -> Floats:
    """How much each anchor counts at issues of these hours: linear in between, one in all."""
    apart = np.abs((hours[:, None] - anchors_h + DAY_H // 2) % DAY_H - DAY_H // 2)
    return np.maximum(1 - apart * len(anchors_h) / DAY_H, 0)


# fitting


def fit(hours: Ints, g_per_kwh: Floats, weather: Floats | None = None, mix: Floats | None = None) -> Model:
    """A model of a past without gaps: hours since the epoch, g/kWh, weather (hours, COLUMNS) and mix (hours, MIX) if any.

    Raises ForecastError where that is too short, or has no course to learn.
    """
    if len(hours) < LEAST_FIT_H:
        raise ForecastError(f"{len(hours) // DAY_H} days of history, {LEAST_FIT_H // DAY_H} are needed")
    least = 0.01 * float(np.mean(g_per_kwh))
    if not (np.isfinite(g_per_kwh).all() and least > 0 and np.std(g_per_kwh) > least / 100):
        raise ForecastError("the history has no course that could be learnt")
    log_g = np.log(np.maximum(g_per_kwh, least))
    response, fitted = responses.fit(hours, log_g, weather)
    weather_mean = weather_scale = np.zeros(0)
    moved = None
    if weather is not None:
        moved = drivers(weather)
        weather_mean, weather_scale = moved.mean(0), moved.std(0) + 1e-9
        moved = (moved - weather_mean) / weather_scale
    places = np.arange(PAST_H, len(hours) - HORIZON_H + 1, STEP_H)
    at = issues(Known(hours, log_g, fitted, moved, mix), places)
    truth = log_g[places[:, None] + np.arange(HORIZON_H)]
    anchors_h = np.array(ANCHORS_H if weather is None else ANCHORS_WEATHER_H, np.float64)
    beta, unseen = _regress(at, truth, anchors_h)
    errors, hour_scale, volatility = _band(truth - unseen, at, hours)
    range_g = np.array([least, max(least, float(g_per_kwh.min())) / WIDER, float(g_per_kwh.max()) * WIDER])
    with_mix = np.array([float(mix is not None)])
    return Model(
        response, weather_mean, weather_scale, with_mix, anchors_h, beta, errors, hour_scale, volatility, range_g,
        _skill(np.exp(unseen), np.exp(truth)),
    )  # fmt: skip


def _regress(at: Issues, truth: Floats, anchors_h: Floats) -> tuple[Floats, Floats]:
    """Coefficients, and forecasts of each stretch by coefficients that were fitted to the others; truth in logarithms."""
    count = len(at.places)
    stretch = stretches(count)
    weights = _weights(at.known.hours[at.places], anchors_h)
    age = np.exp2((at.places - at.places[-1]) / HALF_LIFE_H)
    groups = -(-HORIZON_H // GROUP_H)
    unseen = np.zeros((len(PENALTIES), count, HORIZON_H))
    betas = []
    for group in range(groups):
        leads = _leads(group)
        near = np.arange(max(0, leads[0] - 1), min(HORIZON_H, leads[-1] + 2))  # with a neighbour on each side
        x, shrunk, simple = columns(at, near)
        y = truth[:, near] - simple
        mean, scale = x.mean((0, 1)), (x.std((0, 1)) + 1e-6) * np.sqrt(shrunk)
        mean[0], scale[0] = 0.0, np.sqrt(shrunk[0])
        z = (x - mean) / scale
        inner = leads - near[0]
        unseen[:, :, leads] += simple[:, inner]
        by_anchor = []
        for anchor in range(len(anchors_h)):
            beta = _ridges(z, y, weights[:, anchor] * age, stretch)
            for b in range(BLOCKS):
                here = np.flatnonzero((stretch == b) & (weights[:, anchor] > 0))
                said = np.einsum("nlc,pc->pnl", z[np.ix_(here, inner)], beta[b])
                unseen[:, here[:, None], leads] += weights[here, anchor][:, None] * said
            raw = beta[BLOCKS] / scale
            raw[:, 0] -= raw[:, 1:] @ mean[1:]
            by_anchor.append(raw)
        betas.append(by_anchor)
    error = np.abs(truth - unseen).mean(1)
    smooth = np.stack([np.convolve(np.pad(row, 12, "edge"), np.ones(25) / 25, "valid") for row in error])
    share = np.exp(-(smooth / smooth.min(0) - 1) / SOFT)
    share /= share.sum(0)
    beta = np.einsum("pg,gapc->agc", share[:, ::GROUP_H], np.array(betas))
    return beta, np.einsum("pk,pnk->nk", share, unseen)


def _ridges(z: Floats, y: Floats, weights: Floats, stretch: Ints) -> Floats:
    """Coefficients by penalty, without each stretch and, last, with all: (BLOCKS + 1, penalties, columns)."""
    size = z.shape[2]
    squares, sides, mass = np.zeros((BLOCKS, size, size)), np.zeros((BLOCKS, size)), np.zeros(BLOCKS)
    for b in range(BLOCKS):
        here = (stretch == b) & (weights > 0)
        rows = z[here].reshape(-1, size)
        weighted = rows * np.repeat(weights[here], z.shape[1])[:, None]
        squares[b], sides[b], mass[b] = weighted.T @ rows, weighted.T @ y[here].reshape(-1), weights[here].sum() * z.shape[1]
    found = np.empty((BLOCKS + 1, len(PENALTIES), size))
    for b in range(BLOCKS + 1):
        rest = np.arange(BLOCKS) != b
        values, vectors = np.linalg.eigh(squares[rest].sum(0))
        turned = vectors.T @ sides[rest].sum(0)
        shrunk = turned / (np.maximum(values, 0) + mass[rest].sum() * PENALTIES[:, None])
        found[b] = shrunk @ vectors.T
    return found


def _band(errors: Floats, at: Issues, hours: Ints) -> tuple[Floats, Floats, Floats]:
    """Scaled quantiles of the errors (issues, HORIZON_H), the scale by hour of the day, and usual volatility with its power."""
    size = np.abs(errors)
    usual = float(np.exp(np.log(at.volatility).mean()))
    restless = np.log(at.volatility / usual)
    wide = np.log(size.mean(1) + 1e-6)
    power = float(np.clip(restless @ (wide - wide.mean()) / (restless @ restless + 1e-9), 0, 1))
    by_lead = np.array([size[:, max(0, k - 2) : k + 3].mean() for k in range(HORIZON_H)])
    hour = (hours[at.places][:, None] + np.arange(HORIZON_H)) % DAY_H
    relative = size / by_lead
    of_hour = np.array([relative[hour == h].mean() for h in range(DAY_H)])
    of_hour = (np.roll(of_hour, 1) + of_hour + np.roll(of_hour, -1)) / 3
    scaled = errors / (of_hour[hour] * by_lead * np.exp(power * restless)[:, None])
    outer = (QUANTILES[0], QUANTILES[-1])
    quantiles = np.stack([np.quantile(scaled[:, max(0, k - 3) : k + 4], outer) for k in range(HORIZON_H)], 1)
    return quantiles * by_lead, of_hour, np.array([usual, power])


def _skill(forecast: Floats, truth: Floats) -> Floats:
    mape = 100 * float(np.mean(np.abs(forecast[:, :DAY_H] / truth[:, :DAY_H] - 1)))
    return np.array([mape, captured(forecast, truth, 4, DAY_H)])


def captured(forecast: Floats, truth: Floats, run_h: int, window_h: int) -> float:
    """Share of the possible saving that the starts chosen by forecasts reach; both of shape (issues, hours)."""

    def runs(values: Floats) -> Floats:
        sums = np.pad(np.cumsum(values[:, :window_h], 1), ((0, 0), (1, 0)))
        return (sums[:, run_h:] - sums[:, :-run_h]) / run_h

    true = runs(truth)
    chosen = true[np.arange(len(true)), runs(forecast).argmin(1)]
    possible = float((true[:, 0] - true.min(1)).sum())
    return float((true[:, 0] - chosen).sum()) / possible if possible > 0 else 0.0


# the file


def dump(models: Sequence[Model]) -> bytes:
    """Models of one zone, for what may be at hand, as the bytes of a file; in single precision."""
    arrays: dict[str, Floats32] = {"format": np.array([FORMAT], np.float32)}
    for number, model in enumerate(models):
        fields = {**model._asdict(), **{f"response_{name}": value for name, value in model.response._asdict().items()}}
        del fields["response"]
        arrays |= {f"{number} {name}": np.asarray(value, np.float32) for name, value in fields.items()}
    data = io.BytesIO()
    np.savez_compressed(data, allow_pickle=False, **arrays)
    return data.getvalue()


def load(data: bytes) -> list[Model]:
    """The models in a file. Raises ForecastError for anything else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], np.float64) for name in file.files}
        if arrays.pop("format").tolist() != [FORMAT] or not all(np.isfinite(value).all() for value in arrays.values()):
            raise ValueError("another format")
        by_number: dict[str, dict[str, Floats]] = {}
        for name, value in arrays.items():
            number, _, field = name.partition(" ")
            by_number.setdefault(number, {})[field] = value
        return [
            Model(Response(*(fields.pop(f"response_{name}") for name in Response._fields)), **fields)
            for _, fields in sorted(by_number.items())
        ]
    except Exception as error:  # noqa: BLE001 - whatever a damaged archive makes of the reader
        raise ForecastError(f"the model file is broken ({type(error).__name__}); fit it again") from None
