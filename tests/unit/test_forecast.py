"""The two sources of this version: the climatology and the site's own file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import climatology
from slurm_carbon.forecast import file as file_provider
from slurm_carbon.forecast.series import on_grid
from slurm_carbon.intensity import Intensity

ROOT = Path(__file__).parent.parent.parent
MONDAY = 1_795_392_000  # 2026-11-23 00:00 UTC


def test_climatology_knows_the_weekend_and_has_no_step_between_months() -> None:
    """Working days are alike but for the season, Saturday is another; midnight of the first is no reason to wait."""
    week = climatology.series("GB", MONDAY, MONDAY + 7 * 86400).g_per_kwh
    days = [week[i * 24 : (i + 1) * 24] for i in range(7)]
    assert days[1] == pytest.approx(days[0], rel=0.03)
    assert days[5] != pytest.approx(days[4], rel=0.03)
    year = climatology.series("DE", MONDAY, MONDAY + 366 * 86400).g_per_kwh
    for day, later in zip(range(0, 358, 7), range(7, 365, 7), strict=True):  # the same weekday
        assert year[later * 24 : later * 24 + 24] == pytest.approx(year[day * 24 : day * 24 + 24], rel=0.12)


@pytest.mark.parametrize("slot_s", [900, 1800, 7200, 21600])
def test_climatology_means_the_same_on_every_grid(slot_s: int) -> None:
    """Finer or coarser slots change nothing of the mean over a day."""
    day = climatology.series("DE", MONDAY, MONDAY + 86400)
    other = on_grid(day, MONDAY, slot_s, 86400 // slot_s).mean_g_per_kwh
    assert sum(other) / len(other) == pytest.approx(sum(day.g_per_kwh) / 24)


def test_climatology_has_21_zones_and_says_what_it_is() -> None:
    """The zones of the open data, their source named; another zone is an error that lists them."""
    assert len(climatology.zones()) == 21
    assert "ENTSO-E" in climatology.provenance()
    assert climatology.series("FR", MONDAY, MONDAY + 7200).source == "climatology"
    with pytest.raises(ForecastError, match="US-TEX-ERCO"):
        climatology.series("XX", MONDAY, MONDAY + 7200)


@pytest.mark.shared
def test_embedded_table_is_what_the_script_makes(shared: Path) -> None:
    """Nobody edited the table by hand."""
    sources = [
        shared / "data/carbon" / f"{name}.csv.gz" for name in ("climatology_21zones", "intensity_lifecycle_2022_123zones")
    ]
    made = subprocess.run(
        [sys.executable, ROOT / "scripts/make-climatology", *sources], capture_output=True, text=True, check=True
    )
    assert json.loads(made.stdout) == json.loads((ROOT / "slurm_carbon/forecast/climatology.json").read_text())


def series(path: Path, start: int = MONDAY, slots: int = 24, slot_s: int = 3600) -> Intensity:
    """What a file says from a start on."""
    return on_grid(file_provider.series(str(path), "X", start, "consumption", "direct"), start, slot_s, slots)


def csv_file(tmp_path: Path, text: str) -> Path:
    """A file with a text."""
    path = tmp_path / "x.csv"
    path.write_text(text)
    return path


GOOD = "start,g_per_kwh,low_g_per_kwh\n" + "".join(f"2026-11-23T{h:02}:00Z,{100 + h},{90 + h}\n" for h in range(24))


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    """Both forms, with Z, offsets or epoch seconds."""
    from_csv = series(csv_file(tmp_path, GOOD))
    assert from_csv.mean_g_per_kwh == [100.0 + h for h in range(24)]
    assert from_csv.low_g_per_kwh == [90.0 + h for h in range(24)]
    assert (from_csv.accounting, from_csv.factors) == ("consumption", "direct")
    rows = [{"start": MONDAY + h * 3600, "g_per_kwh": 100 + h, "low_g_per_kwh": 90 + h} for h in range(24)]
    path = tmp_path / "x.json"
    for text in (json.dumps(rows), json.dumps({"data": rows})):
        path.write_text(text)
        assert series(path).mean_g_per_kwh == from_csv.mean_g_per_kwh


def test_another_grid_keeps_the_mean(tmp_path: Path) -> None:
    """Quarter hours become hours, and a start within a period is exact."""
    quarters = "start,g_per_kwh\n" + "".join(f"{MONDAY + i * 900},{i}\n" for i in range(96))
    assert series(csv_file(tmp_path, quarters), slots=2).mean_g_per_kwh == [1.5, 5.5]
    assert series(csv_file(tmp_path, quarters), start=MONDAY + 450, slots=1).mean_g_per_kwh == [2.0]


def test_a_short_file_is_a_short_forecast(tmp_path: Path) -> None:
    """It is not stretched: after its end only its mean is known."""
    found = series(csv_file(tmp_path, GOOD), slots=72)
    assert len(found.mean_g_per_kwh) == 24
    assert found.beyond_g_per_kwh == pytest.approx(111.5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "fewer than two"),
        ("start,g_per_kwh\n2026-11-23T00:00Z,5\n", "fewer than two"),
        ("time,g\n1,2\n3,4\n", "has no 'start'"),
        (GOOD.replace("T03:00Z,103", "T03:00,103"), "period 4: .* needs Z or an offset"),
        (GOOD.replace("T03:00Z,103", "T03:00Z,nan"), "period 4: .* is no number"),
        (GOOD.replace("T03:00Z,103", "T03:00Z,-3"), "-3 at 2026-11-23T03:00Z is not between 0 and 5000"),
        (GOOD.replace("T03:00Z,103", "T03:00Z,inf"), "is no number"),
        (GOOD.replace("T03:00Z,103", "T03:00Z,lots"), "is no number"),
        (GOOD.replace("T03:00Z", "T02:00Z"), "two values for 2026-11-23T02:00Z: 102 and 103"),
        (GOOD.replace("T03:00Z", "T03:20Z"), "the period at 2026-11-23T03:20Z does not fit periods of 1 h"),
        (GOOD.replace("T03:00Z", "later"), "no ISO 8601"),
        ("{}", "list of objects"),
        ("[1, 2]", "list of objects"),
        ("[", "Expecting value"),
        (GOOD.replace("2026-11-23", "2026-11-22"), "covers"),
        (GOOD.replace("2026-11-23", "2026-11-24"), "covers"),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, text: str, says: str) -> None:
    """Gaps, doubles, disorder, bare times, wrong numbers, other days: refused with the period."""
    with pytest.raises(ForecastError, match=says):
        series(csv_file(tmp_path, text))
