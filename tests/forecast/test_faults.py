"""Service x fault, over real HTTP on loopback: the outlook is right, or honestly older or poorer, within a bounded time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from slurm_carbon import config as configs
from slurm_carbon.config import Zone
from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import history
from slurm_carbon.forecast.chain import Found, Setting, find_zone, setting, subject
from slurm_carbon.forecast.credentials import variable
from slurm_carbon.forecast.http import Web
from slurm_carbon.forecast.services import SERVICES
from slurm_carbon.outlook import Source
from tests.forecast import bodies
from tests.forecast.bodies import FORECASTS, HISTORIES, HOUR, NOW, Case, Course
from tests.forecast.server import Plan, serving

LIMIT_S = 3.0  # of one refresh that meets a server which never ends; in earnest it is 12
SLOW = ("hang", "slow header", "slow body", "endless")
RIGHT, OLDER, SHORTER = "right", "older", "shorter"


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and what has to come of it."""

    name: str
    expected: str
    change: Callable[[Plan], None] | None = None  # of the server
    content: Callable[[Course], Course] | None = None  # of the answer


def server(**values: object) -> Callable[[Plan], None]:
    """A change of how the server behaves."""

    def change(plan: Plan) -> None:
        for name, value in values.items():
            setattr(plan, name, value)

    return change


def points(change: Callable[[list[tuple[int, bodies.Value]]], list[tuple[int, bodies.Value]]]) -> Callable[[Course], Course]:
    """A change of the points."""
    return lambda course: replace(course, points=change(list(course.points)))


def at(index: int, value: bodies.Value) -> Callable[[Course], Course]:
    """Another value at one point."""
    return points(lambda p: [*p[:index], (p[index][0], value), *p[index + 1 :]])


def body(make: Callable[[bytes], bytes]) -> Callable[[Plan], None]:
    """A change of the bytes."""

    def change(plan: Plan) -> None:
        before = plan.body
        plan.body = lambda path: make(before(path))

    return change


TRANSPORT = (
    Fault("hang", OLDER, server(fault="hang")),
    Fault("reset", OLDER, server(fault="reset")),
    Fault("slow header", OLDER, server(fault="slow header")),
    Fault("slow body", OLDER, server(fault="slow body")),
    Fault("cut", OLDER, server(fault="cut")),
    Fault("endless", OLDER, server(fault="endless")),
    Fault("401", OLDER, server(status=401)),
    Fault("403", OLDER, server(status=403)),
    Fault("404", OLDER, server(status=404)),
    Fault("429", OLDER, server(status=429)),
    Fault("429 with seconds", OLDER, server(status=429, headers={"Retry-After": "120"})),
    Fault("429 with a date", OLDER, server(status=429, headers={"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"})),
    Fault("500", OLDER, server(status=500)),
    Fault("503 with seconds", OLDER, server(status=503, headers={"Retry-After": "60"})),
    Fault("redirect", OLDER, server(status=302, headers={"Location": "http://127.0.0.1:9/elsewhere"})),
    Fault("web page", OLDER, server(content_type="text/html", body=lambda _: b"<html>Please log in</html>")),
    Fault("another content type", RIGHT, server(content_type="application/octet-stream")),
    Fault("empty", OLDER, server(body=lambda _: b"")),
    Fault("truncated", OLDER, body(lambda data: data[: len(data) * 2 // 3])),
    Fault("deep", OLDER, server(body=lambda _: b"[" * 200_000)),
    Fault("a huge number", OLDER, body(lambda data: re.sub(rb"\d\d\.\d+(?=[,}<\n\]])", b"9" * 400, data, count=2))),
    Fault("infinity", OLDER, body(lambda data: re.sub(rb"\d\d\.\d+(?=[,}<\n\]])", b"1e400", data, count=2))),
    Fault("made in the year 1", RIGHT, body(lambda data: data.replace(b"2026-10-24T", b"0001-01-01T"))),
    Fault("other things", OLDER, server(body=lambda _: b'{"data": "x", "forecast": 3, "response": [], "error": null}')),
)
CONTENT = (
    Fault("NaN", OLDER, content=at(3, math.nan)),
    Fault("text", OLDER, content=at(3, "many")),
    Fault("null", RIGHT, content=at(5, None)),
    Fault("negative", OLDER, content=at(3, -40.0)),
    Fault("absurd", OLDER, content=at(3, 4e7)),
    Fault("duplicate", RIGHT, content=points(lambda p: [*p, p[4]])),
    Fault("contradiction", OLDER, content=points(lambda p: [*p, (p[4][0], 321.0)])),
    Fault("unsorted", RIGHT, content=points(lambda p: p[::-1])),
    Fault("missing slot", RIGHT, content=points(lambda p: p[:7] + p[8:])),
    Fault("missing hours", SHORTER, content=points(lambda p: [x for x in p if not 10 <= (x[0] - NOW) // HOUR < 16])),
    Fault("no points", OLDER, content=points(lambda _: [])),
    Fault("only nulls", OLDER, content=points(lambda p: [(t, None) for t, _ in p])),
    Fault("of last year", OLDER, content=points(lambda p: [(t - 365 * 24 * HOUR, v) for t, v in p])),
    Fault("of another century", OLDER, content=points(lambda p: [(t + 80 * 365 * 24 * HOUR, v) for t, v in p])),
    Fault("long day", RIGHT, content=lambda course: replace(course, local=True)),
    Fault("local times", OLDER, content=lambda course: replace(course, naive=True)),
    Fault("changed unit", OLDER, content=lambda course: replace(course, unit="kg")),
    Fault("kilograms", OLDER, content=points(lambda p: [(t, v / 1000) for t, v in p])),
    Fault("sandbox", OLDER, content=lambda course: replace(course, sandbox=True)),
    Fault("wrong zone", OLDER, content=lambda course: replace(course, zone="10YFR-RTE------C")),
)
CELLS = [
    pytest.param(case, fault, id=f"{case.name}: {fault.name}")
    for case in FORECASTS
    for fault in (*TRANSPORT, *CONTENT)
    if fault.name not in case.without
]


def test_the_table_is_large_enough() -> None:
    """Every service meets every kind of fault that its answers can have."""
    assert len(CELLS) >= 150


def zone_of(case: Case, url: str, *more: str) -> tuple[Zone, configs.Config]:
    """A zone that asks one service, then the climatology."""
    zone = {"sources": [case.source, *more], "names": case.names}
    if case.source == "file":
        zone["file"] = f"{url}/forecast.csv"
    raw = {"zones": {case.zone: zone}, "sources": {case.source: {"url": url}}}
    config = configs.parse(raw, Source("x", 0, 0))
    return config.zones[0], config


def web_for(fault: str) -> Web:
    """Patient, as a busy machine needs it, but where waiting is what is tested."""
    return Web(LIMIT_S, request_s=0.6, connect_s=0.3, read_s=0.3) if fault in SLOW else Web(20)


def look(case: Case, url: str, folder: Path, now: int, fault: str = "") -> tuple[Found, float]:
    """What is known of the zone of a case, and the seconds that it took."""
    zone, config = zone_of(case, url, "climatology")
    config = config._replace(forecasts=config.forecasts._replace(directory=str(folder)))
    began = time.monotonic()
    found = find_zone(zone, place(config, now, web_for(fault), case))
    return found, time.monotonic() - began


def place(config: configs.Config, now: int, web: Web, case: Case) -> Setting:
    """The setting of a refresh."""
    return setting(config, now, web.ask, {variable(case.source): case.key})


@pytest.fixture
def plan() -> Plan:
    """How the server behaves."""
    return Plan()


@pytest.fixture
def url(plan: Plan) -> Iterator[str]:
    """Where the server is."""
    with serving(plan) as address:
        yield address


def healthy(plan: Plan, case: Case, first: int = NOW) -> Course:
    """The server answers as it should, from a start on."""
    course = bodies.right(case.period_s, 72, first)
    plan.body = lambda path: case.make(course, path.partition("?")[0] if case.source != "entsoe" else path)
    plan.content_type = case.content_type
    return course


def expected(case: Case, hours: int) -> list[float]:
    """The hourly means of the right course."""
    per_hour = HOUR // case.period_s
    return [sum(bodies.course(h + i / per_hour) for i in range(per_hour)) / per_hour for h in range(hours)]


@pytest.mark.parametrize("case", FORECASTS, ids=lambda case: case.name)
def test_a_service_that_is_well_is_believed(case: Case, plan: Plan, url: str, tmp_path: Path) -> None:
    """Its values, on the grid of the outlook, with where they come from."""
    healthy(plan, case)
    found, _ = look(case, url, tmp_path, NOW)
    assert found.problems == []
    assert found.intensity is not None
    hours = len(expected(case, 72)) if case.source != "entsoe" else 71
    assert found.intensity.mean_g_per_kwh[:hours] == pytest.approx(expected(case, hours), rel=1e-6)
    assert found.intensity.source.startswith("file " if case.source == "file" else case.source)
    assert case.key not in repr(found) or not case.key


@pytest.mark.parametrize(("case", "fault"), CELLS)
def test_service_and_fault(case: Case, fault: Fault, plan: Plan, url: str, tmp_path: Path) -> None:
    """With an answer of an hour ago in the store, and with none: never wrong, never late, never with the key in a message."""
    healthy(plan, case, NOW - HOUR)
    before, _ = look(case, url, tmp_path / "full", NOW - HOUR)
    assert before.intensity is not None, before.problems
    course = healthy(plan, case)
    if fault.content:
        changed = fault.content(course)
        plan.body = lambda path: case.make(changed, path.partition("?")[0] if case.source != "entsoe" else path)
    if fault.change:
        fault.change(plan)
    wanted = case.otherwise.get(fault.name, fault.expected)
    for folder, fallback in (("full", OLDER), ("empty", "climatology")):
        found, seconds = look(case, url, tmp_path / folder, NOW, fault.name)
        assert seconds < (LIMIT_S if fault.name in SLOW else 20) + 0.5
        said = " ".join(found.problems)
        assert not any(secret in said for secret in case.key.split(":")[-1:] if secret), said
        check(case, found, wanted if wanted != OLDER else fallback)


def check(case: Case, found: Found, wanted: str) -> None:
    """Whether what was found is what has to come of a fault."""
    grid = found.intensity
    if wanted == "climatology":
        if grid is None:  # a zone that the climatology does not know
            assert found.problems
            return
        assert grid.source == "climatology"
        assert found.problems
        return
    assert grid is not None, found.problems
    if wanted == RIGHT:
        assert found.problems == []
        hours = 48
    elif wanted == SHORTER:
        hours = 9
        assert len(grid.mean_g_per_kwh) > hours  # and goes on by the climatology, if that counts alike
    else:
        assert "stands in" in " ".join(found.problems)
        assert grid.issued_epoch_s <= NOW - 300
        hours = 47
    assert grid.mean_g_per_kwh[:hours] == pytest.approx(expected(case, hours), rel=1e-6)


# what was measured

PAST = [
    pytest.param(case, fault, id=f"{case.name}: {fault.name}")
    for case in HISTORIES
    for fault in (*TRANSPORT, *CONTENT)
    if fault.name not in case.without
]


def catch_up(case: Case, url: str, folder: Path, now: int, fault: str = "") -> tuple[dict[int, float], str]:
    """The history that there is of the zone of a case after asking for it, and what went wrong."""
    zone, config = zone_of(case, url, "own")
    config = config._replace(forecasts=config.forecasts._replace(directory=str(folder)))
    at = place(config, now, web_for(fault), case)
    service = SERVICES[case.source]
    error = ""
    try:
        history.catch_up(zone.name, [(service, subject(service, zone, at))], at.store, at.ask, now)
    except ForecastError as caught:
        error = str(caught)
    return {t: v for kind in at.store.kinds(zone.name) for t, v in at.store.history(zone.name, kind).items()}, error


def past(plan: Plan, case: Case, first: int) -> Course:
    """The server answers with the course of a day, from a start on."""
    course = bodies.right(case.period_s, 24, first)
    plan.body = lambda path: case.make(course, path.partition("?")[0])
    plan.content_type = case.content_type
    return course


@pytest.mark.parametrize(("case", "fault"), PAST)
def test_history_and_fault(case: Case, fault: Fault, plan: Plan, url: str, tmp_path: Path) -> None:
    """What is kept is what was measured: new hours are right or stay away, and those of before stay as they are."""
    past(plan, case, NOW)
    before, error = catch_up(case, url, tmp_path, NOW + 24 * HOUR)
    assert (len(before), error) == (24, "")
    course = past(plan, case, NOW + 12 * HOUR)
    if fault.content:
        changed = fault.content(replace(course, points=course.points))
        plan.body = lambda path: case.make(changed, path.partition("?")[0])
    if fault.change:
        fault.change(plan)
    after, error = catch_up(case, url, tmp_path, NOW + 36 * HOUR, fault.name)
    assert error == ""  # there is history: what is there already does
    right = {NOW + h * HOUR: pytest.approx(expected(case, 36)[h]) for h in range(36)}
    assert before.items() <= after.items()
    assert all(after[t] == right[t] for t in after)
    if fault.expected == RIGHT:
        assert len(after) >= 35
    elif fault.expected == OLDER:
        assert after == before


def test_a_history_that_repeats_the_key_does_not_show_it(plan: Plan, url: str, tmp_path: Path) -> None:
    """Also of an answer with HTTP 200: whoever is named in it, our key is not printed."""
    case = next(case for case in HISTORIES if case.name == "electricitymaps")
    course = past(plan, case, NOW)
    echo = replace(course, zone=case.key)
    plan.body = lambda path: case.make(echo, path.partition("?")[0])
    _, error = catch_up(case, url, tmp_path, NOW + 24 * HOUR)
    assert "answers for zone" in error
    assert case.key not in error
