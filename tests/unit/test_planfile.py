"""`slurm-carbon plan`: what people write, what they get, and what they are told."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from slurm_carbon import cli, planfile
from slurm_carbon.errors import ConfigError
from slurm_carbon.planning.problem import NO_END
from slurm_carbon.report.plots import _rows

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "etc" / "examples" / "plan.toml"
NOW = 1_795_500_000
PLACE = "[locations.here]\nintensity_g_per_kwh = 100\ncores = 8\n"
TASK = "[tasks.one]\nenergy_kwh = 1\n"


def written(tmp_path: Path, text: str) -> str:
    """A file with this text."""
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return str(path)


def test_the_example_is_planned_to_its_proven_optimum(capsys: pytest.CaptureFixture[str]) -> None:
    """Gap 0, every task placed, and at least as good as the policies of others."""
    assert cli.main(["plan", str(EXAMPLE), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["gap"] == 0.0
    assert out["cost_g"] == pytest.approx(out["bound_g"], rel=1e-6)
    assert [item["task"] for item in out["placements"]] == ["vision", "tabular", "language"]
    assert sum(item["emissions_g"] for item in out["placements"]) == pytest.approx(out["emissions_g"])
    assert all(other["emissions_g"] > out["emissions_g"] for other in out["compared"])
    prices = out["prices_g_per_h"]["paris"]["nodes"]
    assert min(prices) == 0.0 < max(prices)


def test_table_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people: a line a task, what the plan is worth, how others do, and a picture that is one."""
    picture = tmp_path / "plan.png"
    assert cli.main(["plan", str(EXAMPLE), "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    for words in ("language", "proven optimal", "at once, at home", "one by one, greedy", "at random", str(picture)):
        assert words in out
    assert picture.read_bytes().startswith(b"\x89PNG")


HERE = 'start = "2026-11-24T00:00Z"\nhorizon = "4h"\n[locations.here]\nintensity_g_per_kwh = 100\nnodes = 1\n'


@pytest.mark.parametrize(("task", "said"), [
    ('run_time = "1h"\nmargin = "30d"\ntasks = 10', "6 late"),
    ('run_time = "1h"\nnodes = 2', "one: no location is large enough"),
    ('run_time = "1h"\naccount = "a"\n[accounts.a]\nbudget_g = 1', "account a is over its budget"),
    ('run_time = "3h"\narrival = "1h"\nfinish_by = "2h"', "their windows are too short"),
])  # fmt: skip
def test_what_does_not_fit_claims_no_bound(task: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Late, without a place or over budget: exit code 1, the reason, and nothing said to be optimal."""
    text = HERE + "[tasks.one]\npower_w = 1000\n" + ("" if "nodes" in task else "nodes = 1\n") + task + "\n"
    assert cli.main(["plan", written(tmp_path, text)]) == 1
    out = capsys.readouterr().out
    assert said in out
    assert "no bound holds" in out
    assert "optimal" not in out
    assert "inf " not in out
    assert cli.main(["plan", written(tmp_path, text), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["complete"], found["gap"]) == (False, None)


def test_a_weight_on_delay_shows_the_cost_that_the_bound_is_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the cost is more than emissions it stands beside the bound."""
    text = HERE + '[tasks.one]\npower_w = 1000\nnodes = 1\nrun_time = "1h"\nmargin = "3h"\ndelay_g_per_h = 50\ntasks = 2\n'
    assert cli.main(["plan", written(tmp_path, text)]) == 0
    out = capsys.readouterr().out
    assert "200 g CO2e, with delay and risk 250 g, proven optimal (bound 250 g)" in out


def test_an_hour_of_the_clock_is_no_duration(tmp_path: Path) -> None:
    """18:00 is the next six in the evening, 2h is two hours after the start."""
    text = HERE.replace("4h", "2d") + '[tasks.one]\npower_w = 1\nrun_time = "1h"\narrival = "%s"\n'
    at = planfile.load(written(tmp_path, text % "18:00"), NOW).jobs.earliest.tolist()[0]
    start = 1795478400 + at * 3600
    assert time.localtime(start).tm_hour == 18
    assert planfile.load(written(tmp_path, text % "2h"), NOW).jobs.earliest.tolist() == [2]


def test_every_key_arrives_where_it_belongs(tmp_path: Path) -> None:
    """Units, offsets, arrays, speeds, data, budgets and risk, from the file into the problem."""
    path = written(tmp_path, """
        start = "2026-11-24T00:00Z"
        slot = "30m"
        horizon = "6h"
        capacity_quantile = 0.9
        [locations.slow]
        intensity_g_per_kwh = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120]
        pue = 1.5
        cores = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
        power_kw = 3
        [locations.fast]
        zone = "FR"
        speed = 2
        power_factor = 1.5
        [tasks.array]
        energy_kwh = 4
        run_time = "2h"
        arrival = "1h"
        margin = "1h"
        finish_by = "2026-11-24T05:00Z"
        tasks = 7
        cores = 2
        data_gb = 45
        data_at = "fast"
        account = "lab"
        delay_g_per_h = 3
        [tasks.unsure]
        power_w = 500
        run_time_spread = 0.4
        locations = ["fast"]
        [accounts.lab]
        budget_g = 1000
        [transfer]
        kwh_per_gb = 0.01
        gb_per_h = 90
        [risk]
        weight = 0.5
        scenarios = 4
    """)  # fmt: skip
    problem = planfile.load(path, NOW)
    places, profiles, jobs = problem.places, problem.profiles, problem.jobs
    assert (places.start_epoch_s, places.slot_s, places.slots) == (1795478400, 1800, 12)
    assert places.pue.tolist() == [1.5, 1.0]
    assert places.intensity_g_per_kwh[0, :3].tolist() == [10, 20, 30]
    assert dict(zip(places.pool_names, places.pool_resource, strict=True)) == {
        "cores of slow": "cores", "power_kw of slow": "power_kw"
    }  # fmt: skip
    assert places.capacity[0].tolist() == list(range(1, 13))
    assert (places.kwh_per_gb, places.gb_per_h) == (0.01, 90.0)
    assert places.scenarios_g_per_kwh is not None
    assert places.scenarios_g_per_kwh.shape[0] == 4
    assert jobs.names == ("array", "unsure")
    assert jobs.tasks.tolist() == [7, 1]
    assert (jobs.earliest.tolist(), jobs.latest.tolist(), jobs.finish_by.tolist()) == ([2, 0], [4, 0], [10, NO_END])
    assert jobs.home.tolist() == [0, 1]
    assert profiles.power_kw[0].tolist() == [2.0, 3.0]
    assert profiles.run_h[0].tolist() == [2.0, 1.0]
    assert profiles.data_at.tolist() == [1, 1]
    assert profiles.allowed.tolist() == [[True, True], [False, True]]
    assert profiles.run_h[1, 0] == pytest.approx(np.exp(0.4 * 1.2815515655))
    assert (problem.accounts, problem.budget_g.tolist(), problem.risk_weight) == (("lab",), [1000.0], 0.5)


def test_a_task_that_must_be_done_by_a_time_may_wait_until_then(tmp_path: Path) -> None:
    """finish_by without a margin is freedom, not its end; with one, the narrower of the two counts."""
    two = TASK.replace("one", "two") + 'finish_by = "10h"\nmargin = "2h"\n'
    problem = planfile.load(written(tmp_path, PLACE + TASK + 'finish_by = "10h"\n' + two), NOW)
    assert problem.jobs.latest.tolist() == [10, 2]
    assert problem.jobs.finish_by.tolist() == [10, 10]


def test_names_cannot_write_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A task's name is data: what in it would move the cursor is printed as a space."""
    cli.main(["plan", written(tmp_path, PLACE + '[tasks."a\\u001b[2Jb"]\nenergy_kwh = 1\n')])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no [locations.NAME]"),
        (PLACE.replace("8", "[" + "8," * 200 + "]") + TASK, "200 numbers, and only 168 slots"),
        (
            PLACE + "[locations.there]\nintensity_g_per_kwh = 5\n" + TASK + "locations = ['here']\nhome = 'there'",
            "not among its locations",
        ),
        ("[locations.a]\n", "needs one of zone and intensity_g_per_kwh"),
        ("[locations.a]\nzone = 'ATLANTIS'\n", "ATLANTIS"),
        ("[locations.a]\nzone = 'FR'\nnodess = 3\n", "did you mean 'nodes'"),
        (PLACE + "[tasks.one]\n", "energy_kwh and power_w"),
        (PLACE + "[tasks.one]\nenergy_kwh = -1\n", "a number from 0"),
        (PLACE + "[tasks.one]\nenergy_kwh = nan\n", "a number from 0"),
        (PLACE + TASK + "run_time = 'soon'\n", "a duration"),
        (PLACE + TASK + "run_time = '0h'\n", "above 0"),
        (PLACE + TASK + "arrival = 'soon'\n", "is no time"),
        (PLACE + TASK + "locations = ['hree']\n", "did you mean 'here'"),
        (PLACE + TASK + "account = 'lab'\n", "no account 'lab'"),
        (PLACE + "[locations.b]\nintensity_g_per_kwh = [1, 2]\n", "2 numbers for 168 slots"),
        ("slot = '1s'\n" + PLACE, "at least 1m"),
        ("tasks = 3\n" + PLACE, "tables only"),
        ("slot = '1m'\nhorizon = '100000d'\n" + PLACE, "too many"),
        ("= = =", "plan.toml"),
        ("{", "plan.toml"),
        ("[" * 100_000, "plan.toml"),
        ("{" * 100_000, "plan.toml"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each mistake is one line that has the place, the value and what is allowed; exit code 1."""
    assert cli.main(["plan", written(tmp_path, text)]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_files_that_are_none(tmp_path: Path) -> None:
    """Missing, a folder, a FIFO, not text, and a gigabyte of junk: refused at once."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00" * 10)
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 30)
    for name in ("missing", "", "fifo", "bytes", "huge"):
        with pytest.raises(ConfigError, match="plan"):
            planfile.load(str(tmp_path / name))


def test_an_empty_plan_is_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No tasks: nothing to place, and nothing wrong."""
    assert cli.main(["plan", written(tmp_path, PLACE)]) == 0
    assert "plan: 0 g" in capsys.readouterr().out


def test_ctrl_c_gives_the_best_plan_so_far(tmp_path: Path) -> None:
    """Interrupted on a terminal, it shows progress, stops soon, and prints a whole plan with exit code 0."""
    tasks = "".join(
        f"[tasks.t{n}]\nenergy_kwh = {n % 7 + 1}\nrun_time = '{n % 5 + 1}h'\nmargin = '40h'\ncores = {n % 4 + 1}\n"
        for n in range(150)
    )
    path = written(tmp_path, "[locations.a]\nzone = 'FR'\ncores = 30\n[locations.b]\nzone = 'DE'\ncores = 30\n" + tasks)
    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "slurm_carbon.cli", "plan", path, "--solver-time", "10m", "--json"],
        stdout=subprocess.PIPE, stderr=stderr, text=True,
    )  # fmt: skip
    os.close(stderr)
    said = b""
    until = time.monotonic() + 120
    while b"dive: best" not in said and time.monotonic() < until:
        said += os.read(terminal, 4096)
    assert b"% too much" in said
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert process.returncode == 0
    assert len(json.loads(out)["placements"]) == 150


def test_bars_do_not_overlap() -> None:
    """In the picture, bars that run at the same time stand above each other."""
    start, run = np.array([0.0, 1, 2, 5]), np.array([3.0, 3, 1, 1])
    low, high = _rows(start, run)
    for i in range(4):
        for j in range(i):
            apart = start[i] >= start[j] + run[j] or start[j] >= start[i] + run[i]
            assert apart or low[i] >= high[j] or low[j] >= high[i]
