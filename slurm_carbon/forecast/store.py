"""What is kept between refreshes: last good answers, who asked us to wait, history, models, and what forecasts were worth.

Every file is written whole and renamed into place, mode 600 in a directory of mode 700: some services do not allow their
data to be handed on. A file that is broken or of another time counts as not there: the next answer replaces it.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from slurm_carbon import atomic
from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.series import Series
from slurm_carbon.outlook import MAX_G_PER_KWH

HISTORY = ("g_per_kwh",)
MIX = ("log_all_mw", "wind", "solar", "hydro", "nuclear")  # everything that was generated, and shares in it
KEPT_HOURS = 3 * 366 * 24


class Store:
    """The directory of the forecasts. Errors of writing are ForecastErrors; what cannot be read is not there."""

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
        except OSError as error:
            raise ForecastError(f"cannot write {path}: {error.strerror}") from None

    def read(self, *names: str) -> bytes | None:
        """What is kept, or None."""
        try:
            with open(self.path(*names), "rb") as file:
                return file.read()
        except OSError:
            return None

    def _json(self, *names: str) -> Any:
        data = self.read(*names)
        try:
            return None if data is None else json.loads(data)
        except (ValueError, RecursionError):
            return None

    # answers

    def keep(self, series: Series, source: str, now_epoch_s: int) -> None:
        """Keep the good answer of a source. Raises ForecastError."""
        values = {"fetched": now_epoch_s, **series._asdict()}
        self.write(json.dumps(values).encode(), "answers", f"{series.zone} {source}.json")

    def last(self, zone: str, source: str) -> tuple[Series, int] | None:
        """The last good answer of a source, and when it came; None if there is none that makes sense."""
        raw = self._json("answers", f"{zone} {source}.json")
        try:
            fetched = raw.pop("fetched")
            found = Series(**raw)
            values = found.g_per_kwh + (found.low or []) + (found.high or [])
            numbers = (fetched, found.start_epoch_s, found.period_s, found.issued_epoch_s)
            sound = found.zone == zone and found.period_s > 0 and found.g_per_kwh and all(type(n) is int for n in numbers)
            return (found, fetched) if sound and all(0 <= value <= MAX_G_PER_KWH for value in values) else None
        except (TypeError, AttributeError, KeyError):
            return None

    # hosts that asked us to wait

    def later(self, now_epoch_s: float) -> dict[str, float]:
        """Until when which host is not to be asked."""
        raw = self._json("later.json")
        if not isinstance(raw, dict):
            return {}
        return {host: at for host, at in raw.items() if isinstance(at, int | float) and now_epoch_s < at < now_epoch_s + 86400}

    def keep_later(self, later: Mapping[str, float]) -> None:
        """Keep it for the next refresh. Raises ForecastError."""
        if later or self.read("later.json"):
            self.write(json.dumps(dict(later)).encode(), "later.json")

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
            if start.isdigit() and len(row) == len(columns) and all(map(math.isfinite, row)):
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
