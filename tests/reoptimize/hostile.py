"""A scene of two real clusters on which all that a hostile user can write meets a root reoptimizer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from slurm_carbon import kept
from slurm_carbon.kept import Kept
from tests.conftest import Done, Lab

HOUR_S = 3600
BEGIN_S, LATEST_S = 6 * HOUR_S, 20 * HOUR_S  # from the start of the scene
UIDS = {"user1": 20001, "user2": 20002}
FLOOD = 500  # jobs with forged ids of moves
TASKS = 1000  # of each of two arrays
EXPLAINED = ("name of lines", "name of escapes", "name of bytes", "comment of control characters")
RECORDS = ".local/state/slurm_carbon/submissions"
FIGURES, PLACES = "g=500 base=900 kwh=1", "id={id} in=alpha/batch,beta/batch"
GOOD = f"cs1 begin={{begin}} latest={{latest}} at=alpha/batch {FIGURES} {PLACES}"
# submits as the user whose shell it is: a list of (key, words, more environment) on stdin; what became of each on stdout
SUBMIT = """
import json, os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
def one(job):
    key, words, more = job
    env = {os.fsencode(k): os.fsencode(v) for k, v in {**os.environ, **more}.items()}
    done = subprocess.run([os.fsencode(w) for w in words], env=env, capture_output=True, stdin=subprocess.DEVNULL)
    return key, [done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)]
with ThreadPoolExecutor(3) as pool:
    print(json.dumps(dict(pool.map(one, json.load(sys.stdin)))))
"""
# changes his own jobs and records for as long as it lives: KIND=NUMBER words, then record, good text, bad text, a canary
RACE = """
import os, subprocess, sys, time
def do(*words):
    subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
*flips, record, canary = sys.argv[1:]
jobs = dict(word.split("=") for word in flips)
good = open(record, "rb").read()
turn = 0
while os.getppid() != 1:
    turn += 1
    do("scontrol", "uhold" if turn % 2 else "release", jobs["flip hold"])
    do("scontrol", "update", f"jobid={jobs['flip comment']}", f"comment=turn {turn} | cs1 off")
    do("scontrol", "update", f"jobid={jobs['flip start']}", f"starttime=now+{turn % 9 + 3}hours")
    do("scontrol", "release", jobs["flip release"])
    if turn == 6:
        do("scancel", jobs["flip cancel"])
    for kind in range(3):
        new = record + ".new"
        if kind == 1:
            os.symlink(canary, new)
        else:
            with open(new, "wb") as file:
                file.write(good if kind == 0 else good.replace(b"-t\\0", b"-Q\\0", 1))
            os.chmod(new, 0o600)
        os.rename(new, record)
    time.sleep(0.02)
"""
SCRIPT = """#!/bin/bash
echo "{key}|$UID|$SLURM_CLUSTER_NAME|$SLURM_JOB_ID" >> {witness}/ran
"""


class Case(NamedTuple):
    """One job of the hostile user. Texts may have {begin}, {latest}, {id} and the names of Scene.words in them."""

    does: str
    comment: str = "{good}"
    options: tuple[str, ...] = ()  # of the submission, and of the record too
    environment: dict[str, str] = {}  # noqa: RUF012  # of both
    record: dict[str, Any] | None = {}  # noqa: RUF012  # what is forged in it; None: there is none
    recorded: tuple[str, ...] = ()  # options and variables that only the record has
    variables: dict[str, str] = {}  # noqa: RUF012
    spoil: Callable[[Scene, Path], None] | None = None  # what is done to the record's file
    submitted: Callable[[Scene, str], None] | None = None  # what is done to the job
    goes: bool | None = None  # False: it must not come to the other cluster. True: if that is tried, it must succeed
    lives: tuple[int, ...] = (1,)  # how many of it there are in the end; none only by his own doing
    held: bool = False  # it may be held in the end: not by us
    second: bool = False  # submitted only before the second run: it spoils what else its owner has in the same run
    later: bool = False  # its start may lie far ahead, by his own wish


@dataclass
class Scene:
    """Two clusters, an innocent user2, a hostile user1, and the runs of a reoptimizer who is root."""

    lab: Lab
    began_epoch_s: int = 0
    words: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)  # number on alpha, by the key of the case
    refused: dict[str, str] = field(default_factory=dict)  # that sbatch did not take
    innocent: dict[str, tuple[str, str]] = field(default_factory=dict)  # cluster and number of user2's jobs, by name
    before: dict[str, dict[str, str]] = field(default_factory=dict)  # those as they were
    ticks: list[tuple[Done, float]] = field(default_factory=list)  # with seconds
    shown: dict[str, Done] = field(default_factory=dict)  # what users were shown
    environment: tuple[bytes, ...] = ()
    flooded: dict[str, str] = field(default_factory=dict)  # number of each job of the flood

    @property
    def witness(self) -> Path:
        """Where whatever runs for user1 leaves its uid."""
        return self.lab.site / "witness"

    @property
    def evil(self) -> Path:
        """user1's own libraries, programs and modules."""
        return self.lab.home() / "evil"

    @property
    def secret(self) -> Path:
        """A file of root's that nobody else may read."""
        return self.lab.site / "vault" / "secret"

    @property
    def others_secret(self) -> Path:
        """A file of user2's that nobody else may read."""
        return self.lab.home("user2") / "private" / "secret"

    @property
    def ledger(self) -> Path:
        return self.lab.site / "ledger" / "ledger.sqlite"

    def fill(self, text: str) -> str:
        """A text with the names in it replaced."""
        for _ in range(2):
            text = re.sub(r"\{(\w+)\}", lambda found: self.words.get(found[1], found[0]), text)
        return text

    # the site

    def forecast(self, alpha_h: int, beta_h: int) -> None:
        """Each cluster is clean for four hours, so many hours after the start; beta is much the cleaner one."""
        for cluster, dip, grams in (("alpha", alpha_h, 300), ("beta", beta_h, 40)):
            first = self.began_epoch_s // HOUR_S * HOUR_S
            rows = [f"{first + h * HOUR_S},{grams if dip <= h < dip + 4 else 600}" for h in range(-2, 24 * 8)]
            (self.lab.site / f"{cluster}.csv").write_text("start,g_per_kwh\n" + "\n".join(rows) + "\n")
        self.lab.refresh()

    def configure(self) -> None:
        """Two clusters that share files; beta has a partition that is root's alone."""
        lab = self.lab
        now = int(lab.run("date", "+%s").out)
        self.began_epoch_s = (now // HOUR_S + 1) * HOUR_S + 60
        lab.jump_to(self.began_epoch_s)
        closed = ("PartitionName=closed", "Nodes=beta[0-3]", "AllowGroups=root", "State=UP", "MaxTime=7-0")
        assert lab.run("scontrol", "create", *closed, user=None, cluster="beta").code == 0
        head = "[outlook]" + lab.config.read_text().partition("[outlook]")[2].partition("\n[")[0]
        tables = "".join(
            f'[zones.{c}]\nsources = ["file"]\nfile = "{lab.site}/{c}.csv"\n'
            f'[clusters.{c}]\nzone = "{c}"\nfilesystem = "home"\nslurm_conf = "{lab.folder}/{c}/slurm.conf"\npue = 1.5\n'
            + "".join(f"[clusters.{c}.partitions.{p}]\n" for p in partitions)
            for c, partitions in (("alpha", ("batch", "short")), ("beta", ("batch", "closed", "short")))
        )
        lab.config.write_text(f'{head}\n[reoptimize]\nmode = "enforce"\nsolver_time = "2s"\n{tables}')
        self.forecast(5, 30)
        self.words = {
            "begin": str(self.began_epoch_s + BEGIN_S),
            "latest": str(self.began_epoch_s + LATEST_S),
            "vast": "9" * 15,
        }

    def lay_out(self) -> None:
        """Canaries, and all that user1 prepares in his home."""
        self.witness.mkdir()
        self.witness.chmod(0o1777)
        for path, uid in ((self.secret, 0), (self.others_secret, UIDS["user2"])):
            path.parent.mkdir()
            name = "root" if uid == 0 else "user2"
            path.write_text(f"canary-of-{name}-{os.urandom(8).hex()}\n")
            for entry, mode in ((path, 0o600), (path.parent, 0o700)):
                entry.chmod(mode)
                os.chown(entry, uid, uid)
        for name in ("bin", "python", "python/slurm_carbon", "lua", "lib"):
            (self.evil / name).mkdir(parents=True)
        note = f'echo "$0 $UID $EUID" >> {self.witness}/evil'
        (self.evil / "rc").write_text(note + "\n")
        for name in ("sbatch", "squeue", "scontrol", "sacct", "scancel", "id", "sh", "env", "python3", "slurm-carbon"):
            program = self.evil / "bin" / name
            program.write_text(f'#!/bin/bash\n{note}\nexec /usr/bin/{name} "$@"\n')
            program.chmod(0o755)
        code = f"import os\nopen('{self.witness}/evil', 'a').write(f'python {{os.getuid()}} {{os.geteuid()}}\\n')\n"
        for name in ("sitecustomize.py", "usercustomize.py", "slurm_carbon/__init__.py", "json.py"):
            (self.evil / "python" / name).write_text(code)
        for name in ("json", "posix", "cli_filter"):
            (self.evil / "lua" / f"{name}.lua").write_text(f"os.execute('/bin/bash {self.evil}/rc')\n")
        self.compile()
        (self.evil / "slurm.conf").write_text(
            f"include {self.lab.folder}/beta/slurm.conf\nCliFilterPlugins=cli_filter/lua\n"
            f"PlugStackConfig={self.evil}/plugstack\n"
        )
        (self.evil / "plugstack").write_text(f"required {self.evil}/lib/libc.so.6\n")
        (self.evil / "passwd").write_text("user1:x:0:0::/root:/bin/bash\nroot:x:20001:20001::/:/bin/sh\n")
        (self.evil / "root").symlink_to("/root")
        (self.evil / "odd 'dir' $(id)\n%u").mkdir()
        for folder, names, files in os.walk(self.evil):
            for name in (".", *names, *files):
                os.chown(Path(folder) / name, UIDS["user1"], UIDS["user1"], follow_symlinks=False)

    def compile(self) -> None:
        """A library that notes who loads it."""
        source = self.evil / "evil.c"
        source.write_text(
            "#include <stdio.h>\n#include <unistd.h>\n__attribute__((constructor)) static void loaded(void) {\n"
            f' FILE *f = fopen("{self.witness}/evil", "a"); if (!f) return;\n'
            ' fprintf(f, "library %d %d\\n", getuid(), geteuid()); fclose(f); }\n'
        )
        library = self.evil / "lib" / "libc.so.6"
        if shutil.which("gcc"):
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
        else:
            library.write_text("no library")

    # jobs

    def submit_innocent(self) -> None:
        """Jobs of user2 in all states, that no run may touch, and two that it shall move."""
        begin = ("--begin", f"uts{self.began_epoch_s + BEGIN_S}")
        mark = self.fill(GOOD)
        asked = {
            "plain": begin,
            "off": (*begin, "--comment", "mine | cs1 off"),
            "held": (*begin, "-H", "--comment", mark),
            "admin": (*begin, "--comment", mark),
            "array": (*begin, "-a", "1-5"),
            "running": ("-t", "600"),
        }
        jobs = [
            [
                name,
                ["sbatch", "--parsable", "-o", "/dev/null", "-t", "30", "--mem=100", "-J", name, *words, "--wrap", "sleep 900"],
                {},
            ]
            for name, words in asked.items()
        ]
        for name, number in self.submit(jobs, "user2").items():
            self.innocent[name] = "alpha", number
        held = self.lab.run("scontrol", "hold", self.innocent["admin"][1], user=None)
        assert held.code == 0, held
        [then] = self.submit(
            [["then", [*jobs[0][1][:7], "-J", "then", "-d", f"afterany:{self.innocent['plain'][1]}", "--wrap", "true"], {}]],
            "user2",
        ).values()
        self.innocent["then"] = "alpha", then
        self.lab.wait_for("alpha", self.innocent["running"][1], "RUNNING")

    def submit_mover(self, name: str) -> str:
        """A job of user2's that shall come to beta; its number."""
        limits = {"CSBATCH_MAX_DELAY": "20h", "CSBATCH_LOCATIONS": "alpha/batch,beta/batch"}
        words = ("--parsable", "-t", "30", "--mem=100", "-o", "/dev/null", "-J", name, "--wrap", "sleep 1")
        done = self.lab.run(self.lab.bin / "csbatch", *words, user="user2", **limits)
        assert done.code == 0, done
        return done.out.strip().partition(";")[0]

    def submit(self, jobs: list[list[Any]], user: str = "user1") -> dict[str, str]:
        """Submit on alpha; the numbers by key. What sbatch refuses is noted."""
        done = self.lab.run("/usr/bin/python3", "-I", "-c", SUBMIT, user=user, stdin=json.dumps(jobs), timeout=120)
        assert done.code == 0, done
        numbers = {}
        for key, (code, out, err) in json.loads(done.out).items():
            if code == 0:
                numbers[key] = out.strip().partition(";")[0]
            else:
                self.refused[key] = err
        return numbers

    def forge(self, key: str, case: Case, number: int) -> str:
        """The record of a case; its id."""
        record_id = f"{0xBAD << 52 | number:016x}"
        path = self.lab.home() / RECORDS / record_id[:2] / record_id
        path.parent.mkdir(parents=True, exist_ok=True)
        script = self.script(key)
        more = {**case.environment, **case.variables}
        environment = [entry for entry in self.environment if entry.split(b"=")[0].decode() not in more]
        environment += [os.fsencode(self.fill(f"{name}={value}")) for name, value in more.items()]
        options = ("-t", "30", "--mem=100", "-o", "/dev/null", *case.options, *case.recorded)
        values: dict[str, Any] = {
            "id": record_id, "cluster": "alpha", "time_epoch_s": 1, "gid": UIDS["user1"], "umask": 0o22, "nice": 0,
            "limits": {"NOFILE": 1024}, "directory": os.fsencode(self.lab.home()),
            "options": tuple(os.fsencode(self.fill(word)) for word in options), "words": (os.fsencode(script),),
            "environment": tuple(environment), "script": script.read_bytes(),
        }  # fmt: skip
        for name, value in (case.record or {}).items():
            filled = value
            if isinstance(value, str):
                filled = os.fsencode(self.fill(value))
            elif isinstance(value, tuple):
                filled = tuple(os.fsencode(self.fill(word)) for word in value)
            values[name] = filled
        if case.record is not None:
            path.write_bytes(kept._encode(Kept(**values)))
            path.chmod(0o600)
        entry = path
        while entry != self.lab.home():
            if entry.exists():
                os.chown(entry, UIDS["user1"], UIDS["user1"])
            entry = entry.parent
        if case.spoil:
            case.spoil(self, path)
        return record_id

    def script(self, key: str) -> Path:
        """The script of a case, which tells that it has run."""
        path = self.lab.home() / "jobs" / f"{re.sub(r'[^a-z0-9]', '-', key)}.sh"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(SCRIPT.format(key=key, witness=self.witness))
            path.chmod(0o755)
            for entry in (path, path.parent):
                os.chown(entry, UIDS["user1"], UIDS["user1"])
        return path

    def submit_hostile(self, cases: dict[str, Case]) -> None:
        """Jobs of user1, and what he does to them."""
        jobs: list[list[Any]] = []
        for number, (key, case) in enumerate(cases.items(), len(self.jobs)):
            self.words["id"] = self.forge(key, case, number)
            self.words["good"] = self.fill(GOOD)
            comment = self.fill(case.comment)
            words = [
                *("/usr/bin/sbatch", "--parsable", "-t", "30", "--mem=100", "-o", "/dev/null"),
                f"--begin=uts{self.words['begin']}",
                *(self.fill(word) for word in case.options),
                f"--comment={comment}",
                str(self.script(key)),
            ]
            more = {name: self.fill(value) for name, value in case.environment.items()}
            jobs.append([key, words, more])
        self.jobs |= self.submit(jobs)
        for key, case in cases.items():
            if case.submitted:
                case.submitted(self, self.jobs[key])

    def flood(self) -> None:
        """Very many jobs that all say that they are on their way to another cluster."""
        script = str(self.script("flood"))
        mark = GOOD.replace("{id}", "f" * 16)
        words = [
            "/usr/bin/sbatch",
            "--parsable",
            "-t",
            "1",
            "--mem=100",
            "-o",
            "/dev/null",
            f"--begin=uts{self.words['begin']}",
        ]
        self.flooded = self.submit([
            [f"flood {n}", [*words, f"--comment={self.fill(mark)} mv={n + 1:016x}", script], {}] for n in range(FLOOD)
        ])  # fmt: skip

    # runs

    def tick(self, *words: str) -> None:
        """One run by root, whose environment has a secret."""
        before = time.monotonic()
        secret = self.secret.read_text().strip()
        done = self.lab.run(self.lab.bin / "slurm-carbon", "reoptimize", *words, user=None, timeout=240, SECRET_OF_ROOT=secret)
        self.ticks.append((done, time.monotonic() - before))

    def show(self) -> None:
        """What users and root are shown of all this."""
        tool = self.lab.bin / "slurm-carbon"
        self.shown["user1"] = self.lab.run(tool, "queue", user="user1")
        self.shown["user2"] = self.lab.run(tool, "queue", user="user2")
        self.shown["root"] = self.lab.run(tool, "queue", "--all", user=None)
        for key, number in self.jobs.items():
            if key in EXPLAINED:
                self.shown[f"explain {key}"] = self.lab.run(tool, "explain", "-M", "alpha", number, user=None)
