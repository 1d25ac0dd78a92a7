"""The main path on real Slurm: a job goes to the cleaner hour on the cleaner cluster, starts there then, and ends."""

from __future__ import annotations

import re

import pytest

from slurm_carbon import marks
from tests.conftest import Lab

pytestmark = pytest.mark.slurm


def test_job_starts_where_and_when_planned(fake_lab: Lab) -> None:
    """Under the fake clock the job waits for its hour on the cleaner cluster, runs then, and completes."""
    fake_lab.to_evening()
    done = fake_lab.run(
        fake_lab.bin / "csbatch", "--carbon-verbose", "-t", "2:00:00", "-n", "4", "-o", "out", "--wrap", "hostname; date +%s"
    )
    assert done.code == 0, done.err
    job_id = re.fullmatch(r"Submitted batch job (\d+) on cluster beta\n", done.out).group(1)
    waiting = fake_lab.job("beta", job_id)
    assert waiting["JobState"] == "PENDING"
    assert waiting["Partition"] == "batch"
    mark = marks.read(waiting["Comment"])[1]
    assert mark.location == "beta/batch"
    assert mark.emissions_g < mark.baseline_g
    before = int(fake_lab.run("date", "+%s").out)
    assert mark.begin_epoch_s > before + 600
    fake_lab.jump_to(mark.begin_epoch_s - 300)
    assert fake_lab.job("beta", job_id)["JobState"] == "PENDING"
    fake_lab.jump_to(mark.begin_epoch_s + 60)
    fake_lab.wait_for("beta", job_id, "COMPLETED")
    started = int((fake_lab.home() / "out").read_text().split()[1])
    assert mark.begin_epoch_s <= started <= mark.begin_epoch_s + 120


def test_script_on_stdin_is_placed_like_a_file(jobs: Lab) -> None:
    """Read by sbatch, by us, by the controller's check and by sbatch again: each time from its start."""
    script = "#!/bin/sh\n#SBATCH -t 2:00:00\n#CSBATCH --carbon-max-delay=20h\n" + "# filler\n" * 20_000 + "true\n"
    done = jobs.run(jobs.bin / "csbatch", "-n", "16", "--parsable", stdin=script)
    assert done.code == 0, done.err
    job_id, cluster = done.out.strip().split(";")
    assert cluster == "beta"
    assert jobs.job("beta", job_id)["JobName"] == "sbatch"
    stored = jobs.run("scontrol", "write", "batch_script", job_id, "-", cluster="beta")
    assert stored.out.rstrip("\n") == script.rstrip("\n")
    left = jobs.run(jobs.bin / "csbatch", "--hold", "--parsable", stdin=script)
    stored = jobs.run("scontrol", "write", "batch_script", left.out.strip(), "-")
    assert stored.out.rstrip("\n") == script.rstrip("\n")


def test_script_from_a_pipe_is_placed_like_a_file(jobs: Lab) -> None:
    """`csbatch <(generate)`: a script that can be read only once."""
    csbatch = f"{jobs.bin}/csbatch -t 2:00:00 -n 16 --parsable"
    done = jobs.run("bash", "-c", f"{csbatch} <(printf '#!/bin/sh\\necho one\\n') a 'b c'")
    assert done.code == 0, done.err
    job_id, cluster = done.out.strip().split(";")
    stored = jobs.run("scontrol", "write", "batch_script", job_id, "-", cluster=cluster)
    assert stored.out.startswith("#!/bin/sh\necho one\n")


def test_script_on_dev_stdin_is_placed_like_a_file(jobs: Lab) -> None:
    """The form of Snakemake's executor: the script by name, its text by a pipe."""
    script = "#!/bin/sh\ntrue\n"
    done = jobs.run(jobs.bin / "csbatch", "-t", "2:00:00", "-n", "16", "--parsable", "/dev/stdin", stdin=script)
    assert done.code == 0, done.err
    job_id, cluster = done.out.strip().split(";")
    assert cluster == "beta"
    assert jobs.run("scontrol", "write", "batch_script", job_id, "-", cluster=cluster).out.rstrip() == script.rstrip()


def test_script_in_a_file_on_stdin_begins_where_the_shell_is(jobs: Lab) -> None:
    """`{ read first; csbatch; } < file`: what was read before us is not part of the script."""
    (jobs.home() / "two.txt").write_text("first line\n#!/bin/sh\ntrue\n")
    for environment in ({}, {"SLURM_CARBON_OUTLOOK": "/none"}):
        command = f"{{ read -r first; {jobs.bin}/csbatch -t 2:00:00 -n 16 --parsable; }} < two.txt"
        done = jobs.run("bash", "-c", command, **environment)
        assert done.code == 0, done.err
        job_id, _, cluster = done.out.strip().partition(";")
        stored = jobs.run("scontrol", "write", "batch_script", job_id, "-", cluster=cluster or "alpha")
        assert stored.out.startswith("#!/bin/sh\ntrue\n")
