"""The crowd of `scripts/bench reoptimize`: jobs of all shapes of two users on three clusters, which begin when it is dirtiest.

A part of that benchmark. Each has a mark as csbatch writes it, and a begin time in the dirtiest hour of its window that
has room for it: so a plan exists, and thousands of moves are worth it. They are submitted by sbatch itself, in loops of sh.
"""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from slurm_carbon import kept, marks
from slurm_carbon.intensity import Running
from slurm_carbon.outlook import Outlook

HOUR_S = 3600
CORES = (1, 1, 2, 4, 4, 8, 8, 12, 16)
MINUTES = (30, 60, 60, 90, 120, 120, 180, 240)
WINDOWS_H = (6, 12, 24, 24, 48, 72)
OPTIONS = "-J crowd -p batch -t {minutes} -n {cores} -N 1 --mem-per-cpu 1000 -o /dev/null"
SUBMIT = f"""\
while IFS='\t' read -r begin minutes cores comment; do
  sbatch -Q {OPTIONS.format(minutes='"$minutes"', cores='"$cores"')} --begin "uts$begin" \
    --comment "$comment" "$HOME/job.sh" || exit
done"""


class Waiting(NamedTuple):
    """One job that is to be submitted."""

    cluster: str
    user: str
    begin_epoch_s: int
    minutes: int
    cores: int
    record_id: str  # of the record of its submission; empty: there is none
    comment: str


def crowd(
    count: int,
    outlook: Outlook,
    clusters: Sequence[str],
    cores: int,
    users: Sequence[str],
    records: bool,
    now: int,
    seed: int = 0,
) -> list[Waiting]:
    """So many jobs for clusters of so many cores each; with records of their submission they may go to other clusters."""
    random = Random(seed)
    horizon = min(grid.end_epoch_s for grid in outlook.zones.values())
    hours = (horizon - now) // HOUR_S - 6
    free = {cluster: [cores] * (hours + 6) for cluster in clusters}
    start = now - now % HOUR_S + HOUR_S
    dirty = {
        (cluster, length): _means(outlook, cluster, start, hours, length)
        for cluster in clusters for length in sorted({-(-m // 60) for m in MINUTES})
    }  # fmt: skip
    found = []
    for number in range(count):
        cluster, user = clusters[number % len(clusters)], users[number // len(clusters) % len(users)]
        size, minutes = random.choice(CORES), random.choice(MINUTES)
        length = -(-minutes // 60)
        first = random.randrange(1, hours - 6)
        last = min(hours - 1, first + random.choice(WINDOWS_H))
        dirtiest = sorted(range(first, last + 1), reverse=True, key=dirty[cluster, length].__getitem__)
        for hour in (*dirtiest, *range(1, hours)):
            if all(left >= size for left in free[cluster][hour : hour + length]):
                break
        else:
            raise SystemExit(f"no room for job {number}: fewer of them, or more cores")
        for taken in range(hour, hour + length):
            free[cluster][taken] -= size
        begin, latest = start + hour * HOUR_S, start + max(hour, last) * HOUR_S
        kwh = size * minutes / 60 * 10.8 / 1000 * 1.56
        grams = kwh * dirty[cluster, length][hour]
        home = f"{cluster}/batch"
        reached = tuple(f"{name}/batch" for name in clusters) if records else (home, f"{cluster}/short")
        record_id = random.randbytes(8).hex() if records else ""
        mark = marks.Mark(begin, latest, home, grams, grams, kwh, record_id, reached)
        text = f"run {number} | " if number % 3 == 0 else ""
        found.append(Waiting(cluster, user, begin, minutes, size, record_id, text + marks.write(mark)))
    return found


def _means(outlook: Outlook, cluster: str, start: int, hours: int, length: int) -> list[float]:
    grid = next(outlook.zones[each.zone] for each in outlook.locations if each.cluster == cluster)
    running = Running(grid.start_epoch_s, grid.slot_s, grid.mean_g_per_kwh, grid.beyond_g_per_kwh)
    sums = [running.at(start + hour * HOUR_S) for hour in range(hours + length)]
    return [(sums[hour + length] - sums[hour]) / length / HOUR_S for hour in range(hours)]


def keep(jobs: Sequence[Waiting], uids: Mapping[str, int], home: Path, now: int) -> None:
    """Write the records of their submission, each as its owner."""
    for user, uid in uids.items():
        pid = os.fork()
        if not pid:
            try:
                os.setgid(uid)
                os.setuid(uid)
                for job in jobs:
                    if job.user == user:
                        path = home / user / "records" / job.record_id[:2] / job.record_id
                        kept.write(str(path), _record(job, uid, home / user, now), now)
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitpid(pid, 0)[1]:
            raise SystemExit(f"the records of {user} cannot be written")


def _record(job: Waiting, uid: int, home: Path, now: int) -> kept.Kept:
    environment = (b"PATH=/usr/bin:/bin", b"LANG=C.UTF-8", f"HOME={home}".encode(), f"USER={job.user}".encode())
    script = home / "job.sh"
    options = [word.encode() for word in OPTIONS.format(minutes=job.minutes, cores=job.cores).split()]
    return kept.Kept(
        job.record_id, job.cluster, now, uid, 0o022, 0, {}, os.fsencode(home), tuple(options), (os.fsencode(script),),
        environment, script.read_bytes(),
    )  # fmt: skip


def submit(jobs: Sequence[Waiting], environment: Mapping[str, Mapping[str, str]], uids: Mapping[str, int], home: Path) -> None:
    """Submit them, two loops at a time. `environment` is that of each cluster, `home` the folder of the users' homes."""
    loops: dict[tuple[str, str], list[Waiting]] = defaultdict(list)
    for job in jobs:
        loops[job.cluster, job.user].append(job)
    waiting = _starts(loops, environment, uids, home)
    running = [each for _, each in zip(range(2), waiting, strict=False)]
    while running:
        loop = running.pop(0)
        if loop.wait():
            raise SystemExit(f"sbatch failed: {loop.args}")
        running += [each for _, each in zip(range(1), waiting, strict=False)]


def _starts(
    loops: Mapping[tuple[str, str], Sequence[Waiting]], environment: Mapping[str, Mapping[str, str]], uids: Mapping[str, int],
    home: Path,
) -> Iterator[subprocess.Popen[bytes]]:  # fmt: skip
    for (cluster, user), some in loops.items():
        lines = home.parent / f"crowd-{cluster}-{user}"
        lines.write_text("".join(f"{j.begin_epoch_s}\t{j.minutes}\t{j.cores}\t{j.comment}\n" for j in some))
        own = {**environment[cluster], "HOME": str(home / user), "USER": user}
        with lines.open("rb") as stdin:
            yield subprocess.Popen(
                ["/bin/sh", "-c", SUBMIT], stdin=stdin, env=own, cwd=home / user, user=uids[user],
                group=uids[user], extra_groups=[],
            )  # fmt: skip
