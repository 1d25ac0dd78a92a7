"""Energy-Charts (Fraunhofer ISE): European countries in quarter hours, until the end of today or of tomorrow; no key.

Measured and forecast values come as two columns of one answer, each empty where the other begins.
"""

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.http import Ask, Request, parsed
from slurm_carbon.forecast.series import ODD, Row, Said, broken, value
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.units import utc


def request(subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Request:
    """The quarter hours of a span."""
    span = (("start", f"{utc(start_epoch_s):%Y-%m-%dT%H:%MZ}"), ("end", f"{utc(end_epoch_s):%Y-%m-%dT%H:%MZ}"))
    return Request(f"{subject.url}/co2eq", (("country", subject.name), *span))


def answer(body: bytes, asked: Request, now_epoch_s: int, *, measured: bool = False) -> Said:
    """What was measured where it was and, unless only that is wanted, what is forecast where it was not."""
    raw = parsed(body, asked)
    try:
        times, actual, expected = raw["unix_seconds"], raw["co2eq"], raw["co2eq_forecast"]
        if not len(times) == len(actual) == len(expected) or not all(type(time) is int for time in times):
            raise ForecastError("its columns do not match")
        rows: list[Row] = [
            (time, value(known if known is not None or measured else said))
            for time, known, said in zip(times, actual, expected, strict=True)
        ]
    except ODD as error:
        raise broken(error) from None
    return Said(rows, "production", "lifecycle", now_epoch_s)


def forecast(ask: Ask, subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Said:
    """From now to where it ends."""
    asked = request(subject, start_epoch_s, end_epoch_s)
    return answer(ask(asked), asked, start_epoch_s)


def history(ask: Ask, subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Said:
    """What was measured."""
    asked = request(subject, start_epoch_s, end_epoch_s)
    return answer(ask(asked), asked, end_epoch_s, measured=True)


COUNTRIES = tuple("AT BE BG CH CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV NL NO PL PT RO SE SI SK".split())  # noqa: SIM905
SERVICE = Service(
    "energycharts", "https://api.energy-charts.info", forecast, history, {name: name.lower() for name in COUNTRIES}, 1200,
    credit="Energy-Charts.info, Fraunhofer ISE, CC BY 4.0",
)  # fmt: skip
