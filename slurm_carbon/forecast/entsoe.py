"""ENTSO-E Transparency: generation of European bidding zones, as it was by source and as it is expected; a free token.

It has no intensity. What it forecasts is wind, sun and the whole generation of the coming day; the rest (whole less wind
and sun) is taken to emit as it did lately at the same amount: a straight line through the hours of the last days, held
between the least and the most that the rest has emitted. Too few of those hours, and there is no forecast.
"""

from collections import defaultdict
from collections.abc import Iterator
from xml.etree import ElementTree

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import mix
from slurm_carbon.forecast.http import Ask, Request
from slurm_carbon.forecast.series import ODD, Row, Said, broken, epoch_s, iso
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.units import DAY_S, HOUR_S, utc

ALL, CHARGING = "all", "charging"
SOURCES = {
    "B01": "biomass", "B02": "coal", "B03": "gas", "B04": "gas", "B05": "coal", "B06": "oil", "B07": "oil", "B08": "coal",
    "B09": "geothermal", "B10": "pumped hydro", "B11": "hydro", "B12": "hydro", "B13": "hydro", "B14": "nuclear",
    "B15": "biomass", "B16": "solar", "B17": "unknown", "B18": "wind", "B19": "wind", "B20": "unknown", "B25": "battery",
    CHARGING: "battery", ALL: "unknown",
}  # fmt: skip
WEATHER = ("wind", "solar")
LEARNT_S = 7 * DAY_S
LEAST_HOURS = 24
MOST_POINTS = 300_000  # a week of quarter hours of every kind of plant are 14,000
MATTERS = 0.005  # of what is generated: wind or sun without a forecast that is less does not
STEPS_S = {"PT15M": 900, "PT30M": 1800, "PT60M": HOUR_S}


def request(subject: Subject, document: str, process: str, start_epoch_s: int, end_epoch_s: int) -> Request:
    """One document about a zone."""
    if subject.secret is None:
        raise ForecastError("needs a key")
    query = (
        ("documentType", document), ("processType", process), ("in_Domain", subject.name),
        ("periodStart", f"{utc(start_epoch_s):%Y%m%d%H}00"), ("periodEnd", f"{utc(end_epoch_s):%Y%m%d%H}00"),
    )  # fmt: skip
    return Request(subject.url, query, secret_query=(("securityToken", subject.secret),))


def answer(body: bytes, subject: Subject) -> tuple[mix.Hourly, int]:
    """Hourly MW by kind of plant, and when the document was made. The whole generation has no kind and is called `all`.

    Raises ForecastError. A document type declaration is refused: entities in it could make a small answer huge.
    """
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body or b"\0" in body:  # in UTF-16 it would hide
        raise ForecastError("the answer declares entities, which no document of theirs does")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - without a declaration there is nothing to expand
    except ElementTree.ParseError:
        raise ForecastError("the answer is no XML") from None
    if "Acknowledgement" in root.tag:
        raise ForecastError(f"has none: {_text(root, 'text')[:80] or 'no reason given'}")
    points: dict[str, dict[int, tuple[int, float]]] = defaultdict(dict)
    read = 0
    try:
        for series in root.iterfind("{*}TimeSeries"):
            kind = _kind(series, subject)
            for start, step_s, quantity in (p for period in series.iterfind("{*}Period") for p in _points(period)):
                read += 1
                if read > MOST_POINTS:
                    raise ForecastError(f"the answer has more than {MOST_POINTS} values")
                if points[kind].setdefault(start, (step_s, quantity)) != (step_s, quantity):
                    raise ForecastError(f"two amounts of {kind} for {iso(start)}")
        made = epoch_s(_text(root, "createdDateTime"))
    except ODD as error:
        raise broken(error) from None
    return {kind: _hourly(of_kind) for kind, of_kind in points.items()}, made


def _hourly(points: dict[int, tuple[int, float]]) -> dict[int, float]:
    """Means by hour, of the hours that are there from end to end."""
    covered: dict[int, int] = defaultdict(int)
    mw: dict[int, float] = defaultdict(float)
    for start, (step_s, quantity) in points.items():
        covered[start - start % HOUR_S] += step_s
        mw[start - start % HOUR_S] += quantity * step_s / HOUR_S
    return {hour: mw[hour] for hour, seconds in covered.items() if seconds == HOUR_S}


def _text(node: ElementTree.Element, name: str) -> str:
    found = node.find(f".//{{*}}{name}")
    return (found.text or "").strip() if found is not None else ""


def _kind(series: ElementTree.Element, subject: Subject) -> str:
    unit = _text(series, "quantity_Measure_Unit.name")
    if unit != "MAW":
        raise ForecastError(f"counts in {unit[:40]!r}, not in MAW (megawatts)")
    into, out_of = (_text(series, f"{side}BiddingZone_Domain.mRID") for side in ("in", "out"))
    if (into or out_of) != subject.name:
        raise ForecastError(f"answers for zone {(into or out_of)[:40]!r}, not {subject.name!r}")
    if not into:
        return CHARGING  # it leaves the grid for a storage, or for the plants themselves
    return _text(series, "psrType") or ALL


def _points(period: ElementTree.Element) -> Iterator[tuple[int, int, float]]:
    """Start, length and MW of each point; a position that is left out repeats the one before (curve A03)."""
    start, end = epoch_s(_text(period, "start")), epoch_s(_text(period, "end"))
    step_s = STEPS_S[_text(period, "resolution")]
    if not 0 < end - start <= 400 * DAY_S:
        raise ValueError(f"a period from {iso(start)} to {iso(end)}")
    given: dict[int, float] = {}
    for point in period.iterfind("{*}Point"):
        position, quantity = int(_text(point, "position")), float(_text(point, "quantity"))
        if not abs(quantity) < mix.MAX_MW:
            raise ValueError(f"{quantity:g} MW")
        if position in given or position < 1:
            raise ValueError(f"position {position} twice")
        given[position] = quantity
    last = None
    for position in range(1, (end - start) // step_s + 1):
        last = given.get(position, last)
        if last is not None:
            yield start + (position - 1) * step_s, step_s, last


def expected(past: mix.Hourly, weather: mix.Hourly, whole: dict[int, float], factors: str) -> list[Row]:
    """Intensity of the coming hours: wind, sun and the whole as forecast, the rest by what it emitted lately.

    All by our own names of the sources. Raises ForecastError where too little is known of the past.
    """
    rest = {source: by_hour for source, by_hour in past.items() if source not in (*WEATHER, *mix.STORAGE)}
    amounts, grams = [], []
    for t, per_kwh in mix.intensities(rest, factors):
        if per_kwh is not None:
            amounts.append(sum(max(0.0, by_hour.get(t, 0.0)) for by_hour in rest.values()))
            grams.append(per_kwh)
    if len(amounts) < LEAST_HOURS:
        raise ForecastError(f"only {len(amounts)} hours of the past to know the rest by, {LEAST_HOURS} are needed")
    made = {source: sum(max(0.0, x) for x in by_hour.values()) for source, by_hour in past.items() if source not in mix.STORAGE}
    if lacking := [s for s in WEATHER if s not in weather and made.get(s, 0.0) > MATTERS * sum(made.values())]:
        raise ForecastError(f"has no forecast of {' and '.join(lacking)}, which this zone has")
    base, slope = _line(amounts, grams)
    factor = {source: mix.intensity({source: 1.0}, factors) or 0.0 for source in WEATHER}
    found: list[Row] = []
    for t, total in sorted(whole.items()):
        clean = {source: max(0.0, by_hour[t]) for source, by_hour in weather.items() if t in by_hour}
        if len(clean) < len(weather) or total <= 0:
            found.append((t, None))
            continue
        left = max(0.0, total - sum(clean.values()))
        emitted = left * min(max(base + slope * left, min(grams)), max(grams))
        emitted += sum(amount * factor[source] for source, amount in clean.items())
        found.append((t, emitted / (left + sum(clean.values()))))
    return found


def _line(x: list[float], y: list[float]) -> tuple[float, float]:
    """The straight line through points, by least squares; level where they are all at one x."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread > 0 else 0.0
    return mean_y - slope * mean_x, slope


def forecast(ask: Ask, subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Said:
    """The hours that ENTSO-E has forecasts of: until the end of today or, from the evening on, of tomorrow."""
    day = start_epoch_s - start_epoch_s % DAY_S
    end = min(end_epoch_s, day + 3 * DAY_S)
    weather, made = answer(ask(request(subject, "A69", "A01", day, end)), subject)
    whole, _ = answer(ask(request(subject, "A71", "A01", day, end)), subject)
    past, _ = answer(ask(request(subject, "A75", "A16", day - LEARNT_S, day)), subject)
    rows = expected(mix.by_source(past, SOURCES), mix.by_source(weather, SOURCES), whole.get(ALL, {}), subject.factors)
    return Said(rows, "production", subject.factors, made, HOUR_S)


def history(ask: Ask, subject: Subject, start_epoch_s: int, end_epoch_s: int) -> Said:
    """What was generated, as intensity."""
    mw, made = answer(ask(request(subject, "A75", "A16", start_epoch_s, end_epoch_s)), subject)
    generated = mix.by_source(mw, SOURCES)
    rows = mix.intensities(generated, subject.factors)
    return Said(rows, "production", subject.factors, made, HOUR_S, mix=generated)


NAMES = {
    "DE": "10Y1001A1001A82H", "FR": "10YFR-RTE------C", "AT": "10YAT-APG------L", "BE": "10YBE----------2",
    "CH": "10YCH-SWISSGRIDZ", "NL": "10YNL----------L", "ES": "10YES-REE------0", "PT": "10YPT-REN------W",
    "PL": "10YPL-AREA-----S", "CZ": "10YCZ-CEPS-----N", "FI": "10YFI-1--------U", "IE": "10Y1001A1001A59C",
    "SE-SE1": "10Y1001A1001A44P", "SE-SE2": "10Y1001A1001A45N", "SE-SE3": "10Y1001A1001A46L", "SE-SE4": "10Y1001A1001A47J",
    "NO-NO1": "10YNO-1--------2", "NO-NO2": "10YNO-2--------T", "DK-DK1": "10YDK-1--------W", "DK-DK2": "10YDK-2--------M",
    "IT-NO": "10Y1001A1001A73I", "HU": "10YHU-MAVIR----U", "RO": "10YRO-TEL------P", "BG": "10YCA-BULGARIA-R",
}  # fmt: skip
SERVICE = Service(
    "entsoe", "https://web-api.tp.entsoe.eu/api", forecast, history, NAMES, 3600, "the security token",
    credit="ENTSO-E Transparency Platform, CC BY 4.0",
)  # fmt: skip
