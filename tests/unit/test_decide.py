"""The rules and their composition: who moves, where to, how far, and the reason when not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_carbon.decide import decide
from slurm_carbon.errors import UsageError
from slurm_carbon.model import Decision, Job, NodeShape, Owner, Wishes
from slurm_carbon.narrate import line
from slurm_carbon.outlook import Outlook
from slurm_carbon.policy import in_waves
from tests.unit.factory import HOURS, NOW, OWNER, intensity, outlook, partition

HOUR = 3600
DAY_CURVE = [400.0, 380, 360, 200, 100, 100, 200, 300, 400, 420, 430, 440] * 6


def place(job: Job | None = None, world: Outlook | None = None, wishes: Wishes | None = None, **kw: Any) -> Decision:
    """The decision for a job of alpha, submitted NOW."""
    job = job or Job(time_limit_s=2 * HOUR, cpus=16)
    return decide(job, kw.get("owner", OWNER), wishes or Wishes(), world or outlook(), "alpha", NOW, kw.get("ruled_out"))


def why(decision: Decision, name: str) -> str:
    """Why a location was not taken."""
    return next(a.why_not for a in decision.alternatives if a.location.name == name)


def test_cleaner_cluster_is_taken_at_once_when_every_hour_is_equal() -> None:
    """A flat forecast moves the job to the cleaner place and delays it by nothing."""
    decision = place()
    assert decision.chosen.location.name == "beta/batch"
    assert decision.delay_s == 0
    assert decision.saved_g == pytest.approx(decision.baseline.emissions_g * 0.75)


def test_cleaner_hour_is_taken() -> None:
    """With one cluster to go to, the job waits for its cleanest hours."""
    decision = place(world=outlook(dirty=DAY_CURVE, clean=[900.0]))
    assert decision.chosen.location.name == "alpha/batch"
    assert decision.chosen.start_epoch_s == NOW + 4 * HOUR


def test_a_delay_that_adds_little_to_a_move_is_not_made() -> None:
    """The move saves three quarters, waiting a hundredth more: the job moves and starts at once."""
    decision = place(world=outlook(clean=[100.0] * 5 + [98.0] * 67))
    assert (decision.chosen.location.name, decision.delay_s) == ("beta/batch", 0)


def test_a_small_saving_changes_nothing() -> None:
    """Below the site's threshold the job stays as it was written, and the reason has both figures."""
    decision = place(world=outlook(clean=[390.0]))
    assert decision.chosen is None
    assert "2.5 %" in decision.reason
    assert "5 %" in decision.reason


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(1, 900), min_size=HOURS, max_size=HOURS),
    st.integers(60, 40 * HOUR),
    st.integers(0, 60 * HOUR),
    st.integers(0, 60 * HOUR),
)
def test_a_decision_keeps_its_window_and_its_promise(curve: list[float], run_s: int, delay_s: int, finish_s: int) -> None:
    """Whatever is asked: never before now, never after the latest start, done in time, and never dirtier than at once."""
    wishes = Wishes(max_delay_s=delay_s, finish_by_epoch_s=NOW + finish_s)
    decision = place(Job(time_limit_s=run_s, cpus=16), outlook(dirty=curve, clean=curve[::-1]), wishes)
    if decision.chosen is None:
        return
    assert NOW <= decision.chosen.start_epoch_s <= NOW + delay_s
    assert decision.delay_s == 0 or decision.chosen.start_epoch_s + run_s <= NOW + finish_s
    assert decision.saved_g >= 0.05 * decision.baseline.emissions_g - 1e-9


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (Job(fixed="--begin was given"), "--begin"),
        (Job(unlimited=True), "no time limit"),
        (Job(clusters=("gamma",)), "gamma"),
        (Job(partitions=("nope",)), "no partition nope"),
        (Job(time_limit_s=HOUR, cpus=1000), "are needed"),
    ],
)
def test_left_alone_with_the_reason(job: Job, reason: str) -> None:
    """Jobs that we must not or cannot judge stay as they are."""
    decision = place(job)
    assert decision.chosen is None
    assert reason in decision.reason


def test_no_time_limit_and_no_default_is_left_alone() -> None:
    """Without any run time nothing is guessed."""
    parts = [partition("alpha", default_time_s=None), partition("beta")]
    assert "no --time" in place(Job(), outlook(partitions=parts)).reason


def test_off_is_honoured_before_anything_is_computed() -> None:
    """--carbon-off leaves the job alone."""
    assert place(wishes=Wishes(off=True)).reason == "--carbon-off was given"


@pytest.mark.parametrize(
    ("job", "there", "reason"),
    [
        (Job(time_limit_s=5 * HOUR), {"max_time_s": HOUR}, "time limit"),
        (Job(nodes=3, cpus=3), {"max_nodes": 2}, "at most 2"),
        (Job(cpus=17, nodes=1, max_nodes=1), {}, "are needed"),
        (Job(cpus=65), {}, "are needed"),
        (Job(memory_mb_per_node=65000), {}, "are needed"),
        (Job(memory_mb_per_cpu=9000, cpus=8, nodes=1, max_nodes=1), {}, "are needed"),
        (Job(features=("old",)), {"shapes": (NodeShape(4, 16, 64000),)}, "are needed"),
        (Job(gpus=2, gpu_type="a100"), {"shapes": (NodeShape(4, 16, 64000, frozenset({"old"})),)}, "are needed"),
        (Job(gres_per_node=(("shard", 1),)), {}, "are needed"),
        (Job(), {"up": False}, "not up"),
        (Job(), {"root_only": True}, "root"),
        (Job(), {"needs_reservation": True}, "reservation"),
        (Job(), {"allow_groups": frozenset({"staff"})}, "groups"),
        (Job(account="lab"), {"allow_accounts": frozenset({"other"})}, "account lab"),
        (Job(account="lab"), {"deny_accounts": frozenset({"lab"})}, "account lab"),
        (Job(), {"allow_accounts": frozenset({"other"})}, "no --account"),
        (Job(qos="high"), {"deny_qos": frozenset({"high"})}, "QOS high"),
        (Job(), {"allow_qos": frozenset({"long"})}, "QOS normal"),
        (Job(clusters=("alpha",)), {}, "--clusters=alpha"),
        (Job(tied="--nodelist was given"), {}, "--nodelist"),
    ],
)
def test_never_sent_where_it_could_not_run(job: Job, there: dict[str, Any], reason: str) -> None:
    """The clean cluster is passed over, with the reason, when the job does not fit or may not go there."""
    roomy = NodeShape(99, 512, 10**7, frozenset({"old"}), (("gpu:a100", 8), ("shard", 8)))
    job = job if job.time_limit_s else job._replace(time_limit_s=HOUR)
    world = outlook(partitions=[partition("alpha", shapes=(roomy,)), partition("beta", **there)])
    decision = place(job, world)
    assert decision.chosen is None or decision.chosen.location.name == "alpha/batch"
    assert reason in why(decision, "beta/batch")


def test_root_passes_what_keeps_users_out() -> None:
    """Root may use a partition of other groups, as in Slurm."""
    world = outlook(partitions=[partition("alpha"), partition("beta", allow_groups=frozenset({"staff"}))])
    assert place(world=world, owner=Owner("root", is_root=True)).chosen.location.cluster == "beta"


def test_licences_count() -> None:
    """A job stays where its licences are."""
    world = outlook()
    without = world.clusters["beta"]._replace(licenses=())
    world = world._replace(clusters={**world.clusters, "beta": without})
    assert "licences matlab" in why(place(Job(time_limit_s=HOUR, licenses=(("matlab", 1),)), world), "beta/batch")


def test_clusters_that_do_not_share_files_are_no_alternative() -> None:
    """Without a common filesystem a job is never moved between clusters, not even if both name none."""
    for name in ("", "scratch"):
        world = outlook()
        clusters = {**world.clusters, "beta": world.clusters["beta"]._replace(filesystem=name)}
        assert "share files" in why(place(world=world._replace(clusters=clusters)), "beta/batch")


def test_unlike_intensities_are_never_compared() -> None:
    """A marginal figure cannot win against an average one: it is refused, whatever it says."""
    world = outlook()
    zones = {**world.zones, "C": intensity("C", 1.0, accounting="marginal")}
    decision = place(world=world._replace(zones=zones))
    assert decision.chosen is None
    assert "cannot be compared" in why(decision, "beta/batch")


def test_partition_of_the_user_is_kept_on_the_other_cluster() -> None:
    """With -p the job may change its cluster but not its partition."""
    parts = [partition(c, n) for c in ("alpha", "beta") for n in ("batch", "gpu")]
    decision = place(Job(time_limit_s=HOUR, cpus=16, partitions=("gpu",)), outlook(partitions=parts))
    assert decision.chosen.location.name == "beta/gpu"


def test_named_locations_limit_the_choice() -> None:
    """--carbon-locations takes clusters, places and zones; an unknown one is the user's mistake."""
    assert place(wishes=Wishes(locations=("D",))).chosen is None
    assert place(wishes=Wishes(locations=("beta",))).chosen.location.cluster == "beta"
    with pytest.raises(UsageError, match=r"'gamma'.*known: .*alpha/batch"):
        place(wishes=Wishes(locations=("gamma",)))


def test_a_location_that_does_not_answer_is_still_known() -> None:
    """What the site has configured is no mistake of the user's while its cluster is away: the job stays at home."""
    world = outlook(partitions=[partition("alpha")])._replace(names=("alpha", "beta", "beta/batch", "C", "D"))
    decision = place(world=world, wishes=Wishes(locations=("beta",)))
    assert decision.chosen is None


def test_a_throttled_array_runs_in_waves() -> None:
    """Ten tasks two by two need five times the time limit, and draw the power of two."""
    one = place(Job(time_limit_s=HOUR, cpus=16))
    waves = place(Job(time_limit_s=HOUR, cpus=16, array_tasks=2, array_waves=5))
    assert waves.baseline.estimate.run_time_s == 5 * one.baseline.estimate.run_time_s
    assert waves.baseline.estimate.energy_kwh == pytest.approx(10 * one.baseline.estimate.energy_kwh)


def test_what_is_ruled_out_is_not_chosen() -> None:
    """A place that turned the job away is not tried again, and its words are shown."""
    decision = place(ruled_out={"beta/batch": "Slurm there says: no"})
    assert decision.chosen is None
    assert why(decision, "beta/batch") == "Slurm there says: no"


def test_limits_of_the_site_bound_every_wish() -> None:
    """Nobody gets a longer delay than the site allows."""
    world = outlook(dirty=[400.0] * 30 + [10.0] * 42, clean=[900.0], max_delay_limit_s=10 * HOUR)
    decision = place(world=world, wishes=Wishes(max_delay_s=50 * HOUR))
    assert decision.window.latest_epoch_s == NOW + 10 * HOUR
    assert "limit" in decision.window.bound


def test_finish_by_alone_allows_more_than_the_default_delay() -> None:
    """Who says when it must be done has said how long it may wait."""
    world = outlook(dirty=[400.0] * 40 + [10.0] * 32, clean=[900.0])
    decision = place(world=world, wishes=Wishes(finish_by_epoch_s=NOW + 60 * HOUR))
    assert decision.chosen.start_epoch_s >= NOW + 40 * HOUR


def test_a_finish_that_cannot_be_met_delays_nobody() -> None:
    """A job that is late anyway may still move, but waits for nothing."""
    decision = place(world=outlook(dirty=DAY_CURVE, clean=DAY_CURVE), wishes=Wishes(finish_by_epoch_s=NOW + 60))
    assert decision.delay_s == 0
    assert "would pass even at once" in line(decision, outlook())


@pytest.mark.parametrize("key", ["user:user1", "account:lab", "partition:batch", "qos:high"])
def test_site_leaves_some_alone(key: str) -> None:
    """Users, accounts, partitions and QOS that the site names are never touched."""
    decision = place(Job(time_limit_s=HOUR, account="lab", qos="high"), outlook(left_alone=(key,)))
    assert decision.chosen is None
    assert "leaves" in decision.reason


def test_prices_send_a_job_where_there_is_room() -> None:
    """A full clean cluster is dearer than an empty dirty one; without prices it is not."""
    world = outlook(dirty=[200.0])
    full = world._replace(prices_g_per_h={"beta/batch": {"cores": [100.0] * HOURS}})
    assert place(world=world).chosen.location.cluster == "beta"
    assert place(world=full).chosen is None


def test_an_array_larger_than_a_partition_runs_in_waves_there() -> None:
    """300 tasks of 16 CPUs on 4 nodes of 16: 75 waves of four, as long and as much energy as that."""
    one = place(Job(time_limit_s=60, cpus=16)).baseline.estimate
    array = place(Job(time_limit_s=60, cpus=16, array_tasks=300)).baseline.estimate
    assert array.run_time_s == 75 * one.run_time_s
    assert array.energy_kwh == pytest.approx(300 * one.energy_kwh)


@given(st.integers(1, 40), st.integers(1, 16), st.integers(1, 9), st.integers(1, 4), st.booleans())
def test_waves_keep_all_tasks(tasks: int, cpus: int, waves: int, nodes: int, exclusive: bool) -> None:
    """No task is lost, and never more run at once than the job allows."""
    job = Job(cpus=cpus, nodes=min(nodes, cpus), array_tasks=tasks, array_waves=waves, exclusive=exclusive)
    there = in_waves(job, partition("alpha"))
    assert there.array_tasks <= tasks
    assert tasks * waves <= there.array_tasks * there.array_waves < tasks * waves + there.array_tasks


def test_a_finish_that_only_home_can_keep_keeps_the_job_home() -> None:
    """A smaller place would take more waves, and end too late."""
    small = partition("beta", shapes=(NodeShape(1, 16, 64000),))
    world = outlook(partitions=[partition("alpha"), small])
    decision = place(Job(time_limit_s=HOUR, cpus=16, array_tasks=4), world, Wishes(finish_by_epoch_s=NOW + 2 * HOUR))
    assert why(decision, "beta/batch") == "its tasks would run in 4 rounds there, in 1 at home"
    assert decision.chosen is None


@pytest.mark.parametrize(
    ("home", "there", "moves"),
    [
        ({}, {"shapes": (NodeShape(4, 16, 32000),)}, False),
        ({}, {"shapes": (NodeShape(4, 16, 62000),)}, True),
        ({"default_mb_per_cpu": 1000}, {"shapes": (NodeShape(4, 16, 32000),)}, True),
        ({}, {"default_mb_per_cpu": 1000}, False),
        ({"default_mb_per_cpu": 1000}, {"default_mb_per_node": 8000}, False),
        ({"default_mb_per_node": 8000}, {"default_mb_per_cpu": 1000}, True),
        ({"default_mb_per_cpu": 1000}, {"default_mb_per_cpu": 2000}, True),
    ],
)
def test_a_job_that_asks_for_no_memory_goes_where_it_gets_no_less(home: dict, there: dict, moves: bool) -> None:
    """By Slurm's defaults, else by its share of a node; one that says --mem is bound by that alone."""
    world = outlook(partitions=[partition("alpha", **home), partition("beta", **there)])
    decision = place(world=world)
    assert (decision.chosen is not None) == moves
    assert moves or "no --mem was given" in why(decision, "beta/batch")
    assert place(Job(time_limit_s=2 * HOUR, cpus=16, memory_mb_per_node=100.0), world).chosen is not None


@pytest.mark.parametrize(
    ("home", "there", "moves"),
    [
        ({"default_time_s": HOUR}, {"default_time_s": HOUR}, True),
        ({"default_time_s": HOUR}, {"default_time_s": 2 * HOUR}, True),
        ({"default_time_s": HOUR}, {"default_time_s": HOUR // 2}, False),
        ({"default_time_s": HOUR}, {"default_time_s": None, "max_time_s": 4 * HOUR}, True),
        ({"default_time_s": HOUR}, {"default_time_s": None, "max_time_s": HOUR // 2}, False),
        ({"default_time_s": HOUR}, {"default_time_s": None, "max_time_s": None}, True),
    ],
)
def test_a_job_that_asks_for_no_time_goes_where_it_is_ended_no_earlier(home: dict, there: dict, moves: bool) -> None:
    """Slurm would give it that partition's default; with --time it may go."""
    world = outlook(partitions=[partition("alpha", **home), partition("beta", **there)])
    decision = place(Job(cpus=16), world)
    assert (decision.chosen is not None) == moves
    assert moves or "no --time was given" in why(decision, "beta/batch")
    assert place(Job(time_limit_s=HOUR // 2, cpus=16), world).chosen is not None


def test_a_job_without_gpus_leaves_the_nodes_that_have_them_to_others() -> None:
    """Unless they are where sbatch would send it."""
    bare, full = NodeShape(4, 16, 64000), NodeShape(4, 16, 64000, gres=(("gpu:a100", 2),))
    mixed = outlook(partitions=[partition("alpha", shapes=(bare,)), partition("beta", shapes=(full,))])
    assert why(place(world=mixed), "beta/batch") == "all nodes there have GPUs, and it needs none"
    assert place(Job(time_limit_s=HOUR, gpus=1), mixed).chosen is None  # at home there is none
    same = outlook(partitions=[partition("alpha", shapes=(full,)), partition("beta", shapes=(full,))])
    assert place(world=same).chosen is not None


def test_the_rest_of_an_array_counts_as_it_is() -> None:
    """Seventeen tasks on sixteen places emit seventeen times what one does, not thirty-two times."""
    one = place(Job(time_limit_s=HOUR, cpus=16))
    many = place(Job(time_limit_s=HOUR, cpus=16, array_tasks=17, array_waves=1))
    assert many.baseline.estimate.run_time_s == 5 * HOUR  # four nodes
    assert many.baseline.emissions_g == pytest.approx(17 * one.baseline.emissions_g)
