"""An outlook from what is known: the facts of the clusters, the intensities of the zones, and the configuration.

Nothing here asks a service: a submission may make an outlook for itself where none is published.
"""

from slurm_carbon.config import Config
from slurm_carbon.errors import CommandError, ForecastError, OutlookError
from slurm_carbon.forecast import climatology
from slurm_carbon.forecast.series import on_grid
from slurm_carbon.intensity import Intensity
from slurm_carbon.model import Location
from slurm_carbon.outlook import Outlook
from slurm_carbon.slurm import facts as slurm_facts
from slurm_carbon.slurm.command import Runner


def clusters(config: Config, runner: Runner, problems: list[str]) -> list[slurm_facts.Facts]:
    """What Slurm says of the clusters; adds to the problems which do not answer."""
    found = []
    for site in config.sites:
        try:
            found.append(slurm_facts.read(runner, site.name, site.slurm_conf, site.filesystem))
        except CommandError as error:
            problems.append(str(error))
    return found


def on_climatology(config: Config, now_epoch_s: int, runner: Runner) -> Outlook:
    """An outlook for one submission, when none is published: usual intensities, and the clusters as they are now.

    Raises OutlookError where not a single location comes of it.
    """
    problems: list[str] = []
    slot_s, horizon_s = config.outlook.slot_s, config.outlook.horizon_s
    start = now_epoch_s - now_epoch_s % slot_s
    zones: dict[str, Intensity] = {}
    for zone in config.zones:
        try:
            usual = on_grid(climatology.series(zone.name, start, start + horizon_s), start, slot_s, horizon_s // slot_s)
        except ForecastError as error:
            problems.append(str(error))
            continue
        share, how = climatology.captured(zone.name)
        zones[zone.name] = usual._replace(captured=share, captured_by=how)
    outlook = assemble(config, now_epoch_s, clusters(config, runner, problems), zones, problems)
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
        reoptimize=config.published,
    )
