"""Stands for pyslurm 25.11.0: the names, types and habits of its API as its source distribution has them, nothing of it.

Zeros come as None where it takes them for nothing (task 0 of an array, memory 0), times are epoch seconds or None, lists and
dependencies are taken apart, TRES are objects; reading TRES it prints, and without a configuration its import ends the process.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

__version__ = "25.11.0"

# what importing the module does, apart: the tests import this file, too
LOADING = """
if not os.path.exists(os.environ.get("SLURM_CONF", "/etc/slurm/slurm.conf")):
    print("fatal: Could not establish a configuration source", file=sys.stderr)
    os._exit(1)
"""


def tres(cpu: int, mem: int, node: int, **gres: int) -> Any:
    """TrackableResources: counts are objects."""
    names = {name.replace("_", ":"): SimpleNamespace(count=count) for name, count in gres.items()}
    cpus, mems, nodes = (SimpleNamespace(count=count) for count in (cpu, mem, node))
    return SimpleNamespace(cpu=cpus, mem=mems, node=nodes, gres=names)


PLAIN: dict[str, Any] = {
    "id": 7, "cluster": "alpha", "array_id": None, "array_task_id": None, "array_tasks_waiting": None,
    "array_tasks_parallel": None, "state": "PENDING", "state_reason": "BeginTime", "user_name": "carol", "user_id": 20001,
    "partition": "batch", "name": "ünïcode | x", "account": "lab", "qos": "normal", "submit_time": 1795975600,
    "eligible_time": 1795982800, "start_time": None, "end_time": None, "time_limit": 60, "deadline": None, "priority": 1,
    "heterogeneous_id": 0, "dependencies": None, "num_nodes": 1, "max_nodes": None, "cpus": 1, "ntasks": 1,
    "sockets_per_node": None, "allocated_tres": None, "requested_tres": tres(1, 1024, 1), "memory_per_node": 1024,
    "memory_per_cpu": None, "resource_sharing": "OK", "constraints": [], "licenses": [], "reservation": None,
    "required_nodes": None, "excluded_nodes": None, "requeue_count": 0, "is_batch_job": True,
    "federation_siblings_active": [], "federation_siblings_viable": [], "comment": None, "admin_comment": None,
}  # fmt: skip

MORE: tuple[dict[str, Any], ...] = (
    {"comment": "mine | cs1 off", "admin_comment": '{"slurm_carbon": 1}', "licenses": ["matlab:2"], "constraints": ["old&new"]},
    {"id": 8, "array_id": 8, "array_tasks_waiting": "1-60:10,7", "array_tasks_parallel": 3, "excluded_nodes": "n[1-2]"},
    {"id": 9, "array_id": 8, "state": "RUNNING", "start_time": 1795975700, "end_time": 1795979300, "cpus": 16,
     "allocated_tres": tres(16, 64000, 1, gpu=2, gpu_a100=2), "memory_per_node": None},
    {"id": 10, "num_nodes": 3, "max_nodes": 3, "requested_tres": tres(8, 4000, 2), "cpus": 8, "memory_per_node": None,
     "memory_per_cpu": 500, "resource_sharing": "NO", "time_limit": None, "priority": 0, "state_reason": "JobHeldUser"},
    {"id": 11, "dependencies": {"afterok": [7], "singleton": False, "satisfy": "all"}, "heterogeneous_id": 11,
     "federation_siblings_viable": ["alpha", "beta"]},
    {"id": 12, "state": "COMPLETED"},
)  # fmt: skip


class Jobs(dict[int, Any]):
    """A collection by number, as `Jobs.load` gives it."""

    @staticmethod
    def load() -> Jobs:
        """All jobs of the cluster in SLURM_CONF."""
        print("gres gpu gres/gpu")  # as it does for TRES of kinds that it does not know
        os.write(1, b"and C code writes, too\n")
        sys.stdout.flush()
        return Jobs({more.get("id", 7): SimpleNamespace(**{**PLAIN, **more}) for more in MORE})


def _expected() -> tuple[Any, ...]:
    from slurm_carbon.queued import QueuedJob

    plain = QueuedJob(
        "alpha", 7, "carol", 20001, "PENDING", "batch", 1795975600, "BeginTime", name="ünïcode | x", account="lab",
        qos="normal", eligible_epoch_s=1795982800, time_limit_s=3600, memory_mb_per_node=1024.0,
    )  # fmt: skip
    return (
        plain._replace(
            comment="mine | cs1 off", admin_comment='{"slurm_carbon": 1}', licenses="matlab:2", features="old&new"
        ),
        plain._replace(id=8, array_id=8, array_tasks="1,11,21,31,41,51,7", task_count=7, throttle=3, unwanted_nodes="n[1-2]"),
        plain._replace(
            id=9, array_id=8, array_tasks="0", state="RUNNING", start_epoch_s=1795975700, end_epoch_s=1795979300, cpus=16,
            gpus=2, gpu_type="a100", memory_mb_per_node=0.0,
        ),
        plain._replace(
            id=10, nodes=2, max_nodes=3, cpus=8, memory_mb_per_node=None, memory_mb_per_cpu=500.0, exclusive=True,
            time_limit_s=None, priority=0, reason="JobHeldUser",
        ),
        plain._replace(id=11, dependency="afterok:7", het_id=11, siblings=("alpha", "beta")),
    )  # fmt: skip


if __name__.endswith("pyslurm_25_11"):
    EXPECTED = _expected()
