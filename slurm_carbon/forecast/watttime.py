"""WattTime v3: the marginal emissions of the grid (MOER), for the next three days, in pounds per MWh.

Marginal is another question than average intensity ("what does one kWh more emit"): its zones are only ever compared
with each other. A login gives a token for half an hour; one is enough for a refresh.
"""

from typing import Any

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.http import Ask, Request, Secret, parsed
from slurm_carbon.forecast.series import LB_PER_MWH, ODD, Row, Said, broken, epoch_s, value
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.units import DAY_S, HOUR_S, utc

SIGNAL = "co2_moer"
UNITS = "lbs_co2_per_mwh"
LONGEST_H = 72
RANGE_S = 30 * DAY_S


def login(subject: Subject) -> Request:
    """The question for a token."""
    if subject.secret is None or ":" not in subject.secret.reveal():
        raise ForecastError("needs a key of the form user:password")
    return Request(f"{subject.url}/login", login=subject.secret)


def token(body: bytes, asked: Request) -> Secret:
    """The token in an answer."""
    raw = parsed(body, asked)
    found = raw.get("token") if isinstance(raw, dict) else None
    if not isinstance(found, str) or not found.isascii() or not found.isprintable() or not found:
        raise ForecastError("the login gives no token")
    return Secret(f"Bearer {found}")


def request(subject: Subject, path: str, bearer: Secret, **query: str) -> Request:
    """A question about a region."""
    asked = {"region": subject.name, "signal_type": SIGNAL, **query}
    return Request(f"{subject.url}/v3/{path}", tuple(asked.items()), secret_headers=(("Authorization", bearer),))


def answer(body: bytes, asked: Request, subject: Subject) -> Said:
    """Values in g/kWh. Raises ForecastError for another region, signal or unit."""
    raw = parsed(body, asked)
    try:
        meta, data = raw["meta"], raw["data"]
        for name, wanted in (("region", subject.name), ("signal_type", SIGNAL), ("units", UNITS)):
            if meta[name] != wanted:
                raise ForecastError(f"answers with {name} {str(meta[name])[:40]!r}, not {wanted!r}")
        rows: list[Row] = [(epoch_s(point["point_time"]), _grams(point["value"])) for point in data]
        period_s = int(meta.get("data_point_period_seconds") or 300)
        issued = epoch_s(meta["generated_at"]) if "generated_at" in meta else max((t for t, _ in rows), default=0)
    except ODD as error:
        raise broken(error) from None
    return Said(rows, "marginal", "direct", issued, period_s)


def _grams(raw: Any) -> float | None:
    pounds = value(raw)
    return None if pounds is None else pounds * LB_PER_MWH


def forecast(ask: Ask, subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Said:
    """The marginal intensity of the coming hours, three days at most."""
    bearer = _bearer(ask, subject)
    hours = min(LONGEST_H, -(-(end_epoch_s - start_epoch_s) // HOUR_S))
    asked = request(subject, "forecast", bearer, horizon_hours=str(hours))
    return answer(ask(asked), asked, subject)


def history(ask: Ask, subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Said:
    """What it was, a month in a question."""
    bearer = _bearer(ask, subject)
    rows: list[Row] = []
    issued, period_s = 0, 300
    for at in range(start_epoch_s, end_epoch_s, RANGE_S):
        span = {"start": at, "end": min(at + RANGE_S, end_epoch_s)}
        times = {name: f"{utc(t):%Y-%m-%dT%H:%M+00:00}" for name, t in span.items()}
        asked = request(subject, "historical", bearer, **times)
        part = answer(ask(asked), asked, subject)
        rows, issued, period_s = rows + part.rows, max(issued, part.issued_epoch_s), part.period_s
    return Said(rows, "marginal", "direct", issued, period_s)


def _bearer(ask: Ask, subject: Subject) -> Secret:
    asked = login(subject)
    return token(ask(asked), asked)


NAMES = {
    "US-CAL-CISO": "CAISO_NORTH", "US-TEX-ERCO": "ERCOT_NORTHCENTRAL", "US-MIDA-PJM": "PJM_DC", "US-NY-NYIS": "NYISO_NYC",
    "US-NE-ISNE": "ISONE_WCMA", "US-MIDW-MISO": "MISO_INDIANAPOLIS", "US-CENT-SWPP": "SPP_KANSAS", "US-NW-BPAT": "BPA",
    "US-TEN-TVA": "TVA", "CA-QC": "HQ", "AU-NSW": "NEM_NSW", "AU-VIC": "NEM_VIC", "JP-TK": "JP_TK", "KR": "KOR",
    "SG": "SGP", "IN-WE": "IND", "BR-CS": "BRA", "DE": "DE", "FR": "FR", "GB": "UK", "SE-SE3": "SE", "IE": "IE", "IT-NO": "IT",
}  # fmt: skip
SERVICE = Service(
    "watttime", "https://api.watttime.org", forecast, history, NAMES, 900, "user:password",
    credit="WattTime; not to be handed on",
)  # fmt: skip
