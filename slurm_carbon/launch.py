"""The entry of csbatch, and its last resort: whatever happens to us, the job reaches sbatch.

Everything that this needs stands here and in the standard library's `os` and `sys`, so that it holds even when the
rest of the package cannot be imported.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

OWN_PREFIX = "--carbon-"
VALUE_OPTIONS = ("max-delay", "finish-by", "locations")
FLAG_OPTIONS = ("off", "dry-run", "explain", "verbose", "help")
# After these the next word is theirs, whatever it looks like: `-J --carbon-off` names a job, `-o log` no script.
TAKE_A_WORD = (
    *(f"-{letter}" for letter in "AabCcDdeFGiJLMmNnopqStwx"),
    *("--job-name", "--comment", "--wrap", "--export", "--output", "--error", "--input", "--chdir", "--export-file"),
)
NO = ("", "0", "no", "false", "off")
NEVER_SUBMIT = ("dry-run", "help")
ignored_signals = 0  # a mask, as in /proc/PID/status, of those that were ignored when csbatch was started


def find_sbatch() -> str | None:
    """The real sbatch: $CSBATCH_SBATCH, else the first on PATH that is not csbatch under that name, nor a script of it."""
    named = os.environ.get("CSBATCH_SBATCH")
    if named:
        return named
    for folder in os.environ.get("PATH", os.defpath).split(":"):
        path = os.path.join(folder or ".", "sbatch")
        found = os.access(path, os.X_OK) and not os.path.isdir(path)
        if found and not _leads_to_us(path):
            return path
    return None


def _leads_to_us(path: str) -> bool:
    """Whether an sbatch is a link to csbatch, or a script that runs it: to become that would never end."""
    if os.path.basename(os.path.realpath(path)) == "csbatch":
        return True
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!" and b"csbatch" in file.read(1 << 16)
    except OSError:
        return False


def own_option(word: str) -> tuple[str, str | None]:
    """Name and value of `--carbon-NAME[=VALUE]`: the name in full where it was abbreviated without doubt."""
    name, equals, value = word[len(OWN_PREFIX) :].partition("=")
    if name not in VALUE_OPTIONS + FLAG_OPTIONS and name:
        matches = [full for full in VALUE_OPTIONS + FLAG_OPTIONS if full.startswith(name)]
        name = matches[0] if len(matches) == 1 else name
    return name, value if equals else None


def without_own(words: list[str]) -> list[str]:
    """The command line without our options, up to what looks like the script: a guess, for when sbatch cannot tell."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if kept and kept[-1] in TAKE_A_WORD:
            kept.append(word)
            continue
        if word == "--" or (not word.startswith("-") and os.path.isfile(word)):
            return [*kept, word, *rest]
        if not word.startswith(OWN_PREFIX):
            kept.append(word)
            continue
        name, value = own_option(word)
        if name in VALUE_OPTIONS and value is None:
            next(rest, None)
    return kept


def is_set(variable: str) -> bool:
    """Whether an environment variable says yes."""
    return os.environ.get(variable, "").strip().lower() not in NO


def wants_words() -> bool:
    """Whether what we have to say is wanted: stderr is a terminal, or it was asked for."""
    if is_set("CSBATCH_VERBOSE") or is_set("CSBATCH_EXPLAIN"):
        return True
    return any(own_option(word)[0] in ("verbose", "explain") for word in sys.argv if word.startswith(OWN_PREFIX)) or os.isatty(
        2
    )


def say(text: str) -> None:
    """One line of ours, on stderr, whole whatever is in it."""
    line = "csbatch: " + "".join(c if c.isprintable() else "?" for c in text) + "\n"
    try:
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except OSError:
        return  # nobody listens; the job matters more


def become_sbatch(words: list[str]) -> int:
    """Replace this process by sbatch. Returns an exit code only if there is none."""
    # what `signal` wraps in enums, which cost 2 ms; typeshed does not know it
    from _signal import SIG_DFL, SIGPIPE, SIGXFSZ, signal  # type: ignore[import-not-found]

    sbatch = find_sbatch()
    if sbatch is None:
        say("error: no sbatch on PATH")
        return 127
    for number in (SIGPIPE, SIGXFSZ):  # Python ignores them, and sbatch would inherit that
        if not ignored_signals >> (number - 1) & 1:
            signal(number, SIG_DFL)
    try:
        os.execv(sbatch, ["sbatch", *words])  # under the name that stands in its messages
    except OSError as error:
        say(f"error: cannot run {sbatch}: {error.strerror}")
        return 126


def plainly(words: list[str], why: str) -> int:
    """Submit a command line, freed of our options, as sbatch alone would, and say so in one line."""
    if wants_words():
        say(f"submitted as it is: {why}")
    try:
        if os.readlink("/proc/self/fd/0").startswith("/memfd:"):  # where we have put a script that came by a pipe
            os.lseek(0, 0, os.SEEK_SET)
    except OSError:
        pass  # stdin is closed
    return become_sbatch(words)


def nothing_to_submit(words: list[str]) -> bool:
    """Whether the command line, the environment or what looks like the script asks us not to submit."""
    if is_set("CSBATCH_DRY_RUN"):
        return True
    if any(own_option(word)[0] in NEVER_SUBMIT for word in words if word.startswith(OWN_PREFIX)):
        return True
    try:
        with open(next(word for word in words if os.path.isfile(word)), "rb") as file:
            lines = file.read(1 << 16).splitlines()
    except (StopIteration, OSError):
        return False
    return any(line.startswith(b"#CSBATCH") and b" --carbon-dry" in line for line in lines)


def restore_environment(descriptor: int) -> None:
    r"""Make the environment the one that the launcher was started with: the job inherits it.

    The shell that launched us has changed it, and so has Python on its way up (LC_CTYPE, PEP 538). The original comes
    by a descriptor, as lines with `\\` for a backslash and `\n` for a newline, behind a line with the mask of the
    signals that were ignored; where it is empty, what /proc has of this process stands in for it.
    """
    global ignored_signals
    text = b""
    while chunk := os.read(descriptor, 1 << 16):
        text += chunk
    os.close(descriptor)
    mask, *lines = text.rstrip(b"\n").split(b"\n")
    if mask:
        ignored_signals = int(mask, 16)
    if not lines:
        with open("/proc/self/environ", "rb") as file:
            lines = [line.replace(b"\\", b"\\\\") for line in file.read().split(b"\0")]
    original = dict(_unescaped(line).split(b"=", 1) for line in lines if line.find(b"=") > 0)
    if not original:
        return
    for name in [name for name in os.environb if name not in original]:
        del os.environb[name]
    for name, value in original.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def _unescaped(line: bytes) -> bytes:
    if b"\\" not in line:
        return line
    return b"\\".join(part.replace(b"\\n", b"\n") for part in line.split(b"\\\\"))


def main() -> int:
    """Run csbatch; on any failure of ours become sbatch. The first argument is the launcher's descriptor."""
    words = sys.argv[2:]
    try:
        restore_environment(int(sys.argv[1]))
        from slurm_carbon import csbatch

        return csbatch.main(words)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        why = f"csbatch failed ({type(error).__name__}: {error})"
        if nothing_to_submit(words):
            say(f"error: {why}; nothing was submitted")
            return 1
        return plainly(without_own(words), why)


def leave(code: int) -> "NoReturn":
    """End with an exit code, without the tidying up that takes Python longer than we took to decide."""
    try:
        sys.stdout.flush()
    except OSError:
        code = code or 1  # nobody has read what was to be shown
    os._exit(code)
