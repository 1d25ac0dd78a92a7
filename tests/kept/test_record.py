"""The file that csbatch keeps of a submission: what is written is read, and nothing else is."""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_carbon import kept
from slurm_carbon.errors import RecordError
from slurm_carbon.kept import Kept

ROOT = Path(__file__).parents[2]
NOW = 1_795_000_000
ID = "0123456789abcdef"
RECORD = Kept(ID, "alpha", NOW, 1000, 0o22, 0, {"NOFILE": 1024, "CORE": -1}, b"/home/u", (b"-n", b"4"), (b"job.sh", b""),
              (b"A=b\nc", b"E="), b"#!/bin/sh\n\0\n")  # fmt: skip

texts = st.binary(max_size=30).map(lambda data: data.replace(b"\0", b""))
records = st.builds(
    Kept,
    id=st.just(ID),
    cluster=st.text("abc-", min_size=1),
    time_epoch_s=st.integers(0, 2**40),
    gid=st.integers(0, 2**32 - 1),
    umask=st.integers(0, 0o777),
    nice=st.integers(-20, 19),
    limits=st.dictionaries(st.sampled_from(["CPU", "AS", "NOFILE"]), st.integers(-1, 2**63)),
    directory=texts.map(lambda text: b"/" + text),
    options=st.lists(texts).map(tuple),
    words=st.lists(texts).map(tuple),
    environment=st.lists(st.tuples(texts, texts).map(lambda pair: b"N" + pair[0].replace(b"=", b"") + b"=" + pair[1])).map(
        tuple
    ),
    script=st.binary(max_size=300),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where records lie."""
    return tmp_path / "records"


def put(folder: Path, data: bytes) -> str:
    """Write a file that may be a record."""
    folder.mkdir(exist_ok=True)
    path = folder / ID
    path.write_bytes(data)
    path.chmod(0o600)
    return str(path)


@given(records)
def test_what_is_kept_is_read(record: Kept) -> None:
    """Every byte of it: arguments, variables and scripts of any kind."""
    assert kept._decode(kept._encode(record)) == record


@given(st.integers(0, 400), st.binary(max_size=3))
def test_what_is_damaged_is_refused_or_another_sound_record(at: int, bytes_: bytes) -> None:
    """Whatever is written over it: never anything but a RecordError, and never a field out of range."""
    data = kept._encode(RECORD)
    for damaged in (data[:at] + bytes_ + data[at + len(bytes_) :], data[:at] + bytes_ + data[at:], data[:at]):
        try:
            record = kept._decode(damaged)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # as `read` says them
        assert kept._decode(kept._encode(record)) == record
        assert 0 <= record.umask <= 0o777
        assert record.directory.startswith(b"/")


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"umask":18', b'"umask":512'), (b'"umask":18', b'"umask":true'), (b'"nice":0', b'"nice":-21'),
     (b'"nice":0', b'"nice":0.5'), (b'"NOFILE"', b'"NICE"'), (b"1024", b"-2"), (b"/home/u", b"home/u"), (b"A=b", b"=Ab"),
     (b'"words":2', b'"words":-1'),
     (b'"words":2', b'"words":2000000000'), (b'"script":12', b'"script":-1'), (b"record\":1", b"record\":2"),
     (b'"gid":1000', b'"gid":4294967296'), (b'"gid":1000,', b""), (b"\n/home", b"/home"), (b'"limits":{', b'"limits":[{'),
     (ID.encode(), b"../../../../../x")],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(folder: Path, old: bytes, new: bytes) -> None:
    """Each field has its range."""
    data = kept._encode(RECORD)
    assert old in data
    with pytest.raises(RecordError, match="broken"):
        kept.read(put(folder, data.replace(old, new, 1)), os.geteuid())


def test_one_is_written_for_its_owner_alone(folder: Path) -> None:
    """Folder and file, whatever the umask; nothing half done beside it."""
    path = kept.path_of(f"{folder}/%u", os.geteuid(), ID)
    assert path == f"{folder}/{pwd.getpwuid(os.geteuid()).pw_name}/01/{ID}"
    for umask in (0o000, 0o777):
        old = os.umask(umask)
        try:
            kept.write(path, RECORD, NOW)
        finally:
            assert os.umask(old) == umask
        assert kept.read(path, os.geteuid()) == RECORD
        assert [stat.S_IMODE(os.stat(p).st_mode) for p in (path, Path(path).parent, Path(path).parents[1])] == [
            0o600,
            0o700,
            0o700,
        ]
        assert os.listdir(Path(path).parent) == [ID]
        shutil.rmtree(folder)


def test_this_process_is_described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its folder, limits, umask and variables: as the kernel has them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINES_", "a\nb")
    record = kept.of_this(ID, "alpha", NOW, ["--comment=ü\udcff"], ["j"], b"x")
    assert (record.directory, record.options, record.gid) == (os.fsencode(tmp_path), (b"--comment=\xc3\xbc\xff",), os.getgid())
    assert b"LINES_=a\nb" in record.environment
    for name in ("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS"):
        assert record.limits[name] == resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
    old = os.umask(0o123)
    assert kept.of_this(ID, "alpha", NOW, [], [], None).umask == 0o123
    assert os.umask(old) == 0o123


def test_what_is_too_large_is_not_kept(folder: Path) -> None:
    """Nor anything of it."""
    with pytest.raises(RecordError, match="larger than 1 MiB"):
        kept.write(str(folder / "01" / ID), RECORD._replace(script=b"x" * kept.MAX_BYTES), NOW)
    assert not folder.exists()
    kept.write(str(folder / "01" / ID), RECORD._replace(script=b"x" * (kept.MAX_BYTES - 1000)), NOW)
    path = put(folder, kept._encode(RECORD) + b"x" * kept.MAX_BYTES)
    with pytest.raises(RecordError, match="larger than 1 MiB"):
        kept.read(path, os.geteuid())


def test_a_full_disk_leaves_nothing(folder: Path) -> None:
    """No record, and no piece of one: here by a limit on the size of files, which stops a write half-way."""
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1])\n"
        "from slurm_carbon import kept; from slurm_carbon.errors import RecordError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "record = kept.of_this(kept.new_id(), 'alpha', 1, [], [], b'x' * 100_000)\n"
        "try: kept.write(sys.argv[2] + '/01/' + record.id, record, 1)\n"
        "except RecordError as error: print('refused:', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, ROOT, folder], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused: ")
    assert list((folder / "01").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """The same on a file system that has no room left."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from slurm_carbon import kept; from slurm_carbon.errors import RecordError\n"
        "record = kept.of_this(kept.new_id(), 'alpha', 1, [], [], b'x' * 100_000)\n"
        "try: kept.write(sys.argv[2] + '/01/' + record.id, record, 1)\n"
        "except RecordError as error: print('refused:', error, os.listdir(sys.argv[2] + '/01'))\n"
    )
    mounts = 'mount -t tmpfs -o size=32k,mode=755 none "$1" && exec "$2" -c "$3" "$4" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounts, "sh", tmp_path, sys.executable, code, ROOT],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "No space left on device []" in done.stdout, done


def test_folders_that_others_can_write_are_not_used(folder: Path) -> None:
    """Nor links in their place."""
    path = str(folder / "01" / ID)
    (folder / "01").mkdir(parents=True)
    for open_to_others in (folder, folder / "01"):
        open_to_others.chmod(0o777)
        with pytest.raises(RecordError, match="ours alone to write"):
            kept.write(path, RECORD, NOW)
        open_to_others.chmod(0o700)
        assert not os.listdir(folder / "01")
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (folder / "01").rmdir()
    (folder / "01").symlink_to(elsewhere)
    with pytest.raises(RecordError, match="ours alone to write"):
        kept.write(path, RECORD, NOW)
    assert not os.listdir(elsewhere)


def test_old_ones_are_removed(folder: Path) -> None:
    """A few by each submission, until none is left; those that may still be needed stay."""
    shelf = folder / "01"
    shelf.mkdir(parents=True)
    for number in range(40):
        (shelf / f"{number:016x}").touch()
        os.utime(shelf / f"{number:016x}", (1, NOW - kept.KEPT_S + (1000 if number % 2 else -1000)))
    (shelf / "a folder").mkdir()
    left = 40
    for number in range(200):
        kept.write(str(shelf / f"01{number:014x}"), RECORD, NOW)
        os.unlink(shelf / f"01{number:014x}")
        now_left = len(os.listdir(shelf)) - 1
        assert left - 8 <= now_left <= left
        left = now_left
    assert sorted(int(name, 16) for name in os.listdir(shelf) if name != "a folder") == list(range(1, 40, 2))


@pytest.mark.parametrize(
    "record_id", ["", "..", "../../../etc/passwd", ID[:-1], ID + "0", ID.upper(), ID[:-1] + "/", ID[:-1] + "\n", "０" * 16]
)
def test_an_id_is_no_path(record_id: str) -> None:
    """It is looked at before any file is."""
    with pytest.raises(RecordError, match="hexadecimal"):
        kept.path_of("/tmp", os.geteuid(), record_id)


def test_who_can_have_none() -> None:
    """Whom the system does not know, and where the site's folder is none."""
    with pytest.raises(RecordError, match="no user 4000000000"):
        kept.path_of("~/x", 4_000_000_000, ID)
    with pytest.raises(RecordError, match="no folder"):
        kept.path_of("x/y", os.geteuid(), ID)


def test_what_is_no_plain_file_of_his_own(folder: Path) -> None:
    """A link, a pipe, a folder, nothing, one that is another's or open to others; and it never waits."""
    path = put(folder, kept._encode(RECORD))
    with pytest.raises(RecordError, match="not the owner's alone"):
        kept.read(path, os.geteuid() + 1)
    Path(path).chmod(0o620)
    with pytest.raises(RecordError, match="not the owner's alone"):
        kept.read(path, os.geteuid())
    link = folder / "link"
    link.symlink_to(path)
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    wrong: list[tuple[Any, str]] = [
        (link, "Too many levels"), (pipe, "no plain file"), (folder, "no plain file"), (folder / "none", "No such file"),
        ("/dev/null", "no plain file"), ("/dev/tty", "record /dev/tty: "), ("a\0b", "embedded null"),
    ]  # fmt: skip
    for other, why in wrong:
        with pytest.raises(RecordError, match=why):
            kept.read(str(other), os.geteuid())
