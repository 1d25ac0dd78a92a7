"""What goes wrong with a server: each time an error that says what to do, and a ledger that goes on when the server does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Barrier

import pytest
import sqlalchemy as sa

from slurm_carbon.errors import LedgerError
from slurm_carbon.ledger.schema import ENTRIES
from slurm_carbon.ledger.store import open_ledger
from tests.ledger.conftest import SERVERS, Database, new_database
from tests.ledger.factory import a_decision, a_transfer, an_entry
from tests.ledger.servers import PASSWORD, QUOTED, MariaDB, PostgreSQL, Server, free_port
from tests.ledger.test_urls import shown

SOON = 0.5


@pytest.fixture(params=list(SERVERS))
def served(request: pytest.FixtureRequest, server: Callable[[str], Server], tmp_path: object) -> Database:
    """A new database on each server, with a ledger that has something in it."""
    made = new_database(request.param, server, tmp_path)  # type: ignore[arg-type]
    with made.open() as ledger:
        ledger.put_entries([an_entry()])
    return made


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The error is all that is said: no library writes a traceback of its own to stderr."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call")] == []


def the_server(database: Database) -> Server:
    """The server that a database is on."""
    assert database.server is not None
    return database.server


@contextmanager
def fails(text: str) -> Iterator[None]:
    """It is an error that says something, and not the password."""
    with pytest.raises(LedgerError, match=text) as caught:
        yield
    for secret in (PASSWORD, QUOTED):
        assert secret not in shown(caught.value)


def test_nobody_listens(served: Database) -> None:
    """A server that is not there is one line, at once."""
    url = served.url.replace(f":{the_server(served).port}/", f":{free_port()}/")
    with fails(r"its server does not answer, or ended the connection: see that it runs"):
        open_ledger(url)


def test_server_restarts_between_two_calls(served: Database) -> None:
    """Nobody notices."""
    with served.open() as ledger:
        assert ledger.unsettled() == [an_entry()]
        the_server(served).restart()
        assert ledger.unsettled() == [an_entry()]
        the_server(served).restart()
        ledger.put_entries([an_entry(2)])
        assert len(ledger.unsettled()) == 2


def test_server_is_killed_and_comes_back(served: Database) -> None:
    """While it is gone each call is an error; then the same ledger goes on, with all that was kept."""
    one = the_server(served)
    with served.open(patience_s=SOON) as ledger:
        ledger.put_transfer(a_transfer())
        one.kill()
        try:
            for work in (
                ledger.unsettled,
                lambda: ledger.put_entries([an_entry(2)]),
                lambda: ledger.add_decisions([a_decision()]),
                lambda: served.open(patience_s=SOON).unsettled(),
            ):
                with fails("does not answer, or ended the connection"):
                    work()
        finally:
            one.start()
        assert ledger.unsettled() == [an_entry()]
        assert ledger.decisions_of("alpha", 1) == []
        assert ledger.open_transfers() == [a_transfer()]
        ledger.put_entries([an_entry(2)])


def test_server_is_killed_inside_a_transaction(served: Database) -> None:
    """What was not committed is not there after that."""
    one = the_server(served)
    with served.open(patience_s=SOON) as ledger:

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.text("UPDATE carbon_entries SET moves = 99"))
            one.kill()
            connection.execute(sa.text("UPDATE carbon_entries SET moves = 100"))

        try:
            with fails("does not answer, or ended the connection"):
                ledger._connected.write(work)
        finally:
            one.start()
        assert ledger.unsettled() == [an_entry()]


def test_server_is_killed_at_the_commit(served: Database) -> None:
    """Nobody can know whether it was kept, and that is what is said."""
    one = the_server(served)
    with served.open(patience_s=SOON) as ledger:

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.text("UPDATE carbon_entries SET moves = 99"))
            one.kill()

        try:
            with fails("whether this was still kept is not known"):
                ledger._connected.write(work)
        finally:
            one.start()
        assert ledger.unsettled()[0].moves in (an_entry().moves, 99)


def test_session_is_ended_by_the_administrator(served: Database) -> None:
    """A connection that was ended between two calls is made anew."""
    one = the_server(served)
    with served.open() as ledger:
        for _ in range(2):
            assert ledger.unsettled() == [an_entry()]
            end_sessions(one)
        ledger.put_entries([an_entry(2)])


def end_sessions(one: Server) -> None:
    """End all sessions of our user."""
    if isinstance(one, PostgreSQL):
        one.statement("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'carbon'")
    else:
        one.statement("KILL USER carbon")


def test_server_hangs(served: Database) -> None:
    """A server that takes what is said and never answers is given up, and so is the call to it for a new connection."""
    with served.open(patience_s=SOON) as ledger:
        assert ledger.unsettled() == [an_entry()]
        with the_server(served).stopped():
            began = time.monotonic()
            with fails("does not answer, or ended the connection"):
                ledger.put_entries([an_entry(2)])
            assert time.monotonic() - began < 8
        ledger.put_entries([an_entry(2)])
        assert len(ledger.unsettled()) == 2


def test_locked_by_another(served: Database) -> None:
    """Rows or tables that another session has locked are waited for in bounds, and then the ledger goes on."""
    one = the_server(served)
    with served.open(patience_s=1.0) as ledger:
        with one.administrator(served.name) as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE carbon_entries SET moves = 50")
            began = time.monotonic()
            with fails(r"locked for too long: wait for the other `slurm-carbon`"):
                ledger.put_entries([an_entry(1, moves=9), an_entry(2)])
            assert time.monotonic() - began < 5
            assert ledger.unsettled() == [an_entry()]  # reading does not wait
            cursor.execute("ROLLBACK")
        assert ledger.unsettled() == [an_entry()]
        ledger.put_entries([an_entry(1, moves=9)])
        assert ledger.unsettled() == [an_entry(1, moves=9)]


def test_too_many_connections(served: Database) -> None:
    """A server that is full says so, and who waits gets in."""
    one = the_server(served)
    with ExitStack() as others:
        if isinstance(one, MariaDB):
            one.statement("SET GLOBAL max_connections = 10")
            others.callback(one.statement, "SET GLOBAL max_connections = 151")
        with fails("its server has no connection free: wait, or let the server take more of them"):
            for _ in range(30):
                others.enter_context(served.open())
    with served.open() as ledger:
        assert ledger.unsettled() == [an_entry()]


def test_limit_of_our_user(served: Database) -> None:
    """So does one that lets our user have no more."""
    one = the_server(served)
    if isinstance(one, PostgreSQL):
        one.statement("ALTER ROLE carbon CONNECTION LIMIT 1")
    else:
        one.statement("GRANT USAGE ON *.* TO carbon@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1")
    try:
        one.wait_for_sessions_to_end()
        with served.open(), fails("its server has no connection free"):
            served.open()
    finally:
        if isinstance(one, PostgreSQL):
            one.statement("ALTER ROLE carbon CONNECTION LIMIT -1")
        else:
            one.statement("GRANT USAGE ON *.* TO carbon@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0")


def test_server_that_is_read_only(served: Database) -> None:
    """As a replica is: it can be read, and writing says why not."""
    one = the_server(served)
    on, off = (
        (f"ALTER DATABASE {served.name} SET default_transaction_read_only = on", f"ALTER DATABASE {served.name} RESET ALL")
        if isinstance(one, PostgreSQL)
        else ("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0")
    )
    one.statement(on)
    try:
        with served.open() as ledger:
            assert ledger.unsettled() == [an_entry()]
            with fails("it cannot be written"):
                ledger.put_entries([an_entry(2)])
    finally:
        one.statement(off)
    with served.open() as ledger:
        ledger.put_entries([an_entry(2)])


def test_tables_that_are_gone(served: Database) -> None:
    """Somebody has dropped one: that is said."""
    the_server(served).statement("DROP TABLE carbon_transfers", served.name)
    with served.open() as ledger:
        with fails("its tables are not those of a ledger"):
            ledger.open_transfers()
        assert ledger.unsettled() == [an_entry()]


def test_deadlock_is_tried_again(served: Database) -> None:
    """Two who wait for each other: the one that the database stops begins anew, and both come through."""
    with served.open() as ledger:
        ledger.put_entries([an_entry(2)])
    both_have_one = Barrier(2, timeout=20)
    attempts: list[int] = []

    def add_one(order: tuple[int, int]) -> None:
        mine: list[int] = []

        def work(connection: sa.Connection) -> None:
            mine.append(1)
            for job_id in order:
                row = ENTRIES.c.cluster == "alpha", ENTRIES.c.submit_epoch_s == an_entry()[2], ENTRIES.c.job_id == job_id
                connection.execute(sa.update(ENTRIES).where(*row).values(moves=ENTRIES.c.moves + 1))
                if len(mine) == 1 and job_id == order[0]:
                    both_have_one.wait()

        with served.open() as ledger:
            ledger._connected.write(work)
        attempts.append(len(mine))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add_one, [(1, 2), (2, 1)]))
    assert sorted(attempts) == [1, 2]
    with served.open() as ledger:
        assert [entry.moves for entry in ledger.unsettled()] == [an_entry().moves + 2] * 2
