"""A plan for people, as a table, and for tools, as JSON values."""

from typing import Any, NamedTuple

import numpy as np

from slurm_carbon.planning import rules
from slurm_carbon.planning.board import Board, Items
from slurm_carbon.planning.columns import Multipliers, Tables
from slurm_carbon.planning.planner import Outcome
from slurm_carbon.planning.prices import per_hour
from slurm_carbon.planning.problem import Plan, Problem, check
from slurm_carbon.units import duration_text, mass_text, printable, time_text, zone_of_time

SHOWN = 60  # placements in the table
RANDOM = 20  # random plans that the mean is taken over


class Compared(NamedTuple):
    """How another policy does on the same problem."""

    name: str
    emissions_g: float
    late: int


def compared(problem: Problem) -> list[Compared]:
    """Run at once, greedy and random, on the same problem."""
    tables = Tables(problem)
    board = Board(tables, Items.of(tables), Multipliers.zero(problem))
    empty = board.state()
    out = []
    for name, rule in (("at once, at home", rules.run_at_once), ("one by one, greedy", rules.greedy)):
        board.restore(empty)
        rule(board)
        verdict = check(problem, board.plan())
        out.append(Compared(name, verdict.emissions_g, len(verdict.late)))
    some = []
    for seed in range(RANDOM):
        board.restore(empty)
        rules.at_random(board, np.random.default_rng(seed))
        some.append(check(problem, board.plan()))
    late = float(np.mean([len(verdict.late) for verdict in some]))
    return [*out, Compared("at random", float(np.mean([v.emissions_g for v in some])), round(late))]


def placements(problem: Problem, plan: Plan) -> list[dict[str, Any]]:
    """What is placed where, in order of start."""
    places, jobs = problem.places, problem.jobs
    run_s = problem.profiles.run_h[jobs.profile[plan.job], plan.location] * 3600
    out = []
    for row in np.lexsort((plan.job, plan.start)):
        job, start = int(plan.job[row]), int(plan.start[row])
        alone = check(problem, Plan(*(part[row : row + 1] for part in (plan.job, plan.location, plan.start, plan.tasks))))
        begin = places.start_epoch_s + start * places.slot_s
        out.append({
            "task": jobs.name(job), "tasks": int(plan.tasks[row]), "location": places.locations[plan.location[row]],
            "start_epoch_s": begin, "end_epoch_s": int(begin + run_s[row]), "emissions_g": alone.emissions_g,
            "wait_s": max(0, (start - int(jobs.earliest[job])) * places.slot_s), "late": bool(alone.late),
        })  # fmt: skip
    return out


def worth(outcome: Outcome) -> str:
    """What a plan is worth, in words; the bound is one of the cost, which is more than emissions where delay or risk count."""
    verdict = outcome.verdict
    if not outcome.complete:
        return "not everything has a place in time and in budget: no bound holds"
    more = abs(verdict.cost_g - verdict.emissions_g) > 1e-6 * verdict.cost_g
    cost = f"with delay and risk {mass_text(verdict.cost_g)}, " if more else ""
    if outcome.gap <= 1e-6:
        proven = "proven optimal"
    elif outcome.gap < float("inf"):
        proven = f"at most {100 * outcome.gap:.2g} % above the best possible"
    else:
        proven = "nothing proven"
    return f"{cost}{proven} (bound {mass_text(outcome.bound_g)})"


def table(problem: Problem, outcome: Outcome, others: list[Compared]) -> list[str]:
    """The plan, what it is worth, and how others do."""
    rows = [("task", "location", f"start ({zone_of_time()})", "waits", "CO2e", "")]
    placed = placements(problem, outcome.plan) if len(outcome.plan) <= 20 * SHOWN else []
    for item in placed[:SHOWN]:
        name = printable(item["task"]) + (f" x {item['tasks']}" if item["tasks"] > 1 else "")
        waits = duration_text(item["wait_s"]) if item["wait_s"] else "-"
        start = time_text(item["start_epoch_s"])
        where, late = printable(item["location"]), "late" if item["late"] else ""
        rows.append((name, where, start, waits, mass_text(item["emissions_g"]), late))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if len(outcome.plan) > SHOWN:
        lines = [*(lines if placed else []), f"... {len(outcome.plan)} placements in all: --json has every one"]
    verdict = outcome.verdict
    for job in verdict.unplaced[:SHOWN]:
        lines.append(f"{printable(problem.jobs.name(job))}: no location is large enough or allowed")
    if verdict.late:
        number = sum(item["tasks"] for item in placed if item["late"]) or len(verdict.late)
        lines.append(f"{number} late: their windows are too short, or there is no room inside them")
    if verdict.beyond:
        lines.append("those that start after the horizon start where nothing is known to be taken: a longer one plans them")
    lines += [
        f"account {printable(name)} is over its budget by {mass_text(over)}" for name, over in verdict.overspent_g.items()
    ]
    lines += ["", f"plan: {mass_text(verdict.emissions_g)} CO2e, {worth(outcome)}"]
    if verdict.transfer_g:
        lines.append(f"of which to move data: {mass_text(verdict.transfer_g)}")
    for other in others:
        ratio = f", {other.emissions_g / verdict.emissions_g:.2f} times as much" if verdict.emissions_g else ""
        lines.append(f"{other.name}: {mass_text(other.emissions_g)}{ratio}"
                     + (f", {other.late} late" if other.late else ""))  # fmt: skip
    return lines


def as_json(problem: Problem, outcome: Outcome, others: list[Compared]) -> dict[str, Any]:
    """Everything, for tools."""
    verdict = outcome.verdict
    return {
        "complete": outcome.complete, "cost_g": verdict.cost_g,
        "emissions_g": verdict.emissions_g, "transfer_g": verdict.transfer_g,
        "bound_g": outcome.bound_g, "gap": outcome.gap if np.isfinite(outcome.gap) else None,
        "late": [problem.jobs.name(job) for job in verdict.late],
        "unplaced": [problem.jobs.name(job) for job in verdict.unplaced],
        "overspent_g": verdict.overspent_g, "steps": list(outcome.steps),
        "compared": [other._asdict() for other in others],
        "placements": placements(problem, outcome.plan),
        "prices_g_per_h": {
            place: {name: values.tolist() for name, values in by.items()}
            for place, by in per_hour(problem, outcome.by).items()
        },
    }  # fmt: skip
