"""Installing the hook: the site's scripts keep their code, nothing broken takes their place, and all goes away again."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_carbon import __version__
from slurm_carbon.errors import HookError
from slurm_carbon.hook import install
from slurm_carbon.hook.interpreter import Interpreter, library_of
from tests.hook.site import MODULE, SITE_SCRIPT


@pytest.fixture(scope="module")
def lua() -> Interpreter:
    """The Lua that Slurm links."""
    try:
        return Interpreter(library_of())
    except HookError as error:
        pytest.skip(str(error))


LINES = install.block("job_submit", "/etc/slurm/slurm_carbon/x/slurm_carbon.lua", "/var/lib/slurm_carbon/hook/outlook.lua")
ENDINGS = [
    "",
    "return slurm.SUCCESS\n",
    "return slurm.SUCCESS",
    "slurm.log_info('initialized')\nreturn slurm.SUCCESS\n-- the end\n\n",
    "  return\n",
    "if x then\n  return 1\nend\n",
    "return f(\n  1,\n  2)\n",
    "return { a = 1,\n-- return of the comment\nb = 2 }\n",
    "--[[\nreturn this is a comment\n]]\n",
    "function last()\n  return 5\nend\n",
    "return slurm.SUCCESS;\r\n",
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_our_lines_run_wherever_the_script_ends(lua: Interpreter, ending: str) -> None:
    """They stand behind all of the site's code but its last return, and are taken out without a trace."""
    text = SITE_SCRIPT + ending
    found = install.with_block(text, LINES, lambda x: lua.problem(x, "x"))
    ran = lua.evaluate(
        "slurm = {SUCCESS = 0, log_error = function(_, t) said = t end, log_info = print and function() end}\n"
        f"f = function() end\nlocal ok, why = pcall(loadstring({lua_text(found)}))\nreturn tostring(said or why)",
        "x",
    )
    assert "not loaded: cannot open /etc/slurm/slurm_carbon/x/slurm_carbon.lua" in ran
    assert install.without_block(found).rstrip("\n") == text.rstrip("\n")
    assert install.with_block(found, LINES, lambda x: lua.problem(x, "x")) == found


def lua_text(text: str) -> str:
    """A text as a Lua literal."""
    from slurm_carbon.hook.trial import literal

    return literal(text)


@given(st.text())
def test_a_text_without_our_lines_stays_as_it_is(text: str) -> None:
    """Taking out what is not there changes nothing."""
    assert install.without_block(text) == text or install.is_in(text)


@pytest.mark.parametrize(
    "ending",
    [
        "--[[ an old one:\nreturn slurm.SUCCESS\n]]\n",
        "X = [[\nreturn 1\n]]\n",
        "return { f = function()\nreturn 1\nend }\n",
        "function g()\n  return 1\nend\n",
    ],
)
def test_our_lines_are_never_put_where_they_would_not_run(lua: Interpreter, ending: str) -> None:
    """Not into a comment, a text, a function or a branch: they are put outside of it, or not at all."""
    try:
        found = install.with_block(SITE_SCRIPT + ending, LINES, lambda x: lua.problem(x, "x"))
    except HookError as error:
        assert "add them yourself" in str(error)  # noqa: PT017
        return
    said = lua.evaluate(
        f"slurm = {{SUCCESS = 0, log_error = function(_, t) said = t end}}\nloadstring({lua_text(found)})()\nreturn said", "x"
    )
    assert "not loaded" in said


def test_a_comment_of_the_site_is_no_mark_of_ours(lua: Interpreter) -> None:
    """Only the very lines that installing writes are taken out."""
    notes = f"{install.BEGIN} integration notes, see the wiki\n{SITE_SCRIPT}{install.END} of the notes\n"
    found = install.with_block(notes, LINES, lambda x: lua.problem(x, "x"))
    assert install.without_block(found) == notes
    again = install.with_block(found, LINES, lambda x: lua.problem(x, "x"))
    assert again == found


def test_what_is_not_ours_stays(lua: Interpreter, tmp_path: Path) -> None:
    """Of the folder slurm_carbon beside slurm.conf only versions of the module are ever removed; no link is followed."""
    keys = tmp_path / "slurm_carbon" / "keys"
    keys.mkdir(parents=True)
    for _ in range(3):
        put(lua, tmp_path, tmp_path / "hook")
    install.carry_out(install.uninstalling(str(tmp_path), lua.problem))
    assert keys.is_dir()
    (tmp_path / "victim").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(HookError):
        put(lua, tmp_path, tmp_path / "link")
    assert stat.S_IMODE((tmp_path / "victim").stat().st_mode) == 0o700


def test_a_broken_script_is_not_touched(lua: Interpreter, tmp_path: Path) -> None:
    """What Slurm's Lua does not take is refused with its own message, and nothing is written."""
    (tmp_path / "job_submit.lua").write_text("function slurm_job_submit(\n")
    with pytest.raises(HookError, match=r"its own code is broken already: .*expected"):
        install.installing(str(tmp_path), ("job_submit.lua",), str(tmp_path / "hook"), os.getgid(), lua.problem)
    assert [path.name for path in tmp_path.iterdir()] == ["job_submit.lua"]


def put(lua: Interpreter, folder: Path, outlook: Path, source: str = install.SOURCE) -> list[str]:
    """Install into a folder; what was done."""
    effects = install.installing(str(folder), tuple(install.SCRIPTS), str(outlook), os.getgid(), lua.problem, source)
    install.carry_out(effects)
    return [effect.why for effect in effects]


def test_installing_and_taking_away(lua: Interpreter, tmp_path: Path) -> None:
    """Owner, mode and the link that a script is are kept; a second time changes nothing; afterwards all is as before."""
    conf, real = tmp_path / "slurm", tmp_path / "managed.lua"
    conf.mkdir()
    real.write_text(SITE_SCRIPT + "return slurm.SUCCESS\n")
    real.chmod(0o640)
    (conf / "job_submit.lua").symlink_to(real)
    first = put(lua, conf, tmp_path / "hook")
    assert [why.rpartition(": ")[2] for why in first] == [
        "a folder for the hook's outlook", "the module", "our lines added, its own kept", "made",
    ]  # fmt: skip
    text = real.read_text()
    assert install.BEGIN in text
    assert (conf / "job_submit.lua").is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "hook").stat().st_mode) == 0o2755
    assert len(put(lua, conf, tmp_path / "hook")) == 2  # the folders; no script is written again
    assert real.read_text() == text
    install.carry_out(install.uninstalling(str(conf), lua.problem))
    assert real.read_text() == SITE_SCRIPT + "return slurm.SUCCESS\n"
    assert sorted(path.name for path in conf.rglob("*")) == ["cli_filter.lua", "job_submit.lua", "slurm_carbon"]
    assert (tmp_path / "hook").is_dir()  # other clusters may read what is in it
    assert not lua.problem((conf / "cli_filter.lua").read_text(), "x")


def test_a_new_version_has_a_folder_of_its_own(lua: Interpreter, tmp_path: Path) -> None:
    """No script ever loads half of one; the one before is kept for those who are loading it, older ones go."""
    source = tmp_path / "source"
    shutil.copytree(install.SOURCE, source)
    conf = tmp_path / "conf"
    conf.mkdir()
    for number in range(4):
        (source / "slurm_carbon" / "new.lua").write_text(f"-- {number}\n")
        put(lua, conf, tmp_path / "hook", str(source))
        named = install.module_name(install.module_files(str(source)))
        assert named in (conf / "job_submit.lua").read_text()
    assert len(list((conf / "slurm_carbon").iterdir())) == 3  # the new one, the one before, and one more
    assert (conf / "slurm_carbon" / named / "slurm_carbon" / "new.lua").read_text() == "-- 3\n"


def test_a_failure_on_the_way_leaves_a_script_that_works(lua: Interpreter, tmp_path: Path) -> None:
    """Whichever step fails, the error says which, and job_submit.lua is the old one or the new one, and loads."""

    def no_space() -> None:
        raise OSError(28, "No space left on device", "x")

    script = tmp_path / "job_submit.lua"
    for step in range(4):
        script.write_text(SITE_SCRIPT)
        effects = install.installing(str(tmp_path), tuple(install.SCRIPTS), str(tmp_path / "hook"), os.getgid(), lua.problem)
        effects[step] = effects[step]._replace(do=no_space)
        with pytest.raises(HookError, match="No space left on device") as raised:
            install.carry_out(effects)
        assert str(raised.value).startswith(effects[step].why)
        text = script.read_text()
        assert install.without_block(text) == SITE_SCRIPT
        assert lua.problem(text, "x") == ""
        assert not list(tmp_path.rglob("*.new"))


def test_the_module_has_the_version_of_the_package(lua: Interpreter) -> None:
    """What the records say is what is installed."""
    assert lua.evaluate(f'return dofile("{MODULE}").VERSION', "x") == __version__
    for name, data in install.module_files().items():
        assert lua.problem(data.decode(), name) == ""


def test_the_interpreter_tells_what_is_wrong(lua: Interpreter) -> None:
    """Syntax by name and line, errors by message, results as text."""
    assert lua.problem("x = = 1", "job_submit.lua").startswith("job_submit.lua:1: unexpected symbol")
    with pytest.raises(HookError, match="x:1: boo"):
        lua.evaluate("error('boo')", "x")
    assert lua.evaluate("return 6 * 7", "x") == "42"
    with pytest.raises(HookError, match="cannot open shared object"):
        Interpreter("libnone.so")
