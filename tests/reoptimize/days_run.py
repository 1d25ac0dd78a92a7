"""The process that does what cron would on the clusters of days.py, run after run: Python and the solver start but once.

A line on stdin asks for a run of the reoptimizer or for a new outlook; the answer is a line of JSON. Where a run would wait
some seconds, for slurmctld to write down its state, the clock of all jumps instead: nobody kills a slurmctld here.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from slurm_carbon import cli
from slurm_carbon.config import load
from slurm_carbon.ledger.store import open_ledger
from slurm_carbon.reoptimize import tick
from slurm_carbon.slurm.command import Runner

SHORT_S = 1.0


class Jumping(Runner):
    """Starts commands, and lets time jump instead of waiting."""

    def __init__(self, clock: Path, offset_s: int) -> None:
        super().__init__()
        self.clock, self.offset_s = clock, offset_s

    def pause(self, seconds: float) -> None:
        """Wait, or have waited."""
        if seconds <= SHORT_S:
            super().pause(seconds)
            return
        self.offset_s += int(seconds) + 1
        new = self.clock.with_name("clock.next")
        new.write_text(f"+{self.offset_s}\n")
        new.rename(self.clock)


def reoptimize(runner: Runner) -> dict[str, Any]:
    """What `slurm-carbon reoptimize --json` does and says."""
    config = load(os.environ["SLURM_CARBON_CONFIG"])
    Path(config.reoptimize.ledger.removeprefix("sqlite:///")).parent.mkdir(mode=0o750, exist_ok=True)
    setting = tick.Setting(config, config.reoptimize.mode, os.environ["SLURM_CARBON_OUTLOOK"])
    with open_ledger(config.reoptimize.ledger) as ledger:
        return tick.run(setting, runner, ledger).as_json()


def refresh() -> dict[str, Any]:
    """`slurm-carbon outlook refresh`."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = cli.main(["outlook", "refresh"])
    return {"problems": [said.getvalue()] if code else []}


def main() -> None:
    """Answer until there is nothing more to read."""
    for line in sys.stdin:
        what, clock, offset_s = json.loads(line)
        runner = Jumping(Path(clock), offset_s)
        answer = reoptimize(runner) if what == "reoptimize" else refresh()
        print(json.dumps({**answer, "offset_s": runner.offset_s}), flush=True)


if __name__ == "__main__":
    main()
