"""The Lua of the hook decides what csbatch decides: the same place, start and reason, every time."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from slurm_carbon import luaform
from slurm_carbon.decide import decide
from slurm_carbon.errors import UsageError
from slurm_carbon.model import Placement
from tests.hook import worlds
from tests.hook.site import LUAS, MODULE, run_lua

OUTLOOKS, JOBS = 700, 50


def _placed(placed: Placement | None) -> str:
    if placed is None:
        return "-"
    numbers = (placed.emissions_g, placed.cost_g, placed.estimate.power_w)
    shown = " ".join(f"{number:.17g}" for number in numbers)
    return f"{placed.location.name}@{placed.start_epoch_s} {shown} {placed.estimate.run_time_s}"


def _python(case: tuple) -> str:
    try:
        found = decide(*case)
    except UsageError:
        return "mistake\t"
    window = found.window
    words = ["decision", _placed(found.chosen), _placed(found.baseline), str(window.latest_epoch_s) if window else "-",
             window.bound if window else "-", found.reason]  # fmt: skip
    words += [f"{a.location.name}={_placed(a.best)}={a.why_not}" for a in found.alternatives]
    return "\t".join(words)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Thirty-five thousand random cases as Lua, and what Python decides of each."""
    rng = Random(5)
    path = tmp_path_factory.mktemp("parity") / "cases.lua"
    expected = []
    with path.open("w") as file:
        file.write("local cases = {outlooks = {}}\n")
        for number in range(1, OUTLOOKS + 1):
            outlook = worlds.outlook(rng)
            file.write(f"cases.outlooks[{number}] = [==[{luaform.text(outlook)}]==]\n")
            for _ in range(JOBS):
                job, owner, wishes = worlds.job(rng), worlds.owner(rng), worlds.wishes(rng)
                home, now = (
                    rng.choice([*outlook.clusters, *outlook.clusters, "alpha", "delta"]),
                    worlds.NOW + rng.randint(-60, 7200),
                )
                ruled_out = {"beta/batch": "refused"} if rng.random() < 0.1 else {}
                expected.append(_python((job, owner, wishes, outlook, home, now, ruled_out)))
                file.write(
                    f"cases[#cases + 1] = {{outlook = {number}, job = {worlds.job_in_lua(job)}, "
                    f"owner = {worlds.owner_in_lua(owner)}, wishes = {worlds.wishes_in_lua(wishes)}, home = '{home}', "
                    f"now = {now}, ruled_out = {luaform.lua(ruled_out)}}}\n"
                )
        file.write("return cases\n")
    return path, expected


@pytest.mark.parametrize("version", LUAS)
def test_both_decide_the_same(version: str, cases: tuple[Path, list[str]]) -> None:
    """Place, start, window, reason, every alternative, and grams to the last bit."""
    path, expected = cases
    found = run_lua(version, Path(__file__).with_name("decide.lua"), MODULE, path).splitlines()
    differing = [(i, a, b) for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b]
    assert not differing, f"{len(differing)} of {len(expected)}, the first:\n{differing[0][1]}\n{differing[0][2]}"


def test_the_cases_have_everything_in_them(cases: tuple[Path, list[str]]) -> None:
    """Moves, delays, refusals and mistakes: none of them is rare."""
    expected = cases[1]
    chosen = [line.split("\t") for line in expected if line.startswith("decision") and line.split("\t")[1] != "-"]
    moved = [w for w in chosen if w[1].split("@")[0] != w[2].split("@")[0]]
    delayed = [w for w in chosen if w[1].split()[0].split("@")[1] != w[2].split()[0].split("@")[1]]
    assert min(len(moved), len(delayed)) > 1000
    assert sum("saves enough" in line for line in expected) > 500
    assert sum(line.startswith("mistake") for line in expected) > 100
    assert len(expected) >= 20000
