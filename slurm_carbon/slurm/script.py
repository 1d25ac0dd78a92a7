"""The script of a submission, read by us and again by sbatch: also where it comes by a pipe, which can be read once."""

import os
import stat

from slurm_carbon.errors import CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_carbon.slurm.sbatch import Parsed

MAX_BYTES = 64 << 20


def keep_readable(words: list[str]) -> None:
    """A script that can be read only once, as in `csbatch <(generate)`, becomes one that can be read again."""
    for word in words:
        folder, _, number = word.rpartition("/")
        if folder not in ("/dev/fd", "/proc/self/fd") or not number.isdigit() or int(number) < 3:
            if word.startswith("/") and _is_fifo(word):
                raise CommandError(f"{word} is a FIFO, which can be read only once")
            continue
        if _is_fifo(word):
            memory = _memory_of(int(number))
            os.dup2(memory, int(number))
            os.close(memory)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def stdin_to_memory() -> None:
    """Make stdin a file in memory with what it had: sbatch reads it twice, and names the job as it does for stdin."""
    memory = _memory_of(0)
    os.dup2(memory, 0)
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


def is_memory(descriptor: int) -> bool:
    """Whether a descriptor is one of our files in memory."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:")
    except OSError:
        return False
