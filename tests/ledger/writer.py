"""A process that writes to a ledger, to be killed, or to be in another's way: `python writer.py WHAT URL [NUMBER]`.

It writes a line to stdout for what has been kept. A generation is one bulk of entries, one of decisions and a transfer.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from slurm_carbon.ledger.store import Ledger, open_ledger
from tests.ledger.factory import a_decision, a_transfer, an_entry

ENTRIES, DECISIONS = 400, 20
RIVALS_ROUNDS = 12


def write_for_ever(ledger: Ledger, generation: int) -> None:
    """One generation after another."""
    while True:
        ledger.put_entries([an_entry(i, moves=generation) for i in range(ENTRIES)])
        print("entries", generation, flush=True)
        ledger.add_decisions([a_decision(generation, to_epoch_s=i) for i in range(DECISIONS)])
        print("decisions", generation, flush=True)
        ledger.put_transfer(a_transfer(target_id=generation, note=f"{generation}" * 999))
        print("transfer", generation, flush=True)
        generation += 1


def write_beside_others(ledger: Ledger, mine: int) -> None:
    """The same rows as all the others, in another order."""
    for turn in range(RIVALS_ROUNDS):
        order = range(200) if mine % 2 else range(199, -1, -1)
        ledger.put_entries([an_entry(i, moves=mine) for i in order])
        ledger.add_decisions([a_decision(mine, to_epoch_s=turn)])
        for id_ in ("aa", "bb"):
            ledger.put_transfer(a_transfer(id_, target_id=mine, note=str(mine) * 99))
        print("turn", turn, ledger.begin_run(turn, "advise"), flush=True)


def main() -> None:
    """Do what the command line says."""
    what, url, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what == "lock":  # only SQLite: a statement, and wait for the end of stdin
        import sqlite3

        connection = sqlite3.connect(url, isolation_level=None)
        for statement in ("BEGIN EXCLUSIVE",) if number else ("BEGIN", "SELECT * FROM carbon_schema"):
            connection.execute(statement).fetchall()
        print("locked", flush=True)
        sys.stdin.read()
        return
    with open_ledger(url) as ledger:
        print("open", flush=True)
        {"ever": write_for_ever, "beside": write_beside_others}[what](ledger, number)


if __name__ == "__main__":
    main()
