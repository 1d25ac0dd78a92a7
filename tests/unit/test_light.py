"""What a submission must not cost or carry."""

from __future__ import annotations

import copy
import json
import pickle
import shlex
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_carbon.light import NamedTuple, json_loads, shell_words

HEAVY = (
    *("numpy", "scipy", "cvxpy", "requests", "pyslurm", "matplotlib"),
    *("subprocess", "dataclasses", "tomllib", "argparse", "typing", "json", "re", "enum", "collections"),
)


def test_csbatch_imports_nothing_heavy() -> None:
    """A fresh interpreter that has imported all that a submission uses has none of the heavy packages."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from slurm_carbon import launch, csbatch, decide, marks, submission, wishes, outlook, place, policy\n"
        "from slurm_carbon.slurm import command, options, sbatch, script\n"
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(Path(__file__).parents[2])], capture_output=True, text=True, check=True
    )
    assert not set(HEAVY) & set(done.stdout.split())


class Given(NamedTuple):
    """A pair with a default and a method."""

    first: int
    second: str = "x"

    @property
    def both(self) -> str:
        """Its fields together."""
        return f"{self.first}{self.second}"


class Expected(typing.NamedTuple):
    """The same by the standard library."""

    first: int
    second: str = "x"


def test_our_named_tuple_is_one() -> None:
    """Construction, defaults, equality, hash, replacement, copying, and the mistakes: as with typing.NamedTuple."""
    for cls in (Given, Expected):
        one = cls(1)
        assert one == cls(first=1) == cls(1, "x") == cls(1, second="x") == (1, "x")
        assert hash(one) == hash((1, "x"))
        assert one._replace(second="y") == (1, "y")
        assert one._asdict() == {"first": 1, "second": "x"}
        assert repr(one) == f"{cls.__name__}(first=1, second='x')"
        assert cls._fields == ("first", "second")
        assert copy.copy(one) == copy.deepcopy(one) == one
        assert pickle.loads(pickle.dumps(one)) == one
        assert isinstance(one, tuple)
        with pytest.raises(AttributeError):
            one.first = 2
        with pytest.raises(AttributeError):
            one.third = 2
        for words, names in (((), {}), ((1, "x", 3), {}), ((1,), {"first": 1}), ((1,), {"third": 1})):
            with pytest.raises(TypeError):
                cls(*words, **names)
        with pytest.raises((TypeError, ValueError)):
            one._replace(third=1)
    assert Given(5).both == "5x"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_our_json_reads_what_json_writes(value: object) -> None:
    """Any value, also between blanks."""
    assert json_loads(f" \n{json.dumps(value)}\t") == value


@pytest.mark.parametrize(
    "text", ["", " ", "nul", "[1", "{", "[1]]", "[1] [2]", "NaN", "[Infinity]", "-Infinity", "'a'", "\ufeff1"]
)
def test_our_json_refuses_what_is_none(text: str) -> None:
    """As a ValueError, whatever it is; NaN and infinities are none."""
    with pytest.raises(ValueError):
        json_loads(text)


@pytest.mark.parametrize("text", ["[1, 2", '{"a": 1, "b', '{"a" 1}', '["x', "[tru", '["\\u12"]', "", "[1] 2", "[NaN]"])
def test_our_json_says_what_is_wrong_where_json_was_never_loaded(text: str) -> None:
    """The parser in C relies on json being loaded to raise its error: in csbatch it is not."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from slurm_carbon.light import json_loads\n"
        "try: json_loads(sys.argv[2])\n"
        "except ValueError as error: print('refused:', error)"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(Path(__file__).parents[2]), text]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("refused: "), done.stderr


@given(st.lists(st.text()))
def test_our_quoting_is_that_of_shlex(words: list[str]) -> None:
    """What we show can be pasted: word for word as the standard library would show it."""
    assert shell_words(words) == shlex.join(words)
