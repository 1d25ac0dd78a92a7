"""The policies of others, to compare with: what happens without a planner."""

import numpy as np

from slurm_carbon.planning.board import Board


def run_at_once(board: Board) -> None:
    """Slurm alone: first come, first served with backfill, each job at its home."""
    for item in np.argsort(board.earliest, kind="stable").tolist():
        found = board.soonest(item, int(board.tables.problem.jobs.home[board.items.job[item]]))
        if found is not None:
            board.put(item, *found)


def greedy(board: Board) -> None:
    """What tools that place one job at a time do: in order of arrival, each where and when it emits least in what is free."""
    _in_order(board, None)


def at_random(board: Board, random: np.random.Generator) -> None:
    """In order of arrival, each at a random place and time that has room."""
    _in_order(board, random)


def _in_order(board: Board, random: np.random.Generator | None) -> None:
    for item in np.argsort(board.earliest, kind="stable").tolist():
        noise = None if random is None else board.random_starts(random)
        if not board.place(item, noise) and (found := board.soonest(item)) is not None:
            board.put(item, *found)
