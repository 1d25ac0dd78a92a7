"""Days of two real clusters: what a burst of mixed jobs emits with us, and under the rules of others, side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reoptimize.burst import GRID, HOUR, WIDE, mixed
from tests.reoptimize.rules import ALONE, CATS, OURS, PLAIN, RULES, Herd, Result, at_once, herds, table

SEED = 3
JOBS = mixed(70, SEED, WIDE)

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def results(installed: Path) -> dict[str, Result]:
    """The same burst under each rule, with a run every two hours; `scripts/bench days` has more jobs, and more runs."""
    found = at_once(installed, "days", JOBS, RULES, 2 * HOUR, SEED)
    print("\n" + table(found))
    return {result.rule: result for result in found}


@pytest.mark.parametrize("rule", RULES)
def test_every_job_runs_once_and_where_it_may(results: dict[str, Result], rule: str) -> None:
    """Whatever was moved, no job is lost, none runs twice, and none where its owner or the site did not want it."""
    assert not results[rule].wrong(JOBS)


def test_late_only_where_all_was_full_and_then_the_ledger_says_so(results: dict[str, Result]) -> None:
    """Who started after his latest start had no node with room for him then, and the ledger has him as late.

    A job that allows no delay, and was never changed, is none of ours: it waited as under plain sbatch.
    """
    ours = results[OURS]
    late = [job for job in JOBS if job.name in ours.late]
    assert not {job.name: node for job in late if (node := ours.had_room(job))}
    entries = {r.name: ours.entries.get((r.cluster, r.job_id)) for r in ours.ran}
    kept = {job.name: entry.late if (entry := entries[job.name]) else job.max_delay_s == 0 for job in late}
    assert all(kept.values()), kept


@pytest.mark.parametrize("other", [PLAIN, ALONE, CATS])
def test_it_emits_less(results: dict[str, Result], other: str) -> None:
    """Than plain sbatch, than csbatch alone without prices, and than the cleanest window of each job's own cluster."""
    assert results[OURS].emitted_g < 0.95 * results[other].emitted_g


def test_fewer_are_late_than_where_each_is_placed_alone(results: dict[str, Result]) -> None:
    """Those who all pick the same hours wait for each other, and beyond what was promised to them."""
    assert len(results[OURS].late) < 0.5 * len(results[ALONE].late)


@pytest.fixture(scope="module")
def herding(installed: Path) -> dict[bool, Herd]:
    """Equal jobs over two hours, of which a green hour holds an eighth, with prices and without."""
    return {herd.priced: herd for herd in herds(installed, "herd", 64, cores=4, nodes=2, submitted_s=2 * HOUR, every_s=900)}


def test_with_prices_jobs_hardly_wait_beyond_their_plan(herding: dict[bool, Herd]) -> None:
    """On the mean less than a slot; without prices they wait hours for each other."""
    assert herding[True].beyond_h < GRID / HOUR
    assert herding[False].beyond_h > 4 * herding[True].beyond_h


def test_prices_save_emissions_as_well(herding: dict[bool, Herd]) -> None:
    """Who is turned away from a full green hour finds another one."""
    assert herding[True].emitted_g < 0.9 * herding[False].emitted_g
