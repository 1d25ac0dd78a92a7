"""Whatever a user submits, and however broken the module is, slurmctld takes the job as it would without us."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hook.live import (
    BETRAYED,
    HOSTILE,
    LUA,
    Hook,
    assert_alone,
    assert_as_fast,
)
from tests.hook.site import LUAS, SITE_SCRIPT, run_lua

pytestmark = pytest.mark.slurm


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
