"""The entry of csbatch, and its last resort: whatever happens to us, the job reaches sbatch.

Everything that this needs stands here and in the standard library's `os` and `sys`, so that it holds even when the
rest of the package cannot be imported.
"""

import os
import sys

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
    signal(SIGPIPE, SIG_DFL)  # Python ignores it, and sbatch would inherit that
    signal(SIGXFSZ, SIG_DFL)
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
    """Whether the command line or the environment asks us not to submit."""
    if is_set("CSBATCH_DRY_RUN"):
        return True
    return any(own_option(word)[0] in NEVER_SUBMIT for word in words if word.startswith(OWN_PREFIX))


def restore_environment(descriptor: int) -> None:
    """Make the environment the one that the launcher was started with: the job inherits it.

    The shell that launched us has changed it, and so has Python on its way up (LC_CTYPE, PEP 538). The original block
    comes by a descriptor; where it is empty, what /proc has of this process stands in for it.
    """
    block = b""
    while chunk := os.read(descriptor, 1 << 16):
        block += chunk
    os.close(descriptor)
    try:
        os.waitpid(-1, os.WNOHANG)  # the shell's helper has done its work
    except ChildProcessError:
        pass
    if not block:
        with open("/proc/self/environ", "rb") as file:
            block = file.read()
    original = dict(entry.split(b"=", 1) for entry in block.split(b"\0") if b"=" in entry[1:])
    if not original:
        return
    for name in [name for name in os.environb if name not in original]:
        del os.environb[name]
    for name, value in original.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


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
