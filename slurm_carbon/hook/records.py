"""The records that the hook leaves in admin_comment, read back: what it decided lately, where, and by which outlook.

AdminComment can be written by slurmctld's plugins and by administrators only, but it is read here as data all the same.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator

from slurm_carbon.errors import CommandError
from slurm_carbon.light import NamedTuple
from slurm_carbon.slurm.command import Command, Runner
from slurm_carbon.units import printable

TIMEOUT_S = 30.0


class Record(NamedTuple):
    """What the hook wrote down about one job, as far as the status needs it."""

    version: str
    mode: str
    decided_epoch_s: int
    outlook_epoch_s: int
    outcome: str


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
