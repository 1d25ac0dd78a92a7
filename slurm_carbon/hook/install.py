"""Putting the hook beside a slurm.conf, and taking it away: the site's own scripts keep every line of theirs.

slurmctld does not start with a job_submit.lua that it cannot load, and sbatch fails for everybody with such a cli_filter.lua.
So a script is checked by Slurm's own Lua before it is replaced, whole and by rename; the lines that are added load the module
in a protected call; and each version of the module has a folder of its own, so that no script ever loads half of one.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from functools import partial

from slurm_carbon import __version__, atomic
from slurm_carbon.errors import HookError
from slurm_carbon.light import NamedTuple

SOURCE = os.path.join(os.path.dirname(__file__), "lua")
MODULE = "slurm_carbon.lua"
BEGIN, END = "-- BEGIN slurm-carbon", "-- END slurm-carbon"
_BLOCK = re.compile(
    rf"^{BEGIN} \S+ \(`slurm-carbon hook uninstall` removes these lines\)\n.*?^{END}\n", re.MULTILINE | re.DOTALL
)
_PROBES = ("= = =\n", "end function slurm_carbon_probe()\n", "end, function()\n", "end if slurm_carbon_probe then\n")
_MODULE = re.compile(r"\d+\.\d+[\w.]*-[0-9a-f]{8}")
NEW = "-- Begun by slurm-carbon: Slurm wants these functions.\n"
SCRIPTS = {"job_submit.lua": "job_submit", "cli_filter.lua": "cli_filter"}
FUNCTIONS = {
    "job_submit.lua": ("slurm_job_submit", "slurm_job_modify"),
    "cli_filter.lua": ("slurm_cli_setup_defaults", "slurm_cli_pre_submit", "slurm_cli_post_submit"),
}


class Effect(NamedTuple):
    """One change of the file system: what for, and what does it."""

    why: str
    do: Callable[[], None]


def module_files(source: str = SOURCE) -> dict[str, bytes]:
    """The files of the Lua module by relative path. Raises HookError if it is not there."""
    found = {}
    for folder, _, names in os.walk(source):
        for name in names:
            if name.endswith(".lua"):
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    found[os.path.relpath(path, source)] = file.read()
    if MODULE not in found:
        raise HookError(f"{source}: the Lua module is not there; is slurm-carbon installed whole?")
    return found


def module_name(files: dict[str, bytes]) -> str:
    """The folder of this very module: its version, and a digest of its contents."""
    digest = hashlib.sha256(b"".join(name.encode() + b"\0" + files[name] for name in sorted(files))).hexdigest()
    return f"{__version__}-{digest[:8]}"


def block(function: str, module: str, outlook: str) -> str:
    """The lines that load the module."""
    return (
        f"{BEGIN} {__version__} (`slurm-carbon hook uninstall` removes these lines)\n"
        "do\n"
        f'  local ok, carbon = pcall(dofile, "{module}")\n'
        f'  if ok then ok, carbon = pcall(function() return carbon.{function}({{outlook = "{outlook}"}}) end) end\n'
        '  if not ok then slurm.log_error("%s", "slurm-carbon: not loaded: " .. tostring(carbon)) end\n'
        "end\n"
        f"{END}\n"
    )


def is_in(text: str | None) -> bool:
    """Whether a script has our lines."""
    return text is not None and _BLOCK.search(text) is not None


def without_block(text: str) -> str:
    """A script as the site wrote it."""
    return _BLOCK.sub("", text)


def with_block(text: str, lines: str, problem: Callable[[str], str]) -> str:
    """A script with our lines at its end: before the last `return`, if it ends in one. Raises HookError.

    `problem` says what is wrong with the syntax of a text.
    """
    own = without_block(text)
    if own and not own.endswith("\n"):
        own += "\n"
    if said := problem(own):
        raise HookError(f"its own code is broken already: {said}")
    rows = own.splitlines(keepends=True)
    last = len(rows)
    while last >= 0:
        before, after = "".join(rows[:last]), "".join(rows[last:])
        # what fits in here but is no statement shows a comment, a text, or the inside of a function or a branch
        if not problem(before + lines + after) and all(problem(before + probe + after) for probe in _PROBES):
            return before + lines + after
        last = next((i for i in range(last - 1, -1, -1) if rows[i].lstrip().startswith("return")), -1)
    raise HookError(f"found no place for our lines; add them yourself before its last `return`:\n{lines}")


def new_script(name: str) -> str:
    """A script for a site that has none: it accepts everything."""
    functions = "".join(f"function {function}(...) return slurm.SUCCESS end\n" for function in FUNCTIONS[name])
    return NEW + functions + "return slurm.SUCCESS\n"


def read(path: str) -> str | None:
    """A script; None where there is none. Raises HookError."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HookError(f"{path}: {error.strerror}") from None


def installing(
    conf_dir: str,
    scripts: tuple[str, ...],
    outlook_folder: str,
    gid: int,
    problem: Callable[[str, str], str],
    source: str = SOURCE,
) -> list[Effect]:
    """All that installing takes. Raises HookError if it cannot be done; nothing is changed before all is known to be good."""
    files = module_files(source)
    for name, data in files.items():
        if said := problem(data.decode(), name):
            raise HookError(f"the Lua module is broken: {said}")
    home = os.path.join(os.path.abspath(conf_dir), "slurm_carbon", module_name(files))
    outlook = os.path.join(outlook_folder, "outlook.lua")
    for path in (home, outlook):
        if any(c in path for c in '"\\\n'):
            raise HookError(f"{path!r} cannot be written in Lua")
    effects = [
        Effect(f"{outlook_folder}: a folder for the hook's outlook", lambda: _make_folder(outlook_folder, gid)),
        Effect(f"{home}: the module", lambda: _write_module(home, files)),
    ]
    for name in scripts:
        path = os.path.realpath(os.path.join(conf_dir, name))
        old = read(path)
        lines = block(SCRIPTS[name], os.path.join(home, MODULE), outlook)
        try:
            text = with_block(new_script(name) if old is None else old, lines, lambda x, name=name: problem(x, name))  # type: ignore[misc]
        except HookError as error:
            raise HookError(f"{path}: {error}") from None
        if text != old:
            what = "made" if old is None else ("our lines renewed" if is_in(old) else "our lines added, its own kept")
            effects.append(Effect(f"{path}: {what}", _replacing(path, text)))
    return effects


def uninstalling(conf_dir: str, problem: Callable[[str, str], str]) -> list[Effect]:
    """All that taking it away takes, here: our lines and the module. The outlook may be read by other clusters."""
    effects = []
    for name in SCRIPTS:
        path = os.path.realpath(os.path.join(conf_dir, name))
        old = read(path)
        if old is None or not is_in(old):
            continue
        text = without_block(old)
        if said := problem(text, name):
            raise HookError(f"{path}: without our lines it would be broken: {said}")
        effects.append(Effect(f"{path}: our lines taken out", _replacing(path, text)))
    parent = os.path.join(conf_dir, "slurm_carbon")
    ours = [name for name in (os.listdir(parent) if os.path.isdir(parent) else []) if _MODULE.fullmatch(name)]
    effects += [Effect(f"{parent}/{name}: removed", partial(shutil.rmtree, os.path.join(parent, name))) for name in ours]
    return effects


def carry_out(effects: list[Effect]) -> None:
    """Do them in order. Raises HookError at the first that fails: what was done before it does no harm."""
    for effect in effects:
        try:
            effect.do()
        except PermissionError as error:
            raise HookError(f"{effect.why}: not permitted: {error.filename or ''}; run it as root") from None
        except OSError as error:
            raise HookError(f"{effect.why}: {error.strerror}: {error.filename or ''}") from None


def _replacing(path: str, text: str) -> Callable[[], None]:
    def replace() -> None:
        old = os.stat(path) if os.path.exists(path) else None
        atomic.write(path, text.encode("utf-8", "surrogateescape"), (old.st_mode & 0o7777) if old else 0o644)
        if old:
            os.chown(path, old.st_uid, old.st_gid)

    return replace


def _write_module(home: str, files: dict[str, bytes]) -> None:
    """The module's files, then away with versions that no script names any more, but for the newest of them."""
    for name, data in files.items():
        path = os.path.join(home, name)
        for folder in (os.path.dirname(home), home, os.path.dirname(path)):
            os.makedirs(folder, exist_ok=True)
            os.chmod(folder, 0o755)  # noqa: S103  # every user's sbatch reads it
        atomic.write(path, data, 0o644)
    parent = os.path.dirname(home)
    scripts = [read(os.path.join(os.path.dirname(parent), name)) or "" for name in SCRIPTS]
    others = [entry.path for entry in os.scandir(parent) if _MODULE.fullmatch(entry.name) and entry.path != home]
    unused = [path for path in others if not any(path in script for script in scripts)]
    for old in sorted(unused, key=os.path.getmtime)[:-1]:
        shutil.rmtree(old)


def _make_folder(folder: str, gid: int) -> None:
    """Owned by whoever owns the folder above, of SlurmUser's group, which what is written in it inherits."""
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)  # a link there could lead to any folder
    try:
        os.fchown(descriptor, os.stat(os.path.dirname(folder)).st_uid, gid)
        os.fchmod(descriptor, 0o2755)
    finally:
        os.close(descriptor)
