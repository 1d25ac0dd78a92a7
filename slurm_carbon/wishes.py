"""What the owner of a job asks of us: --carbon-* options, CSBATCH_* variables, #CSBATCH lines, his own file.

sbatch's precedence: the command line beats the environment beats the script, and all of them his file.
"""

import os

from slurm_carbon.errors import ConfigError, UsageError
from slurm_carbon.launch import FLAG_OPTIONS, NO, OWN_PREFIX, VALUE_OPTIONS
from slurm_carbon.model import Wishes
from slurm_carbon.own import Own
from slurm_carbon.units import duration_s, parse_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from slurm_carbon.own import Given

SCRIPT_LINE = "#CSBATCH"
USER_FILE = "slurm_carbon/config.toml"
_YES = ("1", "yes", "true", "on")
_NOT_IN_FILE = ("finish_by", "dry_run", "help")


def of_options(given: "Given", now_epoch_s: int) -> Wishes:
    """The wishes in options; of equals the last wins. Raises UsageError."""
    wishes = Wishes()
    for name, value in given:
        if name not in VALUE_OPTIONS + FLAG_OPTIONS:
            raise UsageError(_unknown(name))
        if name in FLAG_OPTIONS and value is not None:
            raise UsageError(f"{OWN_PREFIX}{name} takes no value")
        wishes = _with(wishes, name, value or "", now_epoch_s, f"{OWN_PREFIX}{name}")
    return wishes


def of_environment(environment: "Mapping[str, str]", now_epoch_s: int) -> Wishes:
    """The wishes in CSBATCH_* variables. Raises UsageError."""
    wishes = Wishes()
    for name in VALUE_OPTIONS + FLAG_OPTIONS:
        variable = _variable(name)
        value = environment.get(variable, "").strip()
        if name == "help" or not value:
            continue
        if name in FLAG_OPTIONS and value.lower() not in _YES + NO:
            raise UsageError(f"{variable}={value}: say 1 or 0")
        wishes = _with(wishes, name, value, now_epoch_s, variable)
    return wishes


def of_script(lines: "Iterable[bytes]", now_epoch_s: int) -> tuple[Wishes, bool]:
    """The wishes in the #CSBATCH lines of a script, and whether it describes a heterogeneous job.

    Like #SBATCH lines they count up to the first line that is neither a comment nor blank. Raises UsageError.
    """
    wishes, heterogeneous = Wishes(), False
    for number, raw in enumerate(lines, 1):
        if raw.strip() and not raw.startswith(b"#"):
            break
        if raw.startswith(b"#SBATCH") and raw.split()[1:2] in ([b"hetjob"], [b"packjob"]):
            heterogeneous = True
        if not raw.startswith(SCRIPT_LINE.encode()) or raw[len(SCRIPT_LINE) :][:1] not in (b" ", b"\t"):
            continue
        text = raw[len(SCRIPT_LINE) :].decode("utf-8", "surrogateescape")
        try:
            own = Own(_words(text))
            if own.words:
                raise UsageError(f"{own.words[0]!r} is none of our options, which begin {OWN_PREFIX}")
            wishes = merged(of_options(own.split_at_script(0)[2], now_epoch_s), wishes)
        except (ValueError, UsageError) as error:
            raise UsageError(f"script line {number}: {error}") from None
    return wishes, heterogeneous


def unknown_variables(environment: "Iterable[str]") -> list[str]:
    """A line for each variable that looks like one of ours and is none: a wish in it would be lost unseen."""
    known = [_variable(name) for name in VALUE_OPTIONS + FLAG_OPTIONS]
    found = []
    for variable in environment:
        if variable.startswith("CSBATCH_") and variable not in known and variable != "CSBATCH_SBATCH":
            import difflib

            close = difflib.get_close_matches(variable, known, 1, 0.75)
            found.append(f"{variable} is none of our variables" + (f"; did you mean {close[0]}?" if close else ""))
    return found


def _variable(name: str) -> str:
    return "CSBATCH_" + name.upper().replace("-", "_")


def _words(text: str) -> list[str]:
    """A line as a shell would split it, without what follows a #. Raises ValueError."""
    if not any(quote in text for quote in "'\"\\#"):
        return text.split()
    import shlex  # it imports `re`, which costs 4 ms

    return shlex.split(text, comments=True)


def of_user_file(environment: "Mapping[str, str]", now_epoch_s: int) -> Wishes:
    """The wishes in ~/.config/slurm_carbon/config.toml, if there is one. Raises ConfigError."""
    home = environment.get("HOME", "")
    base = environment.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    path = f"{base}/{USER_FILE}"
    if not base or not os.path.exists(path):
        return Wishes()
    import tomllib

    if not os.path.isfile(path):
        raise ConfigError(f"{path}: is no file")
    try:
        with open(path, "rb") as file:
            raw = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    wishes = Wishes()
    for key, value in raw.items():
        name = key.replace("_", "-")
        if name not in VALUE_OPTIONS + FLAG_OPTIONS or key in _NOT_IN_FILE:
            known = [n.replace("-", "_") for n in VALUE_OPTIONS + FLAG_OPTIONS]
            raise ConfigError(f"{path}: unknown key {key!r}; known: {', '.join(k for k in known if k not in _NOT_IN_FILE)}")
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        try:
            wishes = _with(wishes, name, text, now_epoch_s, key)
        except UsageError as error:
            raise ConfigError(f"{path}: {error}") from None
    return wishes


def merged(*layers: Wishes) -> Wishes:
    """One set of wishes: of each, what the first layer that speaks of it says."""
    return Wishes(*(next((value for value in values if value is not None), None) for values in zip(*layers, strict=True)))


def _with(wishes: Wishes, name: str, value: str, now_epoch_s: int, where: str) -> Wishes:
    try:
        if name == "max-delay":
            return wishes._replace(max_delay_s=duration_s(value))
        if name == "finish-by":
            return wishes._replace(finish_by_epoch_s=parse_time(value, now_epoch_s))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if name == "locations":
        names = tuple(part.strip() for part in value.split(",") if part.strip())
        if not names:
            raise UsageError(f"{where}: names no location")
        return wishes._replace(locations=names)
    if name == "help":
        return wishes
    flag: dict[str, Any] = {name.replace("-", "_"): value.lower() not in NO or not value}
    return wishes._replace(**flag)


def _unknown(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, VALUE_OPTIONS + FLAG_OPTIONS, 1, 0.5)
    matches = [full for full in VALUE_OPTIONS + FLAG_OPTIONS if name and full.startswith(name)]
    if len(matches) > 1:
        return f"{OWN_PREFIX}{name} could be {' or '.join(OWN_PREFIX + match for match in matches)}"
    return f"unknown option {OWN_PREFIX}{name}" + (
        f"; did you mean {OWN_PREFIX}{close[0]}?" if close else "; see --carbon-help"
    )
