"""`slurm-carbon reoptimize` on real clusters: it moves what is worth it, as each mode and each right allows, and no more."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_carbon import marks
from slurm_carbon.ledger.store import open_ledger
from slurm_carbon.ledger.values import MOVED
from tests.conftest import VERSIONS, Done, Lab, start_lab
from tests.hook.site import HOUR, STARTED, epoch, now, write_zones

pytestmark = pytest.mark.slurm
FLAT, DIP = 600, 100
JOB = ("-t", "60", "-n", "2", "-o", "/dev/null")
WRAP = ("--wrap", "sleep 1")


def begin_day(lab: Lab, mode: str = "enforce", **dips_h: int) -> int:
    """No jobs, no ledger, the clock on a full hour and a little, forecasts with a dip each, the mode; now."""
    lab.cancel_all()
    lab.jump_to((now(lab) // HOUR + 1) * HOUR + 60)
    for path in (*(lab.site / "ledger").glob("*"), lab.site / "stop", lab.outlook):  # of its prices, too
        path.unlink(missing_ok=True)
    forecast(lab, **dips_h)
    set_mode(lab, mode)
    return now(lab)


def forecast(lab: Lab, **dips_h: int) -> None:
    """Each cluster is clean for four hours, so many hours from now, the later the less."""
    write_zones(lab, {"alpha": 40, "beta": 40, **dips_h})


def set_mode(lab: Lab, mode: str, **more: str) -> None:
    """What the site's reoptimizer does."""
    text = re.sub(r"\n\[reoptimize\]\n(?:(?!\[).*\n)*", "\n", lab.config.read_text())
    keys = {"mode": f'"{mode}"', "solver_time": '"2s"', **more}
    table = "".join(f"{name} = {value}\n" for name, value in keys.items())
    lab.config.write_text(text.replace("\n[hook]\n", f"\n[reoptimize]\n{table}\n[hook]\n", 1))
    lab.refresh()


def submit(lab: Lab, *words: str, user: str = "user1", cluster: str = "alpha", **environment: str) -> str:
    """Submit by csbatch, to stay on its cluster unless it is said otherwise; the job's number."""
    limits = {"CSBATCH_MAX_DELAY": "24h", "CSBATCH_LOCATIONS": f"{cluster}/batch", **environment}
    done = lab.run(lab.bin / "csbatch", "--parsable", *JOB, *words, *WRAP, user=user, cluster=cluster, **limits)
    assert done.code == 0, done.err
    return done.out.strip().partition(";")[0]


def run(lab: Lab, *words: str, user: str | None = None, verb: str = "reoptimize", **environment: str) -> Done:
    """Run a verb of slurm-carbon; it must end well."""
    done = lab.run(lab.bin / "slurm-carbon", verb, *words, user=user, timeout=120, **environment)
    assert done.code == 0, done.err + done.out
    return done


def decided(done: Done) -> list[dict]:
    """The decisions of a run with --json."""
    return json.loads(done.out)["decided"]


def as_it_is(lab: Lab, job_id: str) -> dict[str, str]:
    """All that a job asks for and is; not what the scheduler notes each time it looks at it."""
    noted = ("LastSchedEval", "Scheduler", "Reason", "StartTime", "EndTime", "AccrueTime")
    return {name: value for name, value in lab.job("alpha", job_id).items() if name not in noted}


def begins(lab: Lab, job_id: str, cluster: str = "alpha") -> int:
    """When a waiting job may start."""
    return epoch(lab, lab.job(cluster, job_id), "EligibleTime")


@pytest.fixture(scope="module", params=VERSIONS)
def site(request: pytest.FixtureRequest, reoptimizer: Path) -> Iterator[Lab]:
    """Two clusters on the fake clock."""
    yield from start_lab(reoptimizer, "tick", "--fake-clock", version=request.param)


@pytest.fixture
def at_home(site: Lab) -> Lab:
    """The clusters of this machine's own Slurm, where a process can become another user and call sbatch."""
    if site.version != "22.05":
        pytest.skip("a user cannot be entered into the chroot of the second Slurm")
    return site


def test_a_job_goes_to_the_hour_that_has_become_the_cleaner_one(site: Lab) -> None:
    """The forecast changes: the job gets the new hour, its mark says so, the ledger knows why, and it starts then."""
    hour = begin_day(site, alpha=9) // HOUR * HOUR
    job = submit(site, "--comment=my own words")
    assert begins(site, job) == hour + 9 * HOUR
    forecast(site, alpha=3)
    [move] = decided(run(site, "--json"))
    assert (move["job_id"], move["to_epoch_s"], move["outcome"]) == (int(job), hour + 3 * HOUR, "done")
    assert begins(site, job) == hour + 3 * HOUR
    text, mark = marks.read(site.job("alpha", job)["Comment"])
    assert text == "my own words"
    assert mark is not None
    assert (mark.begin_epoch_s, mark.location) == (hour + 3 * HOUR, "alpha/batch")
    with open_ledger(str(site.site / "ledger/ledger.sqlite"), read_only=True) as ledger:
        [kept] = ledger.decisions_of("alpha", int(job))
        entry = ledger.entries("alpha", [int(job)])[int(job)]
    assert "saves" in kept.reason
    assert kept.saved_g > 0
    assert (entry.user, entry.moves, entry.may, entry.begin_epoch_s) == ("user1", 1, "mark", hour + 3 * HOUR)

    assert decided(run(site, "--json")) == []
    site.jump_to(hour + 3 * HOUR + 2)
    site.wait_for("alpha", job, *STARTED)
    site.wait_for("alpha", job, "COMPLETED", "FAILED")
    run(site)
    with open_ledger(str(site.site / "ledger/ledger.sqlite"), read_only=True) as ledger:
        entry = ledger.entries("alpha", [int(job)])[int(job)]
    assert entry.state in ("COMPLETED", "FAILED")
    assert entry.started_epoch_s is not None
    assert hour + 3 * HOUR <= entry.started_epoch_s <= hour + 3 * HOUR + 60


def test_a_dry_run_prints_the_commands_and_changes_nothing(site: Lab) -> None:
    """What it prints is what the next run does, word for word."""
    hour = begin_day(site, alpha=9) // HOUR * HOUR
    job = submit(site)
    forecast(site, alpha=3)
    before = as_it_is(site, job)
    out = run(site, "--dry-run").out
    assert f"JobId={job} StartTime=uts{hour + 3 * HOUR} 'Comment=cs1 begin={hour + 3 * HOUR} " in out
    assert as_it_is(site, job) == before
    assert not (site.site / "ledger/ledger.sqlite").exists()
    run(site)
    assert site.job("alpha", job)["Comment"] in out


def test_observe_and_advise_only_say_so(site: Lab) -> None:
    """The job stays as it is; the ledger has what would be done, and under advise its owner sees it, if he may read it."""
    hour = begin_day(site, "observe", alpha=9) // HOUR * HOUR
    job = submit(site)
    forecast(site, alpha=3)
    before = as_it_is(site, job)
    assert [each["outcome"] for each in decided(run(site, "--json"))] == ["observed"]
    assert "better" not in run(site, "--all", verb="queue").out
    set_mode(site, "advise")
    assert [each["outcome"] for each in decided(run(site, "--json"))] == ["advised"]
    assert as_it_is(site, job) == before
    shown = run(site, "--all", "--json", verb="queue").out
    assert next(row["why"] for row in json.loads(shown) if row["number"] == job).startswith("better ")
    assert begins(site, job) == hour + 9 * HOUR


def test_what_the_owner_says_wins(site: Lab) -> None:
    """A start that he has set, a hold, --carbon-off, a dependency: each job stays just as it is, and `explain` says why."""
    begin_day(site, alpha=9)
    changed, held, first = submit(site), submit(site), submit(site)
    off = submit(site, "--carbon-off", "--begin=now+9hours")
    after = site.run("sbatch", "--parsable", f"--dependency=afterany:{first}", "--begin=now+9hours", *JOB, *WRAP).out.strip()
    assert site.run("scontrol", "update", f"jobid={changed}", "starttime=now+10hours").code == 0
    assert site.run("scontrol", "hold", held).code == 0
    forecast(site, alpha=3)
    before = {job: as_it_is(site, job) for job in (changed, held, off, after)}
    assert [each["job_id"] for each in decided(run(site, "--json"))] == [int(first)]
    assert {job: as_it_is(site, job) for job in before} == before
    words = {changed: "its owner has set the start", held: "it is held", off: "carbon-off", after: "it depends on other jobs"}
    for job, why in words.items():
        assert why in run(site, job, "-M", "alpha", verb="explain").out


def test_a_job_about_to_start_is_left_alone(site: Lab) -> None:
    """Within the margin nothing is moved any more, however clean another hour has become."""
    hour = begin_day(site, alpha=5) // HOUR * HOUR
    job = submit(site)
    site.jump_to(hour + 5 * HOUR - 300)
    forecast(site, alpha=9)
    assert decided(run(site, "--json")) == []
    assert begins(site, job) == hour + 5 * HOUR


def test_called_back_to_now(site: Lab) -> None:
    """When the hour it waits for has become no better than now, a job need not wait for it."""
    begin_day(site, alpha=8)
    job = submit(site)
    forecast(site, alpha=0)
    [move] = decided(run(site, "--json"))
    assert move["reason"].startswith("the forecast has changed: to start at once saves")
    site.wait_for("alpha", job, *STARTED)


def test_a_job_goes_to_the_better_partition(site: Lab) -> None:
    """`short` has the better PUE; a job that may go there does, and keeps its latest start."""
    hour = begin_day(site, alpha=9) // HOUR * HOUR
    job = submit(site, CSBATCH_LOCATIONS="alpha")
    assert site.run("scontrol", "update", f"jobid={job}", "partition=batch").code == 0
    latest = marks.read(site.job("alpha", job)["Comment"])[1].latest_epoch_s
    forecast(site, alpha=3)
    assert [move["to_location"] for move in decided(run(site, "--json"))] == ["alpha/short"]
    found = site.job("alpha", job)
    assert (found["Partition"], begins(site, job)) == ("short", hour + 3 * HOUR)
    assert marks.read(found["Comment"])[1].latest_epoch_s == latest


def test_arrays_move_as_one(site: Lab) -> None:
    """All tasks of an array get the new hour; a task that its owner has set apart keeps its own."""
    hour = begin_day(site, alpha=9) // HOUR * HOUR
    array = submit(site, "-a", "1-6%3")
    assert site.run("scontrol", "update", f"jobid={array}_4", "starttime=now+10hours").code == 0
    apart = site.run("squeue", "-h", "-o", "%S", "-j", f"{array}_4").out
    forecast(site, alpha=3)
    run(site)
    starts = site.run("squeue", "-h", "-r", "-o", "%i %S", "-j", array).out.split()
    by_task = dict(zip(starts[::2], starts[1::2], strict=True))
    assert by_task.pop(f"{array}_4") == apart.strip()
    assert {int(site.run("date", "-d", text, "+%s").out) for text in by_task.values()} == {hour + 3 * HOUR}
    assert "ArrayTaskThrottle=3" in site.run("scontrol", "show", "job", array).out


def test_two_runs_do_not_overlap_and_a_stop_file_stops_them(site: Lab) -> None:
    """While one holds the lock, or the file is there, the other changes nothing and says why."""
    hour = begin_day(site, alpha=9) // HOUR * HOUR
    job = submit(site)
    run(site)
    forecast(site, alpha=3)
    lock = site.site / "ledger/reoptimize.lock"
    done = site.run("flock", "-n", lock, site.bin / "slurm-carbon", "reoptimize", user=None)
    assert (done.code, "another run holds" in done.err) == (0, True), done.err
    (site.site / "stop").touch()
    old = json.loads(site.outlook.read_text())["generated"]
    site.jump_to(now(site) + 60)
    assert "only the outlook is published: " in run(site).err
    assert json.loads(site.outlook.read_text())["generated"] > old
    assert begins(site, job) == hour + 9 * HOUR
    (site.site / "stop").unlink()
    text = site.config.read_text()
    site.config.write_text(text.replace('mode = "enforce"', 'mode = "off"'))
    old = json.loads(site.outlook.read_text())["generated"]
    site.jump_to(now(site) + 60)
    done = run(site)
    assert (done.code, 'mode is "off"' in done.err) == (0, True), done.err
    assert json.loads(site.outlook.read_text())["generated"] > old
    assert begins(site, job) == hour + 9 * HOUR
    site.config.write_text(text)
    run(site)
    assert begins(site, job) == hour + 3 * HOUR


def test_without_one_of_the_clusters(site: Lab) -> None:
    """A controller that is down is named, and the jobs of the other cluster are moved all the same."""
    hour = begin_day(site, alpha=9, beta=12) // HOUR * HOUR
    job = submit(site)
    forecast(site, alpha=3, beta=12)
    site.control("stop", "beta")
    try:
        done = site.run(site.bin / "slurm-carbon", "reoptimize", user=None, timeout=120)
        assert done.code == 1
        assert "beta" in done.err
        assert "Traceback" not in done.err
        assert begins(site, job) == hour + 3 * HOUR
    finally:
        site.control("restart", "beta")


def test_without_a_ledger_nothing_is_moved_but_the_outlook_is_published(site: Lab) -> None:
    """Submissions go by the outlook, whatever is wrong with the database."""
    hour = begin_day(site, alpha=9) // HOUR * HOUR
    job = submit(site)
    forecast(site, alpha=3)
    old = json.loads(site.outlook.read_text())["generated"]
    site.jump_to(now(site) + 60)
    done = site.run(site.bin / "slurm-carbon", "reoptimize", "--ledger", "postgresql://nobody@127.0.0.1:1/none", user=None)
    assert done.code == 1
    assert "only the outlook is published" in done.err
    assert json.loads(site.outlook.read_text())["generated"] > old
    assert begins(site, job) == hour + 9 * HOUR


def test_prices_reach_those_who_submit_next(site: Lab) -> None:
    """Where the plan has filled the clean hours, csbatch puts the next job elsewhere; a refresh keeps the prices."""
    hour = begin_day(site, alpha=9) // HOUR * HOUR
    for _ in range(16):  # four nodes for four hours
        submit(site, "-n", "16")
    run(site)
    outlook = json.loads(site.outlook.read_text())
    assert max(outlook["prices_g_per_h"]["alpha/batch"]["cores"]) > 0
    late = submit(site, "-n", "16")
    assert not hour + 9 * HOUR <= begins(site, late) < hour + 13 * HOUR
    site.refresh()
    kept = json.loads(site.outlook.read_text())["prices_g_per_h"]["alpha/batch"]["cores"]
    assert kept == pytest.approx(outlook["prices_g_per_h"]["alpha/batch"]["cores"], rel=1e-6, abs=1e-9)


def test_an_ordinary_user_moves_his_own_jobs_only(at_home: Lab) -> None:
    """--own: by the published outlook, with a ledger in his home, and nobody else's job is touched."""
    hour = begin_day(at_home, alpha=9) // HOUR * HOUR
    mine, other = submit(at_home), submit(at_home, user="user2")
    forecast(at_home, alpha=3)
    before = as_it_is(at_home, other)
    moves = decided(run(at_home, "--own", "--json", user="user1"))
    assert [(move["job_id"], move["outcome"]) for move in moves] == [(int(mine), "done")]
    assert begins(at_home, mine) == hour + 3 * HOUR
    assert as_it_is(at_home, other) == before
    assert not (at_home.site / "ledger/ledger.sqlite").exists()
    rows = json.loads(at_home.run(at_home.bin / "slurm-carbon", "queue", "--json").out)
    assert [row["why"][:10] for row in rows] == ["moved once"]


def test_an_operator_moves_all_jobs_in_time(at_home: Lab) -> None:
    """A user whom Slurm knows as an operator moves everybody's jobs, and none to another cluster."""
    hour = begin_day(at_home, alpha=9, beta=30) // HOUR * HOUR
    job = submit(at_home, CSBATCH_LOCATIONS="alpha/batch,beta/batch")
    level = ("sacctmgr", "-i", "modify", "user", "user2", "set")
    assert at_home.run(*level, "adminlevel=operator", user=None).code == 0
    try:
        forecast(at_home, alpha=4, beta=0)
        url = f"sqlite:///{at_home.home('user2')}/ledger/l.sqlite"
        uid = at_home.run("id", "-u", user="user2").out.strip()
        subprocess.run(["chown", "-R", f"{uid}", at_home.site], check=True)
        [move] = decided(run(at_home, "--json", "--ledger", url, user="user2"))
        assert (move["to_location"], move["outcome"]) == ("alpha/batch", "done")
        assert begins(at_home, job) == hour + 4 * HOUR
    finally:
        subprocess.run(["chown", "-R", "root", at_home.site], check=True)
        assert at_home.run(*level, "adminlevel=none", user=None).code == 0


def test_a_job_goes_to_the_cleaner_cluster(at_home: Lab) -> None:
    """It is submitted again there from its record, as its owner, runs once, and the ledger follows it."""
    hour = begin_day(at_home, alpha=9, beta=30) // HOUR * HOUR
    log = at_home.site / "ran"
    log.touch()
    log.chmod(0o666)
    words = ("-t", "60", "-n", "2", "-o", "/dev/null", "-J", "wanderer", "--wrap", f"echo $SLURM_CLUSTER_NAME >> {log}")
    where = {"CSBATCH_MAX_DELAY": "24h", "CSBATCH_LOCATIONS": "alpha/batch,beta/batch"}
    done = at_home.run(at_home.bin / "csbatch", "--parsable", *words, **where)
    job = done.out.strip().partition(";")[0]
    assert begins(at_home, job) == hour + 9 * HOUR
    forecast(at_home, alpha=7, beta=3)
    [move] = decided(run(at_home, "--json"))
    assert (move["to_location"], move["outcome"]) == ("beta/batch", "done"), move
    assert at_home.job("alpha", job)["JobState"] == "CANCELLED"
    copy = at_home.run("squeue", "-h", "-o", "%i", "-n", "wanderer", cluster="beta").out.strip()
    fields = at_home.job("beta", copy)
    assert (fields["JobState"], fields["Reason"] != "JobHeldUser") == ("PENDING", True)
    assert begins(at_home, copy, "beta") == hour + 3 * HOUR
    assert marks.read(fields["Comment"])[1].move == ""
    at_home.jump_to(hour + 3 * HOUR + 2)
    at_home.wait_for("beta", copy, "COMPLETED", "FAILED")
    run(at_home)
    assert log.read_text().split() in (["beta"], [])  # one on a fake clock may fail as it starts
    with open_ledger(str(at_home.site / "ledger/ledger.sqlite"), read_only=True) as ledger:
        old = ledger.entries("alpha", [int(job)])[int(job)]
        new = ledger.entries("beta", [int(copy)])[int(copy)]
    assert (old.state, new.follows, new.moves) == (MOVED, f"alpha:{job}", 1)
    assert new.started_epoch_s is not None
    assert abs(new.started_epoch_s - (hour + 3 * HOUR)) <= 60
    assert "was alpha:" in run(at_home, copy, "-M", "beta", verb="explain").out


def test_a_whole_run_can_be_killed_anywhere(at_home: Lab) -> None:
    """Killed in its first steps, while it moves, while it publishes: in the end each job waits once, held by nobody."""
    begin_day(at_home, alpha=9, beta=30)
    where = {"CSBATCH_LOCATIONS": "alpha/batch,beta/batch"}
    names = [f"job{number}" for number in range(6)]
    for number, name in enumerate(names):
        submit(at_home, "-J", name, user=f"user{1 + number % 2}", **(where if number < 4 else {}))
    forecast(at_home, alpha=3, beta=1)
    points = at_home.site / "points"
    command = at_home.bin / "slurm-carbon"
    killed = 0
    for end_at in (1, 3, 5, 8, 12, 17, 23):  # the last ones may find nothing left to do
        done = at_home.run(
            command, "reoptimize", user=None, timeout=120, SLURM_CARBON_END_AT=str(end_at), SLURM_CARBON_POINTS=str(points)
        )
        killed += done.code in (-9, 137)
        assert done.code in (0, -9, 137), done
        assert json.loads(at_home.outlook.read_text())["format"] == 4
    assert killed >= 4
    for _ in range(3):
        at_home.jump_to(now(at_home) + 500)
        run(at_home)
    found = []
    for cluster in at_home.clusters:
        shown = at_home.run("squeue", "-h", "-o", "%j %r %T", user=None, cluster=cluster).out
        found += [(name, reason) for name, reason, _ in map(str.split, shown.splitlines())]
    assert sorted(name for name, _ in found) == names, found
    assert not [reason for _, reason in found if "Held" in reason]
    with open_ledger(str(at_home.site / "ledger/ledger.sqlite"), read_only=True) as ledger:
        assert ledger.open_transfers() == []
    assert {"before publish", "after outcomes", "before entries", "run begun"} <= set(points.read_text().splitlines())


def test_what_was_begun_is_ended_in_every_mode(at_home: Lab) -> None:
    """A run is killed while it holds a job for another cluster, and the site goes back to observe: the job is not left so."""
    begin_day(at_home, alpha=9, beta=30)
    submit(at_home, "-J", "begun", CSBATCH_LOCATIONS="alpha/batch,beta/batch")
    forecast(at_home, alpha=20, beta=1)
    names = at_home.site / "names"
    done = at_home.run(
        at_home.bin / "slurm-carbon", "reoptimize", user=None, timeout=120,
        SLURM_CARBON_POINTS=str(names), SLURM_CARBON_END_AT="13",
    )  # fmt: skip
    assert done.code in (-9, 137), done
    assert names.read_text().splitlines()[-1] == "after hold"
    set_mode(at_home, "observe")
    for _ in range(2):
        run(at_home)
        at_home.jump_to(now(at_home) + 500)
    shown = [at_home.run("squeue", "-h", "-o", "%j %r", cluster=cluster).out.split() for cluster in at_home.clusters]
    assert sorted(shown) == [[], ["begun", "BeginTime"]]
    with open_ledger(str(at_home.site / "ledger/ledger.sqlite"), read_only=True) as ledger:
        assert ledger.open_transfers() == []
