"""The records that the hook leaves in admin_comment, read back: what it decided lately, where, and by which outlook.

AdminComment can be written by slurmctld's plugins and by administrators only, but it is read here as data all the same.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator

from slurm_carbon.errors import CommandError
from slurm_carbon.light import NamedTuple, json_loads
from slurm_carbon.slurm.command import Command, Runner
from slurm_carbon.units import printable

TIMEOUT_S = 30.0
MAX_BYTES = 64 << 10
MODES = ("enforce", "advise", "observe")
_LOCATIONS = 1024  # that one record names at most


class Record(NamedTuple):
    """What the hook wrote down about one job, as far as the status needs it."""

    version: str
    mode: str
    decided_epoch_s: int
    outlook_epoch_s: int
    outcome: str


class HookRecord(NamedTuple):
    """All that the hook wrote down about one job, checked. Masses in g CO2e, energy of the whole run with PUE.

    Of a job that it left alone without looking for a place it has the reason, and no `home`, places or figures.
    """

    mode: str  # enforce, advise, observe: only by the first was anything set
    decided_epoch_s: int
    reason: str  # why it is left as it is; empty where something is changed
    home: str = ""  # CLUSTER/PARTITION where plain sbatch would have run it
    baseline_g: float = 0.0  # at once, at home
    latest_epoch_s: int = 0
    at: str | None = None  # None: left where and when it was
    begin_epoch_s: int | None = None
    emissions_g: float = 0.0  # as decided: those of the baseline where nothing is changed
    energy_kwh: float = 0.0
    run_time_s: int = 0
    power_w: float = 0.0
    locations: tuple[str, ...] = ()  # where it may run, `home` among them
    source: str = ""  # of the intensity
    issued_epoch_s: int = 0  # when that was forecast


def of_job(admin_comment: str) -> HookRecord | None:
    """The hook's record in a job's admin_comment; None for anything that is not one, whole and in range."""
    if not admin_comment.startswith('{"slurm_carbon":') or len(admin_comment) > MAX_BYTES:
        return None
    try:
        raw = json_loads(admin_comment)
        if raw["mode"] not in MODES:
            return None
        record = HookRecord(raw["mode"], _whole(raw["decided"]), _text(raw["reason"]))
        if "home" not in raw:
            return record
        baseline_g = _amount(raw["baseline_g"])
        changed = "at" in raw or "begin" in raw
        home = _place(raw["home"])
        if len(raw.get("in", ())) > _LOCATIONS:
            return None
        return record._replace(
            home=home,
            baseline_g=baseline_g,
            latest_epoch_s=_whole(raw["latest"]),
            at=_place(raw["at"]) if changed else None,
            begin_epoch_s=_whole(raw["begin"]) if changed else None,
            emissions_g=_amount(raw["emissions_g"]) if changed else baseline_g,
            energy_kwh=_amount(raw["energy_kwh"]),
            run_time_s=_whole(raw["run_time_s"]),
            power_w=_amount(raw["power_w"]),
            locations=tuple(map(_place, _list(raw["in"]))) if "in" in raw else (home,),
            source=_text(raw["source"]),
            issued_epoch_s=_whole(raw["issued"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise ValueError("no number of seconds")
    return value


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise ValueError("no amount")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 2000:
        raise ValueError("no text")
    return value


def _place(value: object) -> str:
    cluster, slash, partition = _text(value).partition("/")
    if not (cluster and slash and partition) or not (cluster + partition).isprintable():
        raise ValueError("no location")
    return f"{cluster}/{partition}"


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


# what many of them say together


def commands(cluster: str, slurm_conf: str) -> list[Command]:
    """Two calls: what slurmctld still has in memory, and what the accounting has of those that have ended.

    The first is JSON: in the text of `scontrol show job` a job's name or comment could pass for the record.
    """
    where = [] if slurm_conf else ["-M", cluster]
    environment = {"SLURM_CONF": slurm_conf} if slurm_conf else {}
    asked = [
        ["squeue", *where, "--local", "--json", "-t", "all"],
        ["sacct", *where, "-a", "-X", "-n", "-P", "-S", "now-1hours", "-E", "now", "-o", "JobID,AdminComment"],
    ]
    return [
        Command(argv, f"decisions of the hook on {cluster}", environment=environment, timeout_s=TIMEOUT_S) for argv in asked
    ]


def read(runner: Runner, cluster: str, slurm_conf: str, now_epoch_s: int) -> list[Record]:
    """The records of a cluster. Raises CommandError if slurmctld does not answer; without accounting it makes do."""
    in_memory, accounted = commands(cluster, slurm_conf)
    found: dict[str, str] = {}
    done = runner.run(in_memory)
    if done.exit_code:
        raise CommandError(f"cluster {cluster}: {in_memory.argv[0]}: {done.complaint}")
    text = done.stdout.decode("utf-8", "replace")
    try:
        for job in json.loads(text[text.index("{") :])["jobs"]:  # 23.02 and later say first which cluster it is
            found[str(job["job_id"])] = str(job["admin_comment"])
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"cluster {cluster}: squeue --json has a form that is not known here ({error})") from None
    done = runner.run(accounted)
    for line in done.stdout.decode("utf-8", "replace").splitlines() if done.exit_code == 0 else ():
        job_id, _, comment = line.partition("|")
        found.setdefault(job_id, comment)
    return list(_records(found.values(), now_epoch_s))


def _records(texts: Iterable[str], now_epoch_s: int) -> Iterator[Record]:
    for text in texts:
        try:
            raw = json.loads(text)
            decided, outlook = int(raw["decided"]), int(raw["outlook"])
            version, mode = printable(str(raw["slurm_carbon"])[:20]), printable(str(raw["mode"])[:10])
            record = Record(version, mode, decided, outlook, printable(outcome(raw)[:80]))
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
        if outlook >= 0 and 0 <= decided <= now_epoch_s + 60:
            yield record


def outcome(raw: dict[str, object]) -> str:
    """A decision in a few words that many jobs share: what was done, or the reason without names and figures."""
    if "at" in raw:
        later = raw.get("begin") != raw.get("decided")
        elsewhere = raw.get("at") != raw.get("home")
        words = [word for word, holds in (("later", later), ("elsewhere", elsewhere)) if holds]
        return " and ".join(words) or "at once, on the cleanest of the clusters that were named"
    reason = str(raw["reason"])
    if reason.startswith(("CSBATCH_", "script line ", "locations: ")):
        return "a mistake in CSBATCH_* or #CSBATCH"
    if " are needed, " in reason:
        return "no room for it where sbatch sends it"
    return reason.partition(":")[2].strip() if ", where sbatch sends it" in reason else reason.partition(":")[0]


def summary(records: Iterable[Record], since_epoch_s: int) -> tuple[Record | None, list[tuple[str, int]]]:
    """The newest record, and how often each outcome was decided since then, the most frequent first."""
    every = sorted(records, key=lambda record: record.decided_epoch_s)
    recent = Counter(record.outcome for record in every if record.decided_epoch_s >= since_epoch_s)
    return (every[-1] if every else None), recent.most_common()
