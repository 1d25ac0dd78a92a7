"""Jobs placed one after the other by place.py, against the prices of a plan and without, beside the joint plan of all.

    _arrivals.py SECONDS WEEKS

A part of `scripts/bench planner`. The prices are made for jobs drawn from the same distribution (not for the jobs that
come), on what is free, anew after every 100 jobs. With prices and without, a job sees what is taken by those before it.
"""

import json
import sys
from typing import Any

import numpy as np

from slurm_carbon.intensity import Intensity
from slurm_carbon.model import Estimate, Location, Power, Window
from slurm_carbon.place import best_start, still_due
from slurm_carbon.planning.arrivals import FUTURES, Expected, Priced, for_arrivals
from slurm_carbon.planning.board import Board, Items
from slurm_carbon.planning.columns import Multipliers, Tables
from slurm_carbon.planning.planner import Planner
from slurm_carbon.planning.prices import per_hour
from slurm_carbon.planning.problem import Problem, Verdict, check
from slurm_carbon.planning.sample import alike, week

EVERY = 100  # jobs between two refreshes
FIRST = 100  # seed: the constants of planning.arrivals and place.py were chosen on weeks from 0 to 19


def one_by_one(of: Problem, expected: Expected | None) -> Verdict:
    """All jobs in order of arrival, each by place.py: against prices where jobs are expected, else by emissions alone."""
    places = of.places
    tables = Tables(of)
    board = Board(tables, Items.of(tables), Multipliers.zero(of))
    horizon = places.intensity_g_per_kwh.shape[1]
    grids = [
        Intensity(name, 0, places.slot_s, places.intensity_g_per_kwh[i].tolist(), float(places.beyond_g_per_kwh[i]),
                  "sample", "production", "lifecycle", 0)
        for i, name in enumerate(places.locations)
    ]  # fmt: skip
    sites = [Location(name, "batch", name, Power(0, 0, 0, 1)) for name in places.locations]
    priced: Priced | None = None
    prices: dict[str, Any] = {}
    for number, item in enumerate(np.argsort(board.earliest, kind="stable").tolist()):
        now = int(board.earliest[item])
        if expected is not None and number % EVERY == 0:
            priced = for_arrivals(expected, now, board.free[:-1, : places.slots], priced)
            prices = per_hour(of, priced.by)
        kind, cores = int(board.kind[item]), float(board.amount[item])
        window = Window(now * places.slot_s, int(board.latest[item]) * places.slot_s, "sample")
        run_s = board.longest[kind] * places.slot_s
        found = []
        for i, site in enumerate(sites):
            power_w = 1000 * of.profiles.power_kw[kind, i] * places.pue[i] * cores
            price = None
            if prices:
                each = (prices[site.cluster]["cores"] * cores).tolist() + [0.0] * (horizon - places.slots)
                price = still_due(each, 0, places.slot_s, window.earliest_epoch_s)
            room = [*(board.free[i, : places.slots] >= cores).tolist(), *[True] * (horizon - places.slots)]
            found.append(best_start(
                site, grids[i], Estimate(run_s, float(power_w), "sample"), window, price_g_per_h=price, room=room,
            ))  # fmt: skip
        best = min(found, key=lambda placement: placement.cost_g)
        if best.cost_g < float("inf"):
            board.put(item, found.index(best), best.start_epoch_s // places.slot_s)
        elif (late := board.soonest(item)) is not None:
            board.put(item, *late)
    verdict = check(of, board.plan())
    if verdict.broken or verdict.unplaced:
        raise SystemExit(f"one by one: {verdict}")
    return verdict


def main() -> None:
    """Print what each week comes to, and the excess with prices over the excess without, all weeks together."""
    seconds, weeks = float(sys.argv[1]), int(sys.argv[2])
    ratios = {}
    for load in (0.6, 0.9):
        with_g = without_g = 0.0
        each = []
        for seed in range(FIRST, FIRST + weeks):
            of = week(1000, 5, 168, load=load, seed=seed)
            plan = Planner(of, seconds).run().verdict
            alone = one_by_one(of, None)
            futures = Expected(alike(of, 1_000_000 + seed, FUTURES), np.repeat(np.arange(FUTURES), len(of.jobs)))
            priced = one_by_one(of, futures)
            with_g += priced.cost_g - plan.cost_g
            without_g += alone.cost_g - plan.cost_g
            each.append((priced.cost_g - plan.cost_g) / (alone.cost_g - plan.cost_g))
            print(f"1000x5x168 load {load} seed {seed}: joint plan {plan.cost_g / 1000:.2f} kg; one by one with prices "
                  f"{priced.cost_g / 1000:.2f} kg ({len(priced.late)} late), without {alone.cost_g / 1000:.2f} kg "
                  f"({len(alone.late)} late): excess ratio {each[-1]:.2f}", flush=True)  # fmt: skip
        ratios[str(load)] = round(with_g / without_g, 3)
        print(f"1000x5x168 load {load}: excess ratio {ratios[str(load)]:.3f} over {weeks} weeks, "
              f"median {np.median(each):.3f}", flush=True)  # fmt: skip
    print(json.dumps({"price_excess_ratio": ratios}))


if __name__ == "__main__":
    main()
