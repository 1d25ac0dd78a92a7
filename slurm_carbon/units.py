"""The only conversions of units, and the only reading and printing of quantities.

Times are whole seconds since the epoch, UTC, and say so in their name (`_epoch_s`): the form that sbatch takes
(`uts<epoch>`), that stands in the published files, and that the Lua side computes with. They become aware
`datetime`s where people or calendars come in: here, in the forecasts and in the reports.
"""

import time

from slurm_carbon.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:  # the standard module costs a submission 1 ms that most of them do not need
    from datetime import datetime

HOUR_S = 3600
DAY_S = 86400
_UNIT_S = {"s": 1, "m": 60, "h": HOUR_S, "d": DAY_S, "w": 7 * DAY_S}
_MEMORY_MB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


def kwh(power_w: float, seconds: float) -> float:
    """Energy in kWh of a constant power in W over some seconds."""
    return power_w * seconds / 3.6e6


def utc(epoch_s: float) -> "datetime":
    """Epoch seconds as an aware datetime in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch_s, UTC)


# durations


def slurm_duration_s(text: str) -> int | None:
    """Seconds of a time limit as Slurm writes it; None for UNLIMITED. Raises ValueError.

    Forms (sbatch(1), --time): minutes, m:s, h:m:s, d-h, d-h:m, d-h:m:s.
    """
    if text.upper() in ("UNLIMITED", "INFINITE", "-1"):
        return None
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if len(parts) > 3 or min(parts) < 0 or (dash and not days.isdecimal()):
        raise ValueError(f"{text!r} is no Slurm time")
    if dash:
        hours, minutes, seconds = parts + [0] * (3 - len(parts))
        return int(days) * DAY_S + hours * HOUR_S + minutes * 60 + seconds
    if len(parts) == 3:
        return parts[0] * HOUR_S + parts[1] * 60 + parts[2]
    return parts[0] * 60 + (parts[1] if len(parts) == 2 else 0)


def duration_s(text: str) -> int:
    """Seconds of a duration that a person wrote: `6h`, `1d12h`, `90m`, or any of Slurm's forms (`90` is minutes)."""
    try:
        return _duration_s(text)
    except (ValueError, OverflowError):
        raise UsageError(f"{text[:40]!r} is no duration: write for example 90m, 6h, 1d12h or 1-12:00:00") from None


def _duration_s(text: str) -> int:
    total, number = 0.0, ""
    for character in (words := text.strip().lower()):
        if character in _UNIT_S and number:
            total += float(number) * _UNIT_S[character]
            number = ""
        elif (character.isdigit() and character.isascii()) or (character == "." and "." not in number):
            number += character
        else:
            break
    else:
        if words and not number:
            return int(total)
    try:
        seconds = slurm_duration_s(words) if words.isascii() and "_" not in words else None
    except ValueError:
        seconds = None
    if seconds is None:
        raise UsageError(f"{text!r} is no duration: write for example 90m, 6h, 1d12h or 1-12:00:00")
    return seconds


def duration_text(seconds: float) -> str:
    """A duration in words that are short and exact to the minute: `45 min`, `3 h`, `1 d 2 h`."""
    minutes = round(abs(seconds) / 60)
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min")]
    shown = [f"{count} {unit}" for count, unit in parts if count][:2]
    return ("-" if seconds < 0 and shown else "") + (" ".join(shown) or "0 min")


# points in time


def begin_flag(epoch_s: int) -> str:
    """A begin time as sbatch and scontrol take it: no time zone, no daylight saving to get wrong."""
    return f"uts{epoch_s}"


def time_text(epoch_s: float) -> str:
    """A point in time for a person: local time, as squeue shows it, but with the weekday."""
    return time.strftime("%a %d %b %H:%M", time.localtime(epoch_s))


def zone_of_time() -> str:
    """The time zone in which `time_text` speaks."""
    return time.strftime("%Z")


def parse_time(text: str, now_epoch_s: int) -> int:
    """Epoch seconds of a time that a person wrote.

    Takes what `sbatch --begin` takes, of which: now[+N[unit]], today, tomorrow, midnight, noon, HH:MM[:SS],
    YYYY-MM-DD[THH:MM[:SS]] in local time; and besides, ISO 8601 with an offset or Z, and uts<epoch>.
    An hour without a day is the next one to come. Raises UsageError.
    """
    words = text.strip()
    try:
        if words.startswith("uts"):
            return int(words[3:])
        if words.lower().startswith("now"):
            return now_epoch_s + _now_offset_s(words[3:].lower())
        return _calendar(words, now_epoch_s)
    except (ValueError, OverflowError, UsageError):
        raise UsageError(f"{text!r} is no time: write for example 2026-11-24T08:00, 08:00, tomorrow, now+18hours") from None


def _now_offset_s(text: str) -> int:
    if not text:
        return 0
    if text[0] != "+":
        raise ValueError(text)
    digits = text[1:].rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[1 + len(digits) :]
    for name, seconds in (("seconds", 1), ("minutes", 60), ("hours", HOUR_S), ("days", DAY_S), ("weeks", 7 * DAY_S)):
        if name.startswith(unit) or unit == name[:-1]:
            return int(digits) * (seconds if unit else 1)
    raise ValueError(text)


def _calendar(text: str, now_epoch_s: int) -> int:
    from datetime import datetime, timedelta

    local_now = datetime.fromtimestamp(now_epoch_s)
    today = local_now.replace(hour=0, minute=0, second=0, microsecond=0)
    lower = text.lower()
    if lower == "today":
        return now_epoch_s
    if lower == "tomorrow":
        return int((today + timedelta(days=1)).timestamp())
    lower = {"midnight": "00:00", "noon": "12:00"}.get(lower, lower)
    if ":" in lower and "-" not in lower and "t" not in lower:
        parts = [int(part) for part in lower.split(":")]
        hour, minute, second = parts if len(parts) == 3 else (*parts, 0)
        moment = today.replace(hour=hour, minute=minute, second=second)
        if moment < local_now:
            moment += timedelta(days=1)
        return int(moment.timestamp())
    return int(datetime.fromisoformat(text).timestamp())  # a bare time is local, as with sbatch


# texts of others


def printable(text: str) -> str:
    """Text without control characters: nothing in it moves a cursor or begins a line."""
    return "".join(c if c.isprintable() else " " for c in text)


# amounts


def memory_mb(text: str) -> float:
    """MiB of a memory amount as Slurm writes it: `4G`, `500M`, `4096` (MiB). Raises ValueError."""
    unit = text[-1:].upper()
    amount = float(text[:-1]) * _MEMORY_MB[unit] if unit in _MEMORY_MB else float(text)
    if not 0 <= amount < 1e12:
        raise ValueError(f"{text!r} is no amount of memory")
    return amount


def mass_text(grams: float) -> str:
    """A mass of CO2e with three digits and a fitting unit."""
    size = abs(grams)
    if size >= 1e6:
        return f"{grams / 1e6:.3g} t"
    if size >= 1e3:
        return f"{grams / 1e3:.3g} kg"
    return f"{grams:.3g} g"


def energy_text(energy_kwh: float) -> str:
    """An energy with three digits and a fitting unit."""
    size = abs(energy_kwh)
    if size >= 1e3:
        return f"{energy_kwh / 1e3:.3g} MWh"
    return f"{energy_kwh:.3g} kWh" if size >= 1 else f"{energy_kwh * 1e3:.3g} Wh"
