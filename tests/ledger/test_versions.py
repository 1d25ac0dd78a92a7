"""Ledgers of other versions: an older one is brought up to date once, a newer one is left alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from slurm_carbon.errors import LedgerError
from slurm_carbon.ledger import schema
from slurm_carbon.ledger.connect import connect
from slurm_carbon.ledger.store import Ledger, open_ledger
from slurm_carbon.ledger.values import Run
from tests.ledger.conftest import Database
from tests.ledger.factory import an_entry

# what each version made, as SQLite has it; a new version adds its file, and its step must lead there from the one before
DEFINITIONS = {number: Path(__file__).parent / f"version{number}.sql" for number in (1, 2)}
NOW = 1 + len(schema.STEPS)


def add_column(connection: sa.Connection) -> None:
    """A step as a later version may have it: it finds out whether it was run before, as MariaDB needs it."""
    if "note" not in {column["name"] for column in sa.inspect(connection).get_columns("carbon_entries")}:
        connection.execute(sa.text("ALTER TABLE carbon_entries ADD COLUMN note VARCHAR(20) DEFAULT 'none'"))


def fail(connection: sa.Connection) -> None:
    """A step that is cut short in the middle."""
    connection.execute(sa.text("CREATE TABLE carbon_half (id INTEGER)"))
    connection.execute(sa.text("SELECT no_such_column FROM carbon_half"))


def connected(database: Database) -> Ledger:
    """A ledger that has not been looked at."""
    return Ledger(connect(database.url, read_only=False, patience_s=2.0))


def read(ledger: Ledger, text: str) -> list[tuple[object, ...]]:
    """The answer to a question in SQL."""
    return ledger._connected.read(lambda connection: [tuple(row) for row in connection.execute(sa.text(text))])


def test_new_ledger_is_of_this_version(database: Database) -> None:
    """There is one row with the version, also after it is opened often."""
    for _ in range(3):
        with database.open() as ledger:
            assert read(ledger, "SELECT version FROM carbon_schema") == [(NOW,)]


def test_older_ledger_is_brought_up_to_date_and_keeps_all(database: Database) -> None:
    """Each missing step is run once and in order; what was kept is still there."""
    with database.open() as ledger:
        ledger.put_entries([an_entry(1), an_entry(2)])
    ran: list[int] = []
    steps = (*schema.STEPS, add_column, lambda _connection: ran.append(3))
    for _ in range(2):
        with connected(database) as ledger:
            ledger.prepare(steps)
            assert read(ledger, "SELECT version FROM carbon_schema") == [(1 + len(steps),)]
            assert read(ledger, "SELECT DISTINCT note FROM carbon_entries") == [("none",)]
            assert ledger.unsettled() == [an_entry(1), an_entry(2)]
    assert ran == [3]


def test_newer_ledger_is_left_alone(database: Database) -> None:
    """An older slurm-carbon does not write into what it does not know, nor reads it, and says why."""
    with database.open():
        pass
    with connected(database) as ledger:
        ledger.prepare((*schema.STEPS, add_column))
    said = rf"version {NOW + 1}, and this slurm-carbon knows versions up to {NOW} only: use the newer"
    for read_only in (False, True):
        with pytest.raises(LedgerError, match=said):
            database.open(read_only=read_only)


def test_reader_of_an_older_ledger_waits_for_the_writer(database: Database) -> None:
    """Who may only read changes no tables."""
    with database.open():
        pass
    with Ledger(connect(database.url, read_only=True, patience_s=2.0)) as ledger:
        with pytest.raises(LedgerError, match="the next `slurm-carbon reoptimize` brings it up to date"):
            ledger.prepare((*schema.STEPS, add_column))


def test_step_that_fails_can_be_run_again(database: Database) -> None:
    """The version stays what it was, steps before it are undone or harmless, and the mended step brings it up to date."""
    with database.open() as ledger:
        ledger.put_entries([an_entry()])
    with connected(database) as ledger:
        with pytest.raises(LedgerError):
            ledger.prepare((*schema.STEPS, add_column, fail))
        assert ledger.unsettled() == [an_entry()]
    with connected(database) as ledger:
        ledger.prepare((*schema.STEPS, add_column))
        assert read(ledger, "SELECT version FROM carbon_schema") == [(NOW + 1,)]
        assert read(ledger, "SELECT note FROM carbon_entries") == [("none",)]


def test_tables_without_a_version_are_completed(database: Database) -> None:
    """Who was killed while he made the tables has left some of them, or all but the version."""
    with connected(database) as ledger:
        ledger._connected.write(lambda connection: schema.METADATA.create_all(connection, [schema.SCHEMA, schema.RUNS]))
    with database.open() as ledger:
        ledger.put_entries([an_entry()])
        assert read(ledger, "SELECT version FROM carbon_schema") == [(NOW,)]


def test_tables_of_others_are_left_alone(database: Database) -> None:
    """A database that the site has already keeps its tables, whatever they are called."""
    with connected(database) as ledger:
        for name in ("entries", "runs", "transfers", "decisions", "schema_version"):
            ledger._connected.write(
                lambda connection, name=name: connection.execute(sa.text(f"CREATE TABLE {name} (a INTEGER)"))
            )
    with database.open() as ledger:
        ledger.put_entries([an_entry()])
        assert read(ledger, "SELECT COUNT(*) FROM entries") == [(0,)]


def shape(ledger: Ledger) -> dict[str, object]:
    """Tables, columns and indexes as the database has them."""

    def look(connection: sa.Connection) -> dict[str, object]:
        found = sa.inspect(connection)
        return {
            name: (
                [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(name)],
                found.get_pk_constraint(name)["constrained_columns"],
                sorted((str(index["name"]), index["column_names"]) for index in found.get_indexes(name)),
            )
            for name in found.get_table_names()
        }

    return ledger._connected.read(look)


@pytest.mark.parametrize("version", DEFINITIONS)
def test_ledger_of_each_version_becomes_one_of_today(tmp_path: Path, version: int) -> None:
    """Who changes a table raises the version, adds the step and keeps the definition of before: old ledgers are out there."""
    old = tmp_path / "old.sqlite"
    connection = sqlite3.connect(old)
    connection.executescript(DEFINITIONS[version].read_text())
    connection.execute("INSERT INTO carbon_schema (id, version) VALUES (1, ?)", (version,))
    connection.execute("INSERT INTO carbon_runs (started_epoch_s, mode, figures) VALUES (17, 'advise', '{}')")
    connection.commit()
    connection.close()
    old.chmod(0o600)
    with open_ledger(str(old)) as ledger, open_ledger(str(tmp_path / "new.sqlite")) as new:
        assert shape(ledger) == shape(new)
        assert ledger.last_runs(9) == [Run(1, 17, "advise")]
        ledger.put_entries([an_entry()])


def test_definition_of_this_version_is_kept() -> None:
    """The newest definition is that of this version."""
    assert max(DEFINITIONS) == 1 + len(schema.STEPS)
