"""What is decided where a user has forged marks of moves, or records that no cluster takes: others lose nothing by it."""

from __future__ import annotations

import hashlib

from slurm_carbon import marks
from slurm_carbon.ledger.store import memory_ledger
from slurm_carbon.ledger.values import RELEASED, UNDOING, UNDONE, Transfer
from slurm_carbon.marks import Mark
from slurm_carbon.owner import Answer
from slurm_carbon.reoptimize import look, signs, steps
from slurm_carbon.reoptimize.adopt import adopt
from slurm_carbon.reoptimize.standing import Rules, standings
from slurm_carbon.reoptimize.transfer import Means
from slurm_carbon.slurm.command import FakeRunner
from slurm_carbon.slurm.moves import Site
from tests.reoptimize.factory import BOTH, GROUPS, ID, NOW, stand
from tests.reoptimize.factory import HOUR as HOUR_S
from tests.reoptimize.factory import job as a_job
from tests.reoptimize.factory import outlook as a_world
from tests.reoptimize.factory import queue as a_queue

UIDS = {"user1": 20001, "user2": 20002}


def test_a_mark_of_a_move_is_no_word_to_move() -> None:
    """A job that says that it is on its way takes no room in the plan, which others could have."""
    mark = Mark(NOW + 5 * HOUR_S, NOW + 20 * HOUR_S, "alpha/batch", 1.0, 1.0, 1.0, ID, BOTH, "00000000000000aa")
    [standing] = stand(a_job(begin=NOW + 5 * HOUR_S, comment=marks.write(mark)), rules=Rules(transfer_users=None))
    assert standing.stays == "its comment says that it is on its way to another cluster"


def test_a_job_that_came_back_rests() -> None:
    """What no cluster takes is tried again after an hour, then two, then four: not in every run."""

    def back(at: int, number: int = 1) -> Transfer:
        return Transfer("x", "alpha", number, NOW, "user1", 1001, ID, "beta/batch", 0, 0, "", "", UNDONE, at, at)

    once, often = [back(NOW)], [back(NOW - 9000), back(NOW - 5000), back(NOW)]
    for undone, rest_s in ((once, HOUR_S), (often, 4 * HOUR_S), ([*often] * 9, look.LONGEST_REST_S)):
        assert look.still_resting(undone, NOW + rest_s - 1) == {("alpha", 1)}
        assert look.still_resting(undone, NOW + rest_s) == frozenset()


def test_the_ledger_knows_what_came_to_nothing() -> None:
    """By the time of it; what is open or done is not among it."""
    with memory_ledger() as ledger:
        for number, (state, at) in enumerate([(UNDONE, NOW), (UNDONE, NOW - 9), (UNDOING, NOW), (RELEASED, NOW)]):
            ledger.put_transfer(
                Transfer(f"{number:016x}", "alpha", number, NOW, "user1", 1001, ID, "beta/batch", 0, 0, "", "", state, at, at)
            )
        assert [one.job_id for one in ledger.undone(NOW - 8)] == [0]


def test_a_job_that_rests_stays_on_its_cluster() -> None:
    """It can be moved in time all the same."""
    job = a_job(begin=NOW + 5 * HOUR_S, comment=marks.write(
        Mark(NOW + 5 * HOUR_S, NOW + 20 * HOUR_S, "alpha/batch", 1.0, 1.0, 1.0, ID, BOTH)
    ))  # fmt: skip
    for resting, places in (((), BOTH), ([("alpha", 1)], ("alpha/batch",))):
        queues = [a_queue(job), a_queue(cluster="beta")]
        [standing] = standings(queues, {}, a_world(), GROUPS, Rules(transfer_users=None), NOW, (), resting)
        assert (standing.stays, standing.locations) == ("", places)


def test_forged_ids_of_moves_that_are_found_again() -> None:
    """Who has the same id in his own marks, and all that follow from it, keeps nobody's job held after a ledger was lost."""
    forged = move_id = "00000000000000aa"
    with memory_ledger() as ledger:
        for _ in range(3):
            ledger.put_transfer(
                Transfer(forged, "alpha", 9, NOW, "user1", UIDS["user1"], "", "", 0, 0, "", "", UNDONE, NOW, NOW)
            )
            forged = hashlib.sha256(f"{forged} {UIDS['user2']}".encode()).hexdigest()[:16]
        mark = Mark(NOW, NOW + HOUR_S, "alpha/batch", 1.0, 1.0, 1.0, ID, (), move_id)
        held = a_job(2, begin=NOW, comment=marks.write(mark), reason="JobHeldUser", priority=0, uid=UIDS["user2"], user="user2")
        sites = {"alpha": Site("alpha")}
        means = Means(FakeRunner({}), sites, ledger, lambda t: Answer(None, True, ""), us=0)
        [found] = adopt([a_queue(held)], means, NOW)
    assert (found.uid, found.state, steps.phase(found), signs.mark_of(found)) == (UIDS["user2"], UNDOING, steps.OURS, move_id)
