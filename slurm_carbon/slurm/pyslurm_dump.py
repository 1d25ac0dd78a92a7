"""Prints the jobs that pyslurm knows as JSON of squeue's older form: a program of its own, so that it can be timed and ended.

Importing pyslurm ends the process where there is no configuration, a call of it waits for slurmctld as long as that likes,
and it asks only the cluster of its process's SLURM_CONF: none of that may happen to the one who reads the queues. It runs
by its path and imports nothing of slurm-carbon.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any


def jobs(pyslurm: Any) -> Iterator[dict[str, Any]]:
    """Each job as `squeue --json` of 22.05 shows it, as far as slurm-carbon reads that. API of pyslurm 25.11."""
    for job in pyslurm.Jobs.load().values():
        limit_min = job.time_limit
        task = job.array_task_id
        if task is None and job.array_id and not job.array_tasks_waiting:
            task = 0  # it takes a zero for nothing
        yield {
            "job_id": job.id,
            "cluster": job.cluster or "",
            "array_job_id": job.array_id or 0,
            "array_task_id": task,
            "array_task_string": job.array_tasks_waiting or "",
            "array_max_tasks": job.array_tasks_parallel or 0,
            "job_state": job.state,
            "state_reason": job.state_reason or "",
            "state_description": "",
            "user_name": job.user_name,
            "user_id": job.user_id,
            "partition": job.partition or "",
            "name": job.name or "",
            "account": job.account or "",
            "qos": job.qos or "",
            "submit_time": job.submit_time or 0,
            "eligible_time": job.eligible_time or 0,
            "start_time": job.start_time or 0,
            "end_time": job.end_time or 0,
            "time_limit": limit_min if isinstance(limit_min, int) else None,
            "deadline": job.deadline or 0,
            "priority": job.priority if isinstance(job.priority, int) else None,
            "het_job_id": job.heterogeneous_id or 0,
            "dependency": _dependency(job.dependencies),
            "node_count": job.num_nodes or 1,
            "max_nodes": job.max_nodes or 0,
            "cpus": job.cpus,
            "tasks": job.ntasks,
            "sockets_per_node": job.sockets_per_node,
            "tres_alloc_str": _tres(job.allocated_tres),
            "tres_req_str": _tres(job.requested_tres),
            "tres_per_job": "",  # these it cannot read where they are written gres/gpu:2
            "tres_per_node": "",
            "tres_per_task": "",
            "tres_per_socket": "",
            "memory_per_node": job.memory_per_node,
            "memory_per_cpu": job.memory_per_cpu,
            "shared": "none" if job.resource_sharing == "NO" else None,
            "features": ",".join(job.constraints or ()),
            "licenses": ",".join(job.licenses or ()),
            "resv_name": job.reservation or "",
            "required_nodes": job.required_nodes or "",
            "excluded_nodes": job.excluded_nodes or "",
            "restart_cnt": job.requeue_count or 0,
            "batch_flag": job.is_batch_job,
            "federation_siblings_active": ",".join(job.federation_siblings_active or ()),
            "federation_siblings_viable": ",".join(job.federation_siblings_viable or ()),
            "comment": job.comment or "",
            "admin_comment": job.admin_comment or "",
        }


def _dependency(found: dict[str, Any] | None) -> str:
    """What a job waits for, as sbatch takes it."""
    if not found:
        return ""
    words = [f"{kind}:{':'.join(map(str, ids))}" for kind, ids in found.items() if isinstance(ids, list) and ids]
    words += ["singleton"] if found["singleton"] else []
    return ("?" if found["satisfy"] == "any" else ",").join(words) or "unknown"


def _tres(found: Any) -> str:
    """What Slurm counts for a job, in its own words."""
    if not found:
        return ""
    words = [f"{kind}={getattr(found, kind).count}" for kind in ("cpu", "mem", "node") if getattr(found, kind, None)]
    words += [f"gres/{name}={gres.count}" for name, gres in found.gres.items()]
    return ",".join(words)


def main() -> None:
    """Print all jobs to stdout; what pyslurm itself prints goes to stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    pyslurm = importlib.import_module("pyslurm")
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"jobs": list(jobs(pyslurm))}, file)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
