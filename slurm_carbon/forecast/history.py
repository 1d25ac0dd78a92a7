"""What was measured in a zone, kept hour by hour: our own forecaster learns from it, and forecasts are judged by it.

Services hand out a day to a month at a time, so it is collected with every refresh; a zone can also start with years of it
from a file (`slurm-carbon forecast fit --history FILE`).
"""

import json

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import file as files
from slurm_carbon.forecast import mix
from slurm_carbon.forecast.http import Ask, StatusError
from slurm_carbon.forecast.series import Said, check_level, iso, regular
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.forecast.store import Store
from slurm_carbon.units import DAY_S, HOUR_S

OFTEN_S = HOUR_S - 60  # a history is not asked for more often
REVISED_S = 6 * HOUR_S  # services still correct their last hours
LEVEL_HOURS = 28 * 24  # whose mean new values are compared with
LONGEST_S = 10 * DAY_S  # what a refresh asks for; the file of a site may have years


def hourly(said: Said) -> dict[int, float]:
    """Means by the hour, of the hours that are there from end to end. Raises ForecastError."""
    values, period_s = regular(said.rows, said.period_s)
    if period_s >= HOUR_S:
        return {start + hour: g for start, g in values.items() for hour in range(0, period_s - HOUR_S + 1, HOUR_S)}
    parts: dict[int, list[float]] = {}
    for start, g_per_kwh in values.items():
        parts.setdefault(start - start % HOUR_S, []).append(g_per_kwh)
    return {hour: sum(found) / len(found) for hour, found in parts.items() if len(found) == HOUR_S // period_s}


def catch_up(zone: str, subjects: list[tuple[Service, Subject]], store: Store, ask: Ask, now_epoch_s: int) -> None:
    """Add what the first service that answers has measured since the last time. Raises ForecastError only if none ever did."""
    end = now_epoch_s - now_epoch_s % HOUR_S
    errors = []
    for service, subject in subjects:
        asked = ("history", f"{zone} {service.name} asked.json")
        if 0 <= now_epoch_s - _last(store, asked) < OFTEN_S:
            return
        try:
            store.write(json.dumps(now_epoch_s).encode(), *asked)
            newest = max((max(store.history(zone, kind), default=0) for kind in store.kinds(zone)), default=0)
            begin = max(end - LONGEST_S, min(end - DAY_S, newest - REVISED_S))
            _keep(_told(service, subject, ask, begin, end), zone, store, begin, end)
            return
        except ForecastError as error:
            errors.append(f"{service.name}: {subject.hides(error)}")
    if errors and not store.kinds(zone):
        raise ForecastError(f"no history: {'; '.join(errors)}")


def _last(store: Store, asked: tuple[str, str]) -> int:
    try:
        return int(json.loads(store.read(*asked) or b"0"))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return 0


def _keep(said: Said, zone: str, store: Store, begin: int, end: int) -> None:
    kind = (said.accounting, said.factors)
    found = {start: value for start, value in hourly(said).items() if begin <= start < end}
    if not found:
        raise ForecastError("has nothing of the last days")
    known = list(store.history(zone, kind).values())[-LEVEL_HOURS:]
    check_level(list(found.values()), *kind, sum(known) / len(known) if len(known) >= DAY_S // HOUR_S else None)
    store.keep_history(zone, kind, found)
    if said.mix:
        store.keep_mix(zone, {start: row for start, row in mix.shares(said.mix).items() if start in found})


def _told(service: Service, subject: Subject, ask: Ask, begin: int, end: int) -> Said:
    if service.history is None:
        raise ForecastError("has no history")
    try:
        return service.history(ask, subject, begin, end)
    except StatusError:
        if end - begin <= DAY_S:
            raise
        return service.history(ask, subject, end - DAY_S, end)  # all that a free key may have


def from_file(path: str, kind: tuple[str, str], now_epoch_s: int) -> dict[int, float]:
    """The measured hours in a file of the site, in the form of the source `file`. Raises ForecastError."""
    rows, _ = files.load(path)
    try:
        found = hourly(Said(rows, *kind, 0))
        if not found:
            raise ForecastError("has no whole hour")
        if max(found) >= now_epoch_s:
            raise ForecastError(f"has hours that are still to come: {iso(max(found))}")
        check_level(list(found.values()), *kind)
        return found
    except ForecastError as error:
        raise ForecastError(f"{path}: {error}") from None
