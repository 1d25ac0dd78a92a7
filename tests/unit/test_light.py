"""What a submission must not cost or carry."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numpy", "scipy", "cvxpy", "requests", "pyslurm", "matplotlib", "subprocess", "dataclasses", "tomllib", "argparse")


def test_csbatch_imports_nothing_heavy() -> None:
    """A fresh interpreter that has imported all that a submission uses has none of the heavy packages."""
    code = (
        "import sys\n"
        "from slurm_carbon import launch, csbatch, narrate, decide, marks, wishes, outlook, place, policy\n"
        "from slurm_carbon.slurm import command, options, sbatch, script\n"
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())
