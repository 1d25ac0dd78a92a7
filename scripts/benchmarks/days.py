"""Days of two real clusters: a burst of mixed jobs under four rules side by side, and equal jobs with and without prices."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.conftest import _installed  # noqa: E402
from tests.reoptimize.burst import Asked, mixed  # noqa: E402
from tests.reoptimize.rules import OURS, PLAIN, RULES, Result, at_once, herds, table  # noqa: E402


def burst(installed: Path, jobs: Sequence[Asked], ticks_min: int, seed: int) -> dict[str, Any]:
    """The table of the rules, and its figures."""
    results = at_once(installed, "bench-days", jobs, RULES, ticks_min * 60, seed)
    print(table(results), flush=True)
    by_rule = {result.rule: result for result in results}
    ours: Result = by_rule[OURS]
    for result in results:
        for problem in result.wrong(jobs):
            print(f"{result.rule}: {problem}")
    asked = {job.name: job for job in jobs}
    without_reason = [name for name in ours.late if ours.had_room(asked[name])]
    for name in without_reason:
        print("\n".join(ours.history(asked[name])), flush=True)
    ticks_s = sorted(float(report["figures"]["run_s"]) for report in ours.reports)
    return {
        "jobs": len(jobs),
        "emitted_g": {rule: round(result.emitted_g) for rule, result in by_rule.items()},
        "saving_pct": {
            rule: round(100 * (1 - result.emitted_g / by_rule[PLAIN].emitted_g), 1) for rule, result in by_rule.items()
        },
        "mean_wait_h": {rule: round(result.mean_wait_h, 1) for rule, result in by_rule.items()},
        "late": {rule: len(result.late) for rule, result in by_rule.items()},
        "late_without_reason": len(without_reason),
        "moves": ours.moves,
        "ticks": len(ticks_s),
        "median_tick_s": ticks_s[len(ticks_s) // 2] if ticks_s else None,
        "wrong": sum(len(result.wrong(jobs)) for result in results),
    }


def herding(installed: Path, count: int) -> dict[str, Any]:
    """The mean wait beyond the plan, in hours, which are the slots, with prices and without."""
    found = {}
    for herd in herds(installed, "bench-herd", count, cores=1, nodes=3, submitted_s=3 * 3600, every_s=300):
        how = "with prices" if herd.priced else "without"
        print(
            f"{how:<12}{herd.jobs} jobs, {herd.at_a_time} at a time: {herd.beyond_h:.2f} h beyond the plan on the mean, "
            f"{herd.longest_h:.1f} h at most; {herd.emitted_g:.0f} g ({herd.wall_s:.0f} s)",
            flush=True,
        )
        found["priced" if herd.priced else "unpriced"] = {
            "beyond_h": round(herd.beyond_h, 3), "longest_h": round(herd.longest_h, 2), "emitted_g": round(herd.emitted_g),
        }  # fmt: skip
    return found


def main() -> None:
    """Both, or one of them."""
    parser = argparse.ArgumentParser(prog="scripts/bench days", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="of the burst; 0: none (default: %(default)s)")
    parser.add_argument("--ticks", type=int, default=15, help="minutes between two runs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--herd", type=int, default=500, help="equal jobs; 0: none (default: %(default)s)")
    words = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench days: needs root, for real clusters")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="slurm-carbon-days-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)  # users of the clusters start csbatch from it
        installed = _installed(Path(folder))
        if words.jobs:
            result |= burst(installed, mixed(words.jobs, words.seed), words.ticks, words.seed)
        if words.herd:
            result["herd"] = herding(installed, words.herd)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
