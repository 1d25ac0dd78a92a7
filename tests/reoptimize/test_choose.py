"""Which moves come of a plan: only what is worth it, within every limit, and each with its reason."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from slurm_carbon.outlook import Outlook
from slurm_carbon.queued import Queue, QueuedJob
from slurm_carbon.reoptimize.choose import Chosen, ranges, task_numbers
from slurm_carbon.reoptimize.move import FEDERATION, HERE, TRANSFER
from slurm_carbon.reoptimize.room import Room, first_fit
from slurm_carbon.reoptimize.standing import Rules, Standing
from tests.reoptimize.factory import (
    BOTH,
    DAY,
    HOUR,
    ID,
    NOW,
    decided,
    entry,
    intensity,
    job,
    marked,
    nodes,
    outlook,
    queue,
    wide,
)  # fmt: skip

FAST = (Phase.explicit, Phase.reuse, Phase.generate)  # a plan takes too long for shrinking
GREEN_AT_3 = [400.0] * 3 + [50.0] + [400.0] * 68
ANYWHERE = Rules(transfer_users=None)


def queues_of(*jobs: QueuedJob) -> list[Queue]:
    """Both clusters, with these jobs."""
    return [queue(*(x for x in jobs if x.cluster == name), cluster=name) for name in ("alpha", "beta")]


def chosen(*jobs: QueuedJob, world: Outlook | None = None, **options: Any) -> Chosen:
    """What is chosen for jobs on alpha, with an empty beta beside it."""
    return decided(queues_of(*jobs), world or outlook(dirty=GREEN_AT_3), **options)[2]


def test_a_job_moves_to_the_greener_hour() -> None:
    """With what the ledger shall know: the plan, what it was counted by, and by whose word."""
    [move] = chosen(marked()).moves
    assert (move.way, move.to_location, move.to_epoch_s, move.to_partition) == (HERE, "alpha/batch", NOW + 3 * HOUR, "")
    assert (move.from_location, move.from_epoch_s, move.latest_epoch_s) == ("alpha/batch", NOW + 5 * HOUR, NOW + DAY)
    kwh = 4 * 10.0 * 1.5 / 1000 + 4 * 64000 / 16 / 1024 * 0.4 * 1.5 / 1000
    assert move.saved_g == pytest.approx(kwh * 350)
    known = move.entry
    assert (known.cluster, known.job_id, known.may, known.moves, known.late) == ("alpha", 1, "mark", 1, False)
    assert (known.begin_epoch_s, known.latest_epoch_s, known.moved_epoch_s) == (NOW + 3 * HOUR, NOW + DAY, NOW)
    assert (known.planned_g, known.baseline_g) == (pytest.approx(kwh * 50), pytest.approx(kwh * 400))
    assert known.energy_kwh == pytest.approx(kwh)
    assert known.forecast == "D test, issued 2026-11-18T11:06Z"
    assert "saves" in move.reason
    assert "by test" in move.reason


def test_a_job_goes_to_another_cluster() -> None:
    """Submitted anew, it has no number yet, and its entry names the one it follows; in a federation it keeps its number."""
    of = marked(begin=NOW + HOUR, locations=BOTH, mark_id=ID)
    [move] = chosen(of, world=outlook(), rules=ANYWHERE).moves
    assert (move.way, move.to_location) == (TRANSFER, "beta/batch")
    known = move.entry
    assert (known.cluster, known.job_id, known.submit_epoch_s, known.follows) == ("beta", 0, NOW, "alpha:1")
    [move] = chosen(of._replace(siblings=("alpha", "beta")), world=outlook()).moves
    assert (move.way, move.entry.cluster, move.entry.job_id, move.entry.follows) == (FEDERATION, "beta", 1, "alpha:1")


def test_what_saves_too_little_stays_and_is_told_so() -> None:
    """By share and by mass, beside the present plan."""
    world = outlook(dirty=[400.0] * 3 + [385.0] + [400.0] * 68)
    for rules in (Rules(), Rules(min_saving_pct=0.0, min_saving_g=2.0)):
        found = chosen(marked(), world=world, rules=rules)
        assert found.moves == ()
        assert found.stays[0].reason.startswith("a move would save 1.04 g (3.7 %), and has to save ")
    assert chosen(marked(), world=world, rules=Rules(min_saving_pct=1.0)).moves


def test_every_job_has_a_reason() -> None:
    """Those that stay as well."""
    found = chosen(marked(1, begin=NOW + 3 * HOUR), job(2), marked(3, priority=0))
    assert [x.reason for x in found.stays] == [
        "where and when it is, is best", "nothing says that it may be moved", "it is held",
    ]  # fmt: skip


def test_a_delay_counts_by_what_forecasts_have_captured() -> None:
    """A zone whose forecasts have been wrong delays nobody; a job is called forward by them all the same."""
    world = outlook(dirty=GREEN_AT_3)
    world.zones["D"] = world.zones["D"]._replace(captured=0.0)
    assert chosen(marked(begin=NOW + HOUR), world=world).moves == ()
    assert len(chosen(marked(begin=NOW + 5 * HOUR), world=world).moves) == 1


def test_a_wait_has_its_weight() -> None:
    """A site that weighs delays does not wait for less."""
    world = outlook(dirty=GREEN_AT_3, delay_g_per_h=50.0)
    assert chosen(marked(begin=NOW + HOUR), world=world).moves == ()
    assert chosen(marked(begin=NOW + HOUR), world=outlook(dirty=GREEN_AT_3)).moves


def test_a_job_is_called_back_when_the_forecast_has_grown_worse() -> None:
    """The green hour that it waits for is not green any more."""
    world = outlook(dirty=[200.0] * 4 + [500.0] * 68)
    [move] = chosen(marked(begin=NOW + 5 * HOUR), world=world).moves
    assert (move.to_location, move.to_epoch_s) == ("alpha/batch", NOW)
    assert move.reason.startswith("the forecast has changed: to start at once saves ")


def test_a_job_makes_room_for_others_that_save_more_than_it_costs() -> None:
    """A small job has the green hour of the only node, a large one waits for a dirty hour: they change places.

    What they save together is what counts; it is not made where the small one would be worse off than if it had started at
    once, or where it has been moved as often as it may.
    """
    small, large = marked(1, begin=NOW + 3 * HOUR, cpus=4), marked(2, cpus=16)
    world = outlook(dirty=GREEN_AT_3, partitions=[wide("alpha", 16)])
    one = [queue(small, large, nodes=nodes(count=1))]
    done = decided(one, world)[2]
    moves = {move.job.id: move for move in done.moves}
    assert moves[2].to_epoch_s == NOW + 3 * HOUR
    assert moves[1].saved_g < 0 < moves[1].saved_g + moves[2].saved_g == pytest.approx(done.figures["saved_g"])
    assert moves[1].reason.startswith("it makes room for others, who save more than that costs: starting ")
    assert moves[1].reason.endswith(f" it emits {-moves[1].saved_g:.1f} g more")
    worse = outlook(dirty=[300.0, *GREEN_AT_3[1:]], partitions=[wide("alpha", 16)])
    running = job(3, state="RUNNING", start_epoch_s=NOW - HOUR, end_epoch_s=NOW + HOUR, cpus=16)
    assert decided([queue(small, large, running, nodes=nodes(count=1))], worse)[2].moves == ()
    assert decided(one, world, entries=(entry(small, moves=Rules().max_moves),))[2].moves == ()


def test_jobs_that_are_alike_do_not_change_places() -> None:
    """The first green hour is full, and the next has room: those that wait for a dirty hour go there, and nobody else."""
    here = [marked(n, cpus=16, begin=NOW + 3 * HOUR) for n in range(5, 9)]
    there = [marked(n, cpus=16, begin=NOW + 7 * HOUR) for n in (1, 2, 3, 4, 9, 10)]
    world = outlook(dirty=[400.0] * 3 + [50.0] + [400.0] * 6 + [50.0] + [400.0] * 61)
    moves = chosen(*here, *there, world=world).moves
    assert len({move.job.id for move in moves} & {1, 2, 3, 4, 9, 10}) == len(moves) == 4
    assert {move.to_epoch_s for move in moves} == {NOW + 10 * HOUR}


def test_a_late_job_is_rescued_whatever_that_saves() -> None:
    """Twenty jobs that are to begin together would be late for each other; even one that has been moved often is moved."""
    jobs = [marked(n, cpus=16, latest=NOW + 6 * HOUR) for n in range(1, 21)]
    often = tuple(entry(x, moves=9, latest_epoch_s=NOW + 6 * HOUR) for x in jobs)
    world = outlook(dirty=[400.0] * 5 + [50.0] + [400.0] * 66)
    for entries in ((), often):
        found = chosen(*jobs, world=world, entries=entries)
        assert len(found.moves) == 12
        assert found.figures["late"] == 0
        assert all(move.to_epoch_s <= NOW + 6 * HOUR for move in found.moves)
        assert all("its latest start is" in move.reason for move in found.moves)


def test_a_job_that_slurm_does_not_start_though_there_seems_to_be_room_is_rescued() -> None:
    """The free cores are in pieces too small for it. It waits for as long again, it seems; if that is too long, it goes."""
    waits = {"begin": NOW - 40 * 60, "locations": BOTH, "mark_id": ID, "reason": "Priority", "cpus": 16}
    same = {"world": outlook(dirty=[400.0], clean=[400.0]), "rules": ANYWHERE}
    assert chosen(marked(latest=NOW + 2 * HOUR, **waits), **same).moves == ()
    [move] = chosen(marked(latest=NOW + 20 * 60, **waits), **same).moves
    assert (move.to_location, move.to_epoch_s) == ("beta/batch", NOW)
    assert "its latest start is" in move.reason


def test_users_have_equal_shares_of_the_moves_of_a_run() -> None:
    """Whole shares first, however few more moves there are than users."""
    for users, each, most in ((5, 4, 6), (9, 10, 10), (9, 10, 9)):
        jobs = [
            marked(100 * u + n, cpus=2 if u <= users // 2 + 1 else 1, user=f"user{u}")
            for u in range(users)
            for n in range(each)
        ]
        rules = Rules(max_updates=most, min_saving_g=0.1)
        found = decided([queue(*jobs, nodes=nodes(count=40))], outlook(dirty=GREEN_AT_3), rules)[2]
        counts = Counter(move.job.user for move in found.moves)
        assert max(counts.values()) - min(counts[f"user{u}"] for u in range(users)) <= 1, (users, most, counts)
        assert sum(counts.values()) <= most


def test_a_start_beyond_the_forecast_is_not_late() -> None:
    """The forecast has become shorter: who waits for an hour beyond it is not called back for that, and not said to be late."""
    jobs = [marked(n, begin=NOW + 30 * HOUR, latest=NOW + 60 * HOUR) for n in (1, 2, 3)]
    found = decided([queue(*jobs)], outlook(dirty=[400.0] * 30 + [50.0] + [400.0] * 41), horizon=24 * HOUR)[2]
    assert (found.moves, found.figures["late"]) == ((), 0)


def test_others_make_room_for_one_that_cannot_run_where_it_is() -> None:
    """Its partition is down, and the only other node is promised to those who could as well be later."""
    stuck = marked(1, begin=NOW + HOUR, latest=NOW + 2 * HOUR + 60, locations=BOTH, mark_id=ID, reason="PartitionDown", cpus=16)
    others = [marked(10 + h, "beta", begin=NOW + h * HOUR, latest=NOW + 20 * HOUR, user="user2", cpus=16) for h in (1, 2)]
    runs = job(90, "beta", state="RUNNING", start_epoch_s=NOW - HOUR, end_epoch_s=NOW + HOUR, cpus=16)
    queues = [queue(stuck), queue(*others, runs, cluster="beta", nodes=nodes("beta", count=1))]
    found = decided(queues, outlook(dirty=[100.0], clean=[300.0, 300, 300, *[310.0] * 69]), ANYWHERE)[2]
    assert found.figures["late"] == 0
    assert next(move for move in found.moves if move.job.id == 1).to_location == "beta/batch"


def test_an_array_whose_tasks_may_start_apart_stays_on_its_cluster() -> None:
    """It could be submitted anew as a whole only."""
    of = marked(7, cpus=16, locations=BOTH, mark_id=ID, array_id=7, array_tasks="0-5", task_count=6)
    rules = ANYWHERE._replace(split_arrays=True)
    world = outlook(dirty=GREEN_AT_3, clean=[400.0, 100, 100, *[400.0] * 69])
    moves = decided([queue(of), queue(cluster="beta", nodes=nodes("beta", count=2))], world, rules)[2].moves
    assert moves
    assert {move.to_location for move in moves} == {"alpha/batch"}


def test_where_all_is_full_jobs_are_late_and_it_is_said() -> None:
    """Sixty jobs for four places and five hours: a plan exists all the same."""
    jobs = [marked(n, cpus=16, begin=NOW + HOUR, latest=NOW + 5 * HOUR) for n in range(1, 61)]
    _, _, found = decided([queue(*jobs)], outlook(dirty=[400.0]))
    late = sum(move.entry.late for move in found.moves) + sum(x.late for x in found.stays)
    assert late == found.figures["late"] == 60 - 6 * 4
    assert all("all is full before" in move.reason for move in found.moves if move.entry.late)
    assert all("it will start after its latest start" in x.reason for x in found.stays if x.late)
    assert {e.job_id for e in found.entries if e.late} == {x.standing.job.id for x in found.stays if x.late}


def test_a_job_that_waits_for_room_is_not_told_to_start_where_it_is() -> None:
    """It could start already; telling it so again changes nothing."""
    of = marked(1, begin=NOW - 60, reason="Priority", start_epoch_s=NOW + 4 * HOUR)
    assert chosen(of, world=outlook(dirty=[100.0] + [400.0] * 71)).moves == ()


def test_each_move_needs_more_than_the_one_before() -> None:
    """12 % are enough for the first move and the second, not for the third; and there is an end to it."""
    world = outlook(dirty=[400.0] * 3 + [352.0] + [400.0] * 68)
    of = marked()
    made = [len(chosen(of, world=world, entries=(entry(of, moves=moves),)).moves) for moves in range(5)]
    assert made == [1, 1, 0, 0, 0]
    assert "has been moved 4 times" in chosen(of, world=world, entries=(entry(of, moves=4),)).stays[0].reason


def test_jobs_do_not_go_back_and_forth_with_a_noisy_forecast() -> None:
    """Twenty runs whose forecasts differ by 5 % at random: each moves twice on the mean; without the bars, all the time."""

    def moves(rules: Rules) -> int:
        made = 0
        noise = random.Random(1)
        jobs = {n: marked(n, begin=NOW + 40 * HOUR, latest=NOW + 47 * HOUR, locations=BOTH, mark_id=ID) for n in range(1, 13)}
        known = {n: entry(x, latest_epoch_s=NOW + 47 * HOUR) for n, x in jobs.items()}
        for run in range(20):
            world = outlook()
            for zone in ("D", "C"):
                world.zones[zone] = intensity(zone, *[900.0] * 30, *(noise.gauss(300, 15) for _ in range(42)))
            now = NOW + run * 300
            queues = queues_of(*jobs.values())
            found = decided(queues, world, rules, tuple(known.values()), now)[2]
            for move in found.moves:
                number, (cluster, _, _) = move.job.id, move.to_location.partition("/")
                made += 1
                jobs[number] = marked(
                    number,
                    cluster,
                    max(now, move.to_epoch_s),
                    NOW + 47 * HOUR,
                    BOTH,
                    ID,
                    submit_epoch_s=move.job.submit_epoch_s,
                )
                known[number] = move.entry._replace(job_id=number, submit_epoch_s=move.job.submit_epoch_s)
            jobs = {n: x for n, x in jobs.items() if (x.eligible_epoch_s or 0) > now}
            known = {n: x for n, x in known.items() if n in jobs}
        return made

    calm = moves(ANYWHERE)
    assert calm <= 24
    assert moves(ANYWHERE._replace(dearer=1.0, min_saving_pct=0.0, min_saving_g=0.0, max_moves=999)) > 4 * calm


def test_the_best_moves_come_first_and_users_in_turn() -> None:
    """Of the moves that a run may make, the saving is not all one user's; what is counted is what is made."""
    large = [marked(n, cpus=4) for n in range(1, 7)]
    small = [marked(n, cpus=2, user="user2") for n in range(7, 10)]
    found = chosen(*large, *small, rules=Rules(max_updates=4))
    assert Counter(move.job.user for move in found.moves) == {"user1": 2, "user2": 2}
    assert found.figures["moves"] == 4
    assert found.figures["saved_g"] == pytest.approx(sum(move.saved_g for move in found.moves))
    every = chosen(*large, *small)
    assert every.figures["planned_g"] < found.figures["planned_g"] < found.figures["present_g"]  # type: ignore[operator]
    assert "moves that a run may make" in found.stays[-1].reason
    assert chosen(*large, rules=Rules(max_updates=0)).moves == ()


def test_an_array_moves_as_one_or_by_ranges_of_its_tasks() -> None:
    """Eight tasks of sixteen cores in two hours that are green: together they would not fit into either."""
    world = outlook(dirty=[400.0] * 3 + [50.0] * 2 + [400.0] * 67)
    array = marked(9, array_id=9, array_tasks="1-8", task_count=8, cpus=16)
    [whole] = chosen(array, world=world).moves
    assert (whole.tasks, whole.job.number) == ("", "9_[1-8]")
    parts = chosen(array, world=world, rules=Rules(split_arrays=True)).moves
    assert {(move.tasks, move.to_epoch_s) for move in parts} == {("1-4", NOW + 3 * HOUR), ("5-8", NOW + 4 * HOUR)}
    throttled = array._replace(throttle=2)
    assert all(not move.tasks for move in chosen(throttled, world=world, rules=Rules(split_arrays=True)).moves)


def test_numbers_of_tasks_are_read_and_written_as_slurm_has_them() -> None:
    """Ranges, single ones, steps."""
    assert task_numbers("1-3,7,10-14:2") == [1, 2, 3, 7, 10, 12, 14]
    assert ranges([7, 1, 2, 3]) == "1-3,7"


def test_the_ledger_hears_of_those_that_stay_once() -> None:
    """A job that is not known yet gets an entry with its baseline; then nothing is new, until it is late."""
    of = marked(begin=NOW + 3 * HOUR)
    [known] = chosen(of).entries
    assert (known.location, known.begin_epoch_s, known.may, known.moves) == ("alpha/batch", NOW + 3 * HOUR, "mark", 0)
    assert known.baseline_g == pytest.approx(8 * known.planned_g)
    assert chosen(of, entries=(known,)).entries == ()
    assert chosen(of, entries=(known._replace(late=True),)).entries == (known,)


def test_nothing_waits() -> None:
    """An empty queue is no problem, nor one without a cluster that answers."""
    assert chosen().moves == ()
    assert decided([])[2].moves == ()
    assert chosen(marked(begin=NOW + 5), job(2, partition="secret")).figures["movable"] == 0


# for any queue


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Queue], Outlook]:
    """Some jobs on two clusters, tight or not, with windows short and long, and any forecast."""
    count = draw(st.integers(0, 25))
    jobs = []
    for number in range(1, count + 1):
        begin = NOW + draw(st.integers(0, 10)) * HOUR + draw(st.integers(0, 3599))
        cluster = draw(st.sampled_from(["alpha", "beta"]))
        locations = draw(st.sampled_from([(), BOTH, (f"{cluster}/batch",)]))
        of = marked(
            number, cluster, begin, begin + draw(st.integers(-2, 12)) * HOUR, locations, ID,
            cpus=draw(st.sampled_from([1, 4, 10, 16, 40])), time_limit_s=draw(st.sampled_from([600, 3600, 5400, 4 * HOUR])),
            user=draw(st.sampled_from(["user1", "user2"])),
            reason=draw(st.sampled_from(["BeginTime", "Priority", "Resources"])),
        )  # fmt: skip
        if draw(st.booleans()) and number % 3 == 0:
            of = job(number, cluster, cpus=of.cpus)
        if draw(st.integers(0, 5)) == 0:
            of = of._replace(array_id=number, array_tasks="0-4", task_count=5)
        jobs.append(of)
    hours = st.lists(st.floats(20, 800), min_size=48, max_size=48)
    world = outlook(dirty=draw(hours), clean=draw(hours))
    return queues_of(*jobs), world


def replayed(room: Room, found: list[Standing], done: Chosen) -> float:
    """The least that is free anywhere once all moves are made, counted anew from what the jobs ask for.

    A job that is late anyhow is told to start as soon as it can: when that is, Slurm finds out.
    """
    free = room.places.capacity.copy()
    moves = {(m.job.cluster, m.job.id): m for m in done.moves}
    for number, standing in enumerate(found):
        if standing.stays:
            continue
        move = moves.get((standing.job.cluster, standing.job.id))
        if move and move.entry.late:
            assert move.to_epoch_s <= room.now_epoch_s
            continue
        where = move.to_location if move else standing.here
        slot = room.slot(move.planned_epoch_s) if move else int(room.present[number])
        assert move is None or move.to_epoch_s <= move.planned_epoch_s
        cluster, _, partition = where.partition("/")
        run = room.run_slots((standing.asked.time_limit_s or 0) * standing.asked.array_waves)
        for pool, amount in room.needs(standing.asked, cluster).items():
            if partition in room.pools[pool].partitions:
                free[pool, slot : slot + run] -= amount
    return float(free.min(initial=0.0))


@settings(max_examples=40, deadline=None, phases=FAST)
@given(worlds())
def test_every_limit_is_kept(of: tuple[list[Queue], Outlook]) -> None:
    """Capacity, places, latest starts unless all is full, gains, and one answer for each job."""
    queues, world = of
    room, found, done = decided(queues, world, ANYWHERE, solver_s=0.05, horizon=3 * DAY)
    assert replayed(room, found, done) >= -1e-6
    assert len(done.moves) + len(done.stays) == len(found)
    standing = {(x.job.cluster, x.job.id): x for x in found}
    for move in done.moves:
        was = standing[move.job.cluster, move.job.id]
        assert move.to_location in was.locations
        assert move.to_epoch_s >= NOW
        rescued = was.start_epoch_s > was.latest_epoch_s or room.present[found.index(was)] >= room.places.slots
        makes_room = "makes room" in move.reason
        assert move.saved_g >= 1.0 or rescued or makes_room
        if makes_room:  # and is then no worse off than if it had started at once, or by less than what counts
            assert move.entry.planned_g <= max(move.entry.baseline_g, move.entry.planned_g + move.saved_g) * 1.05 + 1.0
        if move.to_epoch_s > was.latest_epoch_s:
            assert rescued
            assert move.to_epoch_s < was.start_epoch_s
            assert move.entry.late
    if not any(x.start_epoch_s > x.latest_epoch_s for x in found):
        assert sum(move.saved_g for move in done.moves) >= len(done.moves) - 1e-6
    for stays in done.stays:
        if stays.late and not stays.standing.stays and not stays.standing.asked.array_tasks > 1:
            assert not free_in_time(room, done, stays.standing)


def free_in_time(room: Room, done: Chosen, standing: Standing) -> bool:
    """Whether a late job would find room within its window, where and when it does not stand already."""
    last = room.slot(standing.latest_epoch_s)
    for name in standing.locations:
        cluster, _, partition = name.partition("/")
        needs = {q: a for q, a in room.needs(standing.asked, cluster).items() if partition in room.pools[q].partitions}
        run = room.run_slots((standing.asked.time_limit_s or 0) * standing.asked.array_waves)
        free = np.concatenate((done.free, np.full((len(done.free), run + 1), np.inf)), axis=1)
        slot = first_fit(free, np.array(list(needs)), np.array(list(needs.values())), run, 0, room.places.slots)
        waits_there = name == standing.here and (standing.job.eligible_epoch_s or 0) <= NOW
        if slot <= last and room.time(slot) <= standing.latest_epoch_s and not waits_there:
            return True
    return False


@settings(max_examples=10, deadline=None, phases=FAST)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_the_queue_does_not_matter_for_what_is_possible(of: tuple[list[Queue], Outlook], shuffle: Any) -> None:
    """Shuffled, every job still has its place, and the same jobs may be moved."""
    queues, world = of
    mixed = [x._replace(jobs=tuple(shuffle.sample(x.jobs, len(x.jobs)))) for x in queues]
    first, second = (decided(some, world, ANYWHERE, solver_s=0.05, horizon=3 * DAY) for some in (queues, mixed))
    assert replayed(*second) >= -1e-6
    one, other = ({(x.job.cluster, x.job.id): (x.stays, x.start_epoch_s) for x in found} for _, found, _ in (first, second))
    assert one == other


def test_two_users_are_treated_alike() -> None:
    """Of equal jobs of two users, as many of each get the green hour."""
    jobs = [marked(n, cpus=16, user=f"user{n % 2 + 1}") for n in range(1, 9)]
    for rules in (Rules(), Rules(max_updates=2)):
        users = Counter(move.job.user for move in chosen(*jobs, rules=rules).moves)
        assert users["user1"] == users["user2"] > 0
