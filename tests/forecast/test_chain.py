"""The chain: which source is believed, what stands in for it, and how what it is made of is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_carbon import config as configs
from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import annual, chain, climatology, entsoe, mix
from slurm_carbon.forecast.http import Ask, Canned
from slurm_carbon.forecast.series import FILLED_S, Said, Series, checked, on_grid, regular
from slurm_carbon.forecast.services import SERVICES
from slurm_carbon.forecast.store import Store
from slurm_carbon.intensity import Intensity
from slurm_carbon.outlook import Source
from slurm_carbon.refresh import incomparable
from tests.forecast import bodies
from tests.forecast.bodies import HOUR, NOW

DOWN = ForecastError("x: no connection, or it was cut")


def energycharts(hours: int = 24) -> bytes:
    """An answer for Germany, production by lifecycle factors."""
    return bodies.energycharts(bodies.right(900, hours), "")


def electricitymaps(hours: int = 72) -> bytes:
    """An answer for Germany, consumption by lifecycle factors."""
    return bodies.electricitymaps(bodies.right(HOUR, hours), "")


def look(folder: Path, ask: Ask, now: int = NOW, name: str = "DE", **zone: Any) -> chain.Found:
    """What the chain of a zone finds."""
    raw = {"zones": {name: zone}, "forecasts": {"directory": str(folder)}}
    config = configs.parse(raw, Source("x", 0, 0))
    key = {"SLURM_CARBON_KEY_ELECTRICITYMAPS": "k"}
    return chain.find_zone(config.zones[0], chain.setting(config, now, ask, key))


def known(found: chain.Found) -> Intensity:
    """The intensity that was found."""
    assert found.intensity is not None, found.problems
    return found.intensity


def test_the_configuration_knows_every_source() -> None:
    """What may be written is what can be asked."""
    assert set(configs.SOURCES) == {*SERVICES, *chain.AVERAGES, "file"}


def test_the_first_that_answers_is_believed(tmp_path: Path) -> None:
    """And the others are not asked."""
    ask = Canned(("carbon-intensity", electricitymaps()), ("co2eq", energycharts()))
    found = look(tmp_path, ask.ask, sources=["electricitymaps", "energycharts"])
    assert known(found).source == "electricitymaps"
    assert not any("co2eq" in request.url for request in ask.asked)
    ask = Canned(("carbon-intensity", DOWN), ("co2eq", energycharts()))
    found = look(tmp_path / "b", ask.ask, sources=["electricitymaps", "energycharts"])
    assert known(found).source == "energycharts"
    assert "electricitymaps: x: no connection" in found.problems[0]


def test_a_fresh_answer_is_not_asked_for_again(tmp_path: Path) -> None:
    """For half an hour; then it is, and what came before is kept if that fails."""
    ask = Canned(("carbon-intensity", electricitymaps()))
    for minutes, count in ((0, 1), (20, 1), (31, 2), (40, 2)):
        look(tmp_path, ask.ask, NOW + minutes * 60, sources=["electricitymaps"])
        assert sum(request.url.endswith("forecast") for request in ask.asked) == count
    look(tmp_path, ask.ask, NOW - 3600, sources=["electricitymaps"])  # a clock that was set back
    assert sum(request.url.endswith("forecast") for request in ask.asked) == 3


def test_the_last_answer_stands_in_until_it_is_too_old(tmp_path: Path) -> None:
    """With its own age, and before the averages; after `max_age` it is gone."""
    look(tmp_path, Canned(("carbon-intensity", electricitymaps())).ask, sources=["electricitymaps", "climatology"])
    dead = Canned().ask
    for hours in (1, 12, 23):
        found = look(tmp_path, dead, NOW + hours * HOUR, sources=["electricitymaps", "climatology"])
        assert known(found).source.startswith("electricitymaps")
        assert known(found).mean_g_per_kwh[:24] == pytest.approx([bodies.course(hours + h) for h in range(24)])
        assert "stands in" in found.problems[-1]
    found = look(tmp_path, dead, NOW + 25 * HOUR, sources=["electricitymaps", "climatology"])
    assert known(found).source == "climatology"


def test_a_lapse_does_not_change_how_a_zone_counts(tmp_path: Path) -> None:
    """A live answer that counts otherwise waits until the last one of the first source is too old."""
    look(tmp_path, Canned(("carbon-intensity", electricitymaps())).ask, sources=["electricitymaps", "energycharts"])
    ask = Canned(("co2eq", bodies.energycharts(bodies.right(900, 60), ""))).ask
    found = look(tmp_path, ask, NOW + 2 * HOUR, sources=["electricitymaps", "energycharts"])
    assert known(found)[5:8] == ("electricitymaps", "consumption", "lifecycle")
    found = look(tmp_path, ask, NOW + 25 * HOUR, sources=["electricitymaps", "energycharts"])
    assert known(found)[5:8] == ("energycharts", "production", "lifecycle")


def test_a_short_answer_is_prolonged_at_its_own_level(tmp_path: Path) -> None:
    """By the climatology, if that counts alike; the seam is no step, and where it is is said."""
    ask = Canned(("co2eq", bodies.energycharts(bodies.Course([(NOW + i * 900, 150.0) for i in range(96)], 900), ""))).ask
    grid = known(look(tmp_path, ask, sources=["energycharts", "climatology"]))
    usual = climatology.series("DE", NOW, NOW + 168 * HOUR).g_per_kwh
    level = 150 / (sum(usual[:24]) / 24)
    assert len(grid.mean_g_per_kwh) == 168
    assert grid.mean_g_per_kwh[:24] == [150.0] * 24
    assert grid.mean_g_per_kwh[24] == pytest.approx(usual[24] * level)
    assert grid.mean_g_per_kwh[-1] == pytest.approx(usual[-1] * level)
    assert grid.source == "energycharts, then climatology"
    assert [(part.start_epoch_s, part.source) for part in grid.parts] == [
        (NOW, "energycharts"), (NOW + 24 * HOUR, "climatology"),
    ]  # fmt: skip


def test_what_counts_otherwise_does_not_prolong(tmp_path: Path) -> None:
    """The climatology is production by lifecycle factors; after an answer of consumption its hours would be another thing."""
    ask = Canned(("carbon-intensity", electricitymaps(24))).ask
    grid = known(look(tmp_path, ask, sources=["electricitymaps", "climatology"]))
    assert len(grid.mean_g_per_kwh) == 24
    assert grid.beyond_g_per_kwh == pytest.approx(sum(grid.mean_g_per_kwh) / 24)


def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path) -> None:
    """No key, no name of the zone, no address, no history: each in a sentence that names the key of the configuration."""
    for zone, sources, says in (
        ("GB", ["watttime"], "needs a key"),
        ("ES", ["carbonintensity"], 'names = {carbonintensity = "..."}'),
        ("DE", ["casdk"], r"\[sources.casdk\] url = "),
        ("DE", ["eia"], "list `own` to forecast from its history"),
        ("XX", ["climatology"], "not in the climatology"),
        ("XX", ["annual"], "no annual mean of country 'XX'"),
        ("DE", ["own"], "fit one with `slurm-carbon forecast fit DE`"),
    ):
        found = look(tmp_path, Canned().ask, name=zone, sources=sources)
        assert found.intensity is None
        with pytest.raises(AssertionError, match=says):
            known(found)


def test_the_annual_mean_has_no_hours(tmp_path: Path) -> None:
    """It is there where nothing else is, and no hour of it is better than another."""
    grid = known(look(tmp_path, Canned().ask, name="PL", sources=["annual"]))
    assert set(grid.mean_g_per_kwh) == {annual.mean("PL", "lifecycle")[1]}  # type: ignore[index]
    assert grid.source == "annual mean of PL, 2023"
    direct = known(look(tmp_path, Canned().ask, name="PL", sources=["annual"], factors="direct"))
    assert direct.factors == "direct"
    assert direct.beyond_g_per_kwh < grid.beyond_g_per_kwh


@pytest.mark.shared
def test_the_embedded_means_are_what_the_script_makes(shared: Path) -> None:
    """Nobody edited the table by hand."""
    import subprocess
    import sys

    root = Path(__file__).parent.parent.parent
    source = shared / "data/reference/codecarbon_global_energy_mix.json"
    made = subprocess.run([sys.executable, root / "scripts/make-annual", source], capture_output=True, text=True, check=True)
    assert json.loads(made.stdout) == json.loads((root / "slurm_carbon/forecast/annual.json").read_text())


def test_zones_that_count_differently_are_named() -> None:
    """One sentence, which zones are in which group."""

    def grid(zone: str, accounting: str, factors: str) -> Intensity:
        return Intensity(zone, 0, 3600, [1.0], 1.0, "x", accounting, factors, 0)

    same = {"DE": grid("DE", "production", "lifecycle"), "FR": grid("FR", "production", "lifecycle")}
    assert incomparable(same) == []
    [said] = incomparable({**same, "GB": grid("GB", "consumption", "direct")})
    assert "DE, FR (production, lifecycle); GB (consumption, direct)" in said


def test_a_series_that_ends_at_once_gives_way(tmp_path: Path) -> None:
    """A file that ends within the first slot is no answer: the next source is."""
    path = tmp_path / "x.csv"
    path.write_text(f"start,g_per_kwh\n{NOW},300\n{NOW + 900},300\n")
    found = look(tmp_path, Canned().ask, sources=["file", "climatology"], file=str(path))
    assert known(found).source == "climatology"
    assert "ends within the first slot" in found.problems[0]


def test_wind_that_is_not_forecast_is_not_taken_for_fossil() -> None:
    """ENTSO-E may have the sun of tomorrow and not yet the wind."""
    hours = range(0, 48 * HOUR, HOUR)
    past = {"gas": dict.fromkeys(hours, 500.0), "wind": dict.fromkeys(hours, 400.0), "solar": dict.fromkeys(hours, 100.0)}
    tomorrow = {48 * HOUR: 1000.0}
    with pytest.raises(ForecastError, match="has no forecast of wind"):
        entsoe.expected(past, {"solar": {48 * HOUR: 100.0}}, tomorrow, "lifecycle")
    [(_, right)] = entsoe.expected(past, {"solar": {48 * HOUR: 100.0}, "wind": {48 * HOUR: 400.0}}, tomorrow, "lifecycle")
    assert right == pytest.approx(0.5 * 490 + 0.4 * 11 + 0.1 * 45)


def test_a_mix_without_its_wind_is_a_gap(tmp_path: Path) -> None:
    """Electricity Maps: an hour whose wind is null does not look like pure gas."""
    mw = [{"gas": 300.0, "wind": None if 3 <= h < 6 else 700.0} for h in range(48)]
    rows = [
        {"zone": "DE", "datetime": bodies.right().at(NOW + h * HOUR), "powerConsumptionBreakdown": mw[h]} for h in range(48)
    ]
    body = bodies.dump({"zone": "DE", "data": rows})
    raw = {"SLURM_CARBON_KEY_ELECTRICITYMAPS": "k"}
    config = configs.parse({"zones": {"DE": {"sources": ["electricitymaps-mix"]}}}, Source("x", 0, 0))
    config = config._replace(forecasts=config.forecasts._replace(directory=str(tmp_path)))
    found = chain.find_zone(config.zones[0], chain.setting(config, NOW, Canned(("power", body)).ask, raw))
    assert known(found).mean_g_per_kwh == pytest.approx([0.3 * 490 + 0.7 * 11] * 3)


def test_own_answers_where_a_listed_service_lacks_its_key(tmp_path: Path) -> None:
    """A history source without a key is worse luck than a dead one, but no worse."""
    found = look(tmp_path, Canned().ask, sources=["electricitymaps", "entsoe", "own"])
    assert any("fit one with" in said and "entsoe needs a key" in said for said in found.problems)


# the store


def test_the_store_is_private_and_names_stay_inside(tmp_path: Path) -> None:
    """Mode 600 in 700; a zone whose name has slashes and dots is a file like any other."""
    store = Store(str(tmp_path / "forecasts"))
    series = Series("../../x/.. y", NOW, HOUR, [1.0, 2.0], "s", "production", "lifecycle", NOW)
    store.keep(series, "static", NOW)
    assert store.last("../../x/.. y", "static") == (series, NOW)
    store.keep_history("../a", ("production", "lifecycle"), {NOW: 5.0})
    assert store.kinds("../a") == [("production", "lifecycle")]
    files = [path for path in (tmp_path / "forecasts").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_dir()} == {0o700}
    assert [path.name for path in tmp_path.iterdir()] == ["forecasts"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"null", b'{"fetched": 3}', b"\xff", b"[" * 100_000])
def test_a_broken_store_is_an_empty_one(tmp_path: Path, data: bytes) -> None:
    """A half-written or foreign file costs an answer, nothing else."""
    store = Store(str(tmp_path))
    store.write(data, "answers", "DE energycharts.json")
    store.write(data, "later.json")
    store.write(data, "history", "DE production lifecycle.csv")
    assert store.last("DE", "energycharts") is None
    assert store.later(NOW) == {}
    assert store.history("DE", ("production", "lifecycle")) == {}


def test_a_store_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """The answer is then used all the same, by the next in the chain."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ForecastError, match="cannot write"):
        Store(str(tmp_path / "file")).write(b"x", "a", "b")


# laws


@given(st.dictionaries(st.integers(0, 400), st.floats(0, 3000), min_size=1), st.sampled_from([900, 1800, 3600]), st.randoms())
@settings(max_examples=200, deadline=None)
def test_what_is_checked_has_neither_gap_nor_double(values: dict[int, float], period_s: int, random: Any) -> None:
    """In whatever order it comes: regular, in range, what was said is kept, and only short gaps are bridged."""
    rows = [(NOW + i * period_s, g) for i, g in values.items()]
    rows += rows[: random.randrange(3)]
    random.shuffle(rows)
    try:
        series = checked(Said(rows, "consumption", "direct", NOW, period_s), "DE", "x", NOW)
    except ForecastError:
        assert min(values) * period_s > 2 * HOUR or max(values) < 0
        return
    said = dict(rows)
    starts = range(series.start_epoch_s, series.end_epoch_s, period_s)
    assert all(said.get(t, g) == g for t, g in zip(starts, series.g_per_kwh, strict=True))
    made_up = [t for t in starts if t not in said]
    assert all(any(t - FILLED_S <= s < t for s in said) and any(t < s <= t + FILLED_S for s in said) for t in made_up)
    assert all(0 <= g <= 3000 for g in series.g_per_kwh)


@given(st.lists(st.floats(1, 2000), min_size=24, max_size=200), st.sampled_from([600, 900, 3600]), st.integers(0, 3599))
def test_the_mean_is_kept_on_every_grid(values: list[float], slot_s: int, shift: int) -> None:
    """Whatever the slots are, the integral over what they cover is that of the series."""
    series = Series("DE", NOW, HOUR, values, "x", "production", "lifecycle", NOW)
    grid = on_grid(series, NOW + shift, slot_s, 10_000)
    end = NOW + shift + slot_s * len(grid.mean_g_per_kwh)
    assert series.end_epoch_s - slot_s < end <= series.end_epoch_s
    hours = [max(0, min(end, NOW + (i + 1) * HOUR) - max(NOW + shift, NOW + i * HOUR)) for i in range(len(values))]
    assert sum(grid.mean_g_per_kwh) * slot_s == pytest.approx(sum(g * s for g, s in zip(values, hours, strict=True)))


@given(st.dictionaries(st.sampled_from([*mix.FACTORS, *mix.STORAGE]), st.floats(-1e4, 1e5) | st.none()))
def test_a_mix_lies_between_its_sources(mw: dict[str, float | None]) -> None:
    """The intensity is between the least and the greatest factor of what generates; storage and consumption do not count."""
    made = {source for source, amount in mw.items() if source not in mix.STORAGE and amount is not None and amount > 0}
    if 2 * (mw.get("unknown") or 0) > sum(mw[source] or 0 for source in made) > 0:
        with pytest.raises(ForecastError, match="unknown origin"):
            mix.intensity(mw, "lifecycle")
        return
    found = mix.intensity(mw, "lifecycle")
    if not made:
        assert found is None
        return
    factors = [mix.FACTORS[source].lifecycle for source in made]
    assert found is not None
    assert min(factors) * (1 - 1e-9) <= found <= max(factors) * (1 + 1e-9)
    assert found == pytest.approx(mix.intensity({source: mw[source] for source in made}, "lifecycle"), rel=1e-12)


def test_every_factor_names_who_says_so() -> None:
    """And burning is part of living: at the stack a source emits no more than over its life."""
    for factor in mix.FACTORS.values():
        assert factor.said_by
        assert 0 <= factor.direct <= factor.lifecycle


def test_an_hour_of_which_a_source_is_missing_does_not_count() -> None:
    """Wind that is reported late must not make the last hour look dirty."""
    mw = {"WND": {0: 50.0, 1: 50.0}, "NG": {0: 50.0, 1: 50.0, 2: 50.0}, "OIL": {0: 0.0}}
    rows = mix.intensities(mix.by_source(mw, {"WND": "wind", "NG": "gas", "OIL": "oil"}), "lifecycle")
    assert [t for t, _ in rows] == [0, 1]


def test_a_period_off_the_grid_is_refused() -> None:
    """A service that changes its resolution halfway is not guessed at."""
    with pytest.raises(ForecastError, match="does not fit periods of 1 h"):
        regular([(NOW, 1.0), (NOW + HOUR, 1.0), (NOW + 2 * HOUR, 1.0), (NOW + 2 * HOUR + 900, 1.0)])
