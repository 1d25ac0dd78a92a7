"""carbonintensity.org.uk (NESO): Great Britain for the next two days in half hours, whole or by region; no key.

Its factors are direct (wind, sun and nuclear power count as zero), so its figures are a third below lifecycle ones.
"""

from typing import Any

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.http import Ask, Request, parsed
from slurm_carbon.forecast.series import ODD, Row, Said, broken, epoch_s, value
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.units import DAY_S, utc

PERIOD_S = 1800
RANGE_S = 13 * DAY_S  # its limit is 14
NATIONAL = "national"


def request(subject: Subject, start_epoch_s: int, end_epoch_s: int | None = None) -> Request:
    """Two days from the running half hour on, or a span of the past.

    Asked a minute into the half hour, the running one comes first; and the address is the same for half an hour.
    """
    start = _time(start_epoch_s - start_epoch_s % PERIOD_S + 60)
    until = "fw48h" if end_epoch_s is None else _time(end_epoch_s)
    if subject.name == NATIONAL:
        return Request(f"{subject.url}/intensity/{start}/{until}")
    kind = "regionid" if subject.name.isdigit() else "postcode"
    return Request(f"{subject.url}/regional/intensity/{start}/{until}/{kind}/{subject.name}")


def _time(epoch: int) -> str:
    return f"{utc(epoch):%Y-%m-%dT%H:%MZ}"


def answer(body: bytes, asked: Request, subject: Subject, name: str, now_epoch_s: int) -> Said:
    """Half hours, `forecast` or `actual`. Raises ForecastError for another region, or periods of another length."""
    raw = parsed(body, asked)
    try:
        data: Any = raw["data"]
        if subject.name != NATIONAL:
            region = data[0] if isinstance(data, list) else data
            for key in ("regionid",) if subject.name.isdigit() else ("postcode",):
                if str(region[key]).upper() != subject.name.upper():
                    raise ForecastError(f"answers for {key} {str(region[key])[:40]!r}, not {subject.name!r}")
            data = region["data"]
        rows: list[Row] = []
        for period in data:
            start, end = epoch_s(period["from"]), epoch_s(period["to"])
            if end - start != PERIOD_S:
                raise ForecastError(f"a period of {end - start} s, not of {PERIOD_S}")
            rows.append((start, value(period["intensity"][name])))
    except ODD as error:
        raise broken(error) from None
    return Said(rows, "consumption", "direct", now_epoch_s, PERIOD_S)  # it does not say when a forecast was made


def forecast(ask: Ask, subject: Subject, start_epoch_s: int, _end_epoch_s: int) -> Said:
    """The coming two days."""
    asked = request(subject, start_epoch_s)
    return answer(ask(asked), asked, subject, "forecast", start_epoch_s)


def history(ask: Ask, subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Said:
    """What it was, for the whole of Great Britain: regions have forecasts only."""
    if subject.name != NATIONAL:
        raise ForecastError("has no history of regions")
    rows: list[Row] = []
    for at in range(start_epoch_s, end_epoch_s, RANGE_S):
        asked = request(subject, at, min(at + RANGE_S, end_epoch_s))
        rows += answer(ask(asked), asked, subject, "actual", end_epoch_s).rows
    return Said(rows, "consumption", "direct", end_epoch_s, PERIOD_S)


SERVICE = Service(
    "carbonintensity", "https://api.carbonintensity.org.uk", forecast, history, {"GB": NATIONAL}, 1200,
    credit="NESO Carbon Intensity API, CC BY 4.0",
)  # fmt: skip
