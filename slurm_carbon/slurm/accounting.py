"""What became of jobs: from sacct, as numbers, for the ledger and what is realised.

A job that waits has nothing here. No field is asked for that a user can write, so the separator is safe. sacct hangs where
slurmdbd does: every call is timed, and asks for a bounded number of jobs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from slurm_carbon.errors import CommandError
from slurm_carbon.slurm.command import Command, Runner

TIMEOUT_S = 60.0
MOST_BYTES = 256 << 20
BATCH = 200  # jobs of one call
_LATE_S = 3600  # that its clock may be ahead of ours
WITHOUT = ("SACCT_", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN", "SLURM_DEBUG_FLAGS")
FIELDS = ("JobIDRaw", "JobID", "Cluster", "Partition", "State", "Submit", "Start", "End", "ElapsedRaw", "NNodes",
          "ConsumedEnergyRaw")  # fmt: skip
_GOES_ON = frozenset(["PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "RESIZING", "COMPLETING", "CONFIGURING"])
_NO_ENERGY = 1 << 63  # Slurm writes its `no value` as a number near 2^64


class Run(NamedTuple):
    """One time that a job, or a task of an array, ran."""

    job_id: int  # of the record: a task of an array has its own
    start_epoch_s: int
    end_epoch_s: int | None  # None: it still runs
    elapsed_s: int  # without the time that it was suspended
    energy_j: float | None  # of its whole nodes, as Slurm measured it
    nodes: int
    partition: str
    state: str


class Outcome(NamedTuple):
    """What became of one job, or of all tasks of an array together."""

    cluster: str
    job_id: int  # of an array, the array's number
    state: str  # at the end; of an array, that of its last task; PENDING or RUNNING while one of them is
    submit_epoch_s: int
    start_epoch_s: int | None  # the first time
    end_epoch_s: int | None  # the last time; None until all is over
    elapsed_s: int  # of all runs
    energy_j: float | None  # of all runs; None where one of them was not measured
    partition: str
    nodes: int  # the most that one of them had
    runs: tuple[Run, ...]

    @property
    def has_run(self) -> bool:
        """Whether it was ever started."""
        return bool(self.runs)


def commands(cluster: str, slurm_conf: str, job_ids: Sequence[int]) -> list[Command]:
    """The calls for some jobs, BATCH of them in each.

    By their numbers alone: a span of time (-S, -E) hides jobs that are held, or that may start only after its end.
    """
    where = [] if slurm_conf else ["-M", cluster]
    found = []
    for first in range(0, len(job_ids), BATCH):
        ids = ",".join(map(str, job_ids[first : first + BATCH]))
        found.append(
            Command(
                ["sacct", *where, "--local", "-a", "-D", "-n", "-P", "-j", ids, "-o", ",".join(FIELDS)],
                f"outcomes on {cluster}",
                environment={"SLURM_TIME_FORMAT": "%s", "TZ": "UTC"} | ({"SLURM_CONF": slurm_conf} if slurm_conf else {}),
                without=WITHOUT,
                timeout_s=TIMEOUT_S,
                most_bytes=MOST_BYTES,
            )
        )
    return found


def outcomes(
    runner: Runner, cluster: str, slurm_conf: str, job_ids: Iterable[int], since_epoch_s: int, now_epoch_s: int
) -> dict[int, Outcome]:
    """What became of jobs that were submitted since then, by their number; those that sacct does not know are missing.

    What was submitted before is another job that once had the number. Raises CommandError where there is no accounting, or
    it does not answer in time.
    """
    wanted = sorted(set(job_ids))
    found: dict[int, Outcome] = {}
    for command in commands(cluster, slurm_conf, wanted):
        done = runner.run(command)
        if done.exit_code:
            raise CommandError(
                f"cluster {cluster}: sacct: {done.complaint}: what became of jobs is known only from slurmdbd "
                "(AccountingStorageType=accounting_storage/slurmdbd)"
            )
        found |= parse(cluster, done.stdout.decode("utf-8", "replace"), since_epoch_s, now_epoch_s)
    return {job_id: found[job_id] for job_id in wanted if job_id in found}


def parse(cluster: str, text: str, since_epoch_s: int, now_epoch_s: int) -> dict[int, Outcome]:
    """The outcomes in what sacct prints, of what was submitted between the two times. Raises CommandError."""
    steps: dict[str, dict[str, str]] = {}  # the last seen of each job, by name
    rows: list[tuple[dict[str, str], Mapping[str, str]]] = []
    for line in text.splitlines():
        words = line.split("|")
        if len(words) != len(FIELDS):
            raise CommandError(f"cluster {cluster}: sacct printed {len(words)} fields, {len(FIELDS)} were asked for")
        row = dict(zip(FIELDS, words, strict=True))
        raw, dot, step = row["JobIDRaw"].partition(".")
        if dot:  # stands below the run of the job that it belongs to
            steps.setdefault(raw, {})[step] = row["ConsumedEnergyRaw"]
        else:
            steps[raw] = {}
            rows.append((row, steps[raw]))
    by_job: dict[int, list[tuple[dict[str, str], Mapping[str, str]]]] = {}
    for row, energies in rows:
        if row["Cluster"] in (cluster, "") and since_epoch_s <= (_moment(row["Submit"]) or 0) <= now_epoch_s + _LATE_S:
            for job_id in _numbers(row):
                by_job.setdefault(job_id, []).append((row, energies))
    return {job_id: _outcome(cluster, job_id, found) for job_id, found in by_job.items()}


def _numbers(row: Mapping[str, str]) -> Iterator[int]:
    """The numbers that a row is asked for by: its own, and that of its array or heterogeneous job."""
    names = {row["JobIDRaw"], row["JobID"].partition("_")[0].partition("+")[0]}
    yield from (int(name) for name in names if name.isdigit())


def _outcome(cluster: str, job_id: int, rows: list[tuple[dict[str, str], Mapping[str, str]]]) -> Outcome:
    runs = [run for row, energies in rows for run in _runs(row, energies)]
    runs.sort(key=lambda run: (run.start_epoch_s, run.job_id))
    newest: dict[str, dict[str, str]] = {}  # of each task, what it is by now: requeued ones come in the order of time
    for row, _ in sorted(rows, key=lambda found: _moment(found[0]["Submit"]) or 0):
        newest[row["JobID"]] = row
    states = {name: row["State"].partition(" ")[0] for name, row in newest.items()}  # CANCELLED by 20001
    going = [state for state in states.values() if state in _GOES_ON]
    ends = [end for row in newest.values() if (end := _moment(row["End"])) is not None]
    last = max(newest.values(), key=lambda row: _moment(row["End"]) or 0)
    over = not going and len(ends) == len(newest)
    measured = [run.energy_j for run in runs if run.energy_j is not None]
    return Outcome(
        cluster=cluster,
        job_id=job_id,
        state=("RUNNING" if "RUNNING" in going else going[0]) if going else last["State"].partition(" ")[0],
        submit_epoch_s=min(_moment(row["Submit"]) or 0 for row, _ in rows),
        start_epoch_s=min((run.start_epoch_s for run in runs), default=None),
        end_epoch_s=max(ends) if over else None,
        elapsed_s=sum(run.elapsed_s for run in runs),
        energy_j=sum(measured) if runs and len(measured) == len(runs) else None,
        partition=last["Partition"],
        nodes=max((run.nodes for run in runs), default=0),
        runs=tuple(runs),
    )


def _runs(row: Mapping[str, str], energies: Mapping[str, str]) -> Iterator[Run]:
    start, end = _moment(row["Start"]), _moment(row["End"])
    state = row["State"].partition(" ")[0]
    elapsed_s = int(row["ElapsedRaw"]) if row["ElapsedRaw"].isdigit() else 0
    nodes = int(row["NNodes"]) if row["NNodes"].isdigit() else 0
    if start is None or state == "PENDING":
        return
    if not elapsed_s and not energies and state != "COMPLETED":
        return  # cancelled while it waited: 22.05 shows a start even so, that of its end
    energy_j = _joules(row["ConsumedEnergyRaw"])
    if energy_j is None:  # without srun it stands at the batch step alone
        steps = [joules for text in energies.values() if (joules := _joules(text)) is not None]
        energy_j = _joules(energies.get("batch", "")) or max(steps, default=None)
    yield Run(
        int(row["JobIDRaw"]) if row["JobIDRaw"].isdigit() else 0,
        start,
        end,
        elapsed_s,
        energy_j,
        nodes,
        row["Partition"],
        state,
    )


def _joules(text: str) -> float | None:
    """J of a field; 0 and Slurm's `no value` are no measurement."""
    try:
        joules = float(text)
    except ValueError:
        return None
    return joules if 0 < joules < _NO_ENERGY else None


def _moment(text: str) -> int | None:
    return int(text) if text.isdigit() and text != "0" else None
