"""A forecast that the site keeps in a file of its own, or behind an address, CSV or JSON.

CSV has a header; JSON is a list of objects with the same names (or an object with such a list as "data"):

    start,g_per_kwh,low_g_per_kwh,high_g_per_kwh
    2026-11-24T00:00:00Z,312.5,280,350

`start` is the start of a period, with Z or an offset, or epoch seconds; the quantiles (10 and 90 %) may be left out.
The grid of the file need not be that of the outlook; what is checked is what is checked of every service.
"""

import csv
import io
import json
import os
from collections.abc import Mapping
from typing import Any

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.http import Ask, Request
from slurm_carbon.forecast.series import Row, Said, Series, checked, epoch_s, value
from slurm_carbon.outlook import MAX_BYTES

FRESH_S = 600  # how long an address is not asked again
MAX_HISTORY_BYTES = 256 << 20
COLUMNS = ("g_per_kwh", "low_g_per_kwh", "high_g_per_kwh")


def series(
    path: str, zone: str, now_epoch_s: int, accounting: str, factors: str, ask: Ask | None = None, usual: float | None = None
) -> Series:
    """What a file, or with `ask` an address, says of a zone. Raises ForecastError with the file and the line."""
    shown = path
    try:
        if ask is not None and is_address(path):
            request = Request(path)
            shown = request.shown
            try:
                text, issued = ask(request).decode("utf-8-sig"), now_epoch_s
            except ForecastError as error:
                raise ForecastError(f"zone {zone}: file: {error}") from None
            if not text.lstrip().startswith(("[", "{")):
                text = text[: text.rfind("\n") + 1]  # a line that does not end may have been cut off within a number
        else:
            text, issued = _open(path)
        rows, quantiles = read(text)
    except (ValueError, RecursionError, csv.Error) as error:
        raise ForecastError(f"zone {zone}: {shown}: {_words(error)}") from None
    said = Said(rows, accounting, factors, min(issued, now_epoch_s), 0, quantiles.get(COLUMNS[1]), quantiles.get(COLUMNS[2]))
    return checked(said, zone, f"file {shown}", now_epoch_s, usual)


def load(path: str) -> tuple[list[Row], dict[str, list[float | None]]]:
    """The periods of a file, and its quantiles. Raises ForecastError."""
    try:
        return read(_open(path, MAX_HISTORY_BYTES)[0])
    except (ValueError, RecursionError, csv.Error) as error:
        raise ForecastError(f"{path}: {_words(error)}") from None


def _words(error: Exception) -> str:
    return "is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


def is_address(path: str) -> bool:
    """Whether it has to be asked for over the network."""
    return path.startswith(("https://", "http://"))


def _open(path: str, most: int = MAX_BYTES) -> tuple[str, int]:
    if os.path.exists(path) and not os.path.isfile(path):  # a FIFO would hold up the refresh for ever
        raise ValueError("is no file")
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(most + 1)
            if len(text) > most:
                raise ValueError(f"is larger than {most >> 20} MiB")
            return text, int(os.fstat(file.fileno()).st_mtime)
    except OSError as error:
        raise ValueError(error.strerror) from None


def read(text: str) -> tuple[list[Row], dict[str, list[float | None]]]:
    """Periods with their means, and the columns of quantiles, of a text in either form. Raises ValueError."""
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
    found: list[Row] = [(_start(row, number), _value(row, COLUMNS[0], number)) for number, row in enumerate(rows, 1)]
    quantiles = [name for name in COLUMNS[1:] if name in rows[0]]
    return found, {name: [_value(row, name, number) for number, row in enumerate(rows, 1)] for name in quantiles}


def _start(row: Mapping[str, Any], number: int) -> int:
    start = row.get("start")
    if type(start) is int or (isinstance(start, str) and start.isdecimal() and len(start) < 12):
        return int(start)
    try:
        return epoch_s(start)
    except ValueError as error:
        raise ValueError(f"period {number}: start {error}") from None


def _value(row: Mapping[str, Any], name: str, number: int) -> float | None:
    try:
        return value(None if row.get(name) == "" else row.get(name))
    except ValueError as error:
        raise ValueError(f"period {number}: {name}: {error}") from None
