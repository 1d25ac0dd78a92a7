"""The queue out of recorded answers of each Slurm, by each way of reading."""

from __future__ import annotations

import gzip

import pytest

from slurm_carbon.errors import CommandError
from slurm_carbon.queued import QueuedJob
from slurm_carbon.slurm import capacity, queue, queue_columns, queue_json
from slurm_carbon.slurm.command import Command, Completed, Runner
from tests.queue.hostile import differences
from tests.queue.record import FIXTURES, NAMES, WORD

RECORDED = ("22.05", "24.11", "26.05")
NOW = 1_795_975_830
NO_COLUMN = {"22.05": frozenset(["unwanted_nodes"])}


def answer(version: str, name: str) -> bytes:
    """What was recorded."""
    with gzip.open(FIXTURES / f"queue-{version}" / f"{name}.gz") as file:
        return file.read()


class Recorded(Runner):
    """Answers as a cluster did; squeue's word is the one of the call."""

    def __init__(self, version: str, columns: bytes | None = None) -> None:
        self.version = version
        self.columns = answer(version, "columns") if columns is None else columns
        self.asked: list[Command] = []

    def run(self, command: Command) -> Completed:
        """By what is asked for."""
        self.asked.append(command)
        if command.argv[0] == "scontrol":
            return Completed(0, answer(self.version, command.argv[-1]), b"")
        if any(word.startswith("--json") for word in command.argv):
            return Completed(0, answer(self.version, "json"), b"")
        word = command.environment["SQUEUE_FORMAT2"].partition(":")[2].partition(",")[0]
        return Completed(0, self.columns.replace(WORD.encode(), word.encode()), b"")

    def squeues(self) -> list[list[str]]:
        """The calls of squeue."""
        return [command.argv for command in self.asked if command.argv[0] == "squeue"]


def by_id(jobs: tuple[QueuedJob, ...]) -> dict[int, QueuedJob]:
    """Jobs by number, each of which must be there once."""
    found = {job.id: job for job in jobs}
    assert len(found) == len(jobs)
    return found


@pytest.mark.parametrize("version", RECORDED)
def test_every_job_is_read_as_it_was_asked_for(version: str) -> None:
    """Whatever its name and comment, of every kind of request, each record by itself."""
    runner = Recorded(version)
    found = queue.read(runner, "alpha", "", NOW)
    assert differences(found.jobs, NO_COLUMN.get(version, frozenset())) == []
    assert (found.cluster, found.read_epoch_s) == ("alpha", NOW)
    assert found.version.startswith(version)


@pytest.mark.parametrize("version", RECORDED)
def test_json_says_the_same(version: str) -> None:
    """Both ways give the same values, but for a column that 22.05 does not have."""
    in_json = queue_json.parse("alpha", answer(version, "json"))
    assert differences(in_json) == []
    in_columns = queue.read(Recorded(version), "alpha", "", NOW).jobs
    if version in NO_COLUMN:
        in_json = tuple(job._replace(unwanted_nodes="") for job in in_json)
    assert by_id(in_columns) == by_id(in_json)


@pytest.mark.parametrize("version", RECORDED)
def test_one_squeue_and_one_more_for_arrays_that_it_merges(version: str) -> None:
    """22.05 shows all in one call; later ones are asked again, and only for the arrays that may be merged."""
    runner = Recorded(version)
    jobs = queue.read(runner, "alpha", "", NOW).jobs
    first, *more = runner.squeues()
    assert not any(word.startswith("--json") for word in first)
    if version == "22.05":
        assert more == []
    else:
        ((_, ids),) = [argv[-2:] for argv in more]
        in_doubt = {job.array_id for job in jobs if job.name in ("split", "torn", "steps", "even", "scattered")}
        assert set(map(int, ids.split(","))) == in_doubt


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize("damage", ["cut", "nothing", "no column", "more rows"])
def test_columns_that_cannot_be_read_are_asked_for_in_json(version: str, damage: str) -> None:
    """A cut answer, a missing column, a row too many: nothing of it is believed."""
    columns = answer(version, "columns")
    header = columns[: columns.index(b"ADMIN_COMMENT") + len(b"ADMIN_COMMENT" + WORD.encode()) + 1]
    damaged = {
        "cut": columns[: len(columns) // 2],
        "nothing": b"",
        "no column": columns.replace(b"ELIGIBLE_TIME", b"", 1),
        "more rows": columns + columns[len(header) :],
    }[damage]
    runner = Recorded(version, damaged)
    assert by_id(queue.read(runner, "alpha", "", NOW).jobs) == by_id(queue_json.parse("alpha", answer(version, "json")))
    assert len(runner.squeues()) == 2


@pytest.mark.parametrize("version", RECORDED)
def test_nodes_and_reservations(version: str) -> None:
    """A drained node is out of service, whatever its reason says; a lecture of each day is there each day."""
    found = queue.read(Recorded(version), "alpha", "", NOW)
    assert [(n.name, n.cpus, n.memory_mb, n.gpus, n.gpu_type, n.in_service) for n in found.nodes] == [
        ("alpha0", 16, 64000, 0, "", True),
        ("alpha1", 16, 64000, 0, "", True),
        ("alpha2", 16, 64000, 0, "", False),
        ("alpha3", 16, 64000, 2, "a100", True),
    ]
    assert found.nodes[3].partitions == ("batch", "gpu")
    maint, *lectures = found.reservations
    assert (maint.name, maint.nodes) == ("maint", {"alpha0", "alpha1"})
    assert maint.end_epoch_s - maint.start_epoch_s == 3600
    assert abs(lectures[0].start_epoch_s - maint.start_epoch_s - (5 * 86400 - 5 * 3600)) <= 2
    assert [r.start_epoch_s - lectures[0].start_epoch_s for r in lectures] == [day * 86400 for day in range(14)]
    assert {(r.name, r.nodes, r.end_epoch_s - r.start_epoch_s) for r in lectures} == {("lecture", frozenset(["alpha3"]), 5400)}


@pytest.mark.parametrize("version", RECORDED)
def test_another_cluster_is_not_believed(version: str) -> None:
    """A slurm_conf that leads to another cluster is an error, in each of the answers."""
    with pytest.raises(CommandError, match="asked cluster gamma, and alpha answered"):
        queue.read(Recorded(version), "gamma", "", NOW)
    with pytest.raises(CommandError, match="asked cluster gamma, and alpha answered"):
        queue_json.parse("gamma", answer(version, "json"))
    with pytest.raises(CommandError, match="asked cluster gamma, and alpha answered"):
        queue_columns.parse("gamma", answer(version, "columns"), WORD)


def test_all_names_of_fixtures_are_there() -> None:
    """Each version has each answer."""
    for version in RECORDED:
        assert all(answer(version, name) for name in (*NAMES, "json"))


def test_memory_that_is_no_resource() -> None:
    """Where jobs are not given memory, one that asks for none needs none."""
    settings = capacity.Settings("22.05.8", False, True, False)
    jobs = queue.by_squeue(Recorded("22.05"), "alpha", "", settings)
    assert {job.memory_mb_per_node for job in jobs if job.name in ("held", "all-memory")} == {None}
    assert {job.memory_mb_per_node for job in jobs if job.name == "node-memory"} == {4096.0}


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize("cluster", ["alpha", "beta"])
def test_copies_in_a_federation(version: str, cluster: str) -> None:
    """Each copy that may still start knows of the others, also where it was not submitted; those that may not are left out."""
    columns = queue_columns.parse(cluster, answer(version, f"{cluster}-columns"), WORD)
    in_json = queue_json.parse(cluster, answer(version, f"{cluster}-json"))
    assert not columns.merged
    assert by_id(columns.jobs) == by_id(in_json)
    (later,) = (job for job in in_json if job.name == "later")
    assert (later.siblings, later.state, later.id > 1 << 26) == (("alpha", "beta"), "PENDING", True)
    assert not any(job.state == "REVOKED" for job in in_json)
