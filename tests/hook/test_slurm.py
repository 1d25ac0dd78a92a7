"""The hook in real Slurm: plain sbatch lands in the planned cluster, partition and hour, and starts there then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_carbon import marks
from tests.conftest import VERSIONS, Lab
from tests.hook.site import (
    DIPS_H,
    HOUR,
    JOB,
    STARTED,
    epoch,
    now,
    record,
    sbatch,
    set_mode,
    started,
    starts_as_planned,
    where,
    with_hook,
    write_zones,
)

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", params=VERSIONS)
def clusters(request: pytest.FixtureRequest, installed) -> Iterator[Lab]:
    """Three clusters with the hook in slurmctld and in sbatch."""
    yield from with_hook(installed, "hook", version=request.param)


@pytest.fixture
def sites(clusters: Lab) -> Iterator[Lab]:
    """The clusters, without a job, with the outlook of this hour and in mode enforce."""
    write_zones(clusters, DIPS_H)
    set_mode(clusters, "enforce")
    yield clusters
    clusters.cancel_all()


def test_slurmctld_chooses_partition_and_hour(sites: Lab) -> None:
    """job_submit: the better partition of the cluster, its cleanest hours, the mark, the record; and so it runs."""
    cluster, job_id = where(sbatch(sites, *JOB, "--comment=mine", CSBATCH_LOCATIONS="alpha"))
    job = sites.job(cluster, job_id)
    hour = now(sites) // HOUR * HOUR
    assert (job["Partition"], epoch(sites, job)) == ("short", hour + DIPS_H["alpha"] * HOUR)
    text, mark = marks.read(job["Comment"])
    found = record(job)
    assert text == "mine"
    assert mark is not None
    assert (mark.location, mark.begin_epoch_s) == ("alpha/short", epoch(sites, job)) == (found["at"], found["begin"])
    assert (found["mode"], found["home"]) == ("enforce", "alpha/batch")
    starts_as_planned(sites, cluster, job_id)


def test_sbatch_itself_chooses_the_cluster(sites: Lab) -> None:
    """cli_filter: plain sbatch on alpha goes to gamma, for its partition and hour."""
    hour = now(sites) // HOUR * HOUR
    cluster, job_id = where(sbatch(sites, *JOB))
    job = sites.job(cluster, job_id)
    assert (cluster, job["Partition"], epoch(sites, job)) == ("gamma", "short", hour + DIPS_H["gamma"] * HOUR)
    mark = marks.read(job["Comment"])[1]
    assert mark is not None
    assert mark.location == "gamma/short"
    sites.jump_to(mark.begin_epoch_s + 2)
    fields = sites.wait_for(cluster, job_id, *STARTED)
    assert mark.begin_epoch_s <= epoch(sites, fields) <= mark.begin_epoch_s + 60


def test_of_several_clusters_the_cleanest_offers_the_earliest_start(sites: Lab) -> None:
    """`-M a,b,c` without a federation: each hook makes the same choice, and sbatch picks it."""
    hour = now(sites) // HOUR * HOUR
    for names, best in (("alpha,beta,gamma", "gamma"), ("beta,alpha", "beta"), ("all", "gamma")):
        cluster, job_id = where(sbatch(sites, "-M", names, *JOB))
        job = sites.job(cluster, job_id)
        assert (cluster, job["Partition"], epoch(sites, job)) == (best, "short", hour + DIPS_H[best] * HOUR)
    starts_as_planned(sites, cluster, job_id)


LEFT_ALONE = {
    "--begin was given": ["--begin=now+2hours"],
    "--hold was given": ["--hold"],
    "--dependency was given": ["--dependency=singleton"],
    "the job has no time limit": ["-t", "0"],
    "--deadline was given": ["--deadline=now+3hours"],
    "--carbon-off was given": [],
}


@pytest.mark.parametrize("reason", LEFT_ALONE)
def test_what_is_left_alone(sites: Lab, reason: str) -> None:
    """The job is submitted as it was written, and the record says why."""
    words = LEFT_ALONE[reason]
    environment = {} if words else {"CSBATCH_OFF": "1"}
    before = now(sites)
    cluster, job_id = where(sbatch(sites, *JOB, *words, **environment))
    job = sites.job(cluster, job_id)
    assert (cluster, job["Partition"]) == ("alpha", "batch")
    assert job.get("Comment") is None
    said = record(job)["reason"]
    assert said.startswith(reason) or (reason == "--deadline was given" and said == "--begin was given")  # the filter's word
    if "begin" not in words[:1] and reason != "--begin was given":
        assert epoch(sites, job, "EligibleTime") - before < 60 if job["EligibleTime"] != "Unknown" else True


def test_who_waits_is_not_made_to(sites: Lab) -> None:
    """srun, salloc and sbatch --wait start at once."""
    assert sites.run("srun", "-t", "5", "-n", "1", "true").code == 0
    assert sites.run("salloc", "-t", "5", "-n", "1", "true").code == 0
    waited = sites.run("sbatch", "--wait", "-t", "120", "-o", "/dev/null", "--wrap=true")
    assert started(sites, waited)["JobState"] in STARTED


def test_a_script_says_how_long_and_the_environment_wins(sites: Lab) -> None:
    """#CSBATCH lines count as in csbatch, and CSBATCH_* variables before them; a mistake is told, and refuses nothing."""
    script = sites.home() / "job.sh"
    script.write_text("#!/bin/sh\n#CSBATCH --carbon-locations=alpha --carbon-max-delay=1h\n#SBATCH -t 120 -o /dev/null\ntrue\n")
    cluster, job_id = where(sbatch(sites, str(script)))
    assert record(sites.job(cluster, job_id))["latest"] - now(sites) <= HOUR
    cluster, job_id = where(sbatch(sites, str(script), CSBATCH_MAX_DELAY="12h"))
    assert epoch(sites, sites.job(cluster, job_id)) == now(sites) // HOUR * HOUR + DIPS_H["alpha"] * HOUR
    done = sbatch(sites, str(script), CSBATCH_MAX_DELAY="soon")
    assert "CSBATCH_MAX_DELAY: 'soon' is no duration" in done.err
    job = sites.job(*where(done))
    assert "is no duration" in record(job)["reason"]
    assert job.get("Comment") is None


def test_observe_changes_nothing_but_the_record(sites: Lab) -> None:
    """Every field is as Slurm alone sets it; what would have been done stands in the record."""
    set_mode(sites, "observe")
    stop = sites.site / "hook" / "stop"
    node = ("scontrol", "update", "nodename=alpha3", "reason=test")
    assert sites.run(*node, "state=drain", user=None).code == 0  # so that the jobs stay pending, alike
    try:
        stop.touch()
        plain = sites.job(*where(sbatch(sites, *JOB, "-p", "gpu")))
        stop.unlink()
        observed = sites.job(*where(sbatch(sites, *JOB, "-p", "gpu")))
    finally:
        sites.run(*node[:-1], "state=resume", user=None)
    differing = {name for name in {*plain, *observed} if plain.get(name) != observed.get(name)}
    of_the_hour = {"JobId", "SubmitTime", "EligibleTime", "AccrueTime", "StartTime", "EndTime", "LastSchedEval", "Scheduler",
                   "Reason", "Priority"}  # fmt: skip
    assert differing <= {"AdminComment", *of_the_hour}
    assert observed["EligibleTime"] == observed["SubmitTime"]
    found = record(observed)
    assert (found["mode"], found["at"]) == ("observe", "alpha/gpu")
    assert found["begin"] == now(sites) // HOUR * HOUR + DIPS_H["alpha"] * HOUR


def test_modes_by_user_and_the_word_to_the_user(sites: Lab) -> None:
    """advise tells in one line and does nothing; a user, account, QOS or partition can have a mode of its own."""
    set_mode(sites, "advise", user__user2="enforce", partition__gpu="off")
    told = sbatch(sites, *JOB, CSBATCH_LOCATIONS="alpha")
    assert [line.partition("slurm-carbon: ")[2][:12] for line in told.err.splitlines()] == ["would start "]
    assert "begin" in record(sites.job(*where(told)))
    assert sites.job(*where(told))["Partition"] == "batch"
    off = sites.job(*where(sbatch(sites, *JOB, "-p", "gpu")))
    assert "AdminComment" not in off
    done = sites.run("sbatch", *JOB, user="user2", CSBATCH_LOCATIONS="alpha")
    assert sites.job(*where(done))["Partition"] == "short"
    assert done.err == ""


def test_an_operator_stops_it_with_one_file(sites: Lab) -> None:
    """While the file `stop` is there nothing is placed and nothing recorded, and again afterwards."""
    stop = sites.site / "hook" / "stop"
    stop.touch()
    assert "AdminComment" not in sites.job(*where(sbatch(sites, *JOB)))
    stop.unlink()
    assert record(sites.job(*where(sbatch(sites, *JOB, CSBATCH_LOCATIONS="alpha"))))["at"] == "alpha/short"


def test_csbatch_has_the_last_word_on_its_own_submissions(sites: Lab) -> None:
    """What csbatch has left as it is, the hook does not delay; a job that inherits that word does not keep it."""
    done = sites.run("csbatch", "--carbon-max-delay=0m", "--carbon-locations=alpha", "-p", "batch", *JOB)
    job = sites.job(*where(done))
    assert record(job)["reason"] == "csbatch has decided"
    inner = sbatch(sites, *JOB, SLURM_CARBON_DECIDED="0", SLURM_JOB_ID="77", CSBATCH_LOCATIONS="alpha")
    assert record(sites.job(*where(inner)))["at"] == "alpha/short"


def replace(path: Path, text: str) -> None:
    """Put a script in the place of another, with a time that slurmctld cannot take for the same."""
    new, seconds = path.with_suffix(".new"), path.stat().st_mtime + 2
    new.write_text(text)
    os.utime(new, (seconds, seconds))
    new.rename(path)


def test_the_site_script_keeps_its_say(sites: Lab) -> None:
    """What the site's own script refuses stays refused, and what it sets is what the hook decides on."""
    path = sites.folder / "alpha" / "job_submit.lua"
    text = path.read_text()
    own = 'function slurm_job_submit(d) if d.name == "bad" then return slurm.ERROR end d.partition = "gpu" return 0 end\n'
    replace(path, own + text[text.index("function slurm_job_modify") :])
    try:
        assert sites.run("sbatch", "-J", "bad", *JOB, CSBATCH_LOCATIONS="alpha").code != 0
        job = sites.job(*where(sbatch(sites, *JOB, CSBATCH_LOCATIONS="alpha")))
        assert (job["Partition"], record(job)["home"]) == ("gpu", "alpha/gpu")
    finally:
        replace(path, text)


def test_the_command_tells_what_the_hook_does(sites: Lab) -> None:
    """`hook test` says beforehand what sbatch then does; `hook status` counts it by reason."""
    tool = (sites.bin / "slurm-carbon", "hook")
    said = sites.run(*tool, "test", "--user", "root", "--", "-p", "batch", *JOB, user=None, HOME=str(sites.site))
    assert said.code == 0, said.err
    planned = next(line for line in said.out.splitlines() if line.startswith("begin_time = "))
    assert planned.split()[2] == str(now(sites) // HOUR * HOUR + DIPS_H["alpha"] * HOUR)
    assert "partition = " not in said.out
    moved = sites.run(*tool, "test", "--user", "root", "--", *JOB, user=None, HOME=str(sites.site))
    assert "partition = short" in moved.out
    script = sites.site / "off.sh"
    script.write_text("#!/bin/sh\n#SBATCH -t 120\n#CSBATCH --carbon-off\ntrue\n")
    off = sites.run(*tool, "test", "--", str(script), user=None, HOME=str(sites.site))
    assert '"reason":"--carbon-off was given"' in off.out
    left = sites.run(*tool, "test", "--", "--begin=now+1hour", *JOB, user=None, HOME=str(sites.site))
    assert '"reason":"--begin was given"' in left.out
    assert "begin_time" not in left.out

    sbatch(sites, *JOB, CSBATCH_LOCATIONS="alpha")
    sbatch(sites, *JOB, "--begin=now+1hour")
    status = sites.run(*tool, "status", user=None)
    assert status.code == 0, status.err
    lines = [line.strip() for line in status.out.splitlines()]
    assert any(line.startswith("alpha: 0.1.0, enforce; last decision 0 min ago, by an outlook") for line in lines)
    counts = {words[1]: int(words[0]) for words in (line.split(None, 1) for line in lines) if words[0].isdigit()}
    assert counts["later and elsewhere"] >= 1
    assert counts["--begin was given"] >= 1
    assert any("job_submit.lua: the hook" in line for line in lines)


def test_a_job_without_its_users_environment(sites: Lab) -> None:
    """With --export=NONE slurmctld sees no CSBATCH_* variable: the client decides by them, all of it."""
    alone = ("--export=NONE", *JOB)
    off = sites.job(*where(sbatch(sites, *alone, CSBATCH_OFF="1")))
    assert (off["Partition"], off.get("Comment")) == ("batch", None)
    assert started(sites, sbatch(sites, *alone, CSBATCH_OFF="1", CSBATCH_LOCATIONS="alpha"))["Partition"] == "batch"
    waits = sites.job(*where(sbatch(sites, *alone, CSBATCH_MAX_DELAY="12h", CSBATCH_LOCATIONS="alpha")))
    assert (waits["Partition"], epoch(sites, waits)) == ("batch", now(sites) // HOUR * HOUR + DIPS_H["alpha"] * HOUR)


def test_while_the_other_cluster_is_away_jobs_stay_at_home(sites: Lab) -> None:
    """sbatch offers the job to both: nobody is refused because another slurmctld does not answer."""
    sites.control("stop", "gamma")
    try:
        cluster, job_id = where(sbatch(sites, *JOB))
        assert cluster == "alpha"
        assert sites.job("alpha", job_id)["JobState"] == "PENDING"
    finally:
        sites.control("restart", "gamma")


UNSUITED = {
    "drained": ("State=DRAIN", "State=UP"),
    "inactive": ("State=INACTIVE", "State=UP"),
    "too short": ("MaxTime=60", "MaxTime=240"),
    "few CPUs": ("MaxCPUsPerNode=2", "MaxCPUsPerNode=UNLIMITED"),
    "little memory": ("MaxMemPerNode=10", "MaxMemPerNode=0"),
    "other hosts": ("AllocNodes=nowhere", "AllocNodes=ALL"),
}


@pytest.mark.parametrize("change", UNSUITED)
def test_a_partition_is_taken_as_it_is_now(sites: Lab, change: str) -> None:
    """What was changed after the outlook was made refuses nobody: the job stays in the partition where sbatch sends it."""
    before, after = UNSUITED[change]
    assert sites.run("scontrol", "update", "partitionname=short", before, user=None).code == 0
    try:
        job = sites.job(*where(sbatch(sites, *JOB, CSBATCH_LOCATIONS="alpha")))
        assert (job["Partition"], record(job)["at"]) == ("batch", "alpha/batch")
    finally:
        assert sites.run("scontrol", "update", "partitionname=short", after, user=None).code == 0


@pytest.mark.parametrize(
    "words", [["-w", "alpha2"], ["-x", "alpha0,alpha1"], ["-C", "[old*2]", "-N2"], ["-n", "3", "--mem-per-cpu=40000"],
              ["-n", "5", "--ntasks-per-socket=1"], ["--mem-per-gpu=1G", "--gpus=1", "-p", "gpu"], []],
)  # fmt: skip
def test_who_names_nodes_stays_where_they_are(sites: Lab, words: list[str]) -> None:
    """Nothing that plain sbatch would take is refused, because the better partition has not those nodes, or too few."""
    job = sites.job(*where(sbatch(sites, *JOB, *words, CSBATCH_LOCATIONS="alpha")))
    assert job["Partition"] == ("gpu" if "gpu" in words else "batch" if words else "short")


def test_a_script_on_stdin_is_heard(sites: Lab) -> None:
    """The client cannot read it, and leaves the job to slurmctld, which can."""
    script = "#!/bin/sh\n#CSBATCH --carbon-off\n#SBATCH -t 120 -o /dev/null\ntrue\n"
    done = sites.run("sbatch", stdin=script)
    assert done.code == 0, done.err
    assert record(sites.job(*where(done)))["reason"] == "--carbon-off was given"


def test_hours_of_another_time_zone_need_an_offset(sites: Lab) -> None:
    """slurmctld does not guess which 23:00 is meant."""
    done = sbatch(sites, *JOB, TZ="America/New_York", CSBATCH_FINISH_BY="23:00", CSBATCH_LOCATIONS="alpha")
    assert "TZ is set: say the offset" in done.err
    assert "TZ is set" in record(sites.job(*where(done)))["reason"]
