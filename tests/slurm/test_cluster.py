"""The test clusters themselves: side by side, after a crash, and gone without a trace."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CLUSTER_SCRIPT, SECOND_SLURM, VERSIONS, Lab, start_lab

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


def other_fake_clocks(folder: Path) -> bool:
    """Whether other clusters on a fake clock are up: their jobs may need what libfaketime has left."""
    clocks = set[bytes]()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        clocks |= {word for word in words if word.startswith(b"FAKETIME_TIMESTAMP_FILE=")}
    return any(not clock.endswith(f"={folder}/clock".encode()) for clock in clocks)


def shared_memory(pids: set[int]) -> set[str]:
    """What libfaketime has in the memory that these processes share."""
    found = set()
    for pid in pids:
        try:
            found |= set(re.findall(r"/dev/shm/\S*faketime\S*", Path(f"/proc/{pid}/maps").read_text()))
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
    users = Path("/etc/passwd").read_bytes()
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
    alone, used = not other_fake_clocks(second.folder), shared_memory(marked(second.folder))
    second.control("down")
    assert not marked(second.folder)
    assert not second.folder.exists()
    assert used
    assert not alone or not {path for path in used if Path(path).exists()}  # else the last one takes them all away
    assert Path("/etc/passwd").read_bytes() == users
    lab.control("status")
    assert lab.run("squeue").code == 0


@pytest.fixture(scope="module", params=VERSIONS)
def federation(request: pytest.FixtureRequest, installed: Path) -> Iterator[Lab]:
    """Two clusters in a federation, on the fake clock, of either Slurm."""
    yield from start_lab(installed, "federation", "--fake-clock", "--federation", version=request.param)


def test_federation(federation: Lab) -> None:
    """The federation has every cluster, and the Slurm is the one that was asked for."""
    assert federation.run("sbatch", "--version").out.split()[1].startswith(federation.version)
    shown = federation.run("sacctmgr", "-nP", "show", "federation", "format=federation,cluster").out
    assert sorted(line.strip("|") for line in shown.split()) == ["fed|alpha", "fed|beta"]
    job_id = federation.run("sbatch", "--parsable", "--hold", "--wrap", "true").out.partition(";")[0]
    assert int(job_id) > 1 << 26
    federation.cancel_all()


def test_jump_to_begin(federation: Lab) -> None:
    """A job that csbatch has put off runs at its time, as its user, in his home; it can call Slurm itself."""
    federation.to_evening()
    words = ["--parsable", "-M", "beta", "-t", "2:00:00", "-o", "out", "--wrap", "id -u; pwd; squeue -h -M beta -o %T"]
    done = federation.run(federation.bin / "csbatch", *words)
    assert done.code == 0, done.err
    job_id = done.out.partition(";")[0].strip()
    job = federation.job("beta", job_id)
    assert (job["JobState"], job["Reason"]) == ("PENDING", "BeginTime")
    begin = federation.run("date", "-d", job["StartTime"], "+%s")
    federation.jump_to(int(begin.out) + 1)
    federation.wait_for("beta", job_id, "COMPLETED")
    assert (federation.home() / "out").read_text().split() == ["20001", str(federation.home()), "RUNNING"]


def test_restart_reads_site_conf(federation: Lab) -> None:
    """A plug-in switched on in site.conf counts after a restart, and the job that ran before it still runs."""
    job_id = federation.run("sbatch", "--parsable", "-M", "alpha", "--wrap", "sleep 1000").out.partition(";")[0].strip()
    federation.wait_for("alpha", job_id, "RUNNING")
    folder = federation.folder / "alpha"
    (folder / "job_submit.lua").write_text(
        "function slurm_job_submit(job) job.admin_comment = 'seen' return slurm.SUCCESS end\n"
        "function slurm_job_modify() return slurm.SUCCESS end\n"
        "return slurm.SUCCESS\n"
    )
    with (folder / "site.conf").open("a") as site:
        site.write("JobSubmitPlugins=lua\n")
    federation.control("restart", "alpha")
    seen = federation.run("sbatch", "--parsable", "-M", "alpha", "--hold", "--wrap", "true").out.partition(";")[0].strip()
    assert federation.job("alpha", seen)["AdminComment"] == "seen"
    assert federation.job("alpha", job_id)["JobState"] == "RUNNING"
    federation.cancel_all()


@pytest.mark.second_slurm
def test_nothing_is_left_of_a_second_slurm(installed: Path) -> None:
    """No process, mount or folder after down, even of one that was killed half-way."""
    mounts = Path("/proc/self/mountinfo").read_text()
    labs = start_lab(installed, "gone", version="24.11")
    lab = next(labs)
    try:
        up = [CLUSTER_SCRIPT, "--dir", lab.folder, "up", "--root", SECOND_SLURM, "--fake-clock"]
        with subprocess.Popen(up, stdout=subprocess.DEVNULL) as again:
            while "slurmdbd" not in json.loads((lab.folder / "state.json").read_text())["processes"]:
                time.sleep(0.01)
            again.kill()
        assert marked(lab.folder)
        assert Path("/proc/self/mountinfo").read_text() == mounts
        lab.control("down")
        lab.control("down")
        assert not marked(lab.folder)
        assert not lab.folder.exists()
        assert Path("/proc/self/mountinfo").read_text() == mounts
    finally:
        labs.close()
