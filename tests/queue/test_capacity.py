"""Nodes and reservations out of what scontrol prints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_carbon.errors import CommandError
from slurm_carbon.queued import Reservation
from slurm_carbon.slurm import capacity
from slurm_carbon.slurm.command import Completed, FakeRunner

DAY_S = 86400


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("alpha[0-2]", "alpha0 alpha1 alpha2"),
        ("n[008-011,7]x,login", "n008x n009x n010x n011x n7x login"),
        ("r[1-2]n[01-02]", "r1n01 r1n02 r2n01 r2n02"),
        ("a,b", "a b"),
        ("(null)", ""),
        ("", ""),
    ],
)
def test_lists_of_nodes(text: str, names: str) -> None:
    """As Slurm writes them: ranges with and without leading zeros, more than one in a name."""
    assert list(capacity.node_names(text)) == names.split()


@given(st.lists(st.integers(0, 500), min_size=1, unique=True), st.integers(1, 4))
def test_each_node_of_a_list_is_named_once(numbers: list[int], width: int) -> None:
    """Whatever numbers stand in the brackets."""
    inside = ",".join(str(n).zfill(width) for n in numbers)
    assert list(capacity.node_names(f"n[{inside}]")) == [f"n{n:0{width}}" for n in numbers]


@pytest.mark.parametrize("text", ["n[0-999999999]", "n[0-999][0-999]", "n[a-b]"])
def test_a_list_without_end_is_refused(text: str) -> None:
    """It must not eat the memory."""
    with pytest.raises(CommandError):
        list(capacity.node_names(text))


def row(**fields: str) -> str:
    """A reservation as scontrol prints it."""
    words = {"ReservationName": "r", "StartTime": "1000", "EndTime": "4600", "Nodes": "n[1-2]", "Flags": "SPEC_NODES"} | fields
    return " ".join(f"{name}={value}" for name, value in words.items()) + "\n"


def test_reservations_that_come_again() -> None:
    """Of each of the next two weeks; of weekdays none on a weekend."""
    week = capacity.reservations(row(Flags="WEEKLY"))
    assert [r.start_epoch_s for r in week] == [1000, 1000 + 7 * DAY_S]
    days = [(r.start_epoch_s - 1000) // DAY_S for r in capacity.reservations(row(Flags="WEEKDAY"))]
    assert days == [0, 1, 4, 5, 6, 7, 8, 11, 12, 13]  # the epoch was a Thursday
    assert all(r.end_epoch_s - r.start_epoch_s == 3600 for r in week)


def test_reservations_of_no_nodes_and_without_end() -> None:
    """Licences keep no node; one without an end keeps its nodes for good."""
    assert capacity.reservations(row(Nodes="(null)", Flags="ANY_NODES")) == ()
    assert capacity.reservations("No reservations in the system\n") == ()
    (found,) = capacity.reservations(row(EndTime="Unknown"))
    assert found == Reservation("r", 1000, capacity.FOR_EVER_EPOCH_S, frozenset(["n1", "n2"]))


def test_nodes() -> None:
    """Memory and CPUs that Slurm keeps for itself are not there to be had; GPUs by type."""
    text = (
        "NodeName=g1 CPUEfctv=60 CPUTot=64 AvailableFeatures=a Gres=gpu:h100:8(S:0-1),shard:h100:32 RealMemory=512000 "
        "MemSpecLimit=12000 State=MIXED+PLANNED Partitions=gpu,all Comment=x\n"
        "NodeName=old CPUTot=4 Gres=(null) RealMemory=100 State=IDLE*  Reason=a=b c NodeName=evil State=IDLE\n"
    )
    first, second = capacity.nodes(text)
    assert first == ("g1", 60, 500_000, 8, "h100", ("gpu", "all"), True)
    assert second == ("old", 4, 100, 0, "", (), False)


def test_a_controller_that_does_not_answer() -> None:
    """Says which cluster, and what Slurm said."""
    runner = FakeRunner({("scontrol",): Completed(1, b"", b"Unable to contact slurm controller (connect failure)\n")})
    with pytest.raises(CommandError, match="cluster beta: config of beta: Unable to contact"):
        capacity.read_settings(runner, "beta", "")
    with pytest.raises(CommandError, match="cluster beta: node of beta: Unable to contact"):
        capacity.read(runner, "beta", "")
