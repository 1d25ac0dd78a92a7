"""What is kept between refreshes: last good answers, who asked us to wait, history, models, and what forecasts were worth.

Every file is written whole and renamed into place, mode 600 in a directory of mode 700: some services do not allow their
data to be handed on. A file that is broken or of another time counts as not there: the next answer replaces it.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from slurm_carbon import atomic
from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.series import FIRST_S, LAST_S, LONGEST_PERIOD_S, Series
from slurm_carbon.outlook import MAX_G_PER_KWH

HISTORY = ("g_per_kwh",)
MIX = ("log_all_mw", "wind", "solar", "hydro", "nuclear")  # everything that was generated, and shares in it
ACCOUNTINGS, FACTORS = ("production", "consumption", "marginal"), ("lifecycle", "direct")
KEPT_HOURS = 3 * 366 * 24


def _whose(path: str) -> str:
    """A hint at who may do it."""
    import pwd

    while path and not os.path.exists(path):
        path = os.path.dirname(path)
    try:
        owner = pwd.getpwuid(os.stat(path).st_uid).pw_name
    except (OSError, KeyError):
        return "run it as the user of the refresh"
    return f"it belongs to {owner}: run it as that user"


def _digest(text: str) -> str:
    """Tells one address from another without keeping it: there may be a password in it."""
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """The directory of the forecasts. What makes no sense is not there; what may not be read or written is a ForecastError."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, *names: str) -> str:
        """Where something is kept. Names of zones are data: nothing in them leads to another directory."""
        return os.path.join(self.directory, *(quote(name, safe=" .,()").lstrip(".") or "_" for name in names))

    def write(self, data: bytes, *names: str) -> None:
        """Keep something: all of it or nothing. Raises ForecastError."""
        path = self.path(*names)
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            atomic.write(path, data, 0o600)
            if os.geteuid() == 0:  # what root puts here must stay readable for the user whose directory it is
                owner = os.stat(self.directory)
                for changed in (os.path.dirname(path), path):
                    os.chown(changed, owner.st_uid, owner.st_gid, follow_symlinks=False)
        except OSError as error:
            raise ForecastError(f"cannot write {path}: {error.strerror}; {_whose(self.directory)}") from None

    def read(self, *names: str) -> bytes | None:
        """What is kept, or None. Raises ForecastError for what is there and cannot be read."""
        path = self.path(*names)
        try:
            with open(path, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ForecastError(f"cannot read {path}: {error.strerror}; {_whose(path)}") from None

    def _json(self, *names: str) -> Any:
        data = self.read(*names)
        try:
            return None if data is None else json.loads(data)
        except (ValueError, RecursionError, OverflowError):
            return None

    # answers

    def keep(self, series: Series, source: str, now_epoch_s: int, asked: str = "") -> None:
        """Keep the good answer of a source, and where it was asked. Raises ForecastError."""
        values = {"fetched": now_epoch_s, "asked": _digest(asked), **series._asdict()}
        self.write(json.dumps(values).encode(), "answers", f"{series.zone} {source}.json")

    def last(self, zone: str, source: str, asked: str = "") -> tuple[Series, int] | None:
        """The last good answer of a source, and when it came; None if none makes sense, or it was asked elsewhere."""
        raw = self._json("answers", f"{zone} {source}.json")
        try:
            fetched = raw.pop("fetched")
            if raw.pop("asked") != _digest(asked):
                return None
            found = Series(**raw)
            values = found.g_per_kwh + (found.low or []) + (found.high or [])
            times = (fetched, found.start_epoch_s, found.issued_epoch_s)
            sound = (
                found.zone == zone
                and found.accounting in ACCOUNTINGS and found.factors in FACTORS and type(found.source) is str
                and all(type(time) is int and FIRST_S <= time <= LAST_S for time in times)
                and type(found.period_s) is int and 60 <= found.period_s <= LONGEST_PERIOD_S
                and len(found.g_per_kwh) > 0
                and all(len(band) == len(found.g_per_kwh) for band in (found.low, found.high) if band is not None)
                and all(0 <= value <= MAX_G_PER_KWH for value in values)
            )  # fmt: skip
            return (found, fetched) if sound else None
        except (TypeError, AttributeError, KeyError):
            return None

    # hosts that asked us to wait

    def later(self, now_epoch_s: float) -> dict[str, float]:
        """Until when which host is not to be asked."""
        raw = self._json("later.json")
        if not isinstance(raw, dict):
            return {}
        longest = (now_epoch_s or time.time()) + 86400
        return {host: at for host, at in raw.items() if isinstance(at, int | float) and now_epoch_s < at < longest}

    def keep_later(self, later: Mapping[str, float]) -> None:
        """Keep it for the next refresh. Raises ForecastError."""
        both = {**self.later(0), **later}  # another refresh may have been told meanwhile
        if both:
            self.write(json.dumps(both).encode(), "later.json")

    # history

    def history(self, zone: str, kind: tuple[str, str]) -> dict[int, float]:
        """What was measured in a zone, by one accounting and one set of factors: g/kWh by the start of the hour."""
        return {start: row[0] for start, row in self._table(HISTORY, "history", f"{zone} {' '.join(kind)}.csv").items()}

    def keep_history(self, zone: str, kind: tuple[str, str], values: Mapping[int, float]) -> None:
        """Add to it, new values over old ones. Raises ForecastError."""
        rows = {start: (value,) for start, value in values.items()}
        self._keep_table(HISTORY, rows, "history", f"{zone} {' '.join(kind)}.csv")

    def mix(self, zone: str) -> dict[int, tuple[float, ...]]:
        """How what was generated in a zone was made up: the columns of MIX by the start of the hour."""
        return self._table(MIX, "mix", f"{zone}.csv")

    def keep_mix(self, zone: str, rows: Mapping[int, tuple[float, ...]]) -> None:
        """Add to it, new values over old ones. Raises ForecastError."""
        self._keep_table(MIX, rows, "mix", f"{zone}.csv")

    def _table(self, columns: tuple[str, ...], *names: str) -> dict[int, tuple[float, ...]]:
        found: dict[int, tuple[float, ...]] = {}
        for line in (self.read(*names) or b"").decode("ascii", "replace").splitlines()[1:]:
            start, *cells = line.split(",")
            try:
                row = tuple(map(float, cells))
            except ValueError:
                continue
            if start.isdecimal() and len(start) < 12 and len(row) == len(columns) and all(map(math.isfinite, row)):
                found[int(start)] = row
        return found

    def _keep_table(self, columns: tuple[str, ...], rows: Mapping[int, tuple[float, ...]], *names: str) -> None:
        before = self._table(columns, *names)
        after = dict(sorted({**before, **rows}.items())[-KEPT_HOURS:])
        if after != before:
            lines = [",".join(("start", *columns)), *(f"{t}," + ",".join(f"{x:.9g}" for x in row) for t, row in after.items())]
            self.write(("\n".join(lines) + "\n").encode(), *names)

    def kinds(self, zone: str) -> list[tuple[str, str]]:
        """The accountings and factors that there is history of."""
        folder, stem = os.path.split(self.path("history", f"{zone} "))
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return []
        kinds = [tuple(name[len(stem) : -4].split(" ")) for name in names if name.startswith(stem) and name.endswith(".csv")]
        return [(kind[0], kind[1]) for kind in kinds if len(kind) == 2]
