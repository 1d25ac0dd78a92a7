"""Writers that are killed at any moment, and writers that are in each other's way."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_carbon.ledger.store import Ledger
from tests.ledger.conftest import Database
from tests.ledger.factory import a_transfer, an_entry
from tests.ledger.writer import DECISIONS, ENTRIES, RIVALS_ROUNDS

WRITER = Path(__file__).parent / "writer.py"
KILLS = {"sqlite": 9, "mariadb": 4, "postgresql": 4}


def start(what: str, url: str, number: int, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """A process of writer.py."""
    return subprocess.Popen(
        [sys.executable, "-I", WRITER, what, url, str(number)], stdin=stdin, stdout=subprocess.PIPE, text=True
    )


def said(lines: str, what: str, before: int) -> int:
    """The last generation that a writer knew to be kept."""
    return max((int(line.split()[1]) for line in lines.splitlines() if line.startswith(what + " ")), default=before)


def check(ledger: Ledger, lines: str, first: int) -> None:
    """Every bulk is there whole or not at all, and all that the writer was told is kept."""
    entries = ledger.entries("alpha", range(ENTRIES))
    generations = {entry.moves for entry in entries.values()}
    assert len(entries) in (0, ENTRIES)
    assert len(generations) <= 1, f"entries of {generations}"
    newest = generations.pop() if generations else -1
    last = said(lines, "entries", first - 1)
    assert newest in (last, last + 1)

    decided = said(lines, "decisions", first - 1)
    assert [len(ledger.decisions_of("alpha", i)) for i in range(decided + 1)] == [DECISIONS] * (decided + 1)
    assert len(ledger.decisions_of("alpha", decided + 1)) in (0, DECISIONS)

    transfer = ledger.transfer(a_transfer().id)
    moved = said(lines, "transfer", first - 1)
    seen = -1 if transfer is None else transfer.target_id
    assert seen in (moved, moved + 1)
    assert transfer is None or transfer.note == f"{seen}" * 999


def test_writer_is_killed_at_any_moment(database: Database) -> None:
    """kill -9 inside and between transactions: what was said to be kept is kept, and nothing is there in part."""
    chance = random.Random(6)
    with database.open() as ledger:
        ledger.put_entries([])
    generation = 0
    for _ in range(KILLS[database.kind]):
        writer = start("ever", database.url, generation)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        time.sleep(chance.uniform(0.0, 0.15))
        writer.kill()
        lines = writer.communicate()[0]
        if database.server:
            database.server.wait_for_sessions_to_end()  # what was on its way to the server is done or undone now
        with database.open() as ledger:
            check(ledger, lines, generation)
            # it was killed between the three kinds: the next writer begins with all of one generation
            generation = said(lines, "decisions", generation - 1) + 1
            while ledger.decisions_of("alpha", generation):
                generation += 1
            ledger.put_entries([an_entry(i, moves=generation - 1) for i in range(ENTRIES)])
            ledger.put_transfer(a_transfer(target_id=generation - 1, note=f"{generation - 1}" * 999))
    assert generation > 0


def test_writers_at_once(database: Database) -> None:
    """Two processes that write the same rows in opposite order both come through, and nothing of either is lost or mixed."""
    writers = [start("beside", database.url, number) for number in (1, 2)]  # both also make the tables
    runs: list[str] = []
    for writer in writers:
        lines = writer.communicate(timeout=60)[0].splitlines()
        assert writer.returncode == 0
        assert len(lines) == 1 + RIVALS_ROUNDS
        runs += [line.split()[2] for line in lines[1:]]
    assert len(set(runs)) == 2 * RIVALS_ROUNDS
    with database.open() as ledger:
        assert len({entry.moves for entry in ledger.entries("alpha", range(200)).values()}) == 1
        for number in (1, 2):
            assert [decided.to_epoch_s for decided in ledger.decisions_of("alpha", number)] == list(range(RIVALS_ROUNDS))
        for transfer in ledger.open_transfers():
            assert transfer.note == str(transfer.target_id) * 99
        assert len(ledger.last_runs(99)) == 2 * RIVALS_ROUNDS


def test_many_make_a_new_ledger_at_once(database: Database) -> None:
    """Whoever comes first makes the tables; the others wait and use them."""
    from concurrent.futures import ThreadPoolExecutor

    def use(number: int) -> int:
        with database.open() as ledger:
            ledger.put_entries([an_entry(number)])
            return ledger.begin_run(number, "advise")

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(use, range(12)))) == 12
    with database.open() as ledger:
        assert len(ledger.unsettled()) == 12


@pytest.mark.parametrize("threads", [4])
def test_threads_share_a_ledger(database: Database, threads: int) -> None:
    """One ledger serves several threads, one after the other."""
    from concurrent.futures import ThreadPoolExecutor

    with database.open() as ledger, ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda i: ledger.put_entries([an_entry(i)]), range(20)))
        assert len(ledger.unsettled()) == 20
