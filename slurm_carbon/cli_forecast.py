"""`slurm-carbon forecast`: look at a zone's forecast, fit our own, and see what the forecasts were worth."""

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from slurm_carbon.errors import Error, UsageError

if TYPE_CHECKING:
    from slurm_carbon.config import Config, Zone
    from slurm_carbon.forecast.http import Ask
    from slurm_carbon.forecast.store import Store

MOST_APART = 0.3  # of the mean: what two files of one zone may differ by, such as after corrections


def add_to(nouns: Any) -> None:
    """The verbs of `forecast`."""
    forecast = nouns.add_parser("forecast", help="what the sources expect of a zone's electricity, and what that is worth")
    verbs = forecast.add_subparsers(required=True, metavar="show | fit | score")

    show = verbs.add_parser("show", help="ask the sources of a zone: its hours with their band, and where they come from")
    show.add_argument("zone", metavar="ZONE")
    show.add_argument("--sources", metavar="NAME,...", help="these instead of the configured ones; any zone then")
    show.add_argument("--hours", type=int, default=24, metavar="N", help="hours in the table (default: 24)")
    show.add_argument("--json", action="store_true", help="everything as JSON")
    show.add_argument("--plot", metavar="FILE", help="draw it: PNG, SVG or PDF, by its ending (needs the extra `plots`)")
    show.set_defaults(run=_show)

    fit = verbs.add_parser(
        "fit", help="fit our own forecaster to the history of zones (all with the source `own`, if none is named)"
    )
    fit.add_argument("zones", metavar="ZONE", nargs="*")
    fit.add_argument("--history", metavar="FILE", help="add this to the history of the one zone: CSV or JSON, as for `file`")
    fit.add_argument(
        "--weather", metavar="FILE", help="weather forecasts of that time, CSV; else they are asked for at weather_at"
    )
    fit.set_defaults(run=_fit)

    score = verbs.add_parser("score", help="compare what was forecast with what was measured")
    score.add_argument("zones", metavar="ZONE", nargs="*", help="default: all")
    score.add_argument("--json", action="store_true", help="everything as JSON")
    score.set_defaults(run=_score)


def _config(words: argparse.Namespace) -> "Config":
    from slurm_carbon.config import config_path, load

    return load(config_path(words.config))


def _zone(config: "Config", name: str) -> "Zone":
    from slurm_carbon.keys import nearest

    found = next((zone for zone in config.zones if zone.name == name), None)
    if found is None:
        raise UsageError(f"no zone {name!r} in the configuration{nearest(name, [zone.name for zone in config.zones])}")
    return found


def _any_zone(words: argparse.Namespace) -> "tuple[Config, Zone]":
    """A zone with the sources of the command line, and what else the configuration says of it, if there is one."""
    from slurm_carbon import config as configs
    from slurm_carbon.outlook import Source

    named = words.config or os.environ.get("SLURM_CARBON_CONFIG")
    config = _config(words) if named or os.path.exists(configs.SITE_FILE) else configs.parse({}, Source("none", 0, 0))
    if not named and not os.path.exists(configs.SITE_FILE):
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        config = config._replace(forecasts=config.forecasts._replace(directory=os.path.join(home, "slurm_carbon/forecasts")))
    try:
        sources = configs.source_names(words.sources.split(","))
    except ValueError as error:
        raise UsageError(f"--sources {words.sources}: must be {error}") from None
    known = next((zone for zone in config.zones if zone.name == words.zone), None)
    if known is None:
        [known] = configs.parse({"zones": {words.zone: {}}}, Source("none", 0, 0)).zones
    for source, value in (("file", known.file), ("static", known.g_per_kwh)):
        if source in sources and not value:
            raise UsageError(f"--sources {words.sources}: what `{source}` says of {words.zone} stands in no configuration")
    return config, known._replace(sources=sources)


def _show(words: argparse.Namespace) -> int:
    from slurm_carbon import refresh
    from slurm_carbon.report import forecast as reports

    if words.hours < 1:
        raise UsageError(f"--hours {words.hours}: at least 1")
    if words.plot:
        from slurm_carbon.report import plots

        plots.check(words.plot)
    if words.sources is None:
        config = _config(words)
        zone = _zone(config, words.zone)
    else:
        config, zone = _any_zone(words)
    now, problems = int(time.time()), list[str]()
    grid = refresh.intensities(config._replace(zones=(zone,)), now, problems).get(zone.name)
    for problem in problems:
        print(f"slurm-carbon: {problem}", file=sys.stderr)
    if grid is None:
        return 1
    if words.plot:
        plots.forecast_figure(grid, now, words.plot)
    if words.json:
        print(json.dumps({**grid._asdict(), "parts": [part._asdict() for part in grid.parts]}, indent=1))
    else:
        print("\n".join(reports.table(grid, now, words.hours)))
    if words.plot:
        print(words.plot, file=sys.stderr if words.json else sys.stdout)
    return 1 if problems else 0


def _fit(words: argparse.Namespace) -> int:
    from slurm_carbon.forecast.http import Web
    from slurm_carbon.forecast.store import Store

    config = _config(words)
    zones = [_zone(config, name) for name in words.zones] or [zone for zone in config.zones if "own" in zone.sources]
    if not zones:
        raise UsageError("no zone has the source `own`: name one")
    if (words.history or words.weather) and len(zones) != 1:
        raise UsageError("--history and --weather are of one zone: name it")
    store = Store(config.forecasts.directory)
    web = Web(600, store.later(time.time()), request_s=100, read_s=60)
    weather_url = next((feed.url for feed in config.feeds if feed.name == "weather"), "")
    fitted, complete = 0, True
    for zone in zones:
        try:
            if words.history:
                _import(store, zone, words.history)
            problems, notes = _fit_zone(words, zone, store, web.ask, weather_url), _unused(zone)
            fitted += 1
        except Error as error:
            problems, notes = [str(error)], []
        complete = complete and not problems
        for said in problems + notes:
            print(f"slurm-carbon: {_of(zone.name, said)}", file=sys.stderr)
    store.keep_later(web.later)
    if fitted:
        print("figures are of what the models were not fitted to; the saving is that of a job of 4 h that may wait for a day")
    return 0 if complete else 1


def _fit_zone(words: argparse.Namespace, zone: "Zone", store: "Store", ask: "Ask", weather_url: str) -> list[str]:
    """Fit every kind of history that there is enough of, the longest in any case; what was missing. Raises Error."""
    from slurm_carbon.forecast import own, weather
    from slurm_carbon.forecast.model import LEAST_FIT_H

    kept = {kind: store.history(zone.name, kind) for kind in store.kinds(zone.name)}
    if not kept:
        raise Error(f"zone {zone.name}: no history yet: give one with --history, or let `outlook refresh` collect it")
    longest = max(kept, key=lambda kind: len(kept[kind]))
    problems, seen = [], None
    if words.weather:
        seen = weather.read(words.weather)
    elif zone.weather_at:
        try:
            seen = weather.past(ask, zone.weather_at, min(kept[longest]), max(kept[longest]), weather_url)
        except Error as error:
            problems.append(f"fitted without weather: {error}; --weather FILE may have it")
    for kind, hours in kept.items():
        if kind != longest and len(hours) < LEAST_FIT_H:
            continue
        models = own.fit(zone.name, store, kind, seen)
        print(f"{zone.name}: {len(hours) // 24} days of history, {kind[0]}, {kind[1]} factors")
        for model in models:
            weather_too, mix_too = model.uses
            inputs = "history" + (", mix" if mix_too else "") + (", weather" if weather_too else "")
            mape_pct, share = model.skill
            print(f"  {inputs}: MAPE {mape_pct:.1f} % over the first day, {100 * share:.0f} % of the saving captured")
    if words.weather and not zone.weather_at:
        problems.append("the weather is used once it has weather_at = [latitude, longitude]")
    return problems


def _of(zone: str, said: str) -> str:
    """A message with the zone that it is about."""
    return said if said.startswith(f"zone {zone}") else f"zone {zone}: {said}"


def _unused(zone: "Zone") -> list[str]:
    """Why a fit will be of no use, or soon of none, as the zone is configured."""
    from slurm_carbon.forecast.services import SERVICES

    notes = []
    if "own" not in zone.sources:
        notes.append("the model is used once `own` is among its sources")
    collects = (zone.history,) if zone.history else zone.sources
    if not any(source in SERVICES and SERVICES[source].history for source in collects):
        notes.append("none of its sources has a history: forecasts end two days after the last hour of the file")
    return notes


def _import(store: "Store", zone: "Zone", path: str) -> None:
    """Add what a file says was measured, unless it plainly is of another zone than what is kept."""
    from slurm_carbon.forecast import history

    kind = (zone.accounting, zone.factors)
    found, kept = history.from_file(path, kind, int(time.time())), store.history(zone.name, kind)
    both = [hour for hour in found if hour in kept]
    apart = sum(abs(found[hour] - kept[hour]) for hour in both) / max(1e-9, sum(kept[hour] for hour in both))
    if len(both) >= 24 and apart > MOST_APART:
        where = store.path("history", f"{zone.name} {' '.join(kind)}.csv")
        raise Error(
            f"zone {zone.name}: {path} differs by {100 * apart:.0f} % from what is kept of the same {len(both)} hours; "
            f"is it another zone's? If it is right, remove {where} first"
        )
    store.keep_history(zone.name, kind, found)


def _score(words: argparse.Namespace) -> int:
    from slurm_carbon.forecast import scores
    from slurm_carbon.forecast.store import Store
    from slurm_carbon.report import forecast as reports

    config = _config(words)
    zones = [_zone(config, name) for name in words.zones] or list(config.zones)
    store = Store(config.forecasts.directory)
    found = {zone.name: scores.all_of(store, zone.name, zone.sources) for zone in zones}
    if words.json:
        print(json.dumps({zone: {name: s._asdict() for name, s in of.items()} for zone, of in found.items()}, indent=1))
        return 0
    for number, (zone_name, of) in enumerate(found.items()):
        if number:
            print()
        print("\n".join(reports.scores(zone_name, of)))
    return 0
