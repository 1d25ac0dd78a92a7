"""The sources of a zone, asked in order, until one answers in earnest; and what is done where none does.

1. A source that answers, and whose answer stands the checks, is taken. An answer that is still fresh is not asked for again.
2. Where none does, the last good answer of the first that has one, while it is not too old. It also goes before a live
   answer that counts otherwise (marginal, other factors): a lapse must not make this zone incomparable to the others.
3. Our own forecaster, the climatology, the annual mean, as far as the site lists them.

What answers for a day is prolonged by the own forecaster and the climatology where the site lists them too, and they
count alike. Of them only the course counts: their level is brought to that of the last day of the answer, so that no job
waits for the seam, or for a mean of past years that lies lower than the present.
"""

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from slurm_carbon.config import Config, Feed, Zone
from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast import annual, climatology, history, scores
from slurm_carbon.forecast import file as files
from slurm_carbon.forecast.credentials import find, variable
from slurm_carbon.forecast.http import Ask
from slurm_carbon.forecast.series import Series, checked, on_grid
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.forecast.services import SERVICES
from slurm_carbon.forecast.store import Store
from slurm_carbon.intensity import Intensity, Part
from slurm_carbon.units import HOUR_S, duration_text

AVERAGES = ("own", "climatology", "annual", "static")  # they need no answer of anybody, and come after the last good one
PROLONG = ("own", "climatology")
OVERLAP_S = 24 * HOUR_S  # the part of an answer that its level is taken from
MOST_LEVEL = 3.0


class Setting(NamedTuple):
    """What all zones of a refresh share."""

    now_epoch_s: int
    start_epoch_s: int
    slot_s: int
    slots: int
    max_age_s: int
    feeds: tuple[Feed, ...]
    store: Store
    ask: Ask
    environ: Mapping[str, str]

    @property
    def end_epoch_s(self) -> int:
        """End of the outlook."""
        return self.start_epoch_s + self.slot_s * self.slots


class Said(NamedTuple):
    """What a source of the chain says."""

    source: str
    series: Series
    captured: float | None = None  # what delays by it have captured where it was fitted, if it was


class Found(NamedTuple):
    """What is known of a zone, or None, and what went wrong on the way."""

    intensity: Intensity | None
    problems: list[str]


def setting(config: Config, now_epoch_s: int, ask: Ask, environ: Mapping[str, str]) -> Setting:
    """The setting that a configuration asks for."""
    slot_s = config.outlook.slot_s
    return Setting(
        now_epoch_s, now_epoch_s - now_epoch_s % slot_s, slot_s, config.outlook.horizon_s // slot_s,
        config.forecasts.max_age_s, config.feeds, Store(config.forecasts.directory), ask, environ,
    )  # fmt: skip


def find_zone(zone: Zone, at: Setting) -> Found:
    """The intensity of a zone over the outlook, by its chain. Never raises a ForecastError."""
    problems: list[str] = []
    parts: list[Said] = []
    stale: Said | None = None
    for source in zone.sources:
        if parts and (source not in PROLONG or parts[-1].series.end_epoch_s >= at.end_epoch_s):
            continue
        if not parts and source in AVERAGES and stale is not None:
            parts.append(stale)
            if source not in PROLONG:
                continue
        try:
            said = ask_source(source, zone, at)
        except ForecastError as error:
            problems.append(str(error))
            last = None if source in AVERAGES else _still_good(at.store.last(zone.name, source), at)
            if last is not None and stale is None:
                stale = Said(source, last)
                problems[-1] += f"; its answer of {duration_text(at.now_epoch_s - last.issued_epoch_s)} ago stands in"
            continue
        if not parts and stale is not None and said.series.kind != stale.series.kind:
            parts.append(stale)
        if not parts or (said.series.kind == parts[0].series.kind and said.series.end_epoch_s > parts[-1].series.end_epoch_s):
            parts.append(said)
    if not parts and stale is not None:
        parts.append(stale)
    if not parts:
        return Found(None, problems)
    try:
        _write_down(zone, parts[0], parts[0] is stale, at)
        return Found(
            joined(
                [part.series for part in parts], at, scores.captured(at.store, zone.name, parts[0].source, parts[0].captured)
            ),
            problems,
        )
    except ForecastError as error:
        return Found(None, [*problems, str(error)])


def _write_down(zone: Zone, said: Said, stale: bool, at: Setting) -> None:
    """Note what was said, and what was measured since, so that it can be judged one day."""
    if said.source in ("climatology", "annual", "static"):
        return
    if not stale:
        scores.note(at.store, said.source, said.series, at.now_epoch_s)
    service = SERVICES.get(said.source)
    if service is not None and service.history is not None:
        with contextlib.suppress(ForecastError):  # a key may be good for forecasts only: then nothing is judged
            history.catch_up(zone.name, [(service, subject(service, zone, at))], at.store, at.ask, at.now_epoch_s)


def ask_source(source: str, zone: Zone, at: Setting) -> Said:
    """What one source says of a zone. Raises ForecastError."""
    if source == "own":
        from slurm_carbon.forecast import own  # it needs numpy, and no other source does

        history.catch_up(zone.name, _subjects(zone, at), at.store, at.ask, at.now_epoch_s)
        weather_url = next((feed.url for feed in at.feeds if feed.name == "weather"), "")
        return Said(source, *own.forecast(zone, at.store, at.ask, at.now_epoch_s, weather_url))
    return Said(source, _series(source, zone, at))


def _series(source: str, zone: Zone, at: Setting) -> Series:
    if source == "climatology":
        return climatology.series(zone.name, at.start_epoch_s, at.end_epoch_s)
    if source == "annual":
        return annual.series(zone.name, at.start_epoch_s, at.end_epoch_s, zone.factors)
    if source == "static":
        hours = -(-(at.end_epoch_s - at.start_epoch_s) // HOUR_S)
        values = [zone.g_per_kwh] * hours
        return Series(zone.name, at.start_epoch_s, HOUR_S, values, source, zone.accounting, zone.factors, at.start_epoch_s)
    if source == "file" and not files.is_address(zone.file):
        return files.series(zone.file, zone.name, at.now_epoch_s, zone.accounting, zone.factors)
    return _over_the_network(source, zone, at)


def _over_the_network(source: str, zone: Zone, at: Setting) -> Series:
    kept = at.store.last(zone.name, source)
    service = SERVICES.get(source)
    if kept and 0 <= at.now_epoch_s - kept[1] < (service.fresh_s if service else files.FRESH_S) and _covers(kept[0], at):
        return kept[0]
    if service is None:
        usual = _usual(zone.name, (zone.accounting, zone.factors), kept[0] if kept else None)
        found = files.series(zone.file, zone.name, at.now_epoch_s, zone.accounting, zone.factors, at.ask, usual)
    elif service.forecast is None:
        raise ForecastError(f"zone {zone.name}: {source} has no forecast; list `own` to forecast from its history")
    else:
        try:
            said = service.forecast(at.ask, subject(service, zone, at), at.now_epoch_s, at.end_epoch_s)
        except ForecastError as error:
            raise ForecastError(f"zone {zone.name}: {source}: {error}") from None
        usual = _usual(zone.name, (said.accounting, said.factors), kept[0] if kept else None)
        found = checked(said, zone.name, source, at.now_epoch_s, usual)
        if not found.issued_epoch_s:
            found = found._replace(issued_epoch_s=at.now_epoch_s)
    at.store.keep(found, source, at.now_epoch_s)
    return found


def subject(service: Service, zone: Zone, at: Setting) -> Subject:
    """What a service is asked about. Raises ForecastError where its name of the zone, its address or its key is missing."""
    feed = next((feed for feed in at.feeds if feed.name == service.name), Feed(service.name, "", ""))
    name = zone.names.get(service.name) or service.names.get(zone.name) or (zone.name if service.any_zone else "")
    if not name:
        raise ForecastError(f'does not know it by this name: say names = {{{service.name} = "..."}}')
    if not (feed.url or service.url):
        raise ForecastError(f"needs an address: [sources.{service.name}] url = ...")
    secret = find(service.name, feed.key_file, at.environ)
    if service.key and secret is None:
        raise ForecastError(f"needs a key ({service.key}): [sources.{service.name}] key_file, or {variable(service.name)}")
    return Subject(zone.name, name, feed.url or service.url, secret, zone.factors, zone.accounting)


def _subjects(zone: Zone, at: Setting) -> list[tuple[Service, Subject]]:
    """The services that a zone's history may come from, in order."""
    found = []
    for source in (zone.history,) if zone.history else zone.sources:
        service = SERVICES.get(source)
        if service is not None and service.history is not None:
            found.append((service, subject(service, zone, at)))
    return found


def _covers(series: Series, at: Setting) -> bool:
    return series.start_epoch_s <= at.start_epoch_s + HOUR_S and series.end_epoch_s >= at.now_epoch_s + HOUR_S


def _still_good(kept: tuple[Series, int] | None, at: Setting) -> Series | None:
    """A kept answer that is neither too old nor run out."""
    if kept is None or not 0 <= at.now_epoch_s - kept[1] <= at.max_age_s or not _covers(kept[0], at):
        return None
    return kept[0]


def _usual(zone: str, kind: tuple[str, str], last: Series | None) -> float | None:
    """A mean that an answer of this kind should be near to, if any is known."""
    accounting, factors = kind
    if last is not None and last.kind == kind:
        return sum(last.g_per_kwh) / len(last.g_per_kwh)
    known = annual.mean(zone, factors)
    return known[1] if known and accounting != "marginal" and "-" not in zone else None


# putting it together


def joined(parts: list[Series], at: Setting, captured: tuple[float, str] = (1.0, "")) -> Intensity:
    """The first series on the grid of the outlook, prolonged by the others, each brought to the level at the seam."""
    grids = [on_grid(part, at.start_epoch_s, at.slot_s, at.slots) for part in parts]
    whole, seams = grids[0], [Part(at.start_epoch_s, parts[0].source, parts[0].issued_epoch_s)]
    for grid in grids[1:]:
        seam = len(whole.mean_g_per_kwh)
        if len(grid.mean_g_per_kwh) <= seam:
            continue
        first = max(0, seam - OVERLAP_S // at.slot_s)
        ours, theirs = (sum(values[first:seam]) for values in (whole.mean_g_per_kwh, grid.mean_g_per_kwh))
        level = min(max(ours / theirs, 1 / MOST_LEVEL), MOST_LEVEL) if theirs > 0 else 1.0

        mean = whole.mean_g_per_kwh + [value * level for value in grid.mean_g_per_kwh[seam:]]
        low, high = (
            one + [value * level for value in other[seam:]]
            if one is not None and other is not None and len(one) == seam
            else one
            for one, other in (
                (whole.low_g_per_kwh, grid.low_g_per_kwh),
                (whole.high_g_per_kwh, grid.high_g_per_kwh),
            )
        )
        seams.append(Part(at.start_epoch_s + seam * at.slot_s, grid.source, grid.issued_epoch_s))
        whole = whole._replace(
            mean_g_per_kwh=mean, low_g_per_kwh=low, high_g_per_kwh=high, beyond_g_per_kwh=grid.beyond_g_per_kwh * level,
            source=f"{whole.source}, then {grid.source}",
        )  # fmt: skip
    return whole._replace(parts=tuple(seams), captured=captured[0], captured_by=captured[1])


def find_all(zones: tuple[Zone, ...], at: Setting) -> dict[str, Found]:
    """All zones at the same time, each by its own chain."""
    if len(zones) < 2 or not any(source in SERVICES or source == "file" for zone in zones for source in zone.sources):
        return {zone.name: find_zone(zone, at) for zone in zones}
    with ThreadPoolExecutor(max_workers=min(32, len(zones)), thread_name_prefix="zone") as pool:
        return dict(zip((zone.name for zone in zones), pool.map(lambda zone: find_zone(zone, at), zones), strict=True))
