"""What keeps a run from beginning: an operator's `stop`, and another run that is not over yet."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from slurm_carbon.errors import Error

STOP = "stop"  # a file of this name beside the outlook


class BusyError(Error):
    """Another run holds the lock."""


def stop_file(outlook_path: str) -> str:
    """The file that stops every run for as long as it is there."""
    return os.path.join(os.path.dirname(os.path.abspath(outlook_path)), STOP)


def is_stopped(outlook_path: str) -> bool:
    """Whether an operator has touched it. What cannot be looked at counts as there: to change nothing is the safe side."""
    try:
        os.lstat(stop_file(outlook_path))
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def alone(path: str) -> Iterator[None]:
    """Hold a lock on a file while the block runs. Raises BusyError if another process has it; it ends with the process.

    Whoever else could open the file could hold up every run: it is made for its owner only, and no link is followed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        hint = ": run it as the user whom it belongs to, or for your own jobs only with --own"
        raise Error(f"cannot open the lock {path}: {error.strerror}{hint}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another run holds {path}: this one does nothing") from None
        yield
    finally:
        os.close(descriptor)
