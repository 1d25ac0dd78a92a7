"""From a URL to a database that is safe to use: nobody waits for ever, nothing is half done, no password is shown."""

import os
import re
import sqlite3
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from slurm_carbon.errors import LedgerError
from slurm_carbon.ledger import files, troubles

PATIENCE_S = 10.0  # for a lock, and for a server that is called
ANSWERS = 3.0  # so many times that for the answer to a question
ATTEMPTS = 5  # at what the database gave up because two writers stood in each other's way
LOCK = 0x636172626F6E  # "carbon": the lock of those who make or change tables

_FORMS = (
    "sqlite:////PATH, mariadb://USER@HOST/DATABASE?password_file=/PATH or postgresql://USER@HOST/DATABASE?password_file=/PATH"
)
_SERVERS = {"mariadb": ("mariadb+pymysql", "PyMySQL"), "mysql": ("mysql+pymysql", "PyMySQL")}
_SERVERS["postgresql"] = ("postgresql+psycopg", "psycopg")
_OWN_KEY = "password_file"
_PYMYSQL_KEYS = ("unix_socket", "ssl_ca", "ssl_cert", "ssl_key", "ssl_check_hostname")
_PSYCOPG_KEYS = (
    "host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "service", "passfile", "target_session_attrs",
    "gssencmode", "channel_binding", "application_name",
)  # fmt: skip
# of what is shown: a password that was not quoted does not hide in it
_NAME = re.compile(r"[^@:/?#\s]*")
_HOST = re.compile(r"(?:[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?|[0-9A-Fa-f:.]+)?")

# what else a driver raises, or a row that was not written by us
_OTHERS = (OSError, RuntimeError, ValueError, TypeError, OverflowError)

T = TypeVar("T")


class _AgainError(Exception):
    """All has been rolled back, and may be tried again."""


class Connected:
    """The database of a ledger, with one connection that is made anew whenever it is lost."""

    def __init__(
        self,
        engine: Engine,
        where: str,
        *,
        path: str = "",
        read_only: bool = False,
        secret: str = "",
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.where, self.read_only, self._patience_s = where, read_only, patience_s
        self.dialect = engine.dialect.name
        self._engine, self._path, self._secret = engine, path, secret
        self._reading = engine
        self._writing = engine.execution_options(slurm_carbon_writes=True)
        if self.dialect == "postgresql":
            self._reading = engine.execution_options(isolation_level="REPEATABLE READ")
            self._writing = engine.execution_options(isolation_level="READ COMMITTED")
        self._file = self._identity()

    def close(self) -> None:
        """Give the connection back."""
        self._engine.dispose()

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Work in one transaction, which sees everything as it was at one moment. Raises LedgerError."""
        try:
            self._look_at_file()
            with self._reading.connect() as connection, connection.begin():
                return work(connection)
        except (LedgerError, sa.exc.SQLAlchemyError, *_OTHERS) as error:
            raise self._trouble(error) from None

    def write(self, work: Callable[[sa.Connection], T], *, alone: bool = False) -> T:
        """Work in one transaction; what it did is on the disk then. Raises LedgerError.

        `alone`: nobody else does so at the same time, nor in another process.
        """
        if self.read_only:
            raise LedgerError(f"{self.where}: it was opened for reading only")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._write(work, alone)
            except _AgainError:
                time.sleep(0.01 * 3**attempt)
        raise LedgerError(f"{self.where}: other writers were in the way {ATTEMPTS} times: run this again")

    def _write(self, work: Callable[[sa.Connection], T], alone: bool) -> T:
        committing = False
        try:
            self._look_at_file()
            with self._writing.connect() as connection:
                try:
                    with connection.begin():
                        if alone:
                            self._keep_out_others(connection)
                        result = work(connection)
                        committing = True
                finally:
                    if alone and self.dialect in _SERVERS:
                        connection.invalidate()  # MariaDB gives the lock back at the end of the session
                return result
        except sa.exc.DBAPIError as error:
            if troubles.again(error):
                raise _AgainError from None
            lost = committing and (error.connection_invalidated or troubles.disk_failed(error))
            raise self._trouble(error, "; whether this was still kept is not known" if lost else "") from None
        except (LedgerError, sa.exc.SQLAlchemyError, *_OTHERS) as error:
            raise self._trouble(error) from None

    def _keep_out_others(self, connection: sa.Connection) -> None:
        if self.dialect == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        elif self.dialect in _SERVERS:
            alone = connection.execute(sa.select(sa.func.get_lock(f"slurm_carbon_{LOCK}", self._patience_s))).scalar()
            if alone != 1:
                raise LedgerError("another process has been making its tables for too long: run this again")

    def _trouble(self, error: BaseException, more: str = "") -> LedgerError:
        text = (
            str(error)
            if isinstance(error, LedgerError)
            else troubles.explain(error, file=bool(self._path), read_only=self.read_only)
        )
        text = f"{text}{more}"
        for secret in {self._secret, quote(self._secret), quote_plus(self._secret)} - {""}:
            text = text.replace(secret, "***")
        return LedgerError(text if text.startswith(self.where) else f"{self.where}: {text}")

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _look_at_file(self) -> None:
        """SQLite would go on with a file that has been deleted, and lose all of it in the end."""
        if self._path and (self._file is None or self._identity() != self._file):
            raise LedgerError("its file was deleted or replaced while it was in use: open it again")


def connect(url: str, *, read_only: bool, patience_s: float) -> Connected:
    """The database at a URL, or at an absolute path. Raises LedgerError; a server is called only when it is asked something."""
    if url.startswith("/"):
        return _file(url, read_only, patience_s)
    try:
        parsed = sa.make_url(url)
        port_ok = parsed.port is None or 0 < parsed.port < 1 << 16
    except (sa.exc.SQLAlchemyError, ValueError):
        port_ok = False
    if not port_ok:
        raise LedgerError(f"the URL of the ledger cannot be read: it should be like {_FORMS}")
    dialect, _, driver = parsed.drivername.partition("+")
    if dialect == "sqlite" and driver in ("", "pysqlite"):
        if not parsed.database or not parsed.database.startswith("/") or parsed.query or parsed.host:
            raise LedgerError(
                "the URL of the ledger: SQLite needs an absolute path, and nothing else: sqlite:////PATH, four slashes"
            )
        return _file(parsed.database, read_only, patience_s)
    known = _SERVERS.get(dialect)
    if known is None or parsed.drivername not in (dialect, known[0]):
        raise LedgerError(f"the URL of the ledger: {parsed.drivername} is not known: it should be like {_FORMS}")
    return _server(url, parsed.set(drivername=known[0]), known[1], read_only, patience_s)


def in_memory() -> Connected:
    """A database that is gone when it is closed."""
    engine = _sqlite(lambda: sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False), PATIENCE_S)
    return Connected(engine, "the ledger in memory")


# files


def _file(path: str, read_only: bool, patience_s: float) -> Connected:
    real = files.place(path, read_only=read_only)
    address = f"file:{quote(real)}?mode={'ro' if read_only else 'rw'}"

    def create() -> sqlite3.Connection:
        made = sqlite3.connect(address, uri=True, timeout=patience_s, isolation_level=None, check_same_thread=False)
        try:
            # what is in a file is data: no functions in views and triggers, and pages that make no sense are found
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "temp_store=MEMORY"):
                made.execute(f"PRAGMA {pragma}")
            if read_only:
                made.execute("PRAGMA query_only=ON")
            else:
                # a journal that is deleted at each commit, and not WAL: that could be read only by who may write
                if made.execute("PRAGMA journal_mode").fetchone()[0] != "delete":
                    made.execute("PRAGMA journal_mode=DELETE")
                made.execute("PRAGMA synchronous=EXTRA")  # the folder too is on the disk after a commit
        except BaseException:
            made.close()
            raise
        return made

    return Connected(_sqlite(create, patience_s), f"the ledger {real}", path=real, read_only=read_only)


def _sqlite(create: Callable[[], sqlite3.Connection], patience_s: float) -> Engine:
    engine = sa.create_engine(
        "sqlite+pysqlite://",
        creator=create,
        poolclass=sa.QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=patience_s,
        hide_parameters=True,
    )

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # who means to write locks first: two who have read and then want to write would wait for each other
        writes = connection.get_execution_options().get("slurm_carbon_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


# servers


def _server(given: str, url: URL, package: str, read_only: bool, patience_s: float) -> Connected:
    dialect = url.drivername.partition("+")[0]
    where = _where(given, url, dialect)
    allowed = _PSYCOPG_KEYS if dialect == "postgresql" else _PYMYSQL_KEYS
    strange = sorted(key for key, value in url.query.items() if key not in (*allowed, _OWN_KEY) or type(value) is not str)
    if strange:
        raise LedgerError(
            f"{where}: {', '.join(strange)} in its URL: known there, once each, are {', '.join((_OWN_KEY, *allowed))}"
        )
    if not url.database:
        raise LedgerError(f"{where}: no database is named in its URL")
    secret = url.password or ""
    from_file = url.query.get(_OWN_KEY)
    if isinstance(from_file, str):
        if secret:
            raise LedgerError(f"{where}: its URL has a password and a password_file: take out the password")
        secret = files.password(from_file)
        url = url.set(password=secret).difference_update_query([_OWN_KEY])
    try:
        engine = sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=1,
            max_overflow=0,
            pool_timeout=patience_s,
            hide_parameters=True,
            pool_use_lifo=True,
        )
    except ModuleNotFoundError:
        extra = "postgresql" if dialect == "postgresql" else "mariadb"
        raise LedgerError(f"{where}: {package} is not installed: `pip install 'slurm-carbon[{extra}]'`") from None
    if dialect == "postgresql":
        _prepare_psycopg(engine, read_only, patience_s)
    else:
        _prepare_pymysql(engine, read_only, patience_s)
    return Connected(engine, where, read_only=read_only, secret=secret, patience_s=patience_s)


def _where(given: str, url: URL, dialect: str) -> str:
    """A database as it is called in messages."""
    names = (url.username or "", url.database or "")
    if given.count("@") > 1 or not all(map(_NAME.fullmatch, names)) or not _HOST.fullmatch(url.host or ""):
        raise LedgerError(
            "the URL of the ledger cannot be read: write @ : / ? # % and blanks in a name or password as %40 and so on"
        )
    port = f":{url.port}" if url.port else ""
    user = f"{url.username}@" if url.username else ""
    return f"the ledger {dialect}://{user}{url.host or ''}{port}/{url.database or ''}"


def _prepare_pymysql(engine: Engine, read_only: bool, patience_s: float) -> None:
    @sa.event.listens_for(engine, "do_connect")
    def limits(_dialect: Any, _record: Any, _arguments: Any, keywords: dict[str, Any]) -> None:
        keywords.update(
            charset="utf8mb4",
            connect_timeout=max(1, round(patience_s)),
            read_timeout=ANSWERS * patience_s,
            write_timeout=ANSWERS * patience_s,
            local_infile=False,
            password=keywords.get("password", "").encode(),  # of a text PyMySQL would make Latin-1
        )

    @sa.event.listens_for(engine, "connect")
    def settings(made: Any, _record: Any) -> None:
        cursor = made.cursor()
        wait = max(1, round(patience_s))
        cursor.execute(
            # a text or number that does not fit is an error and is not made to fit
            "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO', "
            f"innodb_lock_wait_timeout={wait}, lock_wait_timeout={wait}"
        )
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ" + (", READ ONLY" if read_only else ""))
        cursor.close()


def _prepare_psycopg(engine: Engine, read_only: bool, patience_s: float) -> None:
    from slurm_carbon.ledger import postgresql

    @sa.event.listens_for(engine, "do_connect")
    def make(_dialect: Any, _record: Any, arguments: Any, keywords: dict[str, Any]) -> Any:
        return postgresql.connect(
            *arguments, patience_s=patience_s, answer_s=ANSWERS * patience_s, read_only=read_only, **keywords
        )
