"""What the hook wrote into admin_comment, read back as data; that it is what Lua writes, tests/hook/test_parity.py shows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_carbon.hook.records import MAX_BYTES, HookRecord, of_job

RAW: dict[str, Any] = {
    "slurm_carbon": "0.1.0", "mode": "enforce", "decided": 100, "outlook": 90, "reason": "", "home": "alpha/batch",
    "baseline_g": 1033.5, "latest": 900, "bound": "the site's 1 d", "run_time_s": 3600, "run_time_by": "--time", "power_w": 160,
    "energy_kwh": 0.16, "zone": "DE", "source": "test", "counts": "production, lifecycle", "issued": 80,
    "in": ["alpha/batch", "beta/batch"], "at": "beta/batch", "begin": 500, "emissions_g": 412,
}  # fmt: skip
RECORD = HookRecord("enforce", 100, "", "alpha/batch", 1033.5, 900, "beta/batch", 500, 412.0, 0.16, 3600, 160.0,
                    ("alpha/batch", "beta/batch"), "test", 80)  # fmt: skip


def text(**changes: Any) -> str:
    """A record with some fields changed, or left out where they are None."""
    raw = {name: value for name, value in {**RAW, **changes}.items() if value is not None}
    return json.dumps(raw, separators=(",", ":"))


def test_a_record_is_read() -> None:
    """Of a job that was placed, one that stayed, one that an older hook decided on, and one that was left alone."""
    assert of_job(text()) == RECORD
    stayed = text(at=None, begin=None, emissions_g=None, reason="no choice saves enough")
    assert of_job(stayed) == RECORD._replace(at=None, begin_epoch_s=None, emissions_g=1033.5, reason="no choice saves enough")
    older = of_job(text(**{"in": None}))
    assert older is not None
    assert older.locations == ("alpha/batch",)
    left = '{"slurm_carbon":"0.1.0","mode":"advise","decided":7,"outlook":5,"reason":"--carbon-off was given"}'
    assert of_job(left) == HookRecord("advise", 7, "--carbon-off was given")


WRONG: dict[str, Any] = {
    "mode": ["off", "", 1, ["enforce"], {}, None],
    "decided": [-1, 1.5, "100", True, 1 << 41, [], None],
    "reason": [1, "x" * 3000, None],
    "home": ["alpha", "/batch", "alpha/", 5, "a\n/b", ["a/b"]],
    "baseline_g": [-1, "1", True, 1e16, None], "latest": [-1, None, 1e3],
    "at": ["beta", 1, None], "begin": [None, "now", -5], "emissions_g": [None, -0.1], "energy_kwh": [None, "x"],
    "run_time_s": [None, 0.5], "power_w": [None, []], "in": [[1], "alpha/batch", ["x"], 7, {"a/b": 1}, ["a/b"] * 2000],
    "source": [None, 3], "issued": [None, "x"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_is_out_of_range_is_no_record(name: str, value: Any) -> None:
    """Each field has its kind and its range."""
    assert of_job(text(**{name: value})) is None


@pytest.mark.parametrize(
    "comment",
    ["", "hello", "{", '{"slurm_carbon":', '{"slurm_carbon":"1"', '{"slurm_carbon":' + "[" * 60_000, '{"slurm_carbon":NaN}',
     '{"slurm_carbon":"1","decided":' + "9" * 5000 + "}", text() + text(), text(baseline_g=float("inf")), " " + text(),
     text(reason="x" * MAX_BYTES), text().replace("1033.5", "1e999")],
)  # fmt: skip
def test_what_is_no_record(comment: str) -> None:
    """Broken, endless, deep and absurd ones: none, and no error."""
    assert of_job(comment) is None


@given(st.integers(0, 600), st.text(max_size=4))
def test_whatever_is_written_over_it(at: int, other: str) -> None:
    """It is a sound record or none."""
    whole = text()
    found = of_job(whole[:at] + other + whole[at + len(other) :])
    if found is not None:
        assert found.decided_epoch_s >= 0
        assert all("/" in place for place in found.locations)
