"""The note in a job's comment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_carbon import marks
from slurm_carbon.marks import Mark

MARK = Mark(1795489200, 1795546800, "beta/batch", 412.0, 1033.0, 1.93)
names = st.text("abcdefgh-_.0123456789", min_size=1, max_size=20)
numbers = st.floats(0, 1e9)


@given(st.text(max_size=200), names, names, numbers, numbers, numbers, st.integers(0, 2**40))
def test_what_is_written_is_read(comment: str, cluster: str, partition: str, g: float, base: float, e: float, t: int) -> None:
    """User's text and mark come apart again, whatever the text is."""
    mark = Mark(t, t + 5, f"{cluster}/{partition}", g, base, e)
    joined = marks.append(comment, marks.write(mark))
    if joined is None:
        return
    text, back = marks.read(joined)
    assert text == comment
    assert (back.begin_epoch_s, back.latest_epoch_s, back.location) == (t, t + 5, mark.location)
    assert back.emissions_g == pytest.approx(g, rel=1e-3)


@pytest.mark.parametrize(
    "comment",
    ["", "hello", "cs1", "cs1 begin=x latest=1 at=a g=1 base=1 kwh=1", "cs2 begin=1 latest=1 at=a g=1 base=1 kwh=1",
     "cs1 begin=-1 latest=1 at=a g=1 base=1 kwh=1", "cs1 begin=1 latest=1 at=a g=nan base=1 kwh=1",
     "cs1 begin=1 latest=1 at=a g=inf base=1 kwh=1", "cs1 begin=1 latest=1"],
)  # fmt: skip
def test_what_is_no_mark_is_the_users(comment: str) -> None:
    """Broken, foreign and absurd marks are somebody's text."""
    assert marks.read(comment) == (comment, None)


def test_a_long_comment_is_not_cut() -> None:
    """Where both do not fit, the user's own text stays whole and the mark is left out."""
    assert marks.append("x" * 1000, marks.write(MARK)) is None
    assert len(marks.append("é" * 400, marks.write(MARK)).encode()) <= marks.COMMENT_LIMIT
