"""Where keys come from: a file that only its owner can read, or the environment; never the configuration: all may read that."""

import os
import stat
from collections.abc import Mapping

from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.http import Secret

MAX_BYTES = 4096


def variable(source: str) -> str:
    """The environment variable of a source's key."""
    return "SLURM_CARBON_KEY_" + source.upper().replace("-", "_")


def find(source: str, key_file: str, environ: Mapping[str, str]) -> Secret | None:
    """The key of a source; None where none is given. Raises ForecastError for a file that others can read or change."""
    if not key_file:
        text = environ.get(variable(source), "").strip()
        return _secret(text, variable(source)) if text else None
    try:
        descriptor = os.open(key_file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ForecastError(f"its key file {key_file}: {error.strerror}") from None
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise ForecastError(f"its key file {key_file} is no file")
    if mode & 0o077:
        raise ForecastError(f"its key file {key_file} has mode {mode:03o}: others may read it; chmod 600, and get a new key")
    if status.st_uid not in (0, os.geteuid()):
        raise ForecastError(f"its key file {key_file} belongs to user {status.st_uid}, neither to root nor to us")
    return _secret(data.decode("utf-8", "replace").strip(), f"its key file {key_file}")


def _secret(text: str, where: str) -> Secret:
    if not text or not text.isascii() or not text.isprintable() or len(text) > MAX_BYTES:
        raise ForecastError(f"{where} holds no key: one line of ASCII is expected")
    return Secret(text)
