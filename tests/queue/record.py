"""Records what squeue and scontrol say of the hostile jobs: `python -m tests.queue.record VERSION [CHROOT]` as root.

The answers go to tests/fixtures/queue-VERSION, as they are, byte for byte.
"""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path

from slurm_carbon.slurm import queue, queue_columns, queue_json
from slurm_carbon.slurm.command import Completed
from tests.conftest import ROOT, Lab
from tests.queue.hostile import script
from tests.queue.live import LabRunner, prepare

FIXTURES = ROOT / "tests" / "fixtures"
WORD = "Qrecordedword"
NAMES = ("config", "columns", "node", "reservation")


def main(version: str, chroot: str = "") -> None:
    """Bring clusters up, fill them, write their answers down."""
    root = ["--root", chroot] if chroot else []
    lab = Lab(Path("/var/tmp") / f"sc-record-{version}", Path("/usr/bin"), clusters=("alpha",), version=version)
    lab.control("up", "--clusters", "1", *root)
    try:
        prepare(lab)
        lab.run("bash", "-s", stdin=script(), timeout=120)
        time.sleep(4)  # the scheduler starts what can start, and says why the rest cannot
        runner = LabRunner(lab)
        for name, command in zip(NAMES, queue.commands("alpha", runner.conf, WORD), strict=True):
            write(version, name, runner.run(command))
        write(version, "json", runner.run(queue_json.command("alpha", runner.conf, version)))
    finally:
        lab.control("down")
    lab = Lab(Path("/var/tmp") / f"sc-record-fed-{version}", Path("/usr/bin"), version=version)
    lab.control("up", "--clusters", "2", "--federation", *root)
    try:
        lab.run("bash", "-c", "cd; sbatch --begin now+1hour -J later --wrap true; sbatch -J runs --wrap 'sleep 99'")
        time.sleep(4)
        for cluster in lab.clusters:
            runner = LabRunner(lab, cluster=cluster)
            write(version, f"{cluster}-columns", runner.run(queue_columns.command(cluster, runner.conf, WORD)))
            write(version, f"{cluster}-json", runner.run(queue_json.command(cluster, runner.conf, version)))
    finally:
        lab.control("down")


def write(version: str, name: str, done: Completed) -> None:
    """Keep one answer."""
    assert done.exit_code == 0, done.stderr
    folder = FIXTURES / f"queue-{version}"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.gz").open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(done.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
