"""The note in a job's comment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_carbon import marks
from slurm_carbon.decide import decide
from slurm_carbon.marks import Mark
from slurm_carbon.model import Job, Wishes
from tests.unit.factory import NOW, OWNER, outlook, partition

MARK = Mark(1795489200, 1795546800, "beta/batch", 412.0, 1033.0, 1.93)
FULL = MARK._replace(id="0123456789abcdef", locations=("alpha/batch", "beta/batch"), move="fedcba9876543210")
JOB = Job(time_limit_s=7200, cpus=16)
names = st.text("abcdefgh-_.0123456789", min_size=1, max_size=20)
numbers = st.floats(0, 1e9)


marks_ = st.builds(
    Mark, st.integers(0, 2**40), st.integers(0, 2**40), st.builds("{}/{}".format, names, names), numbers, numbers, numbers,
    st.just("") | st.binary(min_size=8, max_size=8).map(bytes.hex),
    st.lists(st.builds("{}/{}".format, names, names), max_size=9).map(tuple),
    st.just("") | st.binary(min_size=8, max_size=8).map(bytes.hex),
)  # fmt: skip


@given(st.text(max_size=200), marks_)
def test_what_is_written_is_read(comment: str, mark: Mark) -> None:
    """User's text and mark come apart again, whatever the text is."""
    joined = marks.append(comment, marks.write(mark))
    if joined is None:
        return
    text, back = marks.read(joined)
    assert text == comment
    assert back is not None
    assert (back.begin_epoch_s, back.latest_epoch_s, back.location) == (mark.begin_epoch_s, mark.latest_epoch_s, mark.location)
    assert back.emissions_g == pytest.approx(mark.emissions_g, rel=1e-3)
    assert (back.id, back.locations, back.move) == (mark.id, mark.locations, mark.move)


@given(st.text(max_size=1100) | st.text("é", min_size=300, max_size=512), marks_)
def test_what_does_not_fit_is_left_out_in_order(comment: str, mark: Mark) -> None:
    """First the list of locations, then the id of the record; the user's text and the rest are whole or not there."""
    joined = marks.append(comment, mark)
    shorter = [mark, mark._replace(locations=()), mark._replace(locations=(), id="")]
    fitting = [j for m in shorter if (j := marks.append(comment, marks.write(m))) is not None]
    assert joined == (fitting[0] if fitting else None)
    if joined is not None:
        assert len(joined.encode()) <= marks.COMMENT_LIMIT
        assert marks.read(joined)[0] == comment


@given(st.text(max_size=60), st.text(max_size=60))
def test_anything_can_stand_in_a_comment(before: str, after: str) -> None:
    """It is read as a sensible mark, or as somebody's text: never as an error."""
    for comment in (before, f"{before} | cs1 {after}", f"{before} | {marks.write(FULL)} {after}"):
        text, mark = marks.read(comment)
        if mark is None:
            assert text == comment
        else:
            assert all(marks.is_id(id_) or not id_ for id_ in (mark.id, mark.move))


@pytest.mark.parametrize(
    "comment",
    ["", "hello", "cs1", "cs1 begin=x latest=1 at=a g=1 base=1 kwh=1", "cs2 begin=1 latest=1 at=a g=1 base=1 kwh=1",
     "cs1 begin=-1 latest=1 at=a g=1 base=1 kwh=1", "cs1 begin=1 latest=1 at=a g=nan base=1 kwh=1",
     "cs1 begin=1 latest=1 at=a g=inf base=1 kwh=1", "cs1 begin=1 latest=1", "cs1 begin=1 latest=1 at=a g=1 base=1 kwh=1",
     *(f"cs1 begin=1 latest=1 at=a/b g=1 base=1 kwh=1 {word}" for word in (
         "id=../../etc/passwd", "id=0123456789ABCDEF", "id=0123", "mv=x", "in=a", "in=a/b,", "in=a/b/c", "in=", "in=a/b,,a/c",
         "at=/x", "at=x/", "in=a/b\n", "begin=١", "begin=1_0", "begin=99999999999999", "in=" + "a/b," * 400 + "a/b"))],
)  # fmt: skip
def test_what_is_no_mark_is_the_users(comment: str) -> None:
    """Broken, foreign and absurd marks are somebody's text."""
    assert marks.read(comment) == (comment, None)


def test_a_long_comment_is_not_cut() -> None:
    """Where both do not fit, the user's own text stays whole and the mark is left out."""
    assert marks.append("x" * 1000, marks.write(MARK)) is None
    assert len(marks.append("é" * 400, marks.write(MARK)).encode()) <= marks.COMMENT_LIMIT


def test_a_word_that_is_not_known_does_no_harm() -> None:
    """A later version may write more."""
    assert marks.read(marks.write(FULL) + " new=1") == ("", FULL)


@pytest.mark.parametrize(
    ("comment", "is_off"),
    [
        ("cs1 off", True),
        ("mine | cs1 off", True),
        ("a | cs1 off | b", False),
        ("cs1 off ", False),
        ("xcs1 off", False),
        ("", False),
    ],
)
def test_the_word_to_leave_it_alone(comment: str, is_off: bool) -> None:
    """It stands where a mark would, and is none."""
    assert marks.is_off(comment) == is_off
    assert marks.read(comment)[1] is None


def test_a_mark_says_where_the_job_may_run() -> None:
    """In the order of the outlook, also home where it was not named; not where there is only one place."""
    parts = [partition("beta"), partition("alpha"), partition("alpha", "short"), partition("beta", "x", up=False)]
    world = outlook(partitions=parts)
    mark = marks.of_decision(decide(JOB, OWNER, Wishes(), world, "alpha", NOW), world, "0123456789abcdef")
    assert mark is not None
    assert (mark.location, mark.id) == ("beta/batch", "0123456789abcdef")
    assert mark.locations == ("beta/batch", "alpha/batch", "alpha/short")
    mark = marks.of_decision(decide(JOB, OWNER, Wishes(locations=("beta",)), world, "alpha", NOW), world)
    assert mark is not None
    assert mark.locations == ("beta/batch", "alpha/batch")
    alone = outlook(dirty=[400.0] * 5 + [10.0] * 67, partitions=[partition("alpha")])
    mark = marks.of_decision(decide(JOB, OWNER, Wishes(), alone, "alpha", NOW), alone)
    assert mark is not None
    assert mark.begin_epoch_s > NOW
    assert mark.locations == ()


def test_what_stays_is_marked_where_it_may_be_planned_again() -> None:
    """A job that is best off at once and at home may have to wait; one that is left alone gets no mark."""
    world = outlook(dirty=[100.0])
    decision = decide(JOB, OWNER, Wishes(), world, "alpha", NOW)
    assert decision.chosen is None
    assert marks.of_decision(decision, world) is None
    world = world._replace(reoptimize={"mode": "observe", "records": ""})
    mark = marks.of_decision(decision, world)
    assert mark is not None
    assert (mark.begin_epoch_s, mark.location) == (NOW, "alpha/batch")
    assert mark.latest_epoch_s > NOW
    assert mark.emissions_g == mark.baseline_g > 0
    fixed = decide(JOB._replace(fixed="--begin was given"), OWNER, Wishes(), world, "alpha", NOW)
    assert marks.of_decision(fixed, world) is None
