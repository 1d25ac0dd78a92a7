"""The ledger: what was decided and done is kept here before anything is done, so that a later run can finish or undo it.

Every method is one transaction, and what it was given is on the disk when it returns. All raise LedgerError.
"""

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from slurm_carbon.errors import LedgerError
from slurm_carbon.ledger import schema
from slurm_carbon.ledger.connect import PATIENCE_S, Connected, connect, in_memory
from slurm_carbon.ledger.rows import Shape, store
from slurm_carbon.ledger.schema import DECISIONS, ENTRIES, RUNS, TRANSFERS
from slurm_carbon.ledger.values import MOVED, OPEN, UNDONE, Decided, Entry, Run, Sums, Transfer

CHUNK = 500  # ids in one question: SQLite takes 999 parameters in old versions
BATCH = 1000  # rows that are deleted in one transaction: others are not kept waiting

T = TypeVar("T")

_ENTRY = Shape(Entry._make, Entry._fields, ENTRIES)
_DECIDED = Shape(Decided._make, Decided._fields, DECISIONS)
_TRANSFER = Shape(Transfer._make, Transfer._fields, TRANSFERS)
_RUN = Shape(Run._make, Run._fields, RUNS)
_BEGINNING = Shape(tuple, ("started_epoch_s", "mode", "figures"), RUNS)
_END = Shape(tuple, ("ended_epoch_s", "figures"), RUNS)
_ENTRY_KEY = ("cluster", "job_id", "submit_epoch_s")


def open_ledger(url: str, *, read_only: bool = False, patience_s: float = PATIENCE_S) -> "Ledger":
    """The ledger at a database URL of SQLAlchemy, or at an absolute path; made if it is not there yet.

    With `read_only` nothing is ever written: neither a ledger that is not there yet, nor a new version of an old one.
    `patience_s` is how long to wait for a lock that another process has. Raises LedgerError.
    """
    ledger = Ledger(connect(url, read_only=read_only, patience_s=patience_s))
    try:
        ledger.prepare()
    except BaseException:
        ledger.close()
        raise
    return ledger


def memory_ledger() -> "Ledger":
    """A ledger that is gone when it is closed: for a dry run where there is none yet, and for tests."""
    ledger = Ledger(in_memory())
    ledger.prepare()
    return ledger


class Ledger:
    """An open ledger; a context manager. After an error it can be used again: what failed has left nothing behind."""

    def __init__(self, connected: Connected) -> None:
        self._connected = connected

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._connected.close()

    @property
    def where(self) -> str:
        """Which ledger it is, without a password."""
        return self._connected.where

    def prepare(self, steps: Sequence[schema.Step] = schema.STEPS) -> None:
        """Make the tables, or bring those of an older version up to date."""

        def look(connection: sa.Connection) -> int:
            found = schema.version(connection)
            schema.check(found, steps)
            return found

        found = self._connected.read(look)
        if found == 1 + len(steps):
            return
        if not self._connected.read_only:
            self._connected.write(lambda connection: schema.prepare(connection, steps), alone=True)
        elif found:
            raise LedgerError(
                f"{self.where} is of an older slurm-carbon: the next `slurm-carbon reoptimize` brings it up to date"
            )
        else:
            raise LedgerError(f"{self.where} is not there yet: the first `slurm-carbon reoptimize` makes it")

    # runs

    def begin_run(self, now_epoch_s: int, mode: str) -> int:
        """Note that a run begins; its number."""
        row = _BEGINNING.row((now_epoch_s, mode, {}))

        def insert(connection: sa.Connection) -> int:
            (number,) = cast(tuple[int], connection.execute(sa.insert(RUNS).values(row)).inserted_primary_key)
            return number

        return self._connected.write(insert)

    def end_run(self, run: int, now_epoch_s: int, figures: dict[str, float | int | str]) -> None:
        """Note that a run has ended, and what it counted."""
        row = _END.row((now_epoch_s, figures))
        self._connected.write(lambda connection: connection.execute(sa.update(RUNS).where(RUNS.c.id == run).values(row)))

    def last_runs(self, count: int) -> list[Run]:
        """The newest runs, the newest first."""
        return self._values(_RUN, sa.select(*_RUN.columns).order_by(RUNS.c.id.desc()).limit(max(0, count)))

    # entries

    def entries(self, cluster: str, job_ids: Iterable[int]) -> dict[int, Entry]:
        """The newest entry of each of some jobs of a cluster, by their numbers; what has none is left out."""
        wanted, name = sorted({job_id for job_id in job_ids if abs(job_id) < 1 << 63}), store(cluster)
        question = sa.select(*_ENTRY.columns).where(ENTRIES.c.cluster == name).order_by(ENTRIES.c.submit_epoch_s)

        def read(connection: sa.Connection) -> dict[int, Entry]:
            newest: dict[int, Entry] = {}
            for ids in _chunks(wanted, CHUNK):
                for row in connection.execute(question.where(ENTRIES.c.job_id.in_(ids))):
                    entry = _ENTRY.value(row)
                    newest[entry.job_id] = entry  # the newest comes last
            return newest

        return self._connected.read(read)

    def put_entries(self, entries: Iterable[Entry]) -> None:
        """Keep entries, each in place of the one with the same cluster, number and time of submission: all or none of them."""
        self._put(_ENTRY, entries, _ENTRY_KEY)

    def unsettled(self) -> list[Entry]:
        """The entries of the jobs that have not ended yet, by cluster and number."""
        entries = self._values(_ENTRY, sa.select(*_ENTRY.columns).where(ENTRIES.c.ended_epoch_s.is_(None)))
        return sorted(entries, key=lambda entry: entry[:3])

    # decisions

    def add_decisions(self, decisions: Iterable[Decided]) -> None:
        """Keep decisions beside all earlier ones: all or none of them."""
        rows = [_DECIDED.row(decision) for decision in decisions]
        if rows:
            self._connected.write(lambda connection: connection.execute(sa.insert(DECISIONS), rows))

    def decisions_of(self, cluster: str, job_id: int) -> list[Decided]:
        """What was decided about a job, in the order in which it was kept."""
        question = sa.select(*_DECIDED.columns).where(DECISIONS.c.cluster == store(cluster), DECISIONS.c.job_id == job_id)
        return self._values(_DECIDED, question.order_by(DECISIONS.c.id))

    # transfers

    def put_transfer(self, transfer: Transfer) -> None:
        """Keep a transfer, in place of the one with the same id."""
        self.put_transfers([transfer])

    def put_transfers(self, transfers: Iterable[Transfer]) -> None:
        """Keep many at once, in one transaction: all or none."""
        self._put(_TRANSFER, transfers, ("id",))

    def transfer(self, id_: str) -> Transfer | None:
        """The transfer of an id."""
        found = self._transfers(TRANSFERS.c.id == store(id_))
        return found[0] if found else None

    def open_transfers(self) -> list[Transfer]:
        """The transfers that have to be finished or undone, the oldest first."""
        return self._transfers(TRANSFERS.c.state.in_(OPEN))

    def undone(self, since_epoch_s: int) -> list[Transfer]:
        """The transfers that came to nothing, at a time or after it, the oldest first."""
        return self._transfers(sa.and_(TRANSFERS.c.state == UNDONE, TRANSFERS.c.changed_epoch_s >= since_epoch_s))

    def transfers_of(self, cluster: str, job_id: int) -> list[Transfer]:
        """The transfers that a job is the source or the copy of, the oldest first."""
        source = sa.and_(TRANSFERS.c.cluster == store(cluster), TRANSFERS.c.job_id == job_id)
        found = self._transfers(sa.or_(source, TRANSFERS.c.target_id == job_id))
        return [
            one
            for one in found
            if (one.cluster, one.job_id) == (cluster, job_id)
            or (one.to_location.partition("/")[0], one.target_id) == (cluster, job_id)
        ]

    def _transfers(self, which: sa.ColumnElement[bool]) -> list[Transfer]:
        found = self._values(_TRANSFER, sa.select(*_TRANSFER.columns).where(which))
        return sorted(found, key=lambda one: (one.created_epoch_s, one.id))

    # all of it

    def sums(self, since_epoch_s: int, until_epoch_s: int, user: str | None = None) -> Sums:
        """What the jobs come to that ended at or after one time and before another: all users', or one's.

        A job that has moved counts once, where it has run.
        """
        c = ENTRIES.c
        known = c.emitted_g.is_not(None)
        masses = [
            sa.func.coalesce(sa.func.sum(sa.case((known, mass), else_=0.0)), 0.0)
            for mass in (c.baseline_g, c.planned_g, c.emitted_g)
        ]
        question = sa.select(sa.func.count(), sa.func.count(c.emitted_g), *masses).where(
            c.ended_epoch_s >= since_epoch_s, c.ended_epoch_s < until_epoch_s, c.state != MOVED
        )
        if user is not None:
            question = question.where(c.user == store(user))

        def read(connection: sa.Connection) -> Sums:
            jobs, measured, *sums = connection.execute(question).one()
            return Sums(jobs, measured, *map(float, sums))

        return self._connected.read(read)

    def forget(self, before_epoch_s: int) -> int:
        """Delete what ended before a time: entries that are settled, decisions, transfers that are finished, and runs.

        Returns how many rows. In batches, each a transaction: what was deleted stays so if a later batch fails.
        """
        e, d, t, r = ENTRIES.c, DECISIONS.c, TRANSFERS.c, RUNS.c
        return (
            self._delete(ENTRIES, e.ended_epoch_s < before_epoch_s)
            + self._delete(DECISIONS, d.decided_epoch_s < before_epoch_s)
            + self._delete(TRANSFERS, t.changed_epoch_s < before_epoch_s, *(t.state != state for state in OPEN))
            + self._delete(RUNS, r.started_epoch_s < before_epoch_s)
        )

    # how

    def _values(self, shape: Shape[T], question: sa.Select[Any]) -> list[T]:
        return self._connected.read(lambda connection: [shape.value(row) for row in connection.execute(question)])

    def _put(self, shape: Shape[Any], values: Iterable[Any], key: tuple[str, ...]) -> None:
        by_key = {tuple(row[name] for name in key): row for row in map(shape.row, values)}  # of two the last one
        if by_key:
            rows = [by_key[name] for name in sorted(by_key)]  # two writers go the same way, and do not wait for each other
            statement = _upsert(self._connected.dialect, shape, key)
            self._connected.write(lambda connection: connection.execute(statement, rows))

    def _delete(self, table: sa.Table, *which: sa.ColumnElement[bool]) -> int:
        keys = list(table.primary_key.columns)
        some = sa.select(*(column.label(f"key_{column.name}") for column in keys)).where(*which).limit(BATCH)
        # asked once more of each: it may have been changed since
        delete = sa.delete(table).where(*(column == sa.bindparam(f"key_{column.name}") for column in keys), *which)

        def batch(connection: sa.Connection) -> int:
            rows = [dict(row) for row in connection.execute(some).mappings()]
            if rows:
                connection.execute(delete, rows)
            return len(rows)

        deleted = 0
        while found := self._connected.write(batch):
            deleted += found
        return deleted


def _upsert(dialect: str, shape: Shape[Any], key: tuple[str, ...]) -> sa.Executable:
    """Insert, or replace what has the same key, as a database says it."""
    rest = [name for name in shape.names if name not in key]
    if dialect in ("mysql", "mariadb"):
        # the older of the two ways to say it: MariaDB knows no other, and PyMySQL sends many rows at once with it
        new = {name: sa.func.values(shape.table.c[name]) for name in rest}
        return mysql.insert(shape.table).on_duplicate_key_update(new)
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(shape.table)
    statement: sa.Executable = insert.on_conflict_do_update(
        index_elements=list(key), set_={name: insert.excluded[name] for name in rest}
    )
    return statement


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
