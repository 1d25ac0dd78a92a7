"""Tables that people write: which keys there are, how each is read, and what is wrong with it, in words.

A key that is not known is an error which names the nearest one: a misspelt limit must not count as no limit.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from slurm_carbon.errors import ConfigError, UsageError
from slurm_carbon.units import duration_s


class Key(NamedTuple):
    """One key: how its value is read (ValueError says what is allowed), its default as TOML writes it, what it is for."""

    name: str
    read: Callable[[Any], Any]
    default: Any
    text: str


# kinds of values


def string(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError("a text in quotes")
    return value


def boolean(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def duration(value: Any) -> int:
    """Seconds of a duration."""
    try:
        return duration_s(value)
    except (UsageError, AttributeError):
        raise ValueError('a duration such as "6h", "90m" or "1d12h"') from None


def strings(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts in quotes")
    return tuple(value)


def number(low: float, high: float) -> Callable[[Any], float]:
    """A reader of numbers in a range."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(value)

    return read


def one_of(*allowed: str) -> Callable[[Any], str]:
    """A reader of one of several words."""

    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError("one of " + ", ".join(f'"{item}"' for item in allowed))
        return str(value)

    return read


# tables


def tables(raw: Any, where: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The tables in a table, by name. Raises ConfigError if there is anything else in it."""
    if not isinstance(raw, dict) or not all(isinstance(table, dict) for table in raw.values()):
        raise ConfigError(f"{where} must hold tables only")
    return raw.items()


def section(raw: Any, keys: tuple[Key, ...], where: str, inherited: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The values of all keys of a table: as written, else inherited, else the default. Raises ConfigError."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} must be a table")
    check_names(raw, [key.name for key in keys], where)
    values = {}
    for key in keys:
        if key.name not in raw and inherited and key.name in inherited:
            values[key.name] = inherited[key.name]
            continue
        try:
            values[key.name] = key.read(raw.get(key.name, key.default))
        except ValueError as error:
            raise ConfigError(f"{where}: {key.name} = {raw[key.name]!r}: must be {error}") from None
    return values


def check_names(raw: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """Raise ConfigError for a key that is not among the names."""
    known = list(names)
    for name in raw:
        if name not in known:
            raise ConfigError(f"{where}: unknown key {name!r}{nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known."""
    import difflib

    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
