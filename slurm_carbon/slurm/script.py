"""The script of a submission, read by us and again by sbatch: also where it comes by a pipe, which can be read once."""

import os
import stat

from slurm_carbon.errors import CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_carbon.slurm.sbatch import Parsed

MAX_BYTES = 64 << 20


STDIN_NAMES = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


def keep_readable(words: list[str]) -> dict[int, int]:
    """Make what a command line names and can be read only once readable again, for sbatch after sbatch.

    Such are a script from a pipe, as in `csbatch <(generate)` or /dev/stdin, and `--export-file=DESCRIPTOR`. Returns
    the descriptors concerned and where each of them has to stand again before the next reader: see `rewind`.
    """
    places = {}
    for word in words:
        folder, _, number = word.rpartition("/")
        if word in STDIN_NAMES:
            number = "0"
        elif word.startswith("--export-f") and "=" in word:
            number = word.partition("=")[2]
        elif folder not in ("/dev/fd", "/proc/self/fd"):
            if word.startswith("/") and _is_fifo(word):
                raise CommandError(f"{word} is a FIFO, which can be read only once")
            continue
        if not (number.isascii() and number.isdigit()):
            continue
        descriptor = int(number)
        try:
            places[descriptor] = os.lseek(descriptor, 0, os.SEEK_CUR)
        except OSError:  # a pipe, or no descriptor of ours
            if _is_fifo(f"/proc/self/fd/{number}"):
                _to_memory(descriptor)
                places[descriptor] = 0
    return places


def rewind(places: dict[int, int]) -> None:
    """Put descriptors back to where the next reader has to begin."""
    for descriptor, place in places.items():
        os.lseek(descriptor, place, os.SEEK_SET)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def stdin_to_memory() -> None:
    """Make stdin a file in memory with what it had: sbatch reads it twice, and names the job as it does for stdin."""
    _to_memory(0)


def _to_memory(descriptor: int) -> None:
    memory = _memory_of(descriptor)
    os.dup2(memory, descriptor)
    os.close(memory)


def _memory_of(descriptor: int) -> int:
    memory = os.memfd_create("script", os.MFD_CLOEXEC)
    total = 0
    while chunk := os.read(descriptor, 1 << 16):
        total += len(chunk)
        if total > MAX_BYTES:
            raise UsageError(f"the script is larger than {MAX_BYTES >> 20} MiB")
        os.write(memory, chunk)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


def lines(parsed: "Parsed") -> "Iterator[bytes]":
    """The script's lines, as far as they are asked for; none for --wrap."""
    if "wrap" in parsed.options:
        return
    try:  # stdin is opened anew: its own place in it has to stay at the start, for sbatch
        descriptor = os.open(parsed.script or "/proc/self/fd/0", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    with open(descriptor, "rb") as file:
        while line := file.readline(1 << 16):
            yield line


def whole(parsed: "Parsed", places: dict[int, int], most_bytes: int) -> bytes | None:
    """The script as sbatch is about to read it, up to so many bytes; None for --wrap. Raises OSError.

    `places` are those of `keep_readable`; what sbatch opens by a name it reads from the start.
    """
    if "wrap" in parsed.options:
        return None
    if parsed.script is None:
        return os.pread(0, most_bytes, places.get(0, 0))
    descriptor = os.open(parsed.script, os.O_RDONLY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return file.read(most_bytes)
