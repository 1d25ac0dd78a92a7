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
from slurm_carbon.forecast.series import Series, checked, iso, on_grid
from slurm_carbon.forecast.service import Service, Subject
from slurm_carbon.forecast.services import SERVICES
from slurm_carbon.forecast.store import Store
from slurm_carbon.intensity import Intensity, Part
from slurm_carbon.units import HOUR_S, duration_text, printable

AVERAGES = ("own", "climatology", "annual", "static")  # they come after the last good answer of others
PROLONG = ("own", "climatology")
FLAT = ("annual", "static")
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


class Heard(NamedTuple):
    """What a source of the chain says."""

    source: str
    series: Series
    captured: float | None = None  # what delays by it have captured where it was fitted, if it was


class Found(NamedTuple):
    """What is known of a zone, or None, and what went wrong on the way."""

    intensity: Intensity | None
    problems: list[str]
    said: Heard | None = None  # by which source first
    stale: bool = False


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
    parts: list[Heard] = []
    stale: Heard | None = None
    for source in zone.sources:
        if parts and (source not in PROLONG or parts[-1].series.end_epoch_s >= at.end_epoch_s):
            continue
        if "own" in zone.sources and source in SERVICES and SERVICES[source].forecast is None:
            continue  # it is there for its history
        if not parts and source in AVERAGES and stale is not None:
            parts.append(stale)
            if source not in PROLONG:
                continue
        said = _try(source, zone, at, problems)
        if said is None:
            last = None if source in AVERAGES else _still_good(_kept(source, zone, at), at)
            stale = stale or (Heard(source, last) if last is not None else None)
            continue
        if not parts and stale is not None and said.series.kind != stale.series.kind:
            parts.append(stale)
        if not parts or (said.series.kind == parts[0].series.kind and said.series.end_epoch_s > parts[-1].series.end_epoch_s):
            parts.append(said)
    if not parts and stale is not None:
        parts.append(stale)
    if not parts:
        return Found(None, [*problems, f"zone {zone.name}: none of its sources has anything: its locations are left out"])
    if parts[0] is stale:
        age = duration_text(at.now_epoch_s - stale.series.issued_epoch_s)
        problems.append(f"zone {zone.name}: the answer of {stale.source} of {age} ago stands in")
    grid = joined([part.series for part in parts], at, _captured(zone, parts[0], at))
    return Found(grid, problems, parts[0], parts[0] is stale)


def _try(source: str, zone: Zone, at: Setting, problems: list[str]) -> Heard | None:
    """What a source says, if it says anything of the first slot; else None, and the problems have the reason."""
    try:
        said = ask_source(source, zone, at, problems)
        if said.series.end_epoch_s >= at.start_epoch_s + at.slot_s:
            return said
        problems.append(f"zone {zone.name}: {source}: ends within the first slot, at {iso(said.series.end_epoch_s)}")
    except ForecastError as error:
        problems.append(str(error))
    except Exception as error:  # noqa: BLE001 - whatever an answer makes of us, the other zones need their outlook
        problems.append(f"zone {zone.name}: {source}: cannot make sense of it ({type(error).__name__})")
    return None


def _captured(zone: Zone, said: Heard, at: Setting) -> tuple[float, str]:
    if said.source in FLAT:
        return 0.0, "it has no hours to choose from"
    try:
        return scores.captured(at.store, zone.name, said.source, said.captured)
    except ForecastError:  # what was noted cannot be read: then nothing is known of this zone
        return (scores.USUAL, "usual for published forecasts") if said.captured is None else (said.captured, scores.FITTED)


def write_down(zone: Zone, found: Found, at: Setting) -> list[str]:
    """Note what was said, and what was measured since, so that it can be judged one day; what went wrong with that."""
    if found.said is None or found.said.source in (*FLAT, "climatology"):
        return []
    service = SERVICES.get(found.said.source)
    try:
        if not found.stale:
            scores.note(at.store, found.said.source, found.said.series, at.now_epoch_s)
        if service is not None and service.history is not None:
            with contextlib.suppress(ForecastError):  # a key may be good for forecasts only: then nothing is judged
                history.catch_up(zone.name, [(service, subject(service, zone, at))], at.store, at.ask, at.now_epoch_s)
    except ForecastError as error:
        return [f"zone {zone.name}: {error}"]
    except Exception as error:  # noqa: BLE001 - it is for later only: no outlook fails of it
        return [f"zone {zone.name}: cannot note the forecast ({type(error).__name__})"]
    return []


def ask_source(source: str, zone: Zone, at: Setting, problems: list[str]) -> Heard:
    """What one source says of a zone; adds to the problems what it says in spite of. Raises ForecastError."""
    if source == "own":
        from slurm_carbon.forecast import own  # it needs numpy, and no other source does

        subjects, troubles = _subjects(zone, at)
        try:
            history.catch_up(zone.name, subjects, at.store, at.ask, at.now_epoch_s)
        except ForecastError as error:
            troubles.append(str(error))
        weather_url = next((feed.url for feed in at.feeds if feed.name == "weather"), "")
        try:
            found = own.forecast(zone, at.store, at.ask, at.now_epoch_s, weather_url)
        except ForecastError as error:
            raise ForecastError("; ".join((f"zone {zone.name}: own: {error}", *troubles))) from None
        if found.trouble:
            problems.append(f"zone {zone.name}: own: {found.trouble}; it forecasts without weather")
        return Heard(source, found.series, found.captured)
    return Heard(source, _series(source, zone, at, problems))


def _series(source: str, zone: Zone, at: Setting, problems: list[str]) -> Series:
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
    kept = _kept(source, zone, at)
    fresh_s = SERVICES[source].fresh_s if source in SERVICES else files.FRESH_S
    if kept and 0 <= at.now_epoch_s - kept[1] < fresh_s and _covers(kept[0], at):
        return kept[0]
    recent = kept[0] if kept and 0 <= at.now_epoch_s - kept[1] <= at.max_age_s else None  # a level may change for good
    found = _over_the_network(source, zone, at, recent)
    try:
        at.store.keep(found, source, at.now_epoch_s, _asked(source, zone, at))
    except ForecastError as error:
        problems.append(f"zone {zone.name}: {source}: {error}")
    return found


def _over_the_network(source: str, zone: Zone, at: Setting, last: Series | None) -> Series:
    if source not in SERVICES:
        usual = _usual(zone.name, (zone.accounting, zone.factors), last)
        return files.series(zone.file, zone.name, at.now_epoch_s, zone.accounting, zone.factors, at.ask, usual)
    service = SERVICES[source]
    if service.forecast is None:
        raise ForecastError(f"zone {zone.name}: {source} has no forecast; list `own` to forecast from its history")
    try:
        asked = subject(service, zone, at)
    except ForecastError as error:
        raise ForecastError(f"zone {zone.name}: {source}: {error}") from None
    try:
        said = service.forecast(at.ask, asked, at.now_epoch_s, at.end_epoch_s)
    except ForecastError as error:
        raise ForecastError(f"zone {zone.name}: {source}: {asked.hides(error)}") from None
    return checked(said, zone.name, source, at.now_epoch_s, _usual(zone.name, (said.accounting, said.factors), last))


def subject(service: Service, zone: Zone, at: Setting) -> Subject:
    """What a service is asked about. Raises ForecastError where its name of the zone, its address or its key is missing."""
    feed = _feed(service, at)
    name = _name(service, zone)
    if not name:
        raise ForecastError(f'does not know the zone by this name: say names = {{{service.name} = "..."}}')
    if not (feed.url or service.url):
        raise ForecastError(f"needs an address: [sources.{service.name}] url = ...")
    secret = find(feed.name, feed.key_file, at.environ)
    if service.key and secret is None:
        raise ForecastError(f"needs a key ({service.key}): [sources.{feed.name}] key_file, or {variable(feed.name)}")
    return Subject(zone.name, name, feed.url or service.url, secret, zone.factors, zone.accounting)


def _feed(service: Service, at: Setting) -> Feed:
    """What the configuration says of a service, or of the one whose account it shares."""
    names = [service.name, *([service.account] if service.account else [])]
    found = (feed for name in names for feed in at.feeds if feed.name == name)
    return next(found, Feed(names[-1], "", ""))


def _name(service: Service, zone: Zone) -> str:
    return zone.names.get(service.name) or service.names.get(zone.name) or (zone.name if service.any_zone else "")


def _asked(source: str, zone: Zone, at: Setting) -> str:
    """All that makes an answer one to this question: where, about what, and counted how."""
    service = SERVICES.get(source)
    where = zone.file if service is None else f"{_feed(service, at).url or service.url} {_name(service, zone)}"
    return f"{where} {zone.accounting} {zone.factors}"


def _kept(source: str, zone: Zone, at: Setting) -> tuple[Series, int] | None:
    """The last answer to the same question, if it can be read."""
    try:
        return at.store.last(zone.name, source, _asked(source, zone, at))
    except ForecastError:
        return None


def _subjects(zone: Zone, at: Setting) -> tuple[list[tuple[Service, Subject]], list[str]]:
    """The services that a zone's history may come from, in order; and why others cannot be asked."""
    found, troubles = [], []
    for source in (zone.history,) if zone.history else zone.sources:
        service = SERVICES.get(source)
        if service is None or service.history is None:
            continue
        try:
            found.append((service, subject(service, zone, at)))
        except ForecastError as error:
            troubles.append(f"{source} {error}")
    return found, troubles


def _covers(series: Series, at: Setting) -> bool:
    soon = max(at.now_epoch_s + HOUR_S, at.start_epoch_s + at.slot_s)
    return series.start_epoch_s <= at.start_epoch_s + HOUR_S and series.end_epoch_s >= soon


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
    """All zones at the same time, each by its own chain; what is for later, the scores, comes after all of them."""

    def note(zone: Zone, found: Found) -> Found:
        return found._replace(problems=[printable(said) for said in (*found.problems, *write_down(zone, found, at))])

    if len(zones) < 2 or not any(source in SERVICES or source == "file" for zone in zones for source in zone.sources):
        return {zone.name: note(zone, find_zone(zone, at)) for zone in zones}
    with ThreadPoolExecutor(max_workers=min(32, len(zones)), thread_name_prefix="zone") as pool:
        every = list(pool.map(lambda zone: find_zone(zone, at), zones))
        return dict(zip((zone.name for zone in zones), pool.map(note, zones, every), strict=True))
