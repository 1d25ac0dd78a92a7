"""The hook in a federation: the one where a job is submitted chooses the cluster, that of the other partition and hour."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import VERSIONS, Lab
from tests.hook.site import (
    DIPS_H,
    HOUR,
    JOB,
    STARTED,
    epoch,
    now,
    record,
    sbatch,
    set_mode,
    starts_as_planned,
    with_hook,
    write_zones,
)

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", params=VERSIONS)
def federation(request: pytest.FixtureRequest, installed) -> Iterator[Lab]:
    """Three clusters in a federation, with the hook in the slurmctld of each."""
    yield from with_hook(installed, "fed", "--federation", version=request.param, client=False)


def test_a_federation_sends_the_job_where_the_first_hook_says(federation: Lab) -> None:
    """The hook of the submitting cluster chooses the cluster, that of the other partition and hour."""
    write_zones(federation, DIPS_H)
    set_mode(federation, "enforce")
    hour = now(federation) // HOUR * HOUR
    job_id = sbatch(federation, "--parsable", *JOB).out.strip().partition(";")[0]
    federation.wait_for("gamma", job_id, "PENDING")
    job = federation.job("gamma", job_id)
    assert (job["Partition"], epoch(federation, job)) == ("short", hour + DIPS_H["gamma"] * HOUR)
    assert (record(job)["at"], record(job)["begin"]) == ("gamma/short", epoch(federation, job))
    starts_as_planned(federation, "gamma", job_id)
    federation.cancel_all()


def test_a_federation_runs_arrays_and_keeps_to_what_was_chosen(federation: Lab) -> None:
    """An array stays where it is submitted; where home is best, and later, no other cluster starts a copy before."""
    write_zones(federation, {"alpha": 6, "beta": 20, "gamma": 22})
    set_mode(federation, "enforce")
    hour = now(federation) // HOUR * HOUR
    job_id = sbatch(federation, "--parsable", *JOB).out.strip().partition(";")[0]
    federation.wait_for("alpha", job_id, "PENDING")
    job = federation.job("alpha", job_id)
    assert (job["Partition"], epoch(federation, job)) == ("short", hour + 6 * HOUR)
    assert job["FedViableSiblings"] == "alpha"
    hidden = sbatch(federation, "--parsable", *JOB, SBATCH_DEADLINE="now+3hours").out.strip().partition(";")[0]
    assert record(federation.job("alpha", hidden))["reason"].startswith("--deadline was given")
    of_root = federation.run("sbatch", "--parsable", *JOB, user=None).out.strip().partition(";")[0]
    assert record(federation.job("alpha", of_root))["reason"] == "root's jobs are left alone in a federation"
    array = sbatch(federation, "--parsable", "-a", "1-3", *JOB).out.strip().partition(";")[0]
    found = federation.job("alpha", array)
    assert epoch(federation, found) == hour + 6 * HOUR
    write_zones(federation, DIPS_H)
    array = sbatch(federation, "--parsable", "-a", "1-3", *JOB).out.strip().partition(";")[0]
    assert federation.job("alpha", array)["Partition"] == "short"
    stays = (
        sbatch(federation, "--parsable", *JOB, CSBATCH_LOCATIONS="alpha", CSBATCH_MAX_DELAY="1h").out.strip().partition(";")[0]
    )
    assert federation.job("alpha", stays)["FedViableSiblings"] == "alpha"
    federation.cancel_all()


def test_a_federation_loses_no_job_to_a_cluster_that_refuses_it(federation: Lab) -> None:
    """The chosen cluster takes none any more: the copy at home is still there, and runs."""
    write_zones(federation, DIPS_H)
    set_mode(federation, "enforce")
    for name in ("batch", "short", "gpu"):
        change = ("scontrol", "update", f"partitionname={name}")
        assert federation.run(*change, "State=DRAIN", user=None, cluster="gamma").code == 0
    job_id = sbatch(federation, "--parsable", *JOB).out.strip().partition(";")[0]
    federation.wait_for("alpha", job_id, "PENDING")
    job = federation.job("alpha", job_id)
    federation.jump_to(epoch(federation, job) + 2)
    federation.wait_for("alpha", job_id, *STARTED)
    for name in ("batch", "short", "gpu"):
        change = ("scontrol", "update", f"partitionname={name}")
        assert federation.run(*change, "State=UP", user=None, cluster="gamma").code == 0
    federation.cancel_all()
