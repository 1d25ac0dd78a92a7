"""The Web API of the Green Software Foundation's Carbon Aware SDK, which a site runs in front of a service of its choice.

What its numbers count is known to the site alone, which says it in the configuration (`accounting`, `factors`).
"""

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.http import Ask, Request, parsed
from slurm_carbon.forecast.series import ODD, Row, Said, broken, epoch_s, value
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.units import utc


def request(subject: Subject) -> Request:
    """The running forecast, all of it: an end that it does not reach would be an error."""
    return Request(f"{subject.url}/emissions/forecasts/current", (("location", subject.name),))


def history_request(subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Request:
    """The emissions of a span of the past."""
    span = (("time", f"{utc(start_epoch_s):%Y-%m-%dT%H:%M:%SZ}"), ("toTime", f"{utc(end_epoch_s):%Y-%m-%dT%H:%M:%SZ}"))
    return Request(f"{subject.url}/emissions/bylocation", (("location", subject.name), *span))


def answer(body: bytes, asked: Request, subject: Subject) -> Said:
    """The forecast of the location that was asked for; inside it the points may be named after the zone behind it."""
    raw = parsed(body, asked)
    try:
        [found] = [item for item in raw if item["location"] == subject.name] or [None]
        if found is None:
            raise ForecastError(
                f"answers for {', '.join(str(x['location'])[:40] for x in raw) or 'nothing'}, not {subject.name}"
            )
        points = found["forecastData"]
        if len({point["location"] for point in points}) > 1:
            raise ForecastError("points of several locations in one forecast")
        lengths = {float(point["duration"]) for point in points}
        if len(lengths) != 1:
            raise ForecastError("has no periods of one length")
        rows: list[Row] = [(epoch_s(point["timestamp"]), value(point["value"])) for point in points]
        issued, period_s = epoch_s(found["generatedAt"]), int(lengths.pop() * 60)
    except ODD as error:
        raise broken(error) from None
    return Said(rows, subject.accounting, subject.factors, issued, period_s)


def history_answer(body: bytes, asked: Request, subject: Subject, now_epoch_s: int) -> Said:
    """Measured ratings, from the start of whose period they count."""
    raw = parsed(body, asked)
    try:
        rows: list[Row] = [(epoch_s(item["time"]), value(item["rating"])) for item in raw]
    except ODD as error:
        raise broken(error) from None
    return Said(rows, subject.accounting, subject.factors, now_epoch_s)


def forecast(ask: Ask, subject: Subject, _start_epoch_s: int, _end_epoch_s: int) -> Said:
    """The running forecast."""
    asked = request(subject)
    return answer(ask(asked), asked, subject)


def history(ask: Ask, subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Said:
    """What it was."""
    asked = history_request(subject, start_epoch_s, end_epoch_s)
    return history_answer(ask(asked), asked, subject, end_epoch_s)


SERVICE = Service("casdk", "", forecast, history, {}, 600, any_zone=True, credit="Carbon Aware SDK of the site")
