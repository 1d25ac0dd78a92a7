"""Small worlds for the unit tests: two clusters, alpha in a dirty zone and beta in a clean one."""

from __future__ import annotations

from typing import Any

from slurm_carbon.intensity import Intensity
from slurm_carbon.model import Cluster, Location, NodeShape, Owner, Partition, Power
from slurm_carbon.outlook import Outlook, Source
from slurm_carbon.policy import Policy

NOW = 1_795_000_000
HOURS = 72
POWER = Power(watts_per_core=10.0, watts_per_gpu=200.0, watts_per_gb=0.4, pue=1.5)
SHAPE = NodeShape(4, 16, 64000, frozenset({"old"}), (("gpu:a100", 2),))
OWNER = Owner("user1", frozenset({"users"}))


def intensity(zone: str, *values: float, **changes: Any) -> Intensity:
    """A zone's series from NOW on; one value stands for all hours."""
    mean = list(values) if len(values) > 1 else [values[0]] * HOURS
    series = Intensity(zone, NOW, 3600, mean, mean[-1], "test", "production", "lifecycle", NOW)
    return series._replace(**changes)


def partition(cluster: str, name: str = "batch", **changes: Any) -> Partition:
    """An open partition of four nodes, the default of its cluster."""
    return Partition(name, cluster, is_default=name == "batch", default_time_s=3600, shapes=(SHAPE,))._replace(**changes)


def outlook(
    dirty: list[float] | None = None,
    clean: list[float] | None = None,
    partitions: list[Partition] | None = None,
    **policy: Any,
) -> Outlook:
    """Two clusters that share files, alpha in zone D and beta in zone C."""
    parts = partitions or [partition("alpha"), partition("beta")]
    return Outlook(
        NOW,
        6 * 3600,
        Source("/etc/x.toml", 1, 1),
        Policy(**policy),
        {name: Cluster(name, "home", "", (("127.0.0.1", 1),), (("matlab", 4),)) for name in ("alpha", "beta")},
        {(p.cluster, p.name): p for p in parts},
        tuple(Location(p.cluster, p.name, "D" if p.cluster == "alpha" else "C", POWER) for p in parts),
        {"D": intensity("D", *(dirty or [400.0])), "C": intensity("C", *(clean or [100.0]))},
        {},
    )
