"""What a run keeps of jobs that have left the queue, what keeps it from beginning, and what it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_carbon.errors import Error
from slurm_carbon.ledger.values import MOVED, Decided, Entry
from slurm_carbon.queued import Queue, QueuedJob
from slurm_carbon.reoptimize import guard, remember, view
from slurm_carbon.reoptimize.look import Story
from slurm_carbon.slurm.accounting import Outcome

NOW = 1_800_000_000
ENTRY = Entry("alpha", 7, NOW - 9000, "ann", "alpha/batch", "alpha/batch", NOW - 600, NOW + 3600, energy_kwh=1.0)


def job(number: int, state: str, start: int | None = None, array: int = 0) -> QueuedJob:
    """A job of the queue."""
    return QueuedJob("alpha", number, "ann", 1, state, "batch", NOW - 9000, start_epoch_s=start, array_id=array)


def queue(*jobs: QueuedJob) -> Queue:
    """The queue of the only cluster that answers."""
    return Queue("alpha", "24.11", NOW, jobs, ())


def outcome(state: str, start: int | None, end: int | None, energy_j: float | None = None) -> Outcome:
    """What the accounting says of job 7."""
    return Outcome("alpha", 7, state, NOW - 9000, start, end, 0, energy_j, "batch", 1, ())


def test_a_start_is_seen_and_a_requeue_takes_it_back() -> None:
    """The guess at the start of a waiting job is none; an array has started with its first task."""
    assert remember.in_queues([ENTRY], [queue(job(7, "RUNNING", NOW - 60))]).changed[0].started_epoch_s == NOW - 60
    assert remember.in_queues([ENTRY], [queue(job(7, "PENDING", NOW + 60))]).changed == ()
    started = ENTRY._replace(started_epoch_s=NOW - 60)
    assert remember.in_queues([started], [queue(job(7, "PENDING"))]).changed[0].started_epoch_s is None
    tasks = queue(job(7, "PENDING", array=7), job(9, "RUNNING", NOW - 50, 7), job(8, "RUNNING", NOW - 70, 7))
    assert remember.in_queues([ENTRY], [tasks]).changed[0].started_epoch_s == NOW - 70


def test_who_starts_after_his_latest_start_was_late() -> None:
    """Also one that no run has found late before, because it was due, and about to start, all the time."""
    due = ENTRY._replace(latest_epoch_s=NOW - 500)
    [found] = remember.in_queues([due], [queue(job(7, "RUNNING", NOW - 60))]).changed
    assert found.late
    [found] = remember.in_queues([due], [queue(job(7, "RUNNING", NOW - 480))]).changed
    assert not found.late
    [found] = remember.ended([due], {"alpha": {7: outcome("COMPLETED", NOW - 100, NOW - 20)}}, {"alpha": [7]}, NOW)
    assert found.late


def test_only_what_has_left_an_answering_cluster_is_asked_for() -> None:
    """A cluster that is silent may have its jobs still."""
    elsewhere = ENTRY._replace(cluster="beta")
    assert remember.in_queues([ENTRY, elsewhere], [queue()]).to_ask == {"alpha": (7,)}
    assert remember.in_queues([ENTRY], [queue(job(7, "PENDING"))]).to_ask == {}


def test_an_end_is_kept_with_what_was_measured() -> None:
    """State, times and energy of the accounting; J become kWh."""
    [kept] = remember.ended([ENTRY], {"alpha": {7: outcome("COMPLETED", NOW - 500, NOW - 20, 7.2e6)}}, {"alpha": [7]}, NOW)
    assert (kept.state, kept.started_epoch_s, kept.ended_epoch_s, kept.used_kwh) == ("COMPLETED", NOW - 500, NOW - 20, 2.0)


def test_what_goes_on_or_is_unknown_stays_open() -> None:
    """A job that still runs, an accounting that is silent, or does not know it yet."""
    running = {"alpha": {7: outcome("RUNNING", NOW - 500, None)}}
    for known in (running, {"alpha": {}}, {}):
        assert remember.ended([ENTRY], known, {"alpha": [7]}, NOW) == ()
    assert remember.ended([ENTRY], {"alpha": {7: outcome("FAILED", NOW - 5, NOW)}}, {}, NOW) == ()


def test_what_nobody_has_known_for_a_month_is_given_up() -> None:
    """Else the accounting would be asked about it for ever."""
    old = ENTRY._replace(begin_epoch_s=NOW - remember.LOST_S - 1)
    [kept] = remember.ended([old], {"alpha": {}}, {"alpha": [7]}, NOW)
    assert (kept.state, kept.ended_epoch_s) == (remember.LOST, NOW)


def test_a_copy_that_the_federation_revoked_has_moved() -> None:
    """The job runs on another cluster under the same number."""
    [kept] = remember.ended([ENTRY], {"alpha": {7: outcome("REVOKED", None, NOW - 9)}}, {"alpha": [7]}, NOW)
    assert kept.state == MOVED


def test_the_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    """A second run is refused at once, while the first one lives, and not after it was killed."""
    lock = tmp_path / "lock"
    code = (
        "import sys, time\nfrom slurm_carbon.reoptimize import guard\n"
        "with guard.alone(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(guard.BusyError, match="another run holds"), guard.alone(str(lock)):
            pass
        first.kill()
        first.wait()
    with guard.alone(str(lock)):
        assert lock.stat().st_mode & 0o777 == 0o600


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """Whoever may write the folder could point it at anything."""
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(Error, match="cannot open the lock"), guard.alone(str(tmp_path / "lock")):
        pass
    assert not (tmp_path / "other").exists()


def test_a_stop_file_counts_whatever_it_is(tmp_path: Path) -> None:
    """A dangling link, and a folder that cannot be looked into, too: to change nothing is the safe side."""
    outlook = str(tmp_path / "outlook.json")
    assert not guard.is_stopped(outlook)
    (tmp_path / "stop").symlink_to("nowhere")
    assert guard.is_stopped(outlook)
    (tmp_path / "file").touch()
    assert guard.is_stopped(str(tmp_path / "file" / "outlook.json"))


def test_advice_is_the_last_word_only() -> None:
    """What was advised once and then done, or observed only, is not advised any more."""
    decided = Decided(1, "alpha", 7, "", NOW, "alpha/batch", NOW, "beta/batch", NOW + 60, 12.0, "why", view.ADVISED)
    assert view.advice([decided]).endswith("on beta/batch, which should save 12 g")
    assert view.advice([decided, decided._replace(outcome="done")]) == ""
    assert view.advice([]) == ""


def test_what_users_wrote_cannot_move_the_cursor() -> None:
    """Names, reasons and the rest are printed without control characters."""
    evil = "x\x1b[2J\nroot\r"
    entry = ENTRY._replace(user=evil, forecast=evil, follows=evil, state=evil, ended_epoch_s=NOW)
    decided = Decided(1, "alpha", 7, evil, NOW, "a/b", NOW, "a/b", NOW, 0.0, evil, evil)
    rows = [view.Row("alpha", "7", "u", "n", "a/b", NOW, None, 2.0, 1.0, True, 0, False, "why")]
    story = Story("alpha", 7, None, entry, (decided,))
    outlook = type("Outlook", (), {"generated_epoch_s": NOW})()
    for line in [*view.explained(story, outlook, NOW), *view.table(rows, NOW)]:
        assert line.isprintable(), line


def test_a_ledger_of_no_home_is_refused(tmp_path: Path) -> None:
    """A lock in a folder that cannot be made is an error in one line."""
    from slurm_carbon import cli_reoptimize

    (tmp_path / "file").touch()
    with pytest.raises(Error, match="cannot make"):
        cli_reoptimize._lock(f"sqlite:///{tmp_path}/file/ledger/l.sqlite", os.devnull)
