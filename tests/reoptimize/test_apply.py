"""Moves in time and between partitions: the commands, what is left alone, and comments that come back byte for byte."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from slurm_carbon import marks
from slurm_carbon.queued import QueuedJob
from slurm_carbon.reoptimize import apply
from slurm_carbon.reoptimize.move import Move
from slurm_carbon.slurm.moves import PER_CALL, Site
from tests.reoptimize.crash_bench import HOUR_S, Books
from tests.reoptimize.crash_run import move_of

NOW = 1_800_000_000
MARK = marks.Mark(NOW + 7200, NOW + 86400, "alpha/batch", 5, 9, 1, "00000000000000aa", ("alpha/batch", "alpha/short"))
SITES = {"alpha": Site("alpha", "/etc/alpha.conf"), "beta": Site("beta")}


def job(number: int = 7, text: str = "mine", **changes: object) -> QueuedJob:
    """A job that waits for its begin, marked."""
    comment = marks.append(text, MARK)
    assert comment is not None
    waits = QueuedJob("alpha", number, "u1", 1001, "PENDING", "batch", NOW - 60, "BeginTime",
                      eligible_epoch_s=NOW + 7200, comment=comment)  # fmt: skip
    return waits._replace(**changes)  # type: ignore[arg-type]


def move(of: QueuedJob, to: str = "alpha/batch", later_s: int = 3600, tasks: str = "") -> Move:
    """It is to start an hour later."""
    return move_of(of, to, later_s, NOW, tasks)


def argvs(*moves: Move) -> list[list[str]]:
    """The commands for these moves."""
    return [order.command.argv for order in apply.orders(moves, range(len(moves)), SITES, NOW)]


# what is built


def test_a_job_gets_its_start_place_and_mark_in_one_call() -> None:
    """The user's text stays, the mark says the new plan, and all of it is one argument."""
    (argv,) = argvs(move(job(), "alpha/short"))
    assert argv[:5] == ["scontrol", "update", "JobId=7", f"StartTime=uts{NOW + 10800}", "Partition=short"]
    text, mark = marks.read(argv[5].removeprefix("Comment="))
    assert text == "mine"
    assert mark == MARK._replace(begin_epoch_s=NOW + 10800, location="alpha/short")


def test_many_jobs_share_calls() -> None:
    """What is beyond those whose comments are written goes into calls of 200, by start and partition; each job once."""
    moves = [move(job(number + 1), ("alpha/batch", "alpha/short")[number % 2]) for number in range(1300)]
    made = argvs(*moves)
    bulk = [argv for argv in made if not any(word.startswith("Comment=") for word in argv)]
    assert len(made) - len(bulk) == apply.REMARKED
    assert len(bulk) == 2 * -(-500 // PER_CALL)
    numbers = Counter(n for argv in made for n in argv[2].removeprefix("JobId=").split(","))
    assert numbers == Counter(str(number + 1) for number in range(1300))


@pytest.mark.parametrize("later_s", [-7200, -9000, -7150])
def test_a_start_that_is_near_or_past_is_now(later_s: int) -> None:
    """slurmctld does not take a start in the past."""
    assert argvs(move(job(), later_s=later_s))[0][3] == "StartTime=now"


def test_tasks_of_an_array_are_named() -> None:
    """Only the tasks of the record, or of the move, are changed."""
    array = job(40, array_id=40, array_tasks="3-9")
    assert argvs(move(array))[0][2] == "JobId=40_[3-9]"
    assert argvs(move(array, tasks="3,5-6"))[0][2] == "JobId=40_[3,5-6]"


def test_a_federation_moves_its_own_jobs() -> None:
    """The number stays; place and start go in one call."""
    siblings = job(67108865, siblings=("alpha", "beta"))
    (argv,) = argvs(move(siblings, "beta/gpu"))
    assert argv == ["scontrol", "update", "JobId=67108865", "Clusters=beta", f"StartTime=uts{NOW + 10800}", "Partition=gpu"]


@settings(deadline=None)
@given(st.text(max_size=1000), st.integers(0, 60))
def test_a_comment_is_given_back_as_it_was_or_not_touched(text: str, places: int) -> None:
    """Whatever the user wrote: his text is the same afterwards, and the mark has lost nothing, or no comment is written."""
    mark = MARK._replace(locations=tuple(f"alpha/p{n}" for n in range(places)))
    comment = marks.append(text, mark)
    if comment is None or marks.read(comment) != (text, mark):
        return
    anew = apply.comment_of(move(job(comment=comment)), NOW)
    if anew is not None:
        assert len(anew.encode()) <= marks.COMMENT_LIMIT
        assert marks.read(anew) == (text, mark._replace(begin_epoch_s=NOW + 10800))


# what is left alone


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"state": "RUNNING"}, "it has started"),
        ({"state": "CANCELLED"}, "it has started"),
        ({"priority": 0}, "it is held"),
        ({"reason": "JobHeldUser"}, "it is held"),
        ({"eligible_epoch_s": NOW + 7201}, "it has changed"),
        ({"partition": "short"}, "it has changed"),
        ({"comment": "mine | cs1 off"}, "it has changed"),
        ({"dependency": "afterok:9"}, "it has changed"),
        ({"submit_epoch_s": NOW}, "it is gone"),
        ({"uid": 1002}, "it is gone"),
    ],
)
def test_what_has_changed_is_left_alone(changes: dict[str, object], why: str) -> None:
    """Between the reading and the moving lies the solver's time: what is not as it was is not touched."""
    fresh = job()._replace(**changes)  # type: ignore[arg-type]
    assert apply.why_not_now(move(job()), fresh, NOW, 600).startswith(why)
    assert bool(apply.why_not_now(move(job()), fresh, NOW, 600)) == bool(why)


def test_what_is_about_to_start_is_left_alone() -> None:
    """A job whose begin is seconds away may start while it is moved."""
    soon = job(eligible_epoch_s=NOW + 30)
    assert apply.why_not_now(move(soon), soon, NOW, 600) == apply.LATE


def test_a_dry_run_says_the_commands() -> None:
    """In a form that a shell takes, whatever the comment has in it."""
    (line,) = apply.as_text([move(job(text="it's $(rm -rf /) `x`"))], SITES, NOW)
    assert line.startswith("SLURM_CONF=/etc/alpha.conf scontrol update JobId=7 ")
    assert "$(rm" not in line.replace("'", "\0").split("\0")[0]


# on real clusters

HOSTILE = (
    "plain", "a=b c=d", "+=x", "-=x", '"quoted"', "it's", "back\\slash", "tab\there", " leads", "trails ", '"leads',
    "StartTime=now", "JobId=1", "Comment=other", "ünïcödé", "a | b", " | cs1 begin=1", "cs1 off", "%n %s {} $HOME $(id) `id`",
    "(none)", "new\nline", "JobId=1 Comment=x\nJobId=2", "bell\x07\x7f", "not utf8 \udcff\udcfe", "x" * 700,
)  # fmt: skip


@pytest.mark.slurm
def test_hostile_comments_on_a_real_cluster(moving: Books) -> None:
    """Every job is moved, and nobody's text is another one afterwards; nothing happens to other jobs."""
    moving.add({text: ("user1", "user2")[place % 2] for place, text in enumerate(HOSTILE)})
    moving.add({"untouched": "user1"})
    before = moving.look("alpha")
    done = moving.tick(moving.ledger(), *((text, "alpha/batch", HOUR_S) for text in HOSTILE))
    assert done.code == 0, done
    after = moving.look("alpha")
    for text in HOSTILE:
        number = moving.jobs[text][1]
        was, now = before[number], after[number]
        assert now.eligible_epoch_s == (was.eligible_epoch_s or 0) + HOUR_S, (text, done)
        mark = marks.read(was.comment)[1]
        assert mark is not None
        begin = now.eligible_epoch_s if text.isprintable() else mark.begin_epoch_s
        assert marks.read(now.comment) == (text, mark._replace(begin_epoch_s=begin)), text
    number = moving.jobs["untouched"][1]
    assert after[number] == before[number]
    moving.close()


@pytest.mark.slurm
def test_an_array_and_some_of_its_tasks(moving: Books) -> None:
    """A whole array is moved in one piece; of another one two tasks, and the others stay as they are."""
    lab = moving.lab
    begin = moving.now() + 6 * HOUR_S
    mark = MARK._replace(begin_epoch_s=begin, latest_epoch_s=begin + 24 * HOUR_S, id=moving.record["user1"])
    numbers = [
        int(lab.run("sbatch", "--parsable", "--array=1-4", "-t", "5", "-o", "/dev/null", f"--begin=uts{begin}",
                    f"--comment={marks.write(mark)}", "--wrap", "true").out)
        for _ in range(2)
    ]  # fmt: skip
    moving.jobs |= {"whole": ("alpha", numbers[0]), "parts": ("alpha", numbers[1])}
    done = moving.tick(moving.ledger(), ("whole", "alpha/batch", HOUR_S), ("parts", "alpha/batch", HOUR_S, "2-3"))
    assert done.out.count(" done") == 2, done
    starts = Counter(
        (job.array_id, job.eligible_epoch_s, job.array_tasks) for job in moving.look("alpha").values() if job.array_id
    )
    assert starts[numbers[0], begin + HOUR_S, "1-4"] == 1, starts
    moved = sorted(tasks for (array, start, tasks) in starts if array == numbers[1] and start == begin + HOUR_S)
    stayed = sorted(tasks for (array, start, tasks) in starts if array == numbers[1] and start == begin)
    assert (moved, stayed) in ((["2-3"], ["1,4"]), (["2", "3"], ["1,4"])), starts
    lab.cancel_all()
    moving.jobs.clear()
