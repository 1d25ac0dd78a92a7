"""What the tests of workflow tools share: the tools in an environment of their own, and csbatch under sbatch's name."""

from __future__ import annotations

import configparser
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slurm_carbon import marks
from tests.conftest import ROOT, Done, Lab

DEFAULT_VENV = "/var/tmp/slurm-carbon-workflows-venv"
BY_TOOL_LOG = "by-csbatch.log"

# libfaketime 0.9.10 breaks clock_nanosleep to an absolute time, which is what Python's time.sleep does
SITECUSTOMIZE = """import select
import time


def _sleep(seconds):
    select.select((), (), (), seconds)


time.sleep = _sleep
"""

# snakemake's job step drops every SLURM_* variable: a site has its slurm.conf in /etc/slurm, these clusters do not
SRUN = """#!/bin/sh
export SLURM_CONF="${{SLURM_CONF:-{folder}/$SLURM_CLUSTER_NAME/slurm.conf}}"
exec /usr/bin/srun "$@"
"""

# csbatch alone heeds $CSBATCH_SBATCH, so what is written here came through it
LOGGED_SBATCH = """#!/bin/sh
printf '%s\\n' "$(echo "$*" | tr '\\n' ' ')" >> "$HOME/{log}"
exec /usr/bin/sbatch "$@"
"""


def _requirements() -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup["options.extras_require"]["workflows"].split()


@pytest.fixture(scope="session")
def workflows_python() -> Path:
    """The Python of an environment with the tools, which every user can read; made if it is missing."""
    venv = Path(os.environ.get("SLURM_CARBON_WORKFLOWS_VENV", DEFAULT_VENV))
    python = venv / "bin/python"
    probe = [python, "-c", "import submitit, snakemake, snakemake_executor_plugin_slurm"]
    with venv.with_name(venv.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another session may be making it
        if python.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return python
        maker = os.environ.get("PYTHON", "/usr/bin/python3")
        for command in (
            [maker, "-m", "venv", venv],
            [python, "-m", "pip", "install", "-q", "--retries", "1", *_requirements()],
        ):
            done = subprocess.run(command, capture_output=True, text=True, umask=0o022, check=False)
            if done.returncode:
                why = (done.stderr or done.stdout).strip().splitlines()[-1:]
                pytest.skip(f"no environment for the workflow tools in {venv}: {' '.join(why)}")
    return python


@dataclass
class Bench:
    """A login node where `sbatch` is csbatch, at an hour that is dirty in Germany."""

    lab: Lab
    python: Path
    shims: Path
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def folder(self, name: str) -> Path:
        """A new folder of user1."""
        folder = self.lab.home() / name
        folder.mkdir()
        os.chown(folder, *self.lab.home().stat()[4:6])
        return folder

    def start(self, folder: Path, *argv: str, timeout: float = 60, **environment: str) -> Future[Done]:
        """Start a Python program of user1 on alpha, with csbatch as its sbatch."""
        return self.threads.submit(
            self.lab.run, self.python, *argv, cwd=folder, timeout=timeout, PATH=f"{self.shims}:/usr/bin:/bin",
            PYTHONPATH=str(self.shims / "python"), **environment,
        )  # fmt: skip

    @property
    def logged(self) -> list[str]:
        """Every call of the real sbatch by csbatch while `CSBATCH_SBATCH` was `self.logged_sbatch`."""
        return (self.lab.home() / BY_TOOL_LOG).read_text().splitlines()

    @property
    def logged_sbatch(self) -> str:
        return str(self.shims / "logged-sbatch")

    def waiting_job(self, cluster: str, tool: Future[Done], seconds: float = 20) -> dict[str, str]:
        """The fields of the first job that the running tool has pending on a cluster."""
        end = time.monotonic() + seconds
        while True:
            found = self.lab.run("squeue", "-h", "-u", "user1", "-t", "PENDING", "-o", "%A", cluster=cluster).out.split()
            if found:
                return self.lab.job(cluster, found[0])
            assert not tool.done(), f"no job was pending: {tool.result()}"
            assert time.monotonic() < end, f"no job is pending on {cluster} after {seconds} s"
            time.sleep(0.1)

    def cancel(self) -> None:
        """Leave no job of user1 behind."""
        for cluster in ("alpha", "beta"):
            done = self.lab.run("scancel", "-u", "user1", cluster=cluster)
            assert done.code == 0, done.err


@pytest.fixture
def bench(fake_lab: Lab, workflows_python: Path) -> Iterator[Bench]:
    """Clusters on the fake clock, in the evening, with csbatch in the place of sbatch."""
    shims = fake_lab.site / "shims"
    if not shims.exists():
        (shims / "python").mkdir(parents=True)
        (shims / "python/sitecustomize.py").write_text(SITECUSTOMIZE)
        (shims / "sbatch").symlink_to(fake_lab.bin / "csbatch")
        for name, text in (("srun", SRUN), ("logged-sbatch", LOGGED_SBATCH)):
            (shims / name).write_text(text.format(folder=fake_lab.folder, log=BY_TOOL_LOG))
            (shims / name).chmod(0o755)
        config = fake_lab.config.read_text()
        assert "\nmin_saving_pct = 5\n" in config
        fake_lab.config.write_text(config.replace("\nmin_saving_pct = 5\n", "\nmin_saving_pct = 1\n"))
    bench = Bench(fake_lab, workflows_python, shims)
    bench.lab.to_evening()
    yield bench
    bench.threads.shutdown()
    bench.cancel()


def planned(fields: dict[str, str], submitted_s: int, cluster: str) -> marks.Mark:
    """The mark of a job that csbatch put off on a cluster, checked to have been heeded by Slurm."""
    mark = marks.read(fields["Comment"])[1]
    assert mark, fields["Comment"]
    assert mark.location == f"{cluster}/batch"
    assert mark.begin_epoch_s > submitted_s + 600
    assert mark.emissions_g < mark.baseline_g
    eligible = datetime.fromisoformat(fields["EligibleTime"]).replace(tzinfo=UTC)
    assert int(eligible.timestamp()) == mark.begin_epoch_s
    return mark
