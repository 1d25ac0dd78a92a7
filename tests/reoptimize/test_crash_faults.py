"""Controllers, the accounting and the ledger fail in the midst of moves, on real clusters: lost 0, doubled 0, held 0."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.reoptimize.crash_bench import HOUR_S, USERS, Books

pytestmark = pytest.mark.slurm
# of a run that moves two jobs: about where the jobs are held, copies asked for, sources cancelled, copies released
POINTS = (18, 30, 38, 52, 62)


@pytest.fixture
def books(moving: Books) -> Iterator[Books]:
    """The clusters, with the true times: here slurmctld does forget."""
    moving.times = {}
    yield moving
    moving.clear()


def add(books: Books, name: str) -> list[tuple[str, str, int]]:
    """A job of each user, and their moves to the other cluster."""
    return add_all(books, [name])[name]


def add_all(books: Books, names: list[str]) -> dict[str, list[tuple[str, str, int]]]:
    """The same for several runs, the jobs safe from a slurmctld that forgets."""
    books.add({f"{name} {user}": user for name in names for user in USERS})
    books.written_down()
    return {name: [(f"{name} {user}", "beta/batch", HOUR_S) for user in USERS] for name in names}


def finish(books: Books, ledger: Path) -> None:
    """Nothing fails any more: runs until all is done, and the books."""
    for _ in range(3):
        books.jump(500)
        done = books.tick(ledger)
        assert done.code == 0, done
    assert "open:" not in done.out, done.out
    books.close()


def process(books: Books, name: str) -> int:
    """The pid of a daemon."""
    state = json.loads((books.lab.folder / "state.json").read_text())
    return int(state["processes"][name][0])


def answered(books: Books) -> None:
    """Wait until the controllers have done what they were asked while they hung: the fake clock is ahead of that."""
    end = time.monotonic() + 30
    for cluster in books.lab.clusters:
        while int(books.lab.run("sdiag", user=None, cluster=cluster).out.partition("Server thread count:")[2].split()[0]) > 3:
            assert time.monotonic() < end
            time.sleep(0.2)


@contextlib.contextmanager
def meanwhile(seconds: float, what: Callable[[], None]) -> Iterator[None]:
    """Do something some seconds after the block has begun."""
    timer = threading.Timer(seconds, what)
    timer.start()
    yield
    timer.join()


def test_controllers_are_killed_after_a_run_was(books: Books) -> None:
    """A run is killed, and a slurmctld, which forgets its last seconds; both come back."""
    ledger = books.ledger()
    moves = add_all(books, [f"point {point}" for point in POINTS])
    for place, point in enumerate(POINTS):
        with books.busy():
            books.tick(ledger, *moves[f"point {point}"], end_at=point, finish=False)
        name = books.lab.clusters[place % 2]
        os.kill(process(books, f"slurmctld-{name}"), signal.SIGKILL)
        books.lab.control("restart", name)
    finish(books, ledger)


def test_a_controller_is_killed_and_comes_back_in_the_midst(books: Books) -> None:
    """While a run waits for what it did to be written down, the target's slurmctld is killed and started again."""

    def kill() -> None:
        os.kill(process(books, "slurmctld-beta"), signal.SIGKILL)
        books.lab.control("restart", "beta")

    ledger = books.ledger()
    moves = add(books, "comes back")
    with books.busy(), meanwhile(4.0, kill):
        books.tick(ledger, *moves)
    finish(books, ledger)


def test_a_controller_is_killed_in_the_midst(books: Books) -> None:
    """The source's slurmctld is killed instead, and stays away for a run."""
    ledger = books.ledger()
    moves = add(books, "stays away")
    with books.busy(), meanwhile(4.0, lambda: os.kill(process(books, "slurmctld-alpha"), signal.SIGKILL)):
        books.tick(ledger, *moves)
    books.tick(ledger)  # what can be done without it is done
    books.lab.control("restart", "alpha")
    finish(books, ledger)


def test_a_controller_hangs(books: Books) -> None:
    """The target's slurmctld takes connections and says nothing: the run ends in time, and the next ones clear up."""
    ledger = books.ledger()
    moves = add(books, "hangs")
    books.tick(ledger, *moves, end_at=30, finish=False)
    pid = process(books, "slurmctld-beta")
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        books.tick(ledger)
        assert time.monotonic() - began < 100
    finally:
        os.kill(pid, signal.SIGCONT)
    answered(books)
    finish(books, ledger)


def test_the_accounting_hangs(books: Books) -> None:
    """slurmdbd says nothing: what can be done without it is done, and all of it when it is back."""
    ledger = books.ledger()
    moves = add(books, "accounting")
    pid = process(books, "slurmdbd")
    os.kill(pid, signal.SIGSTOP)
    try:
        books.tick(ledger, *moves)
    finally:
        os.kill(pid, signal.SIGCONT)
    answered(books)
    finish(books, ledger)


def test_submissions_that_were_made_and_not_heard_of(books: Books) -> None:
    """sbatch says that it timed out, and the copy is there: it is found by its mark, and nothing is submitted again."""
    ledger = books.ledger()
    done = books.tick(ledger, *add(books, "unheard"), unheard=True)
    assert done.code == 0, done
    finish(books, ledger)


def test_the_ledger_is_lost(books: Books) -> None:
    """The run is killed and the ledger is gone with it: the marks are enough."""
    for point in POINTS:
        ledger = books.ledger()
        books.tick(ledger, *add(books, f"lost {point}"), end_at=point, finish=False)
        ledger.unlink()
    finish(books, books.ledger())


def test_the_ledger_is_locked(books: Books) -> None:
    """Another program has the ledger for itself: nothing is done that cannot be written down, until it can."""
    ledger = books.ledger()
    for point in POINTS[:2]:
        books.tick(ledger, *add(books, f"locked {point}"), end_at=point, finish=False)
    other = sqlite3.connect(ledger, isolation_level=None)
    other.execute("begin exclusive")
    more = add(books, "locked more")
    done = books.tick(ledger, *more)
    assert done.code != 0, done
    other.execute("rollback")
    other.close()
    finish(books, ledger)


def test_the_disk_of_the_ledger_is_full(books: Books) -> None:
    """The disk fills up in the midst: what is not written down is not done, and the next runs clear up."""
    disk = books.lab.site / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1M,mode=700", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        ledger = disk / "ledger.sqlite"
        for point in POINTS[:2]:
            books.tick(ledger, *add(books, f"full {point}"), end_at=point, finish=False)
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        books.tick(ledger, *add(books, "full more"))
        filler.unlink()
        finish(books, ledger)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
