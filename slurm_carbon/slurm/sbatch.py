"""sbatch as the parser of its own command line, and as the program that a submission ends in.

Nobody else knows all of its options, abbreviations, environment variables and script lines. For one child process
SLURM_CONF names a private configuration that includes the site's and adds a filter in Lua, which prints what sbatch
understood and stops it before it talks to any controller: 3 ms, and nothing is submitted.
"""

import os
import stat

from slurm_carbon.errors import CommandError
from slurm_carbon.slurm.command import Command, Completed, Runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SITE_CONFS = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf")
_OWN_FILES = ("slurm.conf", "cli_filter.lua")
_FILTER = os.path.join(os.path.dirname(__file__), "cli_filter.lua")
PARSE_TIMEOUT_S = 5.0


class Parsed:
    """What sbatch understood: `script` and its arguments are the last `trailing` words of its command line."""

    __slots__ = ("cluster", "options", "script", "trailing")

    def __init__(self, cluster: str, options: dict[str, str], words: list[str]) -> None:
        self.cluster = cluster  # the one of the site's slurm.conf
        self.options = options
        self.script = words[0] if words else None
        self.trailing = len(words)


def site_conf(environment: "Mapping[str, str]") -> str | None:
    """The slurm.conf in use; None if none is in a place that we know."""
    if environment.get("SLURM_CONF"):
        return environment["SLURM_CONF"]
    for path in _SITE_CONFS:
        if os.path.exists(path):
            return path
    return None


def parser_folder(conf: str, environment: "Mapping[str, str]") -> str:
    """The folder of the private configuration for a site's slurm.conf, made if it is missing or older than the site's.

    It lives in the user's cache, else in the run-time folder of the session, else in a folder of this call's own that
    `forget_folder` removes. Raises CommandError if none can be written.
    """
    conf = os.path.abspath(conf)
    if any(character.isspace() or character == "#" for character in conf):
        raise CommandError(f"{conf!r} cannot be included in another slurm.conf")
    name = "parser" + conf.replace("%", "%%").replace("/", "%")
    home = environment.get("HOME", "")
    cache = environment.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else "")
    problem = ""
    for base in (cache, environment.get("XDG_RUNTIME_DIR", "")):
        if base:
            folder = os.path.join(os.path.realpath(base), "slurm_carbon", name)
            try:
                _check_ancestors(folder)
                if not _is_fresh(folder, conf):
                    _make_folder(folder, conf)
                return folder
            except OSError as error:
                problem = f"{folder}: {error.strerror}"
    import tempfile

    folder = ""
    try:
        folder = os.path.join(tempfile.mkdtemp(prefix="csbatch-"), name)
        _make_folder(folder, conf)
    except OSError as error:
        forget_folder(folder)
        raise CommandError(f"no place for the parser's configuration ({problem or error})") from None
    return folder


def forget_folder(folder: str) -> None:
    """Remove the folder if it was made for this call only."""
    parent = os.path.dirname(folder)
    if os.path.basename(parent).startswith("csbatch-"):
        import shutil

        shutil.rmtree(parent, ignore_errors=True)


def _is_fresh(folder: str, conf: str) -> bool:
    try:
        _check_ours(folder)
        made = os.lstat(folder + "/cli_filter.lua")
    except FileNotFoundError:
        return False
    newest = max(os.stat(conf).st_mtime_ns, os.stat(os.path.dirname(conf)).st_mtime_ns)
    return made.st_mtime_ns > newest


def _check_ours(folder: str) -> None:
    """Raise OSError for a folder that somebody else could write to: sbatch loads plugins by what stands in it."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(1, "not a folder that is ours alone to write")


def _check_ancestors(folder: str) -> None:
    """Raise OSError if somebody else could put another folder in the place of ours, by any folder above it."""
    while (folder := os.path.dirname(folder)) != "/":
        try:
            found = os.lstat(folder)
        except FileNotFoundError:
            continue
        others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        shared_but_safe = found.st_uid == 0 and found.st_mode & stat.S_ISVTX  # as /tmp is
        if found.st_uid not in (0, os.geteuid()) or (others and not shared_but_safe):
            raise PermissionError(1, f"others can write to {folder}")


def _make_folder(folder: str, conf: str) -> None:
    """Our two files, and a link to every other file beside the site's slurm.conf: it may include or imply them."""
    umask = os.umask(0o077)  # the user's could keep ourselves out
    try:
        os.makedirs(folder, exist_ok=True)
        _check_ours(folder)
        _fill_folder(folder, conf)
    finally:
        os.umask(umask)


def _fill_folder(folder: str, conf: str) -> None:
    site = os.path.dirname(conf)
    for entry in os.listdir(folder):
        if entry not in _OWN_FILES and not entry.endswith(".new"):
            _unless_done(os.unlink, os.path.join(folder, entry))
    for entry in os.listdir(site):
        if entry not in _OWN_FILES:
            _unless_done(os.symlink, os.path.join(site, entry), os.path.join(folder, entry))
    with open(_FILTER, encoding="utf-8") as file:
        filter_text = file.read()
    # of two equal keys Slurm takes the last
    texts = {"slurm.conf": f"include {conf}\nCliFilterPlugins=cli_filter/lua\n", "cli_filter.lua": filter_text}
    for entry, text in texts.items():
        temporary = os.path.join(folder, f"{entry}.{os.getpid()}.new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, os.path.join(folder, entry))


def _unless_done(change: "Callable[..., None]", *paths: str) -> None:
    """Change a folder that another submission of the same user may be making at the same moment."""
    try:
        change(*paths)
    except (FileExistsError, FileNotFoundError):
        return


def parse_command(sbatch: str, words: list[str], folder: str, stdin_fd: int | None) -> Command:
    """The call that makes sbatch print what it understood of a command line."""
    return Command(
        [sbatch, *words],
        "let sbatch parse its own options",
        environment={"SLURM_CONF": folder + "/slurm.conf"},
        stdin_fd=stdin_fd,
        timeout_s=PARSE_TIMEOUT_S,
    )


def read_parsed(done: Completed) -> Parsed | None:
    """What the filter printed; None if sbatch ended before it, because of an error, --help, or no script."""
    _, mark, text = done.stdout.partition(b"\1")
    if not mark:
        return None
    from slurm_carbon.light import json_loads  # by then it is loaded; before, it would hold up the parser's start

    cluster, _, values = text.decode("utf-8", "surrogateescape").partition("\n")
    options = json_loads(values)
    words = options.pop("argv", [])
    return Parsed(cluster, {str(k): str(v) for k, v in options.items()}, [str(word) for word in words])


def wants_stdin(done: Completed) -> bool:
    """Whether sbatch, given nothing on stdin, missed a script there."""
    return b"script is empty" in done.stderr


def check(runner: Runner, sbatch: str, words: list[str], stdin_fd: int | None, timeout_s: float) -> str:
    """Ask the controller whether it would take a submission (--test-only); empty if so, else what it says."""
    try:
        done = runner.run(
            Command([sbatch, "--test-only", *words], "would it be accepted there?", stdin_fd=stdin_fd, timeout_s=timeout_s)
        )
    except CommandError as error:
        return str(error)
    return "" if done.exit_code == 0 else done.complaint
