"""The slow plane's round: ask every source and every cluster, and make one outlook of the answers."""

import os
import time
from collections.abc import Mapping

from slurm_carbon import luaform
from slurm_carbon import outlook as outlooks
from slurm_carbon.config import Config
from slurm_carbon.errors import ForecastError, OutlookError
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


def publish(outlook: Outlook, config: Config, path: str) -> None:
    """Write the outlook where csbatch reads it and, if the hook is installed, where that does. Raises OutlookError."""
    if luaform.is_installed(path):
        outlook = outlook._replace(hook=config.hook)
        luaform.publish(outlook, path)
    outlooks.write(outlook, path)


def with_last_prices(outlook: Outlook, path: str) -> Outlook:
    """The outlook with the congestion prices of the one that is published, as long as that one may be used.

    They come from the last plan of all waiting jobs: a refresh between two of those must not take them away.
    """
    try:
        last = outlooks.read(path, outlook.generated_epoch_s)
    except OutlookError:
        return outlook
    grids = list(last.zones.values())
    if not last.prices_g_per_h or outlook.generated_epoch_s - last.priced_epoch_s > outlook.max_age_s:
        return outlook
    start, slot_s = grids[0].start_epoch_s, grids[0].slot_s
    if any((grid.start_epoch_s, grid.slot_s) != (start, slot_s) for grid in grids):
        return outlook
    return outlooks.with_prices(outlook, last.prices_g_per_h, start, slot_s, last.priced_epoch_s)


def incomparable(zones: Mapping[str, Intensity]) -> list[str]:
    """One sentence if zones count in different ways: no job is then moved from one to the other."""
    kinds: dict[str, list[str]] = {}
    for name, grid in zones.items():
        kinds.setdefault(f"{grid.accounting}, {grid.factors}", []).append(name)
    if len(kinds) < 2:
        return []
    groups = "; ".join(f"{', '.join(names)} ({kind})" for kind, names in kinds.items())
    return [f"zones that count differently are not compared, and no job moves between them: {groups}"]
