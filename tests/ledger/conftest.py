"""Ledgers on every database that slurm-carbon can use, each new and empty."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from slurm_carbon.ledger import schema
from slurm_carbon.ledger.store import Ledger, open_ledger
from tests.ledger.servers import SERVERS, MissingError, Server

DATABASES = ("sqlite", *SERVERS)
RUNNING: dict[str, Server] = {}


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[str], Server]]:
    """A server by its name, started when it is first asked for."""
    running = RUNNING
    missing: dict[str, str] = {}

    def get(name: str) -> Server:
        if name not in running and name not in missing:
            try:
                running[name] = SERVERS[name]()
            except MissingError as error:
                missing[name] = str(error)
        if name in missing:
            pytest.skip(missing[name])
        return running[name]

    yield get
    while running:
        running.popitem()[1].end()


@pytest.fixture(autouse=True)
def _databases_are_used_again(server: Callable[[str], Server]) -> Iterator[None]:
    """What a test has made serves the next one, emptied."""
    with ExitStack() as lent:
        for one in RUNNING.values():
            lent.enter_context(one.lending())
        yield


@dataclass
class Database:
    """A new database: its kind, its URL, and its server, if it has one."""

    kind: str
    url: str
    server: Server | None = None
    name: str = ""

    def open(self, **options: object) -> Ledger:
        return open_ledger(self.url, **options)  # type: ignore[arg-type]


def new_database(kind: str, server: Callable[[str], Server], folder: Path) -> Database:
    """A new and empty database of a kind."""
    if kind == "sqlite":
        return Database(kind, f"sqlite:///{folder}/ledger/ledger.sqlite")
    one = server(kind)
    name = one.new()
    return Database(kind, one.url(name), one, name)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, server: Callable[[str], Server], tmp_path: Path) -> Database:
    """A new database of each kind."""
    return new_database(request.param, server, tmp_path)


def empty(ledger: Ledger) -> None:
    """Take out all that is in a ledger."""

    def delete(connection: sa.Connection) -> None:
        for table in (schema.ENTRIES, schema.DECISIONS, schema.TRANSFERS, schema.RUNS):
            connection.execute(sa.delete(table))

    ledger._connected.write(delete)


@pytest.fixture(scope="module", params=DATABASES)
def kept(request: pytest.FixtureRequest, server: Callable[[str], Server]) -> Iterator[Ledger]:
    """A ledger on each kind of database for many tests, which empty it."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a disk would be waited for at each commit
    with tempfile.TemporaryDirectory(dir=memory, prefix="carbon-") as folder:
        with new_database(request.param, server, Path(folder)).open() as ledger:
            yield ledger


@pytest.fixture
def ledger(kept: Ledger) -> Ledger:
    """An empty ledger on each kind of database."""
    empty(kept)
    return kept
