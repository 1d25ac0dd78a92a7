"""Records and requests that were forged: nothing comes of them that their owner could not do himself with sbatch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_carbon import kept
from slurm_carbon.kept import Kept
from tests.kept.conftest import UIDS, Bench

pytestmark = pytest.mark.slurm

SCRIPT = b"#!/bin/sh\n#SBATCH -t 60\ntrue\n"
ID = "00000000000000aa"


def forged(bench: Bench, user: str = "user1", record_id: str = ID, **changes: Any) -> Path:
    """A record of a user's own making: by default of a job that nothing is wrong with."""
    login = bench.login["alpha"]
    environment = tuple(f"{name}={value}".encode() for name, value in login.items())
    environment += changes.pop("more", ())
    home = bench.lab.home(user)
    values: dict[str, Any] = {
        "id": record_id, "cluster": "alpha", "time_epoch_s": 1, "gid": UIDS[user], "umask": 0o22, "nice": 0,
        "limits": {"NOFILE": 512}, "directory": os.fsencode(home), "options": (b"-t", b"60"), "words": (),
        "environment": environment, "script": SCRIPT, **changes,
    }  # fmt: skip
    path = bench.record(record_id, user)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(kept._encode(Kept(**values)))
    path.chmod(0o600)
    for entry in (path, *list(path.parents)[:5]):
        shutil.chown(entry, UIDS[user], UIDS[user])
    return path


@pytest.fixture
def nothing_else(bench: Bench) -> Iterator[None]:
    """Only what a test has asked for is in any queue afterwards: nothing was submitted elsewhere or for somebody else."""
    yield
    for cluster in bench.lab.clusters:
        assert bench.queued(cluster) == set()


ENVIRONMENT = {
    "begin": b"SBATCH_BEGIN=now", "a wait": b"SBATCH_WAIT=1", "a reservation": b"SBATCH_RESERVATION=r",
    "the cluster": b"SBATCH_CLUSTERS=alpha", "Slurm's cluster": b"SLURM_CLUSTERS=alpha,beta",
    "a deadline": b"SBATCH_DEADLINE=now+1day", "a file of variables": b"SBATCH_EXPORT_FILE=/etc/shadow",
}  # fmt: skip
OPTIONS = {
    "another user": (b"--uid=user2",),
    "root": (b"--uid=0", b"--gid=0"),
    "root's group": (b"--gid=0",),
    "the other cluster": (b"-M", b"alpha"),
    "all clusters": (b"--clusters=all",),
    "no cluster": (b"--clusters=none",),
    "a wait": (b"--wait",),
    "a test": (b"--test-only",),
    "another begin": (b"--begin=now",),
    "a hold": (b"-H",),
    "a dependency": (b"--dependency=afterok:1",),
    "a reservation": (b"--reservation=r",),
    "a node": (b"-w", b"beta1"),
    "not a node": (b"--exclude=beta1",),
    "a deadline": (b"--deadline=now+1day",),
    "a value that swallows": (b"-J",),
    "a comment that swallows": (b"--comment",),
    "an end of the options": (b"--", b"job.sh"),
    "a script among the options": (b"job.sh",),
    "components": (b"-n1", b":", b"-n2"),
    "a command": (b"--wrap", b"echo mine"),
    "a file of variables": (b"--export-file=/etc/shadow",),
    "a file of nodes": (b"--nodefile=/etc/passwd",),
    "no option": (b"--frobnicate",),
    "help": (b"--help",),
    "a number that is none": (b"-n", b"many"),
    "ours": (b"--carbon-dry-run",),
}  # fmt: skip
SCRIPTS = {
    "a hold": b"#!/bin/sh\n#SBATCH --hold\n",
    "a cluster": b"#!/bin/sh\n#SBATCH -M alpha\n",
    "another user": b"#!/bin/sh\n#SBATCH --uid=user2\n",
    "components": b"#!/bin/sh\n#SBATCH -n1\n#SBATCH hetjob\n#SBATCH -n2\n",
    "a wait": b"#!/bin/sh\n#SBATCH -W\n",
    "no first line": b"echo\n",
    "nothing": b"",
}


@pytest.mark.usefixtures("nothing_else")
@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_tie_or_mislead(bench: Bench, name: str) -> None:
    """Certainly nothing is submitted."""
    forged(bench, options=OPTIONS[name])
    found = bench.again(ID, held=True)
    assert found.nothing, found


@pytest.mark.usefixtures("nothing_else")
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_that_tie_or_mislead(bench: Bench, name: str) -> None:
    """Certainly nothing is submitted."""
    forged(bench, options=(), script=SCRIPTS[name])
    found = bench.again(ID)
    assert found.nothing, found


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_variables_that_tie_or_mislead(bench: Bench, name: str) -> None:
    """Certainly nothing is submitted; or the job is, where and when it was asked for, as they mean nothing to this sbatch."""
    forged(bench, more=(ENVIRONMENT[name],))
    begin = bench.soon()
    found = bench.again(ID, begin_epoch_s=begin)
    assert bench.queued("alpha") == set()
    if found.nothing:
        assert bench.queued("beta") == set()
    else:
        assert bench.queued("beta") == {f"{found.job_id} user1"}
        assert bench.slurm("beta", "squeue", "-h", "-o", "%v|%k|%E") == "(null)|a copy|(null)\n"


def test_variables_that_lead_elsewhere(bench: Bench) -> None:
    """Another configuration, another sbatch, another working cluster, our own words: the job comes to beta."""
    fake = bench.lab.home() / "bin/sbatch"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text("#!/bin/sh\ntouch /var/tmp/slurm-carbon-betrayed; echo 1\n")
    fake.chmod(0o755)
    more = (
        f"SLURM_CONF={bench.lab.folder}/alpha/slurm.conf", "SLURM_CONF_SERVER=localhost:1", "SLURM_TIME_FORMAT=%s",
        "TZ=Asia/Tokyo", f"PATH={fake.parent}", f"CSBATCH_SBATCH={fake}", "SLURM_WORKING_CLUSTER=alpha:127.0.0.1:1:9728:109",
        "SBATCH_PARTITION=short", "PYTHONPATH=/var/tmp", "PYTHONSTARTUP=/etc/shadow", "SLURM_JOB_ID=5",
    )  # fmt: skip
    forged(bench, more=tuple(word.encode() for word in more))
    begin = bench.soon()
    found = bench.again(ID, begin_epoch_s=begin)
    assert bench.queued("beta") == {f"{found.job_id} user1"}
    assert bench.queued("alpha") == set()
    assert bench.job("beta", found.job_id)["Partition"] == "batch"
    assert not Path("/var/tmp/slurm-carbon-betrayed").exists()


BROKEN: dict[str, dict[str, Any]] = {
    "no script and no command": {"script": None},
    "a folder that is not his": {"directory": b"/root"},
    "no folder": {"directory": b"/nonexistent"},
    "a descriptor of ours": {"words": (b"/dev/fd/1", b"x")},
    "a descriptor of any number": {"words": (b"/proc/self/fd/99999",)},
    "another group": {"gid": 0},
    "no variable": {"environment": (b"=x",)},
    "another id": {"id": "00000000000000ab"},
}


@pytest.mark.usefixtures("nothing_else")
@pytest.mark.parametrize("name", BROKEN)
def test_records_that_make_no_sense(bench: Bench, name: str) -> None:
    """Certainly nothing is submitted."""
    forged(bench, **BROKEN[name])
    found = bench.again(ID)
    assert found.nothing, found


@pytest.mark.usefixtures("nothing_else")
def test_files_that_are_no_record(bench: Bench) -> None:
    """Links, pipes, folders, files of others, open to others, too large, broken, or none at all."""
    path = forged(bench)
    good = path.read_bytes()
    others = forged(bench, "user2")

    def put(data: bytes, mode: int = 0o600) -> None:
        path.write_bytes(data)
        path.chmod(mode)
        shutil.chown(path, 20001, 20001)

    changes = {
        "a link": lambda: path.symlink_to(bench.lab.folder / "munge/key"),
        "a link to another's": lambda: path.symlink_to(others),
        "another's": lambda: os.link(others, path),
        "root's": lambda: path.write_bytes(good),
        "a pipe": lambda: os.mkfifo(path),
        "a folder": path.mkdir,
        "open to others": lambda: put(good, 0o622),
        "large": lambda: put(good + b"x" * (2 << 20)),
        "cut": lambda: put(good[:-1]),
        "longer": lambda: put(good + b"\0"),
        "empty": lambda: put(b""),
        "another format": lambda: put(good.replace(b'record":1', b'record":2')),
        "deep": lambda: put(b"[" * 100_000),
        "none": lambda: None,
    }
    for name, change in changes.items():
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        change()
        found = bench.again(ID)
        assert found.nothing, (name, found)
        assert "Traceback" not in found.said
    path.unlink(missing_ok=True)


@pytest.mark.usefixtures("nothing_else")
def test_requests_that_are_not_sound(bench: Bench) -> None:
    """Ids that are paths, users that are others, are gone or have no home, places that are none."""
    forged(bench)
    forged(bench, "user2")
    for changes in (
        {"mark_id": f"../{ID[:2]}/{ID}"}, {"mark_id": "/etc/passwd"}, {"mark_id": ""},
        {"mark_id": ID.upper()[:15] + "A"},
        {"user": "user2"}, {"user": "nobody"}, {"uid": 4_000_000_000 - 5}, {"uid": 20003, "user": "user3"}, {"uid": -1},
        {"uid": True},
        {"user": "nobody", "uid": 65534}, {"cluster": ""}, {"partition": ""}, {"cluster": "alpha"},
        {"slurm_conf": "slurm.conf"},
        {"slurm_conf": f"{bench.lab.folder}/alpha/slurm.conf"}, {"slurm_conf": "/nonexistent/slurm.conf"}, {"held": 1},
        {"records": "submissions"}, {"records": "/nonexistent/%u"}, {"comment": "a\0b"}, {"begin_epoch_s": 1.5},
        {"records": f"{bench.lab.home('user2')}/.local/state/slurm_carbon/submissions"},
    ):  # fmt: skip
        found = bench.ask({**bench.request(ID), **changes})
        assert found.nothing, (changes, found)
        assert "Traceback" not in found.said


@pytest.mark.usefixtures("nothing_else")
def test_users_by_what_the_system_knows_of_them(bench: Bench) -> None:
    """Gone, given another number, without a home: each time certainly nothing is submitted."""
    forged(bench)
    passwd = bench.lab.folder / "etc/passwd"
    text = passwd.read_text()
    line = text.splitlines()[0]
    assert line.startswith("user1:")
    for other in ("", line.replace("20001:20001", "20009:20001"), line.replace(str(bench.lab.home()), ""),
                  line.replace(str(bench.lab.home()), "/nonexistent")):  # fmt: skip
        copy = bench.lab.site / "passwd"
        copy.write_text(text.replace(line, other))
        found = bench.ask(bench.request(ID), passwd=copy)
        assert found.nothing, (other, found)


def test_another_partition_or_account_is_refused_for_certain(bench: Bench) -> None:
    """The controller has said so."""
    forged(bench, options=(b"-A", b"nobodys"))
    found = bench.again(ID)
    assert (found.code, found.job_id, found.certain) == (1, None, True)
    forged(bench)
    found = bench.again(ID, partition="nowhere")
    assert (found.code, found.job_id, found.certain) == (1, None, True)


def test_what_is_not_known_is_not_called_certain(bench: Bench) -> None:
    """A controller that hangs: the process ends itself in time, and the job may be there all the same."""
    forged(bench)
    pid = int((bench.lab.folder / "beta/slurmctld.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        found = bench.again(ID, limit=2)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (found.code, found.job_id, found.certain) == (-signal.SIGALRM, None, False)


def test_quiet_is_refused(bench: Bench) -> None:
    """sbatch would not name the job, and whoever asked would have to look for it."""
    forged(bench, options=(b"-Q",))
    found = bench.again(ID)
    assert (found.code, found.job_id, found.certain) == (70, None, True)
    assert "--quiet" in found.said
    assert len(bench.queued("beta")) == 0


SPY = """#!/bin/bash
out={out}.$$
cat /proc/self/status >$out.status
ls -l /proc/self/fd >$out.descriptors
cp /proc/self/environ $out.environment
ps -o sid=,pid=,tty= -p $$ >$out.session
readlink /proc/self/cwd >$out.folder
exec /usr/bin/sbatch "$@"
"""


def test_nothing_of_root_is_left(bench: Bench) -> None:
    """What sbatch is started with: the owner's ids, groups and variables, no rights, descriptors or terminal of root's."""
    forged(bench, more=(b"MINE=of the owner",))
    folder = bench.lab.site / "spied"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    spy = bench.lab.site / "spy"
    spy.write_text(SPY.format(out=folder / "x"))
    spy.chmod(0o755)
    found = bench.ask(bench.request(ID), CSBATCH_SBATCH=str(spy), SECRET="of root", SLURM_CARBON_CONFIG="/root/x")
    assert found.job_id, found
    calls = sorted({path.stem for path in folder.iterdir()})
    assert len(calls) == 3  # what was recorded; with ours; the submission
    for call in calls:
        status = dict(line.split(":", 1) for line in (folder / f"{call}.status").read_text().splitlines())
        assert status["Uid"].split() == ["20001"] * 4
        assert status["Gid"].split() == ["20001"] * 4
        assert status["Groups"].split() == ["20001"]
        assert [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")] == [0, 0, 0]
        the_c_librarys = 3 << 31  # two signals that nobody else can set
        assert [int(status[name], 16) & ~the_c_librarys for name in ("SigBlk", "SigIgn")] == [0, 0]
        descriptors = (folder / f"{call}.descriptors").read_text()
        targets = {line.partition(" -> ")[2] for line in descriptors.splitlines() if " -> " in line}
        of_ls = (str(folder), f"{bench.lab.folder}/etc/", "/proc/")  # and of the table of users that exists only here
        others = {target for target in targets if not target.startswith(of_ls)}
        assert all(target.startswith(("/dev/null", "/memfd:", "pipe:")) for target in others), descriptors
        environment = (folder / f"{call}.environment").read_bytes()
        assert b"MINE=of the owner" in environment
        assert b"of root" not in environment
        assert b"/root/x" not in environment
        session, _, terminal = (folder / f"{call}.session").read_text().split()
        assert terminal == "?"
        assert session != str(os.getsid(0))
        assert (folder / f"{call}.folder").read_text() == f"{bench.lab.home()}\n"
    shutil.rmtree(folder)


def test_none_of_his_libraries_is_loaded(bench: Bench) -> None:
    """sbatch finds those of the system, though LD_LIBRARY_PATH leads to others, and the job gets the variable."""
    folder = bench.lab.home() / "lib"
    folder.mkdir(exist_ok=True)
    (folder / "libc.so.6").write_text("no library")
    forged(bench, more=(f"LD_LIBRARY_PATH={folder}".encode(),))
    found = bench.again(ID)
    assert found.job_id, found
    assert f"LD_LIBRARY_PATH={folder}".encode() in bench.environment("beta", found.job_id)
    assert not bench.again(ID, as_user="user1").job_id  # sbatch, run by himself, cannot even start
    shutil.rmtree(folder)


def test_what_loads_in_other_ways_is_left_to_himself(bench: Bench) -> None:
    """Root runs no sbatch with it, unless it is root's own; its owner may."""
    library = bench.lab.home() / "evil.so"
    library.write_text("no library")
    home = bench.lab.home()
    for entry in (
        *(
            f"LD_PRELOAD={library}",
            f"LD_PRELOAD=/usr/lib/os-release {library}",
            "LD_PRELOAD=./evil.so",
            "LD_PRELOAD=/$LIB/x.so",
        ),
        *(f"LD_AUDIT={library}", f"GCONV_PATH={home}", "LUA_PATH=/x/?.lua", "LUA_CPATH_5_4=/x/?.so"),
    ):
        forged(bench, more=(entry.encode(),))
        found = bench.again(ID)
        assert found.nothing, (entry, found)
        assert "only by its owner" in found.said
    found = bench.again(ID, as_user="user1")
    assert bench.queued("beta") == {f"{found.job_id} user1"}
    for entry in ("LD_PRELOAD=libm.so.6", "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libm.so.6", "GCONV_PATH=/usr/lib", "LD_AUDIT="):
        forged(bench, more=(entry.encode(),))
        found = bench.again(ID)
        assert found.job_id, (entry, found)
        assert entry.encode() in bench.environment("beta", found.job_id)


def test_a_terminal_is_left_behind(bench: Bench) -> None:
    """Who was started in a session that he cannot leave refuses to go on."""
    code = "import os, runpy; os.setpgid(0, 0); runpy.run_module('slurm_carbon.owner', run_name='__main__')"
    request = {**bench.request(ID, "root"), "limit_s": 5}
    done = subprocess.run(
        [bench.lab.bin / "python3", "-I", "-c", code],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 70
    assert b"PermissionError" in done.stderr


def test_a_record_that_changes_while_it_is_used(bench: Bench) -> None:
    """It is read once: what is submitted is one of the two that it was, whole, whatever comes between."""
    path = forged(bench)
    other = path.with_name("other")
    forged(bench, record_id="00000000000000bb", options=(b"-t", b"60", b"-H"))
    shutil.copy(bench.record("00000000000000bb"), other)
    first = path.read_bytes()
    code = (
        "import os, sys\nwhile True:\n for data in sys.argv[2:]:\n"
        "  open(sys.argv[1] + '.x', 'wb').write(bytes.fromhex(data)); os.chown(sys.argv[1] + '.x', 20001, 20001)\n"
        "  os.chmod(sys.argv[1] + '.x', 0o600); os.rename(sys.argv[1] + '.x', sys.argv[1])"
    )
    hostile = other.read_bytes().replace(b"00bb", b"00aa", 1)
    swapping = subprocess.Popen(["/usr/bin/python3", "-c", code, path, first.hex(), hostile.hex()])
    try:
        found = [bench.again(ID) for _ in range(6)]
    finally:
        swapping.kill()
        swapping.wait()
    for outcome in found:
        assert outcome.nothing or outcome.job_id, outcome
    submitted = {f"{outcome.job_id} user1" for outcome in found if outcome.job_id}
    assert bench.queued("beta") == submitted
    for outcome in found:
        if outcome.job_id:
            assert bench.job("beta", outcome.job_id)["Priority"] != "0"
