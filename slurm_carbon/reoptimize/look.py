"""What a run and those who ask about jobs look at in the same way: queues, how every job stands, one job's story."""

import grp
import os
import pwd
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from slurm_carbon.config import Config, Reoptimize
from slurm_carbon.errors import CommandError
from slurm_carbon.estimate.power import power_w
from slurm_carbon.ledger.store import Ledger
from slurm_carbon.ledger.values import Decided, Entry, Transfer
from slurm_carbon.model import Estimate, Window
from slurm_carbon.outlook import Outlook
from slurm_carbon.place import best_start
from slurm_carbon.policy import in_waves
from slurm_carbon.queued import Queue
from slurm_carbon.reoptimize.choose import task_numbers
from slurm_carbon.reoptimize.room import run_s
from slurm_carbon.reoptimize.standing import SET_BY_OWNER, Rules, Standing, ledger_key, standings
from slurm_carbon.slurm import queue
from slurm_carbon.slurm.command import Runner
from slurm_carbon.units import DAY_S

SET_BY_SOMEBODY = "its start was set by its owner, or by the site, whose ledger cannot be read here"
REST_S = 3600  # after a move to another cluster that came to nothing; twice as long after the next one, and so on
LONGEST_REST_S = 7 * DAY_S


def read_queues(config: Config, runner: Runner, now_epoch_s: int, problems: list[str]) -> list[Queue]:
    """The queues of all clusters that answer; adds to the problems which do not."""
    found = []
    for site in config.sites:
        try:
            found.append(queue.read(runner, site.name, site.slurm_conf, now_epoch_s, config.reoptimize.reader))
        except CommandError as error:
            problems.append(str(error))
    return found


def rules_of(config: Reoptimize, own_user: str | None, transfer_users: frozenset[str] | None) -> Rules:
    """What the configuration allows."""
    return Rules(
        jobs=config.jobs, margin_s=config.margin_s, min_saving_pct=config.min_saving_pct, min_saving_g=config.min_saving_g,
        max_moves=config.max_moves, max_updates=config.max_updates, max_transfers=config.max_transfers,
        split_arrays=config.split_arrays, own_user=own_user,
        transfer_users=transfer_users,
    )  # fmt: skip


def standing_of_queues(
    queues: list[Queue], ledger: Ledger | None, outlook: Outlook, rules: Rules, now_epoch_s: int
) -> list[Standing]:
    """How every waiting job stands, by queues and ledger."""
    known: dict[tuple[str, int], Entry] = {}
    moving: set[tuple[str, int]] = set()
    resting: frozenset[tuple[str, int]] = frozenset()
    if ledger is not None:
        for each in queues:
            numbers = {ledger_key(job)[1] for job in each.jobs if job.state == "PENDING"}
            known |= {(each.cluster, number): entry for number, entry in ledger.entries(each.cluster, numbers).items()}
        for one in ledger.open_transfers():
            moving |= {(one.cluster, one.job_id), (one.to_location.partition("/")[0], one.target_id)}
        resting = still_resting(ledger.undone(now_epoch_s - LONGEST_REST_S), now_epoch_s)
    return standings(queues, known, outlook, groups_of(queues, outlook), rules, now_epoch_s, moving, resting)


def still_resting(undone: Iterable[Transfer], now_epoch_s: int) -> frozenset[tuple[str, int]]:
    """Cluster and number of jobs that came back from the way to another one: the next try waits for longer each time.

    Else a job that no cluster takes would be held and released in every run, and take the room of others in every plan.
    """
    last: dict[tuple[str, int], int] = {}
    often: Counter[tuple[str, int]] = Counter()
    for one in undone:
        key = one.cluster, one.job_id
        often[key] += 1
        last[key] = max(last.get(key, 0), one.changed_epoch_s)
    return frozenset(
        key for key, at in last.items() if now_epoch_s < at + min(REST_S << min(often[key] - 1, 16), LONGEST_REST_S)
    )


def groups_of(queues: Iterable[Queue], outlook: Outlook) -> dict[str, frozenset[str]]:
    """The groups of everybody who waits, asked of the system only if some partition lets in by them."""
    if all(partition.allow_groups is None for partition in outlook.partitions.values()):
        return {}
    found = {}
    for user in {job.user for each in queues for job in each.jobs if job.state == "PENDING"}:
        try:
            ids = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
        except (KeyError, OSError):
            continue
        found[user] = frozenset(name for name in map(_group, ids) if name)
    return found


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def horizon_s(outlook: Outlook, now_epoch_s: int) -> int:
    """How far ahead is planned: as far as the forecast of every zone reaches."""
    return max(0, min(grid.end_epoch_s for grid in outlook.zones.values()) - now_epoch_s)


# for those who ask


class Story(NamedTuple):
    """All that is known of one job: as it waits, or only what the ledger has of it."""

    cluster: str
    job_id: int
    standing: Standing | None  # None: it does not wait any more
    entry: Entry | None
    decisions: tuple[Decided, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    choices: dict[str, tuple[int, float]] = {}  # noqa: RUF012  # location: best start, and g CO2e, by the present forecast

    def as_json(self) -> dict[str, Any]:
        """For tools."""
        standing = self.standing
        return {
            "cluster": self.cluster, "job_id": self.job_id,
            "standing": None if standing is None else {
                name: value for name, value in standing._asdict().items() if name not in ("job", "asked", "entry")
            },
            "job": None if standing is None else standing.job._asdict(),
            "entry": None if self.entry is None else self.entry._asdict(),
            "decisions": [each._asdict() for each in self.decisions],
            "transfers": [each._asdict() for each in self.transfers],
            "choices": {name: {"start_epoch_s": start, "emissions_g": grams} for name, (start, grams) in self.choices.items()},
        }  # fmt: skip


def waiting(
    config: Config, outlook: Outlook, runner: Runner, ledger: Ledger | None, now_epoch_s: int, problems: list[str],
    user: str | None = None,
) -> list[Standing]:  # fmt: skip
    """How the waiting jobs of a user, or of all, stand; adds to the problems what does not answer."""
    queues = read_queues(config, runner, now_epoch_s, problems)
    # as the site's run sees them, whoever asks
    rules = rules_of(config.reoptimize, None, None if config.reoptimize.records else frozenset())
    stood = standing_of_queues(queues, ledger, outlook, rules, now_epoch_s)
    if ledger is None:  # what was moved within its cluster without a mark looks as if its owner had moved it
        stood = [each._replace(stays=SET_BY_SOMEBODY) if each.stays == SET_BY_OWNER else each for each in stood]
    return [standing for standing in stood if user is None or standing.job.user == user]


def stories(
    stood: Iterable[Standing], outlook: Outlook, ledger: Ledger | None, clusters: Iterable[str], job_id: int, task: str,
    now_epoch_s: int,
) -> list[Story]:  # fmt: skip
    """What is known of the jobs with a number on some clusters."""
    found: list[Story] = []
    for cluster in clusters:
        mine = [
            standing for standing in stood
            if standing.job.cluster == cluster and job_id in (standing.job.id, standing.job.array_id) and _has(standing, task)
        ]  # fmt: skip
        entry: Entry | None = None
        decisions: tuple[Decided, ...] = ()
        transfers: tuple[Transfer, ...] = ()
        if ledger is not None:
            number = ledger_key(mine[0].job)[1] if mine else job_id
            entry = ledger.entries(cluster, [number]).get(number)
            decisions = tuple(ledger.decisions_of(cluster, number))
            transfers = tuple(ledger.transfers_of(cluster, number))
        if mine:
            found += [
                Story(cluster, one.job.id, one, one.entry, decisions, transfers, choices(one, outlook, now_epoch_s))
                for one in mine
            ]
        elif entry is not None or decisions or transfers:
            found.append(Story(cluster, job_id, None, entry, decisions, transfers))
    return found


def _has(standing: Standing, task: str) -> bool:
    return not task or int(task) in task_numbers(standing.job.array_tasks)


def choices(standing: Standing, outlook: Outlook, now_epoch_s: int) -> dict[str, tuple[int, float]]:
    """The best start at each location that is open to a job, and its g CO2e, as if there were room everywhere."""
    if standing.stays:
        return {}
    found = {}
    home = outlook.location(*standing.home.split("/", 1))
    for name in standing.locations:
        location = outlook.location(*name.split("/", 1))
        if location is None or home is None:
            continue
        partition = outlook.partitions[location.cluster, location.partition]
        there = in_waves(standing.asked, partition)
        power = power_w(there, location, partition, outlook.partitions[home.cluster, home.partition])
        estimate = Estimate(run_s(there), power, "--time")
        may = Window(now_epoch_s, max(now_epoch_s, standing.latest_epoch_s), "")
        best = best_start(location, outlook.zones[location.zone], estimate, may)
        found[name] = best.start_epoch_s, best.emissions_g
    return found
