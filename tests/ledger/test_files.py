"""Where a ledger in a file may be: nobody else may be able to change it, or to put anything beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_carbon.errors import LedgerError
from slurm_carbon.ledger.store import open_ledger
from tests.ledger.factory import an_entry

SOMEBODY = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files to other users")


def mode(path: Path) -> int:
    """The permissions of a file."""
    return path.stat().st_mode & 0o7777


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the ledger makes it, with a ledger in it."""
    made = tmp_path / "ledger"
    with open_ledger(str(made / "l.sqlite")) as ledger:
        ledger.put_entries([an_entry()])
    return made


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can come to, as those of pytest are not."""
    made = Path(tempfile.mkdtemp(prefix="carbon-"))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_made_for_us_alone(tmp_path: Path, mask: int) -> None:
    """Folders have mode 700 and the file 600, whatever the umask is; one that takes our own rights is an error in words."""
    before = os.umask(mask)
    try:
        with open_ledger(str(tmp_path / "a" / "b" / "l.sqlite")) as ledger:
            ledger.put_entries([an_entry()])
    except LedgerError:
        assert mask == 0o777
        assert os.geteuid() != 0
        return
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a") | mode(tmp_path / "a" / "b")) & 0o077 == 0
    assert mode(tmp_path / "a" / "b" / "l.sqlite") == 0o600
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["l.sqlite"]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("bits", [0o720, 0o702, 0o777, 0o1777])
def test_folder_that_others_can_write_to(folder: Path, bits: int, read_only: bool) -> None:
    """In such a folder anybody could lay a journal beside the ledger: not even a sticky bit helps."""
    folder.chmod(bits)
    with pytest.raises(LedgerError, match=r"others could put files there; `chmod go-w"):
        open_ledger(str(folder / "l.sqlite"), read_only=read_only)


def test_folder_above_that_others_can_write_to(folder: Path) -> None:
    """Who can write to a folder above can put another folder in its place, but for those like /tmp."""
    folder.parent.chmod(0o777)
    with pytest.raises(LedgerError, match=r"others could put files there"):
        open_ledger(str(folder / "l.sqlite"))
    folder.parent.chmod(0o1777)
    with open_ledger(str(folder / "l.sqlite")) as ledger:
        assert ledger.unsettled() == [an_entry()]


@pytest.mark.parametrize("bits", [0o620, 0o602, 0o666])
def test_file_that_others_can_write_to(folder: Path, bits: int) -> None:
    """Others may read it, where the site wants that, and not write."""
    (folder / "l.sqlite").chmod(bits)
    with pytest.raises(LedgerError, match=r"others could change it; `chmod go-w"):
        open_ledger(str(folder / "l.sqlite"))
    (folder / "l.sqlite").chmod(0o644)
    with open_ledger(str(folder / "l.sqlite")) as ledger:
        assert ledger.unsettled() == [an_entry()]


def test_symbolic_link(folder: Path, tmp_path: Path) -> None:
    """The file is no link, also none that leads nowhere; folders may be links of root or us."""
    (folder / "link").symlink_to(folder / "l.sqlite")
    (folder / "nowhere").symlink_to(tmp_path / "made-by-us")
    for name in ("link", "nowhere"):
        with pytest.raises(LedgerError, match="is a symbolic link: name the file itself"):
            open_ledger(str(folder / name))
    assert not (tmp_path / "made-by-us").exists()
    (tmp_path / "way").symlink_to("ledger")
    with open_ledger(str(tmp_path / "way" / "l.sqlite")) as ledger:
        assert ledger.unsettled() == [an_entry()]
        assert str(folder / "l.sqlite") in ledger.where
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(LedgerError, match="round in a circle"):
        open_ledger(str(tmp_path / "circle" / "l.sqlite"))


def test_link_leads_through_a_folder_of_others(folder: Path, tmp_path: Path) -> None:
    """The folders that a link leads through are looked at as well."""
    loose = tmp_path / "loose"
    loose.mkdir()
    folder.rename(loose / "ledger")
    (tmp_path / "way").symlink_to(loose / "ledger")
    loose.chmod(0o777)
    with pytest.raises(LedgerError, match=r"loose of the ledger has mode 777"):
        open_ledger(str(tmp_path / "way" / "l.sqlite"))


@needs_root
def test_link_of_somebody(folder: Path, tmp_path: Path) -> None:
    """Where somebody's link leads is up to him."""
    (tmp_path / "way").symlink_to("ledger")
    os.chown(tmp_path / "way", SOMEBODY, SOMEBODY, follow_symlinks=False)
    with pytest.raises(LedgerError, match=f"the link .*way belongs to user {SOMEBODY}"):
        open_ledger(str(tmp_path / "way" / "l.sqlite"))


def test_second_name(folder: Path, tmp_path: Path) -> None:
    """SQLite finds no journal of a file that has two names."""
    os.link(folder / "l.sqlite", tmp_path / "other")
    with pytest.raises(LedgerError, match="hard link"):
        open_ledger(str(folder / "l.sqlite"))


@pytest.mark.parametrize("name", ["l.sqlite", "l.sqlite-journal"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file(folder: Path, name: str, make: object) -> None:
    """A pipe or a folder in its place does not hold us up."""
    (folder / name).unlink(missing_ok=True)
    make(folder / name, 0o700)  # type: ignore[operator]
    with pytest.raises(LedgerError, match="is no file"):
        open_ledger(str(folder / "l.sqlite"))


@needs_root
@pytest.mark.parametrize("end", ["", "-journal", "-wal", "-shm"])
def test_file_of_somebody(folder: Path, end: str) -> None:
    """What somebody has put in its place or beside it is never read."""
    path = folder / f"l.sqlite{end}"
    path.touch()
    os.chown(path, SOMEBODY, SOMEBODY)
    for read_only in (False, True):
        with pytest.raises(LedgerError, match=f"belongs to user {SOMEBODY}"):
            open_ledger(str(folder / "l.sqlite"), read_only=read_only)


@needs_root
def test_folder_of_somebody(folder: Path) -> None:
    """The owner of a folder can change everything in it: only a reader goes there, and only for what is his."""
    os.chown(folder, SOMEBODY, SOMEBODY)
    with pytest.raises(LedgerError, match=f"belongs to user {SOMEBODY}, neither to root nor to us"):
        open_ledger(str(folder / "l.sqlite"))
    os.chown(folder / "l.sqlite", SOMEBODY, SOMEBODY)
    with open_ledger(str(folder / "l.sqlite"), read_only=True) as ledger:
        assert ledger.unsettled() == [an_entry()]


def interrupt_a_writer(path: Path) -> Path:
    """Kill a writer inside a transaction; the journal that it leaves."""
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('PRAGMA cache_size=1');"
        "c.execute('BEGIN IMMEDIATE'); c.execute('UPDATE carbon_entries SET moves = 99');"
        "c.executemany('INSERT INTO carbon_runs (started_epoch_s, mode, figures) VALUES (1, ?, ?)', [('x' * 4000, '')] * 500);"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-I", "-c", code, path], check=False)
    journal = Path(f"{path}-journal")
    assert journal.stat().st_size > 0
    return journal


@needs_root
def test_journal_that_was_planted_is_not_played_back(folder: Path) -> None:
    """A hot journal, here one of long ago, would change the ledger as soon as it is opened."""
    path = folder / "l.sqlite"
    old = interrupt_a_writer(path).read_bytes()
    with open_ledger(str(path)) as ledger:
        assert ledger.unsettled() == [an_entry()]  # our own is played back
        ledger.put_entries([an_entry(state="now")])
    before = path.read_bytes()
    journal = folder / "l.sqlite-journal"
    journal.write_bytes(old)
    os.chown(journal, SOMEBODY, SOMEBODY)
    with pytest.raises(LedgerError, match="journal belongs to user"):
        open_ledger(str(path))
    assert path.read_bytes() == before
    os.chown(journal, 0, 0)
    with open_ledger(str(path)) as ledger:
        assert ledger.unsettled() == [an_entry()]  # what it would have done


@pytest.mark.parametrize("path", ["ledger.sqlite", "./l", "", "/", "/tmp/", "/tmp/a\0b"])
def test_path_that_is_none(path: str, tmp_path: Path) -> None:
    """cron starts us who knows where: only an absolute path of a file says which ledger is meant."""
    with pytest.raises(LedgerError):
        open_ledger(path)
    with pytest.raises(LedgerError):
        open_ledger(f"sqlite:///{path.lstrip('/')}")


def test_folder_that_is_a_file(folder: Path) -> None:
    """A file on the way is an error in words."""
    with pytest.raises(LedgerError, match="is no folder"):
        open_ledger(str(folder / "l.sqlite" / "l.sqlite"))


READ = "import sys; from slurm_carbon.ledger.store import open_ledger as o; print(o(sys.argv[1], read_only={}).unsettled())"


def as_somebody(path: Path, read_only: bool = True, group: int = SOMEBODY) -> subprocess.CompletedProcess[str]:
    """Another user opens a ledger and prints what is in it."""
    root = Path(__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); {READ.format(read_only)}"
    try:
        return subprocess.run(
            [sys.executable, "-I", "-c", code, path],
            capture_output=True,
            text=True,
            user=SOMEBODY,
            group=group,
            extra_groups=[],
            check=False,
        )
    except PermissionError:
        pytest.skip("another user may not run this Python")


@needs_root
def test_ordinary_user_reads_where_the_site_lets_him(open_folder: Path) -> None:
    """With mode 640 and a group its members read root's ledger, and no others; nobody but root writes."""
    path = open_folder / "l.sqlite"
    with open_ledger(str(path)) as ledger:
        ledger.put_entries([an_entry()])
    for change, bits in ((open_folder, 0o750), (path, 0o640)):
        os.chown(change, 0, SOMEBODY)
        change.chmod(bits)
    done = as_somebody(path)
    assert done.stdout == f"{[an_entry()]}\n", done.stderr
    refused = as_somebody(path, read_only=False)
    assert "LedgerError" in refused.stderr
    assert "cannot be written by us: run this as user 0" in refused.stderr
    stranger = as_somebody(path, group=SOMEBODY + 1)
    assert "LedgerError" in stranger.stderr
    assert "Permission denied" in stranger.stderr
    with open_ledger(str(path)) as ledger:  # and it stays readable for them
        ledger.put_entries([an_entry(2)])
    assert mode(path) == 0o640
    assert as_somebody(path).stdout.count("Entry(") == 2


@needs_root
def test_reader_of_a_ledger_whose_writer_was_interrupted(open_folder: Path) -> None:
    """Who may not write cannot put a half-done transaction back, and is told who will."""
    path = open_folder / "l.sqlite"
    with open_ledger(str(path)) as ledger:
        ledger.put_entries([an_entry()])
    journal = interrupt_a_writer(path)
    for change in (open_folder, path, journal):
        os.chown(change, 0, SOMEBODY)
        change.chmod(0o750 if change.is_dir() else 0o640)
    done = as_somebody(path)
    assert "LedgerError" in done.stderr
    assert "its last writer was interrupted: the next `slurm-carbon reoptimize` mends it" in done.stderr
    with open_ledger(str(path)) as ledger:
        assert ledger.unsettled() == [an_entry()]
        assert ledger.last_runs(9) == []
    assert as_somebody(path).stdout == f"{[an_entry()]}\n"
