"""All of one cluster's queue as of now, by the cheapest way that says it whole: one squeue a tick.

    columns of squeue        a tenth of JSON's cost; but it shows the tasks that were split off from a waiting array
                             in the array's row (22.05 can be told not to, later ones say only that it happened)
    squeue --json            each record by itself: for such arrays, and where columns cannot be read
    pyslurm                  where the site has the one that fits its Slurm

Whatever is read gives the same values (slurm_carbon.queued); where none of the ways does, nothing is guessed.
"""

from typing import Protocol

from slurm_carbon.errors import CommandError
from slurm_carbon.queued import Queue, QueuedJob
from slurm_carbon.slurm import capacity, pyslurm_reader, queue_columns, queue_json
from slurm_carbon.slurm.capacity import Settings
from slurm_carbon.slurm.command import Command, Runner
from slurm_carbon.slurm.queue_values import FormError

WHICH = ("auto", "squeue", "pyslurm")


class Reader(Protocol):
    """A way to read the jobs of a cluster."""

    def __call__(self, runner: Runner, cluster: str, slurm_conf: str, settings: Settings, /) -> tuple[QueuedJob, ...]:
        """The jobs that are not over yet. Raises CommandError."""


def commands(cluster: str, slurm_conf: str, word: str) -> list[Command]:
    """The calls that describe a queue, of which one reads the jobs: each field in its answer ends in the word."""
    return [
        capacity.command(cluster, slurm_conf, "config"),
        queue_columns.command(cluster, slurm_conf, word),
        capacity.command(cluster, slurm_conf, "node"),
        capacity.command(cluster, slurm_conf, "reservation"),
    ]


def read(runner: Runner, cluster: str, slurm_conf: str, now_epoch_s: int, which: str = "auto") -> Queue:
    """Read a cluster through its own slurm.conf, or by -M where that is empty. Raises CommandError.

    `which` is the way to read its jobs: one of WHICH.
    """
    settings = capacity.read_settings(runner, cluster, slurm_conf)
    jobs = reader(which, runner, slurm_conf, settings)(runner, cluster, slurm_conf, settings)
    nodes, reservations = capacity.read(runner, cluster, slurm_conf)
    return Queue(cluster, settings.version, now_epoch_s, jobs, nodes, reservations)


def reader(which: str, runner: Runner, slurm_conf: str, settings: Settings) -> Reader:
    """The way to read the jobs: pyslurm where it fits, else squeue. Raises CommandError where it was asked for in vain."""
    if which not in WHICH:
        raise CommandError(f"{which[:40]!r} is no reader of queues: choose from {', '.join(WHICH)}")
    if which == "squeue":
        return by_squeue
    obstacle = pyslurm_reader.obstacle(runner, slurm_conf, settings)
    if not obstacle:
        return by_pyslurm
    if which == "pyslurm":
        raise CommandError(f"pyslurm cannot read the queue: {obstacle}")
    return by_squeue


def by_pyslurm(runner: Runner, cluster: str, slurm_conf: str, settings: Settings) -> tuple[QueuedJob, ...]:
    """The jobs by pyslurm; by squeue where it fails, as it does when a job's name is no UTF-8. Raises CommandError."""
    try:
        return pyslurm_reader.read(runner, cluster, slurm_conf, settings)
    except CommandError:
        return by_squeue(runner, cluster, slurm_conf, settings)


def by_squeue(runner: Runner, cluster: str, slurm_conf: str, settings: Settings) -> tuple[QueuedJob, ...]:
    """The jobs by one squeue, and by a second one for arrays that the first does not show as they are. Raises CommandError."""
    word = queue_columns.draw_word()
    done = runner.run(queue_columns.command(cluster, slurm_conf, word))
    if done.exit_code:
        raise CommandError(f"cluster {cluster}: squeue: {done.complaint}")
    try:
        found = queue_columns.parse(cluster, done.stdout, word, settings.memory_counts)
    except FormError:
        return _by_json(runner, cluster, slurm_conf, settings, frozenset())
    if not found.merged:
        return found.jobs
    # a row that others were merged into has lost its throttle
    doubtful = frozenset(job.array_id for job in found.jobs if job.task_count > 1 and not job.throttle)
    sure = tuple(job for job in found.jobs if job.array_id not in doubtful) if doubtful else ()
    return sure + _by_json(runner, cluster, slurm_conf, settings, doubtful)


def _by_json(
    runner: Runner, cluster: str, slurm_conf: str, settings: Settings, array_ids: frozenset[int]
) -> tuple[QueuedJob, ...]:
    done = runner.run(queue_json.command(cluster, slurm_conf, settings.version, array_ids))
    if done.exit_code and array_ids:  # one array alone, which has ended meanwhile, is an error to squeue
        done = runner.run(queue_json.command(cluster, slurm_conf, settings.version))
    if done.exit_code:
        raise CommandError(f"cluster {cluster}: squeue --json: {done.complaint}")
    jobs = queue_json.parse(cluster, done.stdout, settings.memory_counts)
    return tuple(job for job in jobs if not array_ids or job.array_id in array_ids)
