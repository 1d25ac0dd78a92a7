"""Properties of the ledger: whatever is put in whichever order, it gives what a plain dictionary would."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_carbon.ledger import rows, schema
from slurm_carbon.ledger.store import Ledger
from slurm_carbon.ledger.values import OPEN, RELEASED, UNDONE, Decided, Entry, Run, Transfer
from tests.ledger.conftest import empty

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates and NUL too
SQL = st.sampled_from(["'; DROP TABLE carbon_entries; --", "%(user)s %s", ":user", "\\'", '"', "`", "\x1a0000", "\0", "?"])
TEXT = ANY_TEXT | SQL | st.builds(str.__add__, SQL, ANY_TEXT)
CLUSTER = st.sampled_from(["alpha", "Alpha", "alpha ", "be'ta"])
JOB = st.integers(1, 4)
TIME = st.integers(0, 12)
WHOLE = st.integers(-(1 << 63), (1 << 63) - 1)
MASS = st.floats(allow_nan=False, allow_infinity=False)
FIGURES = st.dictionaries(TEXT, WHOLE | MASS | TEXT, max_size=3)

ENTRIES = st.builds(
    Entry, CLUSTER, JOB, TIME, user=TEXT, location=TEXT, home=TEXT, begin_epoch_s=WHOLE, latest_epoch_s=WHOLE, may=TEXT,
    mark_id=TEXT, locations=st.lists(TEXT, max_size=3).map(tuple), baseline_g=MASS, planned_g=MASS, energy_kwh=MASS,
    forecast=TEXT, moves=WHOLE, moved_epoch_s=WHOLE, follows=TEXT, late=st.booleans(), started_epoch_s=st.none() | WHOLE,
    ended_epoch_s=st.none() | TIME, state=TEXT, used_kwh=st.none() | MASS, emitted_g=st.none() | MASS,
)  # fmt: skip
DECISIONS = st.builds(
    Decided, WHOLE, CLUSTER, JOB, TEXT, TIME, TEXT, WHOLE, TEXT, WHOLE, saved_g=MASS, reason=TEXT, outcome=TEXT
)  # fmt: skip
TRANSFERS = st.builds(
    Transfer, TEXT, CLUSTER, JOB, TIME, TEXT, WHOLE, TEXT, st.builds("{}/{}".format, CLUSTER, TEXT), WHOLE, WHOLE, TEXT, TEXT,
    st.sampled_from([*OPEN, RELEASED, UNDONE]), TIME, TIME, WHOLE, JOB, TEXT, WHOLE,
)  # fmt: skip
STEPS = st.lists(
    st.tuples(st.just("entries"), st.lists(ENTRIES, max_size=4))
    | st.tuples(st.just("decisions"), st.lists(DECISIONS, max_size=4))
    | st.tuples(st.just("transfer"), TRANSFERS)
    | st.tuples(st.just("run"), st.tuples(TIME, TEXT, st.none() | FIGURES))
    | st.tuples(st.just("forget"), TIME),
    max_size=8,
)


class Plain:
    """What a ledger does, in memory and without a database."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, int, int], Entry] = {}
        self.decisions: list[Decided] = []
        self.transfers: dict[str, Transfer] = {}
        self.runs: dict[int, Run] = {}

    def forget(self, before: int) -> int:
        sizes = self.size()
        self.entries = {
            key: entry for key, entry in self.entries.items() if entry.ended_epoch_s is None or entry.ended_epoch_s >= before
        }
        self.decisions = [decided for decided in self.decisions if decided.decided_epoch_s >= before]
        self.transfers = {key: one for key, one in self.transfers.items() if one.state in OPEN or one.changed_epoch_s >= before}
        self.runs = {key: run for key, run in self.runs.items() if run.started_epoch_s >= before}
        return sizes - self.size()

    def size(self) -> int:
        return len(self.entries) + len(self.decisions) + len(self.transfers) + len(self.runs)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_ledger_does_what_a_dictionary_does(kept: Ledger, steps: list[tuple[str, object]]) -> None:
    """Any values, put and forgotten in any order, come back as they would from plain memory."""
    empty(kept)
    plain = Plain()
    for kind, value in steps:
        if kind == "entries":
            kept.put_entries(value)  # type: ignore[arg-type]
            plain.entries |= {entry[:3]: entry for entry in value}  # type: ignore[attr-defined]
        elif kind == "decisions":
            kept.add_decisions(value)  # type: ignore[arg-type]
            plain.decisions += value  # type: ignore[operator]
        elif kind == "transfer":
            kept.put_transfer(value)  # type: ignore[arg-type]
            plain.transfers[value.id] = value  # type: ignore[attr-defined]
        elif kind == "run":
            begun, mode, figures = value  # type: ignore[misc]
            number = kept.begin_run(begun, mode)
            plain.runs[number] = Run(number, begun, mode)
            if figures is not None:
                kept.end_run(number, begun, figures)
                plain.runs[number] = Run(number, begun, mode, begun, figures)
        else:
            assert kept.forget(value) == plain.forget(value)  # type: ignore[arg-type]

    assert kept.unsettled() == sorted(
        (entry for entry in plain.entries.values() if entry.ended_epoch_s is None), key=lambda e: e[:3]
    )
    by_age = sorted(plain.transfers.values(), key=lambda one: (one.created_epoch_s, one.id))
    assert kept.open_transfers() == [one for one in by_age if one.state in OPEN]
    assert kept.last_runs(99) == sorted(plain.runs.values(), reverse=True)
    for cluster in ("alpha", "Alpha", "alpha ", "be'ta"):
        newest = {key[1]: entry for key, entry in sorted(plain.entries.items()) if key[0] == cluster}
        assert kept.entries(cluster, range(9)) == newest
        for job in newest.keys() | {1}:
            assert kept.decisions_of(cluster, job) == [
                one for one in plain.decisions if (one.cluster, one.job_id) == (cluster, job)
            ]
            assert kept.transfers_of(cluster, job) == [
                one
                for one in by_age
                if (one.cluster, one.job_id) == (cluster, job)
                or (one.to_location.split("/")[0], one.target_id) == (cluster, job)
            ]
    for id_ in plain.transfers:
        assert kept.transfer(id_) == plain.transfers[id_]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(entries=st.lists(ENTRIES, unique_by=lambda entry: entry[:3], max_size=8), chance=st.randoms(use_true_random=False))
def test_order_does_not_matter(kept: Ledger, entries: list[Entry], chance: object) -> None:
    """Different entries put in any order and any number of calls leave the same ledger."""
    empty(kept)
    kept.put_entries(entries)
    at_once = [kept.entries(cluster, range(9)) for cluster in ("alpha", "Alpha", "alpha ", "be'ta")]
    empty(kept)
    mixed = list(entries)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    for entry in mixed:
        kept.put_entries([entry])
    assert [kept.entries(cluster, range(9)) for cluster in ("alpha", "Alpha", "alpha ", "be'ta")] == at_once


@settings(max_examples=200, deadline=None)
@given(text=ANY_TEXT, other=ANY_TEXT)
def test_every_text_is_stored_and_no_two_alike(text: str, other: str) -> None:
    """What is written is UTF-8 without NUL, comes back as it was, and tells different texts apart."""
    stored = rows.store(text)
    assert b"\0" not in stored.encode()
    assert rows.restore(stored) == text
    assert (stored == rows.store(other)) == (text == other)


@settings(max_examples=60, deadline=None)
@given(
    fields=st.lists(st.none() | st.text() | st.integers() | st.floats() | st.binary() | st.booleans(), min_size=24, max_size=24)
)
def test_row_that_we_did_not_write_is_an_error_or_a_value(fields: list[object]) -> None:
    """What SQLite finds in a damaged file is never taken for something of another type."""
    shape = rows.Shape(Entry._make, Entry._fields, schema.ENTRIES)
    try:
        entry = shape.value(fields)
    except (ValueError, TypeError):
        return
    assert type(entry.job_id) is int
    assert type(entry.user) is str
    assert type(entry.locations) is tuple
