"""What a job asks for, out of the texts that Slurm has for it: the same for columns, JSON and pyslurm.

What Slurm itself prints (numbers, times, states) is read strictly: a form that is not known refuses the whole reading, so
that nothing is decided on a guess. What users write is text, and nothing that they write can make a reading fail.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from slurm_carbon.errors import CommandError
from slurm_carbon.units import memory_mb, slurm_duration_s

# a job in one of these needs nothing any more; one that is still COMPLETING has its nodes
OVER = frozenset(
    (
        *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY"),
        *("LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED"),
    )
)
WAITING = frozenset(["PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"])
TOO_LONG = "INVALID"  # what squeue prints for a time limit of more than a year
_TASKS = re.compile(r"(\d+(?:-\d+(?::\d+)?)?(?:,\d+(?:-\d+(?::\d+)?)?)*)(?:%(\d+))?")
_COUNT = re.compile(r"(\d+)([kKmMgG]?)")
_FACTOR = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_NO_GRES = frozenset(["cpu", "mem", "energy", "node", "billing", "vmem", "pages", "none"])
_MANY = 1 << 14  # different requests in one queue; beyond that they are read again


class FormError(CommandError):
    """An answer of Slurm in a form that is not known: another way of asking may do."""


class Tasks(NamedTuple):
    """The tasks of an array that stand in one record."""

    which: str  # 0-9, or 3,5-7; no throttle
    number: int
    throttle: int  # how many may run at a time; 0: all


class Asked(NamedTuple):
    """What a job asks for, or has."""

    nodes: int
    memory_mb: float | None  # over all nodes, as Slurm counts it
    gpus: int  # over all nodes
    gpu_type: str
    gres_per_node: tuple[tuple[str, int], ...]


@lru_cache(_MANY)
def tasks(text: str) -> Tasks:
    """The tasks of `0-9%2`, `1-99:7` or `3`. Raises FormError, for a list that was cut short too.

    Steps are written out: squeue prints them, and scontrol does not take them.
    """
    found = _TASKS.fullmatch(text)
    if not found:
        raise FormError(f"{text[:40]!r} is no list of array tasks")
    parts: list[str] = []
    count = 0
    for part in found[1].split(","):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        each = range(int(first), int(last or first) + 1, max(1, int(step or 1)))
        count += len(each)
        parts += [str(task) for task in each] if each.step > 1 else [bounds]
    return Tasks(",".join(parts), count, int(found[2] or 0))


@lru_cache(_MANY)
def asked(
    tres: str, per_job: str, per_node: str, per_task: str, per_socket: str, sockets: int, nodes: int, tasks: int
) -> Asked:
    """What a job asks for: `tres` is what Slurm counts (cpu=4,mem=8G,node=2), the others are the request's own words.

    Of a range of nodes Slurm counts the least, while other fields show the most: what it counts is believed. GPUs are in
    there only where the site accounts for them, so they are taken from the request otherwise.
    """
    counted = dict(item.rpartition("=")[::2] for item in tres.split(",") if "=" in item)
    least = int(counted["node"]) if counted.get("node", "").isdigit() else nodes
    of_node = gres(per_node)
    words = (
        (gres(per_job), 1),
        (of_node, least),
        (gres(per_task), tasks),
        (gres(per_socket), sockets * least),
    )
    every = [(name, count * times) for found, times in words for name, count in found if name.split(":")[0] == "gpu"]
    accounted = [(name, count) for name, count in gres(tres) if name.split(":")[0] == "gpu"]
    if accounted:
        plain = sum(count for name, count in accounted if name == "gpu")
        gpus = plain or sum(count for _, count in accounted)
    else:  # several of these together say the same thing in other words: --gpus=4 --gpus-per-node=2
        gpus = max((sum(count * times for name, count in found if name.split(":")[0] == "gpu") for found, times in words))
    gpu_type = next((name[4:] for name, _ in (*every, *accounted) if name.startswith("gpu:")), "")
    return Asked(least, _megabytes(counted.get("mem", "")), gpus, gpu_type, of_node)


def gres(text: str) -> tuple[tuple[str, int], ...]:
    """Name (with type) and count of each GRES in `gres:gpu:a100:2`, `gres/gpu=1,cpu=3` or `gpu:2`; never raises."""
    found = []
    for item in text.split(","):
        name = item.partition("(")[0]
        is_gres = name.startswith(("gres:", "gres/"))
        name = name[5:] if is_gres else name
        if not name or (not is_gres and ("=" in name or "/" in name or name.split(":")[0] in _NO_GRES)):
            continue
        head, _, last = name.rpartition("=" if "=" in name else ":")
        number = _COUNT.fullmatch(last) if head else None
        found.append((head, int(number[1]) * _FACTOR[number[2].lower()]) if number else (name, 1))
    return tuple(found)


def memory(least_mb: float, asked: Asked, cpus: int, counts: bool) -> tuple[float | None, float | None]:
    """MB for each node, or for each CPU, of a `MinMemory` that does not say which: what Slurm counts in all does.

    0 is all that a node has; where memory is no resource (`counts` is false) it is nothing at all.
    """
    if not least_mb:
        return (0.0 if counts else None), None
    if asked.memory_mb is not None and cpus != asked.nodes:
        by_cpu, by_node = (abs(asked.memory_mb - least_mb * times) for times in (cpus, asked.nodes))
        if by_cpu < by_node:
            return None, least_mb
    return least_mb, None


@lru_cache(_MANY)
def seconds(text: str) -> int | None:
    """Seconds of a time limit as squeue prints it; None: without end, or TOO_LONG. Raises FormError."""
    if text in ("UNLIMITED", TOO_LONG, "NOT_SET", "N/A"):
        return None
    try:
        return slurm_duration_s(text)
    except ValueError:
        raise FormError(f"{text[:40]!r} is no time limit") from None


def moment(text: str) -> int | None:
    """Epoch seconds of a time that was asked for in them; None where there is none. Raises FormError."""
    if text in ("N/A", "NONE", "Unknown", "None", "0", ""):
        return None
    return number(text)


def siblings(active: str, viable: str) -> tuple[str, ...]:
    """The clusters of a federation that have a copy of a job; only where it was submitted Slurm knows which still do."""
    return tuple(name for name in (active or viable).split(",") if name)


def text(given: str) -> str:
    """What a user wrote. One who writes `(null)` has written nothing: squeue prints that where there is no text."""
    return "" if given == "(null)" else given


def number(text: str) -> int:
    """A whole number. Raises FormError."""
    if not (text.isascii() and text.isdigit()):
        raise FormError(f"{text[:40]!r} is no number")
    return int(text)


@lru_cache(_MANY)
def megabytes(text: str) -> float:
    """MB of a memory amount as squeue prints it. Raises FormError."""
    found = _megabytes(text)
    if found is None:
        raise FormError(f"{text[:40]!r} is no amount of memory")
    return found


def _megabytes(text: str) -> float | None:
    try:
        return memory_mb(text[:-1]) * 1024**3 if text.endswith("P") else memory_mb(text)
    except ValueError:
        return None
