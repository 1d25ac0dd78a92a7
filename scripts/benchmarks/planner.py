"""Gap, capture, time and memory of joint plans, beside run-at-once, random, greedy, CVXPY's full LP and HiGHS's MILP.

    scripts/bench planner            every size, loads 0.6, 0.9 and 0.99, 5 seeds: about two hours
    scripts/bench planner --quick    sizes up to 5,000 jobs, load 0.9, fewer seeds: under 10 minutes

Problems are those of slurm_carbon.planning.sample. Times are wall time in one process after its imports. gap is
(plan - bound) / bound, with a bound that is certified for the whole problem; capture is the share of the possible
saving over run-at-once that the plan obtains. Each size runs in a process of its own, whose peak memory is given.
Last, jobs are placed one by one against prices: see _arrivals.py.
"""

import argparse
import dataclasses
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
from scipy import sparse

from slurm_carbon.planning import rules
from slurm_carbon.planning.board import Board, Items
from slurm_carbon.planning.columns import Multipliers, Tables
from slurm_carbon.planning.planner import Planner
from slurm_carbon.planning.prices import Dual, solve
from slurm_carbon.planning.problem import Floats, Problem, check
from slurm_carbon.planning.sample import week
from slurm_carbon.planning.uncertainty import scenarios

SIZES: dict[str, tuple[int, int, int, int]] = {  # jobs, sites, slots, seconds a slot
    "100x5x96": (100, 5, 96, 900),
    "1000x5x168": (1000, 5, 168, 3600),
    "1000x5x672": (1000, 5, 672, 900),
    "5000x10x168": (5000, 10, 168, 3600),
    "20000x10x168": (20000, 10, 168, 3600),
    "100000x20x168": (100_000, 20, 168, 3600),
    "1000000x20x168": (1_000_000, 20, 168, 3600),
}
LIMITS_S = {
    "100x5x96": (5,), "1000x5x168": (2, 10, 60), "1000x5x672": (60,), "5000x10x168": (3, 10), "20000x10x168": (8, 20),
    "100000x20x168": (15, 30), "1000000x20x168": (40, 90),
}  # fmt: skip
EXACT = ((30, 3, 48), (60, 3, 48))  # where the exact MILP finishes
LOADS = (0.6, 0.9, 0.99)
SEEDS = 5
QUICK = {("1000x5x168", 60): 1, ("1000x5x672", 60): 1, ("5000x10x168", 3): 3, ("5000x10x168", 10): 3}  # seeds


def problem(size: str, load: float, seed: int) -> Problem:
    """A seeded problem of a size."""
    jobs, sites, slots, slot_s = SIZES[size]
    return week(jobs, sites, slots, slot_s, load, seed)


def board_of(of: Problem) -> Board:
    """An empty board."""
    tables = Tables(of)
    return Board(tables, Items.of(tables), Multipliers.zero(of))


def peak_mib() -> float:
    """Most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# one size


def measure(size: str, quick: bool) -> dict[str, Any]:
    """Gaps and captures of one size, and the peak of memory."""
    from slurm_carbon.planning import relax  # noqa: F401  imported before the clock starts

    gaps: dict[str, dict[str, float]] = {}
    captures: dict[str, dict[str, float]] = {}
    for load in LOADS if not quick else (0.9,):
        found: dict[int, list[tuple[float, float, float]]] = {limit: [] for limit in LIMITS_S[size]}
        for seed in range(SEEDS):
            limits = [s for s in LIMITS_S[size] if not quick or seed < QUICK.get((size, s), SEEDS)]
            if not limits:
                continue
            here = problem(size, load, seed)
            board = board_of(here)
            rules.run_at_once(board)
            at_once = check(here, board.plan())
            del board
            for limit in limits:
                began = time.monotonic()
                outcome = Planner(here, float(limit)).run()
                took = time.monotonic() - began
                verdict = outcome.verdict
                if verdict.broken or verdict.unplaced or (verdict.late and not at_once.late):
                    raise SystemExit(f"{size} load {load} seed {seed}: {verdict}")
                capture = (at_once.cost_g - verdict.cost_g) / (at_once.cost_g - outcome.bound_g)
                found[limit].append((100 * outcome.gap, 100 * capture, took))
        gaps[str(load)], captures[str(load)] = {}, {}
        for limit, rows in found.items():
            gap, capture, took = (statistics.median(column) for column in zip(*rows, strict=True))
            low, high = min(row[0] for row in rows), max(row[0] for row in rows)
            gaps[str(load)][str(limit)] = round(gap, 3)
            captures[str(load)][str(limit)] = round(capture, 2)
            print(f"{size:>16} load {load:<4} {limit:>3} s: gap {gap:6.2f} % ({low:.2f} to {high:.2f}), "
                  f"capture {capture:6.2f} %, took {took:.1f} s, {len(rows)} seeds", flush=True)  # fmt: skip
    return {"gap_pct": gaps, "capture_pct": captures, "peak_mib": round(peak_mib())}


# side by side


def full_program(of: Problem) -> tuple[Floats, Any, Floats, Floats, list[tuple[int, int, int]]]:
    """The textbook model of a problem with one pool a location: cost, capacity rows, capacity, and whose each column is."""
    board = board_of(of)
    tables, places = board.tables, of.places
    costs, owners, keys, rows, cols, data = [], [], [], [], [], []
    number = 0
    for job in range(len(of.jobs)):
        kind = int(board.kind[job])
        first, last = board.window(job)
        run = int(tables.run[kind, 0])
        cost = board.costs(kind)[:, first : last + 1] * board.amount[job]
        for location in range(tables.count):
            for start in range(first, last + 1):
                end = min(start + run, places.slots)
                rows.append(np.arange(location * places.slots + start, location * places.slots + end))
                cols.append(np.full(end - start, number))
                data.append(np.full(end - start, board.amount[job]))
                keys.append((job, location, start))
                number += 1
        costs.append(cost.ravel())
        owners.append(np.full(cost.size, job))
    matrix = sparse.csr_matrix(
        (np.concatenate(data), (np.concatenate(rows), np.concatenate(cols))), shape=(places.capacity.size, number)
    )
    return np.concatenate(costs), matrix, places.capacity.ravel(), np.concatenate(owners), keys


def full_lp(of: Problem) -> tuple[float, Floats, list[tuple[int, int, int]], float]:
    """CVXPY's full LP as one would write it: value, x, columns, seconds (without listing the columns)."""
    import cvxpy as cp

    cost, capacity, free, owner, keys = full_program(of)
    began = time.monotonic()
    one = sparse.csr_matrix((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    x = cp.Variable(len(cost), nonneg=True)
    program = cp.Problem(cp.Minimize(cost @ x), [one @ x == 1, capacity @ x <= free])
    program.solve(solver=cp.HIGHS)
    return float(program.value), np.asarray(x.value), keys, time.monotonic() - began


def rounded(of: Problem, x: Floats, keys: list[tuple[int, int, int]]) -> float:
    """Naive rounding: each job to its largest fraction, surest first, to the cheapest start with room if that is full."""
    board = board_of(of)
    best: dict[int, tuple[float, int, int]] = {}
    for value, (job, location, start) in zip(x, keys, strict=True):
        if job not in best or value > best[job][0]:
            best[job] = (float(value), location, start)
    for job in sorted(best, key=lambda j: -best[j][0]):
        _, location, start = best[job]
        if board.fits(job, start, start)[location, 0]:
            board.put(job, location, start)
        elif not board.place(job) and (found := board.soonest(job)):
            board.put(job, *found)
    return check(of, board.plan()).cost_g


def milp(of: Problem, limit_s: float) -> tuple[float, float]:
    """HiGHS's MILP on the textbook model: the best plan it has after a time, and its bound."""
    from scipy.optimize import Bounds, LinearConstraint
    from scipy.optimize import milp as highs

    cost, capacity, free, owner, _ = full_program(of)
    one = sparse.csr_matrix((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    found = highs(
        cost, integrality=np.ones(len(cost)), bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one, 1, 1), LinearConstraint(capacity, -np.inf, free)],
        options={"time_limit": limit_s},
    )  # fmt: skip
    return float(found.fun) if found.x is not None else float("inf"), float(found.mip_dual_bound or 0)


def compare(quick: bool) -> dict[str, Any]:
    """Everything that is compared at 1,000 jobs, and the price bound at 5,000 (quickly: against few columns, certified)."""
    from slurm_carbon.planning.relax import relax

    out: dict[str, Any] = {"greedy_over_plan": {}}
    size = "1000x5x168"
    for load in (0.6, 0.9):
        here = problem(size, load, 0)
        outcome = Planner(here, 10.0).run()
        costs, board = {}, board_of(here)
        empty = board.state()
        for name, rule in (
            ("run at once", rules.run_at_once), ("random", lambda b: rules.at_random(b, np.random.default_rng(0))),
            ("greedy, in order of arrival", rules.greedy),
        ):  # fmt: skip
            board.restore(empty)
            rule(board)
            verdict = check(here, board.plan())
            costs[name] = (verdict.cost_g, len(verdict.late))
        if load == 0.9:
            value, x, keys, full_s = full_lp(here)
            costs["full LP, naive rounding"] = (rounded(here, x, keys), 0)
            limit_s = 15.0 if quick else 60.0
            costs[f"HiGHS MILP, {limit_s:.0f} s"] = (milp(here, limit_s)[0], 0)
        for name, (cost, late) in costs.items():
            print(f"{size} load {load}: {name:<28} {cost / 1000:9.2f} kg, {100 * (cost / outcome.bound_g - 1):6.1f} % "
                  f"above the bound{f', {late} late' if late else ''}")  # fmt: skip
        print(f"{size} load {load}: {'this planner, 10 s':<28} {outcome.verdict.cost_g / 1000:9.2f} kg, "
              f"{100 * outcome.gap:6.1f} % above the bound", flush=True)  # fmt: skip
        out["greedy_over_plan"][str(load)] = round(costs["greedy, in order of arrival"][0] / outcome.verdict.cost_g, 3)

    for jobs, sites, slots in EXACT:
        small = week(jobs, sites, slots)
        plan_g = Planner(small, 5.0).run().verdict.cost_g
        best_g, proven_g = milp(small, 60.0)
        if best_g - proven_g <= 1e-4 * best_g:
            out.setdefault("over_optimum_pct", {})[f"{jobs}x{sites}x{slots}"] = round(100 * (plan_g / best_g - 1), 3)
            print(f"{jobs}x{sites}x{slots}: plan {100 * (plan_g / best_g - 1):.2f} % above the optimum of HiGHS's MILP")
        else:
            print(f"{jobs}x{sites}x{slots}: HiGHS's MILP does not finish in 60 s")

    def priced(of: Problem) -> tuple[float, float, Dual, Multipliers]:
        began = time.monotonic()
        tables, zero = Tables(of), Multipliers.zero(of)
        dual = Dual(tables, zero)
        by, bound_g = solve(dual, zero)
        return bound_g, time.monotonic() - began, dual, by

    times = []
    for _ in range(3):
        began = time.monotonic()
        _, _, dual, by = priced(here)
        relaxed = relax(dual, by)
        times.append(time.monotonic() - began)
    relax_s = statistics.median(times)
    print(f"{size}: full LP {full_s:.1f} s to {value:.6g} g; relaxation here {relax_s:.2f} s to {relaxed.value_g:.6g} g, "
          f"certified to {relaxed.gap:.1e}")  # fmt: skip
    out["full_lp_over_relax_time"] = round(full_s / relax_s, 1)

    grams = here.places.intensity_g_per_kwh
    sample = scenarios(grams, grams * 0.85, grams * 1.15, 100, here.places.slot_h)
    risky = dataclasses.replace(here, places=dataclasses.replace(here.places, scenarios_g_per_kwh=sample), risk_weight=1.0)
    plain_s = statistics.median(priced(here)[1] for _ in range(5))
    risky_s = statistics.median(priced(risky)[1] for _ in range(5))
    print(f"{size}: bound {plain_s:.2f} s; with CVaR over 100 scenarios {risky_s:.2f} s")
    out["cvar_over_deterministic_time"] = round(risky_s / plain_s, 2)

    large = problem("5000x10x168", 0.9, 0)
    bounds = [priced(large) for _ in range(3)]
    bound_g, price_s, dual, by = bounds[0][0], statistics.median(b[1] for b in bounds), bounds[0][2], bounds[0][3]
    began = time.monotonic()
    best = relax(dual, by) if quick else relax(dual, by, cheapest=None)
    best_s = time.monotonic() - began
    how = f"few columns, certified to {best.gap:.1e}" if quick else "full LP, difference rows, interior point"
    print(f"5000x10x168: {how} {best_s:.1f} s to {best.value_g:.6g} g; prices {price_s:.2f} s to {bound_g:.6g} g")
    out["bound_loss_pct"] = round(100 * (1 - bound_g / best.value_g), 4)
    if not quick:
        out["full_lp_over_price_time"] = round(best_s / price_s, 1)
    return out


def main() -> None:
    """Run the parts, each in its own process, and put their figures together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--sizes", nargs="*", help="only these", choices=SIZES)
    words = parser.parse_args()
    if words.part:
        print(json.dumps(compare(words.quick) if words.part == "compare" else measure(words.part, words.quick)))
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    print(f"{os.cpu_count()} cores, {platform.machine()}, {memory:.0f} GiB, Python {platform.python_version()}, "
          f"numpy {np.__version__}", flush=True)  # fmt: skip
    sizes = words.sizes or [size for size in SIZES if not words.quick or SIZES[size][0] <= 5000]
    result: dict[str, Any] = {"gap_pct": {}, "capture_pct": {}, "peak_mib": {}}
    for part in [*sizes, *([] if words.sizes else ["compare", "arrivals"])]:
        command = [sys.executable, "-I", __file__, "--part", part, *(["--quick"] if words.quick else [])]
        if part == "arrivals":
            arrivals = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_arrivals.py")
            command = [sys.executable, "-I", arrivals, *(("4", "6") if words.quick else ("10", "15"))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            lines = []
            for line in process.stdout or ():
                lines.append(line)
                if not line.startswith("{") and not line.startswith(("Running HiGHS", "Includes third-party")):
                    print(line, end="", flush=True)
        if process.returncode:
            raise SystemExit(process.returncode)
        figures = json.loads(lines[-1])
        if part not in SIZES:
            result |= figures
        else:
            for key, value in figures.items():
                result[key][part] = value
            print(f"{part:>16} peak {figures['peak_mib']} MiB", flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
