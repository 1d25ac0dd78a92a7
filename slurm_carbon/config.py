"""The site's configuration: one table of keys that reads it, checks it and explains it; `config_text` prints it."""

import os
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from slurm_carbon.errors import ConfigError
from slurm_carbon.keys import Key, boolean, check_names, duration, nearest, number, one_of, section, string, strings, tables
from slurm_carbon.model import Power
from slurm_carbon.outlook import MAX_G_PER_KWH, Source
from slurm_carbon.policy import Policy

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


class Reoptimize(NamedTuple):
    """What `slurm-carbon reoptimize` does with jobs that wait, and within what limits."""

    mode: str  # off, observe, advise, enforce
    jobs: str  # marked, all
    records: str  # folder of csbatch's submission records; empty: it keeps none
    ledger: str  # URL
    margin_s: int
    min_saving_pct: float
    min_saving_g: float
    max_moves: int
    max_updates: int
    max_transfers: int
    split_arrays: bool
    solver_time_s: int
    keep_s: int
    reader: str


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
    reoptimize: Reoptimize

    @property
    def published(self) -> dict[str, str]:
        """What csbatch has to know of the reoptimizer; empty where there is none."""
        if self.reoptimize.mode == "off":
            return {}
        return {"mode": self.reoptimize.mode, "records": self.reoptimize.records}


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


def _count(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return read


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
REOPTIMIZE = (
    Key("mode", one_of(*_MODES), "off",
        "observe: plan, publish prices, write down what would be moved; advise: show it to the owners, too; enforce: do it."),
    Key("jobs", one_of("marked", "all"), "marked",
        "marked: those that csbatch or the hook has planned; all: those of plain sbatch, too, within `max_delay` of [policy]."),
    Key("records", string, "~/.local/state/slurm_carbon/submissions",
        "Where csbatch keeps, for its owner only, what moving a job to another cluster needs (%u: user). Empty: nowhere."),
    Key("ledger", string, "", "The database, as an SQLAlchemy URL. Empty: SQLite, `ledger/ledger.sqlite` beside the outlook."),
    Key("margin", duration, "10m", "Jobs that start sooner than this are left alone: at least the time between two runs."),
    Key("min_saving_pct", number(0, 100), 3.0,
        "A move that is expected to save less of a job's emissions, in percent, is not made for its own sake."),
    Key("min_saving_g", number(0, 1e9), 1.0, "The same in g CO2e."),
    Key("max_moves", _count(0, 1000), 6, "How often a job is moved at most."),
    Key("max_updates", _count(1, 1_000_000), 2000, "How many jobs one run moves at most."),
    Key("max_transfers", _count(0, 100_000), 50,
        "How many of them to a cluster outside of the federation: each is a submission by its owner, 0.1 to 0.3 s."),
    Key("split_arrays", boolean, False,
        "Whether the tasks of an array may be given different starts. It then stays on its cluster."),
    Key("solver_time", duration, "20s", "How long one run may improve its plan."),
    Key("keep", duration, "400d", "How long the ledger keeps jobs that have ended."),
    Key("reader", one_of("auto", "squeue", "pyslurm"), "squeue",
        "How queues are read. auto: by pyslurm where it is there and matches Slurm's version."),
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
    check_names(raw, ("policy", "outlook", "hook", "reoptimize", "forecasts", "sources", "power", "zones", "clusters"), where)
    policy = section(raw.get("policy", {}), POLICY, f"{where}: [policy]")
    outlook = section(raw.get("outlook", {}), OUTLOOK, f"{where}: [outlook]")
    hook = section(raw.get("hook", {}), HOOK, f"{where}: [hook]")
    again = section(raw.get("reoptimize", {}), REOPTIMIZE, f"{where}: [reoptimize]")
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
        _reoptimize(again, outlook["file"], f"{where}: [reoptimize]"),
    )


REOPTIMIZE_TIMES = ("margin", "solver_time", "keep")


def _reoptimize(values: Mapping[str, Any], outlook_file: str, where: str) -> Reoptimize:
    """Raises ConfigError for what cannot work."""
    if values["solver_time"] < 1:
        raise ConfigError(f"{where}: solver_time must be at least 1s")
    if values["records"] and not values["records"].startswith(("~/", "/")):
        raise ConfigError(f"{where}: records = {values['records']!r}: must begin with / or ~/")
    named = {name + "_s" if name in REOPTIMIZE_TIMES else name: value for name, value in values.items()}
    return Reoptimize(**{**named, "ledger": values["ledger"] or default_ledger(outlook_file)})


def default_ledger(outlook_file: str) -> str:
    """The ledger if nothing else is said: a file that only its owner may read, in a folder beside the outlook."""
    return "sqlite:///" + os.path.join(os.path.dirname(os.path.abspath(outlook_file)), "ledger", "ledger.sqlite")


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
