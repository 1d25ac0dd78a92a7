"""What can be seen of moves to other clusters: one look at each cluster, and at the accounting only for what is missing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from slurm_carbon import marks
from slurm_carbon.errors import CommandError
from slurm_carbon.ledger.values import CANCELLED, HELD, SUBMITTED, Transfer
from slurm_carbon.queued import QueuedJob
from slurm_carbon.reoptimize.signs import entangled, is_marked, mark_of
from slurm_carbon.reoptimize.stage import CANCEL_SOURCE, CANCELLING, Run, Sight, Times, phase
from slurm_carbon.slurm.command import Runner
from slurm_carbon.slurm.moves import Accounted, Site, accounted, accounted_of, look

_CLOCKS_S = 900  # that two clusters' clocks may differ
_BEFORE_S = 3600  # how far back the accounting is asked for jobs of which the number is not known


class Seen(NamedTuple):
    """One cluster as it was seen."""

    jobs: Mapping[int, QueuedJob]
    arrays: Mapping[int, tuple[QueuedJob, ...]]  # the records of each array
    dependents: tuple[QueuedJob, ...]
    marked: Mapping[tuple[str, int], tuple[QueuedJob, ...]]  # by the id of a move and the uid

    def job(self, number: int) -> QueuedJob | None:
        """A job by its number. Of an array that has begun it is one that has, if any: it stands for all."""
        records = self.arrays.get(number, ())
        begun = next((record for record in records if record.state != "PENDING"), None)
        chosen = begun or self.jobs.get(number) or (records[0] if records else None)
        return None if chosen is None else chosen._replace(id=number) if chosen.array_id == number else chosen


def seen(jobs: Mapping[int, QueuedJob]) -> Seen:
    """The jobs of a cluster, ready to be looked up."""
    arrays: dict[int, list[QueuedJob]] = defaultdict(list)
    marked: dict[tuple[str, int], list[QueuedJob]] = defaultdict(list)
    for job in jobs.values():
        if job.array_id:
            arrays[job.array_id].append(job)
        if " mv=" in job.comment and (mark := marks.read(job.comment)[1]) is not None and mark.move:
            marked[mark.move, job.uid].append(job)
    return Seen(
        jobs,
        {number: tuple(records) for number, records in arrays.items()},
        tuple(job for job in jobs.values() if job.dependency),
        {key: tuple(found) for key, found in marked.items()},
    )


class Eyes:
    """Looks at clusters for one run. One that does not answer is not asked again in this run."""

    def __init__(self, runner: Runner, sites: Mapping[str, Site], times: Times) -> None:
        self.runner, self.sites, self.times = runner, sites, times
        self.silent: set[str] = set()  # clusters
        self.unaccounted: set[str] = set()  # clusters whose accounting is silent
        self.complaints: dict[str, str] = {}
        self._seen: dict[str, Seen] = {}

    def look(self, clusters: Iterable[str]) -> None:
        """See these clusters as they are now."""
        self._seen = {}
        for cluster in sorted(set(clusters)):
            if cluster in self.silent:
                continue
            site = self.sites.get(cluster)
            if site is None:
                self.give_up(cluster, f"cluster {cluster} is not in the configuration")
                continue
            try:
                self._seen[cluster] = seen(look(self.runner, site))
            except CommandError as error:
                self.give_up(cluster, str(error))

    def give_up(self, cluster: str, why: str) -> None:
        """Do not ask this cluster again in this run."""
        self.silent.add(cluster)
        self.complaints[cluster] = why
        self._seen.pop(cluster, None)

    def sights(self, transfers: Mapping[str, Transfer], runs: Mapping[str, Run], now: int) -> dict[str, Sight]:
        """What is to be seen of each move. `now` is a time before the look."""
        found = {id_: self._sight(t) for id_, t in transfers.items()}
        self._ask_for_sources(transfers, runs, found)
        self._ask_for_copies(transfers, found, now)
        return found

    def _sight(self, t: Transfer) -> Sight:
        source_at = self._seen.get(t.cluster)
        source = source_at.job(t.job_id) if source_at else None
        if source is not None and (source.uid != t.uid or (source.submit_epoch_s != t.submit_epoch_s and not source.restarts)):
            source = None  # another job with the same number
        why = ""
        if source is not None and source_at is not None:
            why = entangled(source, (*source_at.dependents, *source_at.arrays.get(source.array_id, ())))
        targets = list(self.sites) if is_found_again(t) else [t.to_location.partition("/")[0]]
        answers = all(cluster in self._seen for cluster in targets)
        copies = tuple(copy for cluster in targets if cluster in self._seen for copy in self._copies(t, cluster))
        return Sight(source_at is not None, answers, source, entangled=why, copies=copies if t.asked_epoch_s else ())

    def _copies(self, t: Transfer, cluster: str) -> Iterable[QueuedJob]:
        """The copies on a cluster; the tasks of an array are one. What is too old or too young has only got the same mark."""
        at = self._seen[cluster]
        numbers = {job.array_id or job.id for job in at.marked.get((mark_of(t), t.uid), ()) if _fits(t, job, self.times)}
        if t.target_id and cluster == t.to_location.partition("/")[0]:
            numbers.add(t.target_id)
        for number in sorted(numbers):
            job = at.job(number)
            if job is None or job.uid != t.uid or (cluster, number) == (t.cluster, t.job_id):
                continue
            if is_marked(job.comment, mark_of(t)) or _is_known(t, job):
                yield job

    def _ask_for_sources(self, transfers: Mapping[str, Transfer], runs: Mapping[str, Run], found: dict[str, Sight]) -> None:
        """How those ended that slurmctld has forgotten, and who cancelled what an earlier run may have cancelled."""
        asked: dict[str, list[Transfer]] = defaultdict(list)
        for id_, t in transfers.items():
            if not found[id_].source_answers or not t.asked_epoch_s:
                continue
            source = found[id_].source
            who = t.state == SUBMITTED and phase(t) == CANCELLING and CANCEL_SOURCE not in runs[id_].tried
            if source is None or (source.state == "CANCELLED" and who):
                asked[t.cluster].append(t)
        for cluster, some in asked.items():
            rows = self._accounted(cluster, min(t.submit_epoch_s for t in some) - _CLOCKS_S, [t.job_id for t in some], {})
            for t in some:
                if rows is None:
                    found[t.id] = found[t.id]._replace(source_accounted=False)
                    continue
                for row in rows:
                    if (row.job_id, row.uid, row.submit_epoch_s) == (t.job_id, t.uid, t.submit_epoch_s):
                        found[t.id] = found[t.id]._replace(source_end=row.state, source_cancelled_by=row.ended_by_uid)

    def _ask_for_copies(self, transfers: Mapping[str, Transfer], found: dict[str, Sight], now: int) -> None:
        """Copies that are not in the queue and yet may have been there."""
        asked: dict[str, list[Transfer]] = defaultdict(list)
        for id_, t in transfers.items():
            waited = t.target_id or (t.state == HELD and now - t.asked_epoch_s >= self.times.patience_s)
            missing = t.asked_epoch_s and not found[id_].copies and found[id_].target_answers and not is_found_again(t)
            if missing and waited and t.state in (HELD, SUBMITTED, CANCELLED):
                asked[t.to_location.partition("/")[0]].append(t)
        for cluster, some in asked.items():
            since = min(t.asked_epoch_s for t in some) - _BEFORE_S
            numbers = [t.target_id for t in some if t.target_submit_epoch_s]
            users = {t.user: t.uid for t in some if not t.target_submit_epoch_s}
            rows = self._accounted(cluster, since, numbers, users)
            for t in some:
                if rows is None:
                    found[t.id] = found[t.id]._replace(copies_accounted=False)
                    continue
                copies = [row for row in rows if row.uid == t.uid and _is_copy(t, row)]
                found[t.id] = found[t.id]._replace(copies=tuple(_of_row(t, row) for row in copies))

    def _accounted(self, cluster: str, since: int, numbers: list[int], users: Mapping[str, int]) -> list[Accounted] | None:
        if cluster in self.unaccounted:
            return None
        site = self.sites[cluster]
        rows: list[Accounted] = []
        try:
            if numbers:
                rows += accounted(self.runner, site, since, numbers)
            for user, uid in users.items():
                rows += accounted_of(self.runner, site, since, user, uid)
        except CommandError as error:
            self.unaccounted.add(cluster)
            self.complaints[f"accounting of {cluster}"] = str(error)
            return None
        return rows


def is_found_again(t: Transfer) -> bool:
    """Whether the move was put together again from what marks say, after the ledger was lost."""
    return not t.to_location


def _fits(t: Transfer, job: QueuedJob, times: Times) -> bool:
    if is_found_again(t):
        return True
    return t.asked_epoch_s - _CLOCKS_S <= job.submit_epoch_s <= t.asked_epoch_s + times.patience_s + _CLOCKS_S


def _is_known(t: Transfer, job: QueuedJob) -> bool:
    """Whether a job with the number of the copy is the copy, also without its mark.

    A slurmctld that has lost its last seconds gives a number to the next job again, and that may be one of the same user,
    and another copy. Before it was seen, a copy without its mark has to have been submitted while it was asked for.
    """
    if job.id != t.target_id:
        return False
    if t.target_submit_epoch_s:
        return job.submit_epoch_s == t.target_submit_epoch_s or bool(job.restarts)
    if t.state not in (SUBMITTED, CANCELLED):
        return False
    mark = marks.read(job.comment)[1]
    as_asked = job.state != "PENDING" or abs((job.eligible_epoch_s or 0) - t.begin_epoch_s) <= _CLOCKS_S
    return as_asked and (mark is None or not mark.move) and t.asked_epoch_s <= job.submit_epoch_s <= t.changed_epoch_s


def _is_copy(t: Transfer, row: Accounted) -> bool:
    if t.target_submit_epoch_s:
        return row.job_id == t.target_id and row.submit_epoch_s == t.target_submit_epoch_s
    mark = marks.read(row.comment)[1]
    return mark is not None and mark.move == mark_of(t)


def _of_row(t: Transfer, row: Accounted) -> QueuedJob:
    """A job that only the accounting knows. One that it believes to wait still is lost to slurmctld: it will not run."""
    state = "CANCELLED" if row.state == "PENDING" else row.state
    return QueuedJob(
        t.to_location.partition("/")[0], row.job_id, t.user, row.uid, state, "", row.submit_epoch_s, comment=row.comment
    )
