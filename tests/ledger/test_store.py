"""What the ledger promises, on SQLite, MariaDB and PostgreSQL alike."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from slurm_carbon.errors import LedgerError
from slurm_carbon.ledger.store import Ledger, memory_ledger, open_ledger
from slurm_carbon.ledger.values import CANCELLED, HELD, INTENDED, MOVED, OPEN, RELEASED, UNDONE, Run, Sums
from tests.ledger.conftest import Database
from tests.ledger.factory import a_decision, a_transfer, an_entry

NOW = 1_700_000_000
# what somebody may write into a comment or call his job
HOSTILE = [
    "'; DROP TABLE carbon_entries; --",
    '" OR 1=1 --',
    "\\'; DELETE FROM carbon_transfers; #",
    "%s %(user)s :user ? {0} $1 @x",
    "`carbon_schema`",
    "a\0b",
    "line\r\nfeed\ttab\x1b[2J\x1a0000",
    "\udce9t\udcff",  # as os.fsdecode gives bytes that are no UTF-8
    "\ud83d\ude00 and 😀",
    "naïve ﷽ 𝔘 ‮ \U0010ffff",
    "trailing blank ",
    "",
    "A",
    "a",
]


def test_entry_comes_back_as_it_was_given(ledger: Ledger) -> None:
    """Every field of an entry is kept, those that are not known too."""
    planned = an_entry(1)
    settled = an_entry(
        2, late=False, started_epoch_s=NOW, ended_epoch_s=NOW + 60, state="COMPLETED", used_kwh=0.1, emitted_g=0.3
    )
    ledger.put_entries([planned, settled])
    assert ledger.entries("alpha", [1, 2, 3]) == {1: planned, 2: settled}
    assert ledger.unsettled() == [planned]


def test_entry_replaces_the_one_of_the_same_submission(ledger: Ledger) -> None:
    """The cluster, number and time of submission name an entry; of two in one call the last one stays."""
    ledger.put_entries([an_entry(1), an_entry(2)])
    ledger.put_entries([an_entry(1, moves=2), an_entry(1, moves=3)])
    assert {job: entry.moves for job, entry in ledger.entries("alpha", [1, 2]).items()} == {1: 3, 2: 1}
    assert len(ledger.unsettled()) == 2


def test_newest_entry_of_a_number_that_was_given_again(ledger: Ledger) -> None:
    """Slurm's numbers begin anew some day: the newest submission counts, in whichever order they were put."""
    ledger.put_entries([an_entry(1, submit_epoch_s=NOW + 5), an_entry(1, submit_epoch_s=NOW), an_entry(1, cluster="beta")])
    assert ledger.entries("alpha", iter([1]))[1].submit_epoch_s == NOW + 5
    assert len(ledger.unsettled()) == 3


def test_nothing_asked_nothing_given(ledger: Ledger) -> None:
    """Empty questions and writes are no trouble, nor is what is not there."""
    ledger.put_entries([])
    ledger.add_decisions(iter(()))
    assert ledger.entries("alpha", []) == {}
    assert ledger.entries("alpha", [1, 1 << 70, -1]) == {}
    assert ledger.unsettled() == []
    assert ledger.decisions_of("alpha", 1) == []
    assert ledger.transfer("00") is None
    assert ledger.transfers_of("alpha", 1) == []
    assert ledger.last_runs(5) == []
    assert ledger.sums(0, 1 << 40) == Sums(0, 0, 0.0, 0.0, 0.0)
    assert ledger.forget(1 << 40) == 0


def test_decisions_are_kept_in_order_and_beside_each_other(ledger: Ledger) -> None:
    """Equal decisions are two; those of other jobs and clusters are not given."""
    decisions = [a_decision(reason=str(i)) for i in range(5)]
    ledger.add_decisions([*decisions, a_decision(2), a_decision(1, cluster="beta")])
    ledger.add_decisions(decisions[:1])
    assert ledger.decisions_of("alpha", 1) == [*decisions, decisions[0]]


def test_transfer_goes_its_way(ledger: Ledger) -> None:
    """A transfer is open until it is released or undone, and its last state is what is kept."""
    for state in (INTENDED, HELD, CANCELLED):
        ledger.put_transfer(a_transfer(state=state))
        assert ledger.open_transfers() == [a_transfer(state=state)]
        assert ledger.transfer(a_transfer().id) == a_transfer(state=state)
    for state in (RELEASED, UNDONE):
        ledger.put_transfer(a_transfer(state=state))
        assert ledger.open_transfers() == []
        assert ledger.transfer(a_transfer().id) == a_transfer(state=state)


def test_open_transfers_come_oldest_first(ledger: Ledger) -> None:
    """All open states count, and the order is that of their beginning."""
    transfers = [a_transfer(f"{i:016x}", state=state, created_epoch_s=NOW - i) for i, state in enumerate(OPEN)]
    for transfer in transfers:
        ledger.put_transfer(transfer)
    assert ledger.open_transfers() == transfers[::-1]


def test_transfers_of_a_job_as_source_and_as_copy(ledger: Ledger) -> None:
    """A number alone is no job: the cluster has to be right, for the source and for the copy."""
    away = a_transfer("01", job_id=5, target_id=17)
    back = a_transfer("02", cluster="beta", job_id=17, to_location="alpha/cpu", target_id=6, created_epoch_s=NOW + 400)
    other = a_transfer("03", cluster="gamma", job_id=17, to_location="delta/cpu", target_id=17)
    for transfer in (back, other, away):
        ledger.put_transfer(transfer)
    assert ledger.transfers_of("alpha", 5) == [away]
    assert ledger.transfers_of("beta", 17) == [away, back]
    assert ledger.transfers_of("alpha", 6) == [back]
    assert ledger.transfers_of("alpha", 17) == []


def test_runs(ledger: Ledger) -> None:
    """Runs are numbered upwards; one that was killed has no end; figures come back as they are."""
    first = ledger.begin_run(NOW, "advise")
    second = ledger.begin_run(NOW + 300, "enforce")
    figures: dict[str, float | int | str] = {"moved": 3, "saved_g": 0.1 + 0.2, "why": "é\udcff'\0"}
    ledger.end_run(first, NOW + 9, figures)
    assert second > first
    assert ledger.last_runs(9) == [Run(second, NOW + 300, "enforce"), Run(first, NOW, "advise", NOW + 9, figures)]
    assert ledger.last_runs(1) == [Run(second, NOW + 300, "enforce")]
    assert ledger.last_runs(0) == []


def test_number_of_a_run_is_not_given_twice(ledger: Ledger) -> None:
    """A run that is forgotten leaves its number unused: decisions name it."""
    first = ledger.begin_run(NOW, "advise")
    assert ledger.forget(NOW + 1) == 1
    assert ledger.begin_run(NOW + 1, "advise") > first


def test_any_text_is_data(ledger: Ledger) -> None:
    """Whatever users write comes back as it was, finds only itself, and does nothing else."""
    for text in HOSTILE:
        check_text(ledger, text)
    assert {transfer.id for transfer in ledger.open_transfers()} == set(HOSTILE)


def check_text(ledger: Ledger, text: str) -> None:
    """Put it wherever text may be."""
    other = an_entry(2, user="user2")
    entry = an_entry(1, user=text, state=text, ended_epoch_s=NOW, locations=(text, text), follows=text, emitted_g=1.0)
    ledger.put_entries([entry, other])
    transfer = a_transfer(text, comment=text, source_comment=text, note=text, cluster=text)
    ledger.put_transfer(transfer)
    decided = a_decision(1, cluster=text, reason=text, outcome=text, tasks=text)
    ledger.add_decisions([decided])
    assert ledger.entries("alpha", [1, 2]) == {1: entry, 2: other}
    assert ledger.transfer(text) == transfer
    assert ledger.transfers_of(text, 1) == [transfer]
    assert ledger.decisions_of(text, 1) == [decided]
    assert ledger.sums(0, NOW + 1, text).jobs == 1
    assert ledger.entries(text, [1]) == {}


def test_names_are_compared_byte_by_byte(ledger: Ledger) -> None:
    """Capitals, accents and trailing blanks make another cluster and another user, on every database."""
    names = ["alpha", "Alpha", "alpha ", "älpha", "alph\u0061\u0308", "alpha\0"]
    ledger.put_entries(an_entry(1, cluster=name, user=name, ended_epoch_s=NOW) for name in names)
    for name in names:
        assert [*ledger.entries(name, [1]).values()] == [an_entry(1, cluster=name, user=name, ended_epoch_s=NOW)]
        assert ledger.sums(0, 1 << 40, name).jobs == 1


def test_long_text(ledger: Ledger) -> None:
    """64 Ki characters of any kind are kept; prose that is longer is cut, and says so; other text is refused."""
    long = "😀\udcff" * (1 << 15)
    ledger.put_transfer(a_transfer(comment=long, source_comment=long[::-1], note=long + "more"))
    found = ledger.transfer(a_transfer().id)
    assert found is not None
    assert (found.comment, found.source_comment) == (long, long[::-1])
    assert found.note.endswith(" ... (cut)")
    assert found.note.startswith(long[:1000])
    with pytest.raises(LedgerError, match=r"cannot keep comment .* longer than 65536 characters"):
        ledger.put_transfer(a_transfer(comment=long + "x"))
    with pytest.raises(LedgerError, match=r"cannot keep cluster .* longer than 255 characters"):
        ledger.put_entries([an_entry(cluster="c" * 256)])


@pytest.mark.parametrize(
    "wrong",
    [{"baseline_g": float("nan")}, {"emitted_g": float("inf")}, {"submit_epoch_s": 1 << 63}, {"user": None}, {"moves": "x"}],
)
def test_what_makes_no_sense_is_refused_whole(ledger: Ledger, wrong: dict[str, object]) -> None:
    """A value that a database would bend to its own ideas is an error that names the field, and nothing of the call is kept."""
    not_finite = [("baseline_g", float("nan")), ("emitted_g", float("inf"))]
    for field, wrong in (*not_finite, ("submit_epoch_s", 1 << 63), ("user", None), ("moves", "x"), ("moves", None)):
        with pytest.raises(LedgerError, match=f"cannot keep {field} "):
            ledger.put_entries([an_entry(1), an_entry(2, **{field: wrong})])
        assert ledger.unsettled() == []


@pytest.mark.parametrize("figures", [{"a": float("nan")}, {"a": object()}, {"a": "x" * 70_000}])
def test_figures_that_make_no_sense_are_refused(figures: dict[str, object]) -> None:
    """What is no figure is an error in words."""
    with memory_ledger() as ledger, pytest.raises(LedgerError, match="cannot keep figures"):
        ledger.end_run(ledger.begin_run(NOW, "advise"), NOW, figures)  # type: ignore[arg-type]


def test_numbers_are_exact(ledger: Ledger) -> None:
    """Every bit of a mass or an energy comes back."""
    for number in (0.1 + 0.2, 5e-324, 1.7e308, -0.1, 1 / 3, 123456789.123456789):
        ledger.put_entries([an_entry(baseline_g=number, emitted_g=number)])
        assert ledger.entries("alpha", [1])[1].baseline_g == number


def test_sums(ledger: Ledger) -> None:
    """Jobs that ended in a time count once, their masses where the emissions are known; moved ones where they have run."""
    ended = {"ended_epoch_s": NOW, "baseline_g": 10.0, "planned_g": 6.0}
    ledger.put_entries([
        an_entry(1, **ended, emitted_g=7.0),
        an_entry(2, **ended, emitted_g=12.5, user="user2"),
        an_entry(3, **ended),  # not known yet
        an_entry(4, **ended, state=MOVED),
        an_entry(5),  # has not ended
        an_entry(6, **{**ended, "ended_epoch_s": NOW + 10}, emitted_g=1.0),
    ])  # fmt: skip
    assert ledger.sums(NOW, NOW + 10) == Sums(3, 2, 20.0, 12.0, 19.5)
    assert ledger.sums(NOW, NOW + 11) == Sums(4, 3, 30.0, 18.0, 20.5)
    assert ledger.sums(NOW, NOW + 10, "user2") == Sums(1, 1, 10.0, 6.0, 12.5)
    assert ledger.sums(NOW + 11, NOW + 12) == Sums(0, 0, 0.0, 0.0, 0.0)


def test_forget(ledger: Ledger) -> None:
    """What ended before a time goes, in more than one batch; what is open or newer stays, however old it is."""
    ledger.put_entries(an_entry(i, ended_epoch_s=NOW - 1) for i in range(1500))
    stay = [an_entry(9000, begin_epoch_s=0), an_entry(9001, ended_epoch_s=NOW)]
    ledger.put_entries(stay)
    ledger.add_decisions([a_decision(decided_epoch_s=NOW - 1), a_decision(decided_epoch_s=NOW)])
    old = [a_transfer("a", state=RELEASED), a_transfer("b", state=UNDONE), a_transfer("c", state=CANCELLED)]
    for transfer in old:
        ledger.put_transfer(transfer._replace(changed_epoch_s=NOW - 1))
    ledger.put_transfer(a_transfer("d", state=RELEASED, changed_epoch_s=NOW))
    assert ledger.forget(NOW) == 1500 + 1 + 2
    assert ledger.entries("alpha", range(10_000)) == {entry.job_id: entry for entry in stay}
    assert ledger.decisions_of("alpha", 1) == [a_decision(decided_epoch_s=NOW)]
    assert [transfer.id for transfer in ledger.transfers_of("alpha", 1)] == ["c", "d"]
    assert ledger.forget(NOW) == 0


def test_another_process_sees_it_at_once(database: Database) -> None:
    """What a method has returned from is there for everybody, and after it is opened again."""
    with database.open() as writer, database.open() as reader, database.open(read_only=True) as looker:
        for moves in range(3):
            writer.put_entries([an_entry(moves=moves)])
            assert reader.entries("alpha", [1])[1].moves == looker.entries("alpha", [1])[1].moves == moves
    with database.open() as again:
        assert again.entries("alpha", [1])[1].moves == 2


def test_reading_only(database: Database) -> None:
    """A reader makes nothing, changes nothing, and says so; what is there it reads."""
    with pytest.raises(LedgerError, match="the first `slurm-carbon reoptimize` makes it"):
        database.open(read_only=True)
    with database.open() as ledger:
        ledger.put_entries([an_entry()])
        ledger.put_transfer(a_transfer())
    with database.open(read_only=True) as reader:
        assert reader.unsettled() == [an_entry()]
        assert reader.open_transfers() == [a_transfer()]
        for write in (
            lambda: reader.put_entries([an_entry(2)]),
            lambda: reader.put_transfer(a_transfer(note="x")),
            lambda: reader.add_decisions([a_decision()]),
            lambda: reader.begin_run(NOW, "advise"),
            lambda: reader.end_run(1, NOW, {}),
            lambda: reader.forget(NOW),
        ):
            with pytest.raises(LedgerError, match="opened for reading only"):
                write()
        assert reader.unsettled() == [an_entry()]


def test_reader_is_kept_from_writing_by_the_database_too(database: Database) -> None:
    """Should a method of ours forget it, the database does not."""
    with database.open() as ledger:
        ledger.put_entries([an_entry()])
    with database.open(read_only=True) as reader, pytest.raises(LedgerError, match=r"read-only|cannot be written"):
        reader._connected.read(lambda connection: connection.execute(sa.text("DELETE FROM carbon_entries")))
    with database.open() as ledger:
        assert ledger.unsettled() == [an_entry()]


def test_ten_thousand_entries(database: Database) -> None:
    """All the entries of a large site are written, written again and read, each in a time that a tick does not notice."""
    entries = [an_entry(i, user=f"user{i % 50}") for i in range(10_000)]
    took: dict[str, float] = {}
    with database.open() as ledger:
        for name, work in (
            ("write", lambda: ledger.put_entries(entries)),
            ("write again", lambda: ledger.put_entries(entries)),
            ("read", lambda: ledger.entries("alpha", range(20_000))),
        ):
            start = time.process_time()  # SQLite is all within it, and it does not count what else the machine does
            found = work()
            took[name] = time.process_time() - start
        assert found == {entry.job_id: entry for entry in entries}
    assert max(took.values()) < (0.7 if database.kind == "sqlite" else 1.5), took


def test_values_know_no_database() -> None:
    """Who only needs the values pays for no database library."""
    code = (
        "import sys, slurm_carbon.ledger.values; print([n for n in ('sqlalchemy', 'sqlite3', 'psycopg') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_ledger_in_memory_is_gone_when_it_is_closed() -> None:
    """For a dry run: all works, and nothing is left."""
    with memory_ledger() as ledger:
        ledger.put_entries([an_entry()])
        assert ledger.unsettled() == [an_entry()]
    with memory_ledger() as ledger:
        assert ledger.unsettled() == []


def test_absolute_path_is_a_ledger_too(tmp_path: Path) -> None:
    """A path needs no URL, whatever signs are in it."""
    path = tmp_path / "a?b#c %41&mode=memory" / "l é.sqlite"
    with open_ledger(str(path)) as ledger:
        ledger.put_entries([an_entry()])
    assert path.stat().st_size > 0
    with open_ledger(str(path)) as ledger:
        assert ledger.unsettled() == [an_entry()]
