"""Fixtures that the tests of the reoptimizer share: a slurm-carbon that is installed with all it needs, for every user."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.reoptimize.crash_bench import Books, bring_up

# four pairs of clusters for minutes: `scripts/bench days` prints the table of the whole burst
collect_ignore = [] if os.environ.get("SLURM_CARBON_LONG") == "1" else ["test_days.py"]


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


@pytest.fixture(scope="session")
def reoptimizer() -> Iterator[Path]:
    """A folder with csbatch and slurm-carbon as pip installs them, which finds the packages that run these tests."""
    tmp = Path("/var/tmp") / f"slurm-carbon-full-{os.getpid()}"
    tmp.mkdir(mode=0o755)
    try:
        source, venv = tmp / "source", tmp / "venv"
        shutil.copytree(
            ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv*", "build", "*.egg-info", "tests", ".*_cache")
        )
        packages = Path(sysconfig.get_paths()["purelib"])
        shared = _open_to_all(packages)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        what = ["--no-deps", source] if shared else [source]
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", venv / "bin/python3", "install", "-q", *what],
            check=True, capture_output=True,
        )  # fmt: skip
        if shared:
            [site] = venv.glob("lib/python3*/site-packages")
            (site / "with_tests.pth").write_text(f"{packages}\n")
        shutil.rmtree(source)
        yield venv / "bin"
    finally:
        shutil.rmtree(tmp)


@pytest.fixture(scope="package")
def moving(installed: Path) -> Iterator[Books]:
    """Two clusters on the fake clock, with jobs of two users that can be moved, and the books of them."""
    yield from bring_up(installed, "moves")
