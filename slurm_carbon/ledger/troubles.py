"""What a database says when something is wrong, in words for the person who has to mend it, and never with a password."""

import sqlite3
from typing import Any

import sqlalchemy as sa

from slurm_carbon.units import printable

LONGEST = 300  # characters of what a server or driver says itself

_LOCKED = (
    "another process has kept it locked for too long: wait for the other `slurm-carbon`, or end what locks it, and run it again"
)
_FULL = "there is no room left on its disk, or a quota is used up: make room, and run this again"
_READ_ONLY = "it cannot be written: its file system, folder or file is read-only for us"
_DAMAGED = (
    "it is damaged, or no ledger at all: put back a copy of it, or move it away, and the next `slurm-carbon reoptimize` makes "
    "a new one, which does not know what was done before"
)
_TABLES = f"its tables are not those of a ledger: {_DAMAGED}"
_INTERRUPTED = "its last writer was interrupted: the next `slurm-carbon reoptimize` mends it"
_TOO_MANY = "its server has no connection free: wait, or let the server take more of them, and run this again"
_REFUSED = "its server does not let us in: look at the user and the password (`password_file=`)"
_NO_DATABASE = "its server has no such database, or we may not use it: make it, and give us all rights in it"
_RIGHTS = "we may not do that in its database: give our user the right to make, read and write tables there"
_GONE = "its server does not answer, or ended the connection: see that it runs and can be reached, and run this again"
_SERVER_DISK = "its server's disk does not read or write: see its log"
_SLOW = "its server took too long: wait until it has less to do, and run this again"

_SQLITE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_MISMATCH: _DAMAGED,
    sqlite3.SQLITE_CONSTRAINT: _TABLES,
    sqlite3.SQLITE_ERROR: _TABLES,
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: see that its file and folder are there, and whose they are",
    sqlite3.SQLITE_IOERR: "its disk does not read or write: see the kernel's log (`dmesg`), and run this again",
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
}
_MARIADB = {
    1021: _FULL, 1114: _FULL, 1041: _FULL, 3: _FULL,
    1205: _LOCKED, 1213: _LOCKED, 1020: _LOCKED,
    1040: _TOO_MANY, 1203: _TOO_MANY, 1226: _TOO_MANY, 1129: _TOO_MANY,
    1045: _REFUSED, 1698: _REFUSED, 1251: _REFUSED, 1130: _REFUSED, 4151: _REFUSED, 2059: _REFUSED,
    1049: _NO_DATABASE, 1044: _NO_DATABASE, 1046: _NO_DATABASE,
    1142: _RIGHTS, 1143: _RIGHTS, 1227: _RIGHTS,
    1290: _READ_ONLY, 1036: _READ_ONLY, 1792: _READ_ONLY, 1836: _READ_ONLY,
    1054: _TABLES, 1146: _TABLES, 1364: _TABLES, 1932: _TABLES, 1264: _TABLES, 1406: _TABLES,
    1034: _DAMAGED, 1194: _DAMAGED, 1195: _DAMAGED, 1712: _DAMAGED,
    0: _GONE, 1053: _GONE, 1077: _GONE, 1079: _GONE, 1152: _GONE, 1184: _GONE, 1927: _GONE,
    2002: _GONE, 2003: _GONE, 2005: _GONE, 2006: _GONE, 2013: _GONE, 2014: _GONE, 2055: _GONE,
    1317: _SLOW, 1969: _SLOW, 3024: _SLOW,
}  # fmt: skip
# by the longest beginning of the SQLSTATE
_POSTGRESQL = {
    "08": _GONE, "57P": _GONE,
    "28": _REFUSED, "3D": _NO_DATABASE, "42501": _RIGHTS, "25006": _READ_ONLY,
    "53": _FULL, "53300": _TOO_MANY, "53200": _SLOW, "53400": _TOO_MANY, "58": _SERVER_DISK,
    "55P03": _LOCKED, "40": _LOCKED, "57014": _SLOW, "25P0": _SLOW,
    "XX": _DAMAGED, "42": _TABLES, "23": _TABLES, "22": _TABLES, "3F": _RIGHTS,
}  # fmt: skip


def again(error: sa.exc.DBAPIError) -> bool:
    """Whether the database has rolled everything back, because two writers stood in each other's way."""
    code = _code(error.orig)
    return code in (1213, 1020) or (isinstance(code, str) and code in ("40001", "40P01"))


def disk_failed(error: sa.exc.DBAPIError) -> bool:
    """Whether SQLite's disk failed: at the end of a commit nobody knows which side of it that was."""
    code = _code(error.orig)
    return isinstance(error.orig, sqlite3.Error) and isinstance(code, int) and code & 0xFF == sqlite3.SQLITE_IOERR


def _code(error: Any) -> int | str | None:
    """The number that SQLite or MariaDB give, or the SQLSTATE of PostgreSQL."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None)
    first = error.args[0] if getattr(error, "args", ()) else None
    if isinstance(first, int):
        return first
    state = getattr(error, "sqlstate", None)
    return None if state is None else str(state)


def explain(error: BaseException, *, file: bool, read_only: bool) -> str:
    """What is the matter, and what to do, with a ledger in a file or at a server."""
    if isinstance(error, sa.exc.DBAPIError):
        return _of_database(error.orig, read_only)
    if isinstance(error, sa.exc.TimeoutError):
        return "another thread of this process uses it, and has done so for too long"
    if isinstance(error, sa.exc.SQLAlchemyError):
        return f"that is a fault of slurm-carbon itself, please report it ({_said(error)})"
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"it cannot be reached: {name}{error.strerror or _said(error)}"
    if file:  # what is in it is not of the type that its column has
        return f"{_DAMAGED} ({_said(error)})"
    return f"it cannot be used: {_said(error)}"


def _of_database(error: BaseException | None, read_only: bool) -> str:
    code = _code(error)
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error, code if isinstance(code, int) else None, read_only)
    meaning: str | None = None
    if isinstance(code, int):
        meaning = _MARIADB.get(code)
    elif isinstance(code, str):
        meaning = next((_POSTGRESQL[code[:length]] for length in range(5, 1, -1) if code[:length] in _POSTGRESQL), None)
    said = _said(error)
    if meaning is None and code is None:  # libpq has no SQLSTATE for what failed before the server spoke, or after
        low = said.lower()
        refused = "password" in low or "authentication" in low or "pg_hba" in low
        missing = "database" in low and "does not exist" in low
        meaning = (
            _TOO_MANY
            if "too many" in low or "connection slots" in low
            else _NO_DATABASE
            if missing
            else _REFUSED
            if refused
            else _GONE
        )
    return f"{meaning} ({said})" if meaning else f"its server says: {said}"


def _of_sqlite(error: BaseException, code: int | None, read_only: bool) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if read_only and name in ("SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY_RECOVERY", "SQLITE_READONLY_CANTINIT"):
        return _INTERRUPTED
    meaning = _SQLITE.get(code & 0xFF) if code is not None else None
    return f"{meaning or _DAMAGED} ({_said(error)}{', ' + name if name else ''})"


def _said(error: BaseException | None) -> str:
    """The first line of what was said, without what could do harm on a terminal."""
    words = getattr(error, "args", ()) or (str(error),)
    text = str(words[-1]).strip() or type(error).__name__
    return printable(" ".join(text.split())[:LONGEST])
