"""The outlook as the submit hook reads it: one Lua table of plain data, beside the JSON.

slurmctld holds its locks while the hook runs, so the form is made for a fast and suspicious reader in Lua 5.1: a first line
that says what it is, how old and how long; then a table without a single name, call or escape in it; each series as one text
of numbers. `etc/lua/slurm_carbon/outlook.lua` is the reader, and has the ranges.
"""

import os
import stat
import zlib

from slurm_carbon import atomic
from slurm_carbon.errors import OutlookError
from slurm_carbon.outlook import RESOURCES, Outlook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

FORMAT = 1
MAX_BYTES = 4 << 20
FILE = "outlook.lua"


def folder_of(outlook_path: str) -> str:
    """The folder of the hook beside an outlook: `slurm-carbon hook install` makes it, and who may open what is in it."""
    return os.path.join(os.path.dirname(os.path.abspath(outlook_path)), "hook")


def is_installed(outlook_path: str) -> bool:
    """Whether a hook is installed that reads the outlook at this path."""
    return os.path.isdir(folder_of(outlook_path))


def publish(outlook: Outlook, outlook_path: str) -> None:
    """Write the Lua form, all of it or nothing. Raises OutlookError.

    The hook opens it for reading and writing, the one way of opening that never waits: so the group of the folder, which is
    SlurmUser's, may write. Nobody can gain by that what SlurmUser could not do anyway.
    """
    folder = folder_of(outlook_path)
    data = text(outlook).encode()
    if len(data) > MAX_BYTES:
        raise OutlookError(f"{folder}: larger than {MAX_BYTES >> 20} MiB: choose a shorter horizon or longer slots")
    try:
        shared = os.stat(folder).st_mode & stat.S_ISGID  # the group is the one that installing has given the folder
        atomic.write(os.path.join(folder, FILE), data, 0o664 if shared else 0o644)
    except OSError as error:
        raise OutlookError(f"cannot write the hook's outlook in {folder}: {error.strerror}") from None


def text(outlook: Outlook) -> str:
    """The whole file."""
    body = lua(_values(outlook)) + "\n"
    first = "-- slurm-carbon outlook {} {} {:010} {:08x}\n"
    size = len(first.format(FORMAT, outlook.generated_epoch_s, 0, 0)) + len(body.encode())
    return first.format(FORMAT, outlook.generated_epoch_s, size, zlib.crc32(body.encode())) + body


def _values(outlook: Outlook) -> "dict[str, Any]":
    zones = {
        name: {
            "start": zone.start_epoch_s, "slot_s": zone.slot_s, "mean": _series(zone.mean_g_per_kwh),
            "beyond": zone.beyond_g_per_kwh, "captured": zone.captured, "accounting": zone.accounting,
            "factors": zone.factors, "source": zone.source, "issued": zone.issued_epoch_s,
        }
        for name, zone in outlook.zones.items()
    }  # fmt: skip
    locations = []
    for location in outlook.locations:
        prices = outlook.prices_g_per_h.get(location.name, {})
        locations.append(
            {"cluster": location.cluster, "partition": location.partition, "zone": location.zone, **location.power._asdict()}
            | {resource: _series(prices[resource]) for resource in RESOURCES if any(prices.get(resource, []))}
        )
    partitions = []
    for partition in outlook.partitions.values():
        shapes = [
            {"nodes": s.nodes, "cpus": s.cpus, "memory_mb": s.memory_mb, "features": s.features, "gres": _pairs(s.gres)}
            for s in partition.shapes
        ]
        partitions.append({**partition._asdict(), "shapes": shapes})
    return {
        "generated": outlook.generated_epoch_s,
        "max_age_s": outlook.max_age_s,
        "policy": outlook.policy._asdict(),
        "hook": {who: mode for who, mode in outlook.hook.items() if who != "client_moves"},
        "client_moves": outlook.hook.get("client_moves") == "yes",
        "clusters": {
            name: {"filesystem": c.filesystem, "federation": c.federation, "licenses": _pairs(c.licenses)}
            for name, c in outlook.clusters.items()
        },
        "partitions": partitions,
        "locations": locations,
        "zones": zones,
        "names": outlook.names,
    }


def _series(values: "Iterable[float]") -> str:
    return " ".join(repr(float(value)) for value in values)


def _pairs(counts: "Iterable[tuple[str, int]]") -> "list[str | int]":
    return [item for pair in counts for item in pair]


def plain(text: str) -> str:
    """A text in quotes; what could end it, or its line, as a question mark: there is no escape in the file."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else "?" for c in text) + '"'


def lua(value: "Any", quoted: "Callable[[str], str]" = plain) -> str:
    """A value in Lua's notation; what is None is left out of its table, a set becomes a sorted list."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return quoted(value)
    if hasattr(value, "items"):
        items = [f"[{lua(name, quoted)}]={lua(item, quoted)}" for name, item in value.items() if item is not None]
    else:
        items = [lua(item, quoted) for item in (sorted(value) if isinstance(value, frozenset) else value)]
    return "{" + ",".join(items) + "}"
