"""Hostile users: nothing that a user can write has any effect outside his own jobs when root plans everybody's jobs again."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurm_carbon import marks, outlook
from slurm_carbon.ledger.store import open_ledger
from slurm_carbon.ledger.values import CANCELLED, OPEN, RELEASED, UNDOING, UNDONE, Transfer
from slurm_carbon.queued import QueuedJob
from tests.conftest import Lab, job_fields, start_lab
from tests.reoptimize.crash_bench import Books
from tests.reoptimize.hostile import FLOOD, HOUR_S, RACE, RECORDS, TASKS, UIDS, Case, Scene
from tests.reoptimize.hostile_cases import CASES

pytestmark = pytest.mark.slurm
RAN = ("COMPLETED", "FAILED", "RUNNING", "TIMEOUT")
ALIVE = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
INNOCENT = ("plain", "off", "held", "admin", "array", "running", "then", "moved")
MOVERS = ("another", "one more")
LATE_MOVER = "late"
# what Slurm itself changes of a job that nobody touches
VOLATILE = ("Priority", "StartTime", "EndTime", "LastSchedEval", "AccrueTime", "RunTime", "Scheduler", "Reason", "NumNodes",
            "SchedNodeList", "NodeList", "ArrayJobId")  # fmt: skip
TICK_S = 90  # that a run may take at most
FOLDERS = ("/etc", "/etc/cron.d", "/etc/profile.d", "/etc/slurm", "/etc/ld.so.conf.d", "/etc/sudoers.d", "/etc/systemd/system")


@dataclass
class Aftermath:
    """What there is when it is over."""

    scene: Scene
    queues: dict[str, dict[int, QueuedJob]]  # after the last run, before anything else was started
    innocent: dict[str, dict[str, str]]
    transfers: dict[str, list[Transfer]]  # by the key of the case
    files: tuple[dict[str, tuple[object, ...]], dict[str, tuple[object, ...]]]  # guarded ones, before and after
    accounted: dict[tuple[str, int], str]  # state of each job of user1 that has run or ended, by cluster and number
    evil: list[str]  # what user1's own code has told of who runs it

    def queued(self, key: str) -> list[QueuedJob]:
        """The records of a case that wait or run, its copy included."""
        number = int(self.scene.jobs[key])
        mine = [job for job in self.queues["alpha"].values() if number in (job.id, job.array_id)]
        targets = {t.target_id for t in self.transfers[key] if t.target_id}
        mine += [job for job in self.queues["beta"].values() if {job.id, job.array_id} & targets]
        return [job for job in mine if job.state in ALIVE]

    def lives(self, key: str) -> set[tuple[str, int]]:
        """Cluster and number of each job of a case that waits, runs, or has run: to be one."""
        found = {(job.cluster, job.array_id or job.id) for job in self.queued(key)}
        numbers = {("alpha", int(self.scene.jobs[key]))} | {("beta", t.target_id) for t in self.transfers[key]}
        return found | {one for one in numbers if self.accounted.get(one) in RAN}


def guarded(scene: Scene) -> dict[str, tuple[object, ...]]:
    """Files that are none of user1's business: their state."""
    roots = [scene.secret.parent, scene.lab.home("user2"), scene.lab.config]
    paths = [path for root in roots for path in (root, *root.rglob("*"))]
    paths += [path for folder in FOLDERS if Path(folder).is_dir() for path in Path(folder).iterdir()]
    found = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            state = path.lstat()
            whole = path.read_bytes() if stat.S_ISREG(state.st_mode) and state.st_size < 1 << 16 else b""
            found[str(path)] = (state.st_ino, state.st_mode, state.st_uid, state.st_size, whole)
    return found


def innocent_now(scene: Scene) -> dict[str, dict[str, str]]:
    """user2's jobs, without what Slurm changes by itself."""
    found = {}
    for name, (cluster, number) in scene.innocent.items():
        done = scene.lab.run("scontrol", "--local", "show", "job", number, user=None, cluster=cluster)
        assert done.code == 0, (name, done)
        fields = job_fields(done.out)
        held = fields["Priority"] == "0"
        found[name] = {key: value for key, value in fields.items() if key not in VOLATILE} | {"held": str(held)}
        if held:
            found[name]["by"] = fields["Reason"]
    return found


def beginning(lab: Lab) -> Scene:
    """The site, and user2's jobs, of which one is on its way to the other cluster."""
    scene = Scene(lab)
    scene.configure()
    scene.lay_out()
    moved = scene.submit_mover("moved")
    scene.forecast(9, 3)
    flood = threading.Thread(target=scene.flood)
    flood.start()
    scene.tick()
    flood.join()
    with open_ledger(str(scene.ledger), read_only=True) as ledger:
        [move] = ledger.transfers_of("alpha", int(moved))
    assert move.state == CANCELLED, (move, scene.ticks)
    scene.innocent["moved"] = "beta", str(move.target_id)
    scene.words |= {
        "others_id": move.mark_id, "move": move.id, "others_secret": str(scene.others_secret), "secret": str(scene.secret),
        "others_record": str(lab.home("user2") / RECORDS / move.mark_id[:2] / move.mark_id), "evil": str(scene.evil),
        "private": str(scene.others_secret.parent), "home": str(lab.home()), "witness": str(scene.witness),
    }  # fmt: skip
    scene.words["id"] = move.mark_id
    scene.submit_innocent()
    scene.words |= {name: number for name, (_, number) in scene.innocent.items()}
    scene.forecast(5, 30)
    for name in ("mover", *MOVERS):
        scene.words[name] = scene.submit_mover(name)
    scene.forecast(9, 3)
    # a clock's memory is gone with the process that made it
    scene.environment = tuple(
        os.fsencode(entry) for entry in lab.run("env", "-0").out.split("\0") if "=" in entry and "FAKETIME_SHARED" not in entry
    )
    return scene


def transfers(scene: Scene) -> dict[str, list[Transfer]]:
    """The moves of each case's job to the other cluster."""
    with open_ledger(str(scene.ledger), read_only=True) as ledger:
        return {key: ledger.transfers_of("alpha", int(number)) for key, number in scene.jobs.items()}


@pytest.fixture(scope="module")
def over(reoptimizer: Path) -> Iterator[Aftermath]:
    """All cases submitted at once, several runs, then all that waits is let run."""
    for lab in start_lab(reoptimizer, "hostile", "--fake-clock"):
        scene = beginning(lab)
        files = guarded(scene)
        scene.submit_hostile({key: case for key, case in CASES.items() if not case.second})
        scene.before = innocent_now(scene)
        try_evil(scene)
        race = start_race(scene)
        try:
            scene.tick()
            lab.jump_to(scene.began_epoch_s + 300)
            scene.forecast(5, 30)
            scene.submit_hostile({key: case for key, case in CASES.items() if case.second})
            scene.words[LATE_MOVER] = scene.submit_mover(LATE_MOVER)
            scene.forecast(9, 3)
            scene.tick("--json")
        finally:
            race.kill()
            race.wait()
        lab.jump_to(scene.began_epoch_s + 1200)
        scene.tick()
        scene.show()
        books = Books(lab)
        queues = {cluster: books.look(cluster) for cluster in lab.clusters}
        evil = (scene.witness / "evil").read_text().splitlines()
        columns = ("-o", "Cluster,JobIDRaw,State", "-S", "now-2days", "-E", "now+2days")
        rows = lab.run("sacct", "-L", "-a", "-X", "-n", "-P", "-u", "user1", *columns, user=None).out.splitlines()
        accounted = {(row[0], int(row[1])): row[2].split(" ")[0] for line in rows if (row := line.split("|"))}
        yield Aftermath(scene, queues, innocent_now(scene), transfers(scene), (files, guarded(scene)), accounted, evil)


def try_evil(scene: Scene) -> None:
    """user1 runs his own code once: what it tells of itself is known to be told."""
    evil = scene.evil
    for words, more in (
        (("/bin/bash", "-c", "true"), {"BASH_ENV": str(evil / "rc")}),
        (("/usr/bin/python3", "-c", "pass"), {"PYTHONPATH": str(evil / "python")}),
        (("squeue", "-h"), {"PATH": f"{evil}/bin:/usr/bin:/bin"}),
    ):
        scene.lab.run(*words, **more)


def start_race(scene: Scene) -> subprocess.Popen[bytes]:
    """user1 at work while root's run goes on."""
    flips = [f"{key}={scene.jobs[key]}" for key in CASES if key.startswith("flip")]
    record_id = marks.read(scene.lab.job("alpha", scene.jobs["flip record"])["Comment"])[1].id
    record = scene.lab.home() / RECORDS / record_id[:2] / record_id
    start = [str(Path(__file__).parents[2] / "scripts/cluster"), "--dir", str(scene.lab.folder), "run", "--cluster", "alpha"]
    return subprocess.Popen(
        [*start, "--as", "user1", "--", "/usr/bin/python3", "-I", "-c", RACE, *flips, str(record), str(scene.secret)],
        env={"PATH": "/usr/bin:/bin"}, cwd=scene.lab.home(), stdin=subprocess.DEVNULL,
    )  # fmt: skip


# what holds for each case


@pytest.mark.parametrize("key", CASES)
def test_a_case_is_one_job_of_his_own(over: Aftermath, key: str) -> None:
    """Neither lost nor doubled, still user1's, not at a place that is closed to him, and elsewhere only if it may be."""
    case: Case = CASES[key]
    assert key in over.scene.jobs, over.scene.refused.get(key)
    queued, moves = over.queued(key), over.transfers[key]
    assert len(over.lives(key)) in case.lives, (queued, moves)
    assert {job.uid for job in queued} <= {UIDS["user1"]}
    assert all(job.partition in ("batch", "short") for job in queued), queued
    is_under_way = any(move.state in OPEN for move in moves)
    assert case.held or is_under_way or not any(job.is_held for job in queued), (queued, moves)
    if case.goes is False:
        assert not any(cluster == "beta" for cluster, _ in over.lives(key)), (queued, moves)
    if case.goes:
        assert not [move for move in moves if move.state in (UNDOING, UNDONE)]
    latest = over.scene.began_epoch_s + 24 * HOUR_S
    assert case.later or all((job.eligible_epoch_s or 0) <= latest for job in queued), queued


def test_moves_did_happen(over: Aftermath) -> None:
    """Many of the jobs of user1 that may move to the other cluster have."""
    came = [key for key in CASES if any(cluster == "beta" for cluster, _ in over.lives(key))]
    assert len(came) >= 20, came


# what holds for everybody else


@pytest.mark.parametrize("name", INNOCENT)
def test_the_jobs_of_others_are_as_they_were(over: Aftermath, name: str) -> None:
    """Nothing of a job of user2's has changed."""
    before, after = over.scene.before[name], over.innocent[name]
    changed = {key: (before.get(key), after.get(key)) for key in {*before, *after} if before.get(key) != after.get(key)}
    assert not changed


@pytest.mark.parametrize(("name", "run"), [*((name, 2) for name in MOVERS), (LATE_MOVER, 3)])
def test_the_moves_of_others_go_on(over: Aftermath, name: str, run: int) -> None:
    """What user1 does keeps no job of user2's from coming to the cleaner cluster in the first run."""
    with open_ledger(str(over.scene.ledger), read_only=True) as ledger:
        moves = ledger.transfers_of("alpha", int(over.scene.words[name]))
        decisions = ledger.decisions_of("alpha", int(over.scene.words[name]))
    assert [move.state for move in moves] == [RELEASED], (moves, decisions)
    assert [each.run for each in decisions] == [run], decisions
    assert over.queues["beta"][moves[0].target_id].uid == UIDS["user2"]


def test_whom_others_wait_for_is_moved_in_time_alone(over: Aftermath) -> None:
    """Jobs that wait for it keep a job on its cluster, whoever owns them: else they would wait for ever. That is all."""
    job = over.queues["alpha"][int(over.scene.words["mover"])]
    mark = marks.read(job.comment)[1]
    with open_ledger(str(over.scene.ledger), read_only=True) as ledger:
        decisions = ledger.decisions_of("alpha", job.id)
        assert not ledger.transfers_of("alpha", job.id)
    assert (job.state, job.is_held, mark is not None and mark.move) == ("PENDING", False, "")
    assert {(each.to_location, each.outcome) for each in decisions} == {("alpha/batch", "done")}


def test_no_job_that_nobody_asked_for(over: Aftermath) -> None:
    """Every living job on beta is the copy of a case, or of a mover; none runs for anybody else."""
    known = {t.target_id for some in over.transfers.values() for t in some}
    with open_ledger(str(over.scene.ledger), read_only=True) as ledger:
        known |= {
            t.target_id for name in (*MOVERS, LATE_MOVER) for t in ledger.transfers_of("alpha", int(over.scene.words[name]))
        }
    known.add(int(over.scene.innocent["moved"][1]))
    unknown = [job for job in over.queues["beta"].values() if job.state in ALIVE and not {job.id, job.array_id} & known]
    assert not unknown
    assert {job.uid for queue in over.queues.values() for job in queue.values()} <= set(UIDS.values())


def test_nothing_ran_as_anybody_else(over: Aftermath) -> None:
    """Scripts, libraries, modules and programs of user1's ran as user1, or not at all."""
    assert {line.split()[0].rpartition("/")[2] for line in over.evil} >= {"bash", "python", "squeue"}  # it does tell
    for line in over.evil:
        assert re.findall(r" (\d+) (\d+)$", line) == [(str(UIDS["user1"]),) * 2], line


def test_no_file_of_others_has_changed(over: Aftermath) -> None:
    """Root's and user2's files are what they were, and there are no others."""
    before, after = over.files
    records = str(over.scene.lab.home("user2") / RECORDS)
    changed = {
        path for path in {*before, *after}
        if before.get(path) != after.get(path) and not (path.startswith(records) or path in FOLDERS)
    }  # fmt: skip
    assert not changed
    folder = stat.S_IMODE(over.scene.ledger.parent.stat().st_mode)
    assert over.scene.ledger.stat().st_uid == 0
    assert not folder & stat.S_IWOTH


def test_no_secret_has_come_out(over: Aftermath) -> None:
    """What only root or user2 may read stands in no other file, no output, no comment and no database."""
    scene = over.scene
    secrets = [scene.secret.read_bytes().strip(), scene.others_secret.read_bytes().strip()]
    shown = [done for done, _ in scene.ticks] + list(scene.shown.values())
    texts = [done.out + done.err for done in shown] + [repr(over.queues)]
    known = {scene.secret, scene.others_secret}
    for root in (scene.lab.folder, scene.lab.site):
        done = subprocess.run(
            ["grep", "-rlaF", "-D", "skip", *(f"-e{secret.decode()}" for secret in secrets), str(root)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert {Path(line) for line in done.stdout.splitlines()} <= known, done.stdout
    assert not [text for text in texts for secret in secrets if secret.decode() in text]


def test_the_ledger_is_whole(over: Aftermath) -> None:
    """All tables, sound, readable, and every entry of a job is its owner's."""
    with sqlite3.connect(f"file:{over.scene.ledger}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        owners = set(database.execute("SELECT DISTINCT user FROM carbon_entries").fetchall())
    assert {"carbon_schema", "carbon_entries", "carbon_transfers", "carbon_runs"} <= tables
    assert owners == {("user1",), ("user2",)}
    with open_ledger(str(over.scene.ledger), read_only=True) as ledger:
        assert len(ledger.last_runs(9)) == len(over.scene.ticks)
        assert all(t.user == "user1" for some in over.transfers.values() for t in some)


def test_the_runs_end_well(over: Aftermath) -> None:
    """In bounded time, with no traceback, and they say what they could not do."""
    for done, seconds in over.scene.ticks:
        assert done.code in (0, 1), done
        assert "Traceback" not in done.err + done.out
        assert seconds < TICK_S
    assert outlook.read(str(over.scene.lab.outlook), over.scene.began_epoch_s + 1200).locations


def test_what_is_shown_moves_no_cursor(over: Aftermath) -> None:
    """Neither runs nor `queue` and `explain` pass on control characters, or begin a line with what a user wrote."""
    shown = [done for done, _ in over.scene.ticks] + list(over.scene.shown.values())
    for done in shown:
        assert done.code in (0, 1), done
        assert "Traceback" not in done.err
        for line in (done.out + done.err).split("\n"):
            assert line.isprintable(), line
            assert not line.startswith(("JobId=", "   Comment=cs1"))


def test_a_flood_of_forged_moves(over: Aftermath) -> None:
    """All of the jobs wait as they did, and each run has looked at some of them only."""
    assert len(over.scene.flooded) == FLOOD
    flood = [over.queues["alpha"][int(number)] for number in over.scene.flooded.values()]
    assert {(job.state, job.is_held) for job in flood} == {("PENDING", False)}


def test_arrays_are_whole(over: Aftermath) -> None:
    """Every task of his arrays is there, once."""
    for key in ("an array", "another array"):
        tasks = sum(_count(job.array_tasks) for job in over.queued(key))
        assert tasks == TASKS, over.queued(key)


def _count(tasks: str) -> int:
    found = 0
    for part in tasks.split(","):
        first, dash, last = part.partition("-")
        found += int(last) - int(first) + 1 if dash else 1
    return found


def test_what_an_administrator_holds_stays_held(over: Aftermath) -> None:
    """A mark on it makes no difference."""
    [job] = over.queued("mv of nobody, by an admin")
    assert job.reason == "JobHeldAdmin"
