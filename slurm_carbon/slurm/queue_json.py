"""The queue by `squeue --json`: slow and large, but each record by itself, where the columns cannot be had or merge them.

Numbers are plain in 22.05 and `{"set":, "infinite":, "number":}` later, states are a word or a list of flags, and the form
changes with each release: what is needed here has had the same names in all of them.
"""

import json
import math
from collections.abc import Collection
from typing import Any

from slurm_carbon.errors import CommandError
from slurm_carbon.queued import QueuedJob
from slurm_carbon.slurm.command import Command
from slurm_carbon.slurm.queue_columns import WITHOUT
from slurm_carbon.slurm.queue_values import OVER, WAITING, FormError, asked, siblings, tasks, text

TIMEOUT_S = 120.0
MOST_BYTES = 1 << 30
MOST_IDS = 10_000  # in one argument, which the kernel limits to 128 KiB
# the order in which squeue's own columns look for the flag that they name
_FLAGS = (
    *("COMPLETING", "STAGE_OUT", "CONFIGURING", "EXPEDITING", "RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"),
    *("SPECIAL_EXIT", "STOPPED", "REVOKED", "RESV_DEL_HOLD", "SIGNALING"),
)
_NUMBER = {"set", "infinite", "number"}


def command(cluster: str, slurm_conf: str, version: str, array_ids: Collection[int] = ()) -> Command:
    """The call for all jobs, or for all records of some arrays (22.05 prints all jobs even so).

    From 26.05 on an older form is asked for: the newest does not say whether a job wants whole nodes.
    """
    where = [] if slurm_conf else ["-M", cluster]
    form = "--json=v0.0.44" if release(version) >= (26, 5) else "--json"
    some = ["-j", ",".join(map(str, sorted(array_ids)))] if 0 < len(array_ids) <= MOST_IDS else []
    return Command(
        ["squeue", *where, "--local", "-a", form, *some],
        f"arrays of {cluster}" if array_ids else f"queue of {cluster} in JSON",
        environment={"SLURM_BITSTR_LEN": "0"} | ({"SLURM_CONF": slurm_conf} if slurm_conf else {}),
        without=WITHOUT,
        timeout_s=TIMEOUT_S,
        most_bytes=MOST_BYTES,
    )


def release(version: str) -> tuple[int, int]:
    """(24, 11) of `24.11.5`; (0, 0) of what is no version."""
    words = version.split(".")
    return (int(words[0]), int(words[1])) if len(words) > 1 and words[0].isdigit() and words[1].isdigit() else (0, 0)


def parse(cluster: str, output: bytes, memory_counts: bool = True) -> tuple[QueuedJob, ...]:
    """The jobs that are not over yet. Raises FormError for a form that is not known.

    Each job becomes a value as soon as it is read: ten thousand of them would take half a gigabyte as they stand there.
    """

    def smaller(found: dict[str, Any]) -> Any:
        if found.keys() == _NUMBER:
            return (math.inf if found["infinite"] else found["number"]) if found["set"] or found["infinite"] else None
        return _job(cluster, found, memory_counts) if "job_id" in found and "job_state" in found else found

    whole = output.decode("utf-8", "surrogateescape")
    try:
        # with -M it says first which cluster it is
        jobs = json.loads(whole[whole.index("{") :], object_hook=smaller, strict=False)["jobs"]
        return tuple(job for job in jobs if job.state not in OVER)
    except CommandError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FormError(f"cluster {cluster}: squeue --json has a form that is not known here ({error})") from None


def _job(cluster: str, raw: dict[str, Any], memory_counts: bool) -> QueuedJob:
    if raw["cluster"] not in (cluster, ""):
        raise FormError(f"asked cluster {cluster}, and {raw['cluster'][:40]} answered: check its slurm_conf")
    state = raw["job_state"]
    if not isinstance(state, str):
        state = next((flag for flag in _FLAGS if flag in state), state[0])
    wants = asked(
        raw["tres_alloc_str"] or raw["tres_req_str"],
        raw["tres_per_job"],
        raw["tres_per_node"],
        raw["tres_per_task"],
        raw["tres_per_socket"],
        _count(raw["sockets_per_node"]) or 1,
        _count(raw["node_count"]),
        _count(raw["tasks"]) or 1,
    )
    stands = None
    if raw["array_task_string"]:
        stands = tasks(raw["array_task_string"])
    elif raw["array_job_id"] and raw["array_task_id"] is not None:
        stands = tasks(str(_count(raw["array_task_id"])))
    limit_min = raw["time_limit"]
    endless = limit_min is None or limit_min == math.inf
    most = _count(raw["max_nodes"]) or _count(raw["node_count"])
    per_cpu, per_node = raw["memory_per_cpu"], raw["memory_per_node"]
    if not per_cpu and not per_node:  # 0: all that a node has, where memory is a resource
        per_cpu, per_node = None, 0.0 if memory_counts else None
    priority = raw["priority"]
    return QueuedJob(
        cluster=cluster,
        id=_count(raw["job_id"]),
        user=raw["user_name"],
        uid=_count(raw["user_id"]),
        state=state,
        partition=raw["partition"],
        submit_epoch_s=_count(raw["submit_time"]),
        reason=raw["state_description"] or raw["state_reason"],
        name=text(raw["name"]),
        account=raw["account"],
        qos=raw["qos"],
        eligible_epoch_s=_count(raw["eligible_time"]) or None,
        start_epoch_s=_count(raw["start_time"]) or None,
        end_epoch_s=None if endless or state in WAITING else _count(raw["end_time"]) or None,
        time_limit_s=None if endless else _count(limit_min) * 60,
        priority=1 if priority in (None, math.inf) else _count(priority),
        array_id=_count(raw["array_job_id"]) if stands else 0,
        array_tasks=stands.which if stands else "",
        task_count=stands.number if stands else 1,
        throttle=_count(raw["array_max_tasks"]) if stands else 0,
        het_id=_count(raw["het_job_id"]),
        dependency=raw["dependency"],
        nodes=wants.nodes,
        max_nodes=most if most > wants.nodes else None,
        cpus=_count(raw["cpus"]),
        gpus=wants.gpus,
        gpu_type=wants.gpu_type,
        gres_per_node=wants.gres_per_node,
        memory_mb_per_node=None if per_node is None else float(per_node),
        memory_mb_per_cpu=None if per_cpu is None else float(per_cpu),
        exclusive="none" in (raw["shared"] or ()),
        features=raw["features"],
        licenses=raw["licenses"],
        reservation=raw["resv_name"],
        wanted_nodes=raw["required_nodes"],
        unwanted_nodes=raw["excluded_nodes"],
        restarts=_count(raw["restart_cnt"]),
        is_batch=bool(raw["batch_flag"]),
        siblings=siblings(raw["federation_siblings_active"], raw["federation_siblings_viable"]),
        deadline_epoch_s=_count(raw["deadline"]) or None,
        comment=text(raw["comment"]),
        admin_comment=text(raw["admin_comment"]),
    )


def _count(value: Any) -> int:
    """A whole number; 0 where there is none. Raises TypeError for what is no number."""
    if value is None:
        return 0
    if isinstance(value, str):
        raise TypeError(f"{value[:40]!r} where a number should be")
    return int(value)
