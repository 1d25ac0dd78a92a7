"""A job that is submitted again from its record is the same job, on the other cluster, at the time that was asked for."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.kept.conftest import RECORDS, UIDS, Bench

pytestmark = pytest.mark.slurm

SCRIPT = """#!/bin/bash
#SBATCH --job-name=from-script --time=90
#SBATCH --output=out-%j.txt
echo "$@"
"""


class Case(NamedTuple):
    """A submission: csbatch's words, what runs csbatch, and in what."""

    words: tuple[str, ...]
    through: str = ""
    environment: dict[str, str | None] = {}  # noqa: RUF012
    stdin: str | None = None
    partition: str = "batch"


CASES = {
    "--wrap": Case(("-t", "60", "--wrap", "echo 'a  b' \"$HOME\"\nexit 3")),
    "a script and its arguments": Case(("-n2", "job.sh", "a b", "", "--hold", "-M", "ü\n\\", "--carbon-off")),
    "a script in a folder": Case(("-t60", "--", "../work/job.sh", "x")),
    "a script on PATH": Case(("on-path", "x"), environment={"PATH": "{work}/bin:{path}"}),
    "stdin": Case(("-t", "60"), stdin=SCRIPT),
    "stdin as a pipe": Case(("-t", "60", "-J", "piped"), through='cat job.sh | "$@"'),
    "stdin by name": Case(("/dev/stdin", "x"), stdin=SCRIPT),
    "a process": Case(("-t", "60"), through='"$@" <(cat job.sh) "an argument"'),
    "an array": Case(("-a", "0-9:3,20%2", "-o", "%A_%a", "job.sh")),
    "what squeue does not show": Case(
        (
            "--signal=B:USR1@60",
            "--open-mode=append",
            "--mail-type=END,FAIL",
            "--mail-user=x@y.z",
            "-e",
            "err-%j",
            "-i",
            "/dev/zero",
            "--no-requeue",
            "--nice=7",
            "--exclusive",
            "-n",
            "4",
            "-c2",
            "--mem=100",
            "-A",
            "guest",
            "--kill-on-invalid-dep=yes",
            "-D",
            "/var/tmp",
            "--time-min=5",
            "--get-user-env",
            "--profile=task",
            "-k",
            "--wckey=w",
            "job.sh",
        )
    ),
    "a GPU": Case(("--gres=gpu:a100:1", "-C", "new", "-L", "matlab:1", "-p", "gpu", "job.sh"), partition="gpu"),
    "the environment": Case(
        ("job.sh",),
        through="two() { echo 'a\n  b'; }; export -f two; export LINES_=$'a\\nb\\\\n\\tc' BYTES=$'\\xff\\xfe' EMPTY= ; "
        'exec env -u PWD "=odd="  \'a.b=c d\' "$@"',
    ),
    "--export=NONE": Case(("--export=NONE", "job.sh")),
    "--export=NIL": Case(("--export=NIL", "job.sh")),
    "--export by name": Case(
        ("--export=EDITOR,A=a b,LD_LIBRARY_PATH,MISSING,C=d", "job.sh"),
        environment={"EDITOR": "ed", "LD_LIBRARY_PATH": "/nonexistent"},
    ),
    "--export of all and more": Case(("--export=ALL,A=a b", "job.sh"), environment={"EDITOR": "ed", "A": "other"}),
    "SBATCH_EXPORT": Case(("job.sh",), environment={"SBATCH_EXPORT": "EDITOR", "EDITOR": "ed", "OTHER": "x"}),
    "libraries of his own": Case(("job.sh",), environment={"LD_LIBRARY_PATH": "/nonexistent:"}),
    "SBATCH_ variables": Case(
        ("job.sh",),
        environment={"SBATCH_TIMELIMIT": "33", "SBATCH_JOB_NAME": "named", "SBATCH_PARTITION": "short", "SBATCH_REQUEUE": "1"},
        partition="short",
    ),
    "inside a job": Case(
        ("job.sh",),
        environment={
            "SLURM_JOB_ID": "7",
            "SLURM_SUBMIT_DIR": "/",
            "SLURM_NTASKS": "64",
            "SLURM_JOB_NAME": "outer",
            "SLURM_WORKING_CLUSTER": "alpha:127.0.0.1:1:9728:109",
            "SLURM_UMASK": "0777",
        },
    ),
    "limits, umask and niceness": Case(
        ("job.sh",),
        through='umask 0137; ulimit -S -n 512; ulimit -S -c 2000; ulimit -s 4096; ulimit -S -v 4000000; exec nice -n 3 "$@"',
    ),
    "a comment": Case(("--comment", "mine | cs1", "--comment=the | last", "job.sh")),
    "a name like an option": Case(("-J", "--", "--", "job.sh")),
    "an odd folder": Case(("job.sh",), through='mkdir -p "a b\n\'c"; cp job.sh a*; cd a*; exec "$@"'),
}


@pytest.fixture
def work(bench: Bench) -> Path:
    """A folder of user1's with a script in it."""
    folder = bench.lab.home() / "work"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    for name in ("job.sh", "bin/on-path"):
        (folder / name).write_text(SCRIPT)
        (folder / name).chmod(0o755)
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, UIDS["user1"], UIDS["user1"])
    return folder


def stored(bench: Bench, cluster: str, job_id: str | int) -> list[bytes]:
    """The environment of a job, but for the slurm.conf that it was submitted by, and for what bash starts things by."""
    environment = bench.environment(cluster, job_id)
    return sorted(entry for entry in environment if not entry.startswith((b"SLURM_CONF=", b"_=")))


@pytest.mark.parametrize("name", CASES)
def test_a_copy_is_the_same_job(bench: Bench, work: Path, name: str) -> None:
    """All that scontrol shows, script and environment to the byte: whatever way it was submitted."""
    case = CASES[name]
    environment = {k: v and v.format(work=work, path=f"{bench.lab.bin}:/usr/bin:/bin") for k, v in case.environment.items()}
    job_id, mark = bench.kept(*case.words, through=case.through, cwd=work, stdin=case.stdin, **environment)
    found = bench.again(mark.id, partition=case.partition)
    assert found.job_id, found
    assert bench.shown("beta", found.job_id) == {
        **bench.shown("alpha", job_id),
        "AllocNode:Sid": bench.shown("beta", found.job_id)["AllocNode:Sid"],
    }
    assert bench.script("beta", found.job_id) == bench.script("alpha", job_id)
    assert stored(bench, "beta", found.job_id) == stored(bench, "alpha", job_id)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
def test_it_is_where_and_when_and_held_as_asked(bench: Bench, held: bool, by_name: bool) -> None:
    """Also through -M, where the site has configured no slurm.conf of the cluster."""
    _, mark = bench.kept("-t", "60", "--comment=mine", "-p", "short", "--wrap", "true", TZ="America/New_York")
    begin, comment = bench.soon() + 12345, "mine | cs1 | 'ü\n\"\\"
    changes: dict[str, Any] = {"slurm_conf": ""} if by_name else {}
    found = bench.again(mark.id, begin_epoch_s=begin, comment=comment, partition="gpu", held=held, **changes)
    assert found.certain, found
    job = bench.job("beta", found.job_id)
    shown = bench.slurm("beta", "squeue", "-h", "-j", str(found.job_id), "-o", "%k")
    assert (job["Partition"], shown) == ("gpu", comment + "\n")
    assert datetime.fromisoformat(job["EligibleTime"] + "Z").timestamp() == begin
    assert (job["Priority"] == "0") == held
    assert job["UserId"] == "user1(20001)"


def test_a_begin_that_has_passed_is_at_once(bench: Bench) -> None:
    """The job may start when its partition is up again."""
    _, mark = bench.kept("-t", "60", "--wrap", "true")
    found = bench.again(mark.id, begin_epoch_s=bench.soon() - 7200)
    job = bench.job("beta", found.job_id)
    assert job["EligibleTime"] <= job["SubmitTime"] or job["EligibleTime"] == "Unknown"


def test_a_script_that_has_changed_since_is_the_one_of_then(bench: Bench, work: Path) -> None:
    """Or is gone: the job has the script and the name that it had."""
    for change in (lambda path: path.write_text("#!/bin/sh\necho other\n"), lambda path: path.unlink()):
        script = work / "named.sh"
        script.write_text("#!/bin/sh\necho this\n")
        script.chmod(0o755)
        job_id, mark = bench.kept("-t", "60", "named.sh", "a b", cwd=work)
        change(script)
        found = bench.again(mark.id)
        assert found.job_id, found
        assert bench.script("beta", found.job_id) == bench.script("alpha", job_id) == b"#!/bin/sh\necho this\n"
        job = bench.job("beta", found.job_id)
        assert job["JobName"] == "named.sh"
        assert job["Command"].endswith(" a b")


def test_as_himself(bench: Bench) -> None:
    """The owner does without root what root does for him; nobody else can."""
    _, mark = bench.kept("-t", "60", "--wrap", "true")
    found = bench.again(mark.id, as_user="user1")
    assert found.job_id, found
    assert bench.job("beta", found.job_id)["UserId"] == "user1(20001)"
    with pytest.raises(AssertionError, match="can be submitted by himself and by root"):
        bench.again(mark.id, as_user="user2")


def test_roots_own_job(bench: Bench) -> None:
    """His record lies in his home, and is believed only if it is his."""
    folder = bench.lab.site / "records"
    published = bench.lab.outlook.read_text()
    bench.lab.outlook.write_text(published.replace(json.dumps(RECORDS), json.dumps(f"{folder}/%u")))
    try:
        done = bench.csbatch("--parsable", "-t", "60", "--wrap", "true", user=None)
        mark = bench.mark("alpha", done.out.strip())
        assert mark is not None
        path = folder / "root" / mark.id[:2] / mark.id
        assert path.stat().st_uid == 0
        request = {"user": "root", "records": f"{folder}/%u"}
        assert bench.job("beta", bench.again(mark.id, **request, uid=0).job_id)["UserId"] == "root(0)"
        shutil.chown(path, UIDS["user1"])
        assert bench.again(mark.id, **request, uid=0).nothing
    finally:
        bench.lab.outlook.write_text(published)


def test_they_run_alike(bench: Bench, work: Path) -> None:
    """What the two jobs see when they run: arguments, folder, umask, limits and every variable of their own."""
    text = """#!/bin/bash
#SBATCH -t 5 -o /dev/null
where=out.$SLURM_CLUSTER_NAME
mkdir $where && cd $where
printf '%s\\0' "$@" >arguments; umask >umask; ulimit -Sa >limits; cat >stdin; nice >nice; env -0 >environment; echo $PWD >folder
touch done
"""
    (work / "look.sh").write_text(text)
    through = 'umask 0027; ulimit -S -n 600; export A=$\'b\\nc\'; f() { echo "$A"; }; export -f f; exec "$@"'
    _, mark = bench.kept("-n2", "look.sh", "a b", "", "c", through=through, cwd=work)
    found = bench.again(mark.id, begin_epoch_s=bench.soon() - 3700)
    assert found.job_id, found
    bench.set_partitions("up")
    bench.lab.wait_for("alpha", bench.last, "COMPLETED")
    bench.lab.wait_for("beta", found.job_id, "COMPLETED")
    bench.set_partitions("down")
    seen = {c: {path.name: path.read_bytes() for path in (work / f"out.{c}").iterdir()} for c in ("alpha", "beta")}
    environments = {c: dict(e.split(b"=", 1) for e in seen[c].pop("environment").split(b"\0") if e) for c in seen}
    folders = [seen[c].pop("folder").replace(c.encode(), b"") for c in seen]
    assert folders[0] == folders[1]
    assert seen["alpha"] == seen["beta"]
    assert (work / "out.beta/umask").stat().st_mode & 0o777 == 0o640
    of_its_own = {
        *("SLURM_CONF", "SLURM_CLUSTER_NAME", "SLURM_WORKING_CLUSTER", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_NODELIST"),
        *("SLURM_JOB_NODELIST", "SLURMD_NODENAME", "SLURM_TASK_PID", "SLURM_TOPOLOGY_ADDR", "SLURM_JOB_START_TIME"),
        *("SLURM_JOB_END_TIME", "PWD", "HOSTNAME"),
    }
    alpha, beta = environments["alpha"], environments["beta"]
    assert alpha.keys() == beta.keys()
    differing = {name.decode() for name in alpha if alpha[name] != beta[name]} - of_its_own
    assert not differing
    assert (beta[b"A"], beta[b"SLURM_CONF"]) == (b"b\nc", f"{bench.lab.folder}/beta/slurm.conf".encode())


def test_where_a_record_is_of_no_use_there_is_none(bench: Bench) -> None:
    """Jobs that stay on their cluster, that are left alone or opted out, and all where the site keeps none."""
    before = bench.records()
    job = ("-t", "60", "--wrap", "true")
    for words in (
        ("--carbon-locations=alpha", *job),
        ("-w", "alpha1", *job),
        ("--begin=now+1hour", *job),
        ("-M", "alpha", *job),
    ):
        assert bench.csbatch(*words).code == 0
    off = bench.csbatch("--parsable", "--carbon-off", "--comment=mine", *job).out.strip()
    assert bench.job("alpha", off)["Comment"] == "mine | cs1 off"
    assert bench.csbatch("--carbon-dry-run", *job).code == 0
    assert bench.records() == before


def test_the_job_matters_more_than_its_record(bench: Bench) -> None:
    """A folder that is in the way, others who can write to it, an environment too large: a job, a mark, and no id."""
    folder = bench.lab.home("user2") / ".local/state/slurm_carbon/submissions"
    folder.mkdir(parents=True)
    for path in [folder, *folder.parents[:4]]:
        shutil.chown(path, UIDS["user2"], UIDS["user2"])
    large = {f"LARGE{i}": "x" * 100_000 for i in range(11)}
    for mode, environment, why in ((0o770, {}, "not a folder that is ours alone"), (0o500, {}, "Permission denied"),
                                   (0o700, large, "larger than 1 MiB")):  # fmt: skip
        folder.chmod(mode)
        done = bench.csbatch("--parsable", "--carbon-verbose", "-t", "60", "--wrap", "true", user="user2", **environment)
        assert done.code == 0
        assert why in done.err
        mark = bench.mark("alpha", done.out.strip())
        assert mark is not None
        assert mark.id == ""
        assert "beta/batch" in mark.locations
    assert bench.records("user2") == []
    shutil.rmtree(folder)
