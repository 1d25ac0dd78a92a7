"""Which way a queue is read, and what stops a reading: time, size, a failing controller."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_carbon.errors import CommandError
from slurm_carbon.slurm import pyslurm_dump, pyslurm_reader, queue, queue_json
from slurm_carbon.slurm.capacity import Settings
from slurm_carbon.slurm.command import Command, Completed, FakeRunner, Runner
from tests.queue import pyslurm_25_11

SETTINGS = Settings("25.11.2", True, True, True)
VERSION = ("squeue", "--version")


def program(folder: Path, name: str, text: str) -> str:
    """A program of that name, first on PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


# limits


def test_a_squeue_that_prints_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has filled the memory."""
    monkeypatch.setenv("PATH", program(tmp_path, "squeue", "exec yes"))
    command = Command(["squeue"], "queue", timeout_s=20, most_bytes=1 << 20)
    with pytest.raises(CommandError, match="squeue prints more than 1048576 bytes"):
        Runner().run(command)


def test_every_call_is_timed_and_bounded() -> None:
    """None of them can hold up a tick for ever or fill the memory."""
    commands = [*queue.commands("alpha", "/x", "Qword"), queue_json.command("alpha", "/x", "24.11"),
                pyslurm_reader.command("alpha", "/x")]  # fmt: skip
    for command in commands:
        assert 0 < command.timeout_s <= 120
        assert command.most_bytes is not None
        assert command.environment["SLURM_CONF"] == "/x"
        assert "-M" not in command.argv


def test_a_hanging_squeue_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an error that says so."""
    monkeypatch.setenv("PATH", program(tmp_path, "squeue", "sleep 60"))
    began = time.monotonic()
    with pytest.raises(CommandError, match=r"squeue took longer than 0\.2 s"):
        Runner().run(Command(["squeue"], "queue", timeout_s=0.2))
    assert time.monotonic() - began < 10


def test_what_a_child_gets_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but what is left out, and what is added; or only that."""
    monkeypatch.setenv("SQUEUE_SORT", "x")
    monkeypatch.setenv("KEPT", "y")
    some = Runner().run(Command(["env"], "", environment={"ADDED": "z"}, without=("SQUEUE_",))).stdout.splitlines()
    assert b"KEPT=y" in some
    assert b"ADDED=z" in some
    assert not any(line.startswith(b"SQUEUE_") for line in some)
    only = Command(["/usr/bin/env"], "", environment={"ADDED": "z"}, only_environment=True)
    assert Runner().run(only).stdout == b"ADDED=z\n"


def test_a_controller_that_does_not_answer_is_not_asked_again() -> None:
    """No second way of asking helps there."""
    runner = FakeRunner({("squeue",): Completed(1, b"", b"slurm_load_jobs error: Unable to contact slurm controller\n")})
    with pytest.raises(CommandError, match=r"cluster alpha: squeue: .*Unable to contact"):
        queue.by_squeue(runner, "alpha", "", SETTINGS)
    assert len(runner.asked) == 1


@pytest.mark.parametrize("text", [b"", b"no json", b"{}", b'{"jobs": [{"job_id": 1, "job_state": "PENDING"}]}', b'{"jobs": 3}',
                                  b'{"jobs": [1]}', b'{"jobs": [[[[[['])  # fmt: skip
def test_json_of_another_form_is_refused(text: bytes) -> None:
    """With an error of ours."""
    with pytest.raises(CommandError):
        queue_json.parse("alpha", text)


# pyslurm


def fitting(version: str = "25.11.2", there: str = "slurm 25.11.4") -> FakeRunner:
    """Where squeue is of a version."""
    return FakeRunner({VERSION: Completed(0, f"{there}\n".encode(), b"")})


@pytest.mark.parametrize(
    ("version", "settings", "there", "obstacle"),
    [
        ("25.11.2", SETTINGS, "slurm 25.11.4", ""),
        ("", SETTINGS, "slurm 25.11.4", "not installed"),
        ("25.11.2", SETTINGS._replace(version="24.11.5"), "slurm 24.11.5", "cluster's Slurm is 24.11.5"),
        ("25.11.2", SETTINGS, "slurm-wlm 24.11.5", "installed here is 24.11.5"),
        ("22.5.3", SETTINGS._replace(version="22.05.8"), "slurm 22.05.8", "its API is known"),
        ("25.11.2", SETTINGS._replace(counts_gpus=False), "slurm 25.11.4", "AccountingStorageTRES=gres/gpu"),
        ("25.11.2", SETTINGS._replace(counts_gpus=False, has_gpus=False), "slurm 25.11.4", ""),
    ],
)
def test_pyslurm_must_fit(tmp_path: Path, version: str, settings: Settings, there: str, obstacle: str) -> None:
    """The same release as the cluster's and as the library that it loads; and it must see what we need."""
    conf = tmp_path / "slurm.conf"
    conf.touch()
    found = pyslurm_reader.obstacle(fitting(there=there), str(conf), settings, version)
    assert obstacle in found
    assert bool(found) == bool(obstacle)


def test_pyslurm_needs_a_configuration(tmp_path: Path) -> None:
    """Importing it without one would end the process."""
    assert "there is no" in pyslurm_reader.obstacle(fitting(), str(tmp_path / "none"), SETTINGS, "25.11.2")


def test_ways_to_read() -> None:
    """`auto` takes squeue where pyslurm does not fit, `pyslurm` says why it does not, others are no way."""
    assert not pyslurm_reader.installed()
    assert queue.reader("squeue", FakeRunner({}), "", SETTINGS) is queue.by_squeue
    assert queue.reader("auto", FakeRunner({}), "", SETTINGS) is queue.by_squeue
    with pytest.raises(CommandError, match="pyslurm cannot read the queue: it is not installed"):
        queue.reader("pyslurm", FakeRunner({}), "", SETTINGS)
    with pytest.raises(CommandError, match="'rest' is no reader of queues: choose from auto, squeue, pyslurm"):
        queue.reader("rest", FakeRunner({}), "", SETTINGS)


@pytest.fixture(scope="module")
def python_with_pyslurm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python whose pyslurm is the stand-in, found as an installed one is."""
    folder = tmp_path_factory.mktemp("pyslurm") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    source = Path(pyslurm_25_11.__file__).read_text()
    (packages / "pyslurm.py").write_text(source + pyslurm_25_11.LOADING)
    return str(folder / "bin/python")


def test_pyslurm_gives_the_same_values(python_with_pyslurm: str, tmp_path: Path) -> None:
    """As far as it sees them: from a process of its own, whatever it prints besides."""
    conf = tmp_path / "slurm.conf"
    conf.touch()
    found = pyslurm_reader.read(Runner(), "alpha", str(conf), SETTINGS, python_with_pyslurm)
    assert found == pyslurm_25_11.EXPECTED


def test_a_pyslurm_that_ends_its_process_is_an_error(python_with_pyslurm: str, tmp_path: Path) -> None:
    """Without a configuration it says `fatal` and ends: that is not our process."""
    with pytest.raises(CommandError, match="pyslurm: fatal: Could not establish a configuration source"):
        pyslurm_reader.read(Runner(), "alpha", str(tmp_path / "none"), SETTINGS, python_with_pyslurm)


def test_squeue_is_asked_where_pyslurm_fails() -> None:
    """As it does for all jobs when the name of one of them is no UTF-8."""
    runner = FakeRunner({(sys.executable,): Completed(1, b"", b"UnicodeDecodeError: ...\n")})
    with pytest.raises(CommandError, match="cannot run squeue: not faked"):
        queue.by_pyslurm(runner, "alpha", "/x", SETTINGS)
    assert [command.argv[0] for command in runner.asked] == [sys.executable, "squeue"]


def test_dependencies_in_words() -> None:
    """As sbatch takes them: a job that waits for something must not look free."""
    words = {"after": [], "afterok": [25, "26_1"], "singleton": True, "satisfy": "all"}
    assert pyslurm_dump._dependency(words) == "afterok:25:26_1,singleton"
    assert pyslurm_dump._dependency({"afterany": [], "singleton": False, "satisfy": "any"}) == "unknown"
    assert pyslurm_dump._dependency(None) == ""
