"""What tests share: the real clusters, users on them, and an installed slurm-carbon to submit with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
CLUSTER_SCRIPT = ROOT / "scripts" / "cluster"
ZONES = {"alpha": "DE", "beta": "GB", "gamma": "FR"}
SECOND_SLURM = Path(os.environ.get("SLURM_CARBON_SECOND_SLURM", "/var/tmp/slurmlab/trixie"))
# for `params` of a fixture that hands `request.param` on to `start_lab` as its version
VERSIONS = ["22.05", pytest.param("24.11", marks=pytest.mark.second_slurm)]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data beside the project; tests that need it are skipped without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs ../shared/data")
    return SHARED


@dataclass
class Done:
    """How a command on a test cluster ended."""

    code: int
    out: str
    err: str


@dataclass
class Lab:
    """Real clusters, each in its zone of ZONES, and csbatch installed beside them."""

    folder: Path
    bin: Path
    fake_clock: bool = False
    extra: dict[str, str] = field(default_factory=dict)
    clusters: tuple[str, ...] = ("alpha", "beta")
    version: str = "22.05"

    @property
    def site(self) -> Path:
        return self.folder.parent / (self.folder.name + "-site")

    @property
    def config(self) -> Path:
        return self.site / "slurm_carbon.toml"

    @property
    def outlook(self) -> Path:
        return self.site / "outlook.json"

    def home(self, user: str = "user1") -> Path:
        return self.folder / "home" / user

    def control(self, *words: str) -> str:
        """A verb of scripts/cluster."""
        done = subprocess.run(
            [CLUSTER_SCRIPT, "--dir", self.folder, *words], capture_output=True, text=True, check=False, timeout=180
        )
        assert done.returncode == 0, f"scripts/cluster {words}: {done.stderr}{done.stdout}"
        return done.stdout

    def run(
        self,
        *argv: str | Path,
        user: str | None = "user1",
        cluster: str = "alpha",
        cwd: Path | None = None,
        stdin: str | bytes | None = None,
        timeout: float = 60,
        **environment: str | None,
    ) -> Done:
        """Run a command as a user of a cluster, in an environment of nothing but what a login gives it.

        Further environment variables by keyword; None takes one away. With a second Slurm the command runs outside its
        chroot all the same, and finds its clients on PATH.
        """
        variables: dict[str, str] = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "SLURM_CARBON_CONFIG": str(self.config),
            "SLURM_CARBON_OUTLOOK": str(self.outlook),
            "LANG": "C.UTF-8",
            **self.extra,
        }
        for name, value in environment.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value
        home = variables.pop("HOME", None)  # `run` gives the user his own
        argv = ("env", f"HOME={home}", *argv) if home else argv
        start = [CLUSTER_SCRIPT, "--dir", self.folder, "run", "--cluster", cluster]
        done = subprocess.run(
            [*map(str, start), *(["--as", user] if user else []), "--", *map(str, argv)],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env=variables,
            cwd=cwd or (self.home(user) if user else self.folder),
            timeout=timeout,
            check=False,
        )
        out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        return Done(done.returncode, out, err)

    def job(self, cluster: str, job_id: str | int) -> dict[str, str]:
        """Every field of `scontrol show job`, as this cluster has it, also in a federation."""
        done = self._show(cluster, job_id)
        assert done.code == 0, done.err
        return job_fields(done.out)

    def _show(self, cluster: str, job_id: str | int) -> Done:
        return self.run("scontrol", "--local", "show", "job", "-d", str(job_id), user=None, cluster=cluster)

    def wait_for(self, cluster: str, job_id: str | int, *states: str, seconds: float = 30) -> dict[str, str]:
        """The fields of a job once it is in one of some states."""
        end = time.monotonic() + seconds
        while True:
            done = self._show(cluster, job_id)  # in a federation a job reaches its cluster a little later
            fields = job_fields(done.out) if done.code == 0 else {"JobState": f"unknown ({done.err.strip()})"}
            if fields["JobState"] in states:
                return fields
            assert time.monotonic() < end, f"job {job_id} is {fields}, not {states}, after {seconds} s"
            time.sleep(0.1)

    def refresh(self) -> None:
        """Publish a new outlook."""
        done = self.run(self.bin / "slurm-carbon", "outlook", "refresh", user=None)
        assert done.code == 0, done.err

    def jump_to(self, epoch_s: int) -> None:
        """Set the fake clock."""
        self.control("jump", f"+{epoch_s - int(time.time())}")

    def to_evening(self) -> int:
        """Set the fake clock to the next 17:00 UTC, when every day's cleaner hours are still to come; epoch seconds."""
        now = datetime.fromtimestamp(int(self.run("date", "+%s").out), UTC)
        evening = now.replace(hour=17, minute=0, second=0)
        evening += timedelta(days=evening <= now)
        self.jump_to(int(evening.timestamp()))
        self.refresh()
        return int(evening.timestamp())

    def cancel_all(self) -> None:
        """Leave no job behind."""
        for cluster in self.clusters:
            for user in ("root", "user1", "user2"):
                done = self.run("scancel", "-u", user, user=None, cluster=cluster)
                assert done.code == 0, done.err


def job_fields(text: str) -> dict[str, str]:
    """`scontrol show job` as fields; a value goes to the next word that looks like a name, or to the line's end."""
    fields: dict[str, str] = {}
    whole_line = ("Comment", "AdminComment", "Command", "WorkDir", "StdErr", "StdIn", "StdOut", "JobName")
    for line in text.splitlines():
        stripped = line.strip()
        name, equals, value = stripped.partition("=")
        if equals and name in whole_line:
            fields[name] = value
            continue
        if stripped.startswith("JobId="):
            ids, _, fields["JobName"] = stripped.partition(" JobName=")
            fields |= dict(word.split("=", 1) for word in ids.split())  # an array has more than one
            continue
        for word in stripped.split():
            name, equals, value = word.partition("=")
            if equals:
                fields[name] = value
    return fields


def _installed(tmp: Path) -> Path:
    """The scripts of an installed slurm-carbon: those of the wheel under test, readable by every user."""
    given = os.environ.get("SLURM_CARBON_TEST_BIN")
    if given:
        return Path(given)
    venv = tmp / "venv"
    python = os.environ.get("PYTHON", "/usr/bin/python3")
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    source = tmp / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv*", "build", "*.egg-info", "tests", ".*_cache"))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", venv / "bin/python3", "install", "-q", "--no-deps", source],
        check=True,
        capture_output=True,
    )
    return venv / "bin"


@pytest.fixture(scope="session")
def installed() -> Iterator[Path]:
    """A folder with csbatch and slurm-carbon as pip installs them."""
    tmp = Path("/var/tmp") / f"slurm-carbon-tests-{os.getpid()}"
    tmp.mkdir(mode=0o755)
    try:
        yield _installed(tmp)
    finally:
        shutil.rmtree(tmp)


def start_lab(
    installed: Path, name: str, *up: str, clusters: tuple[str, ...] = ("alpha", "beta"), version: str = "22.05"
) -> Iterator[Lab]:
    """Clusters with an outlook, ended afterwards: `yield from` it in a fixture. 22.05 is this machine's own Slurm."""
    if os.geteuid() != 0:
        pytest.skip("real Slurm needs root")
    if version != "22.05":
        if not (SECOND_SLURM / "usr/sbin/slurmctld").exists():
            pytest.skip(f"no second Slurm in {SECOND_SLURM}: ../shared/lab/install.sh trixie, or set SLURM_CARBON_SECOND_SLURM")
        up = (*up, "--root", str(SECOND_SLURM))
    folder = Path("/var/tmp") / f"sc-{name}-{version}-{os.getpid()}"
    lab = Lab(folder, installed, "--fake-clock" in up, clusters=clusters, version=version)
    lab.site.mkdir(mode=0o755)
    try:
        lab.control("up", "--clusters", str(len(clusters)), *up)
        zones = [f"--zone={c}={ZONES[c]}" for c in clusters]
        confs = [f"--slurm-conf={c}={lab.folder}/{c}/slurm.conf" for c in clusters]
        proposed = lab.run(installed / "slurm-carbon", "config", "init", *zones, "--filesystem", "home", *confs, user=None)
        assert proposed.code == 0, proposed.err
        lab.config.write_text(proposed.out.replace("/var/lib/slurm_carbon/outlook.json", str(lab.outlook)))
        lab.refresh()
        yield lab
    finally:
        subprocess.run([CLUSTER_SCRIPT, "--dir", lab.folder, "down"], check=False, capture_output=True)
        shutil.rmtree(lab.site, ignore_errors=True)


@pytest.fixture(scope="session")
def lab(installed: Path) -> Iterator[Lab]:
    """The two clusters on the real clock, for the whole session."""
    yield from start_lab(installed, "lab")


@pytest.fixture(scope="module")
def fake_lab(installed: Path) -> Iterator[Lab]:
    """Two clusters on the fake clock, for one module: `control("jump", "+13h")` sets it ahead."""
    yield from start_lab(installed, "fake", "--fake-clock")


@pytest.fixture(scope="module")
def three_clusters(installed: Path) -> Iterator[Lab]:
    """Three clusters on the fake clock, for one module."""
    yield from start_lab(installed, "three", "--fake-clock", clusters=("alpha", "beta", "gamma"))


@pytest.fixture
def jobs(lab: Lab) -> Iterator[Lab]:
    """The clusters, emptied of jobs afterwards."""
    yield lab
    lab.cancel_all()
