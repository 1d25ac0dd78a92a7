"""The queue by pyslurm, for sites that have one that fits their Slurm: no squeue, the same values.

It is asked by a process of its own (slurm_carbon.slurm.pyslurm_dump), with the SLURM_CONF of the cluster that is meant.
"""

import os
import sys
from importlib import metadata

from slurm_carbon.errors import CommandError
from slurm_carbon.queued import QueuedJob
from slurm_carbon.slurm import pyslurm_dump, queue_json
from slurm_carbon.slurm.capacity import Settings
from slurm_carbon.slurm.command import Command, Runner
from slurm_carbon.slurm.queue_columns import WITHOUT

TIMEOUT_S = 60.0
MOST_BYTES = 512 << 20
DEFAULT_CONF = "/etc/slurm/slurm.conf"
API = (25, 11)  # the release whose API is known here


def installed() -> str:
    """The version of pyslurm in this Python's packages; "" if there is none. It is not imported for that."""
    try:
        return metadata.version("pyslurm")
    except metadata.PackageNotFoundError:
        return ""


def obstacle(runner: Runner, slurm_conf: str, settings: Settings, version: str | None = None) -> str:
    """Why pyslurm cannot read the queue of a cluster; "" if it can. `version` is that of pyslurm: what is installed."""
    version = installed() if version is None else version
    if not version:
        return "it is not installed: pip install 'slurm-carbon[pyslurm]'"
    theirs = queue_json.release(version)
    if theirs < API:
        return f"it is {version}, and its API is known here from {API[0]}.{API[1]:02} on"
    if theirs != queue_json.release(settings.version):
        return f"it is {version}, and the cluster's Slurm is {settings.version}: it needs the one of the same release"
    conf = slurm_conf or os.environ.get("SLURM_CONF", DEFAULT_CONF)
    if not os.path.exists(conf):
        return f"there is no {conf}: it asks only the cluster whose slurm.conf it is given"
    if settings.has_gpus and not settings.counts_gpus:
        return "it does not show GPUs that Slurm does not count: set AccountingStorageTRES=gres/gpu"
    done = runner.run(version_command(slurm_conf))
    here = done.stdout.decode("utf-8", "replace").strip().rpartition(" ")[2]
    if done.exit_code or queue_json.release(here) != theirs:
        return f"it is {version}, and the Slurm installed here is {here or 'unknown'}: it needs the one of the same release"
    return ""


def version_command(slurm_conf: str) -> Command:
    """The call for the version of the Slurm that is installed here, which pyslurm loads."""
    return Command(["squeue", "--version"], "version of Slurm", environment=_environment(slurm_conf), timeout_s=10.0)


def command(cluster: str, slurm_conf: str, python: str = sys.executable) -> Command:
    """The call that prints the jobs by pyslurm."""
    return Command(
        [python, "-I", pyslurm_dump.__file__],
        f"queue of {cluster} by pyslurm",
        environment=_environment(slurm_conf),
        without=WITHOUT,
        timeout_s=TIMEOUT_S,
        most_bytes=MOST_BYTES,
    )


def _environment(slurm_conf: str) -> dict[str, str]:
    return {"SLURM_CONF": slurm_conf} if slurm_conf else {}


def read(
    runner: Runner, cluster: str, slurm_conf: str, settings: Settings, python: str = sys.executable
) -> tuple[QueuedJob, ...]:
    """The jobs that are not over yet. Raises CommandError."""
    done = runner.run(command(cluster, slurm_conf, python))
    if done.exit_code:
        raise CommandError(f"cluster {cluster}: pyslurm: {done.complaint}")
    return queue_json.parse(cluster, done.stdout, settings.memory_counts)
