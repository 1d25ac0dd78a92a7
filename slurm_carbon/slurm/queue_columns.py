"""The queue by `squeue --Format`: a tenth of what JSON costs slurmctld's machine and ours, and the same in all versions.

Names and comments can contain anything, so each field ends in a word that is drawn for this one call. It has no end that
could be its own beginning (one capital, then small letters), so a value cannot run into it, and it goes by the environment:
others cannot read it in /proc, as they can a command line.
"""

import re
import secrets
from collections.abc import Iterator
from typing import NamedTuple

from slurm_carbon.queued import QueuedJob
from slurm_carbon.slurm import queue_values as values
from slurm_carbon.slurm.command import Command
from slurm_carbon.slurm.queue_values import FormError

TIMEOUT_S = 60.0
MOST_BYTES = 256 << 20  # 200,000 jobs
# what in our environment could change what squeue prints
WITHOUT = ("SQUEUE_", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN", "SLURM_DEBUG_FLAGS")
FIELDS = (
    *("JobID", "ArrayJobID", "ArrayTaskID", "State", "Cluster", "UserName", "UserID", "Partition", "SubmitTime", "Reason"),
    *("Name", "Account", "QOS", "EligibleTime", "StartTime", "EndTime", "TimeLimit", "PriorityLong", "HetJobID"),
    *("Dependency", "NumNodes", "MaxNodes", "NumCPUs", "NumTasks", "cpus-per-task", "Tres", "tres-per-job"),
    *("tres-per-node", "tres-per-task", "tres-per-socket", "Sockets", "MinMemory", "OverSubscribe", "Exclusive", "Feature"),
    *("Licenses", "Reservation", "ReqNodes", "ExcNodes", "RestartCnt", "BatchFlag", "SiblingsActive", "SiblingsViable"),
    *("Deadline", "Comment", "admin_comment"),
)
_NEW = frozenset(["NumTasks", "ExcNodes", "Exclusive"])  # not in 22.05, and the last one not before 26.05
_COUNT = re.compile(r"records=(\d+)\n")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Columns(NamedTuple):
    """What squeue printed."""

    jobs: tuple[QueuedJob, ...]
    merged: bool  # tasks of arrays that have records of their own are shown in the row of their array


def draw_word() -> str:
    """A word that nobody can have written into a job; 56 bits."""
    return secrets.choice(_LETTERS).upper() + "".join(secrets.choice(_LETTERS) for _ in range(11))


def command(cluster: str, slurm_conf: str, word: str) -> Command:
    """The call that prints every record of slurmctld, each field followed by the word.

    `-v` makes it say how many records there are: squeue shows the tasks that were split off from a waiting array in the
    array's row, with its values, and there is no other way to notice. 22.05 can be told not to (SQUEUE_ARRAY_UNIQUE).
    """
    where = [] if slurm_conf else ["-M", cluster]
    environment = {
        "SQUEUE_FORMAT2": ",".join(f"{field}:{word}" for field in FIELDS),
        "SQUEUE_ARRAY_UNIQUE": "1",
        "SLURM_BITSTR_LEN": "0",  # lists of tasks in full
        "SLURM_TIME_FORMAT": "%s",
        "TZ": "UTC",  # no hour that comes twice
    }
    return Command(
        ["squeue", *where, "--local", "-a", "-v", "--noconvert", "-t", "all"],
        f"queue of {cluster}",
        environment=environment | ({"SLURM_CONF": slurm_conf} if slurm_conf else {}),
        without=WITHOUT,
        timeout_s=TIMEOUT_S,
        most_bytes=MOST_BYTES,
    )


def parse(cluster: str, output: bytes, word: str, memory_counts: bool = True) -> Columns:
    """The jobs that are not over yet. Raises FormError for anything but exactly what was asked for.

    Bytes that are no UTF-8 come back as `os.fsencode` gives them: what is written back is what was read.
    """
    cells = output.decode("utf-8", "surrogateescape").split(word)
    width = len(FIELDS)
    count, rest = divmod(len(cells) - 1, width)
    records = _COUNT.search(cells[0])
    header = cells[:width]
    if rest or count < 1 or records is None or not cells[0].endswith("JOBID") or cells[-1] != "\n":
        raise FormError(f"cluster {cluster}: squeue did not print the columns that it was asked for")
    missing = [field for field, title in zip(FIELDS, header, strict=True) if not title and field not in _NEW]
    if missing:
        raise FormError(f"cluster {cluster}: squeue has no column {', '.join(missing)}")
    if count - 1 > int(records[1]):
        raise FormError(f"cluster {cluster}: squeue printed more rows than there are records")
    by_itself = bool(header[FIELDS.index("Exclusive")])
    jobs = []
    for start in range(width, width * count, width):
        row = cells[start : start + width]
        if row[0][:1] != "\n":
            raise FormError(f"cluster {cluster}: squeue printed a row that does not end where it should")
        row[0] = row[0][1:]
        job = _job(cluster, row, by_itself, memory_counts)
        if job.state not in values.OVER:
            jobs.append(job)
    return Columns(tuple(_throttled(jobs)), count - 1 < int(records[1]))


def _job(cluster: str, row: list[str], by_itself: bool, memory_counts: bool) -> QueuedJob:
    (
        job_id, array_id, task, state, its_cluster, user, uid, partition, submit, reason, name, account, qos, eligible,
        start, end, limit, priority, het_id, dependency, nodes, max_nodes, cpus, task_count, per_task, tres,
        tres_per_job, tres_per_node, tres_per_task, tres_per_socket, sockets, least_mb, oversubscribe, exclusive, features,
        licenses, reservation, wanted, unwanted, restarts, is_batch, active, viable, deadline, comment, admin_comment,
    ) = row  # fmt: skip
    if its_cluster not in (cluster, "(null)", "N/A"):
        raise FormError(f"asked cluster {cluster}, and {its_cluster[:40]} answered: check its slurm_conf")
    cpu_count = values.number(cpus)
    if task_count.isdigit():
        number_of_tasks = int(task_count)
    else:
        number_of_tasks = max(1, cpu_count // int(per_task)) if per_task.isdigit() and int(per_task) else 1
    wants = values.asked(
        tres, _given(tres_per_job), _given(tres_per_node), _given(tres_per_task), _given(tres_per_socket),
        int(sockets) if sockets.isdigit() else 1, values.number(nodes), number_of_tasks,
    )  # fmt: skip
    per_node, per_cpu = values.memory(values.megabytes(least_mb), wants, cpu_count, memory_counts)
    stands = values.tasks(task) if task != "N/A" else None
    most = values.number(max_nodes)
    began, ends = values.moment(start), values.moment(end)
    limit_s = ends - began if limit == values.TOO_LONG and began and ends else values.seconds(limit)
    return QueuedJob(
        cluster=cluster,
        id=values.number(job_id),
        user=user,
        uid=values.number(uid),
        state=state,
        partition=partition,
        submit_epoch_s=values.moment(submit) or 0,
        reason=_given(reason),
        name=values.text(name),
        account=_given(account),
        qos=_given(qos),
        eligible_epoch_s=values.moment(eligible),
        start_epoch_s=began,
        end_epoch_s=None if state in values.WAITING or limit_s is None else ends,
        time_limit_s=limit_s,
        priority=values.number(priority),
        array_id=values.number(array_id) if stands else 0,
        array_tasks=stands.which if stands else "",
        task_count=stands.number if stands else 1,
        throttle=stands.throttle if stands else 0,
        het_id=values.moment(het_id) or 0,
        dependency=_given(dependency),
        nodes=wants.nodes,
        max_nodes=most if most > wants.nodes else None,
        cpus=cpu_count,
        gpus=wants.gpus,
        gpu_type=wants.gpu_type,
        gres_per_node=wants.gres_per_node,
        memory_mb_per_node=per_node,
        memory_mb_per_cpu=per_cpu,
        exclusive=exclusive == "NODE" if by_itself else oversubscribe == "NO",
        features=_given(features),
        licenses=_given(licenses),
        reservation=_given(reservation),
        wanted_nodes=_given(wanted),
        unwanted_nodes=_given(unwanted),
        restarts=values.number(restarts),
        is_batch=is_batch == "1",
        siblings=values.siblings(_given(active), _given(viable)),
        deadline_epoch_s=values.moment(deadline),
        comment=values.text(comment),
        admin_comment=values.text(admin_comment),
    )


def _given(text: str) -> str:
    """What stands in a field of Slurm's own, "" where squeue says that nothing does."""
    return "" if text in ("(null)", "N/A", "NA") else text


def _throttled(jobs: list[QueuedJob]) -> Iterator[QueuedJob]:
    """Jobs with the throttle of their array, which only the row of what still waits together shows."""
    throttles = {job.array_id: job.throttle for job in jobs if job.throttle}
    for job in jobs:
        throttle = throttles.get(job.array_id, 0) if throttles else 0
        yield job._replace(throttle=throttle) if throttle != job.throttle else job
