"""The Lua of the hook decides what csbatch decides: the same place, start and reason, every time."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from slurm_carbon import luaform, marks
from slurm_carbon.decide import decide
from slurm_carbon.errors import UsageError
from slurm_carbon.hook import records
from slurm_carbon.hook.records import HookRecord
from slurm_carbon.model import Decision, Job, Owner, Placement, Wishes
from slurm_carbon.outlook import Outlook
from tests.hook import worlds
from tests.hook.site import LUAS, MODULE, run_lua

OUTLOOKS, JOBS = 700, 50
RECORDS = 10  # one of so many cases is compared down to the record that it leaves


def _placed(placed: Placement | None) -> str:
    if placed is None:
        return "-"
    numbers = (placed.emissions_g, placed.cost_g, placed.estimate.power_w)
    shown = " ".join(f"{number:.17g}" for number in numbers)
    return f"{placed.location.name}@{placed.start_epoch_s} {shown} {placed.estimate.run_time_s}"


def _python(
    with_record: bool, job: Job, owner: Owner, wishes: Wishes, outlook: Outlook, *more: Any
) -> tuple[str, HookRecord | None]:
    """All that Lua prints of a decision but its JSON record, and what that has to say."""
    try:
        found = decide(job, owner, wishes, outlook, *more)
    except UsageError:
        return "mistake\t", None
    window = found.window
    words = ["decision", _placed(found.chosen), _placed(found.baseline), str(window.latest_epoch_s) if window else "-",
             window.bound if window else "-", found.reason]  # fmt: skip
    words += [f"{a.location.name}={_placed(a.best)}={a.why_not}" for a in found.alternatives]
    mark = marks.of_decision(found, outlook)
    words.append((mark and marks.append(job.comment, mark)) or "-")
    return "\t".join(words), _record(found, outlook, more[1]) if with_record else None


def _record(found: Decision, outlook: Outlook, now: int) -> HookRecord:
    if found.baseline is None or found.window is None:
        return HookRecord("enforce", now, found.reason)
    placed, grid = found.chosen or found.baseline, outlook.zones[(found.chosen or found.baseline).location.zone]
    return HookRecord(
        "enforce", now, found.reason, found.baseline.location.name, found.baseline.emissions_g, found.window.latest_epoch_s,
        found.chosen and found.chosen.location.name, found.chosen and found.chosen.start_epoch_s, placed.emissions_g,
        placed.estimate.energy_kwh, placed.estimate.run_time_s, placed.estimate.power_w, marks.may_run_at(found, outlook),
        grid.source, grid.issued_epoch_s,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, HookRecord | None]]]:
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
                if len(expected) % 3 == 0:  # many of them so long that the mark fits in only in part, or not at all
                    job = job._replace(comment="é" * (len(expected) % 600))
                home, now = (
                    rng.choice([*outlook.clusters, *outlook.clusters, "alpha", "delta"]),
                    worlds.NOW + rng.randint(-60, 7200),
                )
                ruled_out = {"beta/batch": "refused"} if rng.random() < 0.1 else {}
                with_record = len(expected) % RECORDS == 0
                expected.append(_python(with_record, job, owner, wishes, outlook, home, now, ruled_out))
                file.write(
                    f"cases[#cases + 1] = {{outlook = {number}, job = {worlds.job_in_lua(job)}, "
                    f"owner = {worlds.owner_in_lua(owner)}, wishes = {worlds.wishes_in_lua(wishes)}, home = '{home}', "
                    f"now = {now}, ruled_out = {luaform.lua(ruled_out)}, record = {luaform.lua(with_record)}}}\n"
                )
        file.write("return cases\n")
    return path, expected


@pytest.mark.parametrize("version", LUAS)
def test_both_decide_the_same(version: str, cases: tuple[Path, list[tuple[str, HookRecord | None]]]) -> None:
    """Place, start, window, reason, every alternative, grams to the last bit, the mark to the last byte, and the record."""
    path, expected = cases
    found = run_lua(version, Path(__file__).with_name("decide.lua"), MODULE, path).splitlines()
    differing = []
    for (line, record), printed in zip(expected, found, strict=True):
        rest, json = printed.rsplit("\t", 1) if record else (printed, "")
        back = records.of_job(json)
        if line != rest or (record and (back is None or _rounded(back) != _rounded(record))):
            differing.append((line, rest, record, back))
    assert not differing, f"{len(differing)} of {len(expected)}, the first:\n" + "\n".join(map(str, differing[0]))


def _rounded(record: HookRecord) -> HookRecord:
    """A record with figures of as many digits as JSON has them, and without what is written for people."""
    figures = {name: float(f"{getattr(record, name):.6g}") for name in ("baseline_g", "emissions_g", "energy_kwh", "power_w")}
    return record._replace(reason="".join(c for c in record.reason if c.isalnum()), **figures)


def test_the_cases_have_everything_in_them(cases: tuple[Path, list[tuple[str, HookRecord | None]]]) -> None:
    """Moves, delays, refusals and mistakes, marks with and without their list: none of them is rare."""
    expected = [line for line, _ in cases[1]]
    chosen = [line.split("\t") for line in expected if line.startswith("decision") and line.split("\t")[1] != "-"]
    moved = [w for w in chosen if w[1].split("@")[0] != w[2].split("@")[0]]
    delayed = [w for w in chosen if w[1].split()[0].split("@")[1] != w[2].split()[0].split("@")[1]]
    assert min(len(moved), len(delayed)) > 1000
    assert sum("saves enough" in line for line in expected) > 500
    assert sum(line.startswith("mistake") for line in expected) > 100
    assert len(expected) >= 20000
    whole, shorter, none = ([w for w in chosen if kind(w[-1])] for kind in (_has_list, _has_none, "-".__eq__))
    assert min(len(whole), len(shorter), len(none)) > 100


def _has_list(comment: str) -> bool:
    mark = marks.read(comment)[1]
    return mark is not None and len(mark.locations) > 1


def _has_none(comment: str) -> bool:
    mark = marks.read(comment)[1]
    return mark is not None and not mark.locations
