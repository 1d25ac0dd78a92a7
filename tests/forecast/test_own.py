"""Our own forecaster: what it may read, what it must reach, and what it does where something is missing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_carbon import config as configs
from slurm_carbon.config import Zone
from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import history, mix, model, own, response, scores, weather
from slurm_carbon.forecast.design import PAST_H
from slurm_carbon.forecast.http import Canned
from slurm_carbon.forecast.model import HORIZON_H
from slurm_carbon.forecast.response import Floats, Ints
from slurm_carbon.forecast.scores import Issue
from slurm_carbon.forecast.store import Store
from slurm_carbon.forecast.weather import COLUMNS, Weather
from slurm_carbon.outlook import Source
from tests.forecast.bodies import HOUR, NOW, dump

KIND = ("production", "lifecycle")
DAYS = 260
HOURS = np.arange(NOW // HOUR - DAYS * 24, NOW // HOUR)


def wind(hours: Ints, seed: int = 5) -> Floats:
    """Made-up wind in m/s that changes over days."""
    noise = np.random.default_rng(seed).normal(size=len(hours) + 200)
    slow = np.convolve(noise, np.exp(-np.arange(200) / 30), "valid")[: len(hours)]
    return 7 + 3 * slow / slow.std()


def grid(hours: Ints, blowing: Floats, seed: int = 7) -> Floats:
    """A made-up grid: dirtier in the evening, cleaner at the weekend and when the wind blows, and a little noise."""
    day = 1 + 0.25 * np.cos(2 * np.pi * (hours % 24 - 19) / 24)
    weekend = np.where((hours + 72) // 24 % 7 >= 5, 0.85, 1.0)
    noise = np.random.default_rng(seed).normal(size=len(hours))
    return 300 * day * weekend * np.exp(-0.06 * (blowing - 7) + 0.02 * noise)


def weathers(hours: Ints, blowing: Floats) -> Floats:
    """Weather of shape (hours, COLUMNS) with this wind."""
    sun = np.maximum(0, 500 * np.sin(2 * np.pi * (hours % 24 - 6) / 24))
    temperature = 10 + 5 * np.sin(2 * np.pi * (hours % 24 - 9) / 24)
    return np.stack([blowing, temperature, temperature - 4, sun, np.zeros(len(hours))], 1)


BLOWING = wind(HOURS)
TRUTH = grid(HOURS, BLOWING)
SPLIT = (DAYS - 40) * 24
PLACES = np.arange(SPLIT, len(HOURS) - HORIZON_H, 12)


@pytest.fixture(scope="module")
def plain() -> model.Model:
    """Fitted to history alone."""
    return model.fit(HOURS[:SPLIT], TRUTH[:SPLIT])


@pytest.fixture(scope="module")
def knowing() -> model.Model:
    """Fitted with the weather."""
    return model.fit(HOURS[:SPLIT], TRUTH[:SPLIT], weathers(HOURS, BLOWING)[:SPLIT])


def mape(found: Floats, truth: Floats) -> float:
    """Mean absolute percentage error."""
    return 100 * float(np.mean(np.abs(found / truth - 1)))


def test_it_is_better_than_yesterday(plain: model.Model) -> None:
    """On a grid with days, weeks and noise it learns all three: far better than repeating the last day."""
    found = plain.at(HOURS, TRUTH, PLACES)
    truth = TRUTH[PLACES[:, None] + np.arange(HORIZON_H)]
    yesterday = TRUTH[PLACES[:, None] + np.arange(24) - 24]
    assert mape(found.median[:, :24], truth[:, :24]) < 0.8 * mape(yesterday, truth[:, :24])


def test_weather_is_used(plain: model.Model, knowing: model.Model) -> None:
    """Where the wind makes the grid, a forecast of the wind halves the error, up to four days ahead."""
    truth = TRUTH[PLACES[:, None] + np.arange(HORIZON_H)]
    without = plain.at(HOURS, TRUTH, PLACES).median
    found = knowing.at(HOURS, TRUTH, PLACES, weathers(HOURS, BLOWING)).median
    assert mape(found, truth) < 0.5 * mape(without, truth)


def test_the_band_holds_what_it_promises(plain: model.Model) -> None:
    """About eight of ten hours lie between the quantiles 10 and 90 %, and the quantiles are in order."""
    found = plain.at(HOURS, TRUTH, PLACES)
    truth = TRUTH[PLACES[:, None] + np.arange(HORIZON_H)]
    assert (found.low <= found.median).all()
    assert (found.median <= found.high).all()
    assert ((found.low <= found.mean) & (found.mean <= found.high)).all()
    assert 0.7 < np.mean((truth >= found.low) & (truth <= found.high)) < 0.9


@pytest.mark.parametrize("with_weather", [False, True])
def test_nothing_after_the_issue_is_read(plain: model.Model, knowing: model.Model, with_weather: bool) -> None:
    """Whatever is measured later: the forecast is the same, to the last bit."""
    fitted, sky = (knowing, weathers(HOURS, BLOWING)) if with_weather else (plain, None)
    place = np.array([len(HOURS) - HORIZON_H])
    changed = TRUTH.copy()
    changed[place[0] :] = 1e5
    for one, other in zip(fitted.at(HOURS, TRUTH, place, sky), fitted.at(HOURS, changed, place, sky), strict=True):
        assert (one == other).all()


def test_a_shorter_weather_forecast_makes_a_shorter_forecast(knowing: model.Model) -> None:
    """It ends where the span ends; the hours before are those of a longer one, but for the smoothing of the weather."""
    sky, place = weathers(HOURS, BLOWING), len(HOURS) - HORIZON_H
    long = knowing.at(HOURS, TRUTH, np.array([place]), sky).median[0]
    span = slice(None, place + 31)
    short = knowing.at(HOURS[span], TRUTH[span], np.array([place]), sky[span]).median[0]
    assert len(short) == 31
    assert short[:12] == pytest.approx(long[:12], rel=0.03)


@pytest.mark.parametrize("factor", [0.01, 1.0, 20.0])
def test_units_do_not_matter(factor: float) -> None:
    """A grid that emits so many times as much is forecast to emit so many times as much."""
    one = model.fit(HOURS[:SPLIT], TRUTH[:SPLIT]).at(HOURS, TRUTH, PLACES[:3])
    other = model.fit(HOURS[:SPLIT], TRUTH[:SPLIT] * factor).at(HOURS, TRUTH * factor, PLACES[:3])
    assert other.median == pytest.approx(one.median * factor, rel=1e-6)


def test_a_file_of_models_is_small_and_says_the_same(plain: model.Model, knowing: model.Model) -> None:
    """In single precision, for every model of the zone; and whatever is damaged is refused."""
    data = model.dump([plain, knowing])
    assert len(data) < 200_000
    again = model.load(data)
    assert [one.uses for one in again] == [(False, False), (True, False)]
    assert again[0].at(HOURS, TRUTH, PLACES).mean == pytest.approx(plain.at(HOURS, TRUTH, PLACES).mean, rel=1e-4)
    for broken in (b"", b"PK\x03\x04", data[:-100], data[: len(data) // 2], b"x" * 1000):
        with pytest.raises(ForecastError, match="fit it again"):
            model.load(broken)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (TRUTH[: 100 * 24], "100 days of history, 120 are needed"),
        (np.full(SPLIT, 300.0), "no course"),
        (np.zeros(SPLIT), "no course"),
        (np.where(np.arange(SPLIT) == 5, np.nan, TRUTH[:SPLIT]), "no course"),
    ],
)
def test_what_cannot_be_learnt_is_refused(values: Floats, says: str) -> None:
    """Too short, constant, nothing, not a number."""
    with pytest.raises(ForecastError, match=says):
        model.fit(HOURS[: len(values)], values)


def test_hours_without_emissions_do_no_harm() -> None:
    """Direct factors and marginal figures may be zero: the forecast stays finite and near."""
    values = np.where(np.arange(len(TRUTH)) % 24 < 3, 0.0, TRUTH)
    found = model.fit(HOURS[:SPLIT], values[:SPLIT]).at(HOURS, values, PLACES)
    assert all(np.isfinite(part).all() for part in found)
    assert found.median[:, :24].mean() == pytest.approx(values[PLACES[:, None] + np.arange(24)].mean(), rel=0.15)


@given(st.integers(1, 30), st.integers(2, 80))
def test_means_over_windows_are_means(window: int, count: int) -> None:
    """By hand: the last hours up to each, and those around each."""
    values = np.random.default_rng(window * 100 + count).normal(size=count)
    last, around = response.trailing(values, window), response.centred(values, window)
    for i in range(count):
        assert last[i] == pytest.approx(values[max(0, i - window + 1) : i + 1].mean())
        assert around[i] == pytest.approx(values[max(0, i - window) : i + window + 1].mean())


# gaps


@given(st.sets(st.integers(0, 479), max_size=40))
@settings(deadline=None)
def test_gaps_are_filled_and_the_rest_is_kept(missing: set[int]) -> None:
    """Every hour has a value within the range of the others, and known hours keep theirs; too many gaps are refused."""
    kept = {NOW + h * HOUR: float(TRUTH[h]) for h in range(480) if h not in missing}
    found = own.filled(kept, NOW, NOW + 480 * HOUR)
    assert len(found) == 480
    assert all(found[h] == TRUTH[h] for h in range(480) if h not in missing)
    assert min(kept.values()) <= found.min() <= found.max() <= max(kept.values())


def test_too_many_gaps_are_refused() -> None:
    """A tenth of the hours may be missing, no more."""
    with pytest.raises(ForecastError, match="20 % of the hours"):
        own.filled({NOW + h * HOUR: 1.0 for h in range(100) if h % 5}, NOW, NOW + 100 * HOUR)


# with a store, as in a refresh


def zone(**more: Any) -> Zone:
    """A zone that is forecast from its history."""
    return configs.parse({"zones": {"PJM": {"sources": ["own"], **more}}}, Source("x", 0, 0)).zones[0]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the history of the made-up grid."""
    kept = Store(str(tmp_path))
    kept.keep_history("PJM", KIND, {int(h) * HOUR: float(g) for h, g in zip(HOURS, TRUTH, strict=True)})
    return kept


SKY = Weather(int(HOURS[0]) * HOUR, tuple(weathers(HOURS, BLOWING).T.tolist()))


def open_meteo(first: int, hours: int) -> bytes:
    """An answer of Open-Meteo: made-up weather over a span."""
    span = np.arange(first // HOUR, first // HOUR + hours)
    sky = weathers(span, np.full(hours, 7.0))
    names = ("wind_speed_100m", "temperature_2m", "dew_point_2m", "shortwave_radiation", "precipitation")
    return dump({
        "latitude": 40.02, "longitude": -77.0, "hourly_units": dict(zip(names, ("m/s", "°C", "°C", "W/m²", "mm"), strict=True)),
        "hourly": {"time": (span * HOUR).tolist(), **dict(zip(names, sky.T.tolist(), strict=True))},
    })  # fmt: skip


def test_from_history_to_a_forecast(store: Store) -> None:
    """Fitted once, it continues where the history ends, with a band and the age of the last measured hour."""
    own.fit("PJM", store, KIND)
    found = own.forecast(zone(), store, Canned().ask, NOW + 2 * HOUR)
    assert (found.series.start_epoch_s, len(found.series.g_per_kwh)) == (NOW, HORIZON_H)
    assert (found.series.source, found.series.kind, found.series.issued_epoch_s) == ("own", KIND, NOW)
    assert found.series.low is not None
    assert found.series.high is not None
    assert 0.5 < found.captured <= 1
    expected = grid(np.arange(NOW // HOUR, NOW // HOUR + 24), np.full(24, BLOWING[-1]))
    assert found.series.g_per_kwh[:24] == pytest.approx(expected.tolist(), rel=0.3)


def test_without_weather_today_the_poorer_model_answers(store: Store) -> None:
    """And the source says so; with weather it says that too."""
    own.fit("PJM", store, KIND, SKY)
    at = zone(weather_at=[40.0, -77.0])
    poor = own.forecast(at, store, Canned().ask, NOW)
    assert poor.series.source == "own, without weather today"
    first = NOW - 40 * 24 * HOUR
    rich = own.forecast(at, store, Canned(("open", open_meteo(first, 46 * 24))).ask, NOW)
    assert rich.series.source == "own, with weather"
    assert len(rich.series.g_per_kwh) == HORIZON_H
    short = own.forecast(at, store, Canned(("open", open_meteo(first, 42 * 24))).ask, NOW)
    assert len(short.series.g_per_kwh) == 48
    nowhere = own.forecast(zone(), store, Canned().ask, NOW)
    assert nowhere.series.source == "own"


def test_the_mix_is_learnt_and_used_where_it_is_kept(store: Store) -> None:
    """From a service that has megawatts by source; without them the model without them answers."""
    shares = {int(h) * HOUR: (11.0, float(w) / 30, 0.1, 0.1, 0.2) for h, w in zip(HOURS, BLOWING, strict=True)}
    store.keep_mix("PJM", shares)
    assert [fitted.uses for fitted in own.fit("PJM", store, KIND)] == [(False, False), (False, True)]
    with_mix = own.forecast(zone(), store, Canned().ask, NOW).series.g_per_kwh
    Path(store.path("mix", "PJM.csv")).unlink()
    assert own.forecast(zone(), store, Canned().ask, NOW).series.g_per_kwh != with_mix


def test_shares_of_a_mix() -> None:
    """The logarithm of all that is generated, and shares in it; storage is left out."""
    made = mix.shares({"wind": {0: 250.0}, "gas": {0: 750.0}, "battery": {0: 500.0}, "hydro": {1: 0.0}})
    assert made == {0: pytest.approx((math.log(1000), 0.25, 0, 0, 0))}


@pytest.mark.parametrize(
    ("now", "says"),
    [(NOW + 49 * HOUR, "the history ends 2 d 1 h ago"), (NOW - (DAYS - 10) * 24 * HOUR, "are missing")],
)
def test_too_old_or_too_short_a_history_is_refused(store: Store, now: int, says: str) -> None:
    """With what is wrong: the chain then goes on to the climatology."""
    own.fit("PJM", store, KIND)
    with pytest.raises(ForecastError, match=says):
        own.forecast(zone(), store, Canned().ask, now)


def test_no_model_says_how_to_get_one(store: Store) -> None:
    """And a broken one as well."""
    with pytest.raises(ForecastError, match="slurm-carbon forecast fit PJM"):
        own.forecast(zone(), store, Canned().ask, NOW)
    store.write(b"junk", *own.file_name("PJM", KIND))
    with pytest.raises(ForecastError, match="fit it again"):
        own.forecast(zone(), store, Canned().ask, NOW)


# weather


def test_weather_from_a_file_and_from_the_service_are_the_same(tmp_path: Path) -> None:
    """The same columns, whichever way they come; a few missing hours repeat the one before."""
    body = open_meteo(NOW, 30)
    told = weather.forecast(Canned(("open", body)).ask, (40.0, -77.0), 1, 1)
    rows = [",".join(map(str, (NOW + i * HOUR, *(column[i] for column in told.columns)))) for i in range(30) if i != 7]
    path = tmp_path / "w.csv"
    path.write_text(",".join(("start", *COLUMNS)) + "\n" + "\n".join(rows) + "\n")
    read = weather.read(str(path))
    assert read.start_epoch_s == told.start_epoch_s
    for one, other in zip(read.columns, told.columns, strict=True):
        assert one[:7] + one[8:] == other[:7] + other[8:]
        assert one[7] == other[6]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b.replace(b'"latitude": 40.02', b'"latitude": 52.0'), "answers for 52.0"),
        (lambda b: b.replace(b'"latitude": 40.02', b'"latitude": "nan"'), "answers for nan"),
        (lambda b: b.replace(b"[7.0, 7.0", b"[7.0, " + b"9" * 400), "not what it should be"),
        (lambda b: b.replace(b'"m/s"', b'"km/h"'), "wind_speed_100m in 'km/h', not in m/s"),
        (lambda b: b.replace(b"[7.0, 7.0, 7.0, 7.0, 7.0", b"[7.0, null, null, null, null"), "no wind_m_s at"),
        (lambda b: b.replace(b"[7.0, 7.0", b"[7.0, 700.0"), "wind_m_s 700 at .* is not possible"),
        (lambda b: b.replace(b"[7.0, 7.0", b"[7.0, NaN"), "no JSON"),
        (lambda b: b[:200], "no JSON"),
        (lambda _: b"{}", "it has no 'latitude'"),
        (lambda _: b"[]", "not what it should be"),
    ],
)
def test_wrong_weather_is_refused(change: Any, says: str) -> None:
    """Another place, another unit, gaps, impossible values: the forecast is then made without."""
    with pytest.raises(ForecastError, match=says):
        weather.forecast(Canned(("open", change(open_meteo(NOW, 30)))).ask, (40.0, -77.0), 1, 1)


# scores


def test_a_perfect_forecast_has_a_perfect_score() -> None:
    """No error, all covered, all of the saving captured; and the worst one captures nothing or less."""
    truth = {NOW + h * HOUR: float(TRUTH[h]) for h in range(24 * 20)}
    day = [[truth[NOW + (d * 24 + h) * HOUR] for h in range(24)] for d in range(20)]
    perfect = [Issue("x", KIND, NOW + d * 24 * HOUR, day[d], day[d], day[d]) for d in range(20)]
    assert scores.judge(perfect, truth) == (20, 0.0, 0.0, 1.0, 1.0)
    worst = [Issue("x", KIND, NOW + d * 24 * HOUR, [-g for g in day[d]]) for d in range(20)]
    assert (scores.judge(worst, truth).captured or 0) <= 0
    assert scores.judge([], truth) == (0, None, None, None, None)
    assert scores.judge(perfect, {}).issues == 0


@given(st.lists(st.floats(1, 1000), min_size=24, max_size=24), st.lists(st.floats(1, 1000), min_size=24, max_size=24))
def test_both_ways_to_count_what_is_captured_agree(said: list[float], truth: list[float]) -> None:
    """The one that judges what was issued, and the one that judges a fit; and nobody captures more than all."""
    got, possible = scores.saving(said, truth, 4, 24)
    assert got <= possible + 1e-9
    share = model.captured(np.array([said]), np.array([truth]), 4, 24)
    if possible > 1e-3:
        assert share == pytest.approx(got / possible, abs=1e-6)


@given(st.floats(0.05, 0.95))
@settings(max_examples=20)
def test_the_true_quantile_has_the_least_pinball_loss(quantile: float) -> None:
    """What makes it a proper score."""
    truth = [float(v) for v in range(1, 200)]

    def loss(value: float) -> float:
        return scores.pinball(quantile, [value] * len(truth), truth)

    best = min(truth, key=loss)
    assert best == pytest.approx(quantile * 199, abs=1.01)


def test_what_was_forecast_is_noted_and_counts_once_it_was_measured(store: Store) -> None:
    """The usual share of a source gives way to what was seen in this zone, as more is seen."""
    from slurm_carbon.forecast.series import Series

    first = int(HOURS[0]) * HOUR
    assert scores.captured(store, "PJM", "eia") == (scores.USUAL, "usual for published forecasts")
    for day in range(40):
        start = first + day * 24 * HOUR
        wrong = [1e3 - g for g in TRUTH[day * 24 : day * 24 + 48].tolist()]
        series = Series("PJM", start, HOUR, wrong, "eia", *KIND, start)
        scores.note(store, "eia", series, start)
        scores.note(store, "eia", series, start + HOUR)  # too soon: not noted
    assert len(scores.issued(store, "PJM", "eia")) == 40
    share, how = scores.captured(store, "PJM", "eia")
    assert share == pytest.approx(scores.USUAL * 20 / 60, abs=0.01)
    assert how.startswith("40 forecasts")
    assert scores.all_of(store, "PJM", ["eia", "own"])["eia"].issues == 40


def test_history_from_a_file(tmp_path: Path) -> None:
    """Quarter hours become hours; hours that are not whole are left out."""
    path = tmp_path / "h.csv"
    path.write_text("start,g_per_kwh\n" + "".join(f"{NOW + i * 900},{i}\n" for i in range(10)))
    assert history.from_file(str(path), KIND, NOW + 86400) == {NOW: 1.5, NOW + HOUR: 5.5}


def test_a_fit_needs_as_much_past_as_a_forecast() -> None:
    """The constants fit together."""
    assert own.READ_H >= PAST_H
    assert model.LEAST_FIT_H > PAST_H + HORIZON_H
