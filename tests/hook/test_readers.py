"""What Lua reads is what Python reads: jobs from slurmctld and from sbatch's options, wishes, durations, times."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_carbon import wishes as python_wishes
from slurm_carbon.errors import UsageError
from slurm_carbon.hook.trial import literal
from slurm_carbon.model import Job
from slurm_carbon.slurm.options import job_of_options
from slurm_carbon.units import duration_s, duration_text, mass_text, parse_time
from tests.conftest import VERSIONS, Lab, start_lab
from tests.hook.site import LUAS, MODULE, run_lua

HERE = Path(__file__).parent
NOW = 1_795_000_000


def ask(tmp_path: Path, version: str, expressions: list[str]) -> list[Any]:
    """The JSON values of Lua expressions in which `c` is the module and `json` makes JSON of a job; None where it refuses."""
    path = tmp_path / "ask.lua"
    rows = "\n".join(f"function() return {expression} end," for expression in expressions)
    path.write_text(
        f'local c, json = dofile("{MODULE}"), dofile("{HERE / "serialize.lua"}")\n'
        "local function value(x) return (json({x}):match(':(.*)}$')) end\n"
        f"for _, f in ipairs({{\n{rows}\n}}) do\n"
        "  local ok, found = pcall(f)\n"
        '  if not ok and not (type(found) == "table" and found.mistake) then error(found, 0) end\n'
        '  print(ok and found or "null")\n'
        "end\n"
    )
    return [None if line == "null" else json.loads(line) for line in run_lua(version, path).splitlines()]


def job_values(job: Job) -> dict[str, Any]:
    """The fields of a job as JSON has them, without those that say nothing."""
    values = json.loads(json.dumps(job._asdict()))
    return {name: value for name, value in values.items() if value not in (None, False, [], "")}


def lua_values(found: dict[str, Any]) -> dict[str, Any]:
    """The same of what Lua has read."""
    return {name: value for name, value in found.items() if value not in (None, False, [], "")}


OPTIONS: list[dict[str, str]] = [
    {},
    {"ntasks": "4", "cpus-per-task": "2", "time": "2:00:00"},
    {"nodes": "2-4", "ntasks-per-node": "3"},
    {"nodes": "2", "ntasks": "5", "overcommit": "set"},
    {"nodes": "2k"},
    {"ntasks": "10", "ntasks-per-node": "4"},
    {"gres": "gpu:a100:2,shard:1", "nodes": "2"},
    {"gres": "gpu", "mem": "4G"},
    {"gres": "gpu:2(S:0-1)"},
    {"gpus": "a100:3", "cpus-per-gpu": "4"},
    {"gpus-per-node": "2", "nodes": "3", "mem-per-cpu": "1500"},
    {"gpus-per-task": "1", "ntasks": "6"},
    {"array": "1-10%2"},
    {"array": "1-99:7,200,300-301"},
    {"array": "[0-3]%9"},
    {"constraint": "new&ib"},
    {"constraint": "[new|old]"},
    {"constraint": "new*2"},
    {"licenses": "matlab:2,ansys"},
    {"licenses": "a|b"},
    {"exclusive": "set"},
    {"exclusive": "user"},
    {"time": "0"},
    {"time": "UNLIMITED"},
    {"time": "1-12"},
    {"time": "90"},
    {"time": "5:30"},
    {"partition": "a,b", "account": "x", "qos": "y", "comment": "z"},
    {"clusters": "alpha"},
    {"clusters": "alpha,beta"},
    {"clusters": "all"},
    {"begin": "now", "hold": "set"},
    {"wait": "set"},
    {"nodelist": "n1", "deadline": "now+3hours"},
    {"mem": "0"},
    {"mem": "0?"},
    {"mem": "512K"},
    {"nodes": "x"},
    {"mem": "much"},
    {"time": "soon"},
]


@pytest.mark.parametrize("version", LUAS)
def test_options_of_sbatch_are_read_alike(tmp_path: Path, version: str) -> None:
    """The Job of the client's hook is that of csbatch."""
    found = ask(tmp_path, version, [f"json(c.jobs.of_options({literal(options)}))" for options in OPTIONS])
    for options, values in zip(OPTIONS, found, strict=True):
        try:
            expected = job_values(job_of_options(options))
        except ValueError:
            assert values is None, options
        else:
            assert lua_values(values) == expected, options


words = st.one_of(
    st.sampled_from(
        ["90", "90m", "6h", "1d12h", "1.5h", "2d", "1-12", "1-12:30", "1:2:3", "5:30", "w", "", "h", "1h30", "-1", "1..5h"]
    ),
    st.text("0123456789dhmsw.:-", max_size=8),
)
TIMES = [
    "now", "now+3hours", "now+2", "now+1week", "now+5min", "today", "tomorrow", "noon", "midnight", "08:00",
    "23:59:59", "24:00", "8:5", "2026-11-24", "2026-11-24T08:00", "2026-11-24 08:00:30", "2026-02-30",
    "2026-11-24T08:00Z", "2026-11-24T08:00+01:00", "2026-11-24T08:00:00-05:30", "uts1795000000", "NOW+1d",
    "2028-02-29T00:00Z", "2026-11-24T08:00:00Z", "now+", "now-1", "soon", "uts", "1999-12-31", "", "2026-11-24T25:00",
]  # fmt: skip
times = st.one_of(st.sampled_from(TIMES), st.text("0123456789:-TZnow+", max_size=12))


def _or_none(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except UsageError:
        return None


@pytest.mark.parametrize("version", LUAS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(words, min_size=60, max_size=60))
def test_durations_are_read_alike(tmp_path: Path, version: str, texts: list[str]) -> None:
    """Any duration, or that it is none."""
    found = ask(tmp_path, version, [f"value(c.units.duration_s({literal(text)}))" for text in texts])
    assert [x and math.floor(x) for x in found] == [_or_none(duration_s, text) for text in texts]


@pytest.mark.parametrize("version", LUAS)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Los_Angeles"])
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(times, min_size=60, max_size=60))
def test_times_are_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, zone: str, texts: list[str]
) -> None:  # fmt: skip
    """Any time that Lua understands is the one that Python understands; of rare forms of ISO 8601 it knows fewer."""
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    found = ask(tmp_path, version, [f"value(c.units.parse_time({literal(text)}, {NOW}))" for text in texts])
    for text, value in zip(texts, found, strict=True):
        expected = _or_none(parse_time, text, NOW)
        assert value == expected or (value is None and text not in TIMES), text
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("version", LUAS)
def test_amounts_are_printed_alike(tmp_path: Path, version: str) -> None:
    """Durations and masses in the reasons are the same texts."""
    seconds = [0, 29, 30, 31, 90, 150, 3599, 3600, 86370, 90000, 1e6, -90]
    grams = [0.0, 0.1234, 12.5, 999.5, 1000, 123456, 9.99e8]
    found = ask(tmp_path, version, [f"value(c.units.duration_text({x!r}))" for x in seconds])
    assert found == [duration_text(x) for x in seconds]
    assert ask(tmp_path, version, [f"value(c.units.mass_text({x!r}))" for x in grams]) == [mass_text(x) for x in grams]


SCRIPTS = [
    "#!/bin/sh\n#CSBATCH --carbon-max-delay=6h\ntrue\n",
    "#!/bin/sh\n\n# a comment\n#CSBATCH --carbon-max-delay 6h --carbon-off\n#CSBATCH\t--carbon-max-delay=2h\ntrue\n",
    "#!/bin/sh\ntrue\n#CSBATCH --carbon-off\n",
    "#!/bin/sh\n#CSBATCH --carbon-loc='a, b' # why\n",
    '#!/bin/sh\n#CSBATCH --carbon-locations="a\\"b"\\ c\n',
    "#!/bin/sh\n#CSBATCH --carbon-of\n",
    "#!/bin/sh\n#CSBATCH --carbon-o=1\n",
    "#!/bin/sh\n#CSBATCH --carbon-off=1\n",
    "#!/bin/sh\n#CSBATCH --carbon-max-delay\n",
    "#!/bin/sh\n#CSBATCH --carbon-max-delay=soon\n",
    "#!/bin/sh\n#CSBATCH --begin=now\n",
    "#!/bin/sh\n#CSBATCH 'open\n",
    "#!/bin/sh\n#CSBATCHx --carbon-off\n",
    "#!/bin/sh\n#CSBATCH --carbon-finish-by=2026-11-24T08:00Z --carbon-explain\n",
    "#!/bin/sh\r\n#CSBATCH --carbon-off\r\ntrue\r\n",
    "",
]
ENVIRONMENTS = [
    {},
    {"CSBATCH_MAX_DELAY": " 6h "},
    {"CSBATCH_OFF": "1", "CSBATCH_LOCATIONS": "a,,b"},
    {"CSBATCH_OFF": "no"},
    {"CSBATCH_OFF": "maybe"},
    {"CSBATCH_LOCATIONS": ","},
    {"CSBATCH_FINISH_BY": "now+2hours", "CSBATCH_VERBOSE": "TRUE"},
]


def _wishes(read: Any, *arguments: Any) -> dict[str, Any] | None:
    try:
        found = read(*arguments)
    except UsageError:
        return None
    found = found[0] if isinstance(found, tuple) and not hasattr(found, "_asdict") else found
    values = found._asdict()
    values["finish_by"] = values.pop("finish_by_epoch_s")
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value is not None}


@pytest.mark.parametrize("version", LUAS)
def test_wishes_are_read_alike(tmp_path: Path, version: str) -> None:
    """#CSBATCH lines and CSBATCH_* variables say the same to both, or are mistakes to both."""
    expressions = [
        f"(function() local found, _, wrong = c.wishes.of_script({literal(s)}, {NOW}) "
        "if wrong then c.units.mistake(wrong) end return json(found) end)()"
        for s in SCRIPTS
    ]
    found = ask(tmp_path, version, expressions)
    for script, values in zip(SCRIPTS, found, strict=True):
        lines = [line.encode() + b"\n" for line in script.split("\n")]
        assert values == _wishes(python_wishes.of_script, lines, NOW), script
    expressions = [
        f"json(c.wishes.of_environment(function(name) return ({literal(e)})[name] end, {NOW}))" for e in ENVIRONMENTS
    ]  # fmt: skip
    for environment, values in zip(ENVIRONMENTS, ask(tmp_path, version, expressions), strict=True):
        assert values == _wishes(python_wishes.of_environment, environment, NOW), environment


# what slurmctld describes

WATCH = """\
local c, json = dofile("{module}"), dofile("{here}/serialize.lua")
function slurm_job_submit(description)
  local _, words = c.wishes.of_script(description.script or "", 0)
  description.admin_comment = json(c.jobs.of_description(description, words))
  return slurm.SUCCESS
end
function slurm_job_modify() return slurm.SUCCESS end
return slurm.SUCCESS
"""
COMMANDS = [
    [],
    ["-n", "4", "-c", "2", "-t", "2:00:00"],
    ["-N", "2-4", "--ntasks-per-node=3"],
    ["-N", "2", "-n", "5"],
    ["-n", "4", "-O"],
    ["-n", "10", "--ntasks-per-node=4"],
    ["--gres=gpu:a100:2"],
    ["--gres=gpu", "--mem=4G", "-p", "gpu"],
    ["--gpus=a100:2", "--cpus-per-gpu=4"],
    ["--gpus-per-node=2", "-N", "1", "--mem-per-cpu=1500"],
    ["--gpus-per-task=1", "-n", "2"],
    ["-a", "1-10%2"],
    ["-a", "1-99:7,200,300-301"],
    ["-C", "new&alpha"],
    ["-C", "[new|old]"],
    ["-L", "matlab:2"],
    ["--exclusive"],
    ["--exclusive=user"],
    ["-t", "0"],
    ["-t", "1-12"],
    ["-p", "short", "-A", "guest", "--comment=z z"],
    ["-M", "alpha"],
    ["--begin=now+1hour"],
    ["-H"],
    ["-w", "alpha1"],
    ["-x", "alpha1"],
    ["--mem=0"],
    ["-d", "singleton"],
    ["--switches=1"],
]


@pytest.fixture(scope="module", params=VERSIONS)
def watched(request: pytest.FixtureRequest, installed: Path) -> Iterator[Lab]:
    """A cluster whose hook writes down the job that it has read."""
    for lab in start_lab(installed, "read", clusters=("alpha",), version=request.param):
        folder = lab.folder / "alpha"
        module = lab.site / "lua"
        for source, target in ((MODULE.parent, module), (HERE, module / "tests")):
            for path in source.rglob("*.lua"):
                place = target / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(path.read_bytes())
        (folder / "job_submit.lua").write_text(WATCH.format(module=module / MODULE.name, here=module / "tests"))
        with (folder / "site.conf").open("a") as conf:
            conf.write("JobSubmitPlugins=lua\n")
        lab.control("restart")
        yield lab


@pytest.mark.slurm
def test_slurmctld_describes_the_job_that_csbatch_understood(watched: Lab) -> None:
    """The Job in the hook is the Job in csbatch, for every way of asking for resources."""
    explained = "import os, sys, json; from slurm_carbon.slurm import sbatch; from slurm_carbon.slurm.command import Runner; "
    explained += "f = sbatch.parser_folder(os.environ['SLURM_CONF'], os.environ); p = sbatch.read_parsed(Runner().run("
    explained += "sbatch.parse_command('sbatch', sys.argv[1:], f, None))); print(json.dumps(p.options))"
    for words in COMMANDS:
        argv = [*words, "-o", "/dev/null", "--wrap=true"]
        parsed = watched.run(watched.bin / "python3", "-I", "-c", explained, *argv)
        assert parsed.code == 0, parsed.err
        expected = job_values(job_of_options(json.loads(parsed.out)))
        done = watched.run("sbatch", *argv)
        assert done.code == 0, (words, done.err)
        found = lua_values(json.loads(watched.job("alpha", done.out.split()[3])["AdminComment"]))
        expected.setdefault("account", "lab")  # slurmctld knows the default account of the user
        assert found == expected, words
    watched.cancel_all()
