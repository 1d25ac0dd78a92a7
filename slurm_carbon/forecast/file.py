"""A forecast that the site keeps in a file of its own, CSV or JSON.

CSV has a header; JSON is a list of objects with the same names (or an object with such a list as "data"):

    start,g_per_kwh,low_g_per_kwh,high_g_per_kwh
    2026-11-24T00:00:00Z,312.5,280,350

`start` is the start of a period, with Z or an offset, or epoch seconds; the quantiles (10 and 90 %) may be left out.
Periods are equal and follow each other; the grid of the file need not be that of the outlook.
"""

import csv
import io
import json
import os
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from slurm_carbon.errors import ForecastError
from slurm_carbon.intensity import Intensity, Running
from slurm_carbon.outlook import MAX_BYTES, MAX_G_PER_KWH
from slurm_carbon.units import duration_text, utc

COLUMNS = ("g_per_kwh", "low_g_per_kwh", "high_g_per_kwh")


def series(path: str, zone: str, start_epoch_s: int, slot_s: int, slots: int, accounting: str, factors: str) -> Intensity:
    """What a file says of a zone, on the grid of the outlook. Raises ForecastError with the file and the line."""
    if os.path.exists(path) and not os.path.isfile(path):  # a FIFO would hold up the refresh for ever
        raise ForecastError(f"zone {zone}: {path}: is no file")
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MAX_BYTES)
            modified = int(os.fstat(file.fileno()).st_mtime)
    except (OSError, UnicodeDecodeError) as error:
        raise ForecastError(f"zone {zone}: {path}: {getattr(error, 'strerror', None) or 'is no UTF-8 text'}") from None
    try:
        begins, columns = _read(text)
    except ValueError as error:
        raise ForecastError(f"zone {zone}: {path}: {error}") from None
    period_s = begins[1] - begins[0]
    end = begins[-1] + period_s
    if begins[0] > start_epoch_s or end <= start_epoch_s:
        raise ForecastError(f"zone {zone}: {path}: covers {_iso(begins[0])} to {_iso(end)}, not {_iso(start_epoch_s)}")
    whole = min(slots, (end - start_epoch_s) // slot_s)
    if whole < 1:
        raise ForecastError(f"zone {zone}: {path}: ends within the first slot, at {_iso(end)}")
    on_grid = {}
    for name, values in columns.items():
        running = Running(begins[0], period_s, values, values[-1])
        edges = [running.at(start_epoch_s + i * slot_s) for i in range(whole + 1)]
        on_grid[name] = [(after - before) / slot_s for before, after in pairwise(edges)]
    mean = on_grid["g_per_kwh"]
    return Intensity(
        zone, start_epoch_s, slot_s, mean, sum(mean) / len(mean), f"file {path}", accounting, factors, modified,
        on_grid.get("low_g_per_kwh"), on_grid.get("high_g_per_kwh"),
    )  # fmt: skip


def _iso(epoch_s: int) -> str:
    return f"{utc(epoch_s):%Y-%m-%dT%H:%MZ}"


def _read(text: str) -> tuple[list[int], dict[str, list[float]]]:
    if text.lstrip()[:1] in ("[", "{"):
        rows = json.loads(text)
        rows = rows.get("data") if isinstance(rows, dict) else rows
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError('must be a list of objects, or an object with such a list as "data"')
    else:
        rows = list(csv.DictReader(io.StringIO(text), skipinitialspace=True))
    if len(rows) < 2:
        raise ValueError("has fewer than two periods")
    for name in ("start", COLUMNS[0]):
        if name not in rows[0]:
            raise ValueError(f"has no {name!r}; expected {', '.join(('start', *COLUMNS))}")
    names = [name for name in COLUMNS if name in rows[0]]
    begins = [_start(row, number) for number, row in enumerate(rows, 1)]
    period_s = begins[1] - begins[0]
    for number, (before, after) in enumerate(pairwise(begins), 2):
        if after - before != period_s or period_s <= 0:
            raise ValueError(
                f"period {number} starts {duration_text(after - before)} after the one before it, the second "
                f"{duration_text(period_s)} after the first: all must be of one length, without a gap"
            )
    return begins, {name: [_value(row, name, number) for number, row in enumerate(rows, 1)] for name in names}


def _start(row: Mapping[str, Any], number: int) -> int:
    value = row.get("start")
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        return int(value)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"period {number}: start {value!r} is no ISO 8601 time") from None
    if moment.tzinfo is None:
        raise ValueError(f"period {number}: start {value!r} needs Z or an offset such as +01:00")
    return int(moment.timestamp())


def _value(row: Mapping[str, Any], name: str, number: int) -> float:
    try:
        value = float(row[name])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"period {number}: {name} {row.get(name)!r} is no number") from None
    if not 0 <= value <= MAX_G_PER_KWH:
        raise ValueError(f"period {number}: {name} {value:g} is not between 0 and {MAX_G_PER_KWH:g} g/kWh")
    return value
