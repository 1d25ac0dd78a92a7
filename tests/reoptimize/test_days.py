"""Four days of two real clusters: what a burst of mixed jobs emits with us, and under the rules of others, side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reoptimize.days import ALONE, CATS, HOUR, OURS, PLAIN, RULES, Result, at_once, mixed, table

JOBS = mixed(200, 1)

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def results(installed: Path) -> dict[str, Result]:
    """The same burst under each rule, with an hourly run for ours."""
    found = at_once(installed, "days", JOBS, RULES, HOUR, 1)
    print("\n" + table(found))
    return {result.rule: result for result in found}


@pytest.mark.parametrize("rule", RULES)
def test_every_job_runs_once_and_where_it_may(results: dict[str, Result], rule: str) -> None:
    """Whatever was moved, no job is lost, none runs twice, and none where its owner or the site did not want it."""
    assert not results[rule].wrong(JOBS)


def test_late_only_where_all_was_full_and_then_the_ledger_says_so(results: dict[str, Result]) -> None:
    """Who started after his latest start had no node with room for him then, and the ledger has him as late."""
    ours = results[OURS]
    asked = {job.name: job for job in JOBS}
    assert not {name: node for name in ours.late if (node := ours.had_room(asked[name]))}
    entries = {r.name: ours.entries.get((r.cluster, r.job_id)) for r in ours.ran}
    assert not [(name, entries[name]) for name in ours.late if not getattr(entries[name], "late", False)]


@pytest.mark.parametrize("other", [PLAIN, ALONE, CATS])
def test_it_emits_less(results: dict[str, Result], other: str) -> None:
    """Than plain sbatch, than csbatch alone without prices, and than the cleanest window of each job's own cluster."""
    assert results[OURS].emitted_g < results[other].emitted_g


def test_fewer_are_late_than_where_each_is_placed_alone(results: dict[str, Result]) -> None:
    """Those who all pick the same hours wait for each other, and beyond what was promised to them."""
    assert len(results[OURS].late) < min(len(results[ALONE].late), len(results[CATS].late))
