"""The US Energy Information Administration (EIA-930): hourly generation by source of every balancing authority; a free key.

History only, a few hours to a day behind: it feeds our own forecaster. A period is named after the hour in which it ends.
"""

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import mix
from slurm_carbon.forecast.http import Ask, Request, parsed
from slurm_carbon.forecast.series import ODD, Said, broken, epoch_s, iso, value
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.units import HOUR_S, utc

PAGE = 5000
MOST_PAGES = 40  # three years are 35
SOURCES = {
    "COL": "coal", "NG": "gas", "NUC": "nuclear", "OIL": "oil", "PET": "oil", "WAT": "hydro", "SUN": "solar", "WND": "wind",
    "WIND": "wind", "GEO": "geothermal", "BIO": "biomass", "OTH": "unknown", "UNK": "unknown",
    "BAT": "battery", "PS": "pumped hydro", "SNB": "solar", "WNB": "wind", "UES": "battery", "OES": "battery",
}  # fmt: skip


def request(subject: Subject, start_epoch_s: int, end_epoch_s: int, offset: int = 0) -> Request:
    """A page of the generation by source."""
    if subject.secret is None:
        raise ForecastError("needs a key")
    query = (
        ("frequency", "hourly"), ("data[0]", "value"), ("facets[respondent][]", subject.name),
        ("start", f"{utc(start_epoch_s + HOUR_S):%Y-%m-%dT%H}"), ("end", f"{utc(end_epoch_s):%Y-%m-%dT%H}"),
        ("sort[0][column]", "period"), ("sort[0][direction]", "desc"), ("offset", str(offset)), ("length", str(PAGE)),
    )  # fmt: skip
    url = f"{subject.url}/electricity/rto/fuel-type-data/data/"
    return Request(url, query, secret_query=(("api_key", subject.secret),))


def page(body: bytes, asked: Request, subject: Subject) -> tuple[list[tuple[int, str, float | None]], int]:
    """(start, fuel, MWh) of a page, and how many there are in all. Raises ForecastError for another unit or region."""
    raw = parsed(body, asked)
    try:
        response = raw["response"]
        found = []
        for item in response["data"]:
            if item["respondent"] != subject.name:
                raise ForecastError(f"answers for {str(item['respondent'])[:40]!r}, not {subject.name!r}")
            if item["value-units"] != "megawatthours":
                raise ForecastError(f"counts in {str(item['value-units'])[:40]!r}, not in megawatthours")
            found.append((epoch_s(item["period"] + ":00Z") - HOUR_S, str(item["fueltype"]), value(item["value"])))
        return found, int(response["total"])
    except ODD as error:
        raise broken(error) from None


def answer(found: list[tuple[int, str, float | None]], factors: str, now_epoch_s: int) -> Said:
    """Intensity by hour. Raises ForecastError where one amount is said twice, and differently."""
    mw: mix.Hourly = {}
    for start, fuel, amount in found:
        if amount is not None and mw.setdefault(fuel, {}).setdefault(start, amount) != amount:
            raise ForecastError(f"two amounts of {fuel} for {iso(start)}")
    made = mix.by_source(mw, SOURCES)
    return Said(mix.intensities(made, factors), "production", factors, now_epoch_s, HOUR_S, mix=made)


def history(ask: Ask, subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Said:
    """What was generated, page by page."""
    found: list[tuple[int, str, float | None]] = []
    for _ in range(MOST_PAGES):
        asked = request(subject, start_epoch_s, end_epoch_s, len(found))
        part, total = page(ask(asked), asked, subject)
        found += part
        if not part or len(found) >= total:
            return answer(found, subject.factors, end_epoch_s)
    raise ForecastError(f"the answer has more than {MOST_PAGES} pages")


NAMES = {
    "US-CAL-CISO": "CISO", "US-TEX-ERCO": "ERCO", "US-MIDA-PJM": "PJM", "US-NY-NYIS": "NYIS", "US-NE-ISNE": "ISNE",
    "US-MIDW-MISO": "MISO", "US-CENT-SWPP": "SWPP", "US-NW-BPAT": "BPAT", "US-TEN-TVA": "TVA", "US-SE-SOCO": "SOCO",
    "US-CAR-DUK": "DUK", "US-FLA-FPL": "FPL", "US-NW-PACE": "PACE", "US-NW-PACW": "PACW", "US-SW-AZPS": "AZPS",
}  # fmt: skip
SERVICE = Service(
    "eia", "https://api.eia.gov/v2", None, history, NAMES, 3600, "the API key", credit="US EIA, form 930, public domain"
)
