"""The outlook: the one file by which the slow plane tells the fast one all that a decision needs.

It holds what the sources expect of each zone's electricity, what Slurm says of the clusters, and the site's policy, so
that placing a job reads one file and asks nobody. It is written whole and renamed into place, and trusted only when it
is complete, in range, and neither stale nor from the future. Format 4, all times in epoch seconds:

    {"format": 4, "generated": T, "max_age_s": ..., "config": {"path": ..., "mtime_ns": ..., "size": ...},
     "policy": {...}, "clusters": {NAME: {...}}, "partitions": [...], "locations": [...],
     "zones": {ZONE: {"start": T, "slot_s": 3600, "mean_g_per_kwh": [...], "source": ..., ...}},
     "prices_g_per_h": {LOCATION: {"cores": [...]}}, "priced": T, "names": [...], "hook": {"mode": ...},
     "reoptimize": {"mode": ..., "records": ...}}

A price is the congestion price of one unit of a resource for an hour, one value a slot of the location's zone, from the
joint plan that was solved at `priced`; a location without one has room. `place.still_due` says what is left of it later.
"""

import os
from itertools import pairwise

from slurm_carbon.errors import OutlookError
from slurm_carbon.intensity import Intensity, Part, Running
from slurm_carbon.light import NamedTuple, json_loads
from slurm_carbon.model import Cluster, Location, NodeShape, Partition, Power
from slurm_carbon.policy import Policy
from slurm_carbon.units import duration_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 4
CLOCK_SKEW_S = 300  # how far ahead the clock of the machine that wrote it may be
MAX_BYTES = 16 << 20
MAX_G_PER_KWH = 5000.0  # oil at its worst is under 1200
RESOURCES = ("cores", "gpus", "nodes", "memory_gb", "power_kw")

Json = dict[str, "Any"]


class Source(NamedTuple):
    """The configuration file that an outlook was made from, as it was then."""

    path: str
    mtime_ns: int
    size: int


class Outlook(NamedTuple):
    """The published state of the world, checked."""

    generated_epoch_s: int
    max_age_s: int
    config: Source
    policy: Policy
    clusters: dict[str, Cluster]
    partitions: dict[tuple[str, str], Partition]
    locations: tuple[Location, ...]
    zones: dict[str, Intensity]
    prices_g_per_h: dict[str, dict[str, list[float]]]
    priced_epoch_s: int = 0  # when the plan was solved that the prices come from
    names: tuple[str, ...] = ()  # all that --carbon-locations may say, also of what does not answer at the moment
    hook: dict[str, str] = {}  # noqa: RUF012  # what the submit hook does: "mode", and by "user:NAME" and the like
    reoptimize: dict[str, str] = {}  # noqa: RUF012  # "mode" and "records", where waiting jobs are planned again

    def location(self, cluster: str, partition: str) -> Location | None:
        """The location of a partition, if the site has made it one."""
        return next((x for x in self.locations if (x.cluster, x.partition) == (cluster, partition)), None)


def read(path: str, now_epoch_s: int) -> Outlook:
    """The outlook in a file. Raises OutlookError, with what is wrong and the path, for any that must not be used."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold up a job
        with open(descriptor, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        hint = "; `slurm-carbon outlook refresh` makes it" if isinstance(error, FileNotFoundError) else ""
        raise OutlookError(f"outlook {path}: {error.strerror}{hint}") from None
    if len(data) > MAX_BYTES:
        raise OutlookError(f"outlook {path}: larger than {MAX_BYTES >> 20} MiB")
    try:
        outlook = decode(json_loads(data.decode()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise OutlookError(f"outlook {path}: broken ({type(error).__name__}: {str(error)[:80]})") from None
    check_age(outlook, now_epoch_s, path)
    return outlook


def check_age(outlook: Outlook, now_epoch_s: int, path: str) -> None:
    """Raise OutlookError for an outlook that is stale or from the future."""
    age_s = now_epoch_s - outlook.generated_epoch_s
    if age_s < -CLOCK_SKEW_S:
        raise OutlookError(f"outlook {path}: {duration_text(-age_s)} in the future")
    if age_s > outlook.max_age_s:
        raise OutlookError(f"outlook {path}: stale, {duration_text(age_s)} old of at most {duration_text(outlook.max_age_s)}")


def with_prices(
    outlook: Outlook, prices_g_per_h: dict[str, dict[str, list[float]]], start_epoch_s: int, slot_s: int, solved_epoch_s: int
) -> Outlook:  # fmt: skip
    """The outlook with the prices of a plan, whose slots may be others than those of the zones: means over time are kept.

    Where the plan says nothing, before its start or after its end, there is no price.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for location in outlook.locations:
        grid = outlook.zones[location.zone]
        edges = [grid.start_epoch_s + slot * grid.slot_s for slot in range(len(grid.mean_g_per_kwh) + 1)]
        for resource, values in prices_g_per_h.get(location.name, {}).items():
            total = Running(0, slot_s, [0.0, *values], 0.0)  # one slot without a price, so that it begins with zero

            def until(epoch_s: int, total: Running = total) -> float:
                return total.at(max(0, epoch_s - start_epoch_s + slot_s))

            means = [max(0.0, until(end) - until(begin)) / grid.slot_s for begin, end in pairwise(edges)]
            if any(means):
                found.setdefault(location.name, {})[resource] = means
    return outlook._replace(prices_g_per_h=found, priced_epoch_s=solved_epoch_s)


def write(outlook: Outlook, path: str) -> None:
    """Publish an outlook: all of it or nothing, readable by all."""
    import json

    from slurm_carbon import atomic

    try:
        text = json.dumps(encode(outlook), separators=(",", ":"), allow_nan=False)
        decode(json.loads(text))  # what would not be read is not published
        if len(text) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MiB: choose a shorter horizon or longer slots")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OutlookError(f"the outlook would be broken, and is not written: {error}") from None
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        atomic.write(path, text.encode(), 0o644)
    except OSError as error:
        raise OutlookError(f"cannot write the outlook {path}: {error.strerror}") from None


# the form in the file


def encode(outlook: Outlook) -> Json:
    """An outlook as JSON values."""
    return {
        "format": FORMAT,
        "generated": outlook.generated_epoch_s,
        "max_age_s": outlook.max_age_s,
        "config": outlook.config._asdict(),
        "policy": outlook.policy._asdict(),
        "clusters": {name: cluster._asdict() for name, cluster in outlook.clusters.items()},
        "partitions": [_encode_partition(p) for p in outlook.partitions.values()],
        "locations": [{**x._asdict(), "power": x.power._asdict()} for x in outlook.locations],
        "zones": {zone: _encode_zone(intensity) for zone, intensity in outlook.zones.items()},
        "prices_g_per_h": outlook.prices_g_per_h,
        "priced": outlook.priced_epoch_s,
        "names": outlook.names,
        "hook": outlook.hook,
        "reoptimize": outlook.reoptimize,
    }


def decode(raw: Json) -> Outlook:
    """An outlook from JSON values. Raises ValueError, TypeError or KeyError for what is not one."""
    if raw["format"] != FORMAT:
        raise ValueError(f"format {raw['format']!r}, this version reads {FORMAT}")
    policy = Policy(**raw["policy"])
    zones = {zone: _decode_zone(zone, values) for zone, values in raw["zones"].items()}
    locations = tuple(Location(x["cluster"], x["partition"], x["zone"], Power(**x["power"])) for x in raw["locations"])
    for location in locations:
        if location.zone not in zones:
            raise ValueError(f"no intensity for zone {location.zone}")
        if not (0 < location.power.pue < 10 and min(location.power) >= 0 and max(location.power) < 1e6):
            raise ValueError(f"power of {location.name} out of range")
    partitions = [_decode_partition(p) for p in raw["partitions"]]
    prices = raw["prices_g_per_h"]
    for location in locations:
        for resource, values in prices.get(location.name, {}).items():
            slots = len(zones[location.zone].mean_g_per_kwh)
            if resource not in RESOURCES or len(values) != slots or not 0 <= min(values) <= max(values) < 1e12:
                raise ValueError(f"price of {resource} at {location.name} out of range")
    return Outlook(
        _seconds(raw["generated"]),
        _seconds(raw["max_age_s"]),
        Source(**raw["config"]),
        policy._replace(opt_out=tuple(policy.opt_out), left_alone=tuple(policy.left_alone)),
        {name: _decode_cluster(values) for name, values in raw["clusters"].items()},
        {(p.cluster, p.name): p for p in partitions},
        locations,
        zones,
        prices,
        _seconds(raw["priced"]),
        tuple(map(str, raw["names"])),
        {str(who): str(mode) for who, mode in raw["hook"].items()},
        {str(name): str(value) for name, value in raw["reoptimize"].items()},
    )


def _seconds(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise ValueError(f"{value!r} is no number of seconds")
    return value


def _encode_zone(intensity: Intensity) -> Json:
    values = intensity._asdict()
    values["start"], values["issued"] = values.pop("start_epoch_s"), values.pop("issued_epoch_s")
    values["parts"] = [list(part) for part in intensity.parts]
    del values["zone"]
    return {name: value for name, value in values.items() if value is not None}


def check_zone(intensity: Intensity) -> None:
    """Raise ValueError for a zone that could not be read back."""
    _decode_zone(intensity.zone, _encode_zone(intensity))


def _decode_zone(zone: str, raw: Json) -> Intensity:
    mean = raw["mean_g_per_kwh"]
    series = [raw[name] for name in ("mean_g_per_kwh", "low_g_per_kwh", "high_g_per_kwh") if name in raw]
    for values in (*series, [raw["beyond_g_per_kwh"]]):
        if not 0 <= min(values) <= max(values) <= MAX_G_PER_KWH:
            raise ValueError(f"intensity of {zone} out of range")
    if any(len(values) > len(mean) for values in series) or len(raw.get("low_g_per_kwh", [])) != len(
        raw.get("high_g_per_kwh", [])
    ):
        raise ValueError(f"quantiles of {zone} do not match")
    slot_s = _seconds(raw["slot_s"])
    if slot_s < 60:
        raise ValueError(f"slots of {slot_s} s")
    captured = raw["captured"]
    if not 0 <= captured <= 1:
        raise ValueError(f"captured {captured!r} is no share")
    words = [raw["source"], raw["accounting"], raw["factors"], raw["captured_by"], *(part[1] for part in raw["parts"])]
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"texts of {zone} are none")
    parts = tuple(Part(_seconds(start), source, _seconds(issued)) for start, source, issued in raw["parts"])
    return Intensity(
        zone, _seconds(raw["start"]), slot_s, mean, raw["beyond_g_per_kwh"], raw["source"], raw["accounting"],
        raw["factors"], _seconds(raw["issued"]), raw.get("low_g_per_kwh"), raw.get("high_g_per_kwh"),
        captured, raw["captured_by"], parts,
    )  # fmt: skip


def _decode_cluster(raw: Json) -> Cluster:
    return Cluster(
        raw["name"],
        raw["filesystem"],
        raw["slurm_conf"],
        tuple((host, port) for host, port in raw["controllers"]),
        tuple((name, count) for name, count in raw["licenses"]),
        raw["federation"],
    )


_SETS = ("allow_groups", "allow_accounts", "deny_accounts", "allow_qos", "deny_qos")


def _encode_partition(partition: Partition) -> Json:
    values = partition._asdict()
    for name in _SETS:
        values[name] = None if values[name] is None else sorted(values[name])
    values["shapes"] = [{**shape._asdict(), "features": sorted(shape.features)} for shape in partition.shapes]
    return values


def _decode_partition(raw: Json) -> Partition:
    values = dict(raw)
    for name in _SETS:
        values[name] = None if values[name] is None else frozenset(values[name])
    values["shapes"] = tuple(
        NodeShape(
            shape["nodes"],
            shape["cpus"],
            shape["memory_mb"],
            frozenset(shape["features"]),
            tuple((name, count) for name, count in shape["gres"]),
        )
        for shape in raw["shapes"]
    )
    return Partition(**values)
