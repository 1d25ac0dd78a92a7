"""Jobs with names, comments and requests made to be misread, and what each of them is read as, whoever reads it."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from slurm_carbon.queued import QueuedJob

HOUR_S = 3600


class Asked(NamedTuple):
    """A job of user1's on cluster alpha, as it is submitted, and the fields of its records that matter."""

    name: str
    options: list[str]
    records: list[dict[str, Any]]


def asked(name: str, *options: str, begin: str = "now+2hours", **fields: Any) -> Asked:
    """One with a single record."""
    return Asked(name, [*options, *(["--begin", begin] if begin else [])], [fields])


JOBS = [
    asked('two\nlines "x" \\ | end', "--comment", "1|2\tJobId=7 Comment=\n99|root", comment="1|2\tJobId=7 Comment=\n99|root"),
    asked("Grüße 東京 🙂", "--comment", "ü | cs1 off", comment="ü | cs1 off"),
    asked("bad\udcff\udcfebytes", "--comment", "\udcc3(\x01\x1b[31m", comment="\udcc3(\x01\x1b[31m"),
    asked("%s%n%d", "--comment", "N/A", comment="N/A"),
    asked("nothing", "--comment", "(null)", comment=""),
    asked("c" * 900, "--comment", "x" * 1024, comment="x" * 1024),
    asked('{"job_id": 1}, {', "--comment", '"}]}', comment='"}]}'),
    asked("held", "-H", begin="", priority=0, eligible_epoch_s=None, is_held=True),
    asked("deadline", "--deadline", "now+5hours", "-t", "10", time_limit_s=600, eligible_is_later=True),
    asked("long", "-t", "700-0", time_limit_s=700 * 86400),
    asked("endless", "-t", "UNLIMITED", time_limit_s=None),
    asked("days", "-t", "3-01:02:03", "-p", "batch,short", time_limit_s=263_000 - 20, partition="batch,short"),
    asked("features", "-C", "old&alpha", "-L", "matlab:2", features="old&alpha", licenses="matlab:2"),
    asked("either", "-C", "[old|new]", "-N2", features="[old|new]", nodes=2, max_nodes=None, cpus=2),
    asked("waits", "-d", "singleton", begin="now+2hours", dependency=""),
    # nodes, memory, sharing
    asked("whole", "-N2-3", "-n8", "--exclusive", "--mem-per-cpu", "500M", nodes=2, max_nodes=3, cpus=8, exclusive=True,
          memory_mb_per_cpu=500.0, memory_mb_per_node=None),
    asked("shares", "-N2-3", "-n8", "-s", "-w", "alpha0", "-x", "alpha1", wanted_nodes="alpha0", unwanted_nodes="alpha1",
          exclusive=False),
    asked("all-memory", "--mem=0", memory_mb_per_node=0.0, memory_mb_per_cpu=None),
    asked("node-memory", "--mem=4G", "-c3", cpus=3, memory_mb_per_node=4096.0, memory_mb_per_cpu=None),
    asked("cpu-memory", "--mem-per-cpu=4000", "-c3", cpus=3, memory_mb_per_cpu=4000.0, memory_mb_per_node=None),
    # GPUs, in each way to ask for them
    asked("gres", "--gres=gpu:a100:1", "-p", "gpu", gpus=1, gpu_type="a100", gres_per_node=(("gpu:a100", 1),)),
    asked("gpus", "--gpus=a100:2", gpus=2, gpu_type="a100", gres_per_node=()),
    asked("gpus-per-node", "--gpus-per-node=1", "-p", "gpu", gpus=1, gpu_type="", gres_per_node=(("gpu", 1),)),
    asked("gpus-per-task", "--gpus-per-task=1", "-n2", gpus=2, cpus=2),
    # arrays
    asked("array", "-a", "0-9%2", "--mem", "1000", array_tasks="0-9", task_count=10, throttle=2, memory_mb_per_node=1000.0),
    asked("steps", "-a", "1-60:10,7", array_tasks="1,7,11,21,31,41,51", task_count=7, throttle=0),
    asked("even", "-a", "0-98:14", array_tasks="0,14,28,42,56,70,84,98", task_count=8, throttle=0),
    asked("many", "-a", "0-999%50", array_tasks="0-999", task_count=1000, throttle=50),
    asked("scattered", "-a", "1,3,5,8,13,21,34,55,89,144,233,377,610,987", task_count=14),
    Asked("split", ["-a", "0-5%3", "--begin", "now+2hours"], [
        {"array_tasks": "0-2,4-5", "task_count": 5, "throttle": 3, "comment": ""},
        {"array_tasks": "3", "task_count": 1, "throttle": 3, "comment": "apart"},
    ]),
    Asked("torn", ["-a", "0-5", "--begin", "now+2hours"], [
        {"array_tasks": "0,3-4", "task_count": 3, "priority_is_0": False, "partition": "batch", "reason": "BeginTime"},
        {"array_tasks": "1", "task_count": 1, "priority_is_0": True, "partition": "batch"},
        {"array_tasks": "2", "task_count": 1, "priority_is_0": True, "partition": "batch"},
        {"array_tasks": "5", "task_count": 1, "priority_is_0": False, "partition": "short"},
    ]),
    Asked("runs", ["-a", "0-3%2", "-c16", "-t", "100"], [
        {"array_tasks": "0", "state": "RUNNING", "cpus": 16, "throttle": 2, "ends_after_s": 6000},
        {"array_tasks": "1", "state": "RUNNING", "cpus": 16, "throttle": 2, "ends_after_s": 6000},
        {"array_tasks": "2-3", "state": "PENDING", "task_count": 2, "reason": "JobArrayTaskLimit", "end_epoch_s": None},
    ]),
]  # fmt: skip

_AFTERWARDS = """
split=$(squeue -h -n split -o %F | head -n 1); torn=$(squeue -h -n torn -o %F | head -n 1)
scontrol update JobId=${split}_3 Comment=apart
scontrol hold "${torn}_[1-2]"; scontrol update JobId=${torn}_5 Partition=short
sbatch -Q --begin now+2hours -J pair -n1 : -n2 --mem 100 sleep.sh
first=$(sbatch --parsable -J first -H sleep.sh); sbatch -Q -d afterok:$first -J second sleep.sh
"""


def script(jobs: Iterable[Asked] = JOBS) -> bytes:
    """A shell script that submits them as whoever runs it, from his home."""
    lines = ["cd; printf '#!/bin/sh\\nexec sleep 3000\\n' > sleep.sh"]
    lines += [shlex.join(["sbatch", "-Q", "-J", job.name, *job.options, "sleep.sh"]) for job in jobs]
    return ("\n".join(lines) + _AFTERWARDS).encode("utf-8", "surrogateescape")


def differences(jobs: Iterable[QueuedJob], without: frozenset[str] = frozenset()) -> list[str]:
    """What of JOBS was read otherwise than it is; `without` are fields that the way of reading does not have."""
    by_name = defaultdict(list)
    for job in jobs:
        by_name[job.name].append(job)
    wrong = []
    for wanted in JOBS:
        found = sorted(by_name[wanted.name], key=lambda job: job.array_tasks)
        if len(found) != len(wanted.records):
            wrong.append(f"{wanted.name[:40]!r}: {len(found)} records: {[job.array_tasks for job in found]}")
            continue
        for job, fields in zip(found, wanted.records, strict=True):
            seen = _seen(job)
            wrong += [
                f"{wanted.name[:40]!r} {job.array_tasks}: {field} is {seen[field]!r}, not {value!r}"
                for field, value in fields.items()
                if field not in without and seen[field] != value
            ]
            if job.user != "user1" or job.uid != 20001 or job.cluster != "alpha" or not job.is_batch:
                wrong.append(f"{wanted.name[:40]!r}: {job.user}, {job.uid}, {job.cluster}")
    (pair,) = {frozenset(job.het_id for job in by_name["pair"])}
    (first,), (second,) = by_name["first"], by_name["second"]
    if len(pair) != 1 or pair == {0} or len(by_name["pair"]) != 2:
        wrong.append(f"heterogeneous job: {by_name['pair']}")
    if not second.dependency.startswith(f"afterok:{first.id}"):
        wrong.append(f"dependency: {second.dependency}")
    return wrong


def _seen(job: QueuedJob) -> dict[str, Any]:
    began, ends = job.start_epoch_s or 0, job.end_epoch_s or 0
    return {
        **job._asdict(),
        "is_held": job.is_held,
        "priority_is_0": job.priority == 0,
        "ends_after_s": ends - began,
        "eligible_is_later": 7000 < (job.eligible_epoch_s or 0) - job.submit_epoch_s < 7400,
    }
