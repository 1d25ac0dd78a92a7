"""The site's configuration: one table of keys that reads it, checks it, explains it and prints it."""

import os
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from slurm_carbon.errors import ConfigError
from slurm_carbon.keys import Key, boolean, check_names, duration, nearest, number, one_of, section, string, strings, tables
from slurm_carbon.model import Power
from slurm_carbon.outlook import MAX_G_PER_KWH, Source
from slurm_carbon.policy import Policy
from slurm_carbon.units import duration_s, duration_text

SITE_FILE = "/etc/slurm_carbon/slurm_carbon.toml"
OUTLOOK_FILE = "/var/lib/slurm_carbon/outlook.json"


class Outlooks(NamedTuple):
    """How the outlook is made and how long it is trusted."""

    file: str
    max_age_s: int
    horizon_s: int
    slot_s: int
    fallback: str


class Zone(NamedTuple):
    """Where the intensity of a zone comes from."""

    name: str
    sources: tuple[str, ...]
    file: str
    g_per_kwh: float
    accounting: str
    factors: str
    history: str
    weather_at: tuple[float, ...]
    names: dict[str, str]


class Feed(NamedTuple):
    """What has to be known to ask a source."""

    name: str
    url: str
    key_file: str


class Forecasts(NamedTuple):
    """How the sources are asked, and how long their answers are trusted."""

    directory: str
    max_age_s: int


class Place(NamedTuple):
    """A partition that jobs may be placed in."""

    partition: str
    zone: str
    power: Power


class Site(NamedTuple):
    """A cluster as the configuration names it."""

    name: str
    slurm_conf: str
    filesystem: str
    places: tuple[Place, ...]


class Config(NamedTuple):
    """The whole configuration, checked."""

    source: Source
    policy: Policy
    outlook: Outlooks
    forecasts: Forecasts
    feeds: tuple[Feed, ...]
    zones: tuple[Zone, ...]
    sites: tuple[Site, ...]
    hook: dict[str, str]


def _who(*kinds: str, words: tuple[str, ...] = ()) -> Callable[[Any], tuple[str, ...]]:
    def read(value: Any) -> tuple[str, ...]:
        names = strings(value)
        for name in names:
            kind, colon, rest = name.partition(":")
            if name not in words and (kind not in kinds or not colon or not rest):
                raise ValueError("a list of " + ", ".join(f'"{word}"' for word in (*words, *(f"{k}:NAME" for k in kinds))))
        return names

    return read


def source_names(value: Any) -> tuple[str, ...]:
    """Names of sources. Raises ValueError for anything else."""
    names = strings(value)
    if not names or len(set(names)) < len(names) or not set(names) <= set(SOURCES):
        raise ValueError("a list, without repetition, of " + ", ".join(f'"{name}"' for name in SOURCES))
    return names


def _address(value: Any) -> str:
    from urllib.parse import urlsplit

    text = string(value).rstrip("/")
    try:
        host = urlsplit(text).hostname or ""
        host.encode("idna")
    except ValueError:
        host = ""
    if text and (not text.startswith(("https://", "http://")) or not host):
        raise ValueError('an address such as "https://api.example.org/v3"')
    return text


def _coordinates(value: Any) -> tuple[float, ...]:
    try:
        latitude, longitude = (float(x) for x in value) if value else (0.0, 0.0)
    except (TypeError, ValueError):
        latitude = longitude = 999.0
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError("[latitude, longitude] in degrees, such as [48.1, 11.6]")
    return (latitude, longitude) if value else ()


def _names(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not set(value) <= set(SOURCES) or not all(isinstance(x, str) for x in value.values()):
        raise ValueError('a table of sources and names, such as {watttime = "CAISO_NORTH"}')
    return value


def _modes(value: Any) -> dict[str, str]:
    whom = _who("user", "account", "qos", "partition")
    try:
        named = whom(list(value))
        return dict(zip(named, (one_of(*_MODES)(mode) for mode in value.values()), strict=True))
    except (ValueError, TypeError, AttributeError):
        raise ValueError('a table such as {"user:NAME" = "off", "account:NAME" = "enforce"}') from None


# the keys

SOURCES = (
    "file", "static", "electricitymaps", "electricitymaps-mix", "watttime", "carbonintensity", "energycharts", "casdk",
    "entsoe", "eia", "own", "climatology", "annual",
)  # fmt: skip
HISTORIES = ("electricitymaps", "watttime", "carbonintensity", "energycharts", "casdk", "entsoe", "eia")
POLICY = (
    Key("max_delay", duration, "24h", "Latest start after submission of a job whose owner says nothing."),
    Key("max_delay_limit", duration, "7d", "The longest delay that anybody may ask for."),
    Key("min_saving_pct", number(0, 100), 5.0, "A delay or a move that is expected to save less, in percent, is not made."),
    Key("min_saving_g", number(0, 1e9), 1.0, "The same in g CO2e."),
    Key("delay_g_per_h", number(0, 1e9), 0.0, "What an hour of waiting weighs, in g CO2e: more makes starts earlier."),
    Key("move_clusters", boolean, True, "Whether jobs may go to another cluster (with the same filesystem, see below)."),
    Key("move_partitions", boolean, True, "Whether jobs may go to another partition of the same cluster."),
    Key("opt_out", _who("user", "account", words=("everyone",)), ["everyone"],
        'Who may say --carbon-off: "everyone", "user:NAME", "account:NAME".'),
    Key("left_alone", _who("user", "account", "partition", "qos"), [],
        'Whose jobs are never changed: "user:NAME", "account:NAME", "partition:NAME", "qos:NAME".'),
)  # fmt: skip
OUTLOOK = (
    Key("file", string, OUTLOOK_FILE, "The published outlook. csbatch finds another one only through this file."),
    Key("max_age", duration, "6h", "An older outlook is not used: jobs are then submitted unchanged, or by `fallback`."),
    Key("horizon", duration, "7d", "How far the outlook looks ahead."),
    Key("slot", duration, "1h", "The length of its slots."),
    Key("fallback", one_of("climatology", "none"), "none",
        "Without a usable outlook: decide on the embedded climatology (asks Slurm for each job), or change nothing."),
)  # fmt: skip
_MODES = ("off", "observe", "advise", "enforce")
HOOK = (
    Key("mode", one_of(*_MODES), "observe",
        "observe: write down what would be done; advise: tell the user, too; enforce: do it; off: nothing."),
    Key("client_moves", boolean, False,
        "Whether sbatch itself offers jobs to other clusters, as by -M; it then fails while slurmdbd is down."),
    Key("modes", _modes, {}, 'Others for some: {"user:NAME" = "enforce", "account:NAME" = ..., "qos:NAME", "partition:NAME"}.'),
)  # fmt: skip
FORECASTS = (
    Key("directory", string, "", "Where answers, history and models are kept. Empty: `forecasts` beside the outlook."),
    Key(
        "max_age", duration, "24h", "A source that does not answer is stood in for by its last answer, if not older than this."
    ),
)
ZONE = (
    Key("sources", source_names, ["climatology"], "Where its carbon intensity comes from, the best first; see the manual."),
    Key("file", string, "", "For the source `file`: CSV or JSON, a path or an address; see the manual."),
    Key("g_per_kwh", number(0, MAX_G_PER_KWH), 0.0, "For the source `static`: always this much."),
    Key("accounting", one_of("production", "consumption", "marginal"), "production",
        "What the figures of `file`, `static` and `casdk` count."),
    Key("factors", one_of("lifecycle", "direct"), "lifecycle",
        "The emission factors of the same, and those that are asked for where there is a choice."),
    Key("history", string, "", "Which of the sources the forecaster `own` learns from. Empty: the first that has a history."),
    Key("weather_at", _coordinates, [], "For `own`: [latitude, longitude] of the weather that it goes by."),
    Key("names", _names, {}, "What sources call the zone, where it is not known: {entsoe = \"10Y...\", watttime = \"...\"}."),
)  # fmt: skip
FEED = (
    Key("key_file", string, "", "The file of the key, readable by its owner only. Without it: SLURM_CARBON_KEY_<SOURCE>."),
    Key("url", _address, "", "The beginning of its addresses, if it is not the public one."),
)
POWER = (
    Key("pue", number(1, 5), 1.56, "Power usage effectiveness (default: world average, Uptime Institute 2024)."),
    Key("watts_per_core", number(0, 1000), 10.8,
        "W of a busy core (default: median TDP per core of the CPUs in Green Algorithms)."),
    Key("watts_per_gpu", number(0, 5000), 200.0, "W of a busy GPU (default: Green Algorithms, any GPU)."),
    Key("watts_per_gb", number(0, 10), 0.3725, "W of a GB of memory (default: Green Algorithms)."),
)  # fmt: skip
PARTITION = (Key("zone", string, "", "The zone of the electricity, if not that of the cluster."),)
CLUSTER = (
    Key("zone", string, "", "The zone of its electricity."),
    Key("slurm_conf", string, "", "Its slurm.conf, if it can be read here: asks its controller without slurmdbd."),
    Key("filesystem", string, "", "Jobs move only between clusters with the same name here: they must see the same files."),
)


def config_path(given: str | None) -> str:
    """The configuration file: the one given, else $SLURM_CARBON_CONFIG, else the site's."""
    return given or os.environ.get("SLURM_CARBON_CONFIG") or SITE_FILE


def outlook_path(given: str | None) -> str:
    """The published outlook: $SLURM_CARBON_OUTLOOK, else what the configuration says. Raises ConfigError."""
    return os.environ.get("SLURM_CARBON_OUTLOOK") or load(config_path(given)).outlook.file


def load(path: str) -> Config:
    """The configuration in a file. Raises ConfigError with the file, the key and what is allowed."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError(f"configuration {path}: is no file")
    try:
        with open(path, "rb") as file:
            raw = tomllib.load(file)
            status = os.fstat(file.fileno())
    except OSError as error:
        raise ConfigError(f"configuration {path}: {error.strerror}; `slurm-carbon config init` proposes one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path}: {error}") from None
    return parse(raw, Source(os.path.abspath(path), status.st_mtime_ns, status.st_size))


def parse(raw: Mapping[str, Any], source: Source) -> Config:
    """The configuration in the tables of a TOML file. Raises ConfigError."""
    where = f"configuration {source.path}"
    check_names(raw, ("policy", "outlook", "hook", "forecasts", "sources", "power", "zones", "clusters"), where)
    policy = section(raw.get("policy", {}), POLICY, f"{where}: [policy]")
    outlook = section(raw.get("outlook", {}), OUTLOOK, f"{where}: [outlook]")
    hook = section(raw.get("hook", {}), HOOK, f"{where}: [hook]")
    forecasts = section(raw.get("forecasts", {}), FORECASTS, f"{where}: [forecasts]")
    power = section(raw.get("power", {}), POWER, f"{where}: [power]")
    check_names(raw.get("sources", {}), (*SOURCES, "weather"), f"{where}: [sources]")
    feeds = tuple(
        Feed(name, url=values["url"].rstrip("/"), key_file=values["key_file"])
        for name, table in tables(raw.get("sources", {}), f"{where}: [sources]")
        for values in [section(table, FEED, f"{where}: [sources.{name}]")]
    )
    zones = []
    for name, table in tables(raw.get("zones", {}), f"{where}: [zones]"):
        values = section(table, ZONE, f"{where}: [zones.{name}]")
        for name_of, key in (("file", "file"), ("static", "g_per_kwh")):
            if name_of in values["sources"] and not values[key]:
                raise ConfigError(f"{where}: [zones.{name}]: the source `{name_of}` needs `{key}`")
        if values["history"] and values["history"] not in HISTORIES:
            raise ConfigError(
                f"{where}: [zones.{name}]: history = {values['history']!r}{nearest(values['history'], HISTORIES)}"
            )
        zones.append(Zone(name, **values))
    names = [zone.name for zone in zones]
    sites = [
        _site(name, table, power, names, f"{where}: [clusters.{name}]")
        for name, table in tables(raw.get("clusters", {}), f"{where}: [clusters]")
    ]
    if outlook["slot"] < 60 or outlook["horizon"] < outlook["slot"]:
        raise ConfigError(f"{where}: [outlook]: slot must be at least 1m, and horizon at least one slot")
    return Config(
        source,
        Policy(**{key + "_s" if key.startswith("max_delay") else key: value for key, value in policy.items()}),
        Outlooks(outlook["file"], outlook["max_age"], outlook["horizon"], outlook["slot"], outlook["fallback"]),
        Forecasts(forecasts["directory"] or default_directory(outlook["file"]), forecasts["max_age"]),
        feeds,
        tuple(zones),
        tuple(sites),
        {"mode": hook["mode"], "client_moves": "yes" if hook["client_moves"] else "no", **hook["modes"]},
    )


def default_directory(outlook_file: str) -> str:
    """Where forecasts are kept if nothing else is said: beside the outlook."""
    return os.path.join(os.path.dirname(os.path.abspath(outlook_file)), "forecasts")


def _site(name: str, table: Mapping[str, Any], power: Mapping[str, float], zones: list[str], where: str) -> Site:
    own = {key: value for key, value in table.items() if key != "partitions"}
    values = section(own, CLUSTER + POWER, where, power)
    places = []
    for partition, inner in tables(table.get("partitions", {}), f"{where}: partitions"):
        inner_where = f"{where[:-1]}.partitions.{partition}]"
        place = section(inner, PARTITION + POWER, inner_where, values)
        if place["zone"] not in zones:
            raise ConfigError(
                f"{inner_where}: zone {place['zone']!r} has no [zones.{place['zone'] or 'NAME'}]"
                + nearest(place["zone"], zones)
            )
        places.append(Place(partition, place["zone"], Power(*(place[key] for key in Power._fields))))
    return Site(name, values["slurm_conf"], values["filesystem"], tuple(places))


# printing


def render(config: Config) -> str:
    """The whole configuration as TOML, every key with its meaning: a file that reads back to the same configuration."""
    policy = dict(config.policy._asdict())
    policy |= {name: _short(policy[name + "_s"]) for name in ("max_delay", "max_delay_limit")}
    outlook = dict(config.outlook._asdict())
    outlook |= {name: _short(outlook[name + "_s"]) for name in ("max_age", "horizon", "slot")}
    lines = ["# Configuration of slurm-carbon: slurm_carbon.toml(5). Check it with `slurm-carbon config check`.", ""]
    lines += ["# What is allowed, and what is worth it.", "[policy]", *_render(POLICY, policy)]
    lines += ["# The file that csbatch and the hook decide by.", "[outlook]", *_render(OUTLOOK, outlook)]
    hook = {"mode": config.hook["mode"], "client_moves": config.hook["client_moves"] == "yes"}
    hook["modes"] = {who: mode for who, mode in config.hook.items() if who not in hook}
    lines += [
        "# What the submit hook does with the jobs of plain sbatch, once installed.",
        "[hook]",
        *_render(HOOK, hook),
    ]
    kept = {"max_age": _short(config.forecasts.max_age_s), "directory": config.forecasts.directory}
    if kept["directory"] == default_directory(config.outlook.file):
        kept["directory"] = ""
    lines += ["# What the sources of carbon intensity say, and how long it is kept.", "[forecasts]", *_render(FORECASTS, kept)]
    if config.feeds:
        lines += ["# The services: keys and addresses."]
    for order, feed in enumerate(config.feeds):
        lines += [f"[sources.{feed.name}]", *_render(FEED, feed._asdict(), comments=order == 0)]
    lines += ["# What hardware draws. Clusters and partitions may say otherwise, with the same keys.", "[power]"]
    lines += _render(POWER, {key.name: key.default for key in POWER})
    lines += ["# Zones of the electricity grid, by the names that Electricity Maps uses."]
    for order, zone in enumerate(config.zones):
        lines += [f"[zones.{_bare(zone.name)}]", *_render(ZONE, zone._asdict(), comments=order == 0)]
    lines += ["# Clusters by their ClusterName, and the partitions that jobs may be placed in: no other is ever used."]
    for order, site in enumerate(config.sites):
        zone_name = site.places[0].zone if site.places else ""
        values = {"zone": zone_name, "slurm_conf": site.slurm_conf, "filesystem": site.filesystem}
        lines += [f"[clusters.{_bare(site.name)}]", *_render(CLUSTER, values, comments=order == 0)]
        for place in site.places:
            lines += [f"[clusters.{_bare(site.name)}.partitions.{_bare(place.partition)}]"]
            if place.zone != zone_name:
                lines += [f"zone = {_toml(place.zone)}"]
            defaults = {key.name: key.default for key in POWER}
            changed = {key: value for key, value in place.power._asdict().items() if value != defaults[key]}
            lines += [f"{key} = {_toml(value)}" for key, value in sorted(changed.items())] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _render(keys: tuple[Key, ...], values: Mapping[str, Any], comments: bool = True) -> list[str]:
    lines = []
    for key in keys:
        if comments:
            default = "" if key.default == "" else f" Default: {_toml(key.default)}"
            lines.append(f"# {key.text}{default}")
        if comments or _toml(values[key.name]) != _toml(key.default):
            lines.append(f"{key.name} = {_toml(values[key.name])}")
    return [*lines, ""]


def _short(seconds: int) -> str:
    text = duration_text(seconds).replace(" min", "m").replace(" ", "")
    return text if duration_s(text) == seconds else f"{seconds}s"


def _bare(name: str) -> str:
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isalnum() and plain.isascii() else _toml(name)


def _toml(value: Any) -> str:
    import json

    if isinstance(value, dict):
        return "{" + ", ".join(f"{_bare(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value:.12g}"
