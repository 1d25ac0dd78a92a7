"""What the hook would do with a job: the site's own script, run by Slurm's own Lua on a job as slurmctld would describe it."""

import os

from slurm_carbon.hook.install import MODULE, SOURCE
from slurm_carbon.hook.interpreter import Interpreter
from slurm_carbon.light import NamedTuple
from slurm_carbon.luaform import lua
from slurm_carbon.model import Job, Partition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_DRIVER = os.path.join(os.path.dirname(__file__), "trial.lua")
NO_VAL16, NO_VAL, INFINITE = 65534, 4294967294, 4294967295


class Outcome(NamedTuple):
    """What a script did with a job."""

    code: str
    changed: dict[str, str]
    told_user: tuple[str, ...]
    logged: tuple[str, ...]


def description(
    options: "Mapping[str, str]", job: Job, script: str, environment: "Mapping[str, str]", user: tuple[str, int, int], now: int
) -> "dict[str, Any]":
    """A job as slurmctld 22.05 describes it to a submit plugin, with its values for numbers that are not set."""
    prefix = "gres:"
    limit_min = NO_VAL if job.time_limit_s is None else job.time_limit_s // 60

    def number(name: str, unset: int) -> int:
        return int(options[name]) if name in options else unset

    def gpus(name: str) -> str | None:
        return f"{prefix}gpu:{options[name]}" if name in options else None

    per_node = ",".join(f"{prefix}{name}:{count}" for name, count in job.gres_per_node)
    return {
        "script": script, "environment": dict(environment), "user_name": user[0], "user_id": user[1], "group_id": user[2],
        "account": options.get("account"), "qos": options.get("qos"), "partition": options.get("partition"),
        "clusters": options.get("clusters"), "comment": options.get("comment"), "features": options.get("constraint"),
        "licenses": options.get("licenses"), "dependency": options.get("dependency"), "reservation": options.get("reservation"),
        "array_inx": options.get("array"), "req_nodes": options.get("nodelist"), "exc_nodes": options.get("exclude"),
        "begin_time": now if "begin" in options else 0, "priority": 0 if "hold" in options else NO_VAL,
        "time_limit": INFINITE if job.unlimited else limit_min, "het_job_offset": NO_VAL,
        "min_nodes": job.nodes if "nodes" in options else NO_VAL,
        "max_nodes": NO_VAL if job.max_nodes is None else job.max_nodes,
        "num_tasks": number("ntasks", NO_VAL), "cpus_per_task": number("cpus-per-task", NO_VAL16),
        "ntasks_per_node": number("ntasks-per-node", NO_VAL16), "min_cpus": job.cpus,
        "min_mem_per_node": job.memory_mb_per_node, "min_mem_per_cpu": job.memory_mb_per_cpu,
        "tres_per_node": per_node or gpus("gpus-per-node"), "tres_per_task": gpus("gpus-per-task"),
        "tres_per_job": gpus("gpus"),
        "cpus_per_tres": f"{prefix}gpu:{options['cpus-per-gpu']}" if "cpus-per-gpu" in options else None,
        "shared": 0 if job.exclusive else NO_VAL16, "work_dir": os.getcwd(), "name": options.get("job-name"),
    }  # fmt: skip


def open_partitions(partitions: "Iterable[Partition]") -> "dict[str, dict[str, int]]":
    """Partitions as slurmctld lists them to a submit plugin, as far as the hook looks at them."""
    return {
        partition.name: {
            "state_up": 3 if partition.up else 0,
            "flag_default": int(partition.is_default),
            "max_time": INFINITE if partition.max_time_s is None else partition.max_time_s // 60,
        }
        for partition in partitions
    }


def run(
    interpreter: Interpreter, script_path: str, cluster: str, partitions: "Mapping[str, Any]", job: "Mapping[str, Any]"
) -> Outcome:
    """Run a job_submit.lua on a job. Raises HookError where it fails."""
    trial = {"script": script_path, "cluster": cluster, "partitions": partitions, "description": job}
    with open(_DRIVER, encoding="utf-8") as file:
        driver = file.read()
    found = interpreter.evaluate(f"local trial = {literal(trial)}\n{driver}", "trial.lua")
    rows = [row.split("\t", 2) for row in found.split("\n")]
    return Outcome(
        next((row[1] for row in rows if row[0] == "code"), "nil"),
        {row[1]: row[2] for row in rows if row[0] == "set"},
        tuple(row[1] for row in rows if row[0] == "user"),
        tuple(row[1] for row in rows if row[0] == "log"),
    )


def outlook_age(interpreter: Interpreter, path: str) -> tuple[int, str]:
    """The age in seconds of the hook's outlook, and what the hook would have against it: empty if nothing."""
    found = interpreter.evaluate(
        f"local carbon = dofile({literal(os.path.join(SOURCE, MODULE))})\n"
        f"local seen = carbon.outlook.read({literal(path)}, nil, function(x) return io.open(x, 'r') end)\n"
        "if seen.problem then return '0\t' .. seen.problem end\n"
        "local ok, why = pcall(carbon.outlook.check_age, seen.outlook, os.time())\n"
        "return string.format('%.0f\t%s', os.time() - seen.outlook.generated, ok and '' or why.outlook)",
        "status.lua",
    )
    age_s, _, said = found.partition("\t")
    return int(age_s), said


def literal(value: "Any") -> str:
    """A value as Lua source, whatever bytes are in its texts."""
    return lua(value, _escaped)


def _escaped(text: str) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03d}" for b in data) + '"'
