"""The one way to read a file that holds a key or a password: nobody else may be able to read it."""

import os
import stat


class LooseError(ValueError):
    """Why a file cannot hold a secret, as the end of a sentence that begins with its name."""


def read(path: str, most_bytes: int) -> bytes:
    """All of a file that only root or we could have written and only we can read. Raises LooseError, with what to do.

    What is longer is cut behind `most_bytes` + 1.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            data = file.read(most_bytes + 1) if stat.S_ISREG(status.st_mode) else b""
    except (OSError, ValueError) as error:
        raise LooseError(f": {getattr(error, 'strerror', None) or error}") from None
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise LooseError(" is no file")
    if mode & 0o077:
        raise LooseError(f" has mode {mode:03o}: others may read it; chmod 600, and change what is in it")
    if status.st_uid not in (0, os.geteuid()):
        raise LooseError(f" belongs to user {status.st_uid}, neither to root nor to us")
    return data
