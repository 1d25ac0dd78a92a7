"""Random outlooks and jobs, with everything in them that the rules look at, and their form in Lua."""

from __future__ import annotations

from random import Random
from typing import Any

from slurm_carbon.intensity import Intensity
from slurm_carbon.luaform import lua
from slurm_carbon.model import Cluster, Job, Location, NodeShape, Owner, Partition, Power, Wishes
from slurm_carbon.outlook import RESOURCES, Outlook, Source
from slurm_carbon.policy import Policy

NOW = 1_795_000_000
CLUSTERS = ("alpha", "beta", "gamma")
PARTITIONS = ("batch", "short", "gpu")
ACCOUNTS = ("lab", "guest", "physics")
QOSES = ("normal", "high", "low")
GROUPS = ("users", "staff", "chem")
FEATURES = ("old", "new", "ib")


def some(rng: Random, items: tuple[str, ...], at_least: int = 0) -> frozenset[str]:
    """A random subset."""
    return frozenset(rng.sample(items, rng.randint(at_least, len(items))))


def maybe(rng: Random, share: float, value: Any, otherwise: Any = None) -> Any:
    """A value in that share of the cases."""
    return value if rng.random() < share else otherwise


def outlook(rng: Random) -> Outlook:
    """Up to three clusters with up to three partitions, in up to three zones."""
    zones = {name: zone(rng, name) for name in ("D", "C", "F")}
    clusters, partitions, locations = {}, {}, []
    filesystems = maybe(rng, 0.85, ("home",), ("home", "", "scratch"))
    for cluster in CLUSTERS[: rng.choice([1, 2, 3, 3, 3, 3])]:
        licenses = tuple((name, rng.randint(0, 3)) for name in ("matlab", "ansys") if rng.random() < 0.7)
        federation = maybe(rng, 0.5, "fed", "")
        clusters[cluster] = Cluster(cluster, rng.choice(filesystems), "", (), licenses, federation)
        for name in PARTITIONS[: rng.choice([1, 2, 3, 3])]:
            partitions[cluster, name] = partition(rng, cluster, name)
            if rng.random() < 0.98:
                power = Power(rng.choice([0.0, 2.5, 10.8]), rng.choice([100.0, 300.0]), 0.3725, rng.choice([1.0, 1.25, 1.56]))
                locations.append(Location(cluster, name, rng.choice(list(zones)), power))
    if rng.random() < 0.05 and locations:
        del partitions[locations[0].cluster, locations[0].partition]
    prices = {}
    for location in locations:
        if rng.random() < 0.3:
            slots = len(zones[location.zone].mean_g_per_kwh)
            prices[location.name] = {
                resource: [maybe(rng, 0.6, rng.uniform(0, 9), 0.0) for _ in range(slots)]
                for resource in rng.sample(RESOURCES, rng.randint(1, 3))
            }
    policy = Policy(
        max_delay_s=rng.choice([0, 3600, 43200, 86400, 86400, 172800]),
        max_delay_limit_s=rng.choice([86400, 604800]),
        min_saving_pct=rng.choice([0.0, 1.0, 5.0, 5.0, 20.0]),
        min_saving_g=rng.choice([0.0, 1.0, 1.0, 50.0]),
        delay_g_per_h=maybe(rng, 0.3, rng.choice([0.01, 0.5, 4.0]), 0.0),
        move_clusters=rng.random() < 0.8,
        move_partitions=rng.random() < 0.8,
        left_alone=maybe(rng, 0.1, (rng.choice(["user:user1", "account:lab", "partition:batch", "qos:high"]),), ()),
    )
    return Outlook(
        NOW - rng.randint(0, 3600), 6 * 3600, Source("/etc/x.toml", 1, 1), policy, clusters, partitions, tuple(locations),
        zones, prices, NOW - 600, (), {"mode": "enforce"},
    )  # fmt: skip


def zone(rng: Random, name: str) -> Intensity:
    """A series: constant, stepped, periodic or wild, of round numbers or of others."""
    slot_s = rng.choice([900, 1800, 3600])
    slots = rng.choice([5, 24, 96, 168, 168])
    shape = rng.choice(["flat", "steps", "wave", "wave", "wild"])
    base = rng.choice([50.0, 400.0])
    if shape == "flat":
        mean = [base] * slots
    elif shape == "steps":
        mean = [base + 10.0 * rng.randint(-4, 4) for _ in range(slots)]
    elif shape == "wave":
        mean = [base + 20.0 * ((i * slot_s // 3600) % 24) for i in range(slots)]
    else:
        mean = [rng.uniform(0, 600) for _ in range(slots)]
    start = NOW - NOW % slot_s - slot_s * rng.choice([0, 0, 1, 3]) + maybe(rng, 0.1, rng.randint(-900, 900), 0)
    return Intensity(
        name, start, slot_s, mean, rng.choice([mean[-1], sum(mean) / slots]), "test", "production",
        maybe(rng, 0.9, "lifecycle", "direct"), NOW - 3600, captured=rng.choice([1.0, 1.0, 1.0, 0.77, 0.0]),
    )  # fmt: skip


def partition(rng: Random, cluster: str, name: str) -> Partition:
    """A partition with every kind of limit, now and then."""
    shapes = tuple(
        NodeShape(
            rng.choice([1, 4, 8]), rng.choice([16, 64]), rng.choice([16000, 64000, 61000]), some(rng, FEATURES),
            maybe(rng, 0.4, (("gpu:a100", rng.randint(1, 4)), ("shard", 8)), maybe(rng, 0.3, (("gpu", 2),), ())),
        )
        for _ in range(rng.choice([0, 1, 1, 2, 2, 2, 3]))
    )  # fmt: skip
    return Partition(
        name, cluster, up=rng.random() < 0.98, is_default=name == "batch",
        default_time_s=maybe(rng, 0.95, rng.choice([3600, 3600, 1800])),
        max_time_s=maybe(rng, 0.3, rng.choice([7200, 86400])), min_nodes=maybe(rng, 0.1, 2, 0), max_nodes=maybe(rng, 0.3, 4),
        root_only=rng.random() < 0.02, needs_reservation=rng.random() < 0.02, whole_nodes=rng.random() < 0.1,
        default_mb_per_cpu=maybe(rng, 0.3, rng.choice([0, 2000])), default_mb_per_node=maybe(rng, 0.2, rng.choice([0, 8000])),
        allow_groups=maybe(rng, 0.05, some(rng, GROUPS)), allow_accounts=maybe(rng, 0.05, some(rng, ACCOUNTS)),
        deny_accounts=maybe(rng, 0.05, some(rng, ACCOUNTS), frozenset()), allow_qos=maybe(rng, 0.05, some(rng, QOSES)),
        deny_qos=maybe(rng, 0.05, some(rng, QOSES), frozenset()), shapes=shapes,
    )  # fmt: skip


def job(rng: Random) -> Job:
    """A job; most of them ask for little."""
    nodes = rng.choice([1, 1, 1, 1, 2, 4])
    array = maybe(rng, 0.2, rng.randint(2, 300), 1)
    together = min(array, maybe(rng, 0.4, rng.randint(1, 20), array))
    gpus = maybe(rng, 0.08, rng.randint(1, 4) * nodes, 0)
    return Job(
        time_limit_s=maybe(rng, 0.85, rng.choice([60, 600, 1800, 3600, 5400, 7200, 36000, 86400, rng.randint(60, 200000)])),
        unlimited=rng.random() < 0.03, array_tasks=together, array_waves=-(-array // together), nodes=nodes,
        max_nodes=maybe(rng, 0.5, nodes), cpus=max(nodes, rng.choice([1, 1, 1, 2, 4, 16, 40])), gpus=gpus,
        gpu_type=maybe(rng, 0.3, "a100", ""), memory_mb_per_node=maybe(rng, 0.25, rng.choice([0.0, 1000.0, 4000.0, 64000.0])),
        memory_mb_per_cpu=maybe(rng, 0.2, rng.choice([500.0, 4096.0])), exclusive=rng.random() < 0.1,
        gres_per_node=maybe(rng, 0.06, (rng.choice([("gpu", 1), ("gpu:a100", 2), ("shard", 4)]),), ()),
        licenses=maybe(rng, 0.06, (("matlab", rng.randint(1, 4)),), ()), features=maybe(rng, 0.08, (rng.choice(FEATURES),), ()),
        clusters=maybe(rng, 0.1, (rng.choice(CLUSTERS),), ()), partitions=maybe(rng, 0.12, (rng.choice(PARTITIONS),), ()),
        account=maybe(rng, 0.7, rng.choice(ACCOUNTS), ""), qos=maybe(rng, 0.4, rng.choice(QOSES), ""),
        fixed=maybe(rng, 0.03, "--begin was given", ""), tied=maybe(rng, 0.1, "--nodelist was given", ""),
    )  # fmt: skip


def owner(rng: Random) -> Owner:
    """Somebody."""
    return Owner(rng.choice(["user1", "user2"]), some(rng, GROUPS), rng.random() < 0.05)


def wishes(rng: Random) -> Wishes:
    """What he wants; most say nothing."""
    return Wishes(
        max_delay_s=maybe(rng, 0.2, rng.choice([0, 1800, 21600, 999999])),
        finish_by_epoch_s=maybe(rng, 0.15, NOW + rng.randint(0, 200000)),
        locations=maybe(rng, 0.1, (rng.choice(["alpha", "alpha/batch", "D", "C", "nowhere"]),)),
        off=maybe(rng, 0.03, True),
    )


# in Lua


def job_in_lua(value: Job) -> str:
    """A job as the Lua twin takes it."""
    return lua(value._asdict())


def owner_in_lua(value: Owner) -> str:
    """An owner as the Lua twin takes it."""
    return lua({"name": value.name, "is_root": value.is_root, "groups": dict.fromkeys(value.groups, True)})


def wishes_in_lua(value: Wishes) -> str:
    """Wishes as the Lua twin takes them."""
    return lua(
        {"max_delay_s": value.max_delay_s, "finish_by": value.finish_by_epoch_s, "locations": value.locations, "off": value.off}
    )
