"""csbatch as a drop-in: whatever sbatch does with a command line, csbatch does too, on real Slurm.

Every case runs in three ways: by sbatch, by `csbatch --carbon-off`, and by csbatch in full. What the three do is then
compared whole: output, exit code, the number of jobs, all that `scontrol` shows of the job, its script and environment
to the byte, and the files in the working folder. No field is left out for a job that csbatch leaves alone; for one that
it moves, the mark in its comment says which other begin time and cluster are right, and only those are.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from slurm_carbon import marks, outlook
from tests.conftest import Done, Lab
from tests.slurm.parity_cases import RUNNING, SCRIPT, SUBMISSIONS, Case

pytestmark = pytest.mark.slurm

UID = 20001  # user1 of scripts/cluster
PARTITIONS = ("batch", "short", "gpu")
# of one and the same waiting job, whichever of these the scheduler happens to have noted last
WAITING = "None|PartitionDown|BeginTime|Priority|Resources|Dependency"


@dataclass(frozen=True)
class Seen:
    """All that a command line came to, ids and times of submission apart."""

    code: int
    out: str
    err: str
    files: dict[str, bytes]  # in the working folder afterwards
    cluster: str  # of the job; all that follows is empty where none was submitted
    comment: str
    job: str  # what scontrol shows of it
    script: bytes
    environment: list[bytes]


class Bench:
    """Runs commands as user1 in a folder that is always the same and always new, and looks at what came of them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.folder = lab.home() / "parity"
        self.home_before = {path.name for path in lab.home().iterdir()}  # other tests have left theirs
        self.outlook = lab.site / "parity.json"
        self.login = {}
        for cluster in ("alpha", "beta"):
            lines = lab.control("env", "--cluster", cluster).splitlines()
            self.login[cluster] = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        self.held = self.ask("alpha", "sbatch", "--parsable", "--hold", "--uid=user1", "--chdir=/", "--wrap=:").out.strip()

    # running

    def ask(self, cluster: str, *argv: str) -> Done:
        """Run one of Slurm's commands as root, its times in UTC."""
        environment = {**self.login[cluster], "PATH": "/usr/bin:/bin", "TZ": "UTC", "LANG": "C.UTF-8"}
        done = subprocess.run(argv, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
        out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        return Done(done.returncode, out, err)

    def start(self, case: Case, way: tuple[str, ...], **environment: str) -> Done:
        """Run a case in one of the three ways, in a folder made for it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name, content in {"job.sh": SCRIPT, **case.files}.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o644 if name == "plain.sh" else 0o755)
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, UID, UID)
        path = f"{self.lab.bin}:/usr/bin:/bin"
        variables: dict[str, str | None] = {
            **self.login[case.login],
            "PATH": path,
            "LANG": "C.UTF-8",
            "HOME": str(self.lab.home()),
            "USER": "user1",
            "LOGNAME": "user1",
            "PWD": str(self.folder),
            "SLURM_CARBON_OUTLOOK": str(self.outlook),
            **environment,
            **case.environment,
        }
        places = {"{folder}": str(self.folder), "{path}": path, "{held}": self.held}
        argv = [*way, *(_filled(word, places) for word in case.argv)]
        if case.through:
            argv = ["bash", "-c", case.through, "bash", *argv]
        done = subprocess.run(
            argv,
            env={name: _filled(value, places) for name, value in variables.items() if value is not None},
            user=UID,
            group=UID,
            extra_groups=[],
            cwd=self.folder,
            **({"stdin": subprocess.DEVNULL} if case.stdin is None else {"input": case.stdin}),
            capture_output=True,
            timeout=60,
            check=False,
        )
        out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        return Done(done.returncode, out, err)

    # looking

    def see(self, case: Case, way: tuple[str, ...]) -> Seen:
        """Submit in one of the three ways, look, and cancel."""
        done = self.start(case, way)
        try:
            jobs = self.queued()
            assert len(jobs) <= 1, f"{way} left {len(jobs)} jobs behind: {jobs}"
            seen = Seen(done.code, done.out, _without_ids(done.err), self.left_behind(), "", "", "", b"", [])
            if jobs:
                [(cluster, job_id)] = jobs
                assert re.match(rf"(Submitted batch job )?{job_id}\b|$", done.out), f"job {job_id} is not in {done.out!r}"
                comment, job = self.shown(cluster, job_id, case.relative)
                seen = replace(
                    seen,
                    out=re.sub(rf"^(Submitted batch job )?{job_id}\b", r"\1ID", done.out),
                    cluster=cluster,
                    comment=comment,
                    job=job,
                    script=self.script(cluster, job_id),
                    environment=self.environment(cluster, job_id),
                )
        finally:
            self.cancel()
        return seen

    def queued(self) -> list[tuple[str, str]]:
        """Cluster and id of every job of user1: of an array or a heterogeneous job once."""
        found = set()
        for cluster in self.login:
            ids = self.ask(cluster, "squeue", "-h", "-u", "user1", "-o", "%i").out.split()
            found |= {(cluster, re.split(r"[_+]", job_id)[0]) for job_id in ids}
        return sorted(found - {("alpha", self.held)})

    def cancel(self) -> None:
        """Leave no job of user1 but the one that dependencies name."""
        for cluster, job_id in self.queued():
            self.ask(cluster, "scancel", job_id)

    def shown(self, cluster: str, job_id: str, relative: bool) -> tuple[str, str]:
        """The comment of a job, and all else that scontrol shows, with ids and what depends on the clock put aside."""
        text = self.ask(cluster, "scontrol", "show", "job", "-d", job_id).out
        # the components of a heterogeneous job share one comment
        comments = set(re.findall(r"\n   Comment=(.*?) \n   StdErr=", text, re.DOTALL))
        assert len(comments) <= 1, text
        text = re.sub(r"\n   Comment=.*? \n   StdErr=", "\n   StdErr=", text, flags=re.DOTALL)
        submitted = re.search(r"\n   SubmitTime=(\S+)", text)[1]
        # ids, where Slurm itself puts them; the components of a heterogeneous job have ids of their own
        ids = "|".join(re.findall(r"^JobId=(\d+)", text, re.MULTILINE))
        text = re.sub(r"\b(JobId|ArrayJobId|HetJobId|HetJobIdSet)=[-\d,+]+", r"\1=ID", text)
        text = re.sub(rf"(\n   Std(?:Err|Out)=[^\n]*?)(?<!\d)(?:{ids})(?=[^/\n]*\n)", r"\1ID", text)
        if relative:  # to the minute: sbatch looks at the clock a moment before the controller does
            first = datetime.fromisoformat(submitted)
            text = re.sub(
                r"\b(Eligible|Start|End)Time=([-\d]+T[\d:]+)",
                lambda m: f"{m[1]}Time=+{round((datetime.fromisoformat(m[2]) - first).total_seconds() / 60)} minutes",
                text,
            )
        # when the scheduler looked at it, and which of its loops did
        text = re.sub(r"\b(SubmitTime|AccrueTime|LastSchedEval)=\S+", r"\1=T", text)
        text = re.sub(r"\bScheduler=\S*", "Scheduler=S", text)
        # an array shows `Unknown` until the scheduler has looked; on a busy machine that is a second later
        moments = "|".join((datetime.fromisoformat(submitted) + timedelta(seconds=n)).isoformat() for n in range(3))
        text = re.sub(rf"\bEligibleTime=({moments}|Unknown)", "EligibleTime=at once", text)
        return "".join(comments), re.sub(rf"\bReason=({WAITING})\b", "Reason=waits", text)

    def script(self, cluster: str, job_id: str) -> bytes:
        """The script that Slurm stored."""
        text = self.ask(cluster, "scontrol", "write", "batch_script", job_id, "-").out
        return text.encode("utf-8", "surrogateescape")

    def environment(self, cluster: str, job_id: str) -> list[bytes]:
        """The environment that Slurm stored, sorted: a shell in between shuffles it."""
        file = self.lab.folder / cluster / "state" / f"hash.{int(job_id) % 10}" / f"job.{job_id}" / "environment"
        words = file.read_bytes()[4:].split(b"\0")  # the first four bytes count them
        return sorted(word for word in words if not word.startswith(b"_="))  # there bash puts the path of what it starts

    def left_behind(self) -> dict[str, bytes]:
        """The files in the working folder; the home must have got none but the cache that csbatch keeps."""
        home = {path.name for path in self.lab.home().iterdir()} - {".cache", "parity"} - self.home_before
        assert not home, f"new in the home: {home}"
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


def _filled(word: str, places: dict[str, str]) -> str:
    for place, value in places.items():
        word = word.replace(place, value)
    return word


def _without_ids(text: str) -> str:
    """Messages without what --test-only foretells of a job: its id, and the minute in which it would start."""
    return re.sub(r"Job \d+ to start at \S+", "Job ID to start at T", text)


def _differences(one: Seen, other: Seen) -> str:
    """The fields in which two outcomes differ, line by line and variable by variable."""
    found: list[str] = []
    for name, before in asdict(one).items():
        after = getattr(other, name)
        if before == after:
            continue
        if name in ("job", "environment"):
            lines = [value.splitlines() if isinstance(value, str) else list(map(repr, value)) for value in (before, after)]
            found += [f"{name}: {line}" for line in difflib.ndiff(*lines) if line[0] in "+-"]
        else:
            found.append(f"{name}: {before!r} -> {after!r}")
    return "\n".join(found)


def _undone(full: Seen, plain: Seen, unmarked: bool) -> Seen:
    """What csbatch in full came to, less just that which the mark on the job says csbatch did."""
    text, mark = marks.read(full.comment)
    assert (mark is None) == unmarked, f"the mark in {full.comment!r}"
    out, job = full.out, full.job
    if mark is not None:
        assert full.cluster == mark.location.partition("/")[0]
    if full.cluster != plain.cluster:  # sbatch says where a job went only if it was told to send it elsewhere
        said = f";{full.cluster}\n" if plain.out == "ID\n" else f" on cluster {full.cluster}\n"
        assert (said in out) == bool(plain.out)
        out = out.replace(said, "\n", 1)
    if "EligibleTime=at once" not in job:
        begin = re.search(r"\bEligibleTime=(\S+)", job)[1]
        if mark is not None:
            assert begin == datetime.fromtimestamp(mark.begin_epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        job = job.replace(f"EligibleTime={begin}", "EligibleTime=at once").replace(f"StartTime={begin}", "StartTime=Unknown")
        job = re.sub(r"\bEndTime=\S+", "EndTime=Unknown", job)  # start + TimeLimit, which is compared
    return replace(full, out=out, cluster=plain.cluster, comment=text, job=job)


@pytest.fixture(scope="module")
def bench(lab: Lab) -> Iterator[Bench]:
    """Both clusters taking jobs and starting none, and an outlook by which every job gains from beta and from waiting."""
    lab.cancel_all()
    lab.refresh()
    published = outlook.read(str(lab.outlook), int(datetime.now(UTC).timestamp()))
    slots = len(published.zones["DE"].mean_g_per_kwh)
    zones = {
        zone: published.zones[zone]._replace(mean_g_per_kwh=[now] * 3 + [later] * (slots - 3))
        for zone, now, later in (("DE", 500.0, 400.0), ("GB", 300.0, 200.0))
    }
    bench = Bench(lab)
    policy = published.policy._replace(min_saving_g=0.0)
    outlook.write(published._replace(zones=zones, policy=policy, max_age_s=86400), str(bench.outlook))
    day = ("users=user1", "starttime=now+1day", "duration=60", "nodes=alpha3")
    assert bench.ask("alpha", "scontrol", "create", "reservation=parity", *day).code == 0
    try:
        _set_partitions(bench, "DOWN")
        yield bench
    finally:
        _set_partitions(bench, "UP")
        bench.ask("alpha", "scontrol", "delete", "reservation=parity")
        bench.ask("alpha", "scancel", bench.held)
        shutil.rmtree(bench.folder, ignore_errors=True)


@pytest.fixture
def running(bench: Bench) -> Iterator[Bench]:
    """The clusters starting jobs."""
    _set_partitions(bench, "UP")
    yield bench
    bench.cancel()
    _set_partitions(bench, "DOWN")


def _set_partitions(bench: Bench, state: str) -> None:
    for cluster in bench.login:
        for partition in PARTITIONS:
            done = bench.ask(cluster, "scontrol", "update", f"PartitionName={partition}", f"State={state}")
            assert done.code == 0, done.err


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in SUBMISSIONS])
def test_same_as_sbatch(bench: Bench, case: Case) -> None:
    """sbatch, csbatch --carbon-off and csbatch in full come to the same, but for what the mark on a moved job says."""
    csbatch = str(bench.lab.bin / "csbatch")
    plain = bench.see(case, ("sbatch",))
    assert bool(plain.job) == (case.fate != "nothing"), plain.err
    off = bench.see(case, (csbatch, "--carbon-off"))
    if off != plain:
        pytest.fail("with --carbon-off:\n" + _differences(plain, off), pytrace=False)
    full = bench.see(case, (csbatch,))
    if case.chatty:
        full = replace(full, err=plain.err)
    if case.fate == "moved":
        full = _undone(full, plain, case.unmarked)
    if full != plain:
        pytest.fail("in full:\n" + _differences(plain, full), pytrace=False)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in RUNNING])
def test_runs_as_with_sbatch(running: Bench, case: Case) -> None:
    """A job of csbatch writes what that of sbatch writes, and --wait ends with its exit code."""
    ended = []
    for way in (("sbatch",), (str(running.lab.bin / "csbatch"), "--carbon-off"), (str(running.lab.bin / "csbatch"),)):
        done = running.start(case, way, CSBATCH_MAX_DELAY="0s")
        job_id = re.search(r"\d+", done.out)[0]
        cluster = "beta" if "beta" in done.out else "alpha"
        running.lab.wait_for(cluster, job_id, "COMPLETED", "FAILED")
        ended.append((done.code, done.err, running.left_behind()))
    assert ended[0] == ended[1] == ended[2]
    assert "out" in ended[0][2]


def test_every_long_option_is_tried(bench: Bench) -> None:
    """Every long option that `sbatch --help` lists stands in at least one case, spelt in full."""
    listed = set()
    for line in bench.ask("alpha", "sbatch", "--help").out.splitlines():
        listed |= set(re.findall(r"^ {2,6}(?:-\w,? +)?--([a-z-]+)", line))
    cases = [*(case for _, case in SUBMISSIONS), *RUNNING]
    tried = {word[2:].partition("=")[0] for case in cases for word in case.argv if word.startswith("--")}
    assert len(listed) > 90
    assert len({name for name, _ in SUBMISSIONS}) == len(SUBMISSIONS) >= 200
    assert listed <= tried
