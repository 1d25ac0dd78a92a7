"""What a source said, checked before anybody decides by it: order, duplicates, gaps, range, units, and whether it covers now.

A service that answers nonsense with HTTP 200 does more harm than one that is down. What cannot be made right here
without guessing is refused with the reason; the chain then asks the next source.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from slurm_carbon.errors import ForecastError
from slurm_carbon.intensity import Intensity, Running
from slurm_carbon.outlook import MAX_G_PER_KWH
from slurm_carbon.units import DAY_S, HOUR_S, duration_text, utc

LB_PER_MWH = 0.45359237  # g/kWh: the pound is 453.59237 g
FILLED_S = 2 * HOUR_S  # a longer gap is not bridged
LEAD_S = 2 * HOUR_S  # a forecast that starts this much late holds its first value until then
LEAST = 3.0  # g/kWh: even hydro and nuclear power emit more over their lives, and what is added at the margin as well
FIRST_S, LAST_S = 315_532_800, 4_102_444_800  # 1980 and 2100
LONGEST_PERIOD_S = 7 * DAY_S
LEVEL = 8.0  # how many times more or less than the last good answer no grid emits on the mean

Row = tuple[int, float | None]


class Said(NamedTuple):
    """One answer of a source, as it came: starts of periods in epoch seconds with g/kWh, None where it has none."""

    rows: list[Row]
    accounting: str  # production, consumption or marginal
    factors: str  # lifecycle or direct
    issued_epoch_s: int
    period_s: int = 0  # 0: the source does not say, and it is read off the rows
    low: list[float | None] | None = None  # 10 and 90 % quantiles, one a row
    high: list[float | None] | None = None
    mix: Mapping[str, Mapping[int, float]] | None = None  # of a history: MW by source and start of the hour, if known


class Series(NamedTuple):
    """Regular periods without a gap: g/kWh of each, from a start on."""

    zone: str
    start_epoch_s: int
    period_s: int
    g_per_kwh: list[float]
    source: str
    accounting: str
    factors: str
    issued_epoch_s: int
    low: list[float] | None = None
    high: list[float] | None = None

    @property
    def end_epoch_s(self) -> int:
        """End of the last period."""
        return self.start_epoch_s + self.period_s * len(self.g_per_kwh)

    @property
    def kind(self) -> tuple[str, str]:
        """What may be compared with it: the same accounting and the same factors."""
        return self.accounting, self.factors


# reading


def epoch_s(text: Any) -> int:
    """Epoch seconds of an ISO 8601 time with Z or an offset. Raises ValueError for a local time: nobody knows which."""
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise ValueError(f"{str(text)[:40]!r} is no ISO 8601 time") from None
    if moment.tzinfo is None:
        raise ValueError(f"{text[:40]!r} needs Z or an offset such as +01:00")
    return int(moment.timestamp())


def value(raw: Any) -> float | None:
    """A number, or None for null. Raises ValueError for anything else; text that is a number counts (EIA sends it)."""
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError(f"{str(raw)[:40]!r} is no number")
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{str(raw)[:40]!r} is no number")
    return number


# what reading an answer can run into that is not of the form that it should be
ODD = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)


def broken(error: Exception) -> ForecastError:
    """What to say of an answer that is not of the form that it should be."""
    what = f"it has no {error}" if isinstance(error, KeyError) else str(error)[:80] or type(error).__name__
    return ForecastError(f"the answer is not what it should be: {what}")


# checking


def regular(rows: Iterable[Row], period_s: int = 0) -> tuple[dict[int, float], int]:
    """Values by start, in order, each once and in range, and their period in seconds. Raises ForecastError."""
    found: dict[int, float] = {}
    if not 0 <= period_s <= LONGEST_PERIOD_S:
        raise ForecastError("has periods of no sensible length")
    for start, g_per_kwh in rows:
        if g_per_kwh is None:
            continue
        if not FIRST_S <= start <= LAST_S:
            raise ForecastError(f"a time, {str(start)[:20]} s since 1970, that no forecast is about")
        if not 0 <= g_per_kwh <= MAX_G_PER_KWH:
            raise ForecastError(f"{g_per_kwh:g} at {iso(start)} is not between 0 and {MAX_G_PER_KWH:g} g/kWh")
        if found.setdefault(start, g_per_kwh) != g_per_kwh:
            raise ForecastError(f"two values for {iso(start)}: {found[start]:g} and {g_per_kwh:g} g/kWh")
    if not found:
        raise ForecastError("has no values")
    ordered = dict(sorted(found.items()))
    steps = Counter(after - before for before, after in pairwise(ordered))
    period_s = period_s or (steps.most_common(1)[0][0] if steps else HOUR_S)
    if not 60 <= period_s <= LONGEST_PERIOD_S:
        raise ForecastError(f"has periods of {period_s} s; a minute to a week are possible")
    first = next(iter(ordered))
    for start in ordered:
        if (start - first) % period_s:
            raise ForecastError(f"the period at {iso(start)} does not fit periods of {duration_text(period_s)}")
    return ordered, period_s


def without_gaps(values: dict[int, float], period_s: int, until_epoch_s: int) -> tuple[int, list[float]]:
    """The stretch that holds a point in time, small gaps bridged by a straight line. Raises ForecastError.

    Values end where a gap is longer than FILLED_S: what comes after is not joined to what is before.
    """
    stretches: list[dict[int, float]] = []
    last: tuple[int, float] | None = None
    for start, g_per_kwh in values.items():
        if last is None or start - last[0] - period_s > FILLED_S:
            stretches.append({})
        else:
            steps = (start - last[0]) // period_s
            for step in range(1, steps):
                stretches[-1][last[0] + step * period_s] = last[1] + (g_per_kwh - last[1]) * step / steps
        stretches[-1][start] = g_per_kwh
        last = (start, g_per_kwh)
    for stretch in stretches:
        first, end = min(stretch), max(stretch) + period_s
        if first <= until_epoch_s + LEAD_S and end > until_epoch_s:
            return first, list(stretch.values())
    first, end = min(values), max(values) + period_s
    hole = ", with a gap there," if first <= until_epoch_s < end else ""
    raise ForecastError(f"covers {iso(first)} to {iso(end)}{hole or ','} not {iso(until_epoch_s)}")


def check_level(g_per_kwh: Sequence[float], accounting: str, factors: str, usual_g_per_kwh: float | None = None) -> None:
    """Raise ForecastError for values that no grid has on the mean, or that are far from what is usual in this one."""
    mean = sum(g_per_kwh) / len(g_per_kwh)
    if (factors == "lifecycle" or accounting == "marginal") and mean < LEAST:
        raise ForecastError(f"{mean:.2g} g/kWh on the mean: no grid emits so little, is it another unit?")
    if usual_g_per_kwh and not usual_g_per_kwh / LEVEL <= mean <= max(usual_g_per_kwh * LEVEL, 50):
        raise ForecastError(f"{mean:.3g} g/kWh on the mean, usually {usual_g_per_kwh:.3g}: is it another unit?")


def checked(said: Said, zone: str, source: str, now_epoch_s: int, usual_g_per_kwh: float | None = None) -> Series:
    """An answer as a series that covers now. Raises ForecastError, with the zone and the source, for what is not usable.

    `usual_g_per_kwh` is a mean of earlier days by the same counting, if there is one: a source that changes its unit
    without a word is found out by its level.
    """
    try:
        values, period_s = regular(said.rows, said.period_s)
        start, g_per_kwh = without_gaps(values, period_s, now_epoch_s)
        check_level(g_per_kwh, said.accounting, said.factors, usual_g_per_kwh)
        if said.issued_epoch_s > now_epoch_s + HOUR_S:
            raise ForecastError(f"issued at {iso(said.issued_epoch_s)}, which is still to come")
        bands = zip(said.low or (), said.high or (), strict=False)
        if any(low is not None and high is not None and low > high for low, high in bands):
            raise ForecastError("its low values are above its high ones")
    except ForecastError as error:
        raise ForecastError(f"zone {zone}: {source}: {error}") from None
    starts = range(start, start + period_s * len(g_per_kwh), period_s)
    issued = said.issued_epoch_s if said.issued_epoch_s >= FIRST_S else now_epoch_s  # a service that does not say says "0001"
    low, high = (_beside(said.rows, quantile, starts) for quantile in (said.low, said.high))
    return Series(zone, start, period_s, g_per_kwh, source, said.accounting, said.factors, issued, low, high)


def _beside(rows: list[Row], quantile: list[float | None] | None, starts: range) -> list[float] | None:
    """A quantile of each period, if every one has it."""
    if quantile is None or len(quantile) != len(rows):
        return None
    by_start = {start: value for (start, _), value in zip(rows, quantile, strict=True)}
    found = [value for value in map(by_start.get, starts) if value is not None and 0 <= value <= MAX_G_PER_KWH]
    return found if len(found) == len(starts) else None


# the grid of the outlook


def on_grid(series: Series, start_epoch_s: int, slot_s: int, slots: int) -> Intensity:
    """A series on the slots of the outlook, means kept; slots that it does not cover to their end are left out.

    Raises ForecastError where it does not cover the first.
    """
    whole = min(slots, (series.end_epoch_s - start_epoch_s) // slot_s)
    if whole < 1:
        raise ForecastError(f"zone {series.zone}: {series.source}: ends within the first slot, at {iso(series.end_epoch_s)}")

    def means(values: list[float]) -> list[float]:
        running = Running(series.start_epoch_s, series.period_s, values, values[-1])
        edges = [running.at(start_epoch_s + slot * slot_s) for slot in range(whole + 1)]
        return [(after - before) / slot_s for before, after in pairwise(edges)]

    mean = means(series.g_per_kwh)
    return Intensity(
        series.zone, start_epoch_s, slot_s, mean, sum(mean) / len(mean), series.source, series.accounting, series.factors,
        series.issued_epoch_s, means(series.low) if series.low else None, means(series.high) if series.high else None,
    )  # fmt: skip


def iso(epoch: int) -> str:
    """A time in a message about a source: UTC, to the minute."""
    return f"{utc(epoch):%Y-%m-%dT%H:%MZ}" if FIRST_S <= epoch <= LAST_S else f"second {str(epoch)[:20]}"
