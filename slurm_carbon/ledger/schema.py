"""The tables of the ledger, on every database alike, and how an older ledger becomes one of today."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from slurm_carbon.errors import LedgerError

# what a column holds
KEY, TEXT, PROSE = "key", "text", "prose"  # prose may be cut where it is too long
LIST, FIGURES = "list", "figures"  # as JSON
INTEGER, NUMBER, FLAG = "integer", "number", "flag"
KEY_CHARACTERS = 255  # four bytes each: what an index of InnoDB takes

Step = Callable[[sa.Connection], None]


class Exact(TypeDecorator[str]):
    """Text that is compared byte by byte: MariaDB would otherwise take `A` for `a`, and `a ` for `a`."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, characters: int | None = None) -> None:
        super().__init__()
        self.characters = characters

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The type of a database."""
        if dialect.name not in ("mysql", "mariadb"):
            return dialect.type_descriptor(sa.String(self.characters) if self.characters else sa.Text())
        collation = "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"
        if self.characters:
            return dialect.type_descriptor(mysql.VARCHAR(self.characters, charset="utf8mb4", collation=collation))
        return dialect.type_descriptor(mysql.MEDIUMTEXT(charset="utf8mb4", collation=collation))


def _column(name: str, kind: str, *, primary: bool = False, optional: bool = False) -> sa.Column[Any]:
    types: dict[str, TypeEngine[Any]] = {
        KEY: Exact(KEY_CHARACTERS),
        INTEGER: sa.BigInteger(),
        NUMBER: sa.Double(),
        FLAG: sa.Boolean(),
    }
    kind_type = types.get(kind) or Exact()
    return sa.Column(name, kind_type, primary_key=primary, nullable=optional, autoincrement=False, info={"kind": kind})


def _number() -> sa.Column[Any]:
    """A number that the database gives, and never twice."""
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=True, info={"kind": INTEGER})


def _table(name: str, *parts: Any) -> sa.Table:
    # a prefix, since the database may be one that the site has already
    numbered = any(isinstance(part, sa.Column) and part.autoincrement is True for part in parts)
    more: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "sqlite_autoincrement": numbered}
    return sa.Table(f"carbon_{name}", METADATA, *parts, **more)


METADATA = sa.MetaData()

SCHEMA = _table("schema", _column("id", INTEGER, primary=True), _column("version", INTEGER))

RUNS = _table(
    "runs",
    _number(),
    _column("started_epoch_s", INTEGER),
    _column("mode", TEXT),
    _column("ended_epoch_s", INTEGER, optional=True),
    _column("figures", FIGURES),
    sa.Index("carbon_runs_started", "started_epoch_s"),
)

ENTRIES = _table(
    "entries",
    _column("cluster", KEY, primary=True),
    _column("job_id", INTEGER, primary=True),
    _column("submit_epoch_s", INTEGER, primary=True),
    _column("user", TEXT),
    _column("location", TEXT),
    _column("home", TEXT),
    _column("begin_epoch_s", INTEGER),
    _column("latest_epoch_s", INTEGER),
    _column("may", TEXT),
    _column("mark_id", TEXT),
    _column("locations", LIST),
    _column("baseline_g", NUMBER),
    _column("planned_g", NUMBER),
    _column("energy_kwh", NUMBER),
    _column("forecast", PROSE),
    _column("moves", INTEGER),
    _column("moved_epoch_s", INTEGER),
    _column("follows", TEXT),
    _column("late", FLAG),
    _column("started_epoch_s", INTEGER, optional=True),
    _column("ended_epoch_s", INTEGER, optional=True),
    _column("state", TEXT),
    _column("used_kwh", NUMBER, optional=True),
    _column("emitted_g", NUMBER, optional=True),
    sa.Index("carbon_entries_ended", "ended_epoch_s"),
)

DECISIONS = _table(
    "decisions",
    _number(),
    _column("run", INTEGER),
    _column("cluster", KEY),
    _column("job_id", INTEGER),
    _column("tasks", TEXT),
    _column("decided_epoch_s", INTEGER),
    _column("from_location", TEXT),
    _column("from_epoch_s", INTEGER),
    _column("to_location", TEXT),
    _column("to_epoch_s", INTEGER),
    _column("saved_g", NUMBER),
    _column("reason", PROSE),
    _column("outcome", PROSE),
    sa.Index("carbon_decisions_job", "cluster", "job_id"),
    sa.Index("carbon_decisions_decided", "decided_epoch_s"),
)

TRANSFERS = _table(
    "transfers",
    _column("id", KEY, primary=True),
    _column("cluster", KEY),
    _column("job_id", INTEGER),
    _column("submit_epoch_s", INTEGER),
    _column("user", TEXT),
    _column("uid", INTEGER),
    _column("mark_id", TEXT),
    _column("to_location", TEXT),
    _column("begin_epoch_s", INTEGER),
    _column("latest_epoch_s", INTEGER),
    _column("comment", TEXT),
    _column("source_comment", TEXT),
    _column("state", KEY),
    _column("created_epoch_s", INTEGER),
    _column("changed_epoch_s", INTEGER),
    _column("asked_epoch_s", INTEGER),
    _column("target_id", INTEGER),
    _column("note", PROSE),
    _column("target_submit_epoch_s", INTEGER),
    sa.Index("carbon_transfers_source", "cluster", "job_id"),
    sa.Index("carbon_transfers_target", "target_id"),
    sa.Index("carbon_transfers_state", "state"),
)


def _add_target_submit(connection: sa.Connection) -> None:
    if "target_submit_epoch_s" not in {column["name"] for column in sa.inspect(connection).get_columns(TRANSFERS.name)}:
        connection.execute(sa.text(f"ALTER TABLE {TRANSFERS.name} ADD COLUMN target_submit_epoch_s BIGINT DEFAULT 0 NOT NULL"))


# The step at position i brings a ledger of version i + 1 to the next one. A new ledger is made of the tables above at once,
# so who changes them adds the step that does the same to an old one. MariaDB commits with every change of a table: a step
# may find that it was run in part before, and has to look.
STEPS: tuple[Step, ...] = (_add_target_submit,)


def version(connection: sa.Connection) -> int:
    """The version of a ledger; 0 where there is none yet."""
    if not sa.inspect(connection).has_table(SCHEMA.name):
        return 0
    return connection.execute(sa.select(SCHEMA.c.version)).scalar() or 0


def check(found: int, steps: Sequence[Step] = STEPS) -> None:
    """Raises LedgerError for a ledger of a newer slurm-carbon."""
    known = 1 + len(steps)
    if found > known:
        raise LedgerError(
            f"it has version {found}, and this slurm-carbon knows versions up to {known} only: "
            "use the newer slurm-carbon that has written it"
        )


def prepare(connection: sa.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Make the tables, or bring those of an older version up to date, within a transaction. Raises LedgerError."""
    found = version(connection)
    check(found, steps)
    if found == 0:
        METADATA.create_all(connection)
        connection.execute(sa.insert(SCHEMA).values(id=1, version=1 + len(steps)))
        return
    for position in range(found, 1 + len(steps)):
        steps[position - 1](connection)
        connection.execute(sa.update(SCHEMA).values(version=position + 1))
