"""Answers in the true shapes of the services, made from a course of values: what is right about them is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

from slurm_carbon.forecast.mix import FACTORS
from slurm_carbon.forecast.series import LB_PER_MWH

HOUR = 3600
NOW = 1_792_886_400  # Sun 2026-10-25 00:00 UTC: in Europe the day of 25 hours
Value = float | str | None  # text goes into the answer as it is


def course(hour: float) -> float:
    """The right g/kWh: straight in time, so that a missing hour is bridged without error."""
    return 150.0 + 2.0 * hour


@dataclass
class Course:
    """The points of an answer, and what is said around them."""

    points: list[tuple[int, Value]]  # start, g/kWh
    period_s: int = HOUR
    zone: str = ""  # instead of the right one
    unit: str = ""  # instead of the right one
    local: bool = False  # times in Europe/Berlin, with the offset of the hour
    naive: bool = False  # the same without the offset
    sandbox: bool = False

    def at(self, start: int) -> str:
        """A time as the answer writes it."""
        if not (self.local or self.naive):
            return f"{datetime.fromtimestamp(start, UTC):%Y-%m-%dT%H:%M:%S}.000Z"
        hours = 2 if start < NOW + HOUR else 1  # summer time ends at 01:00 UTC
        moment = datetime.fromtimestamp(start, timezone(timedelta(hours=hours)))
        return f"{moment:%Y-%m-%dT%H:%M:%S}" + ("" if self.naive else f"+0{hours}:00")


def right(period_s: int = HOUR, hours: int = 72, first: int = NOW) -> Course:
    """What a service says that is well."""
    starts = range(first, first + hours * HOUR, period_s)
    return Course([(start, course((start - NOW) / HOUR)) for start in starts], period_s)


def dump(raw: Any) -> bytes:
    """JSON as a careless service writes it: NaN and all."""
    return json.dumps(raw).encode()


def scaled(value: Value, by: float) -> Value:
    """A value in another unit."""
    return value * by if isinstance(value, int | float) else value


def mw_of(value: Value) -> dict[str, Value]:
    """1 GW of gas and wind that emits a value by the lifecycle factors of the project."""
    gas, wind = FACTORS["gas"].lifecycle, FACTORS["wind"].lifecycle
    if not isinstance(value, int | float):
        return {"gas": value, "wind": value}
    if math.isnan(value) or not 0 <= value <= gas:
        return {"gas": value * 1e6, "wind": 1.0}  # what cannot be a mix stays absurd
    share = (value - wind) / (gas - wind)
    return {"gas": 1000 * share, "wind": 1000 * (1 - share)}


def electricitymaps(course: Course, _: str) -> bytes:
    """carbon-intensity/forecast."""
    points = [{"datetime": course.at(start), "carbonIntensity": value} for start, value in course.points]
    raw: dict[str, Any] = {"zone": course.zone or "DE", "updatedAt": "2026-10-24T23:50:00.000Z", "forecast": points}
    if course.unit:
        raw["emissionFactorType"] = raw["forecast"][0]["emissionFactorType"] = "direct"
    if course.sandbox:
        raw["_disclaimer"] = "This is random. SANDBOX MODE."
        points[0]["estimationMethod"] = "SANDBOX_MODE_DATA"
    return dump(raw)


def electricitymaps_history(course: Course, path: str) -> bytes:
    """carbon-intensity/history and past-range."""
    points = [
        {"zone": course.zone or "DE", "datetime": course.at(start), "carbonIntensity": value, "isEstimated": False}
        for start, value in course.points
    ]
    if course.unit:
        points[0]["emissionFactorType"] = "direct"
    if course.sandbox:
        points[0]["estimationMethod"] = "SANDBOX_MODE_DATA"
    return dump({"zone": course.zone or "DE", "history" if path.endswith("history") else "data": points})


def electricitymaps_mix(course: Course, _: str) -> bytes:
    """power-breakdown/forecast."""
    points = []
    for start, value in course.points:
        mw = {**mw_of(value), "nuclear": None, "hydro discharge": 50, "battery discharge": -10}
        points.append({"zone": course.zone or "DE", "datetime": course.at(start), "powerConsumptionBreakdown": mw})
    raw: dict[str, Any] = {"zone": course.zone or "DE", "data": points}
    if course.sandbox:
        raw["_disclaimer"] = "SANDBOX MODE"
    return dump(raw)


def watttime(course: Course, path: str) -> bytes:
    """/login, /v3/forecast and /v3/historical."""
    if path.endswith("/login"):
        return dump({"token": "t0ken-of-the-server"})
    points = [{"point_time": course.at(start), "value": scaled(value, 1 / LB_PER_MWH)} for start, value in course.points]
    meta = {
        "data_point_period_seconds": course.period_s, "region": course.zone or "CAISO_NORTH", "signal_type": "co2_moer",
        "units": course.unit or "lbs_co2_per_mwh", "generated_at": "2026-10-24T23:55:00+00:00",
    }  # fmt: skip
    if course.sandbox:
        meta["signal_type"] = "health_damage"
    return dump({"data": points, "meta": meta})


def _half_hours(course: Course) -> list[dict[str, Any]]:
    return [
        {
            "from": course.at(start), "to": course.at(start + (HOUR if course.unit else course.period_s)),
            "intensity": {"forecast": value, "actual": value, "index": "low"},
        }
        for start, value in course.points
    ]  # fmt: skip


def carbonintensity(course: Course, _: str) -> bytes:
    """/intensity/FROM/fw48h: it names no zone, and has no sandbox."""
    return dump({"data": _half_hours(course)})


def carbonintensity_region(course: Course, _: str) -> bytes:
    """/regional/intensity/FROM/fw48h/postcode/OX1."""
    return dump({"data": {"regionid": 12, "postcode": course.zone or "OX1", "data": _half_hours(course)}})


def energycharts(course: Course, _: str) -> bytes:
    """/co2eq: the first two hours are measured, the others forecast. Its times are numbers."""
    known = 2 * HOUR // course.period_s
    values = [value for _, value in course.points]
    times: list[Any] = [course.at(start) if course.naive else start for start, _ in course.points]
    raw = {
        "unix_seconds": times,
        "co2eq": [*values[:known], *[None] * (len(values) - known)],
        "co2eq_forecast": [*[None] * known, *values[known:]],
        "deprecated": False,
    }
    return dump(raw)


def energycharts_history(course: Course, _: str) -> bytes:
    """/co2eq of the past: all of it measured."""
    times: list[Any] = [course.at(start) if course.naive else start for start, _ in course.points]
    values = [value for _, value in course.points]
    return dump({"unix_seconds": times, "co2eq": values, "co2eq_forecast": [None] * len(values), "deprecated": False})


def casdk_history(course: Course, _: str) -> bytes:
    """/emissions/bylocation: points are named after the zone behind the location."""
    return dump([{"location": "zone", "time": course.at(start), "rating": value} for start, value in course.points])


def casdk(course: Course, _: str) -> bytes:
    """/emissions/forecasts/current."""
    points = [
        {"location": "zone", "timestamp": course.at(start), "duration": course.period_s / 60, "value": value}
        for start, value in course.points
    ]
    if course.unit:
        points[0]["duration"] = 5
    return dump([{"generatedAt": "2026-10-24T23:50:00Z", "location": course.zone or "germany", "forecastData": points}])


def file_csv(course: Course, _: str) -> bytes:
    """The CSV of a site."""
    rows = [f"{course.at(start)},{'' if value is None else value}" for start, value in course.points]
    return "\n".join(["start,kg_per_kwh" if course.unit else "start,g_per_kwh", *rows, ""]).encode()


def eia(course: Course, _: str) -> bytes:
    """fuel-type-data: a period is named after the hour in which it ends; amounts may be texts."""
    rows = [
        {
            "period": course.at(start + HOUR)[:13], "respondent": course.zone or "PJM", "fueltype": code, "value": mw,
            "value-units": course.unit or "megawatthours",
        }
        for start, value in course.points
        for code, mw in zip(("NG", "WND"), mw_of(value).values(), strict=True)
    ]  # fmt: skip
    return dump({"response": {"total": len(rows), "data": rows}})


def _document(kind: str, series: dict[str, list[tuple[int, Value]]], course: Course) -> bytes:
    zone = course.zone or "10Y1001A1001A82H"
    parts = []
    for code, points in series.items():
        psr = f"<MktPSRType><psrType>{code}</psrType></MktPSRType>" if code else ""
        periods = []
        for start, value in points:
            if value is not None:
                end = course.at(start + course.period_s)
                periods.append(
                    f"<Period><timeInterval><start>{course.at(start)}</start><end>{end}</end></timeInterval>"
                    f"<resolution>PT{course.period_s // 60}M</resolution>"
                    f"<Point><position>1</position><quantity>{value}</quantity></Point></Period>"
                )
        unit = course.unit or "MAW"
        parts.append(
            f'<TimeSeries><inBiddingZone_Domain.mRID codingScheme="A01">{zone}</inBiddingZone_Domain.mRID>'
            f"<quantity_Measure_Unit.name>{unit}</quantity_Measure_Unit.name>{psr}{''.join(periods)}</TimeSeries>"
        )
    xmlns = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><GL_MarketDocument xmlns="{xmlns}"><type>{kind}</type>'
        f"<createdDateTime>2026-10-24T18:00:00Z</createdDateTime>{''.join(parts)}</GL_MarketDocument>"
    ).encode()


def entsoe(course: Course, path: str) -> bytes:
    """A69 (wind), A71 (everything) and A75 (the past: all that is not wind was gas)."""
    kind = parse_qs(urlsplit(path).query)["documentType"][0]
    if kind == "A75":
        past = Course([], HOUR, course.zone, course.unit, course.local, course.naive)
        hours = range(NOW - 48 * HOUR, NOW, HOUR)
        return _document(kind, {"B04": [(t, 500.0) for t in hours], "B19": [(t, 500.0) for t in hours]}, past)
    mws = [(start, mw_of(value)) for start, value in course.points]
    if kind == "A69":
        return _document(kind, {"B19": [(start, mw["wind"]) for start, mw in mws]}, course)
    return _document(kind, {"": [(start, _sum(mw)) for start, mw in mws]}, course)


def entsoe_history(course: Course, _: str) -> bytes:
    """A75: gas and wind, by kind of plant."""
    mws = [(start, mw_of(value)) for start, value in course.points]
    series = {code: [(start, mw[name]) for start, mw in mws] for code, name in (("B04", "gas"), ("B19", "wind"))}
    return _document("A75", series, course)


def _sum(mw: dict[str, Value]) -> Value:
    gas, wind = mw["gas"], mw["wind"]
    return gas + wind if isinstance(gas, int | float) and isinstance(wind, int | float) else gas


@dataclass(frozen=True)
class Case:
    """A service in the table: how it is configured, and how it answers."""

    name: str
    source: str
    zone: str
    make: Callable[[Course, str], bytes]
    period_s: int = HOUR
    names: dict[str, str] = field(default_factory=dict)
    key: str = ""
    content_type: str = "application/json"
    without: tuple[str, ...] = ()  # faults of content that its answers cannot have: a mix has no unit to change unseen
    otherwise: dict[str, str] = field(default_factory=dict)  # what comes of a fault, where it is not what comes of it elsewhere


FORECASTS = (
    Case("electricitymaps", "electricitymaps", "DE", electricitymaps, key="k3y-that-nobody-may-see"),
    Case("electricitymaps-mix", "electricitymaps-mix", "DE", electricitymaps_mix, key="k3y-that-nobody-may-see",
         without=("kilograms", "changed unit")),
    Case("watttime", "watttime", "US-CAL-CISO", watttime, 300, key="user:p4ssword-that-nobody-may-see"),
    Case("carbonintensity", "carbonintensity", "GB", carbonintensity, 1800, without=("sandbox", "wrong zone")),
    Case("carbonintensity region", "carbonintensity", "GB", carbonintensity_region, 1800, {"carbonintensity": "OX1"},
         without=("sandbox",)),
    Case("energycharts", "energycharts", "DE", energycharts, 900,
         without=("sandbox", "wrong zone", "changed unit", "long day")),
    Case("casdk", "casdk", "DE", casdk, 1800, {"casdk": "germany"}, without=("sandbox",)),
    Case("entsoe", "entsoe", "DE", entsoe, key="k3y-that-nobody-may-see", content_type="text/xml",
         without=("kilograms", "sandbox", "made in the year 1")),
    Case("address", "file", "DE", file_csv, content_type="text/csv", without=("sandbox", "wrong zone"),
         otherwise={"truncated": "shorter"}),
)  # fmt: skip

HISTORIES = (
    Case("electricitymaps", "electricitymaps", "DE", electricitymaps_history, key="k3y-that-nobody-may-see"),
    Case("watttime", "watttime", "US-CAL-CISO", watttime, 300, key="user:p4ssword-that-nobody-may-see"),
    Case("carbonintensity", "carbonintensity", "GB", carbonintensity, 1800, without=("sandbox", "wrong zone")),
    Case("energycharts", "energycharts", "DE", energycharts_history, 900,
         without=("sandbox", "wrong zone", "changed unit", "long day")),
    Case("casdk", "casdk", "DE", casdk_history, 1800, {"casdk": "germany"}, without=("sandbox", "wrong zone", "changed unit")),
    Case("entsoe", "entsoe", "DE", entsoe_history, key="k3y-that-nobody-may-see", content_type="text/xml",
         without=("kilograms", "sandbox", "made in the year 1")),
    Case("eia", "eia", "US-MIDA-PJM", eia, key="k3y-that-nobody-may-see",
         without=("kilograms", "sandbox", "long day", "local times")),
)  # fmt: skip
