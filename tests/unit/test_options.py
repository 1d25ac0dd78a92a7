"""From sbatch's options to the job."""

from __future__ import annotations

import pytest

from slurm_carbon.model import Job
from slurm_carbon.slurm.options import job_of_options


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"cpus": 1, "nodes": 1, "time_limit_s": None, "array_tasks": 1}),
        ({"time": "1-12:00:00"}, {"time_limit_s": 129600, "unlimited": False}),
        ({"time": "UNLIMITED"}, {"time_limit_s": None, "unlimited": True}),
        ({"ntasks": "8", "cpus-per-task": "4"}, {"cpus": 32}),
        ({"nodes": "4", "ntasks-per-node": "16"}, {"nodes": 4, "cpus": 64, "max_nodes": 4}),
        ({"ntasks": "32", "ntasks-per-node": "16"}, {"nodes": 2, "cpus": 32}),
        ({"nodes": "2-5"}, {"nodes": 2, "max_nodes": 5}),
        ({"nodes": "1k"}, {"nodes": 1024}),
        ({"array": "1-10%2"}, {"array_tasks": 2, "array_waves": 5}),
        ({"array": "1-3%9"}, {"array_tasks": 3, "array_waves": 1}),
        ({"array": "0-15:4,20,30-31"}, {"array_tasks": 7}),
        ({"gres": "gres:gpu:2", "nodes": "3"}, {"gpus": 6, "gpu_type": ""}),
        ({"gres": "gpu:a100:4(S:0-1),shard:1"}, {"gpus": 4, "gpu_type": "a100"}),
        ({"gpus": "a100:8"}, {"gpus": 8, "gpu_type": "a100"}),
        ({"gpus-per-node": "2", "nodes": "2"}, {"gpus": 4}),
        ({"gpus-per-task": "v100:1", "ntasks": "6"}, {"gpus": 6, "gpu_type": "v100"}),
        ({"gpus": "3"}, {"gpus": 3, "gpu_type": ""}),
        ({"mem": "4G"}, {"memory_mb_per_node": 4096.0}),
        ({"mem-per-cpu": "2000"}, {"memory_mb_per_cpu": 2000.0}),
        ({"constraint": "a&b"}, {"features": ("a", "b"), "tied": ""}),
        ({"constraint": "a|b"}, {"features": (), "tied": "--constraint=a|b was given"}),
        ({"licenses": "matlab:2,ansys"}, {"licenses": (("matlab", 2), ("ansys", 1))}),
        ({"clusters": "beta"}, {"clusters": ("beta",), "fixed": ""}),
        ({"partition": "a,b"}, {"partitions": ("a", "b")}),
        ({"nodelist": "alpha1"}, {"tied": "--nodelist was given", "fixed": ""}),
        ({"exclusive": "exclusive"}, {"exclusive": True}),
        ({"exclusive": "user"}, {"exclusive": False}),
        ({"overcommit": "set", "ntasks": "40"}, {"cpus": 1}),
        ({"gpus": "2", "cpus-per-gpu": "8"}, {"cpus": 16}),
    ],
)
def test_resources(options: dict[str, str], fields: dict[str, object]) -> None:
    """Nodes, cores, GPUs, memory, arrays, licences as sbatch means them."""
    job = job_of_options(options)
    assert {name: getattr(job, name) for name in fields} == fields


@pytest.mark.parametrize("name", ["begin", "hold", "deadline", "dependency", "reservation", "wait", "test-only", "het-job"])
def test_what_fixes_the_whole_job(name: str) -> None:
    """What the user said about time, or who waits for the job, is left alone with the reason."""
    assert job_of_options({name: "set"}).fixed


def test_several_clusters_are_sbatchs_to_choose_from() -> None:
    """With -M a,b sbatch takes the one that starts first; a begin time would make that a toss."""
    assert "several clusters" in job_of_options({"clusters": "a,b"}).fixed
    assert job_of_options({"clusters": "all"}).fixed


def test_nothing_given_is_the_default_job() -> None:
    """No options, no wishes."""
    assert job_of_options({}) == Job()
