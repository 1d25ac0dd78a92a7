"""The slow plane's round: ask every source and every cluster, and make one outlook of the answers."""

from slurm_carbon.config import Config, Zone
from slurm_carbon.errors import CommandError, ForecastError, OutlookError
from slurm_carbon.forecast import climatology
from slurm_carbon.forecast import file as file_provider
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
    return assemble(config, now_epoch_s, facts, problems), problems


def on_climatology(config: Config, now_epoch_s: int, runner: Runner) -> Outlook:
    """An outlook for one submission, when none is published: usual intensities, and the clusters as they are now.

    Raises OutlookError where not a single location comes of it.
    """
    zones = tuple(zone._replace(provider="climatology") for zone in config.zones)
    outlook, problems = make(config._replace(zones=zones), now_epoch_s, runner)
    if not outlook.locations:
        raise OutlookError("no outlook is published, and none can be made: " + "; ".join(problems))
    return outlook


def assemble(config: Config, now_epoch_s: int, facts: list[slurm_facts.Facts], problems: list[str]) -> Outlook:
    """The outlook that follows from the facts of the clusters; adds to the problems what it had to leave out."""
    start = now_epoch_s - now_epoch_s % config.outlook.slot_s
    zones: dict[str, Intensity] = {}
    for zone in config.zones:
        try:
            zones[zone.name] = intensity(zone, config, start)
        except ForecastError as error:
            problems.append(str(error))
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


def intensity(zone: Zone, config: Config, start_epoch_s: int) -> Intensity:
    """The intensity of a zone from its configured provider. Raises ForecastError."""
    slot_s = config.outlook.slot_s
    slots = config.outlook.horizon_s // slot_s
    if zone.provider == "climatology":
        return climatology.series(zone.name, start_epoch_s, slot_s, slots)
    try:
        return file_provider.series(zone.file, zone.name, start_epoch_s, slot_s, slots, zone.accounting, zone.factors)
    except ForecastError:
        if config.outlook.fallback != "climatology" or zone.name not in climatology.zones():
            raise
        return climatology.series(zone.name, start_epoch_s, slot_s, slots)
