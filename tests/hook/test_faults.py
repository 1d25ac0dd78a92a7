"""Whatever fails in the hook, slurmctld lives on and takes every job as Slurm alone would, and the reason is logged once."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slurm_carbon import luaform
from tests.hook.live import (
    BETRAYED,
    JOB,
    KINDS,
    LUA,
    Hook,
    Submitted,
    assert_alone,
    assert_as_fast,
    good,
    pack,
    values_of,
)

pytestmark = pytest.mark.slurm


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
