"""A run is ended by SIGKILL before and after everything that it does, on real clusters: lost 0, doubled 0, held 0."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.reoptimize.crash_bench import HOUR_S, Books

pytestmark = pytest.mark.slurm


@pytest.fixture
def books(moving: Books) -> Iterator[Books]:
    """The clusters; here no slurmctld is killed, so none forgets."""
    moving.times = {"settle_s": 0}
    yield moving
    moving.clear()


def moves(point: str) -> list[tuple[str, str, int]]:
    """What one run moves: in time, to another partition, and a job of each user to another cluster."""
    return [
        (f"{point} time", "alpha/batch", HOUR_S),
        (f"{point} partition", "alpha/short", 2 * HOUR_S),
        (f"{point} away1", "beta/batch", HOUR_S),
        (f"{point} away2", "beta/batch", HOUR_S),
    ]


def owners(point: str) -> dict[str, str]:
    """Whose they are."""
    return {f"{point} time": "user1", f"{point} partition": "user2", f"{point} away1": "user1", f"{point} away2": "user2"}


def test_killed_at_every_point(books: Books) -> None:
    """Killed at each point of a run that moves jobs in every way, then run again until it is done: each job runs once."""
    ledger, names = books.ledger(), books.lab.site / "points"
    books.add(owners("whole"))
    done = books.tick(ledger, *moves("whole"), points=names)
    assert done.code == 0, done
    assert done.out.count(" done") == 4, done.out
    count = len(names.read_text().splitlines())
    assert count >= 60, names.read_text()

    points = range(1, count + 1)
    for first in range(1, count + 1, 25):
        books.add({name: user for point in points[first - 1 : first + 24] for name, user in owners(str(point)).items()})

    def killed(point: int) -> tuple[int, int]:
        return point, books.tick(ledger, *moves(str(point)), end_at=point, finish=False).code

    with ThreadPoolExecutor(2) as two:
        codes = dict(two.map(killed, points))
    assert set(codes.values()) == {-9} or set(codes.values()) == {137}, codes
    books.jump(500)
    for end_at in (1, 7, 20, 45, 90, 0):  # the runs that clear up are killed as well
        books.tick(ledger, end_at=end_at)
    books.jump(500)
    last = books.tick(ledger)
    assert last.code == 0, last
    assert "open:" not in last.out, last.out
    books.close()
