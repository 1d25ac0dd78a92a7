"""What is expected to come, and the prices that leave room for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from slurm_carbon.decide import decide
from slurm_carbon.model import Job, Wishes
from slurm_carbon.outlook import Outlook, with_prices
from slurm_carbon.queued import Node, QueuedJob
from slurm_carbon.reoptimize.expect import MOST, Arrival, _to_come, arrivals, prices
from slurm_carbon.reoptimize.room import Room, furnish
from slurm_carbon.reoptimize.standing import Rules, standings
from tests.reoptimize.factory import BOTH, DAY, GROUPS, HOUR, ID, NOW, hooked, job, marked, outlook, queue
from tests.unit.factory import OWNER

GREEN_AT_4 = [400.0] * 4 + [50.0] + [300.0] + [400.0] * 66


def room_of(*jobs: QueuedJob, world: Outlook | None = None) -> Room:
    """The room on both clusters with these jobs on them."""
    queues = [queue(*(x for x in jobs if x.cluster == name), cluster=name) for name in ("alpha", "beta")]
    world = world or outlook(dirty=GREEN_AT_4)
    return furnish(queues, standings(queues, {}, world, GROUPS, Rules(), NOW), world, Rules(), NOW, 2 * DAY)[0]


def came(count: int, every_s: int = 60, waits_s: int = DAY, **asked: Any) -> list[Arrival]:
    """Jobs on alpha, one every so many seconds until now."""
    one = Job(time_limit_s=HOUR, cpus=4, **asked)
    return [Arrival(NOW - n * every_s, one, "alpha/batch", ("alpha/batch",), waits_s) for n in range(count)]


def priced(room: Room, arrived: list[Arrival], world: Outlook, free: Any = None) -> Outlook:
    """The outlook with the prices for these."""
    found = prices(room, room.places.capacity if free is None else free, arrived, world, NOW)
    return with_prices(world, found, room.places.start_epoch_s, room.places.slot_s, NOW)


def hour_of(world: Outlook) -> int:
    """When csbatch would start a job of four cores and an hour that comes now."""
    found = decide(
        Job(time_limit_s=HOUR, cpus=4, partitions=("batch",), clusters=("alpha",)), OWNER, Wishes(), world, "alpha", NOW
    )
    return ((found.chosen.start_epoch_s if found.chosen else NOW) - NOW) // HOUR


def test_what_came_is_known_by_its_queue() -> None:
    """Waiting or running, with its window; not what is older than a day, is held, or has no end."""
    queued = [
        marked(1, latest=NOW + 9 * HOUR, locations=BOTH, mark_id=ID), job(2), hooked(3),
        marked(4)._replace(state="RUNNING", start_epoch_s=NOW), job(5, submit_epoch_s=NOW - 2 * DAY), job(6, priority=0),
        job(7, time_limit_s=None), job(8, partition="secret"), job(9, state="RUNNING", start_epoch_s=NOW, time_limit_s=60),
    ]  # fmt: skip
    queues = [queue(*queued), queue(cluster="beta")]
    world = outlook()
    found = arrivals(queues, standings(queues, {}, world, GROUPS, Rules(transfer_users=None), NOW), world, NOW)
    assert [(x.may_wait_s - 60) // HOUR for x in found] == [9, -1, 24, 24, -1]
    assert [x.locations for x in found] == [BOTH, *[("alpha/batch",)] * 4]
    assert [x.asked.time_limit_s for x in found] == [HOUR, HOUR, HOUR, HOUR, 60]


def test_a_forged_mark_of_a_running_job_makes_nobody_wait_for_ever() -> None:
    """It is a guess at what may come, within the longest delay there is."""
    running = marked(1, latest=NOW + 9000 * DAY, locations=("moon/x",))._replace(state="RUNNING")
    [found] = arrivals([queue(running)], [], outlook(), NOW)
    assert (found.may_wait_s, found.locations) == (7 * DAY, ("alpha/batch",))


def test_without_arrivals_or_with_room_for_all_nothing_has_a_price() -> None:
    """Then each job is best off where and when it emits least."""
    room, world = room_of(), outlook(dirty=GREEN_AT_4)
    assert not any(prices(room, room.places.capacity, [], world, NOW).values())
    assert hour_of(priced(room, came(2), world)) == 4


def test_a_full_slot_turns_the_next_one_away() -> None:
    """The green hour is full; the next best one, that it runs into beside none, is not."""
    world = outlook(dirty=GREEN_AT_4)
    room = room_of(world=world)
    free = room.places.capacity.copy()
    free[:, 4] = 0.0
    assert hour_of(world) == 4
    assert hour_of(priced(room, came(3), world, free)) == 5


def test_what_is_scarce_costs_most_of_what_it_saves() -> None:
    """Sixteen places in the green hour and two hundred to come: who saves little by it is better off elsewhere."""
    world = outlook(dirty=GREEN_AT_4)
    cores = priced(room_of(world=world), came(200), world).prices_g_per_h["alpha/batch"]["cores"]
    saves_g_per_h = (400 - 50) * 0.069375 / 4  # of a core, with its memory and the PUE of the site
    assert 0.5 * saves_g_per_h < cores[4] < 1.5 * saves_g_per_h
    assert cores[4] == max(cores)
    assert "beta/batch" not in priced(room_of(world=world), came(200), world).prices_g_per_h


def test_gpus_have_their_own_price() -> None:
    """Eight GPUs are what is scarce, not the cores beside them."""
    world = outlook(dirty=GREEN_AT_4)
    found = prices(room_of(world=world), room_of(world=world).places.capacity, came(150, gpus=2), world, NOW)["alpha/batch"]
    assert found["gpus"][4] > 0
    assert sum(found["gpus"]) > 10 * sum(found.get("cores", [0.0]))


def test_gpus_of_several_types_are_priced_by_the_scarcest() -> None:
    """An outlook knows GPUs only as GPUs."""
    some = (Node("n1", 16, 64000, 2, "a100", ("batch",)), Node("n2", 16, 64000, 8, "v100", ("batch",)))
    world = outlook(dirty=GREEN_AT_4)
    room, _ = furnish([queue(nodes=some)], [], world, Rules(), NOW, 2 * DAY)
    found = prices(room, room.places.capacity, came(100, gpus=1, gpu_type="a100"), world, NOW)["alpha/batch"]
    assert set(found) <= {"cores", "gpus", "memory_gb"}
    assert found["gpus"][4] > 0


def test_it_goes_on_as_it_did_lately_and_then_as_a_day_before() -> None:
    """What came in the last hours comes at that pace in the next ones; what came earlier, at its hour."""
    room, world = room_of(), outlook(dirty=GREEN_AT_4)
    lately, earlier = came(60), [x._replace(submit_epoch_s=NOW - 14 * HOUR) for x in came(40)]
    problem, future = _to_come(room, [*lately, *earlier], world, NOW, 0)
    per_slot = np.bincount(problem.jobs.earliest, minlength=49) / (int(future.max()) + 1)
    assert per_slot[:3].sum() == pytest.approx(60, rel=0.2)
    assert per_slot[9:12].sum() == pytest.approx(40, rel=0.2)
    assert per_slot[3:9].sum() == 0


def test_many_stand_for_more() -> None:
    """What is played through stays small; the work that is expected, today and a day later, does not shrink."""
    room, world = room_of(), outlook(dirty=GREEN_AT_4)
    problem, future = _to_come(room, came(9000, every_s=1), world, NOW, 0)
    assert len(problem.jobs) < 1.2 * MOST
    assert problem.jobs.scale.sum() / (int(future.max()) + 1) == pytest.approx(2 * 9000, rel=0.1)


def test_prices_are_the_same_for_the_same_state() -> None:
    """Chance is drawn from a seed."""
    room, world = room_of(), outlook(dirty=GREEN_AT_4)
    first, second = (prices(room, room.places.capacity, came(100), world, NOW, seed=3) for _ in range(2))
    assert first == second
