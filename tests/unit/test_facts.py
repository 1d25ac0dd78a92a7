"""What Slurm says of its clusters, from recorded answers of each version."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_carbon import publish, refresh
from slurm_carbon.config import Config, Place, Site, parse
from slurm_carbon.errors import CommandError, OutlookError
from slurm_carbon.model import NodeShape, Power
from slurm_carbon.outlook import Source
from slurm_carbon.propose import propose
from slurm_carbon.slurm import facts, recorded
from slurm_carbon.slurm.command import Completed, FakeRunner

FIXTURES = Path(__file__).parent.parent / "fixtures"
RECORDED = sorted(FIXTURES.glob("facts-*.json"))
NOW = 1_795_000_000


@pytest.mark.parametrize("file", RECORDED, ids=lambda f: f.stem)
def test_recorded_clusters(file: Path) -> None:
    """Partitions with their limits, nodes by shape with their GPUs, licences, controllers: in every version."""
    found = facts.read(recorded.player(str(file)), "alpha", "", "home")
    assert found.version.startswith(file.stem.removeprefix("facts-"))
    parts = {p.name: p for p in found.partitions}
    assert (parts["batch"].is_default, parts["batch"].max_time_s) == (True, 7 * 86400)
    assert sum(shape.nodes for shape in parts["batch"].shapes) == 4
    assert {(s.cpus, s.memory_mb) for s in parts["batch"].shapes} == {(16, 64000)}
    assert found.cluster.controllers[0][0] == "127.0.0.1"


def test_limits_gpus_and_licences() -> None:
    """What the clusters of scripts/cluster have of each."""
    found = facts.read(recorded.player(str(FIXTURES / "facts-22.05.json")), "alpha", "", "home")
    batch, gpu, short = sorted(found.partitions, key=lambda p: p.name)
    assert (batch.default_time_s, short.max_time_s) == (3600, 4 * 3600)
    assert gpu.shapes == (NodeShape(1, 16, 64000, frozenset({"new", "alpha"}), (("gpu:a100", 2),)),)
    assert found.cluster.licenses == (("matlab", 4),)


def test_wrong_cluster_is_not_believed() -> None:
    """A slurm_conf that leads to another cluster is an error, not a fact."""
    texts = [recorded.player(str(RECORDED[0])).by_why[f"{w} of alpha"].stdout.decode() for w in facts.SHOWN]
    with pytest.raises(CommandError, match="asked cluster gamma, and alpha answered"):
        facts.parse("gamma", "", "", *texts)


@pytest.mark.parametrize(
    ("state", "counts"),
    [("IDLE", 1), ("MIXED+PLANNED", 1), ("ALLOCATED", 1), ("IDLE+POWERED_DOWN", 1), ("IDLE+DRAIN", 0), ("DOWN*", 0),
     ("IDLE*", 0), ("DOWN+NOT_RESPONDING", 0), ("IDLE+CLOUD+POWERING_DOWN", 1), ("FUTURE", 0)],
)  # fmt: skip
def test_nodes_out_of_service_do_not_count(state: str, counts: int) -> None:
    """A node that is down or drained runs nothing; one that merely sleeps is woken by Slurm."""
    node = f"NodeName=n1 CPUTot=4 RealMemory=100 AvailableFeatures=(null) Gres=(null) State={state} Partitions=p\n"
    found = facts.parse("a", "", "", "ClusterName = a\n", "PartitionName=p State=UP\n", node, "No licenses\n", "")
    assert len(found.partitions[0].shapes) == counts


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu:2", (("gpu", 2),)),
        ("gpu:a100:4(S:0,1)", (("gpu:a100", 4),)),
        ("gpu:h100:8(S:0-1),shard:h100:32", (("gpu:h100", 8), ("shard:h100", 32))),
    ],
)
def test_gres_with_sockets(gres: str, expected: tuple[tuple[str, int], ...]) -> None:
    """The sockets behind a GRES are not part of its count."""
    node = f"NodeName=n1 CPUTot=4 RealMemory=100 Gres={gres} State=IDLE Partitions=p\n"
    found = facts.parse("a", "", "", "ClusterName = a\n", "PartitionName=p\n", node, "", "")
    assert found.partitions[0].shapes[0].gres == expected


def site(name: str = "alpha") -> Config:
    """A configuration of one or two clusters."""
    places = (Place("batch", "DE", Power(10, 200, 0.4, 1.5)),)
    zones = parse({"zones": {"DE": {}}}, Source("x", 0, 0)).zones
    return parse({}, Source("x", 0, 0))._replace(zones=zones, sites=(Site(name, "", "home", places),))


def test_an_unreachable_cluster_is_left_out_and_said() -> None:
    """The outlook is made of those that answer."""
    config = site()
    both = config._replace(sites=(*config.sites, site("gone").sites[0]))
    outlook, problems = refresh.outlook(both, NOW, recorded.player(str(RECORDED[0])))
    assert [x.name for x in outlook.locations] == ["alpha/batch"]
    assert any("gone" in problem for problem in problems)


def test_no_cluster_at_all_makes_no_outlook_for_a_submission() -> None:
    """Where nothing answers, csbatch is told so instead of being given an empty world."""
    with pytest.raises(OutlookError, match="none can be made"):
        publish.on_climatology(site("gone"), NOW, FakeRunner({}))


def test_proposal_names_open_partitions_and_reads_back() -> None:
    """`config init` makes a configuration of what is there."""
    player = recorded.player(str(RECORDED[0]))
    player.by_why["which clusters there are"] = Completed(0, b"alpha\nbeta\n", b"")
    config = propose(player, {"alpha": "DE", "": "GB"}, {}, "home")
    assert [(s.name, [p.partition for p in s.places], s.places[0].zone) for s in config.sites] == [
        ("alpha", ["batch", "short", "gpu"], "DE"),
        ("beta", ["batch", "short", "gpu"], "GB"),
    ]
