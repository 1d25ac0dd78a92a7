"""The recorded answers of the services, read over HTTP: each value where it belongs, in g/kWh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import entsoe, mix
from slurm_carbon.forecast.http import Ask, Secret, Web
from slurm_carbon.forecast.series import Said, epoch_s
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.forecast.services import SERVICES
from tests.forecast.server import Plan, serving

pytestmark = pytest.mark.shared

Fetched = Callable[..., Said]


@pytest.fixture
def fetched(shared: Path) -> Fetched:
    """What a service makes of a recorded answer, served on loopback."""

    def fetch(file: str, source: str, name: str, at: str, *, history: bool = False, factors: str = "lifecycle") -> Said:
        data = (shared / "data/api" / file).read_bytes()
        with serving(Plan(body=lambda path: b'{"token": "t"}' if path.endswith("/login") else data)) as url:
            service: Service = SERVICES[source]
            subject = Subject("zone", name, url, Secret("a:b"), factors)
            ask: Ask = Web(5).ask
            how = service.history if history else service.forecast
            assert how is not None
            return how(ask, subject, epoch_s(at), epoch_s(at) + 3600)

    return fetch


def test_great_britain(fetched: Fetched) -> None:
    """Half hours with a forecast, direct factors."""
    said = fetched("carbonintensity_org_uk_fw24h_sample.json", "carbonintensity", "national", "2020-05-24T20:30Z")
    assert said.rows == [(epoch_s(f"2020-05-24T{t}Z"), v) for t, v in (("20:30", 146), ("21:00", 148), ("21:30", 148))]
    assert (said.accounting, said.factors, said.period_s) == ("consumption", "direct", 1800)


def test_a_region_of_great_britain(fetched: Fetched) -> None:
    """By postcode, and by number; another region is refused."""
    body = "carbonintensity_org_uk_regional_fw48h_postcode_SHAPE.json"
    for name in ("OX1", "ox1", "12"):
        assert fetched(body, "carbonintensity", name, "2023-03-13T12:00Z").rows == [(epoch_s("2023-03-13T12:00Z"), 245)]
    with pytest.raises(ForecastError, match="answers for postcode 'OX1', not 'CB2'"):
        fetched(body, "carbonintensity", "CB2", "2023-03-13T12:00Z")


def test_carbon_aware_sdk(fetched: Fetched) -> None:
    """The forecast goes by the location that was asked for, its points by the zone behind it; here with a hole."""
    said = fetched("casdk_emissions_forecasts_current.json", "casdk", "northeurope", "2022-07-19T14:00Z")
    assert [value for _, value in said.rows] == pytest.approx([532.02293146, 535.7318741])
    assert (said.period_s, said.issued_epoch_s) == (600, epoch_s("2022-07-19T13:35Z"))


def test_eia_counts_backwards_from_the_end_of_the_hour(fetched: Fetched) -> None:
    """The period 11 is the hour from 10 to 11."""
    said = fetched("eia_v2_rto_fuel-type-data_BPAT_wind.json", "eia", "BPAT", "2022-10-31T10:00Z", history=True)
    assert said.rows == [(epoch_s(f"2022-10-31T{hour}:00Z"), 11.0) for hour in (10, 11)]  # nothing but wind


def test_electricity_maps_history_leaves_estimates_out(fetched: Fetched) -> None:
    """Of 24 hours those that were measured."""
    said = fetched(
        "electricitymaps_carbon-intensity_history_US-MIDW-MISO.json", "electricitymaps", "US-MIDW-MISO",
        "2024-12-01T05:00Z", history=True,
    )  # fmt: skip
    assert said.rows[0] == (epoch_s("2024-11-30T07:00Z"), 419)
    assert len(said.rows) == 16
    assert (said.accounting, said.factors) == ("consumption", "lifecycle")


def test_electricity_maps_mix_by_our_factors(fetched: Fetched) -> None:
    """The mix of Germany in June 2022 by hand: coal, gas, unknown; what a pumped storage gives is left out."""
    said = fetched("electricitymaps_power-breakdown_forecast_DE.json", "electricitymaps-mix", "DE", "2022-06-01T13:00Z")
    mw = {"nuclear": 3624, "geothermal": 18, "biomass": 4734, "coal": 16987, "wind": 7724, "solar": 24355, "hydro": 2884,
          "gas": 6832, "oil": 12, "unknown": 344}  # fmt: skip
    by_hand = sum(mw[s] * mix.FACTORS[s].lifecycle for s in mw) / sum(mw.values())
    assert said.rows == [(epoch_s("2022-06-01T13:00Z"), pytest.approx(by_hand))]
    assert by_hand == pytest.approx(294.9, abs=0.1)


def test_placeholders_are_not_believed(fetched: Fetched) -> None:
    """A forecast for the year 2099 is read, and refused by the checks."""
    from slurm_carbon.forecast.series import checked

    said = fetched("electricitymaps_carbon-intensity_forecast_SHAPE.json", "electricitymaps", "NL", "2026-01-01T00:00Z")
    with pytest.raises(ForecastError, match="covers 2099"):
        checked(said, "NL", "electricitymaps", epoch_s("2026-01-01T00:00Z"))


def test_energy_charts_joins_measured_and_forecast(fetched: Fetched) -> None:
    """Two columns, each empty where the other begins; the history is the first of them."""
    said = fetched("energy_charts_co2eq_de.json", "energycharts", "de", "2026-07-12T20:00Z")
    assert [value for _, value in said.rows] == [491.5, 497.4, 502.6, 505.0, 508.0]
    past = fetched("energy_charts_co2eq_de.json", "energycharts", "de", "2026-07-12T20:00Z", history=True)
    assert [value for _, value in past.rows] == [491.5, 497.4, 502.6, None, None]


def test_watttime_pounds_become_grams(fetched: Fetched) -> None:
    """870.3 lb/MWh are 394.8 g/kWh, marginal."""
    said = fetched("watttime_v3_forecast_SHAPE.json", "watttime", "CAISO_NORTH", "2024-07-15T00:00Z")
    assert said.rows[0][1] == pytest.approx(394.761, abs=1e-3)
    assert (said.accounting, said.period_s) == ("marginal", 300)


def document(shared: Path, name: str, zone: str) -> mix.Hourly:
    """The amounts in a recorded document of ENTSO-E."""
    return entsoe.answer((shared / "data/api" / name).read_bytes(), Subject("zone", zone, ""))[0]


def test_entsoe_documents(shared: Path) -> None:
    """Quarter hours of wind and sun become hours; the whole generation has no kind; production is there by kind of plant."""
    weather = document(shared, "entsoe_A69_wind_solar_dayahead_FI.xml", "10YFI-1--------U")
    assert set(weather) >= {"B16", "B19"}
    assert all(len(hours) == 72 for hours in weather.values())
    whole = document(shared, "entsoe_A71_generation_forecast_SE-SE3.xml", "10Y1001A1001A46L")
    assert whole["all"][epoch_s("2023-12-27T23:00Z")] == 9958
    assert len(whole["all"]) == 72
    made = document(shared, "entsoe_A75_production_BE.xml", "10YBE----------2")
    assert made["B01"] == {
        epoch_s("2024-01-01T00:00Z"): 70,
        epoch_s("2024-01-01T01:00Z"): pytest.approx(made["B01"][epoch_s("2024-01-01T01:00Z")]),
    }
    rows = mix.intensities(mix.by_source(made, entsoe.SOURCES), "lifecycle")
    assert len(rows) == 2
    assert all(grams is not None and 50 < grams < 400 for _, grams in rows)
