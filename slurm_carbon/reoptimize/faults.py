"""The seam at which tests end a run in its midst: a law that no crash may break is kept only if every crash is tried.

`point(name)` stands before and after each thing that a run does to the outside. It does nothing, unless the environment
says otherwise as the process starts:

    SLURM_CARBON_END_AT=N       the process ends itself by SIGKILL at its N-th point, counted from 1
    SLURM_CARBON_POINTS=FILE    the name of each point is appended to this file, a line each

Both only make a process end, or write what its own user may write: whoever can set them could do that without us.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class _Points:
    """How many points this process has passed."""

    def __init__(self) -> None:
        end_at = os.environ.get("SLURM_CARBON_END_AT", "")
        self.end_at = int(end_at) if end_at.isascii() and end_at.isdigit() else 0
        self.file = os.environ.get("SLURM_CARBON_POINTS", "")
        self.passed = 0


_points = _Points()


def point(name: str) -> None:
    """A place where a run may end at any time."""
    if not (_points.end_at or _points.file):
        return
    _points.passed += 1
    if _points.file:
        with open(_points.file, "a", encoding="utf-8") as file:
            file.write(name + "\n")
    if _points.passed == _points.end_at:
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def around(name: str) -> Iterator[None]:
    """A point before something is done, and one after it."""
    point(f"before {name}")
    yield
    point(f"after {name}")
