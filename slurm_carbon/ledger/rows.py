"""Values as rows and rows as values: any text, number or list comes back exactly as it was given, on every database."""

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from slurm_carbon.errors import LedgerError
from slurm_carbon.ledger import schema

MAX_CHARACTERS = 1 << 16
CUT = " ... (cut)"

# PostgreSQL stores no NUL, and nobody a lone surrogate, which is how os.fsdecode writes a byte that is no UTF-8: these are
# written as U+001A (SUBSTITUTE) and four hexadecimal digits, and so is U+001A itself
_ESCAPE = "\x1a"
_UNSTORABLE = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")

V = TypeVar("V")


def store(text: str) -> str:
    """A text as every database takes it."""
    return _UNSTORABLE.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", text)


def restore(text: str) -> str:
    """The text that was stored."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if _ESCAPE in text else text


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("is no text")
    if len(value) > MAX_CHARACTERS:
        raise ValueError(f"is longer than {MAX_CHARACTERS} characters")
    return store(value)


def _key(value: Any) -> str:
    text = _text(value)
    if len(text) > schema.KEY_CHARACTERS:
        raise ValueError(f"is longer than {schema.KEY_CHARACTERS} characters")
    return text


def _prose(value: Any) -> str:
    return _text(value if len(value) <= MAX_CHARACTERS else value[: MAX_CHARACTERS - len(CUT)] + CUT)


def _list(value: Any) -> str:
    if not all(type(word) is str for word in value):
        raise ValueError("is no list of texts")
    return _text(json.dumps(value, ensure_ascii=False))


def _figures(value: Any) -> str:
    if not all(type(name) is str and isinstance(figure, float | int | str) for name, figure in value.items()):
        raise ValueError("are no figures")
    return _text(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _integer(value: Any) -> int:
    whole = int(value)
    if whole != value or not -(1 << 63) <= whole < 1 << 63:
        raise ValueError("is no whole number of 64 bits")
    return whole


def _number(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError("is no finite number")
    return float(value)


_TO: dict[str, Callable[[Any], Any]] = {
    schema.KEY: _key,
    schema.TEXT: _text,
    schema.PROSE: _prose,
    schema.LIST: _list,
    schema.FIGURES: _figures,
    schema.INTEGER: _integer,
    schema.NUMBER: _number,
    schema.FLAG: bool,
}  # fmt: skip
_FROM: dict[str, Callable[[Any], Any]] = {
    schema.KEY: restore,
    schema.TEXT: restore,
    schema.PROSE: restore,
    schema.LIST: lambda text: tuple(json.loads(restore(text))),
    schema.FIGURES: lambda text: dict(json.loads(restore(text))),
}
_TYPES: dict[str, type] = {schema.INTEGER: int, schema.NUMBER: float, schema.FLAG: bool}


class Shape(Generic[V]):
    """How one kind of value fits its table: its fields are the table's columns, but for those that the database gives."""

    def __init__(self, make: Callable[[Iterable[Any]], V], names: Iterable[str], table: sa.Table) -> None:
        self.make, self.table, self.names = make, table, tuple(names)
        self.columns = [table.c[name] for name in self.names]
        self._to = [(name, _TO[table.c[name].info["kind"]], bool(table.c[name].nullable)) for name in self.names]
        self._from = [(i, _FROM[c.info["kind"]]) for i, c in enumerate(self.columns) if c.info["kind"] in _FROM]
        self._types = [(_TYPES.get(column.info["kind"], str), bool(column.nullable)) for column in self.columns]
        self._sound: set[tuple[type, ...]] = set()

    def row(self, value: Any) -> dict[str, Any]:
        """A value as the parameters of an insert. Raises LedgerError for what cannot be kept, with the name of the field."""
        row = {}
        for (name, convert, optional), field in zip(self._to, value, strict=True):
            try:
                row[name] = None if field is None and optional else convert(field)
            except (ValueError, TypeError, OverflowError) as error:
                shown = repr(field)[:60]
                raise LedgerError(f"the ledger cannot keep {name} {shown} in {self.table.name}: it {error}") from None
        return row

    def value(self, row: Iterable[Any]) -> V:
        """A row of `columns` as a value. Raises ValueError or TypeError for one that was not written by us."""
        fields = list(row)
        types = tuple(map(type, fields))
        if types not in self._sound:  # SQLite stores anything in any column, and gives what it finds in a damaged file
            self._check(types)
            self._sound.add(types)
        for position, convert in self._from:
            fields[position] = convert(fields[position])
        return self.make(fields)

    def _check(self, types: tuple[type, ...]) -> None:
        for name, found, (wanted, optional) in zip(self.names, types, self._types, strict=True):
            if found is not wanted and not (optional and found is type(None)):
                raise ValueError(f"{name} is {found.__name__} and should be {wanted.__name__}")
