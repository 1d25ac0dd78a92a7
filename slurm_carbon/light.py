"""Two pieces of the standard library without what they import, for the way of a submission.

`typing` and `json` both import `re`; with it they cost a submission 8 ms of start, half of what it otherwise takes.
What stands here is the same named tuple and the same parser in C; where they cannot be had so, the originals serve.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING or sys.version_info >= (3, 14):  # from 3.14 on annotations are not in the class's names
    from typing import Any
    from typing import NamedTuple as NamedTuple
else:
    from collections import namedtuple

    _NOT_COPIED = ("__annotations__", "__module__", "__qualname__", "__doc__")

    class _MakesNamedTuple(type):
        def __new__(mcs, name, bases, names):
            if not bases:
                return super().__new__(mcs, name, bases, names)
            fields = list(names.get("__annotations__", ()))
            defaults = [names[field] for field in fields if field in names]
            made = namedtuple(name, fields, defaults=defaults, module=names["__module__"])
            made.__doc__ = names.get("__doc__")
            for key, value in names.items():
                if key not in _NOT_COPIED and key not in fields:
                    setattr(made, key, value)
            return made

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
    """The value of a JSON text; NaN and infinities are refused. Raises ValueError, also for a nest too deep."""
    try:
        from _json import make_scanner
    except ImportError:
        import json

        return json.loads(text, parse_constant=_Decoding.parse_constant)
    stripped = text.strip(" \t\n\r")
    try:
        value, end = make_scanner(_Decoding)(stripped, 0)  # type: ignore[arg-type]  # typeshed names no protocol
    except StopIteration as error:
        raise ValueError(f"no JSON value at character {error.value}") from None
    if end != len(stripped):
        raise ValueError(f"more than one JSON value, at character {end}")
    return value
