"""A file that others read while it is written anew: all of it or nothing, and never through what somebody has put there."""

import os


def write(path: str, data: bytes, mode: int) -> None:
    """Put a file in its place, with a mode. Raises OSError; a folder must be there."""
    temporary = f"{path}.{os.urandom(8).hex()}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
