"""Where keys come from: a file that only its owner can read, or the environment; never the configuration: all may read that."""

from collections.abc import Mapping

from slurm_carbon import secretfile
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
        data = secretfile.read(key_file, MAX_BYTES)
    except secretfile.LooseError as error:
        raise ForecastError(f"its key file {key_file}{error}") from None
    return _secret(data.decode("utf-8", "replace").strip(), f"its key file {key_file}")


def _secret(text: str, where: str) -> Secret:
    if not text or not text.isascii() or not text.isprintable() or len(text) > MAX_BYTES:
        raise ForecastError(f"{where} holds no key: one line of ASCII is expected")
    return Secret(text)
