"""A run of moves that are given, not planned, to be killed: what is open is finished, then these moves are begun.

The only argument is JSON: see `main`. Prints what became of each move.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from slurm_carbon import marks
from slurm_carbon.errors import Error
from slurm_carbon.ledger.store import open_ledger
from slurm_carbon.ledger.values import Entry, Transfer
from slurm_carbon.owner import Answer, Resubmission, read_answer, resubmit_command
from slurm_carbon.queued import Queue, QueuedJob
from slurm_carbon.reoptimize.adopt import adopt
from slurm_carbon.reoptimize.apply import apply
from slurm_carbon.reoptimize.move import Move
from slurm_carbon.reoptimize.transfer import Means, Times, drive
from slurm_carbon.slurm.command import Completed, Runner
from slurm_carbon.slurm.moves import Site, look

RECORDS = "~/.local/state/slurm_carbon/submissions"


def move_of(job: QueuedJob, to: str, begin_in_s: int, now: int, tasks: str = "") -> Move:
    """A move as the planner would give it: to a place, some seconds later than planned so far."""
    mark = marks.read(job.comment)[1]
    assert mark is not None, job
    here = f"{job.cluster}/{job.partition}"
    begin = (job.eligible_epoch_s or now) + begin_in_s
    entry = Entry(
        job.cluster, job.id, job.submit_epoch_s, job.user, to, here, begin, mark.latest_epoch_s, "mark", mark.id,
        ("alpha/batch", "alpha/short", "beta/batch"), 9.0, 5.0, 1.0, "file", 1, now,
    )  # fmt: skip
    return Move(job, tasks, here, job.eligible_epoch_s or now, to, begin, mark.latest_epoch_s, entry, 4.0, "cleaner", begin)


def main(asked: dict[str, Any]) -> None:
    """Do what is asked for: confs by cluster, ledger, moves as (cluster, id, to, later_s[, tasks]), times, finish, unheard."""
    sites = {name: Site(name, conf) for name, conf in asked["confs"].items()}
    runner = Runner()

    def submit(t: Transfer) -> Answer:
        cluster, _, partition = t.to_location.partition("/")
        request = Resubmission(
            t.user, t.uid, t.mark_id, RECORDS, sites[cluster].slurm_conf, cluster, partition, t.begin_epoch_s, t.comment, True
        )
        done = runner.run(resubmit_command(request, os.geteuid()))
        if asked.get("unheard") and done.exit_code == 0:
            done = Completed(1, b"", b"sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n")
        return read_answer(done)

    with open_ledger(asked["ledger"], patience_s=1.0) as ledger:
        means = Means(runner, sites, ledger, submit, Times(**asked["times"]), sleep=runner.pause, us=os.geteuid())
        now = int(time.time())
        seen: dict[str, dict[int, QueuedJob]] = {}
        for name, site in sites.items():
            try:
                seen[name] = look(runner, site)
            except Error as error:
                print(error)
        if asked.get("finish", True):
            drive(ledger.open_transfers(), means)
            adopt([Queue(name, "", now, tuple(jobs.values()), ()) for name, jobs in seen.items()], means, now)
            drive(ledger.open_transfers(), means)
        moves = [
            move_of(seen[cluster][number], to, later_s, now, *tasks)
            for cluster, number, to, later_s, *tasks in asked.get("moves", ())
            if number in seen.get(cluster, {})
        ]
        for decided in apply(moves, means, ledger, 1, 600, print) if moves else ():
            print(decided.cluster, decided.job_id, decided.to_location, decided.outcome)
        for t in ledger.open_transfers():
            print("open:", t.id, t.cluster, t.job_id, t.state, t.note)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except Error as error:
        sys.exit(f"{type(error).__name__}: {error}")
