"""Electricity Maps v3: intensity and mix of consumed electricity, traced over the borders, for most of the world.

The free tier has one zone and no forecast, only the last day: enough to feed our own forecaster. A key without access may
get random numbers with HTTP 200, marked as sandbox; they are refused.
"""

from typing import Any

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import mix
from slurm_carbon.forecast.http import Ask, Request, StatusError, parsed
from slurm_carbon.forecast.series import ODD, Row, Said, broken, epoch_s, iso, value
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.units import DAY_S, utc

HORIZONS_H = (72, 24)  # the longest, and what an academic key may have
RANGE_S = 10 * DAY_S  # hourly values in one answer, at most
SOURCES = {"hydro discharge": "pumped hydro", "battery discharge": "battery"}
SOURCES |= {name: name for name in mix.FACTORS}


def request(subject: Subject, path: str, **query: str) -> Request:
    """A question about a zone. Without `disableCallerLookup` it would answer for the caller's own zone if it knew no other."""
    asked = {"zone": subject.name, "disableCallerLookup": "true", **query}
    headers = (("auth-token", subject.secret),) if subject.secret else ()
    return Request(f"{subject.url}/{path}", tuple(asked.items()), secret_headers=headers)


def rows(raw: Any, subject: Subject, name: str, *, measured: bool = False) -> tuple[list[Any], int]:
    """The list in an answer, and when it was made. Raises ForecastError for a sandbox, another zone or other factors."""
    if not isinstance(raw, dict) or not isinstance(raw.get(name), list):
        raise ForecastError(f"the answer has no list {name!r}")
    found = raw[name]
    every = [raw, *found]
    if not all(isinstance(item, dict) for item in every):
        raise ForecastError(f"{name!r} is no list of objects")
    if "SANDBOX" in str(raw.get("_disclaimer", "")).upper() or any("SANDBOX" in str(x.get("estimationMethod")) for x in every):
        raise ForecastError("sandbox data: random numbers that a key without access gets")
    for item in every:
        if item.get("zone", subject.name) != subject.name:
            raise ForecastError(f"answers for zone {str(item['zone'])[:40]!r}, not {subject.name!r}")
        if item.get("emissionFactorType", subject.factors) != subject.factors:
            raise ForecastError(f"counts with {str(item['emissionFactorType'])[:40]!r} factors, not {subject.factors!r}")
    if measured:
        found = [item for item in found if not item.get("isEstimated")]
    try:
        updated = [epoch_s(item["updatedAt"]) for item in every if "updatedAt" in item]
    except ODD as error:
        raise broken(error) from None
    return found, max(updated, default=0)


def answer(body: bytes, asked: Request, subject: Subject, name: str, *, measured: bool = False) -> Said:
    """An intensity answer. Raises ForecastError."""
    found, issued = rows(parsed(body, asked), subject, name, measured=measured)
    try:
        values = [(epoch_s(item["datetime"]), value(item["carbonIntensity"])) for item in found]
    except ODD as error:
        raise broken(error) from None
    return Said(values, "consumption", subject.factors, issued)


def mix_answer(body: bytes, asked: Request, subject: Subject) -> Said:
    """A forecast of megawatts by source, as intensity by our own factors. Raises ForecastError."""
    found, issued = rows(parsed(body, asked), subject, "data")
    mw: mix.Hourly = {}
    try:
        for item in found:
            at = epoch_s(item["datetime"])
            for name, amount in item["powerConsumptionBreakdown"].items():
                if (megawatts := value(amount)) is not None and mw.setdefault(name, {}).setdefault(at, megawatts) != megawatts:
                    raise ForecastError(f"two amounts of {str(name)[:40]} for {iso(at)}")
    except ODD as error:
        raise broken(error) from None
    return Said(mix.intensities(mix.by_source(mw, SOURCES), subject.factors), "consumption", subject.factors, issued)


def forecast(ask: Ask, subject: Subject, _start_epoch_s: int, _end_epoch_s: int) -> Said:
    """The intensity of the coming days, as far as the key goes."""
    return _longest(ask, subject, "carbon-intensity/forecast", lambda body, asked: answer(body, asked, subject, "forecast"))


def mix_forecast(ask: Ask, subject: Subject, _start_epoch_s: int, _end_epoch_s: int) -> Said:
    """The same from the forecast mix and our own factors."""
    return _longest(ask, subject, "power-breakdown/forecast", lambda body, asked: mix_answer(body, asked, subject))


def _longest(ask: Ask, subject: Subject, path: str, read: Any) -> Said:
    for hours in HORIZONS_H:
        asked = request(subject, path, horizonHours=str(hours), emissionFactorType=subject.factors)
        try:
            said: Said = read(ask(asked), asked)
            return said
        except StatusError as error:
            if error.status not in (400, 403) or hours == HORIZONS_H[-1]:
                raise
    raise AssertionError("the last horizon returns or raises")


def history(ask: Ask, subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Said:
    """What was measured; estimates of the service are left out. The last day is free, more needs a key for ranges."""
    if end_epoch_s - start_epoch_s <= DAY_S:
        asked = request(subject, "carbon-intensity/history", emissionFactorType=subject.factors)
        return answer(ask(asked), asked, subject, "history", measured=True)
    found: list[Row] = []
    issued = 0
    at = start_epoch_s
    while at < end_epoch_s:
        until = min(at + RANGE_S, end_epoch_s)
        span = {name: f"{utc(t):%Y-%m-%dT%H:%M:%SZ}" for name, t in (("start", at), ("end", until))}
        asked = request(subject, "carbon-intensity/past-range", emissionFactorType=subject.factors, **span)
        part = answer(ask(asked), asked, subject, "data", measured=True)
        found += part.rows
        issued = max(issued, part.issued_epoch_s)
        at = until
    return Said(found, "consumption", subject.factors, issued)


SERVICE = Service(
    "electricitymaps", "https://api.electricitymaps.com/v3", forecast, history, {}, 1800, "the auth token", any_zone=True,
    credit="Electricity Maps",
)  # fmt: skip
MIX = SERVICE._replace(name="electricitymaps-mix", forecast=mix_forecast, history=None, account="electricitymaps")
