"""Whatever fails, the job is submitted once, as sbatch alone would, and the user is told in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Done, Lab

pytestmark = pytest.mark.slurm

JOB = ("-t", "2:00:00", "-n", "16", "-o", "/dev/null", "--wrap", "sleep 0")


def submit(lab: Lab, *words: str, csbatch: Path | None = None, **environment: str | None) -> Done:
    """A submission that csbatch would move to beta and delay, if nothing were wrong."""
    return lab.run(csbatch or lab.bin / "csbatch", *words, *JOB, CSBATCH_VERBOSE="1", **environment)


def our_lines(done: Done) -> list[str]:
    """What csbatch said."""
    return [line for line in done.err.splitlines() if line.startswith("csbatch: ")]


def job_ids(lab: Lab) -> dict[str, set[str]]:
    """All jobs that the controllers that answer know, by cluster."""
    found = {}
    for cluster in ("alpha", "beta"):
        done = lab.run("squeue", "-h", "-a", "-t", "all", "-o", "%A", user=None, cluster=cluster)
        found[cluster] = set(done.out.split()) if done.code == 0 else set()
    return found


def assert_plain(lab: Lab, done: Done, before: dict[str, set[str]], says: str) -> None:
    """One job more, on alpha, without begin time or mark; exit code 0; sbatch's stdout; one clear line."""
    assert done.code == 0, done.err
    job_id = re.fullmatch(r"Submitted batch job (\d+)\n", done.out).group(1)
    assert [line for line in done.err.splitlines() if line] == our_lines(done)
    assert len(our_lines(done)) == 1
    assert re.search(says, our_lines(done)[0]), our_lines(done)
    after = job_ids(lab)
    assert {c: after[c] - before[c] for c in after} == {"alpha": {job_id}, "beta": set()}
    fields = lab.job("alpha", job_id)
    assert "Comment" not in fields
    assert fields["Partition"] == "batch"
    assert fields["EligibleTime"] == fields["SubmitTime"]


def edit(change: Callable[[dict], object]) -> Callable[[Path, Path], None]:
    """An outlook with something changed in its JSON."""

    def make(good: Path, bad: Path) -> None:
        raw = json.loads(good.read_text())
        change(raw)
        bad.write_text(json.dumps(raw))

    return make


def zone_values(value: float) -> Callable[[dict], object]:
    """All of a zone's values replaced by one."""
    return lambda raw: raw["zones"]["GB"].update(mean_g_per_kwh=[value] * len(raw["zones"]["GB"]["mean_g_per_kwh"]))


OUTLOOKS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "missing": (lambda good, bad: None, "No such file"),
    "empty": (lambda good, bad: bad.write_bytes(b""), "broken"),
    "garbage": (lambda good, bad: bad.write_bytes(os.urandom(5000)), "broken"),
    "truncated": (lambda good, bad: bad.write_bytes(good.read_bytes()[:-100]), "broken"),
    "folder": (lambda good, bad: bad.mkdir(), "Is a directory|broken"),
    "fifo": (lambda good, bad: os.mkfifo(bad), "broken"),
    "unreadable": (lambda good, bad: (shutil.copy(good, bad), bad.chmod(0)), "Permission denied"),
    "stale": (edit(lambda raw: raw.update(generated=raw["generated"] - 7 * 3600)), "stale"),
    "future": (edit(lambda raw: raw.update(generated=raw["generated"] + 7 * 3600)), "future"),
    "newer format": (edit(lambda raw: raw.update(format=99)), "format 99"),
    "nan": (edit(zone_values(float("nan"))), "NaN is no number"),
    "infinite": (lambda good, bad: bad.write_text(good.read_text().replace("[", "[1e999,", 40)), "broken"),
    "negative": (edit(zone_values(-5.0)), "out of range"),
    "absurd": (edit(zone_values(1e6)), "out of range"),
    "text for numbers": (edit(lambda raw: raw["zones"]["GB"].update(mean_g_per_kwh=["1", "2"])), "broken"),
    "other clusters": (edit(lambda raw: raw["clusters"].clear()), "not in the outlook"),
    "no locations": (edit(lambda raw: raw["locations"].clear()), "not a configured location"),
}


@pytest.mark.parametrize("name", OUTLOOKS)
def test_outlook(jobs: Lab, name: str) -> None:
    """An outlook that cannot be used changes nothing about the job."""
    make, says = OUTLOOKS[name]
    bad = jobs.site / f"bad-{name.replace(' ', '-')}"
    make(jobs.outlook, bad)
    before = job_ids(jobs)
    assert_plain(jobs, submit(jobs, SLURM_CARBON_OUTLOOK=str(bad)), before, says)


def test_no_configuration(jobs: Lab) -> None:
    """Freshly installed, with neither configuration nor outlook."""
    before = job_ids(jobs)
    done = submit(jobs, SLURM_CARBON_OUTLOOK=None, SLURM_CARBON_CONFIG=str(jobs.site / "none.toml"))
    assert_plain(jobs, done, before, "No such file")


def test_broken_configuration(jobs: Lab) -> None:
    """A configuration with a mistake in it."""
    config = jobs.site / "wrong.toml"
    config.write_text("[policy]\nmax_dely = '1h'\n")
    before = job_ids(jobs)
    assert_plain(jobs, submit(jobs, SLURM_CARBON_OUTLOOK=None, SLURM_CARBON_CONFIG=str(config)), before, "max_dely")


def test_stale_outlook_with_the_fallback_that_the_site_allows(jobs: Lab) -> None:
    """Allowed to, csbatch makes an outlook of the climatology and the clusters as they are, and places the job."""
    config = jobs.site / "fallback.toml"
    config.write_text(
        jobs.config.read_text().replace('fallback = "none"', 'fallback = "climatology"').replace(str(jobs.outlook), "/none")
    )
    done = submit(jobs, SLURM_CARBON_OUTLOOK=None, SLURM_CARBON_CONFIG=str(config))
    assert done.code == 0, done.err
    assert re.fullmatch(r"Submitted batch job \d+ on cluster beta\n", done.out)
    assert "climatology" in done.err


def test_quiet_where_nobody_looks(jobs: Lab) -> None:
    """Without a terminal and unasked, nothing is said: tools read what they get."""
    done = jobs.run(jobs.bin / "csbatch", *JOB, SLURM_CARBON_OUTLOOK="/none")
    assert (done.code, done.err) == (0, "")


def test_the_line_comes_on_a_terminal(jobs: Lab) -> None:
    """With a terminal for stderr the decision is said in one line, without being asked for."""
    done = jobs.run("script", "-qec", f"{jobs.bin}/csbatch -t 2:00:00 -n 16 -o /dev/null --wrap true", "/dev/null")
    lines = done.out.replace("\r", "").splitlines()
    assert done.code == 0
    assert len(lines) == 2
    assert any(line.startswith("csbatch: starts ") for line in lines)


@pytest.fixture
def without(lab: Lab) -> Iterator[Callable[..., None]]:
    """Kill or stop daemons of the lab; afterwards all of them run again."""
    stopped: list[int] = []

    def act(name: str, how: signal.Signals) -> None:
        pid = json.loads((lab.folder / "state.json").read_text())["processes"][name][0]
        os.kill(pid, how)
        if how == signal.SIGSTOP:
            stopped.append(pid)
        else:
            end = time.monotonic() + 10
            while Path(f"/proc/{pid}/stat").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                assert time.monotonic() < end
                time.sleep(0.02)

    yield act
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    lab.control("up")
    lab.cancel_all()


def assert_stayed_home(lab: Lab, done: Done, before: dict[str, set[str]]) -> None:
    """One job more, on alpha, whatever its begin time; exit code 0."""
    assert done.code == 0, done.err
    job_id = re.fullmatch(r"Submitted batch job (\d+)\n", done.out).group(1)
    after = job_ids(lab)
    assert after["alpha"] - before["alpha"] == {job_id}
    assert after["beta"] <= before["beta"]
    assert len(our_lines(done)) >= 1
    assert "beta" not in our_lines(done)[0]


@pytest.mark.parametrize(
    ("daemon", "how"),
    [
        ("slurmctld-beta", signal.SIGKILL),
        ("slurmctld-beta", signal.SIGSTOP),
        ("slurmdbd", signal.SIGKILL),
        ("slurmdbd", signal.SIGSTOP),
    ],
)
def test_daemon_gone_or_hung(lab: Lab, without: Callable[..., None], daemon: str, how: signal.Signals) -> None:
    """A dead or hanging controller of the cleaner cluster, or slurmdbd: the job stays where sbatch would send it."""
    before = job_ids(lab)
    without(daemon, how)
    began = time.monotonic()
    done = submit(lab)
    assert time.monotonic() - began < 15
    if how == signal.SIGSTOP:
        pid = json.loads((lab.folder / "state.json").read_text())["processes"][daemon][0]
        os.kill(pid, signal.SIGCONT)
    assert_stayed_home(lab, done, before)


def test_a_cluster_that_refuses_the_job(jobs: Lab) -> None:
    """The outlook says that user1 may go to beta; beta says no: the job stays on alpha, and the reason is shown."""
    sacctmgr = ["sacctmgr", "-i", "-Q"]
    jobs.run(*sacctmgr, "delete", "user", "user2", "cluster=beta", user=None)
    try:
        done = jobs.run(jobs.bin / "csbatch", "--carbon-explain", *JOB, user="user2", CSBATCH_VERBOSE="1")
        assert done.code == 0, done.err
        assert re.fullmatch(r"Submitted batch job \d+\n", done.out)
        assert "Slurm there says: " in done.err
    finally:
        jobs.run(*sacctmgr, "add", "user", "user2", "Account=lab", "cluster=beta", user=None)


def test_read_only_home(jobs: Lab, tmp_path: Path) -> None:
    """A home that cannot be written is no obstacle: the job is placed all the same, and nothing is left behind."""
    before = set(os.listdir("/tmp"))
    done = submit(jobs, HOME="/proc")
    assert re.fullmatch(r"Submitted batch job \d+ on cluster beta\n", done.out), done.err
    assert not [name for name in set(os.listdir("/tmp")) - before if name.startswith("csbatch-")]


def test_no_place_to_write_at_all(jobs: Lab) -> None:
    """With nowhere to put the parser's configuration the job is submitted plainly."""
    before = job_ids(jobs)
    done = submit(jobs, HOME="/proc", TMPDIR="/proc", csbatch=_nowhere(jobs))
    assert_plain(jobs, done, before, "no place for the parser's configuration")


def _nowhere(lab: Lab) -> Path:
    """A csbatch whose tempfile finds no folder: Python tries /tmp, /var/tmp and the working folder after TMPDIR."""
    return _changed(lab, "nowhere", lambda package: _append(package / "slurm/sbatch.py", NOWHERE))


NOWHERE = """
import tempfile
def _no(*a, **k): raise OSError(28, "No space left on device")
tempfile.mkdtemp = _no
"""


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def _changed(lab: Lab, name: str, change: Callable[[Path], object]) -> Path:
    """A copy of the installed csbatch with something broken in it."""
    venv = lab.site / name
    shutil.rmtree(venv, ignore_errors=True)
    shutil.copytree(lab.bin.parent, venv, symlinks=True)
    change(next(venv.glob("lib/python3*/site-packages/slurm_carbon")))
    return venv / "bin/csbatch"


BROKEN: dict[str, Callable[[Path], object]] = {
    "syntax error": lambda package: _append(package / "model.py", "\nthis is no Python\n"),
    "module gone": lambda package: (package / "outlook.py").unlink(),
    "bug in a decision": lambda package: _append(package / "decide.py", "\ndef decide(*a, **k): return 1 / 0\n"),
    "bug while importing": lambda package: _append(package / "place.py", "\nraise SystemError('broken')\n"),
    "memory": lambda package: _append(package / "decide.py", "\ndef decide(*a, **k): raise MemoryError\n"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bug_of_ours(jobs: Lab, name: str) -> None:
    """A bug, a half-installed package: the job goes through, and what went wrong is said."""
    before = job_ids(jobs)
    done = submit(jobs, "--carbon-max-delay", "5h", csbatch=_changed(jobs, name.replace(" ", "-"), BROKEN[name]))
    assert_plain(jobs, done, before, "csbatch failed")


@pytest.mark.parametrize("own", [(), ("--carbon-max-delay", "6h", "--carbon-off"), ("--carbon-locations=beta",)])
def test_interpreter_missing(jobs: Lab, own: tuple[str, ...]) -> None:
    """The Python of the installation is gone: the launcher submits plainly, our own options taken out."""
    csbatch = _changed(jobs, "no-python", lambda package: None)
    for python in csbatch.parent.glob("python*"):
        python.unlink()
    before = job_ids(jobs)
    assert_plain(jobs, submit(jobs, *own, csbatch=csbatch), before, "Python .* is missing")
    dry = submit(jobs, "--carbon-dry-run", csbatch=csbatch)
    assert (dry.code, dry.out) == (1, "")


def test_environment_of_another_python(jobs: Lab) -> None:
    """PYTHONPATH with a poisoned json module and a wrong PYTHONHOME do not reach us."""
    poison = jobs.home() / "poison"
    poison.mkdir(exist_ok=True)
    for name in ("json.py", "os.py", "sitecustomize.py", "slurm_carbon.py"):
        (poison / name).write_text("raise SystemExit('poisoned')\n")
    done = submit(jobs, PYTHONPATH=str(poison), PYTHONHOME="/nonexistent", PYTHONSTARTUP=str(poison / "json.py"))
    assert re.fullmatch(r"Submitted batch job \d+ on cluster beta\n", done.out), done.err


def test_sbatch_that_hangs_while_parsing(jobs: Lab) -> None:
    """A parser that does not answer is given up after its time, and sbatch is run as it is."""
    wrapper = jobs.site / "slow-sbatch"
    wrapper.write_text('#!/bin/sh\ncase $SLURM_CONF in */parser*) exec sleep 60 ;; esac\nexec /usr/bin/sbatch "$@"\n')
    wrapper.chmod(0o755)
    before = job_ids(jobs)
    assert_plain(jobs, submit(jobs, CSBATCH_SBATCH=str(wrapper)), before, "took longer than 5 s")


def test_nothing_is_inherited_by_the_job(jobs: Lab) -> None:
    """The job's environment is the one that sbatch alone would give it: no variable more, none changed."""
    texts = {}
    for command in ("sbatch", "csbatch"):
        words = ("-t", "60", "--parsable", "-w", "alpha0", "-o", f"env-{command}", "--wrap", "env -0")
        done = jobs.run(command, *words, LANG=None, CSBATCH_MAX_DELAY="0")
        assert done.code == 0, done.err
        jobs.wait_for("alpha", done.out.strip(), "COMPLETED")
        lines = (jobs.home() / f"env-{command}").read_text().split("\0")
        texts[command] = sorted(
            line for line in lines
            if not line.startswith(("SLURM_JOB_ID=", "SLURM_JOBID=", "SLURM_TASK_PID=", "_="))
        )  # fmt: skip
    assert texts["csbatch"] == texts["sbatch"]


@pytest.mark.parametrize("python", ["present", "missing"])
@pytest.mark.parametrize("kind", ["link", "script"])
def test_sbatch_in_front_that_leads_to_us(jobs: Lab, kind: str, python: str) -> None:
    """A link or a script named sbatch that runs csbatch, first on PATH: the real one behind it is found, no loop."""
    csbatch = jobs.bin / "csbatch"
    if python == "missing":
        csbatch = _changed(jobs, "no-python", lambda package: None)
        for found in csbatch.parent.glob("python*"):
            found.unlink()
    front = jobs.site / f"front-{kind}-{python}"
    front.mkdir()
    if kind == "link":
        (front / "sbatch").symlink_to(csbatch)
    else:
        (front / "sbatch").write_text(f'#!/bin/sh\nexec {csbatch} "$@"\n')
        (front / "sbatch").chmod(0o755)
    done = jobs.run("sbatch", *JOB, PATH=f"{front}:/usr/bin:/bin", timeout=20)
    assert done.code == 0, done.err
    assert re.fullmatch(r"Submitted batch job \d+( on cluster beta)?\n", done.out)
    assert ("beta" in done.out) == (python == "present")


def test_a_wished_cluster_that_is_away(lab: Lab, without: Callable[..., None]) -> None:
    """CSBATCH_LOCATIONS names a configured cluster that did not answer the last refresh: the job is submitted."""
    outlook = lab.site / "without-beta.json"
    without("slurmctld-beta", signal.SIGKILL)
    refreshed = lab.run(lab.bin / "slurm-carbon", "outlook", "refresh", user=None, SLURM_CARBON_OUTLOOK=str(outlook))
    assert refreshed.code == 1
    assert "beta" in refreshed.err
    before = job_ids(lab)
    assert_stayed_home(lab, submit(lab, CSBATCH_LOCATIONS="beta", SLURM_CARBON_OUTLOOK=str(outlook)), before)


def test_a_wrong_location_in_the_users_file(jobs: Lab) -> None:
    """A habit that is a mistake is passed over; on the command line it is one, and nothing is submitted."""
    file = jobs.home() / ".config/slurm_carbon/config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('locations = "nowhere"\n')
    try:
        done = submit(jobs)
    finally:
        file.unlink()
    assert done.code == 0, done.err
    assert "config.toml: no location 'nowhere'" in done.err
    before = job_ids(jobs)
    wrong = submit(jobs, "--carbon-locations=nowhere")
    assert (wrong.code, wrong.out) == (255, "")
    assert "no location 'nowhere'" in wrong.err
    assert job_ids(jobs) == before


LIMITS = {
    "no process more": ("--nproc=1", "submitted as it is: cannot run"),
    "no memory for Python": (f"--as={10 << 20}", "ulimit -v"),
    "no descriptor left": ("--nofile=9", "submitted as it is"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_of_the_user(jobs: Lab, name: str) -> None:
    """What keeps our processes from starting keeps no job from its queue."""
    limit, says = LIMITS[name]
    before = job_ids(jobs)
    done = jobs.run("prlimit", limit, jobs.bin / "csbatch", *JOB, CSBATCH_VERBOSE="1")
    assert_plain(jobs, done, before, says)


@pytest.mark.parametrize("ignored", [False, True])
def test_nobody_reads_what_sbatch_prints(jobs: Lab, ignored: bool) -> None:
    """SIGPIPE ends sbatch, or does not, as with sbatch alone: by what the caller has asked for."""
    code = (
        "import os, signal, subprocess, sys\n"
        f"signal.signal(signal.SIGPIPE, signal.{'SIG_IGN' if ignored else 'SIG_DFL'})\n"
        "read, write = os.pipe(); os.close(read)\n"
        "print(subprocess.run(sys.argv[1:], stdout=write, restore_signals=False).returncode)"
    )
    codes = {
        command: jobs.run(sys.executable, "-c", code, command, *JOB).out for command in ("sbatch", str(jobs.bin / "csbatch"))
    }
    assert set(codes.values()) == {"0\n" if ignored else f"-{int(signal.SIGPIPE)}\n"}


def test_a_dry_run_in_the_script_counts_when_sbatch_cannot_parse(jobs: Lab) -> None:
    """Who has asked for nothing to be submitted gets nothing submitted, whatever else fails."""
    wrapper = jobs.site / "no-parser"
    wrapper.write_text('#!/bin/sh\ncase $SLURM_CONF in */parser*) kill -9 $$ ;; esac\nexec /usr/bin/sbatch "$@"\n')
    wrapper.chmod(0o755)
    script = jobs.site / "dry.sh"
    script.write_text("#!/bin/sh\n#CSBATCH --carbon-dry-run\n")
    script.chmod(0o755)
    before = job_ids(jobs)
    done = jobs.run("csbatch", "-t", "5", str(script), CSBATCH_SBATCH=str(wrapper))
    assert done.code != 0
    assert job_ids(jobs) == before
