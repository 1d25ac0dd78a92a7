"""The slow plane's round: ask every source and every cluster, and make one outlook of the answers."""

import os
import time
from collections.abc import Mapping

from slurm_carbon.config import Config
from slurm_carbon.errors import CommandError, ForecastError, OutlookError
from slurm_carbon.forecast import chain
from slurm_carbon.forecast.http import Web
from slurm_carbon.forecast.store import Store
from slurm_carbon.intensity import Intensity
from slurm_carbon.model import Location
from slurm_carbon.outlook import Outlook
from slurm_carbon.slurm import facts as slurm_facts
from slurm_carbon.slurm.command import Runner


def make(config: Config, now_epoch_s: int, runner: Runner) -> tuple[Outlook, list[str]]:
    """The outlook of now, and what is missing from it, in words: a source or a cluster that did not answer."""
    problems: list[str] = []
    facts = []
    for site in config.sites:
        try:
            facts.append(slurm_facts.read(runner, site.name, site.slurm_conf, site.filesystem))
        except CommandError as error:
            problems.append(str(error))
    return assemble(config, now_epoch_s, facts, intensities(config, now_epoch_s, problems), problems), problems


def intensities(
    config: Config, now_epoch_s: int, problems: list[str], environ: Mapping[str, str] = os.environ
) -> dict[str, Intensity]:
    """What the sources of each zone say; adds to the problems what they do not."""
    store = Store(config.forecasts.directory)
    web = Web(later=store.later(time.time()))
    found = chain.find_all(config.zones, chain.setting(config, now_epoch_s, web.ask, environ))
    for zone in found.values():
        problems += zone.problems
    try:
        store.keep_later(web.later)
    except ForecastError as error:
        problems.append(str(error))
    known = {name: zone.intensity for name, zone in found.items() if zone.intensity is not None}
    problems += incomparable(known)
    return known


def incomparable(zones: dict[str, Intensity]) -> list[str]:
    """One sentence if zones count in different ways: no job is then moved from one to the other."""
    kinds: dict[str, list[str]] = {}
    for name, grid in zones.items():
        kinds.setdefault(f"{grid.accounting}, {grid.factors}", []).append(name)
    if len(kinds) < 2:
        return []
    groups = "; ".join(f"{', '.join(names)} ({kind})" for kind, names in kinds.items())
    return [f"zones that count differently are not compared, and no job moves between them: {groups}"]


def on_climatology(config: Config, now_epoch_s: int, runner: Runner) -> Outlook:
    """An outlook for one submission, when none is published: usual intensities, and the clusters as they are now.

    Raises OutlookError where not a single location comes of it.
    """
    zones = tuple(zone._replace(sources=("climatology",)) for zone in config.zones)
    outlook, problems = make(config._replace(zones=zones), now_epoch_s, runner)
    if not outlook.locations:
        raise OutlookError("no outlook is published, and none can be made: " + "; ".join(problems))
    return outlook


def assemble(
    config: Config, now_epoch_s: int, facts: list[slurm_facts.Facts], zones: dict[str, Intensity], problems: list[str]
) -> Outlook:
    """The outlook that follows from the facts of the clusters; adds to the problems what it had to leave out."""
    partitions = {(p.cluster, p.name): p for fact in facts for p in fact.partitions}
    answered = {fact.cluster.name for fact in facts}
    locations = []
    for site in config.sites:
        for place in site.places:
            if (site.name, place.partition) in partitions and place.zone in zones:
                locations.append(Location(site.name, place.partition, place.zone, place.power))
            elif site.name in answered and place.zone in zones:
                problems.append(f"cluster {site.name} has no partition {place.partition}")
    if not locations:
        problems.append("there is no location to place a job at: no [clusters.NAME.partitions.NAME] has zone and cluster")
    return Outlook(
        now_epoch_s,
        config.outlook.max_age_s,
        config.source,
        config.policy,
        {fact.cluster.name: fact.cluster for fact in facts},
        partitions,
        tuple(locations),
        {location.zone: zones[location.zone] for location in locations},
        {},
        0,
        tuple(sorted({n for s in config.sites for p in s.places for n in (s.name, f"{s.name}/{p.partition}", p.zone)})),
    )
