"""A live slurmctld with the hook in it, what is submitted to it, and what that is compared with."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from slurm_carbon import luaform, outlook
from slurm_carbon.hook.install import block
from tests.conftest import Lab, job_fields, start_lab
from tests.hook.site import ROOT, SITE_SCRIPT, hook_folder

LUA = ROOT / "etc/lua"
JOB = "sbatch --parsable -t 2:00:00 -n 16 -o /dev/null --wrap 'sleep 0'"
ALLOWED_MS = 50  # for the noise of a busy machine: what is looked for is a hang, or reading a gigabyte
BETRAYED = "/var/tmp/slurm-carbon-betrayed"  # what code in the wrong place would make
HANGS_MS = 1000  # that no single submission may take longer
LOOP = r"""
for ((i = 0; i < {count}; i++)); do
  began=${{EPOCHREALTIME/./}}
  ({command}) >out 2>err
  code=$?
  took=$((${{EPOCHREALTIME/./}} - began))
  printf '\n\1%s %s\n\2' "$code" "$took"; cat err; printf '\n\2'
  [ $code != 0 ] || scontrol show job -d "$(cat out)"
done
"""
OF_EACH_JOB = {
    "JobId", "ArrayJobId", "JobState", "Reason", "Priority", "SubmitTime", "EligibleTime", "AccrueTime", "StartTime", "EndTime",
    "LastSchedEval", "Scheduler", "AdminComment",
}  # fmt: skip


class Submitted(NamedTuple):
    """How a submission ended."""

    code: int
    took_ms: float
    said: str
    shown: str

    @property
    def job(self) -> dict[str, str]:
        """Every field of `scontrol show job`."""
        return job_fields(self.shown)

    @property
    def plain(self) -> tuple[int, str, dict[str, str]]:
        """All that Slurm alone would make of it: without times, ids, and what is ours."""
        text = re.sub(r"( \| )?cs1 begin=.*", "", self.shown).replace(f"slurm-{self.job.get('JobId')}.out", "slurm-ID.out")
        job = {name: value for name, value in job_fields(text).items() if name not in OF_EACH_JOB}
        if not job.get("Comment"):
            job.pop("Comment", None)
        said = [line for line in self.said.splitlines() if "slurm-carbon: " not in line]
        return self.code, "\n".join(said), job

    @property
    def is_placed(self) -> bool:
        """Whether the hook has set its begin time."""
        begin, submitted = self.job["EligibleTime"], self.job["SubmitTime"]
        return begin != "Unknown" and datetime.fromisoformat(begin) - datetime.fromisoformat(submitted) > timedelta(minutes=1)

    @property
    def is_touched(self) -> bool:
        """Whether the hook has set anything at all."""
        return self.is_placed or "AdminComment" in self.job or "cs1 " in self.job.get("Comment", "")

    @property
    def outline(self) -> tuple[bool, str, str]:
        """What the hook has made of it, without the numbers, of which some change by the second."""
        record, said = (re.sub(r"[\d.]+", "", text) for text in (self.job.get("AdminComment", ""), self.said.partition("(")[0]))
        return self.is_placed, record, said


@dataclass
class Hook:
    """A cluster with the hook in its slurmctld, whose jobs all wait."""

    lab: Lab
    pid: list[Any]
    scripts: int = 0
    marker: str = ""
    alone: dict[str, list[Submitted]] = field(default_factory=dict)  # through an empty hook

    @property
    def outlook(self) -> Path:
        return self.lab.site / "hook/outlook.lua"

    @property
    def log(self) -> Path:
        return self.lab.folder / "log/slurmctld-alpha.log"

    def slurmctld(self) -> list[Any]:
        """Pid and start time."""
        pid = int((self.lab.folder / "alpha/slurmctld.pid").read_text())
        return [pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]]

    def submit(self, command: str = JOB, count: int = 5) -> list[Submitted]:
        """Submit the same thing several times, as an ordinary user, with a command line of bash."""
        done = self.lab.run("bash", "-c", LOOP.format(command=command, count=count), cwd=self.lab.home() / "work")
        assert not done.err, done.err
        found = []
        for text in done.out.split("\n\1")[1:]:
            first, said, shown = text.split("\n\2")
            code, took = map(int, first.split())
            found.append(Submitted(code, took / 1000, said, shown.strip().partition("\n\n")[0]))
        assert len(found) == count
        return found

    def install(self, loads: str) -> None:
        """Replace job_submit.lua, and have slurmctld read it: it does so when the file is younger than the last one."""
        self.scripts += 1
        self.marker = f"script {self.scripts} is loaded"
        path = self.lab.folder / "alpha/job_submit.lua"
        new = path.with_suffix(".new")
        new.write_text(f'{SITE_SCRIPT}{loads}\nslurm.log_info("%s", "{self.marker}")\nreturn slurm.SUCCESS\n')
        os.utime(new, (self.scripts, int(time.time()) - 10_000 + self.scripts))
        new.rename(path)

    def module(self, folder: Path = LUA, before: str = "") -> str:
        """The lines of `slurm-carbon hook install`."""
        return before + block("job_submit", str(folder / "slurm_carbon.lua"), str(self.outlook))

    def log_since(self, size: int) -> str:
        """What slurmctld has logged since its log had a size."""
        with self.log.open("rb") as file:
            file.seek(size)
            return file.read().decode(errors="replace")

    def ours_since(self, size: int) -> list[str]:
        """The lines among them that come from a Lua script, or are about one."""
        lines = [line for line in self.log_since(size).splitlines() if "lua" in line]
        return [line for line in lines if " is loaded" not in line and "jobs are placed again" not in line]

    def publish(self) -> None:
        """Put a good outlook in its place: by it every job waits for some hours."""
        data = good(self.lab)
        if self.outlook.is_dir() and not self.outlook.is_symlink():
            self.outlook.rmdir()
        self.outlook.unlink(missing_ok=True)
        part = self.outlook.with_suffix(".part")
        part.write_bytes(data)
        part.chmod(0o664)
        part.rename(self.outlook)


def values_of(lab: Lab) -> dict[str, Any]:
    """What stands in the Lua form: the lab's own outlook, but with hours that are all dirty now and clean later."""
    now = int(time.time())
    known = outlook.read(str(lab.outlook), now)
    zones = {}
    for name, zone in known.zones.items():
        start = now // 3600 * 3600
        zones[name] = zone._replace(start_epoch_s=start, mean_g_per_kwh=[600.0] * 4 + [50.0] * 8 + [300.0] * 60, slot_s=3600)
    prices = {location.name: {"cores": [1e-4] * 72} for location in known.locations}
    rules = known.policy._replace(max_delay_s=86400, max_delay_limit_s=7 * 86400, min_saving_g=1.0, min_saving_pct=5.0)
    made = known._replace(zones=zones, prices_g_per_h=prices, policy=rules, hook={"mode": "enforce"}, generated_epoch_s=now)
    return luaform._values(made)


def good(lab: Lab) -> bytes:
    """A whole outlook."""
    return pack(luaform.lua(values_of(lab)) + "\n")


def pack(body: str | bytes, form: int = 1, generated: int | None = None, longer: int = 0) -> bytes:
    """The body of an outlook behind a first line that fits it."""
    body = body.encode() if isinstance(body, str) else body
    first = "-- slurm-carbon outlook {} {} {:010} {:08x}\n"
    generated = int(time.time()) if generated is None else generated
    size = len(first.format(form, generated, 0, 0)) + len(body) + longer
    return first.format(form, generated, size, zlib.crc32(body)).encode() + body


KINDS = {
    "plain": JOB,
    "wishes": "CSBATCH_FINISH_BY=$(date -d '+2 days' +%Y-%m-%dT%H:%M+02:00) sbatch --parsable -o /dev/null wishes.sh",
    "an array with GPUs": "CSBATCH_FINISH_BY=$(date -d '+2 days' +%Y-%m-%d) CSBATCH_VERBOSE=1 sbatch --parsable -t 120 "
    "-a 1-20%4 --gres gpu:a100:1 -p gpu -C new --mem-per-cpu 100 -L matlab:1 -o /dev/null --wrap true",
    "a mistake": f"CSBATCH_MAX_DELAY=soon CSBATCH_FINISH_BY=now+3hours {JOB}",
    "nothing that pays": f"CSBATCH_MAX_DELAY=90m {JOB}",
}


def write_scripts(folder: Path) -> None:
    """The scripts that are submitted below."""
    lua = "]] os.execute('touch " + BETRAYED + "') --[["
    texts: dict[str, bytes | str] = {
        "bare.sh": "",
        "wishes.sh": "#SBATCH -t 120 -n 4\n#CSBATCH --carbon-max-delay=1d12h --carbon-loc alpha\n#CSBATCH --carbon-verbose\n",
        "hostile.sh": f"#SBATCH --comment='%s %n {lua}'\n#CSBATCH --carbon-locations='%s%n%1000000d'\n#CSBATCH {lua}\n"
        "#CSBATCH \"--carbon-max-delay=\n#CSBATCH --carbon-finish-by '\\\n#CSBATCH\n#CSBATCH \\",
        "bytes.sh": b"#SBATCH --comment=\xff\xfe\xc3\n#CSBATCH --carbon-locations=\xff\xfe\n#CSBATCH \xff\xfe\xc3\n",
        "long.sh": "#" * (4_000_000 - 20),
        "lines.sh": "# a comment of forty characters in all\n" * 100_000,
        "wish lines.sh": "#CSBATCH --carbon-max-delay=12h\n" * 100_000,
        "a long wish.sh": "#CSBATCH --carbon-locations=" + "x" * 60_000 + "\n",
        "a quoted wish.sh": "#CSBATCH '" + "x" * 60_000 + "\n",
        "blank wish.sh": "#CSBATCH" + " " * 60_000 + "x\n",
        "many words.sh": "#SBATCH" + " -n 1" * 2_000 + "\n",
    }
    for name, text in texts.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / name).write_bytes(b"#!/bin/sh\n" + data)
    for path in folder.iterdir():
        path.chmod(0o755)


SPACES, DIGITS, LUA_TEXT = "$(printf '%*s' 100000 x)", "$(printf '%0100000d' 1)", f"]]..os.execute[[touch {BETRAYED}]]..[["
NAMES = {
    "quotes": "$'a\\'b\"c`d'", "formats": "'%s%n%x%1000000d'", "a line more": "$'a\\nb\\rc\\td'",
    "10 kB": "$(printf '%010000d' 7)", "no UTF-8": "$'\\xff\\xfe\\xc3'", "Lua": f'"{LUA_TEXT}"', "a backslash": "'\\'",
    "signs": "$'\\1\\33[31m'", "blank": "' '",
}  # fmt: skip
LONG = {
    "100 kB of blanks": f'"1{SPACES}"', "100 kB of digits": DIGITS, "100 kB of units": "$(printf '1h%.0s' {1..50000})",
    "100 kB of commas": "$(printf 'a,%.0s' {1..50000})",
}  # fmt: skip
HOSTILE = {
    "nothing given": "sbatch --parsable bare.sh",
    "an empty environment": "env -i SLURM_CONF=$SLURM_CONF LD_PRELOAD=\"$LD_PRELOAD\" NSS_WRAPPER_PASSWD=$NSS_WRAPPER_PASSWD "
    "NSS_WRAPPER_GROUP=$NSS_WRAPPER_GROUP /usr/bin/sbatch --parsable --export=NONE bare.sh",
    "1,000 tasks": f"{JOB} -a 0-999",
    "1,000 tasks by name": f"{JOB} -a $(seq -s, 0 999)",
    "1,000 tasks in steps": f"{JOB} -a 0-999:1%7",
    "no comment space left": f"{JOB} --comment $(printf '%01024d' 7)",
    "too long a comment": f"{JOB} --comment $(printf '%01025d' 7)",
    **{f"a name of {name}": f"{JOB} -J {text}" for name, text in NAMES.items()},
    **{f"a comment of {name}": f"{JOB} --comment {text}" for name, text in NAMES.items()},
    **{f"{wish}, {name}": f"CSBATCH_{wish}={text} {JOB}" for wish in ("MAX_DELAY", "FINISH_BY", "LOCATIONS", "OFF")
       for name, text in {**NAMES, **LONG}.items()},
    "100 kB of colons": f"{JOB} --gres \"gpu$(printf ':%.0s' {{1..100000}})x\"",
    "100 kB of brackets": f"{JOB} -a \"$(printf ']%.0s' {{1..100000}})x\"",
    "100 kB of features": f"{JOB} -C \"$(printf 'new&%.0s' {{1..25000}})new\"",
    "100 kB of licences": f"{JOB} -L \"$(printf 'matlab:1,%.0s' {{1..10000}})matlab:1\"",
    "LOCATIONS, 10,000 times the same": f"CSBATCH_LOCATIONS=$(printf 'DE,%.0s' {{1..10000}}) {JOB}",
    "100 kB of GPUs": f"{JOB} --gres \"$(printf 'gpu:1,%.0s' {{1..15000}})gpu:1\"",
    "a feature of formats": f"{JOB} -C '%s%n'",
    "a partition of Lua": f"{JOB} -p \"{LUA_TEXT}\"",
    **{f"script {name}": f"sbatch --parsable -t 60 -o /dev/null '{name}'"
       for name in ("hostile.sh", "bytes.sh", "long.sh", "lines.sh", "wish lines.sh", "a long wish.sh", "a quoted wish.sh",
                    "blank wish.sh", "many words.sh")},
}  # fmt: skip


@pytest.fixture(scope="package")
def cluster(installed: Path) -> Iterator[Hook]:
    """One cluster; first every submission below through an empty hook, then with ours."""
    for lab in start_lab(installed, "hook-faults", clusters=("alpha",)):
        hook_folder(lab)
        (lab.home() / "work").mkdir()
        shutil.chown(lab.home() / "work", 20001)
        hook = Hook(lab, [])
        hook.install("")
        with (lab.folder / "alpha/site.conf").open("a") as conf:
            conf.write("JobSubmitPlugins=lua\nMaxJobCount=100000\n")
        lab.control("restart")
        for partition in ("batch", "short", "gpu"):  # jobs are taken, and none is started
            lab.run("scontrol", "update", f"partition={partition}", "state=down", user=None)
        hook.pid = hook.slurmctld()
        write_scripts(lab.home() / "work")
        hook.alone = {"job": hook.submit(count=15)}
        hook.alone |= {name: hook.submit(command, 3) for name, command in {**HOSTILE, **KINDS}.items()}
        hook.publish()
        hook.install(hook.module())
        yield hook


@pytest.fixture
def hook(cluster: Hook) -> Iterator[Hook]:
    """The hook; afterwards the outlook is good again, a job is placed again, and it is the same slurmctld still."""
    yield cluster
    cluster.publish()
    (again,) = cluster.submit(count=1)
    assert again.is_placed
    assert again.plain == cluster.alone["job"][0].plain
    assert cluster.slurmctld() == cluster.pid


def assert_as_fast(found: list[Submitted], alone: list[Submitted]) -> None:
    """As fast as through an empty hook, but for noise: what slows every submission down shows in the fastest."""
    took_ms, plain_ms = [submitted.took_ms for submitted in found], statistics.median(x.took_ms for x in alone)
    assert min(took_ms) <= 1.2 * plain_ms + ALLOWED_MS, (took_ms, plain_ms)
    assert max(took_ms) <= plain_ms + HANGS_MS, (took_ms, plain_ms)


def assert_alone(hook: Hook, says: str) -> None:
    """Several jobs, taken as by Slurm alone and as fast, and a reason in the log, once."""
    size = hook.log.stat().st_size
    found = hook.submit()
    for submitted in found:
        assert submitted.plain == hook.alone["job"][0].plain
        assert not submitted.is_touched, submitted.job
        assert submitted.said == ""
    assert_as_fast(found, hook.alone["job"])
    assert hook.slurmctld() == hook.pid
    ours = hook.ours_since(size)
    assert len(ours) == 1, ours
    assert re.search(says, ours[0]), ours
