"""Real database servers for the tests: each in a folder of its own, as an unprivileged user, and ended by its process id."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

PASSWORD = "p@ss:w/or%d? #1ü"
QUOTED = quote(PASSWORD, safe="")


class MissingError(Exception):
    """Why a server cannot be had here."""


def install(package: str, needed: Path | str) -> None:
    """Install a Debian package if a program of it is missing, and start no service of it. Raises MissingError."""
    if is_there(needed):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise MissingError(f"needs the package {package}")
    with Path("/run/lock/slurm-carbon-apt").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of these tests, or scripts/cluster, may be at it
        if not is_there(needed):
            apt_install(package)


def is_there(needed: Path | str) -> bool:
    """Whether a program is, by its path or a pattern of it."""
    return bool(list(Path("/").glob(str(needed).lstrip("/"))))


def apt_install(package: str) -> None:
    """Install it."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for words in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", package]):
            done = subprocess.run(["apt-get", *words], env=environment, capture_output=True, check=False)
            if done.returncode:
                raise MissingError(f"apt-get {' '.join(words)} failed: {done.stderr.decode(errors='replace')[-300:]}")
    finally:
        if ours:
            policy.unlink()


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Server(ABC):
    """A database server of these tests."""

    name = ""
    sessions = ""  # how many there are of our user

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.databases: list[str] = []
        self.free: list[str] = []
        # not pytest's own folder: the server is another user
        self.folder = Path(tempfile.mkdtemp(prefix=f"carbon-{self.name}-"))
        self.data, self.log = self.folder / "data", self.folder / "log"

    def owner(self, *names: str) -> dict[str, object]:
        """How to start a process as the unprivileged user of the server."""
        if os.geteuid() != 0:
            return {}
        for name in (*names, "nobody"):
            try:
                user = pwd.getpwnam(name)
            except KeyError:
                continue
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        raise MissingError("there is no unprivileged user")

    @abstractmethod
    def argv(self) -> list[str]:
        """What starts it."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes connections."""

    @abstractmethod
    def statement(self, text: str, database: str = "") -> list[tuple[object, ...]]:
        """Execute SQL as the server's administrator."""

    def run(self, argv: list[str]) -> None:
        with self.log.open("ab") as log:
            done = subprocess.run(
                argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, check=False, **self.as_user
            )
        assert done.returncode == 0, self.log.read_text(errors="replace")[-2000:]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, **self.as_user
            )
        end = time.monotonic() + 60
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < end, f"{self.name} does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a loss of power to the process would."""
        assert self.process is not None
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """A server that is there and says nothing."""
        pids = self.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def wait_for_sessions_to_end(self) -> None:
        """Until no client but the administrator is there any more."""
        end = time.monotonic() + 20
        while self.statement(self.sessions) != [(0,)]:
            assert time.monotonic() < end, f"a client of {self.name} does not end"
            time.sleep(0.02)

    def pids(self) -> list[int]:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def end(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new(self) -> str:
        """The name of an empty database."""
        if self.free:
            name = self.free.pop()
            self.empty(name)
        else:
            name = f"ledger{len(self.databases) + 1}"
            self.databases.append(name)
            self.create(name)
        return name

    @contextmanager
    def lending(self) -> Iterator[None]:
        """Databases that are new in here may be used again after that: a thousand files each are a lot to make and delete."""
        before = len(self.databases), list(self.free)
        yield
        self.free = [*before[1], *self.databases[before[0] :]]

    @abstractmethod
    def create(self, name: str) -> None:
        """Make a database for our user."""

    @abstractmethod
    def empty(self, name: str) -> None:
        """Take all tables out of a database."""

    def url(self, database: str, user: str = "carbon", password: str = QUOTED, query: str = "") -> str:
        secret = f":{password}" if password else ""
        return f"{self.name}://{user}{secret}@127.0.0.1:{self.port}/{database}{query}"


class MariaDB(Server):
    """MariaDB on loopback and a socket."""

    name = "mariadb"
    sessions = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'carbon'"

    def __init__(self) -> None:
        install("mariadb-server", "/usr/sbin/mariadbd")
        super().__init__()
        self.socket = self.folder / "socket"
        self.as_user = self.owner("mysql")
        self.run([
            "/usr/bin/mariadb-install-db", "--no-defaults", f"--datadir={self.data}", "--debug-no-sync",
            "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M",
        ])  # fmt: skip
        self.start()
        self.statement(f"CREATE USER carbon@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        self.statement(f"CREATE USER carbon@localhost IDENTIFIED BY '{PASSWORD}'")
        self.statement("GRANT ALL ON `ledger%`.* TO carbon@'127.0.0.1'")
        self.statement("GRANT ALL ON `ledger%`.* TO carbon@localhost")

    def argv(self) -> list[str]:
        # what is written outlives the process, if not the machine: that is what is tested, and fast
        return [
            "/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--pid-file={self.folder}/pid", "--innodb-log-file-size=8M", "--skip-name-resolve",
            "--innodb-buffer-pool-size=32M", "--debug-no-sync",
        ]  # fmt: skip

    def answers(self) -> bool:
        import pymysql

        with socket.socket(socket.AF_UNIX) as trial:  # PyMySQL leaves one open that nobody listens to
            if trial.connect_ex(str(self.socket)):
                return False
        try:
            self.statement("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    def statement(self, text: str, database: str = "") -> list[tuple[object, ...]]:
        with self.administrator(database) as cursor:
            cursor.execute(text)
            return list(cursor.fetchall())

    @contextmanager
    def administrator(self, database: str = "") -> Iterator[object]:
        import pymysql

        connection = pymysql.connect(
            unix_socket=str(self.socket), user="root", database=database or None, charset="utf8mb4", autocommit=True
        )
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def create(self, name: str) -> None:
        self.statement(f"CREATE DATABASE {name} CHARACTER SET latin1")  # as many old servers have it

    def empty(self, name: str) -> None:
        self.statement(f"DROP DATABASE {name}")
        self.create(name)


class PostgreSQL(Server):
    """PostgreSQL on loopback and a socket."""

    name = "postgresql"
    sessions = "SELECT COUNT(*) FROM pg_stat_activity WHERE usename = 'carbon'"

    def __init__(self) -> None:
        install("postgresql", "/usr/lib/postgresql/*/bin/initdb")
        super().__init__()
        self.bin = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self.as_user = self.owner("postgres")
        self.run([
            str(self.bin / "initdb"), "-D", str(self.data), "-U", "admin", "--auth-local=trust", "--auth-host=scram-sha-256",
            "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
        ])  # fmt: skip
        self.start()
        self.statement(f"CREATE ROLE carbon LOGIN PASSWORD '{PASSWORD}'")

    def argv(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder, "fsync": "off",
            "max_connections": 20, "shared_buffers": "16MB", "autovacuum": "off",
        }  # fmt: skip
        return [str(self.bin / "postgres"), "-D", str(self.data), *(f"--{name}={value}" for name, value in settings.items())]

    def answers(self) -> bool:
        import psycopg

        try:
            self.statement("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def statement(self, text: str, database: str = "") -> list[tuple[object, ...]]:
        with self.administrator(database) as cursor:
            cursor.execute(text)
            return list(cursor.fetchall()) if cursor.description else []

    @contextmanager
    def administrator(self, database: str = "") -> Iterator[object]:
        import psycopg

        with (
            psycopg.connect(
                host=str(self.folder), port=self.port, user="admin", dbname=database or "postgres", autocommit=True
            ) as connection,
            connection.cursor() as cursor,
        ):
            yield cursor

    def create(self, name: str) -> None:
        self.statement(f"CREATE DATABASE {name} OWNER carbon STRATEGY FILE_COPY")

    def empty(self, name: str) -> None:
        self.statement("DROP SCHEMA public CASCADE", name)
        self.statement("CREATE SCHEMA public AUTHORIZATION carbon", name)
        self.statement("GRANT USAGE ON SCHEMA public TO PUBLIC", name)


SERVERS: dict[str, type[Server]] = {"mariadb": MariaDB, "postgresql": PostgreSQL}
