"""The slow plane's round: ask every source and every cluster, and make one outlook of the answers."""

import os
import time
from collections.abc import Mapping

from slurm_carbon import outlook as outlooks
from slurm_carbon.config import Config
from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import chain
from slurm_carbon.forecast.http import Web
from slurm_carbon.forecast.store import Store
from slurm_carbon.intensity import Intensity
from slurm_carbon.outlook import Outlook
from slurm_carbon.publish import assemble, clusters
from slurm_carbon.slurm.command import Runner


def outlook(config: Config, now_epoch_s: int, runner: Runner) -> tuple[Outlook, list[str]]:
    """The outlook of now, and what is missing from it, in words: a source or a cluster that did not answer."""
    problems: list[str] = []
    facts = clusters(config, runner, problems)
    return assemble(config, now_epoch_s, facts, intensities(config, now_epoch_s, problems), problems), problems


def intensities(
    config: Config, now_epoch_s: int, problems: list[str], environ: Mapping[str, str] = os.environ
) -> dict[str, Intensity]:
    """What the sources of each zone say; adds to the problems what they do not."""
    store = Store(config.forecasts.directory)
    try:
        web = Web(later=store.later(time.time()))
    except ForecastError as error:
        problems.append(str(error))
        web = Web()
    found = chain.find_all(config.zones, chain.setting(config, now_epoch_s, web.ask, environ))
    for zone in found.values():
        problems += zone.problems
    try:
        store.keep_later(web.later)
    except ForecastError as error:
        problems.append(str(error))
    sound = {}
    for name, zone in found.items():
        try:
            if zone.intensity is not None:
                outlooks.check_zone(zone.intensity)
                sound[name] = zone.intensity
        except (ValueError, TypeError) as error:
            problems.append(f"zone {name}: {error}: it is left out")
    return sound


def incomparable(zones: Mapping[str, Intensity]) -> list[str]:
    """One sentence if zones count in different ways: no job is then moved from one to the other."""
    kinds: dict[str, list[str]] = {}
    for name, grid in zones.items():
        kinds.setdefault(f"{grid.accounting}, {grid.factors}", []).append(name)
    if len(kinds) < 2:
        return []
    groups = "; ".join(f"{', '.join(names)} ({kind})" for kind, names in kinds.items())
    return [f"zones that count differently are not compared, and no job moves between them: {groups}"]
