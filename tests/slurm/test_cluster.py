"""The test clusters themselves: side by side, after a crash, and gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CLUSTER_SCRIPT, Lab

pytestmark = pytest.mark.slurm


def marked(folder: Path) -> set[int]:
    """The living processes that carry a folder's mark in their environment."""
    mark = f"SLURM_CARBON_CLUSTER={folder}".encode()
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture
def second(lab: Lab) -> Iterator[Lab]:
    """Other clusters beside those of the session: three, on the fake clock."""
    other = Lab(Path(f"/var/tmp/sc-second-{os.getpid()}"), lab.bin)
    other.control("up", "--clusters", "3", "--fake-clock")
    try:
        yield other
    finally:
        subprocess.run([CLUSTER_SCRIPT, "--dir", other.folder, "down"], check=False, capture_output=True)


def test_side_by_side_crash_and_down(lab: Lab, second: Lab) -> None:
    """Two folders do not disturb each other; all killed at once it comes up again with its jobs; down leaves nothing."""
    users, shared_memory = Path("/etc/passwd").read_bytes(), set(os.listdir("/dev/shm"))
    ports = [json.loads((x.folder / "state.json").read_text())["base_port"] for x in (lab, second)]
    assert abs(ports[0] - ports[1]) >= 100
    submitted = second.run(
        "sbatch", "--parsable", "--begin=now+1hour", "-o", "/dev/null", "--wrap", "sleep 1000", cluster="gamma"
    )
    job_id = submitted.out.strip()
    assert second.job("gamma", job_id)["JobState"] == "PENDING"
    for pid in marked(second.folder):
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    second.control("up", "--clusters", "3", "--fake-clock")
    assert time.monotonic() - began < 15
    assert second.job("gamma", job_id)["JobState"] == "PENDING"
    second.control("jump", "+2h")
    second.wait_for("gamma", job_id, "RUNNING")
    second.control("down")
    assert not marked(second.folder)
    assert not second.folder.exists()
    left = {name for name in set(os.listdir("/dev/shm")) - shared_memory if "faketime" in name}
    assert not left
    assert Path("/etc/passwd").read_bytes() == users
    lab.control("status")
    assert lab.run("squeue").code == 0
