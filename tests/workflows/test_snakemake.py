"""Snakemake's Slurm executor submits through csbatch: it finds an `sbatch` on PATH and knows nothing more."""

from __future__ import annotations

import re
from concurrent.futures import Future
from pathlib import Path

import pytest

from slurm_carbon import marks
from tests.conftest import Done
from tests.workflows.conftest import Bench, planned

pytestmark = [pytest.mark.slurm, pytest.mark.workflow]

SNAKEFILE = """rule measure:
    output: "node.txt"
    resources: runtime=120, mem_mb=500
    threads: 4
    shell: "echo $SLURMD_NODENAME $(date +%s) > {output}"
"""

# a job takes some 4 s, most of it two starts of snakemake; a check that comes too early puts the next off by 10 s
FIRST_CHECK_S = "6"


def _snakemake(bench: Bench, name: str, *options: str, **environment: str) -> tuple[Path, Future[Done]]:
    folder = bench.folder(name)
    (folder / "Snakefile").write_text(SNAKEFILE)
    started = bench.start(
        folder, "-m", "snakemake", "--executor", "slurm", "--jobs", "1", "--default-resources", "slurm_account=lab",
        "--slurm-init-seconds-before-status-checks", FIRST_CHECK_S, *options, "measure", **environment,
    )  # fmt: skip
    return folder, started


def _ran(folder: Path, done: Done) -> tuple[str, str, int]:
    """The job's id, the node that it ran on, and when."""
    assert done.code == 0, done.err
    assert "1 of 1 steps (100%) done" in done.err
    submitted = re.search(r"submitted with SLURM jobid (\d+) ", done.err)
    assert submitted, done.err
    node, ran_s = (folder / "node.txt").read_text().split()
    return submitted[1], node, int(ran_s)


def test_job_runs_at_once_where_nothing_is_gained(bench: Bench) -> None:
    """A rule whose job may not wait nor move runs at once on alpha, submitted by csbatch, and the workflow ends well."""
    folder, started = _snakemake(
        bench, "at-once", CSBATCH_MAX_DELAY="0", CSBATCH_LOCATIONS="alpha", CSBATCH_SBATCH=bench.logged_sbatch
    )
    job_id, node, _ = _ran(folder, started.result())
    assert node.startswith("alpha")
    assert bench.lab.job("alpha", job_id)["Comment"] == "rule_measure"
    assert "--wrap=" in bench.logged[-1]
    assert "--begin" not in bench.logged[-1]


def test_workflow_goes_on_after_a_delayed_job(bench: Bench) -> None:
    """A rule whose job csbatch puts off on alpha waits for its hour, keeps its own comment, and ends the workflow well."""
    submitted = int(bench.lab.run("date", "+%s").out)
    folder, started = _snakemake(bench, "delayed", CSBATCH_LOCATIONS="alpha")
    waiting = bench.waiting_job("alpha", started)
    mark = planned(waiting, submitted, "alpha")
    assert marks.read(waiting["Comment"])[0] == "rule_measure"
    bench.lab.jump_to(mark.begin_epoch_s + 60)
    job_id, node, ran_s = _ran(folder, started.result())
    assert job_id == waiting["JobId"]
    assert node.startswith("alpha")
    assert ran_s >= mark.begin_epoch_s


def test_workflow_follows_its_job_to_another_cluster(bench: Bench) -> None:
    """A rule whose job csbatch sends to beta ends the workflow well: `ID;beta` is understood, and sacct asks all clusters."""
    folder, started = _snakemake(bench, "moved", CSBATCH_LOCATIONS="beta", CSBATCH_MAX_DELAY="0")
    job_id, node, _ = _ran(folder, started.result())
    assert node.startswith("beta")
    mark = marks.read(bench.lab.job("beta", job_id)["Comment"])[1]
    assert mark
    assert mark.location == "beta/batch"
