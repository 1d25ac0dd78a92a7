"""Whatever fails in the hook, slurmctld lives on and takes every job as Slurm alone would, and the reason is logged once."""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from slurm_carbon import luaform, outlook
from slurm_carbon.hook.install import block
from tests.conftest import Lab, job_fields, start_lab
from tests.hook.conftest import ROOT, SITE_SCRIPT, hook_folder
from tests.hook.test_parity import LUAS, run_lua

pytestmark = pytest.mark.slurm

LUA = ROOT / "etc/lua"
JOB = "sbatch --parsable -t 2:00:00 -n 16 -o /dev/null --wrap 'sleep 0'"
ALLOWED_MS = 50  # for the noise of a busy machine: what is looked for is a hang, or reading a gigabyte
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


@pytest.fixture(scope="module")
def cluster(installed: Path) -> Iterator[Hook]:
    """One cluster; first every submission of this file through an empty hook, then with ours."""
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


def replaced(make: Callable[[Hook, Path, bytes], object], hook: Hook) -> None:
    """Put something else in the place of the outlook."""
    data = hook.outlook.read_bytes()
    hook.outlook.unlink()
    before = os.umask(0o002)  # slurmctld opens it as for writing
    make(hook, hook.outlook, data)
    os.umask(before)


def holds(text: bytes) -> Callable[[Hook, Path, bytes], object]:
    """A file with other contents."""
    return lambda hook, path, data: path.write_bytes(text)


def cut(tenths: int) -> Callable[[Hook, Path, bytes], object]:
    """The outlook up to some tenths of it; of ten tenths the last byte is missing."""
    return lambda hook, path, data: path.write_bytes(data[: min(len(data) * tenths // 10, len(data) - 1)])


def aged(by_s: int) -> Callable[[Hook, Path, bytes], object]:
    """The outlook of another time."""

    def make(hook: Hook, path: Path, data: bytes) -> None:
        values = values_of(hook.lab)
        values["generated"] += by_s
        path.write_bytes(pack(luaform.lua(values) + "\n", generated=values["generated"]))

    return make


def large(head: bytes) -> Callable[[Hook, Path, bytes], object]:
    """A gigabyte that begins in some way and takes no room."""

    def make(hook: Hook, path: Path, data: bytes) -> None:
        path.write_bytes(head or data)
        os.truncate(path, 1 << 30)

    return make


def unreadable(mode: int, owner: int) -> Callable[[Hook, Path, bytes], object]:
    """The good outlook, which slurmctld may not read."""

    def make(hook: Hook, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        os.chown(path, owner, owner)
        path.chmod(mode)

    return make


def fifo(mode: int) -> Callable[[Hook, Path, bytes], object]:
    """A FIFO that nobody writes to."""

    def make(hook: Hook, path: Path, data: bytes) -> None:
        os.mkfifo(path)
        path.chmod(mode)

    return make


def loop(hook: Hook, path: Path, data: bytes) -> None:
    """A link to a link to itself."""
    other = path.with_name("other")
    other.unlink(missing_ok=True)
    path.symlink_to(other)
    other.symlink_to(path)


def bound(hook: Hook, path: Path, data: bytes) -> None:
    """A socket that nobody listens at."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
    path.chmod(0o666)


OUTLOOKS: dict[str, tuple[Callable[[Hook, Path, bytes], object], str]] = {
    "missing": (lambda hook, path, data: None, "No such file"),
    "empty": (holds(b""), "no outlook of slurm-carbon"),
    **{f"cut at {tenths} tenths": (cut(tenths), "it should have") for tenths in range(1, 11)},
    "garbage": (holds(bytes(range(256)) * 40), "no outlook"),
    "random behind a good first line": (holds(pack(os.urandom(5000))), "outlook"),
    "NUL bytes": (holds(b"\0" * 5000), "no outlook"),
    "1 GB of nothing": (large(b"x"), "larger than 4 MiB"),
    "1 GB with a good beginning": (large(b""), "larger than 4 MiB"),
    "5 MB that says so": (holds(pack(b"{" + b" " * (5 << 20) + b"}\n")), "larger than 4 MiB"),
    "stale": (aged(-8 * 86400), "stale"),
    "of the future": (aged(7200), "in the future"),
    "of another format": (holds(pack("{}\n", form=2)), "it has format 2"),
    "unreadable": (unreadable(0, 0), "Permission denied"),
    "another's, unreadable": (unreadable(0o600, 20001), "Permission denied"),
    "a folder": (lambda hook, path, data: path.mkdir(), "Is a directory|no regular file"),
    "a FIFO": (fifo(0o644), "Permission denied|no regular file"),
    "a FIFO that all may write to": (fifo(0o666), "no regular file"),
    "a loop of links": (loop, "symbolic links"),
    "a link to nothing": (lambda hook, path, data: path.symlink_to("/nowhere"), "No such file"),
    "an endless device": (lambda hook, path, data: path.symlink_to("/dev/zero"), "no outlook|no regular file"),
    "a device that is full": (lambda hook, path, data: path.symlink_to("/dev/full"), "no outlook|no regular file"),
    "a terminal": (lambda hook, path, data: path.symlink_to("/dev/tty"), "outlook"),
    "a socket": (bound, "No such device"),
    "longer than it says": (lambda hook, path, data: path.write_bytes(data + b"\n"), "it should have"),
    "shorter than it says": (holds(pack("{}\n", longer=7)), "it should have"),
    "a first line alone": (holds(pack(b"")), "no table"),
    "no first line": (lambda hook, path, data: path.write_bytes(data.partition(b"\n")[2]), "no outlook"),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTLOOKS)
def test_an_outlook_that_is_none(hook: Hook, name: str) -> None:
    """A missing, broken, old, gigantic or unreadable outlook, or something else in its place."""
    make, says = OUTLOOKS[name]
    replaced(make, hook)
    assert_alone(hook, says)


BETRAYED = "/var/tmp/slurm-carbon-betrayed"
CODE = {
    "a program": f'os.execute("touch {BETRAYED}")',
    "a program in a table": f'{{generated = os.execute("touch {BETRAYED}")}}',
    "a file": f'{{io.open("{BETRAYED}", "w"):close()}}',
    "a call without brackets": f'{{[io.open"{BETRAYED}"] = 1}}',
    "an endless loop": "{} while true do end",
    "an endless function": "{(function() while true do end end)()}",
    "a text that is called": '{"x"{}}',
    "a text in brackets that is called": '{("x"):rep(1e9)}',
    "a table that is called": "{{}{}}",
    "deep nesting": "{" * 100_000 + "}" * 100_000,
    "many signs": "{" + "- " * 100_000 + "1}",
    "a comment": "{} -- os.exit()",
    "a long comment": "{--[[ ]] }",
    "long brackets": "{[[os.exit()]]}",
    "long brackets with signs": "{[==[os.exit()]==]}",
    "an escape": '{"\\65"}',
    "a text over two lines": '{"a\nb"}',
    "a single quote": "{'a'}",
    "two tables": "{},{}",
    "a number alone": "5",
    "a key that is no number": "{[1e999-1e999]=1}",
    "a megabyte of subtraction": "{" + "1-" * 500_000 + "1}",
    "an exit": "os.exit()",
    "compiled Lua": "\33Lua\x51\0\1\4\4\4\x08\0",
    "a function": "{function() end}",
    "a variable": "{generated}",
    "an assignment": "{} slurm_job_submit = 1",
}


@pytest.mark.parametrize("name", CODE)
def test_code_instead_of_data(hook: Hook, name: str) -> None:
    """Lua in the outlook is not run, and does not keep the parser busy."""
    Path(BETRAYED).unlink(missing_ok=True)
    replaced(holds(pack(CODE[name] + "\n")), hook)
    assert_alone(hook, "not pure data|no table|not plain|is no|out of range")
    assert not Path(BETRAYED).exists()


NAN, INFINITE = "1e999-1e999", "1e999"
FIELDS = [
    ("generated", "-1"), ("generated", '"1"'), ("generated", "1.5"), ("generated", NAN), ("generated", INFINITE),
    ("generated", None), ("max_age_s", INFINITE), ("max_age_s", "true"), ("policy", None), ("policy", "1"),
    ("policy max_delay_s", "-1"), ("policy max_delay_s", NAN), ("policy max_delay_limit_s", "1e300"),
    ("policy min_saving_pct", "101"), ("policy min_saving_pct", NAN), ("policy min_saving_g", INFINITE),
    ("policy delay_g_per_h", "-1"), ("policy move_clusters", "1"), ("policy move_partitions", None),
    ("policy opt_out", "{1}"), ("policy opt_out", '{["a"]="everyone"}'), ("policy left_alone", '"user:x"'),
    ("hook", None), ("hook", "{}"), ("hook mode", '"destroy"'), ("hook mode", "true"), ("hook mode", "{}"),
    ("clusters", "5"), ("clusters alpha", "1"), ("clusters alpha", '"x"'), ("clusters alpha filesystem", "1"),
    ("clusters alpha federation", "{}"), ("clusters alpha licenses", '{"x","y"}'), ("clusters alpha licenses", '{"x"}'),
    ("clusters alpha licenses", f'{{"x",{NAN}}}'), ("clusters", '{{["licenses"]={},["filesystem"]="",["federation"]=""}}'),
    ("names", "1"), ("names", "{1}"), ("partitions", "{1}"), ("partitions 0 up", '"yes"'),
    ("partitions 0 name", "1"), ("partitions 0 max_time_s", NAN), ("partitions 0 min_nodes", "-1"),
    ("partitions 0 deny_qos", None), ("partitions 0 allow_accounts", "true"), ("partitions 0 allow_qos", "{{}}"),
    ("partitions 0 shapes", "{1}"), ("partitions 0 shapes 0 cpus", NAN), ("partitions 0 shapes 0 memory_mb", "-5"),
    ("partitions 0 shapes 0 nodes", "1.5"), ("partitions 0 shapes 0 features", None),
    ("partitions 0 shapes 0 gres", '{"gpu:a100",-1}'), ("partitions 0 shapes 0 gres", f'{{"gpu:a100",{INFINITE}}}'),
    ("locations", "1"), ("locations", '{["a"]={}}'), ("locations 0 cluster", "{}"), ("locations 0 zone", '"XX"'),
    ("locations 0 pue", "0"), ("locations 0 pue", NAN), ("locations 0 watts_per_core", "-1"),
    ("locations 0 watts_per_gpu", INFINITE), ("locations 0 cores", '"1 2"'), ("locations 0 cores", f'"{"-1 " * 72}"'),
    ("locations 0 cores", "1"), ("zones", "{}"), ("zones DE", "1"), ("zones DE start", "-1"), ("zones DE slot_s", "0"),
    ("zones DE slot_s", "1e999"), ("zones DE beyond", NAN), ("zones DE captured", "1.1"), ("zones DE issued", "true"),
    ("zones DE source", "5"), ("zones DE accounting", None), ("zones DE mean", '""'), ("zones DE mean", "{}"),
    ("zones DE mean", f'"{"nan " * 72}"'), ("zones DE mean", f'"{"inf " * 72}"'), ("zones DE mean", '"1 2 x"'),
    ("zones DE mean", '"1 -2"'), ("zones DE mean", '"5001"'), ("zones DE mean", '"1e999"'), ("zones DE mean", '"0x"'),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value"), FIELDS, ids=lambda x: str(x)[:30])
def test_a_value_that_cannot_be(hook: Hook, where: str, value: str | None) -> None:
    """A field with a number out of range, none, or of another type; or missing."""
    values: Any = values_of(hook.lab)
    *path, last = where.split()
    found = values
    for word in path:
        found[int(word) if word.isdigit() else word] = copied(found[int(word) if word.isdigit() else word])
        found = found[int(word) if word.isdigit() else word]
    mark = "the value that cannot be"
    found[last] = mark if value is not None else None
    body = luaform.lua(values).replace(f'"{mark}"', str(value))
    replaced(holds(pack(body + "\n")), hook)
    assert_alone(hook, f"no job is placed: outlook {re.escape(str(hook.outlook))}: (?!.*attempt to)")


def copied(value: Any) -> Any:
    """The same, to be changed."""
    if isinstance(value, tuple | list):
        return list(value)
    return dict(value)


def test_replaced_all_the_time(hook: Hook) -> None:
    """Good and broken outlooks take turns, renamed into place or written over, while eight clients submit: no job is lost."""
    stop, turns = threading.Event(), 0
    texts = [good(hook.lab), b"", good(hook.lab)[:3000], pack("{while true do end}\n"), pack("{}\n")]

    def replace() -> None:
        nonlocal turns
        while not stop.is_set():
            text = texts[turns % len(texts)]
            if turns % 3:
                part = hook.outlook.with_suffix(".part")
                part.write_bytes(text)
                part.chmod(0o664)
                part.rename(hook.outlook)
            else:
                hook.outlook.write_bytes(text)
            turns += 1
            time.sleep(0.002)  # eight clients are to have a turn on two cores

    size = hook.log.stat().st_size
    thread = threading.Thread(target=replace)
    thread.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            command = f"cd $(mktemp -d -p .) && for i in {{1..12}}; do {JOB} || exit; done"
            loops = list(pool.map(lambda _: hook.lab.run("bash", "-c", command, cwd=hook.lab.home() / "work"), range(8)))
    finally:
        stop.set()
        thread.join()
    assert [(done.code, done.err) for done in loops] == [(0, "")] * 8
    ids = [job_id for done in loops for job_id in done.out.split()]
    assert len(set(ids)) == 96
    shown = hook.lab.run("squeue", "-h", "-a", "-o", "%A", user=None).out.split()
    assert set(ids) <= set(shown)
    assert turns > 20
    assert "jobs are left as they are" not in hook.log_since(size)


WALK = """
local M = dofile(arg[1])
for name, value in pairs(M) do
  if type(value) == "function" then print(name) end
  for inner, what in pairs(type(value) == "table" and value or {}) do
    if type(what) == "function" then print(name .. "." .. inner) end
  end
end
"""


def functions() -> list[str]:
    """All functions of the module, as Lua finds them."""
    if not shutil.which("lua5.1"):
        return []
    walk = ["lua5.1", "-", str(LUA / "slurm_carbon.lua")]
    return sorted(subprocess.run(walk, input=WALK, capture_output=True, text=True, check=True).stdout.split())


# jobs that together reach nearly all of them
KINDS = {
    "plain": JOB,
    "wishes": "CSBATCH_FINISH_BY=$(date -d '+2 days' +%Y-%m-%dT%H:%M+02:00) sbatch --parsable -o /dev/null wishes.sh",
    "an array with GPUs": "CSBATCH_FINISH_BY=$(date -d '+2 days' +%Y-%m-%d) CSBATCH_VERBOSE=1 sbatch --parsable -t 120 "
    "-a 1-20%4 --gres gpu:a100:1 -p gpu -C new --mem-per-cpu 100 -L matlab:1 -o /dev/null --wrap true",
    "a mistake": f"CSBATCH_MAX_DELAY=soon CSBATCH_FINISH_BY=now+3hours {JOB}",
    "nothing that pays": f"CSBATCH_MAX_DELAY=90m {JOB}",
}


@pytest.fixture(scope="module")
def unbroken(cluster: Hook) -> dict[str, Submitted]:
    """What the hook makes of each kind of job when nothing is wrong with it."""
    cluster.publish()
    return {name: cluster.submit(command, 1)[0] for name, command in KINDS.items()}


REACHED: dict[str, bool] = {}


@pytest.mark.parametrize("function", functions())
def test_an_error_in_a_function(hook: Hook, unbroken: dict[str, Submitted], function: str) -> None:
    """Every function of the module in turn raises an error: the job that meets it is left alone, all others are placed."""
    broken = f'function M.{function}() error("forced in {function}") end'
    hook.install(
        hook.module(before=f"local lua = dofile\nlocal function dofile(path) local M = lua(path) {broken} return M end\n")
    )
    size = hook.log.stat().st_size
    try:
        found = {name: hook.submit(command, 1)[0] for name, command in KINDS.items()}
    finally:
        hook.install(hook.module())
    log = hook.log_since(size)
    assert log.count(f"script {hook.scripts - 1} is loaded") == 1
    alone = set()
    for name, submitted in found.items():
        assert submitted.plain == hook.alone[name][0].plain
        if not submitted.is_touched:
            alone.add(name)
        else:
            assert submitted.outline == unbroken[name].outline, name
    ours = hook.ours_since(size)
    assert len(ours) == bool(alone), ours
    assert all(f"forced in {function}" in line for line in ours)
    assert_as_fast(list(found.values()), hook.alone["job"])
    REACHED[function] = bool(alone)


def test_errors_were_met() -> None:
    """Most functions that a submission can reach were reached above; the rest belong to sbatch's filter or several clusters."""
    if len(REACHED) < len(functions()):
        pytest.skip("only together with the others")
    assert sum(REACHED.values()) > 60, sorted(name for name, was in REACHED.items() if not was)


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


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_submissions(hook: Hook, name: str) -> None:
    """Slurm takes or refuses it as it would alone, and what is not ours stays as it is."""
    Path(BETRAYED).unlink(missing_ok=True)
    size = hook.log.stat().st_size
    found, alone = hook.submit(HOSTILE[name], 3), hook.alone[name]
    assert [submitted.plain for submitted in found] == [submitted.plain for submitted in alone]
    assert_as_fast(found, alone)
    assert "left as they are" not in hook.log_since(size)
    assert not Path(BETRAYED).exists()


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


MODULES: dict[str, Callable[[Path], object]] = {
    "missing": lambda folder: (folder / "slurm_carbon.lua").unlink(),
    "with a syntax error": lambda folder: _append(folder / "slurm_carbon.lua", "this is no Lua\n"),
    "that raises": lambda folder: (folder / "slurm_carbon.lua").write_text("error('broken')"),
    "cut": lambda folder: (folder / "slurm_carbon.lua").write_bytes((folder / "slurm_carbon.lua").read_bytes()[:1300]),
    "with nothing in it": lambda folder: (folder / "slurm_carbon.lua").write_text(""),
    "that returns something else": lambda folder: (folder / "slurm_carbon.lua").write_text("return {}"),
    "unreadable": lambda folder: (folder / "slurm_carbon.lua").chmod(0),
    "a folder": lambda folder: ((folder / "slurm_carbon.lua").unlink(), (folder / "slurm_carbon.lua").mkdir()),
    "without its folder": lambda folder: shutil.rmtree(folder / "slurm_carbon"),
    "without a part": lambda folder: (folder / "slurm_carbon/place.lua").unlink(),
    "with a syntax error in a part": lambda folder: _append(folder / "slurm_carbon/decide.lua", "this is no Lua\n"),
    "with an empty part": lambda folder: (folder / "slurm_carbon/place.lua").write_text(""),
    "with an empty last part": lambda folder: (folder / "slurm_carbon/hook.lua").write_text(""),
    "with a part that raises": lambda folder: _append(folder / "slurm_carbon/units.lua", "error('broken')\n"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_broken_module(hook: Hook, name: str) -> None:
    """A module that is missing, half there or broken: the site's script is loaded without it."""
    folder = hook.lab.site / "module"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(LUA, folder)
    MODULES[name](folder)
    hook.install(hook.module(folder))
    try:
        assert_alone(hook, "error: .*slurm-carbon: ")
    finally:
        hook.install(hook.module())


@pytest.mark.parametrize("mode", [0o755, 0o000])
def test_no_folder_to_look_in(hook: Hook, mode: int) -> None:
    """The folder of the outlook is away, or closed."""
    folder, aside = hook.outlook.parent, hook.outlook.parent.with_name("aside")
    if mode:
        folder.rename(aside)
    else:
        folder.chmod(0)
    try:
        assert_alone(hook, "no job is placed: ")
    finally:
        if mode:
            aside.rename(folder)
        folder.chmod(0o2755)


STOPS: dict[str, Callable[[Path], object]] = {
    "a file": lambda path: path.touch(),
    "a file that nobody may read": lambda path: (path.touch(), path.chmod(0)),
    "a folder": lambda path: path.mkdir(),
    "a FIFO": lambda path: (os.mkfifo(path), path.chmod(0o666)),
    "a loop of links": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("name", STOPS)
def test_stopped_by_an_operator(hook: Hook, name: str) -> None:
    """The file `stop` beside the outlook, whatever it is: nothing is placed until it is gone."""
    stop = hook.outlook.with_name("stop")
    STOPS[name](stop)
    try:
        assert_alone(hook, "a file `stop` beside the outlook")
    finally:
        stop.rmdir() if stop.is_dir() else stop.unlink()
    size = hook.log.stat().st_size
    assert hook.submit(count=1)[0].is_placed
    assert "the file `stop` is gone" in hook.log_since(size)


EMPTY = """
local said = {}
slurm = setmetatable({SUCCESS = 0, CLUSTER_NAME = "alpha"}, {__index = function()
  return function(form, ...) said[#said + 1] = form:format(...) end
end})
assert(loadfile(arg[1]))()
for _, description in ipairs({{}, {script = ""}, {script = "#!/bin/sh"}, {script = "", environment = {}},
    {script = "#CSBATCH", environment = setmetatable({}, {__index = function() return "" end})}}) do
  print(slurm_job_submit(description, {}, 0), slurm_job_submit(description, nil, nil), slurm_job_modify(description))
  if description.begin_time then assert(description.begin_time % 1 == 0) end
end
print(table.concat(said, "\\n"))
"""


@pytest.mark.parametrize("version", LUAS)
def test_a_job_of_which_nothing_is_known(hook: Hook, tmp_path: Path, version: str) -> None:
    """A description without any field, as no sbatch could send it, is no reason to raise anything."""
    (tmp_path / "job_submit.lua").write_text(SITE_SCRIPT + hook.module())
    (tmp_path / "empty.lua").write_text(EMPTY)
    *codes, said = run_lua(version, tmp_path / "empty.lua", tmp_path / "job_submit.lua").splitlines()
    assert [code.split() for code in codes] == [["0"] * 3] * 5
    assert " is loaded, and reads " in said
