"""The queue of real clusters with the hostile jobs in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_carbon.queued import Queue
from slurm_carbon.slurm import accounting, queue, queue_json
from tests.conftest import VERSIONS, Lab, start_lab
from tests.queue.hostile import differences, script
from tests.queue.live import LabRunner, prepare

pytestmark = pytest.mark.slurm
RUN = """cd
ran=$(sbatch --parsable -t 5 -n1 --wrap 'sleep 1'); tasks=$(sbatch --parsable -t 5 -a 0-2 --wrap 'srun true')
cancelled=$(sbatch --parsable --begin now+1day --wrap true); waits=$(sbatch --parsable --begin now+2days --wrap true)
again=$(sbatch --parsable --requeue --wrap 'sleep 300')
while squeue -h -j $ran,$tasks -t PD,R,CG | grep -q .; do sleep 0.1; done
scancel $cancelled
held=$(sbatch --parsable --begin now+1 --wrap true); scontrol hold $held
until squeue -h -j $again -t R | grep -q .; do sleep 0.1; done
sleep 1; scontrol requeue $again
until sacct -n -D -j $again -o State | grep -q REQUEUED; do sleep 0.1; done
until sacct -n -j $cancelled -o State | grep -q CANCELLED; do sleep 0.1; done
until [ "$(sacct -n -X -S now-1hours -E now+9days -j $waits,$held -o JobID | wc -l)" = 2 ]; do sleep 0.1; done
echo $ran $tasks $cancelled $waits $held $again
"""


@pytest.fixture(scope="module", params=VERSIONS)
def lab(request: pytest.FixtureRequest, installed: Path) -> Iterator[Lab]:
    """One cluster of each version."""
    yield from start_lab(installed, "queue", clusters=("alpha",), version=request.param)


@pytest.fixture(scope="module")
def ran(lab: Lab) -> tuple[int, ...]:
    """Jobs of each fate, before the cluster is filled: ran, array, cancelled, waiting, held, requeued."""
    done = lab.run("bash", "-s", stdin=RUN, timeout=60)
    assert done.code == 0, done.err
    return tuple(map(int, done.out.split()))


@pytest.fixture(scope="module")
def filled(lab: Lab, ran: tuple[int, ...]) -> Lab:
    """The cluster with the hostile jobs, of which those that can start have."""
    lab.run("scancel", "-u", "user1", user=None)
    prepare(lab)
    done = lab.run("bash", "-s", stdin=script(), timeout=60)
    assert done.code == 0, done.err
    wait = "until squeue -h -n runs -t R | wc -l | grep -q 2 && squeue -h -n runs -o %r | grep -q Limit; do sleep 0.1; done"
    assert lab.run("timeout", "30", "bash", "-c", wait).code == 0
    return lab


def read(lab: Lab, user: str | None = None) -> tuple[Queue, LabRunner]:
    """The queue, and what it took."""
    runner = LabRunner(lab, user)
    now = int(lab.run("date", "+%s").out)
    return queue.read(runner, "alpha", runner.conf, now), runner


def test_outcomes(lab: Lab, ran: tuple[int, ...]) -> None:
    """What ran, what was cancelled, what waits, is held or was requeued."""
    runner = LabRunner(lab)
    now = int(lab.run("date", "+%s").out)
    found = accounting.outcomes(runner, "alpha", runner.conf, (*ran, 999_999), now - 3600, now)
    job, array, cancelled, waits, held, again = (found[job_id] for job_id in ran)
    assert len(found) == 6
    assert len(runner.asked) == 1
    assert (job.state, job.has_run, job.partition, job.nodes, job.energy_j) == ("COMPLETED", True, "batch", 1, None)
    assert job.start_epoch_s is not None
    assert job.end_epoch_s is not None
    assert 1 <= job.elapsed_s == job.end_epoch_s - job.start_epoch_s < 10
    assert (array.state, len(array.runs), array.end_epoch_s is not None) == ("COMPLETED", 3, True)
    assert (cancelled.state, cancelled.has_run, cancelled.end_epoch_s is not None) == ("CANCELLED", False, True)
    assert {(x.state, x.has_run, x.end_epoch_s) for x in (waits, held)} == {("PENDING", False, None)}
    assert again.has_run
    assert again.runs[0].state == "REQUEUED"
    assert again.runs[0].end_epoch_s is not None


def test_hostile_jobs_are_read_as_they_are(filled: Lab) -> None:
    """Each of them, as it was asked for, in one squeue, and one more for arrays that later versions merge."""
    found, runner = read(filled)
    without = frozenset(["unwanted_nodes"]) if filled.version == "22.05" else frozenset()
    assert differences(found.jobs, without) == []
    squeues = [command.argv for command in runner.asked if command.argv[0] == "squeue"]
    assert len(squeues) == (1 if filled.version == "22.05" else 2)
    assert found.version.startswith(filled.version)


def test_an_ordinary_user_reads_the_same(filled: Lab) -> None:
    """Where the site hides nothing."""
    assert read(filled, "user2")[0].jobs == read(filled)[0].jobs


def test_json_reads_the_same(filled: Lab) -> None:
    """By itself, too."""
    runner = LabRunner(filled)
    done = runner.run(queue_json.command("alpha", runner.conf, filled.version))
    assert differences(queue_json.parse("alpha", done.stdout)) == []


def test_the_number_of_a_record_names_just_it(filled: Lab) -> None:
    """scontrol changes those tasks and no others, also of arrays that are written with steps, and of split ones."""
    before = {job.id: job for job in read(filled)[0].jobs}
    chosen = [job for job in before.values() if job.name in ("steps", "split", "torn", "array") and job.state == "PENDING"]
    chosen = [job for job in chosen if job.array_tasks in ("0-9", "3", "0,3-4") or job.name == "steps"]
    assert len(chosen) == 4
    for job in chosen:
        done = filled.run("scontrol", "update", f"JobId={job.number}", f"Comment=only {job.array_tasks}", user=None)
        assert (done.code, done.err) == (0, ""), job
    after = read(filled)[0].jobs
    tasks = {(job.name, job.array_tasks): job.comment for job in after if job.array_id}
    changed = {name for (name, which), comment in tasks.items() if comment.startswith("only")}
    assert changed == {"steps", "split", "torn", "array"}
    assert sum(job.task_count for job in after if job.comment.startswith("only")) == 7 + 1 + 3 + 10
    assert sum(job.task_count for job in after) == sum(job.task_count for job in before.values())


def test_nodes_and_reservations_as_of_now(filled: Lab) -> None:
    """The drained one is out of service, the maintenance is there."""
    found, _ = read(filled)
    assert [node.name for node in found.nodes if not node.in_service] == ["alpha2"]
    assert {r.name: sorted(r.nodes) for r in found.reservations} == {"maint": ["alpha0", "alpha1"], "lecture": ["alpha3"]}
    maint = found.reservations[0]
    assert 4.9 * 3600 < maint.start_epoch_s - found.read_epoch_s < 5.1 * 3600
