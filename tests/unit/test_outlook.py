"""The published file: what is written is read, and what must not be trusted is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from slurm_carbon import outlook as outlooks
from slurm_carbon.errors import OutlookError
from slurm_carbon.model import NodeShape
from tests.unit.factory import NOW, intensity, outlook, partition


def published(tmp_path: Path, **changes: Any) -> Path:
    """An outlook in a file."""
    path = tmp_path / "outlook.json"
    outlooks.write(outlook(**changes), str(path))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every field comes back, sets and tuples as they were."""
    shape = NodeShape(2, 8, 1000, frozenset({"a", "b"}), (("gpu:x", 2),))
    parts = [partition("alpha", allow_groups=frozenset({"g"}), shapes=(shape,)), partition("beta", deny_qos=frozenset({"q"}))]
    world = outlook(partitions=parts, left_alone=("user:x",), opt_out=())
    world = world._replace(
        zones={**world.zones, "C": intensity("C", 1.0, 2.0, low_g_per_kwh=[0.5, 1.0], high_g_per_kwh=[2.0, 3.0])},
        prices_g_per_h={"beta/batch": {"cores": [0.0, 1.5]}},
    )
    path = tmp_path / "o.json"
    outlooks.write(world, str(path))
    assert outlooks.read(str(path), NOW) == world
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["o.json"]


def test_age_counts(tmp_path: Path) -> None:
    """Fresh until its limit; neither stale nor from the future, but for the skew of clocks."""
    path = str(published(tmp_path))
    for now in (NOW, NOW + 6 * 3600, NOW - 300):
        assert outlooks.read(path, now).generated_epoch_s == NOW
    with pytest.raises(OutlookError, match="stale, 6 h 1 min old of at most 6 h"):
        outlooks.read(path, NOW + 6 * 3600 + 60)
    with pytest.raises(OutlookError, match="in the future"):
        outlooks.read(path, NOW - 301)


def test_truncated_anywhere_it_is_broken(tmp_path: Path) -> None:
    """No part of an outlook passes for one."""
    path = published(tmp_path)
    data = path.read_bytes()
    for tenth in range(10):
        path.write_bytes(data[: len(data) * tenth // 10])
        with pytest.raises(OutlookError, match="broken"):
            outlooks.read(str(path), NOW)


def edited(tmp_path: Path, change: Any) -> str:
    """An outlook with something changed in the JSON."""
    path = published(tmp_path)
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    return str(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(format=1),
        lambda raw: raw.update(generated="yesterday"),
        lambda raw: raw.update(generated=True),
        lambda raw: raw.update(max_age_s=-1),
        lambda raw: raw.pop("zones"),
        lambda raw: raw["policy"].update(surprise=1),
        lambda raw: raw["zones"].pop("C"),
        lambda raw: raw["zones"]["C"].update(mean_g_per_kwh=[float("nan")] * 5),
        lambda raw: raw["zones"]["C"].update(mean_g_per_kwh=[1e999] * 5),
        lambda raw: raw["zones"]["C"].update(mean_g_per_kwh=[-1.0, 5.0]),
        lambda raw: raw["zones"]["C"].update(mean_g_per_kwh=[99999.0]),
        lambda raw: raw["zones"]["C"].update(mean_g_per_kwh=[]),
        lambda raw: raw["zones"]["C"].update(mean_g_per_kwh=["100", "200"]),
        lambda raw: raw["zones"]["C"].update(mean_g_per_kwh="100"),
        lambda raw: raw["zones"]["C"].update(low_g_per_kwh=[1.0]),
        lambda raw: raw["zones"]["C"].update(slot_s=0),
        lambda raw: raw["zones"]["C"].update(start=None),
        lambda raw: raw["locations"][0]["power"].update(pue=0),
        lambda raw: raw["locations"][0]["power"].update(watts_per_core=-5),
        lambda raw: raw.update(prices_g_per_h={"beta/batch": {"cores": [-1.0] * 72}}),
        lambda raw: raw.update(prices_g_per_h={"beta/batch": {"cores": [1.0]}}),
        lambda raw: raw.update(locations=3),
    ],
)
def test_what_is_out_of_range_is_broken(tmp_path: Path, change: Any) -> None:
    """NaN, infinity, negative, text, missing, of another length, of another version: refused as a whole."""
    with pytest.raises(OutlookError):
        outlooks.read(edited(tmp_path, change), NOW)


def test_files_that_are_no_files(tmp_path: Path) -> None:
    """Missing, a folder, a FIFO that nobody writes to, garbage, a deep nest: an error at once, never a hang."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    nest = tmp_path / "nest"
    nest.write_text("[" * 100_000)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(bytes(range(256)) * 100)
    for path in (tmp_path / "missing", tmp_path, fifo, nest, garbage):
        with pytest.raises(OutlookError, match=str(path)):
            outlooks.read(str(path), NOW)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """More than the limit is refused before it is parsed."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(outlooks.MAX_BYTES + 1)
    with pytest.raises(OutlookError, match="larger than 16 MiB"):
        outlooks.read(str(path), NOW)


def test_publishing_where_one_may_not_is_an_error(tmp_path: Path) -> None:
    """An error with the path, and nothing left over."""
    (tmp_path / "o.json").mkdir()
    (tmp_path / "o.json" / "x").touch()
    with pytest.raises(OutlookError, match="cannot write"):
        outlooks.write(outlook(), str(tmp_path / "o.json"))


def test_prices_of_a_plan_keep_their_means_on_the_slots_of_the_zones() -> None:
    """Prices on half-hour slots that begin between the zone's hours become hourly ones with the same integral."""
    world = outlook()
    prices = {"beta/batch": {"cores": [4.0, 0.0, 2.0, 2.0]}, "alpha/batch": {"cores": [0.0] * 4}}
    priced = outlooks.with_prices(world, prices, NOW + 900, 1800, NOW + 60)
    found = priced.prices_g_per_h["beta/batch"]["cores"]
    assert found[:4] == [pytest.approx(2.0), pytest.approx(1.5), pytest.approx(0.5), 0.0]
    assert sum(found) * 3600 == pytest.approx(8.0 * 1800)
    assert "alpha/batch" not in priced.prices_g_per_h  # room for everybody
    assert outlooks.decode(outlooks.encode(priced)).priced_epoch_s == NOW + 60
    past = outlooks.with_prices(world, prices, NOW - 7200, 1800, NOW)
    assert past.prices_g_per_h == {}
