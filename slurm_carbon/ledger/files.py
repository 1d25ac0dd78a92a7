"""Where a ledger in a file may be: SQLite plays back what lies beside it, so nobody else may have put anything there."""

import os
import stat

from slurm_carbon import secretfile
from slurm_carbon.errors import LedgerError

BESIDE = ("-journal", "-wal", "-shm")
MAX_LINKS = 40
MAX_PASSWORD_BYTES = 4096


def place(path: str, *, read_only: bool) -> str:
    """The real path of the file of a ledger, which is there then, empty if it is new. Raises LedgerError.

    All folders on the way, the file and what SQLite keeps beside it must be such that only root and we can change them. A
    reader also takes a file that belongs to the same user as its folder: that is the user who runs the reoptimizer.
    """
    folder, name = os.path.split(path)
    if not os.path.isabs(path) or not name or "\0" in path:
        raise LedgerError(f"the ledger {path!r}: an absolute path of a file is needed, as /var/lib/slurm-carbon/ledger.sqlite")
    try:
        real = os.path.join(_folder(folder, read_only), name)
        if not read_only:
            _create(real)
        trusted = {0, os.geteuid()}
        if read_only:
            trusted.add(os.stat(os.path.dirname(real)).st_uid)
        _check_file(real, os.lstat(real), trusted)
        for end in BESIDE:
            try:
                found = os.lstat(real + end)
            except FileNotFoundError:
                continue
            _check_file(real + end, found, trusted)
        if not read_only and not os.access(real, os.R_OK | os.W_OK, effective_ids=True):
            raise LedgerError(
                f"the ledger {real} cannot be written by us: run this as user {os.lstat(real).st_uid}, whom it belongs to, "
                "and see that its file system is not read-only"
            )
    except FileNotFoundError as error:
        raise LedgerError(
            f"the ledger {path}: there is no {error.filename}; the first `slurm-carbon reoptimize` makes it"
        ) from None
    except OSError as error:
        raise LedgerError(f"the ledger {path}: {error.filename or path}: {error.strerror}") from None
    return real


def _folder(path: str, read_only: bool) -> str:
    """The real path of a folder, made with mode 700 if it is not there; each folder and link on the way is looked at."""
    here, names, links = "/", path.split("/")[::-1], 0
    _check_folder(here, os.stat(here), read_only)
    while names:
        name = names.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, name)
        try:
            found = os.lstat(there)
        except FileNotFoundError:
            if read_only:
                raise
            _make(there)
            found = os.lstat(there)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise LedgerError(f"the folder {path} of the ledger: its links go round in a circle")
            if found.st_uid not in (0, os.geteuid()):
                raise LedgerError(f"the folder {path} of the ledger: the link {there} belongs to user {found.st_uid}")
            target = os.readlink(there)
            here = "/" if target.startswith("/") else here
            names += target.split("/")[::-1]
            continue
        _check_folder(there, found, read_only)
        here = there
    _check_folder(here, os.stat(here), read_only, last=True)
    return here


def _make(folder: str) -> None:
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:  # another process was faster
        return
    _to_disk(os.path.dirname(folder))


def _check_folder(folder: str, found: os.stat_result, read_only: bool, last: bool = False) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise LedgerError(f"{folder}, where the ledger should be, is no folder")
    mode = stat.S_IMODE(found.st_mode)
    # in /tmp and its like nobody can take away what is another's
    if mode & 0o022 and (last or not mode & stat.S_ISVTX):
        raise LedgerError(
            f"the folder {folder} of the ledger has mode {mode:03o}: others could put files there; `chmod go-w {folder}`, "
            "or keep the ledger elsewhere"
        )
    if found.st_uid not in (0, os.geteuid()) and not read_only:
        raise LedgerError(f"the folder {folder} of the ledger belongs to user {found.st_uid}, neither to root nor to us")


def _create(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return  # and must not be opened here: closing it would end the locks that SQLite has on it in this process
    try:
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _to_disk(os.path.dirname(path))


def _to_disk(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_file(path: str, found: os.stat_result, trusted: set[int]) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        raise LedgerError(f"the ledger {path} is a symbolic link: name the file itself")
    if not stat.S_ISREG(found.st_mode):
        raise LedgerError(f"the ledger {path} is no file")
    if found.st_uid not in trusted:
        raise LedgerError(f"the ledger {path} belongs to user {found.st_uid}: run this as that user, or keep another ledger")
    if mode & 0o022:
        raise LedgerError(f"the ledger {path} has mode {mode:03o}: others could change it; `chmod go-w {path}`")
    if found.st_nlink > 1:
        raise LedgerError(f"the ledger {path} has a second name (a hard link): what is kept could be lost; remove the other")


def password(path: str) -> str:
    """The password in a file that only we can read: one line. Raises LedgerError."""
    try:
        data = secretfile.read(path, MAX_PASSWORD_BYTES)
    except secretfile.LooseError as error:
        raise LedgerError(f"the password file {path!r} of the ledger{error}") from None
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or "\n" in text or "\0" in text or len(data) > MAX_PASSWORD_BYTES:
        raise LedgerError(f"the password file {path} of the ledger holds no password: one line of UTF-8 is expected")
    return text
