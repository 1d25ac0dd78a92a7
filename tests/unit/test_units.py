"""Quantities: read as Slurm and people write them, printed short."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_carbon.errors import UsageError
from slurm_carbon.units import (
    duration_s,
    duration_text,
    energy_text,
    kwh,
    mass_text,
    memory_mb,
    parse_time,
    slurm_duration_s,
    utc,
)

NOW = 1_795_000_000  # 2026-11-18 11:06:40 UTC


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local time is that of a place with daylight saving."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("1:30:00", 5400),
        ("2-0", 172800),
        ("2-3:30", 185400),
        ("1-12:00:00", 129600),
        ("UNLIMITED", None),
        ("0", 0),
    ],
)
def test_slurm_times(text: str, seconds: int | None) -> None:
    """Every form that sbatch(1) names for --time."""
    assert slurm_duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6h", 21600), ("1d12h", 129600), ("1.5h", 5400), ("90m", 5400), ("90", 5400), ("1-0", 86400), ("0s", 0)],
)
def test_durations(text: str, seconds: int) -> None:
    """What people write, and what Slurm writes."""
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "-5h",
        "6x",
        "1h-2",
        "five",
        "6h30",
        "1:2:3:4",
        "unlimited",
        "nan",
        "1e3h",
        "٣h",
        "٣",
        "1_0",
        ".h",
        "9" * 400 + "d",
    ],
)
def test_wrong_durations_are_the_users_mistake(text: str) -> None:
    """A duration that is none says how one is written."""
    with pytest.raises(UsageError, match="1d12h"):
        duration_s(text)


@given(st.integers(0, 10**7))
def test_a_printed_duration_reads_back_to_the_minute(seconds: int) -> None:
    """What we print can be typed, and means the same to its smaller unit."""
    back = duration_s(duration_text(seconds).replace(" min", "m").replace(" ", ""))
    assert abs(back - seconds) <= (30 if seconds < 86400 else 3600)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T08:00", "2026-11-24T07:00:00+00:00"),
        ("2026-11-24T08:00Z", "2026-11-24T08:00:00+00:00"),
        ("2026-11-24T08:00:30+05:30", "2026-11-24T02:30:30+00:00"),
        ("2026-11-24", "2026-11-23T23:00:00+00:00"),
        ("2026-07-01T12:00", "2026-07-01T10:00:00+00:00"),
        ("13:00", "2026-11-18T12:00:00+00:00"),
        ("08:15:30", "2026-11-19T07:15:30+00:00"),
        ("noon", "2026-11-19T11:00:00+00:00"),
        ("midnight", "2026-11-18T23:00:00+00:00"),
        ("tomorrow", "2026-11-18T23:00:00+00:00"),
    ],
)
def test_times_are_local_unless_they_say_otherwise(text: str, moment: str) -> None:
    """As with sbatch --begin, a bare time is that of the login node's clock."""
    assert utc(parse_time(text, NOW)) == datetime.fromisoformat(moment).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", 0),
        ("now+60", 60),
        ("now+18hours", 64800),
        ("now+1hour", 3600),
        ("now+2days", 172800),
        ("now+5min", 300),
        ("now+1week", 604800),
    ],
)
def test_times_from_now(text: str, seconds: int) -> None:
    """now+N[unit], as sbatch takes it."""
    assert parse_time(text, NOW) == NOW + seconds


@pytest.mark.parametrize("text", ["", "later", "25:00", "now-1", "now+x", "2026-13-01", "uts", "now+3parsecs", "10:20:30:40"])
def test_wrong_times_are_the_users_mistake(text: str) -> None:
    """A time that is none says how one is written."""
    with pytest.raises(UsageError, match="tomorrow"):
        parse_time(text, NOW)


def test_memory_is_in_mebibytes() -> None:
    """As Slurm counts it."""
    assert [memory_mb(t) for t in ("4G", "500M", "4096", "2048K", "1T")] == [4096, 500, 4096, 2, 1024**2]


def test_printing_keeps_three_digits() -> None:
    """A unit that fits, and no false precision."""
    assert [mass_text(g) for g in (0.1234, 61.49, 1234.5, 2.5e6)] == ["0.123 g", "61.5 g", "1.23 kg", "2.5 t"]
    assert [energy_text(e) for e in (0.01234, 1.2, 1287e3)] == ["12.3 Wh", "1.2 kWh", "1.29e+03 MWh"]
    assert kwh(1000, 3600) == 1
    assert os.environ["TZ"] == "Europe/Berlin"
