"""Which waiting jobs may be moved, by whose word, where to and until when; and why the others stay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_carbon import marks
from slurm_carbon.queued import QueuedJob
from slurm_carbon.reoptimize.standing import Rules, Standing
from tests.reoptimize.factory import (
    BOTH,
    DAY,
    HOUR,
    ID,
    NOW,
    entry,
    hooked,
    intensity,
    job,
    marked,
    outlook,
    partition,
    queue,
    stand,
)  # fmt: skip

EVERYBODY = Rules(transfer_users=None)


def one(of: QueuedJob, **options: Any) -> Standing:
    """How a single job stands."""
    [found] = stand(of, **options)
    return found


def test_a_job_without_a_word_stays() -> None:
    """By default only jobs that csbatch or the hook has placed are moved."""
    assert one(job()).stays == "nothing says that it may be moved"
    assert one(job(), rules=Rules(jobs="all")).may == "site"


def test_a_mark_is_the_wish_of_its_owner() -> None:
    """It may be moved within its window; without a list it stays where it is."""
    found = one(marked(latest=NOW + 9 * HOUR))
    assert (found.stays, found.may, found.latest_epoch_s) == ("", "mark", NOW + 9 * HOUR)
    assert found.locations == ("alpha/batch",)
    assert found.start_epoch_s == NOW + 5 * HOUR


def test_a_forged_mark_claims_no_more_than_the_site_allows() -> None:
    """Any window is cut to the site's longest, figures are not believed, and unknown places are left out."""
    of = marked(latest=NOW + 900 * DAY, locations=("alpha/batch", "alpha/none", "moon/batch"), mark_id=ID)
    found = one(of, rules=EVERYBODY)
    assert found.latest_epoch_s == of.submit_epoch_s + 7 * DAY
    assert found.locations == ("alpha/batch",)
    assert found.baseline_g is None


def test_the_record_of_the_hook_counts_only_if_it_was_enforced() -> None:
    """What it advised or observed describes what was not done."""
    found = one(hooked())
    assert (found.may, found.home, found.baseline_g, found.latest_epoch_s) == ("hook", "alpha/batch", 100.0, NOW + DAY)
    for mode in ("advise", "observe"):
        assert one(hooked(begin=NOW - 60, mode=mode)).stays == "nothing says that it may be moved"
        assert one(hooked(begin=NOW - 60, mode=mode), rules=Rules(jobs="all")).may == "site"


def test_by_the_site_a_job_waits_no_longer_than_the_site_says() -> None:
    """The longest delay counts from its submission."""
    of = job()
    assert one(of, rules=Rules(jobs="all"), world=outlook(max_delay_s=6 * HOUR)).latest_epoch_s == of.submit_epoch_s + 6 * HOUR


def test_the_ledger_knows_best() -> None:
    """Window, places, baseline and moves are those of its entry; an earlier wish of the owner counts too."""
    of = marked(latest=NOW + 20 * HOUR, mark_id=ID)
    found = one(of, entries=(entry(of, moves=2, latest_epoch_s=NOW + 30 * HOUR),), rules=EVERYBODY)
    assert (found.moves, found.baseline_g, found.locations, found.latest_epoch_s) == (2, 100.0, BOTH, NOW + 20 * HOUR)
    assert one(of, entries=(entry(of, moves=4),)).only_rescue
    assert one(of, rules=Rules(max_moves=0)).only_rescue  # also one that the ledger does not know yet


def test_an_entry_of_another_job_with_the_same_number_is_not_its_own() -> None:
    """Numbers come again: user and time of submission have to agree, but for a job that was requeued."""
    of = marked()
    for strange in (entry(of, user="user2"), entry(of, submit_epoch_s=of.submit_epoch_s - DAY)):
        assert one(of, entries=(strange,)).baseline_g is None
    again = marked(restarts=1, submit_epoch_s=NOW - 10)
    assert one(again, entries=(entry(again, submit_epoch_s=NOW - DAY),)).baseline_g == 100.0


def test_a_mark_that_was_taken_away_is_no_wish_any_more() -> None:
    """The ledger remembers it, but the owner has changed his mind; by the site's word the job goes on."""
    of = job(begin=NOW + HOUR)
    assert one(of, entries=(entry(of),)).stays == "its owner has taken the mark away"
    assert one(of, entries=(entry(of),), rules=Rules(jobs="all")).stays == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"priority": 0}, "it is held"),
        ({"reason": "JobHeldUser"}, "it is held"),
        ({"reason": "JobHeldAdmin"}, "it is held"),
        ({"dependency": "afterok:5(unfulfilled)"}, "it depends on other jobs"),
        ({"reason": "DependencyNeverSatisfied"}, "it depends on other jobs"),
        ({"het_id": 5}, "it is part of a heterogeneous job"),
        ({"reservation": "maint"}, "it has a reservation"),
        ({"deadline_epoch_s": NOW + DAY}, "it has a deadline"),
        ({"wanted_nodes": "n1"}, "its owner has named nodes"),
        ({"partition": "batch,long"}, "its owner has named several partitions"),
        ({"is_batch": False}, "somebody waits at a terminal for it"),
        ({"reason": "BurstBufferResources"}, "it waits for a burst buffer"),
        ({"reason": "AssocGrpCpuLimit"}, "it waits for something else than room: AssocGrpCpuLimit"),
        ({"reason": "QOSMaxJobsPerUserLimit\n;x"}, "it waits for something else than room: QOSMaxJobsPerUserLimitx"),
        ({"time_limit_s": None}, "the job has no time limit, so its end is not known"),
        ({"partition": "secret"}, "alpha/secret is not a configured location"),
        ({"comment": "cs1 off"}, "its owner said --carbon-off"),
        ({"eligible_epoch_s": NOW + 8 * HOUR}, "its owner has set the start"),
        ({"eligible_epoch_s": NOW - 30}, "its owner has set the start"),
    ],
)  # fmt: skip
def test_what_keeps_a_job_where_it_is(changes: dict[str, Any], why: str) -> None:
    """Each with its reason, whatever its mark says."""
    assert one(marked()._replace(**changes)).stays == why


def test_the_policy_leaves_alone_whom_it_names_and_may_forbid_to_opt_out() -> None:
    """Both are read as they are now, not as they were at the submission."""
    assert one(marked(), world=outlook(left_alone=("user:user1",))).stays == "the site leaves user user1 alone"
    off = job(comment=marks.OFF)
    assert one(off, rules=Rules(jobs="all")).stays == "its owner said --carbon-off"
    assert one(off, rules=Rules(jobs="all"), world=outlook(opt_out=())).stays == ""


def test_a_user_moves_only_his_own_jobs() -> None:
    """Run by an ordinary user, nothing of others is touched."""
    mine, other = stand(marked(1), marked(2, user="user2"), rules=Rules(own_user="user1"))
    assert mine.stays == ""
    assert other.stays == "it is not a job of user1"


def test_what_slurm_has_clamped_is_still_our_start() -> None:
    """A start that had passed when it was set became the time of setting; a call to now by the owner is not that."""
    of = marked(begin=NOW - 500)._replace(eligible_epoch_s=NOW - 100, reason="Resources")
    assert one(of).stays == ""
    assert one(marked(begin=NOW - 5000)._replace(eligible_epoch_s=NOW - 100)).stays == "its owner has set the start"


def test_a_start_that_only_the_ledger_or_the_hook_knows_is_ours() -> None:
    """A move whose mark could not be written, or the hook's own start, do not pass for the owner's."""
    of = marked(begin=NOW + 5 * HOUR)._replace(eligible_epoch_s=NOW + 7 * HOUR)
    assert one(of, entries=(entry(of, begin_epoch_s=NOW + 7 * HOUR),)).stays == ""
    assert one(hooked(begin=NOW + 3 * HOUR)._replace(comment="my own words")).stays == ""


def test_to_another_cluster_only_with_a_record_the_same_files_and_permission() -> None:
    """Everything has to come together."""
    of = marked(locations=BOTH, mark_id=ID)
    apart = outlook()
    apart.clusters["beta"] = apart.clusters["beta"]._replace(filesystem="other")
    assert one(of, rules=EVERYBODY).locations == BOTH
    assert one(of, rules=Rules(transfer_users=frozenset({"user1"}))).locations == BOTH
    alone = ("alpha/batch",)
    assert one(marked(locations=BOTH), rules=EVERYBODY).locations == alone
    assert one(of, rules=Rules()).locations == alone
    assert one(of, rules=Rules(transfer_users=frozenset({"user2"}))).locations == alone
    assert one(of, rules=EVERYBODY._replace(transfer_clusters=frozenset({"alpha"}))).locations == alone
    assert one(of, rules=EVERYBODY, world=apart).locations == alone
    assert one(of, rules=EVERYBODY, world=outlook(move_clusters=False)).locations == alone
    assert one(of._replace(restarts=1), rules=EVERYBODY).locations == alone
    assert one(of._replace(unwanted_nodes="n1"), rules=EVERYBODY).locations == alone
    assert one(of._replace(features="[a|b]"), rules=EVERYBODY).locations == alone
    assert one(of, rules=EVERYBODY, queues=[queue(of)]).locations == alone, "beta does not answer"


def test_whom_others_wait_for_does_not_leave_its_cluster() -> None:
    """A dependency names a number of that cluster."""
    of = marked(7, locations=BOTH, mark_id=ID)
    first, _ = stand(of, job(8, dependency="afterok:7(unfulfilled)"), rules=EVERYBODY)
    assert first.locations == ("alpha/batch",)


def test_places_are_checked_as_they_are_now() -> None:
    """Closed, too short, too small, for others only: what the mark names does not help."""
    of = marked(locations=BOTH, mark_id=ID)
    for changes in (
        {"up": False}, {"max_time_s": 60}, {"allow_groups": frozenset({"staff"})}, {"shapes": ()},
        {"deny_accounts": frozenset({"a1"})},
    ):  # fmt: skip
        world = outlook(partitions=[partition("alpha"), partition("beta", **changes)])
        assert one(of._replace(account="a1"), rules=EVERYBODY, world=world).locations == ("alpha/batch",), changes


def test_groups_are_those_of_the_jobs_owner() -> None:
    """A partition for a group takes its members, and nobody whose groups are not known."""
    world = outlook(partitions=[partition("alpha"), partition("beta", allow_groups=frozenset({"users"}))])
    assert one(marked(locations=BOTH, mark_id=ID), rules=EVERYBODY, world=world).locations == BOTH
    stranger = marked(locations=BOTH, mark_id=ID, user="stranger")
    assert one(stranger, rules=EVERYBODY, world=world).locations == ("alpha/batch",)


def test_between_partitions_only_where_the_site_moves_jobs_between_them() -> None:
    """In one cluster no record is needed."""
    parts = [partition("alpha"), partition("alpha", "long"), partition("beta")]
    of = marked(locations=("alpha/batch", "alpha/long"))
    assert one(of, world=outlook(partitions=parts)).locations == ("alpha/batch", "alpha/long")
    assert one(of, world=outlook(partitions=parts, move_partitions=False)).locations == ("alpha/batch",)


def test_an_intensity_of_another_kind_is_not_compared() -> None:
    """Marginal against average would be no saving."""
    world = outlook()
    world.zones["C"] = intensity("C", 10.0, accounting="marginal")
    assert one(marked(locations=BOTH, mark_id=ID), rules=EVERYBODY, world=world).locations == ("alpha/batch",)


def test_a_closed_partition_is_no_place_to_stay() -> None:
    """Its jobs may go elsewhere; with no other place they wait."""
    world = outlook(partitions=[partition("alpha", up=False), partition("beta")])
    down = marked(locations=BOTH, mark_id=ID, reason="PartitionDown")
    assert one(down, rules=EVERYBODY, world=world).locations == ("beta/batch",)
    assert one(down, world=world).stays == "no location is open to it at the moment"


def test_a_federated_job_may_go_to_its_siblings_and_counts_once() -> None:
    """No record is needed; its copies in other queues are not planned again."""
    of = marked(67108865, locations=BOTH, siblings=("alpha", "beta"))
    assert one(of).locations == BOTH
    origin, copy = stand(of, of._replace(cluster="beta"))
    assert origin.stays == ""
    assert copy.stays == "a copy in the federation of a job that waits elsewhere too"
    assert one(of._replace(siblings=("alpha",))).locations == ("alpha/batch",)


def test_an_array_moves_to_another_cluster_only_whole() -> None:
    """Pieces, and what may have begun, stay in their cluster; in a federation all arrays do."""
    whole = marked(5, locations=BOTH, mark_id=ID, array_id=5, array_tasks="0-9", task_count=10)
    assert one(whole, rules=EVERYBODY).locations == BOTH
    first, piece = stand(whole, marked(6, locations=BOTH, mark_id=ID, array_id=5, array_tasks="3"), rules=EVERYBODY)
    assert first.locations == piece.locations == ("alpha/batch",)
    begun = whole._replace(eligible_epoch_s=NOW - 60, comment=marked(5, begin=NOW - 60, mark_id=ID, locations=BOTH).comment)
    assert one(begun, rules=EVERYBODY).locations == ("alpha/batch",)
    assert one(whole._replace(siblings=("alpha", "beta"))).locations == ("alpha/batch",)


def test_who_is_on_his_way_is_left_alone() -> None:
    """An open transfer is finished or undone first."""
    from slurm_carbon.reoptimize.standing import standings

    [found] = standings([queue(marked(3))], {}, outlook(), {}, Rules(), NOW, [("alpha", 3)])
    assert found.stays == "it is on its way to another cluster"


def test_behind_jobs_of_a_better_partition_a_job_waits_for_room() -> None:
    """Slurm then says so much about nodes that only are busy, or will be; the job may be moved like any other."""
    said = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
    assert one(marked(begin=NOW - 100, reason=said)).stays == ""


@given(
    st.text(max_size=80), st.text(max_size=80), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20),
    st.text(max_size=20), st.integers(-(1 << 40), 1 << 40), st.integers(-(1 << 40), 1 << 40),
)  # fmt: skip
def test_nothing_that_a_user_writes_is_more_than_data(
    comment: str, admin: str, reason: str, features: str, licenses: str, dependency: str, begin: int, latest: int
) -> None:
    """Whatever stands there, there is an answer, within the site's longest delay and at a place that is allowed."""
    mark = f"cs1 begin={begin} latest={latest} at=beta/batch g=1 base=1 kwh=1 in=beta/batch,alpha/batch"
    of = job(begin=NOW + HOUR, reason=reason, features=features, licenses=licenses, dependency=dependency, admin_comment=admin)
    for text in (comment, f"{comment} | {mark}", mark):
        found = one(of._replace(comment=text))
        assert found.stays or (found.locations == ("alpha/batch",) and found.latest_epoch_s <= of.submit_epoch_s + 7 * DAY)
        assert found.stays.isprintable()
