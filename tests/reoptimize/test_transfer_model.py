"""Moves to another cluster against clusters that fail in every order: jobs lost 0, doubled 0, held 0."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings

from slurm_carbon.ledger.values import INTENDED, RELEASED, UNDONE
from tests.reoptimize.crash_fake import DONE, FATES, LATE, LOST, REFUSED, UNHEARD, World, check_books, settle, transfer_of

IDS = ("00000000000000b1", "00000000000000b2")
# a failure is not made smaller by itself: that takes minutes; for that, run it with phases of your own
SETTINGS = settings(
    deadline=None, max_examples=int(os.environ.get("SLURM_CARBON_EXAMPLES", "150")), derandomize=True,
    suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.reuse, Phase.generate],
)  # fmt: skip


def begun(world: World) -> None:
    """Two jobs of two users, and their moves begun."""
    jobs = [world.add("one", 1001), world.add("two", 1002)]
    world.tick([transfer_of(world, job, move_id) for job, move_id in zip(jobs, IDS, strict=True)])


def test_a_move_that_goes_well_runs_the_copy_once_and_leaves_no_mark() -> None:
    """Nothing fails: both jobs run on the other cluster, at the new time, with their owners' text and mark."""
    world = World()
    begun(world)
    copies = [job for cluster, job in world.alive() if cluster == "beta"]
    assert [job.reason for job in copies] == ["BeginTime", "BeginTime"]
    assert all("mv=" not in job.comment and job.comment.startswith("mine | cs1 ") for job in copies)
    assert all(" id=00000000000000aa" in job.comment and "at=beta/batch" in job.comment for job in copies)
    settle(world)
    check_books(world, "one", "two")
    assert {t.state for t in world.books.rows.values()} == {RELEASED}
    assert {cluster for runs in world.ran.values() for cluster, _ in runs} == {"beta"}


def points() -> int:
    """How many points there are at which a run that begins two moves can be killed."""
    world = World()
    begun(world)
    return world.calls


@pytest.mark.parametrize("ledger_is_lost", [False, True])
def test_killed_at_any_point(ledger_is_lost: bool) -> None:
    """The process is killed at each of its points, and in the next run at each again; the ledger may be gone as well."""
    count = points()
    assert count > 60
    for first in range(1, count + 1):
        for second in (0, first // 2 + 1, first + 3):
            world = World()
            jobs = [world.add("one", 1001), world.add("two", 1002)]
            world.tick([transfer_of(world, job, i) for job, i in zip(jobs, IDS, strict=True)], end_at=first)
            if ledger_is_lost:
                world.books.rows.clear()
            world.pass_time(20)
            world.tick(end_at=second)
            settle(world)
            check_books(world, "one", "two")


@SETTINGS
@given(st.data())
def test_calls_fail_in_every_way(data: st.DataObject) -> None:
    """Each call may be refused, take too long and be done, be done later, or never; the process may be killed too."""
    fates = st.sampled_from((DONE, DONE, DONE, *FATES))
    world = World(lambda what: data.draw(fates, what))
    jobs = [world.add("one", 1001), world.add("two", 1002)]
    moves = [transfer_of(world, job, i) for job, i in zip(jobs, IDS, strict=True)]
    world.tick(moves, end_at=data.draw(st.integers(0, 90), "killed at"))
    for _ in range(data.draw(st.integers(0, 3), "runs")):
        world.pass_time(data.draw(st.sampled_from((1, 60, 300)), "until the next run"))
        world.tick(end_at=data.draw(st.integers(0, 60), "killed at"))
    settle(world)
    check_books(world, "one", "two")


@SETTINGS
@given(st.data())
def test_controllers_and_the_ledger_fail(data: st.DataObject) -> None:
    """Controllers forget their last seconds or are away for a time, the accounting is away, the ledger full or lost."""
    world = World()
    jobs = [world.add("one", 1001), world.add("two", 1002)]
    moves = [transfer_of(world, job, i) for job, i in zip(jobs, IDS, strict=True)]

    def oracle(what: str) -> str:
        happens = data.draw(st.integers(0, 12), what)
        name = data.draw(st.sampled_from(("alpha", "beta")), "whom") if happens < 4 else ""
        if happens == 0:
            world.forget(name, data.draw(st.integers(0, 5), "forgets"))
        elif happens == 1:
            world.clusters[name].answers = not world.clusters[name].answers
        elif happens == 2:
            world.accounting = not world.accounting
        elif happens == 3:
            world.books.fails = not world.books.fails
        return DONE

    world.oracle = oracle
    world.tick(moves, end_at=data.draw(st.integers(0, 90), "killed at"))
    for _ in range(data.draw(st.integers(0, 3), "runs")):
        world.pass_time(data.draw(st.sampled_from((1, 60, 300)), "until the next run"))
        world.tick(end_at=data.draw(st.integers(0, 60), "killed at"))
    settle(world)
    check_books(world, "one", "two")


@SETTINGS
@given(st.integers(1, 90), st.sampled_from(("release", "hold", "comment", "requeue")), st.integers(0, 400))
@example(30, "release", 0)
def test_owners_change_their_jobs_meanwhile(end_at: int, what: str, after_s: int) -> None:
    """An owner releases, holds or changes his job in the midst of a move: it still runs once, if he does not hold it."""
    world = World()
    job = world.add("one", begin_in_s=600)
    world.tick([transfer_of(world, job, IDS[0])], end_at=end_at)
    world.pass_time(after_s)
    held = False
    job = world.clusters["alpha"].jobs.get(job.id, job)
    if job.state == "PENDING":
        if what == "release":
            job.priority, job.reason = 1, "BeginTime"
        elif what == "comment":
            job.comment = "other words"
        elif what == "requeue":
            job.submit, job.restarts = world.now, 1
        elif job.priority:
            job.hold()
            row = world.books.transfer(IDS[0])
            held = row is None or row.state == UNDONE or (row.state == INTENDED and row.note == "-")
    settle(world)
    if what == "requeue" and job.priority == 0:
        return  # to put a job back into the queue is a word of its owner that is newer than ours
    if held:
        assert job.state == "PENDING"
        assert "one" not in world.ran
    else:
        check_books(world, "one")


@SETTINGS
@given(st.integers(1, 90), st.sampled_from(("alpha", "beta")), st.integers(0, 400))
def test_owners_cancel_meanwhile(end_at: int, where: str, after_s: int) -> None:
    """An owner who cancels one of the two jobs gets nothing twice, and nothing that is held or open remains."""
    world = World()
    job = world.add("one", begin_in_s=600)
    world.tick([transfer_of(world, job, IDS[0])], end_at=end_at)
    world.pass_time(after_s)
    for candidate in world.clusters[where].jobs.values():
        if candidate.state == "PENDING":
            candidate.state, candidate.end = "CANCELLED", world.now
    settle(world)
    assert len(world.ran.get("one", ())) <= 1
    assert not world.alive()
    assert not world.books.open_transfers()


@pytest.mark.parametrize("fate", [REFUSED, LATE, LOST, UNHEARD])
def test_a_submission_that_is_not_answered(fate: str) -> None:
    """The copy that was asked for appears at once, after five minutes, or never: the job runs once in each case."""
    world = World(lambda what: fate if what == "sbatch" else DONE)
    begun(world)
    settle(world)
    check_books(world, "one", "two")
    assert {t.state for t in world.books.rows.values()} <= {UNDONE, RELEASED}


def test_a_target_that_loses_all_its_jobs() -> None:
    """A run is killed at each point and the target starts with an empty queue: a source that is still there runs."""
    for end_at in range(1, points() + 1):
        world = World()
        job = world.add("one", 1001)
        world.tick([transfer_of(world, job, IDS[0])], end_at=end_at)
        there = world.clusters["alpha"].jobs[job.id].state == "PENDING"
        world.clusters["beta"].jobs.clear()
        settle(world)
        if there:
            check_books(world, "one")


@pytest.mark.parametrize("next_is", ["another copy", "held", "runs", "waits"])
def test_the_number_of_a_forgotten_copy_is_given_again(next_is: str) -> None:
    """A run is killed and the target forgets the copy: its number goes to the next job of the same user, which is not it."""
    for end_at in range(1, points() + 1):
        world = World()
        jobs = [world.add("one", begin_in_s=7200), world.add("two", begin_in_s=7200)]
        first, second = (transfer_of(world, job, move_id) for job, move_id in zip(jobs, IDS, strict=True))
        world.tick([first], end_at=end_at)
        world.forget("beta")
        if next_is == "another copy":
            world.tick([second])
        else:
            own = world.add("own", begin_in_s=0 if next_is == "runs" else 3600, comment="", cluster="beta")
            if next_is == "held":
                own.hold()
        settle(world)
        if next_is == "held":
            assert own.state == "PENDING"
            own.priority = 1
            world.pass_time(7200)
        check_books(world, "one", "two", *(["own"] if next_is != "another copy" else []))


def test_an_owner_rewrites_the_comment_of_the_copy_before_it_was_looked_at() -> None:
    """The run is killed with the number of the copy written down, and nothing but that says that it is the copy."""
    known = 0
    for end_at in range(1, points() + 1):
        world = World()
        job = world.add("one")
        world.tick([transfer_of(world, job, IDS[0])], end_at=end_at)
        row = world.books.transfer(IDS[0])
        known += row is not None and row.target_id > 0 and not row.target_submit_epoch_s
        if row is None or not row.target_id:
            continue
        for candidate in world.clusters["beta"].jobs.values():
            candidate.comment = "other words"
        settle(world)
        check_books(world, "one")
    assert known


def rewritten_and_forgotten(world: World, owner_at: int, forget_at: int) -> Callable[[str], str]:
    """An oracle that does both to the copy, each before a call of that number."""
    calls = itertools.count(1)

    def oracle(what: str) -> str:
        call = next(calls)
        if call == owner_at:
            for candidate in world.clusters["beta"].jobs.values():
                candidate.comment = "other words"
        elif call == forget_at:
            world.forget("beta", 3)
        return DONE

    return oracle


def test_an_owner_rewrites_the_comment_of_the_copy_and_then_its_controller_forgets() -> None:
    """At each call of a run, and at each one after that: what slurmctld has forgotten is done again."""
    for owner_at in range(12, 30):
        for forget_at in range(owner_at + 1, owner_at + 20):
            world = World()
            job = world.add("one")
            world.oracle = rewritten_and_forgotten(world, owner_at, forget_at)
            world.tick([transfer_of(world, job, IDS[0])])
            settle(world)
            check_books(world, "one")
