"""What is free slot by slot, and when jobs would start as things stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_carbon.model import Job
from slurm_carbon.planning.problem import Floats
from slurm_carbon.queued import Node, Queue, QueuedJob, Reservation
from slurm_carbon.reoptimize.room import ABOUT_TO_START, Room, first_fit, furnish
from slurm_carbon.reoptimize.standing import Rules, Standing, standings
from slurm_carbon.reoptimize.totals import Totals, on_slots
from tests.reoptimize.factory import DAY, GROUPS, HOUR, NOW, intensity, job, marked, nodes, outlook, partition, queue

SHARED = [partition("alpha"), partition("alpha", "debug"), partition("alpha", "gpu"), partition("beta")]


def room_of(*queues: Queue, world: Any = None, rules: Rules | None = None, now: int = NOW) -> tuple[Room, list[Standing]]:
    """The room in these clusters, and how their jobs stand."""
    world, rules = world or outlook(), rules or Rules()
    found = standings(queues, {}, world, GROUPS, rules, now)
    return furnish(queues, found, world, rules, now, DAY)


def cores(room: Room, pool: str = "cores alpha/batch") -> Floats:
    """What is free of a pool."""
    return room.places.capacity[room.places.pool_names.index(pool)]


def running(number: int, end: int | None, **changes: Any) -> QueuedJob:
    """A job that holds four cores until then."""
    return job(number, state="RUNNING", start_epoch_s=NOW - HOUR, end_epoch_s=end, **changes)


def test_running_jobs_hold_their_cores_until_their_limit_ends_them() -> None:
    """Of 64 cores; a job without an end holds them for ever, one on a reservation those of its reservation."""
    room, _ = room_of(queue(running(1, NOW + 2 * HOUR), running(2, None), running(3, NOW + HOUR, reservation="r")))
    assert cores(room)[:4].tolist() == [56, 56, 60, 60]
    assert cores(room)[-1] == 60


def test_nodes_out_of_service_and_reserved_ones_offer_nothing() -> None:
    """A reservation counts while it lasts, and as soon as it touches a slot."""
    some = (*nodes(count=3), Node("down", 16, 64000, partitions=("batch",), in_service=False))
    kept = Reservation("maint", NOW + 90 * 60, NOW + 4 * HOUR, frozenset({"alpha0", "alpha1", "down"}))
    room, _ = room_of(queue(nodes=some, reservations=(kept,)))
    assert cores(room)[:6].tolist() == [48, 16, 16, 16, 48, 48]


def test_nodes_of_several_partitions_are_one_pool() -> None:
    """Debug is a part of batch; gpu shares one node with it: no core is given away twice."""
    some = (
        Node("n1", 16, 64000, partitions=("batch", "debug")), Node("n2", 16, 64000, partitions=("batch",)),
        Node("n3", 16, 64000, 4, "a100", ("batch", "gpu")), Node("n4", 16, 64000, 4, "a100", ("gpu",)),
    )  # fmt: skip
    of_debug = running(1, NOW + 2 * HOUR, partition="debug")
    of_gpu = running(2, NOW + 2 * HOUR, partition="gpu", gpus=1)
    room, _ = room_of(queue(of_debug, of_gpu, nodes=some), world=outlook(partitions=SHARED))
    assert cores(room, "cores alpha/debug")[0] == 12
    assert cores(room, "cores alpha/batch+debug")[0] == 44
    assert cores(room, "cores alpha/gpu")[0] == 28
    assert cores(room, "cores alpha/batch+debug+gpu")[0] == 56
    assert cores(room, "gpus alpha/gpu")[0] == 7


def test_the_types_of_gpus_are_told_apart() -> None:
    """Who names a type takes one of it, who names none any."""
    some = (Node("n1", 16, 64000, 2, "a100", ("batch",)), Node("n2", 16, 64000, 4, "v100", ("batch",)))
    queued = queue(running(1, None, gpus=2, gpu_type="a100"), running(2, None, gpus=1), nodes=some)
    room, _ = room_of(queued)
    assert cores(room, "gpus alpha/batch")[0] == 3
    assert cores(room, "gpus:a100 alpha/batch")[0] == 0
    assert cores(room, "gpus:v100 alpha/batch")[0] == 4


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        (Job(3600, cpus=4), 4), (Job(3600, cpus=16), 16), (Job(3600, cpus=8), 8),
        (Job(3600, cpus=10), 13),  # half of the six that are left over on its node
        (Job(3600, cpus=20, nodes=2), 26), (Job(3600, cpus=2, exclusive=True), 16), (Job(3600, cpus=40), 40),
        (Job(3600, cpus=4, array_tasks=5), 20), (Job(900, cpus=4), 1),  # a quarter of the slot
    ],
)  # fmt: skip
def test_what_a_job_takes_of_the_cores(asked: Job, taken: float) -> None:
    """Also what nobody else can use for it; short jobs share a slot one after the other."""
    room, _ = room_of(queue())
    assert room.needs(asked, "alpha")[room.places.pool_names.index("cores alpha/batch")] == pytest.approx(taken)


def test_memory_is_a_pool_too() -> None:
    """As asked for by the node or the core; zero is all of a node; without a word the partition's default."""
    room, _ = room_of(queue(), world=outlook(partitions=[partition("alpha", default_mb_per_cpu=2048), partition("beta")]))
    index = room.places.pool_names.index("memory_gb alpha/batch")
    takes = [
        room.needs(Job(3600, cpus=4, **memory), "alpha")[index]
        for memory in ({}, {"memory_mb_per_node": 1024.0}, {"memory_mb_per_cpu": 1024.0}, {"memory_mb_per_node": 0.0})
    ]
    assert takes == [8, 1, 4, 62.5]


def test_those_that_are_not_ours_are_served_first_come_first_served() -> None:
    """They take their place, by priority; ours do not, but wait behind them as things stand."""
    others = [job(n, cpus=64, priority=5) for n in (1, 2)]
    room, found = room_of(queue(marked(3, begin=NOW + HOUR, cpus=64), *others))
    assert cores(room)[:4].tolist() == [0, 0, 64, 64]
    assert found[0].start_epoch_s == NOW + 2 * HOUR


def test_slurms_own_guess_counts_where_it_knows_more() -> None:
    """Of the first in line, which has no room, and of who waits for something else than room; not of those behind."""
    waits = marked(1, begin=NOW - 60, reason="Resources", start_epoch_s=NOW + 3 * HOUR)
    other = job(2, reason="QOSMaxCpuPerUserLimit", cpus=64, start_epoch_s=NOW + 5 * HOUR)
    behind = job(3, reason="Priority", start_epoch_s=NOW + 9 * HOUR)
    room, found = room_of(queue(waits, other, behind))
    assert found[0].start_epoch_s == NOW + 3 * HOUR
    assert cores(room)[4:7].tolist() == [64, 0, 64]
    assert found[2].start_epoch_s <= NOW + 3 * HOUR


def test_nobody_starts_later_than_slurm_says() -> None:
    """What is thought to be taken until evening may not be: what Slurm promises holds."""
    full = [job(n, state="RUNNING", cpus=16, start_epoch_s=NOW - HOUR, end_epoch_s=NOW + 9 * HOUR) for n in range(2, 6)]
    _, found = room_of(queue(job(1, reason="Priority", start_epoch_s=NOW + 4 * HOUR), *full))
    assert found[0].start_epoch_s == NOW + 4 * HOUR


def test_what_seems_free_is_not_if_slurm_says_that_there_is_no_room() -> None:
    """A job that waits for resources does not start now, whatever the sums say; smaller ones may."""
    room, found = room_of(queue(marked(1, begin=NOW - 60, reason="Resources", cpus=16)))
    assert found[0].stays == ""
    assert found[0].start_epoch_s == NOW + HOUR
    assert 15 < cores(room)[0] < 16
    assert cores(room)[1] == 64


def test_of_those_that_are_to_begin_together_most_wait_for_each_other() -> None:
    """Twenty jobs of 16 cores at the same hour: four at a time."""
    _, found = room_of(queue(*(marked(n, cpus=16, latest=NOW + 3 * DAY) for n in range(1, 21))))
    assert sorted((x.start_epoch_s - NOW) // HOUR for x in found) == [5] * 4 + [6] * 4 + [7] * 4 + [8] * 4 + [9] * 4


def test_who_is_about_to_start_stays() -> None:
    """Within the margin nothing is changed, and its place is taken."""
    room, found = room_of(queue(marked(1, begin=NOW + 500), marked(2, begin=NOW - 60)))
    assert [x.stays for x in found] == [ABOUT_TO_START] * 2
    assert cores(room)[0] == 56


def test_held_jobs_and_those_that_depend_take_nothing() -> None:
    """Nobody knows when they will start."""
    room, _ = room_of(queue(job(1, priority=0), job(2, dependency="afterok:1(unfulfilled)"), job(3, reason="PartitionDown")))
    assert cores(room)[0] == 64


def test_a_large_array_flows_into_what_is_free() -> None:
    """A thousand tasks are not thought to need the whole partition at a time."""
    array = marked(1, array_id=1, array_tasks="0-999", task_count=1000, latest=NOW + 6 * DAY)
    _, (found,) = room_of(queue(array, running(2, None)))
    assert found.asked.array_tasks == 8
    assert found.asked.array_waves == 125
    assert found.start_epoch_s == NOW + 5 * HOUR


def test_the_first_slot_is_now() -> None:
    """It begins at the edge that is nearest to now; a job in it starts at once, and is counted from now on."""
    grid = intensity("D", 400.0, *[100.0] * 47)
    assert on_slots(grid, NOW + 1200, NOW, HOUR, 3) == pytest.approx([300, 100, 100])
    for minutes, start in ((20, NOW), (40, NOW + HOUR)):
        now = NOW + minutes * 60
        room, _ = room_of(queue(read_epoch_s=now), now=now)
        assert room.places.start_epoch_s == start
        assert room.time(0) == now
        assert room.time(2) == start + 2 * HOUR
        assert room.slot(now - DAY) == 0


@given(st.lists(st.floats(0, 900), min_size=1, max_size=30), st.integers(-DAY, 3 * DAY), st.integers(1, 2 * DAY))
def test_emissions_are_those_of_the_fast_plane(grams: list[float], start: int, run: int) -> None:
    """What csbatch counts for one job is what is counted here for many."""
    zone = intensity("D", *grams)
    found = Totals([zone]).emitted_g(np.array([0]), np.array([NOW + start]), np.array([run]), np.array([250.0]))
    assert found[0] == pytest.approx(zone.over_run(NOW + start, run) * 250.0 * run / 3.6e6, abs=1e-6)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 6), st.integers(0, 40)
)  # fmt: skip
def test_the_first_fit_is_the_first(levels: list[int], amount: int, run: int, first: int) -> None:
    """By trying all of them; beyond the end everything is free."""
    slots = len(levels)
    free = np.array([[*levels, *[np.inf] * (run + 1)]], dtype=float)
    expected = next((s for s in range(first, slots) if free[0, s : s + run].min() >= amount), slots)
    assert first_fit(free, np.array([0]), np.array([float(amount)]), run, first, slots) == expected
