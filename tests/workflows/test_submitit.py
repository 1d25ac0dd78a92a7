"""submitit submits through csbatch: it finds an `sbatch` on PATH and knows nothing more."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slurm_carbon import marks
from tests.conftest import Done
from tests.workflows.conftest import Bench, planned

pytestmark = [pytest.mark.slurm, pytest.mark.workflow]

# of each number: the job's id, what the function returned from within the job, and what submitit saw of its state
PROGRAM = """import json
import os
import sys
import time

import submitit


def twice(number):
    return number * 2, os.environ["SLURMD_NODENAME"], time.time()


def last_state(job, seconds):
    end = time.monotonic() + seconds
    state = ""
    while state not in ("COMPLETED", "FAILED") and time.monotonic() < end:
        state = job.watcher.get_state(job.job_id, mode="force")
        time.sleep(0.2)
    return state


executor = submitit.SlurmExecutor(folder="log")
executor.update_parameters(time=120, cpus_per_task=4, nodes=1, ntasks_per_node=1)
jobs = executor.map_array(twice, list(map(int, sys.argv[2:])))
results = [job.result() for job in jobs]
print(json.dumps([[job.job_id, *result, last_state(job, float(sys.argv[1]))] for job, result in zip(jobs, results)]))
"""


def _program(bench: Bench, name: str) -> Path:
    folder = bench.folder(name)
    (folder / "program.py").write_text(PROGRAM)
    return folder


def _rows(done: Done) -> list[list]:
    assert done.code == 0, done.err
    return json.loads(done.out)


def _ids_apart(bench: Bench) -> None:
    """Make beta's next job ids unknown on alpha: of an id that both have, submitit sees the state of alpha's job."""
    ids = {"alpha": 0, "beta": 0}
    while ids["beta"] <= ids["alpha"]:
        for cluster in ids if not ids["alpha"] else ("beta",):
            done = bench.lab.run("/usr/bin/sbatch", "--parsable", "-H", "--wrap", "true", cluster=cluster)
            ids[cluster] = int(done.out)
    bench.cancel()


def test_job_runs_at_once_where_nothing_is_gained(bench: Bench) -> None:
    """A job that may not wait nor move runs at once on alpha, submitted by csbatch, and its result comes back."""
    started = bench.start(
        _program(bench, "at-once"), "program.py", "15", "21",
        CSBATCH_MAX_DELAY="0", CSBATCH_LOCATIONS="alpha", CSBATCH_SBATCH=bench.logged_sbatch,
    )  # fmt: skip
    [[job_id, number, node, _, state]] = _rows(started.result())
    assert (number, node, state) == (42, "alpha0", "COMPLETED")
    assert bench.lab.job("alpha", job_id)["JobState"] == "COMPLETED"
    assert "submission_file" in bench.logged[-1]
    assert "--begin" not in bench.logged[-1]


def test_delayed_job_gives_its_result(bench: Bench) -> None:
    """A job that csbatch puts off on alpha is pending until its hour, and submitit then gets its result and state."""
    submitted = int(bench.lab.run("date", "+%s").out)
    started = bench.start(_program(bench, "delayed"), "program.py", "15", "21", CSBATCH_LOCATIONS="alpha")
    waiting = bench.waiting_job("alpha", started)
    mark = planned(waiting, submitted, "alpha")
    bench.lab.jump_to(mark.begin_epoch_s + 60)
    [[job_id, number, node, ran_s, state]] = _rows(started.result())
    assert (job_id, number, state) == (waiting["JobId"], 42, "COMPLETED")
    assert node.startswith("alpha")
    assert ran_s >= mark.begin_epoch_s


def test_delayed_array_gives_every_result(bench: Bench) -> None:
    """An array of submitit's map_array is put off as a whole, and every task's result comes back in its order."""
    submitted = int(bench.lab.run("date", "+%s").out)
    started = bench.start(_program(bench, "array"), "program.py", "15", "1", "2", "3", CSBATCH_LOCATIONS="alpha")
    waiting = bench.waiting_job("alpha", started)
    mark = planned(waiting, submitted, "alpha")
    bench.lab.jump_to(mark.begin_epoch_s + 60)
    rows = _rows(started.result())
    array_id = waiting["JobId"].split()[0]
    assert [row[0] for row in rows] == [f"{array_id}_{i}" for i in range(3)]
    assert [row[1] for row in rows] == [2, 4, 6]
    assert all(row[3] >= mark.begin_epoch_s and row[4] == "COMPLETED" for row in rows)


def test_result_comes_from_another_cluster_but_not_the_state(bench: Bench) -> None:
    """submitit reads the result of a job on beta from its file, but asks only alpha's sacct, which knows no such job."""
    _ids_apart(bench)
    started = bench.start(_program(bench, "moved"), "program.py", "3", "21", CSBATCH_LOCATIONS="beta", CSBATCH_MAX_DELAY="0")
    [[job_id, number, node, _, state]] = _rows(started.result())
    assert (number, node[:4]) == (42, "beta")
    fields = bench.lab.wait_for("beta", job_id, "COMPLETED")
    mark = marks.read(fields["Comment"])[1]
    assert mark
    assert mark.location == "beta/batch"
    assert datetime.fromisoformat(fields["StartTime"]).replace(tzinfo=UTC).timestamp() < mark.begin_epoch_s + 120
    assert state == "UNKNOWN"
