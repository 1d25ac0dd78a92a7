"""Three pieces of the standard library without what they import, for the way of a submission.

`typing`, `json` and `shlex` all import `re`, `collections` compiles a function for each named tuple: together they cost a
submission 10 ms of start, more than all else that csbatch does. What stands here behaves the same, as far as we use it.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
if TYPE_CHECKING or sys.version_info >= (3, 14):  # from 3.14 on annotations are not among a class's names
    from typing import Any
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter

    class _Record(tuple):
        """What all named tuples share. Fields come by position or by name, as the class lists them."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}  # noqa: RUF012

        def __new__(cls, *values, **named):
            if named or len(values) != len(cls._fields):
                values = cls._complete(values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _complete(cls, values, named):
            rest = cls._fields[len(values) :]
            known = {**cls._field_defaults, **named}
            wrong = set(named).difference(rest)
            missing = [field for field in rest if field not in known]
            if wrong or missing or len(values) > len(cls._fields):
                raise TypeError(f"{cls.__name__}: fields missing {missing}, or given twice or unknown {sorted(wrong)}")
            return (*values, *(known[field] for field in rest))

        def _replace(self, **named):
            return type(self)(**{**self._asdict(), **named})

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._asdict().items())})"

        def __getnewargs__(self):
            return tuple(self)

    class _MakesNamedTuple(type):
        def __new__(mcs, name, bases, names):
            if not bases:
                return super().__new__(mcs, name, bases, names)
            fields = tuple(names.get("__annotations__", ()))
            names["_field_defaults"] = {field: names[field] for field in fields if field in names}
            names |= {field: _tuplegetter(at, "") for at, field in enumerate(fields)}
            return type(name, (_Record,), {**names, "_fields": fields, "__slots__": ()})

    class NamedTuple(metaclass=_MakesNamedTuple):
        """typing.NamedTuple."""


class _Decoding:
    """What the parser in C asks of the JSONDecoder that it serves."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> None:
        raise ValueError(f"{name} is no number")


def json_loads(text: str) -> "Any":
    """The value of a JSON text; NaN and infinities are refused. Raises ValueError, or RecursionError for a deep nest."""
    try:
        from _json import make_scanner

        stripped = text.strip(" \t\n\r")
        value, end = make_scanner(_Decoding)(stripped, 0)  # type: ignore[arg-type]  # typeshed names no protocol
        if end == len(stripped):
            return value
    except (ImportError, StopIteration, SystemError):  # the last: it looks for json's error where json is not loaded
        pass
    import json  # says what is wrong with the text, and where

    return json.loads(text, parse_constant=_Decoding.parse_constant)


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")


def shell_words(argv: "Iterable[str]") -> str:
    """A command as a shell takes it: shlex.join."""
    return " ".join(w if w and _PLAIN.issuperset(w) else "'" + w.replace("'", "'\"'\"'") + "'" for w in argv)
