"""What goes wrong with a ledger in a file: each time an error that says what to do, and nothing that is half done."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_carbon.errors import LedgerError
from slurm_carbon.ledger import connect
from slurm_carbon.ledger.store import Ledger, memory_ledger, open_ledger
from tests.ledger.factory import a_decision, a_transfer, an_entry
from tests.ledger.test_writers import start

NOW = 1_700_000_000
SOON = 0.3  # how patient these tests are


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with something in it."""
    made = tmp_path / "ledger" / "l.sqlite"
    with open_ledger(str(made)) as ledger:
        fill(ledger)
    return made


def fill(ledger: Ledger) -> None:
    """Something of each kind."""
    ledger.put_entries(an_entry(i) for i in range(300))
    ledger.add_decisions(a_decision(i) for i in range(50))
    ledger.put_transfer(a_transfer())
    ledger.end_run(ledger.begin_run(NOW, "advise"), NOW + 1, {"moved": 3})


def read_all(ledger: Ledger) -> None:
    """By every method that reads."""
    ledger.unsettled()
    ledger.entries("alpha", range(300))
    ledger.decisions_of("alpha", 1)
    ledger.open_transfers()
    ledger.transfers_of("alpha", 1)
    ledger.last_runs(9)
    ledger.sums(0, NOW * 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M,mode=700", "none", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill_up(ballast: Path) -> None:
    """Write until no byte more fits on its disk."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


def test_disk_full(small_disk: Path) -> None:
    """Nothing of what did not fit is kept, all from before is, and with room the same ledger goes on."""
    with open_ledger(str(small_disk / "l.sqlite")) as ledger:
        ledger.put_entries([an_entry()])
        ballast = small_disk / "ballast"
        fill_up(ballast)
        for write in (
            lambda: ledger.put_entries(an_entry(i, moves=2) for i in range(10_000)),
            lambda: ledger.put_transfer(a_transfer(comment="x" * 60_000)),
            lambda: ledger.add_decisions(a_decision(i) for i in range(10_000)),
        ):
            with pytest.raises(LedgerError, match=r"there is no room left on its disk.*: make room, and run this again"):
                write()
            assert ledger.unsettled() == [an_entry()]
            assert ledger.transfer(a_transfer().id) is None
        ballast.unlink()
        ledger.put_transfer(a_transfer())
        assert ledger.open_transfers() == [a_transfer()]
    with open_ledger(str(small_disk / "l.sqlite")) as ledger:
        assert ledger.unsettled() == [an_entry()]


def test_disk_full_from_the_beginning(small_disk: Path) -> None:
    """A ledger that could not be made is made once there is room."""
    ballast = small_disk / "ballast"
    fill_up(ballast)
    with pytest.raises(LedgerError, match=r"no room left on its disk|No space left"):
        open_ledger(str(small_disk / "l.sqlite"))
    ballast.unlink()
    with open_ledger(str(small_disk / "l.sqlite")) as ledger:
        ledger.put_entries([an_entry()])


def test_file_system_becomes_read_only(small_disk: Path) -> None:
    """As after an error of the disk: reading goes on, writing says why not, and what is opened anew does too."""
    path = str(small_disk / "l.sqlite")
    with open_ledger(path) as ledger:
        ledger.put_entries([an_entry()])
    with open_ledger(path) as ledger:
        ledger._connected.close()  # a file that is open for writing would keep it from becoming read-only
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        with pytest.raises(LedgerError, match=r"it cannot be written: its file system, folder or file is read-only"):
            ledger.put_entries([an_entry(2)])
        assert ledger.unsettled() == [an_entry()]
        with pytest.raises(LedgerError, match=r"see that its file system is not read-only|Read-only file system"):
            open_ledger(path)
        with open_ledger(path, read_only=True) as reader:
            assert reader.unsettled() == [an_entry()]
        ledger._connected.close()
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        ledger.put_entries([an_entry(2)])
        assert len(ledger.unsettled()) == 2


def test_patience_is_ten_seconds() -> None:
    """What is promised where nothing else is said."""
    assert connect.PATIENCE_S == 10.0


@pytest.mark.parametrize("exclusive", [0, 1])
def test_locked_by_another_process(path: Path, exclusive: int) -> None:
    """One who writes, or only reads and does not end, is waited for in bounds; then the ledger goes on."""
    with open_ledger(str(path), patience_s=SOON) as ledger:
        other = start("lock", str(path), exclusive, stdin=subprocess.PIPE)
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        try:
            began = time.monotonic()
            with pytest.raises(
                LedgerError, match=r"locked for too long: wait for the other `slurm-carbon`, or end what locks it"
            ):
                ledger.put_entries([an_entry(1, moves=9)])
            assert SOON * 0.9 <= time.monotonic() - began < SOON + 5
            if exclusive:
                with pytest.raises(LedgerError, match="locked for too long"):
                    ledger.unsettled()
                with pytest.raises(LedgerError, match="locked for too long"):
                    open_ledger(str(path), patience_s=SOON)
            else:
                assert ledger.entries("alpha", [1]) == {1: an_entry(1)}
        finally:
            other.communicate("")
        assert ledger.entries("alpha", [1]) == {1: an_entry(1)}
        ledger.put_entries([an_entry(1, moves=10)])
        assert ledger.entries("alpha", [1])[1].moves == 10


def test_lock_that_ends_in_time(path: Path) -> None:
    """Who waits long enough gets the lock, and nobody notices."""
    other = start("lock", str(path), 1, stdin=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdin is not None
    assert other.stdout.readline() == "locked\n"
    Timer(0.2, other.stdin.close).start()
    with open_ledger(str(path), patience_s=20.0) as ledger:
        ledger.put_entries([an_entry(1, moves=9)])
        assert ledger.entries("alpha", [1])[1].moves == 9
    other.wait()
    other.stdout.close()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_file_is_gone_while_it_is_used(path: Path, how: str) -> None:
    """SQLite would write to the deleted file and call it kept: we say that it must be opened again."""
    with open_ledger(str(path)) as ledger:
        data = path.read_bytes()
        path.unlink()
        if how == "replaced":
            Path(f"{path}.new").write_bytes(data)
            Path(f"{path}.new").rename(path)
            path.chmod(0o600)
        for work in (lambda: ledger.put_entries([an_entry(1, moves=9)]), ledger.unsettled):
            with pytest.raises(LedgerError, match="deleted or replaced while it was in use: open it again"):
                work()
    with open_ledger(str(path)) as ledger:
        assert ledger.entries("alpha", [1]) == ({1: an_entry(1)} if how == "replaced" else {})


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"no database at all" * 999,
        lambda data: data[: len(data) // 2],
        lambda data: data[:100],
        lambda data: data[:50],
        lambda data: data[:8192] + b"\xff" * (len(data) - 8192),
        lambda data: data[:100] + b"\0" * 3996 + data[4096:],
    ],
)
def test_damaged_file(path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A ledger that cannot be read says that it is damaged, and what to do."""
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LedgerError, match=r"it is damaged, or no ledger at all: put back a copy of it, or move it away"):
        with open_ledger(str(path)) as ledger:
            read_all(ledger)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=40)), min_size=1, max_size=5),
    write=st.booleans(),
)
def test_any_damage_is_an_error_in_words_or_none(path: Path, changes: list[tuple[float, bytes]], write: bool) -> None:
    """Whatever bytes are changed, nothing but LedgerError comes of it."""
    sound = path.read_bytes()
    data = bytearray(sound)
    for where, change in changes:
        at = int(where * (len(data) - 1))
        data[at : at + len(change)] = change
    path.write_bytes(data)
    said = f"{path} is sound"
    try:
        with open_ledger(str(path), patience_s=SOON) as ledger:
            read_all(ledger)
            if write:
                fill(ledger)
                ledger.forget(NOW * 2)
    except LedgerError as error:
        said = str(error)
    finally:
        for end in ("-journal", "-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        path.write_bytes(sound)
    assert str(path) in said
    assert "\n" not in said


def test_tables_that_are_gone(path: Path) -> None:
    """Somebody has dropped one: that is said, and not that it is empty."""
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE carbon_transfers")
    connection.close()
    with open_ledger(str(path)) as ledger:
        with pytest.raises(LedgerError, match=r"its tables are not those of a ledger.*no such table: carbon_transfers"):
            ledger.open_transfers()
        assert len(ledger.unsettled()) == 300


def test_another_sqlite_file_is_left_alone(tmp_path: Path) -> None:
    """A path of somebody's own database gets our tables beside his, as a database server would."""
    import sqlite3

    path = tmp_path / "mine.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE mine (a); INSERT INTO mine VALUES (1)")
    connection.close()
    path.chmod(0o600)
    with open_ledger(str(path)) as ledger:
        ledger.put_entries([an_entry()])
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT a FROM mine").fetchall() == [(1,)]
    connection.close()


def test_every_commit_is_on_the_disk(path: Path) -> None:
    """The journal is deleted at each commit, and the folder is synced after that."""
    with open_ledger(str(path)) as ledger:
        settings_ = ledger._connected.read(
            lambda connection: [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "trusted_schema")
            ]
        )
    assert settings_ == ["delete", 3, 0]


def test_fault_of_our_own_is_not_called_damage() -> None:
    """What SQLAlchemy says of a wrong call is for us, and not for the site's administrator."""
    import sqlalchemy as sa

    with memory_ledger() as ledger, pytest.raises(LedgerError, match="a fault of slurm-carbon itself, please report it"):
        ledger._connected.read(lambda connection: connection.execute(sa.select(sa.literal(1)).where(sa.false())).scalar_one())
