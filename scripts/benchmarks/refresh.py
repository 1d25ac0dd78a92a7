"""A refresh of 20 zones over eight services on loopback: all well, all dead, and one zone after the other."""

import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from slurm_carbon import config as configs
from slurm_carbon import refresh
from slurm_carbon.forecast import chain
from slurm_carbon.forecast.http import Web
from slurm_carbon.outlook import Source
from tests.forecast import bodies
from tests.forecast.server import Plan, serving

ROUNDS = 5
ANSWERS_S = 0.2
# 20 zones, each with its first source, and with what it would fall back to
ZONES = {
    "electricitymaps": ("DE", "FR", "PL", "ES"),
    "electricitymaps-mix": ("IT-NO", "SE-SE3"),
    "watttime": ("US-CAL-CISO", "US-TEX-ERCO", "US-MIDA-PJM"),
    "carbonintensity": ("GB",),
    "energycharts": ("AT", "BE", "CH", "NL"),
    "casdk": ("XX-1", "XX-2"),
    "entsoe": ("CZ", "PT"),
    "file": ("YY-1", "YY-2"),
}
OTHERS = ("electricitymaps", "energycharts", "climatology", "annual")
KEY = {f"SLURM_CARBON_KEY_{name.upper().replace('-', '_')}": "user:key" for name in ZONES}
MAKE = {case.source: case for case in bodies.FORECASTS if not case.names or case.source == "casdk"}
ZONE_OF = {
    "electricitymaps": "zone",
    "electricitymaps-mix": "zone",
    "watttime": "region",
    "casdk": "location",
    "entsoe": "in_Domain",
}


def plan_of(source: str, dead: bool) -> Plan:
    """A service as the bodies of the tests make it, for any zone; or one that takes the question and is silent."""
    case = MAKE[source]
    now = int(time.time())
    first = now - now % 3600

    def body(path: str) -> bytes:
        course = bodies.right(case.period_s, 72, first)
        course.points = [(t, bodies.course((t - first) / 3600)) for t, _ in course.points]
        course.zone = parse_qs(urlsplit(path).query).get(ZONE_OF.get(source, ""), [""])[0]
        return case.make(course, path if source == "entsoe" else path.partition("?")[0])

    return Plan(body, content_type=case.content_type, wait_s=ANSWERS_S, fault="hang" if dead else "")


def configuration(folder: str, urls: dict[str, str]) -> configs.Config:
    """The 20 zones, kept in a folder."""
    zones = {}
    for source, names in ZONES.items():
        for name in names:
            zone = {"sources": [source, *(other for other in OTHERS if other != source)]}
            zones[name] = {**zone, "file": f"{urls['file']}/{name}.csv"} if source == "file" else zone
    sources = {name: {"url": url} for name, url in urls.items()}
    raw = {"zones": zones, "sources": sources, "forecasts": {"directory": folder}}
    return configs.parse(raw, Source("bench", 0, 0))


def once(dead: bool, together: bool = True) -> tuple[float, dict[str, str], int]:
    """Seconds of one refresh from nothing, what it is made of, and how many questions were asked."""
    bodies.NOW = int(time.time()) // 3600 * 3600
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        plans = {source: plan_of(source, dead) for source in ZONES}
        config = configuration(folder, {source: stack.enter_context(serving(plan)) for source, plan in plans.items()})
        began = time.monotonic()
        if together:
            found = refresh.intensities(config, int(time.time()), [], KEY)
        else:
            at = chain.setting(config, int(time.time()), Web(seconds=600).ask, KEY)
            every = {zone.name: chain.find_zone(zone, at) for zone in config.zones}
            for zone in config.zones:
                chain.write_down(zone, every[zone.name], at)
            found = {name: one.intensity for name, one in every.items() if one.intensity is not None}
        seconds = time.monotonic() - began
        return seconds, {zone: grid.source for zone, grid in found.items()}, sum(len(plan.asked) for plan in plans.values())


def main() -> None:
    """Print the medians, and what the outlooks say that they are made of."""
    well = [once(False) for _ in range(ROUNDS)]
    one_by_one = [once(False, together=False) for _ in range(ROUNDS)]
    dead = [once(True) for _ in range(2)]
    for what, runs in (("all well", well), ("all well, zone after zone", one_by_one), ("all dead", dead)):
        _, sources, asked = runs[-1]
        print(f"{what}: {statistics.median(s for s, _, _ in runs):.2f} s, {len(sources)} zones, {asked} questions")
        for zone, source in sources.items():
            print(f"  {zone:12} {source}")
    medians = {
        "refresh_well_s": statistics.median(s for s, _, _ in well),
        "refresh_one_by_one_s": statistics.median(s for s, _, _ in one_by_one),
        "refresh_dead_s": statistics.median(s for s, _, _ in dead),
    }
    print(json.dumps({name: round(value, 3) for name, value in medians.items()}))


if __name__ == "__main__":
    main()
