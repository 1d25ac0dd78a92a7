"""How every waiting job stands: whether it may be moved, by whose word, when and where to, or why it stays.

Comments, names and features are what users wrote: a mark is its owner's wish about his own job, and no more. What counts
beyond that is the ledger, the hook's record, which only administrators can write, and what the site's policy says now.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from slurm_carbon import marks
from slurm_carbon.hook.records import HookRecord, of_job
from slurm_carbon.ledger.values import Entry
from slurm_carbon.marks import Mark
from slurm_carbon.model import Job, Location, Owner, Wishes
from slurm_carbon.outlook import Outlook
from slurm_carbon.policy import may_opt_out, why_left_alone, why_not_there, window
from slurm_carbon.queued import Queue, QueuedJob
from slurm_carbon.slurm.options import gres_counts

MARKED, ALL = "marked", "all"
MARK, HOOK, SITE = "mark", "hook", "site"  # by whose word a job may be moved

SAME_S = 60  # of a start that was set: what it may differ by
CLAMPED_S = 900  # how much later than planned a start that had passed already was set by Slurm
REQUEUED_S = 300  # Slurm lets a requeued job wait so long at most
FOR_ROOM = (
    "None", "BeginTime", "Priority", "Resources", "JobArrayTaskLimit", "NodeDown", "ReqNodeNotAvail", "Cleaning",
    "Nodes required for job are DOWN, DRAINED or reserved",  # said, too, where a job of a better partition waits for them
)  # fmt: skip
IN_LINE = ("None", "BeginTime", "Priority")
SET_BY_OWNER = "its owner has set the start"
NOT_OPEN = ("PartitionDown", "PartitionInactive", "PartitionNodeLimit", "PartitionTimeLimit")


class Rules(NamedTuple):
    """What one run may do."""

    jobs: str = MARKED  # which jobs: those with a mark or a record of the hook, or all
    margin_s: int = 600  # who starts within it is left alone
    min_saving_pct: float = 5.0  # of what the job emits as things stand
    min_saving_g: float = 1.0
    dearer: float = 2.0  # what each move that was made multiplies the saving with that the next one needs
    max_moves: int = 4  # of one job
    max_updates: int = 500  # in one run
    max_transfers: int = 50  # of these, those that are submitted anew on another cluster: 100 to 300 ms each
    split_arrays: bool = False  # whether tasks of an array may start at several times and places
    own_user: str | None = None  # only his jobs; None: everybody's
    transfer_users: frozenset[str] | None = frozenset()  # whose jobs can be submitted anew elsewhere; None: everybody's
    transfer_clusters: frozenset[str] | None = None  # between which; None: all


class Standing(NamedTuple):
    """One waiting job. If `stays` says why it stays, what follows is known only as far as it matters for the others."""

    job: QueuedJob
    stays: str  # for its owner; empty: it may be moved
    asked: Job  # what it asks for
    here: str  # CLUSTER/PARTITION where it waits
    start_epoch_s: int  # when it would start as things stand
    earliest_epoch_s: int = 0
    latest_epoch_s: int = 0
    locations: tuple[str, ...] = ()  # where it may run; of `here` only if it can start there
    home: str = ""  # where plain sbatch would have run it
    may: str = ""  # by whose word: mark, hook, site
    mark_id: str = ""
    baseline_g: float | None = None  # as ledger or hook have it
    moves: int = 0
    moved_epoch_s: int = 0
    only_rescue: bool = False  # it has been moved often enough: once more only if it would start too late
    entry: Entry | None = None  # that the ledger has

    @property
    def key(self) -> tuple[str, int]:
        """By which the ledger knows it."""
        return ledger_key(self.job)


def ledger_key(job: QueuedJob) -> tuple[str, int]:
    """Cluster and number by which the ledger knows a job: of an array, the array's."""
    return job.cluster, job.array_id or job.id


def standings(
    queues: Sequence[Queue], entries: Mapping[tuple[str, int], Entry], outlook: Outlook,
    groups: Mapping[str, frozenset[str]], rules: Rules, now_epoch_s: int, moving: Collection[tuple[str, int]] = (),
    resting: Collection[tuple[str, int]] = (),
) -> list[Standing]:  # fmt: skip
    """Every pending job of these clusters, in the order of the queues.

    `groups` has the groups of each user, `moving` cluster and number of jobs that are on their way to another cluster,
    `resting` of those that came back from such a way lately: they stay on their cluster for now.
    """
    return _Judge(queues, entries, outlook, groups, rules, now_epoch_s, frozenset(moving), frozenset(resting)).all()


class _Judge:
    """One look at all queues. What many jobs share is worked out once."""

    def __init__(
        self, queues: Sequence[Queue], entries: Mapping[tuple[str, int], Entry], outlook: Outlook,
        groups: Mapping[str, frozenset[str]], rules: Rules, now_epoch_s: int, moving: frozenset[tuple[str, int]],
        resting: frozenset[tuple[str, int]],
    ) -> None:  # fmt: skip
        self.queues, self.entries, self.outlook, self.groups = queues, entries, outlook, groups
        self.rules, self.now, self.moving, self.resting = rules, now_epoch_s, moving, resting
        self.clusters = {queue.cluster for queue in queues}
        self.by_name = {location.name: location for location in outlook.locations}
        self.jobs: dict[tuple[object, ...], Job] = {}
        self.places: dict[tuple[object, ...], tuple[str, ...]] = {}
        self.records = Counter((job.cluster, job.array_id) for queue in queues for job in queue.jobs if job.array_id)
        self.depended = {name for queue in queues for job in queue.jobs for name in _depends_on(job)}

    def all(self) -> list[Standing]:
        found = []
        copies: set[int] = set()
        for queue in self.queues:
            for job in queue.jobs:
                if job.state != "PENDING":
                    continue
                standing = self.one(job)
                if job.siblings:
                    if job.id in copies:
                        standing = standing._replace(stays="a copy in the federation of a job that waits elsewhere too")
                    copies.add(job.id)
                found.append(standing)
        return found

    def one(self, job: QueuedJob) -> Standing:
        asked = self.asked(job)
        partition = job.partition.split(",")[0]
        here = f"{job.cluster}/{partition}"
        guess = 0 if waits_in_line(job) else job.start_epoch_s or 0
        start = max(self.now, job.eligible_epoch_s or 0, guess)
        standing = Standing(job, "", asked, here, start, self.now, start, (here,), here)
        if why := self.why_stays(job, asked, partition):
            return standing._replace(stays=why)
        return self.word(standing)

    def asked(self, job: QueuedJob) -> Job:
        """The job as the rules of csbatch know it."""
        key = (
            job.time_limit_s, job.task_count, job.throttle, job.nodes, job.max_nodes, job.cpus, job.gpus, job.gpu_type,
            job.gres_per_node, job.memory_mb_per_node, job.memory_mb_per_cpu, job.exclusive, job.features, job.licenses,
            job.account, job.qos, bool(job.unwanted_nodes),
        )  # fmt: skip
        found = self.jobs.get(key)
        if found is None:
            found = self.jobs[key] = job_asks(job)
        return found

    def why_stays(self, job: QueuedJob, asked: Job, partition: str) -> str:
        """Why a job stays whatever it could save; empty if nothing speaks against moving it."""
        rules, policy = self.rules, self.outlook.policy
        if rules.own_user is not None and job.user != rules.own_user:
            return f"it is not a job of {rules.own_user}"
        if (job.cluster, job.id) in self.moving or ledger_key(job) in self.moving:
            return "it is on its way to another cluster"
        if " mv=" in job.comment and (mark := marks.read(job.comment)[1]) is not None and mark.move:
            return "its comment says that it is on its way to another cluster"
        owner = self.owner(job.user)
        if marks.is_off(job.comment) and may_opt_out(policy, owner, job.account):
            return "its owner said --carbon-off"
        if job.is_held:
            return "it is held"
        return (
            next((why for holds, why in _TIES if holds(job)), "")
            or _why_waits(job)
            or why_left_alone(asked, owner, policy, partition)
            or ("" if self.known(job.cluster, partition) else f"{job.cluster}/{partition} is not a configured location")
        )

    def known(self, cluster: str, partition: str) -> bool:
        return f"{cluster}/{partition}" in self.by_name and (cluster, partition) in self.outlook.partitions

    def owner(self, user: str) -> Owner:
        return Owner(user, self.groups.get(user, frozenset()), user == "root")

    def word(self, standing: Standing) -> Standing:
        """By whose word a job may be moved, and what that allows."""
        job, rules, policy = standing.job, self.rules, self.outlook.policy
        mark, hook, entry = marks.read(job.comment)[1], of_job(job.admin_comment), self.entries.get(standing.key)
        if entry is not None and not _is_of(entry, job):
            entry = None
        if hook is not None and (hook.mode != "enforce" or not hook.latest_epoch_s):
            hook = None  # it describes what was not done, or why the job was left alone
        limit = job.submit_epoch_s + policy.max_delay_limit_s
        latest = [limit]
        by, locations, home = "", standing.locations, standing.here
        if entry is not None and (entry.may != MARK or mark is not None):
            by, locations, home = entry.may, entry.locations or locations, entry.home
            latest = [entry.latest_epoch_s]  # the job may have been submitted anew since
        elif hook is not None:
            by, locations, home = HOOK, hook.locations or locations, hook.home
            latest.append(hook.latest_epoch_s or limit)
        elif mark is not None:
            by, locations = MARK, mark.locations or locations
        elif rules.jobs == ALL:
            by = SITE
            locations = tuple(self.by_name)
            run_time_s = (standing.asked.time_limit_s or 0) * standing.asked.array_waves
            latest.append(window(Wishes(), policy, job.submit_epoch_s, run_time_s).latest_epoch_s)
        else:
            gone = entry is not None and entry.may == MARK
            return standing._replace(stays="its owner has taken the mark away" if gone else "nothing says that it may be moved")
        if mark is not None:
            latest.append(mark.latest_epoch_s)
        if home not in self.by_name:
            home = standing.here
        standing = standing._replace(
            latest_epoch_s=min(latest), home=home, may=by, entry=entry,
            mark_id=(mark.id if mark else "") or (entry.mark_id if entry else ""),
            baseline_g=_baseline_g(entry, hook),
            moves=entry.moves if entry else 0, moved_epoch_s=entry.moved_epoch_s if entry else 0,
            only_rescue=(entry.moves if entry else 0) >= rules.max_moves,
        )  # fmt: skip
        if not self.is_ours(job, mark, hook, entry):
            return standing._replace(stays=SET_BY_OWNER)
        standing = standing._replace(locations=self.allowed(standing, locations))
        if not standing.locations:
            return standing._replace(stays="no location is open to it at the moment")
        return standing

    def is_ours(self, job: QueuedJob, mark: Mark | None, hook: HookRecord | None, entry: Entry | None) -> bool:
        """Whether nobody but us has set when the job may start."""
        begin = job.eligible_epoch_s
        if begin is None:
            return True
        if job.restarts and begin <= self.now + REQUEUED_S:
            return True
        known = [job.submit_epoch_s] if mark is None and hook is None and entry is None else []
        if mark is not None:
            known.append(mark.begin_epoch_s)
        if hook is not None:
            known.append(hook.begin_epoch_s or hook.decided_epoch_s)
        if entry is not None:
            known.append(entry.begin_epoch_s)
        return any(abs(begin - k) <= SAME_S or (k <= begin <= k + CLAMPED_S and begin <= self.now) for k in known)

    def allowed(self, standing: Standing, names: tuple[str, ...]) -> tuple[str, ...]:
        """Which of these locations the job may run at, by what policy and clusters are now."""
        job, asked = standing.job, standing.asked
        elsewhere = self.elsewhere(standing)
        key = (asked, job.user, names, standing.home, standing.here, elsewhere, job.reason.startswith(NOT_OPEN))
        found = self.places.get(key)
        if found is None:
            found = self.places[key] = tuple(
                name for name in dict.fromkeys((standing.here, *names))
                if name in self.by_name and not self.why_not(standing, self.by_name[name], elsewhere)
            )  # fmt: skip
        return found

    def elsewhere(self, standing: Standing) -> frozenset[str]:
        """Other clusters that the job can go to."""
        job, rules = standing.job, self.rules
        if job.restarts or not self.outlook.policy.move_clusters:
            return frozenset()
        if job.siblings:
            return frozenset() if job.array_id else frozenset(job.siblings) & self.clusters - {job.cluster}
        if not standing.mark_id or not (rules.transfer_users is None or job.user in rules.transfer_users):
            return frozenset()
        if job.array_id and not self.is_whole(job):
            return frozenset()
        if ledger_key(job) in self.resting or self.has_dependents(job):
            return frozenset()
        able = self.clusters if rules.transfer_clusters is None else self.clusters & rules.transfer_clusters
        return frozenset(able - {job.cluster}) if job.cluster in able else frozenset()

    def has_dependents(self, job: QueuedJob) -> bool:
        """Whether others wait for it, whoever owns them: where it is submitted anew, they would wait for ever."""
        return not self.depended.isdisjoint((job.cluster, str(number)) for number in (job.id, job.array_id))

    def is_whole(self, job: QueuedJob) -> bool:
        """Whether all tasks of an array stand in this record: none of them has been split off, or could have begun."""
        waits = job.eligible_epoch_s is not None and job.eligible_epoch_s > self.now
        return waits and self.records[job.cluster, job.array_id] == 1 and job.id == job.array_id

    def why_not(self, standing: Standing, location: Location, elsewhere: frozenset[str]) -> str:
        """Why a job cannot run at a location; empty if it can. Where it is, Slurm has let it in: it must only be open."""
        job, outlook = standing.job, self.outlook
        partition = outlook.partitions.get((location.cluster, location.partition))
        if location.cluster not in self.clusters or partition is None:
            return "it does not answer"
        if location.name == standing.here:
            return "" if partition.up and not job.reason.startswith(NOT_OPEN) else "not open"
        if location.cluster != job.cluster and location.cluster not in elsewhere:
            return "the job cannot be taken there"
        if location.cluster == job.cluster and not outlook.policy.move_partitions:
            return "the site moves no jobs between partitions"
        home = self.by_name[standing.home]
        at_home = outlook.partitions.get((home.cluster, home.partition))
        here_cluster, there = outlook.clusters.get(job.cluster), outlook.clusters.get(location.cluster)
        if at_home is None or here_cluster is None or there is None:
            return "its home is not known"
        if location.cluster != job.cluster and not (job.siblings or there.filesystem == here_cluster.filesystem != ""):
            return f"does not share files with {job.cluster}"
        grid, home_grid = outlook.zones[location.zone], outlook.zones[home.zone]
        if (grid.accounting, grid.factors) != (home_grid.accounting, home_grid.factors):
            return "its intensity cannot be compared"
        # a job that waits away from its home may come back there, or go on: what counts is where it is
        as_if = at_home._replace(cluster=job.cluster)
        return why_not_there(
            standing.asked, self.owner(job.user), Wishes(), outlook.policy, location, partition, there, as_if, here_cluster
        )


def waits_in_line(job: QueuedJob) -> bool:
    """Whether a job waits for nothing but its begin time and those before it.

    When Slurm expects such a job to start is of no use: the backfill counts those before it one after the other, with their
    whole time limits, and is late by hours. Of the first in line it knows why there is no room.
    """
    return job.reason.startswith(IN_LINE) or not job.reason


def job_asks(job: QueuedJob) -> Job:
    """The job as the rules of csbatch know it: what a record in the queue asks for."""
    features, simple = _features(job.features)
    tied = "--exclude was given" if job.unwanted_nodes else "" if simple else "--constraint was given"
    together = min(job.task_count, job.throttle or job.task_count)
    try:
        licenses = gres_counts(job.licenses)
    except (ValueError, IndexError):
        licenses, tied = (), "--licenses was given"
    if "|" in job.licenses:
        licenses, tied = (), "--licenses was given"
    return Job(
        time_limit_s=job.time_limit_s, unlimited=not job.time_limit_s, array_tasks=max(1, together),
        array_waves=-(-job.task_count // max(1, together)), nodes=max(1, job.nodes), max_nodes=job.max_nodes,
        cpus=max(1, job.cpus, job.nodes), gpus=job.gpus, gpu_type=job.gpu_type, memory_mb_per_node=job.memory_mb_per_node,
        memory_mb_per_cpu=job.memory_mb_per_cpu, exclusive=job.exclusive, gres_per_node=job.gres_per_node,
        licenses=licenses, features=features, account=job.account, qos=job.qos, tied=tied,
    )  # fmt: skip


def _features(text: str) -> tuple[tuple[str, ...], bool]:
    """The features that all are needed, and whether that is all the expression says."""
    if any(character in text for character in "|[]()*"):
        return (), False
    return tuple(name for name in text.replace("&", ",").split(",") if name and name != "(null)"), True


_TIES: tuple[tuple[Callable[[QueuedJob], object], str], ...] = (
    (lambda job: not job.is_batch, "somebody waits at a terminal for it"),
    (lambda job: job.het_id, "it is part of a heterogeneous job"),
    (lambda job: job.dependency and job.dependency != "(null)", "it depends on other jobs"),
    (lambda job: job.reservation, "it has a reservation"),
    (lambda job: job.deadline_epoch_s, "it has a deadline"),
    (lambda job: job.wanted_nodes, "its owner has named nodes"),
    (lambda job: "," in job.partition, "its owner has named several partitions"),
)


def _why_waits(job: QueuedJob) -> str:
    """What other than room a job waits for; empty if it is room or its own start."""
    reason = job.reason
    if not reason or reason.startswith((*FOR_ROOM, *NOT_OPEN)):
        return ""
    if reason.startswith("Dependency"):
        return "it depends on other jobs"
    if reason.startswith("BurstBuffer"):
        return "it waits for a burst buffer"
    return "it waits for something else than room: " + "".join(c for c in reason[:40] if c.isalnum())


def _depends_on(job: QueuedJob) -> list[tuple[str, str]]:
    """Numbers that the dependency of a job names: afterok:12(unfulfilled),afterany:13_*."""
    if not job.dependency:
        return []
    words = "".join(c if c.isdigit() else " " for c in job.dependency).split()
    return [(job.cluster, word) for word in words]


def _is_of(entry: Entry, job: QueuedJob) -> bool:
    """Whether an entry is of this job, and not of an earlier one with the same number. A requeue renews the submission."""
    return entry.user == job.user and (bool(job.restarts) or abs(entry.submit_epoch_s - job.submit_epoch_s) <= SAME_S)


def _baseline_g(entry: Entry | None, hook: HookRecord | None) -> float | None:
    """What the job would have emitted at once at home; never by what a comment says."""
    if entry is not None:
        return entry.baseline_g
    return hook.baseline_g if hook is not None else None
