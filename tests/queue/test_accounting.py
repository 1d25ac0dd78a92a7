"""What became of jobs, out of what sacct prints."""

from __future__ import annotations

import pytest

from slurm_carbon.errors import CommandError
from slurm_carbon.slurm import accounting
from slurm_carbon.slurm.command import Completed, FakeRunner

NOW = 1_795_976_000
# as 22.05 prints it (times and energies are made up): a batch job, one that waits, one cancelled while it waited, one that
# was requeued, an array with srun
OLD = """\
10075|10075|alpha|batch|COMPLETED|1795975616|1795975617|1795975677|60|1|
10075.batch|10075.batch|alpha||COMPLETED|1795975617|1795975617|1795975677|60|1|1740
10077|10077|alpha|batch|PENDING|1795975616|Unknown|Unknown|0|1|0
10080|10080|alpha|batch|CANCELLED by 20001|1795975616|1795975619|1795975619|0|1|0
10081|10081|alpha|batch|REQUEUED|1795975616|1795975618|1795975649|31|1|
10081.batch|10081.batch|alpha||FAILED|1795975618|1795975618|1795975649|31|1|900
10082|10076_0|alpha|batch|COMPLETED|1795975616|1795975617|1795975627|10|1|400
10082.batch|10076_0.batch|alpha||COMPLETED|1795975617|1795975617|1795975627|10|1|390
10082.0|10076_0.0|alpha||COMPLETED|1795975617|1795975617|1795975627|10|1|380
10083|10076_1|alpha|batch|COMPLETED|1795975616|1795975630|1795975640|10|2|500
10083.batch|10076_1.batch|alpha||COMPLETED|1795975630|1795975630|1795975640|10|1|0
10076|10076_2|alpha|short|FAILED|1795975616|1795975650|1795975660|10|1|600
10076.0|10076_2.0|alpha||FAILED|1795975650|1795975650|1795975660|10|1|600
10081|10081|alpha|batch|COMPLETED|1795975650|1795975700|1795975720|20|1|
10081.batch|10081.batch|alpha||COMPLETED|1795975700|1795975700|1795975720|20|1|600
"""
# as 24.11 and 26.05 print it: no start of a job that was cancelled while it waited
NEW = """\
10047|10047|alpha|batch|CANCELLED by 20001|1795975630|None|1795975634|0|1|0
10048|10048|alpha|batch|REQUEUED|1795975630|1795975632|1795975634|2|1|
10048.batch|10048.batch|alpha||CANCELLED|1795975632|1795975632|1795975634|2|1|0
10048|10048|alpha|batch|PENDING|1795975634|Unknown|Unknown|0|1|0
10060|10059_3|alpha|batch|RUNNING|1795975634|1795975640|Unknown|360|1|0
10059|10059_[4-9%2]|alpha|batch|PENDING|1795975634|Unknown|Unknown|0|1|0
10061|10059_0|alpha|batch|COMPLETED|1795975634|1795975635|1795975635|0|1|18446744073709551614
10070|10070+0|alpha|batch|TIMEOUT|1795975634|1795975640|1795975700|60|1|10
10071|10070+1|alpha|batch|COMPLETED|1795975634|1795975640|1795975690|50|2|20
"""


def outcomes(text: str, *ids: int, since: int = 0) -> dict[int, accounting.Outcome]:
    """Of some jobs in an answer of sacct."""
    runner = FakeRunner({("sacct",): Completed(0, text.encode(), b"")})
    return accounting.outcomes(runner, "alpha", "/x/slurm.conf", ids, since, NOW)


def test_a_batch_job() -> None:
    """Its energy stands at the batch step, where it has no other."""
    found = outcomes(OLD, 10075)[10075]
    assert (found.state, found.start_epoch_s, found.end_epoch_s) == ("COMPLETED", 1795975617, 1795975677)
    assert (found.elapsed_s, found.energy_j, found.partition, found.nodes, found.has_run) == (60, 1740, "batch", 1, True)
    assert (found.cluster, found.submit_epoch_s) == ("alpha", 1795975616)


def test_an_array_is_all_of_its_tasks() -> None:
    """From its first start to its last end, energies summed, the row of the job before those of its steps."""
    found = outcomes(OLD, 10076)[10076]
    assert (found.state, found.start_epoch_s, found.end_epoch_s) == ("FAILED", 1795975617, 1795975660)
    assert (found.elapsed_s, found.energy_j, found.partition, found.nodes) == (30, 1500, "short", 2)
    assert [run.job_id for run in found.runs] == [10082, 10083, 10076]


def test_a_task_by_its_own_number() -> None:
    """What was split off has a number of its own, and is not the whole array."""
    found = outcomes(OLD, 10082)[10082]
    assert (found.elapsed_s, found.energy_j) == (10, 400)


def test_a_requeued_job_has_run_twice() -> None:
    """Both runs count; it has ended when the last one has."""
    found = outcomes(OLD, 10081)[10081]
    assert [(run.start_epoch_s, run.end_epoch_s, run.energy_j, run.state) for run in found.runs] == [
        (1795975618, 1795975649, 900, "REQUEUED"),
        (1795975700, 1795975720, 600, "COMPLETED"),
    ]
    assert (found.state, found.end_epoch_s, found.energy_j, found.submit_epoch_s) == ("COMPLETED", 1795975720, 1500, 1795975616)
    again = outcomes(NEW, 10048)[10048]
    assert (again.state, again.end_epoch_s, again.has_run, again.energy_j) == ("PENDING", None, True, None)


@pytest.mark.parametrize(("text", "job_id"), [(OLD, 10080), (NEW, 10047)])
def test_cancelled_while_it_waited(text: str, job_id: int) -> None:
    """It never ran, though 22.05 shows a start; it has ended."""
    found = outcomes(text, job_id)[job_id]
    assert (found.state, found.has_run, found.start_epoch_s, found.elapsed_s) == ("CANCELLED", False, None, 0)
    assert found.end_epoch_s is not None
    assert found.energy_j is None


def test_what_waits_or_runs_has_not_ended() -> None:
    """An array has not until its last task has; what was not measured has no energy."""
    assert outcomes(OLD, 10077)[10077].state == "PENDING"
    found = outcomes(NEW, 10059)[10059]
    assert (found.state, found.end_epoch_s, found.energy_j, len(found.runs)) == ("RUNNING", None, None, 2)


def test_a_heterogeneous_job() -> None:
    """Its components together, by the number of the first."""
    found = outcomes(NEW, 10070)[10070]
    assert (found.end_epoch_s, found.energy_j, found.elapsed_s) == (1795975700, 30, 110)


def test_an_older_job_of_the_same_number_is_another() -> None:
    """Numbers begin again where slurmctld's state was lost."""
    assert outcomes(OLD, 10075, since=1795975617) == {}
    assert outcomes(OLD, 1, 2) == {}


def test_no_text_of_users_is_asked_for_and_batches_are_bounded() -> None:
    """Nothing in the answer can hold a separator; a thousand jobs are five calls, each timed."""
    found = accounting.commands("alpha", "", range(1000))
    assert len(found) == 5
    assert all(0 < command.timeout_s <= 60 and command.most_bytes for command in found)
    assert not {"Comment", "AdminComment", "JobName", "SubmitLine", "WorkDir"} & set(accounting.FIELDS)
    assert found[0].argv[:3] == ["sacct", "-M", "alpha"]


def test_no_accounting_is_said() -> None:
    """With what is needed for it."""
    runner = FakeRunner({("sacct",): Completed(1, b"", b"Slurm accounting storage is disabled\n")})
    with pytest.raises(CommandError, match=r"cluster alpha: sacct: Slurm accounting storage is disabled.*slurmdbd"):
        accounting.outcomes(runner, "alpha", "", [1], 0, NOW)
    with pytest.raises(CommandError, match="3 fields"):
        outcomes("a|b|c\n", 1)
    assert accounting.outcomes(runner, "alpha", "", [], 0, NOW) == {}
