"""URLs of ledgers: what can be said in them, what is wrong with others, and that no password is ever shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from slurm_carbon.errors import LedgerError
from slurm_carbon.ledger.store import Ledger, open_ledger
from tests.ledger.conftest import SERVERS
from tests.ledger.factory import an_entry
from tests.ledger.servers import PASSWORD, QUOTED, MariaDB, PostgreSQL, Server, free_port

SECRETS = ("Sekret", "Wort99")


@pytest.fixture(params=list(SERVERS))
def running(request: pytest.FixtureRequest, server: Callable[[str], Server]) -> Server:
    """Each of the database servers."""
    return server(request.param)


def works(url: str) -> bool:
    """Whether a ledger there keeps what it is given."""
    with open_ledger(url) as ledger:
        ledger.put_entries([an_entry()])
        return ledger.unsettled() == [an_entry()]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://", "sqlite:///", "sqlite:///relative.db", "sqlite://host/path", "sqlite:////tmp/x?mode=memory", "sqlite:///:memory:",
        "sqlite+pysqlcipher:////tmp/x", "sqlite+aiosqlite:////tmp/x",
        "oracle://a/b", "mssql://a/b", "mariadb+mysqldb://h/d", "postgresql+psycopg2://h/d", "postgres://h/d", "http://x/y",
        "mariadb://h", "postgresql://h", "postgresql://h/", "mariadb://h:0/d", "mariadb://h:99999/d", "mariadb://h:x/d",
        "mariadb:/h",
        "mariadb://h/d?local_infile=1", "mariadb://h/d?init_command=SHUTDOWN", "mariadb://h/d?read_default_file=/etc/shadow",
        "mariadb://h/d?charset=latin1", "postgresql://h/d?options=-csearch_path%3Dx", "postgresql://h/d?password=x",
        "postgresql://h/d?sslmode=require&sslmode=disable", "mariadb://h/d?password_file=/a&password_file=/b", "nonsense", "", "://",
        "mariadb://a..b/d", "postgresql://a..b/d", f"mariadb://{'a' * 64}/d", "mariadb://h/d?ssl_ca=/nowhere",
        "mariadb://u:p@h/d?password_file=/nowhere", "mariadb://h/d?password_file=/nowhere", "mariadb://h/d?password_file=relative",
    ],
)  # fmt: skip
def test_url_that_cannot_be_used(url: str) -> None:
    """Each is an error that names the ledger and says what would do; no server is called and no file is made."""
    with pytest.raises(LedgerError, match="ledger"):
        open_ledger(url)


def test_forms_of_a_url(running: Server) -> None:
    """A server is reached by loopback or by its socket, and under each name that its database goes by."""
    name = running.new()
    assert works(running.url(name))
    if isinstance(running, MariaDB):
        urls = [
            running.url(name).replace("mariadb:", "mysql:"),
            running.url(name).replace("mariadb:", "mariadb+pymysql:"),
            f"mariadb://carbon:{QUOTED}@localhost/{name}?unix_socket={running.socket}",
        ]
    else:
        urls = [
            running.url(name).replace("postgresql:", "postgresql+psycopg:"),
            running.url(name, query="?sslmode=prefer&application_name=carbon"),
            f"postgresql://carbon@/{name}?host={running.folder}&port={running.port}",
        ]
    assert all(works(url) for url in urls)


def test_password_from_a_file(running: Server, tmp_path: Path) -> None:
    """The password need not be in the URL: the configuration can be read by all."""
    name = running.new()
    path = tmp_path / "pass word"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    assert works(running.url(name, password="", query=f"?password_file={quote(str(path))}"))
    with pytest.raises(LedgerError, match="has a password and a password_file") as caught:
        open_ledger(running.url(name, query=f"?password_file={path}"))
    assert "%23" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "bits", "wrong"),
    [
        (b"x", 0o640, "mode 640: others may read it; chmod 600"),
        (b"x", 0o604, "others may read it"),
        (b"", 0o600, "holds no password"),
        (b"\n", 0o600, "holds no password"),
        (b"a\nb\n", 0o600, "one line"),
        (b"\xff", 0o600, "UTF-8"),
        (b"a\0", 0o600, "one line"),
        (b"x" * 5000, 0o600, "one line"),
    ],
)  # fmt: skip
def test_password_file_that_is_none(tmp_path: Path, text: bytes, bits: int, wrong: str) -> None:
    """A file that others may read holds no secret, and one that makes no sense is not tried."""
    path = tmp_path / "password"
    path.write_bytes(text)
    path.chmod(bits)
    with pytest.raises(LedgerError, match=wrong) as caught:
        open_ledger(f"mariadb://u@127.0.0.1:1/d?password_file={path}")
    assert str(path) in str(caught.value)


def test_password_file_that_is_no_file(tmp_path: Path) -> None:
    """Neither a pipe nor a folder holds us up."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("pipe", ".", "missing"):
        with pytest.raises(LedgerError, match="the password file"):
            open_ledger(f"mariadb://u@127.0.0.1:1/d?password_file={tmp_path / name}")


def shown(error: BaseException) -> str:
    """All that a log could get of an error: its text, and those of the errors that it came from."""
    texts = []
    chain: BaseException | None = error
    while chain is not None:
        texts.append(f"{chain} {chain!r}")
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    return " ".join(texts)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    form=st.sampled_from(
        ["{}://user:{}@127.0.0.1:{}/name", "{}://user:{}@/name", "{}://:{}@127.0.0.1:{}/n", "{}:/user:{}@x:{}/n", "{}//{}"]
    ),
    dialect=st.sampled_from(["mariadb", "mysql", "postgresql", "sqlite", "oracle"]),
    between=st.text("@:/?#% &=[]\\'\"+.;é\n1a", max_size=4),
    quoted=st.booleans(),
)
@example("{}://user:{}@127.0.0.1:{}/name", "mariadb", "@", False)
@example("{}://user:{}@127.0.0.1:{}/name", "postgresql", "@1/", False)
@example("{}://user:{}@127.0.0.1:{}/name", "postgresql", "?", False)
def test_no_password_in_any_error(form: str, dialect: str, between: str, quoted: bool) -> None:
    """Whatever signs are in it, quoted or forgotten to be quoted, and whatever is wrong, the password is not in what we say."""
    secret = between.join(SECRETS)
    url = form.format(dialect, quote(secret, safe="") if quoted else secret, PORT)
    with pytest.raises(LedgerError) as caught:
        open_ledger(url, patience_s=0.5)
    for part in SECRETS:
        assert part not in shown(caught.value)


PORT = free_port()  # where nobody listens


def test_wrong_password(running: Server) -> None:
    """The server's refusal says what to look at, and does not show what was tried."""
    with pytest.raises(LedgerError, match=r"does not let us in: look at the user and the password") as caught:
        open_ledger(running.url(running.new(), password="SekretWort99"))
    assert "Sekret" not in shown(caught.value)
    with pytest.raises(LedgerError, match="does not let us in"):
        open_ledger(running.url(running.new(), user="nobody-there"))


def test_password_is_in_no_object(running: Server) -> None:
    """What somebody prints of a ledger has no password in it."""
    with open_ledger(running.url(running.new())) as ledger:
        for thing in (ledger, ledger.where, ledger._connected, ledger._connected._engine, ledger._connected._engine.url):
            assert PASSWORD not in f"{thing} {thing!r}"
            assert QUOTED not in f"{thing} {thing!r}"
        assert ledger.where.startswith(f"the ledger {running.name}://carbon@127.0.0.1:{running.port}/ledger")


def test_database_that_is_not_there(running: Server) -> None:
    """The site has to make it."""
    with pytest.raises(LedgerError, match="no such database, or we may not use it"):
        open_ledger(running.url("ledger_of_nobody"))


def test_rights_that_are_missing(running: Server) -> None:
    """A user who may not make tables is told so; once they are made, one who may only read them reads."""
    name = running.new()
    reader = f"reader_{name}"
    if isinstance(running, PostgreSQL):
        running.statement(f"CREATE ROLE {reader} LOGIN PASSWORD '{PASSWORD}'")
    else:
        running.statement(f"CREATE USER {reader}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        running.statement(f"GRANT SELECT ON {name}.* TO {reader}@'127.0.0.1'")
    with pytest.raises(LedgerError, match="give our user the right to make, read and write tables"):
        open_ledger(running.url(name, user=reader))
    with open_ledger(running.url(name)) as ledger:
        ledger.put_entries([an_entry()])
    if isinstance(running, PostgreSQL):
        running.statement(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}", name)
    with open_ledger(running.url(name, user=reader), read_only=True) as looker:
        assert looker.unsettled() == [an_entry()]
    with open_ledger(running.url(name, user=reader)) as ledger, pytest.raises(LedgerError, match="give our user the right"):
        ledger.put_entries([an_entry(2)])


def test_postgresql_database_that_cannot_keep_every_text(server: Callable[[str], Server]) -> None:
    """A database in Latin-1 is refused when it is opened, not when the first name does not fit."""
    running = server("postgresql")
    running.statement("CREATE DATABASE ledger_latin OWNER carbon ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'")
    with pytest.raises(LedgerError, match="encoding LATIN1: make one with UTF8"):
        open_ledger(running.url("ledger_latin"))


def test_ledger_is_a_context_manager_that_gives_the_connection_back(running: Server) -> None:
    """No session is left at the server."""
    with open_ledger(running.url(running.new())) as ledger:
        assert isinstance(ledger, Ledger)
    running.wait_for_sessions_to_end()
