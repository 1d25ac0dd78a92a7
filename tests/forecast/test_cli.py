"""`slurm-carbon forecast` and the refresh as a whole, run as an admin runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurm_carbon import outlook as outlooks
from slurm_carbon import policy
from slurm_carbon.model import Estimate, Location, Placement, Power
from slurm_carbon.policy import Policy, choose
from tests.forecast import bodies
from tests.forecast.bodies import HOUR
from tests.forecast.server import Plan, serving

ROOT = Path(__file__).parent.parent.parent
KEY = "k3y-that-nobody-may-see"


@dataclass
class Site:
    """A configuration in a folder of its own."""

    folder: Path

    def write(self, text: str) -> None:
        """The configuration."""
        (self.folder / "site.toml").write_text(f'[outlook]\nfile = "{self.folder}/outlook.json"\n{text}')

    def run(self, *argv: str, code: int = 0, **environment: str) -> tuple[str, str]:
        """Standard output and error of slurm-carbon."""
        command = [sys.executable, "-m", "slurm_carbon.cli", "--config", str(self.folder / "site.toml"), *argv]
        variables = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), **environment}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables, timeout=60, cwd=self.folder)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout, done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty site."""
    return Site(tmp_path)


def now_hour() -> int:
    """The start of the running hour: the command has the real clock."""
    return int(time.time()) // HOUR * HOUR


def test_refresh_says_what_the_outlook_is_made_of(site: Site) -> None:
    """One zone is live, one is older, one is poorer: the file and the table say which."""
    first = now_hour()
    course = bodies.Course([(first + i * 900, 100.0) for i in range(96)], 900)
    with serving(Plan(body=lambda path: bodies.energycharts(course, path))) as url:
        site.write(f"""
[sources.energycharts]
url = "{url}"
[zones.DE]
sources = ["energycharts", "climatology"]
[zones.GB]
sources = ["carbonintensity", "climatology"]
[sources.carbonintensity]
url = "http://127.0.0.1:9"
[clusters.alpha]
zone = "DE"
[clusters.alpha.partitions.batch]
[clusters.beta]
zone = "GB"
[clusters.beta.partitions.batch]
""")
        _, error = site.run("outlook", "refresh", "--facts", str(ROOT / "etc/examples/two-clusters.json"), code=1)
    assert "zone GB: carbonintensity: 127.0.0.1:9" in error
    shown, _ = site.run("outlook", "show")
    assert "DE: production, lifecycle factors; energycharts, issued" in shown
    assert "on the course of climatology" in shown
    assert "GB: production, lifecycle factors; climatology; delays by it have captured 31 %" in shown
    outlook = outlooks.read(str(site.folder / "outlook.json"), int(time.time()))
    assert [part.source for part in outlook.zones["DE"].parts] == ["energycharts", "climatology"]
    assert outlook.zones["DE"].captured == 0.8
    assert outlooks.decode(json.loads((site.folder / "outlook.json").read_text())) == outlook


def test_zones_that_count_differently_are_said_and_never_mixed(site: Site) -> None:
    """A refresh names them; it is no failure."""
    site.write("""
[zones.DE]
[zones.GB]
sources = ["static"]
g_per_kwh = 200
accounting = "marginal"
factors = "direct"
[clusters.alpha]
zone = "DE"
[clusters.alpha.partitions.batch]
[clusters.beta]
zone = "GB"
[clusters.beta.partitions.batch]
""")
    _, error = site.run("outlook", "refresh", "--facts", str(ROOT / "etc/examples/two-clusters.json"))
    assert "DE (production, lifecycle); GB (marginal, direct)" in error


def test_no_key_is_anywhere_but_in_the_request(site: Site) -> None:
    """Not in the outlook, the store, the output or the messages, whether the service answers or refuses."""
    first = now_hour()
    course = bodies.Course([(first + i * HOUR, 100.0 + i) for i in range(72)])
    plan = Plan(body=lambda path: bodies.electricitymaps(course, path))
    with serving(plan) as url:
        key = site.folder / "key"
        key.write_text(KEY)
        key.chmod(0o600)
        site.write(f"""
[sources.electricitymaps]
url = "{url}"
key_file = "{key}"
[zones.DE]
sources = ["electricitymaps"]
""")
        out, error = site.run("forecast", "show", "DE", "--json")
        plan.status, plan.body = 401, lambda _: json.dumps({"error": f"{KEY} is no good"}).encode()
        for path in (site.folder / "forecasts/answers").iterdir():
            path.unlink()
        more, errors = site.run("forecast", "show", "DE", code=1)
        key.chmod(0o644)
        _, refused = site.run("forecast", "show", "DE", code=1)
    assert plan.seen[0]["auth-token"] == KEY
    assert "mode 644: others may read it" in refused
    kept = "".join(path.read_text() for path in (site.folder / "forecasts").rglob("*") if path.is_file())
    assert KEY not in out + error + more + errors + refused + kept
    assert "HTTP 401" in errors


def test_from_a_file_of_years_to_a_forecast_and_its_score(site: Site) -> None:
    """fit, show, and after a while score: as the manual says."""
    first = now_hour() - 200 * 24 * HOUR
    rows = [f"{first + h * HOUR},{300 + 50 * ((h % 24) > 12) + h % 7}" for h in range(200 * 24)]
    (site.folder / "years.csv").write_text("start,g_per_kwh\n" + "\n".join(rows) + "\n")
    site.write('[zones.DE]\nsources = ["own", "climatology"]\n')
    _, error = site.run("forecast", "fit", code=1)
    assert "no history yet: give one with --history" in error
    out, _ = site.run("forecast", "fit", "DE", "--history", "years.csv")
    assert "DE: 200 days of history" in out
    assert "MAPE" in out
    out, _ = site.run("forecast", "show", "DE", "--hours", "5", "--plot", "de.png")
    assert "own, issued" in out
    assert "10 to 90 %" in out
    assert (site.folder / "de.png").read_bytes()[:4] == b"\x89PNG"
    raw = json.loads(site.run("forecast", "show", "DE", "--json")[0])
    assert len(raw["low_g_per_kwh"]) == 96 <= len(raw["mean_g_per_kwh"]) == 168
    scores = json.loads(site.run("forecast", "score", "--json")[0])
    assert scores["DE"]["own"]["issues"] == 0  # noted, not measured yet


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("forecast", "show", "ED"), "no zone 'ED' in the configuration; did you mean 'DE'"),
        (("forecast", "show", "DE", "--sources", "magic"), "must be a list, without repetition, of"),
        (("forecast", "show", "DE", "--hours", "0"), "--hours 0: at least 1"),
        (("forecast", "show", "DE", "--plot", "/none/x.png"), "cannot write /none/x.png"),
        (("forecast", "fit", "DE", "--history", "none.csv"), "none.csv: No such file"),
        (("forecast", "fit", "--history", "x"), "no zone has the source `own`"),
        (("forecast", "score", "FR"), "no zone 'FR'"),
    ],
)
def test_mistakes_are_one_line(site: Site, argv: tuple[str, ...], says: str) -> None:
    """With what to do, and no traceback."""
    site.write("[zones.DE]\n")
    _, error = site.run(*argv, code=1)
    assert says in error
    assert len(error.splitlines()) == 1


def test_any_zone_can_be_looked_at_without_a_configuration(site: Site) -> None:
    """And on a terminal without a font for bars."""
    out, _ = site.run("forecast", "show", "FR", "--sources", "climatology", "--hours", "2")
    assert "FR: g CO2e/kWh of production, lifecycle factors" in out
    site.run("forecast", "show", "FR", "--sources", "climatology", LANG="C", LC_ALL="C", PYTHONIOENCODING="ascii")


# what has been captured decides


def placed(zone: str, start: int, emissions_g: float) -> Placement:
    """A placement that emits so much."""
    where = Location("alpha", zone, zone, Power(1, 1, 1, 1))
    return Placement(where, start, Estimate(3600, 1000.0, "--time"), emissions_g, emissions_g)


@pytest.mark.parametrize(
    ("captured", "saving_pct", "delayed"),
    [
        (1.0, 5.1, True),
        (1.0, 4.9, False),
        (0.8, 6.3, True),
        (0.8, 6.2, False),
        (0.3, 16.7, True),
        (0.3, 16.6, False),
        (0.0, 99.0, False),
    ],
)
def test_a_delay_counts_by_what_forecasts_of_the_zone_have_captured(captured: float, saving_pct: float, delayed: bool) -> None:
    """The site asks for 5 %: a forecast that captures 80 % has to promise 6.25 %; with one that captures none nobody waits."""
    now, later = placed("DE", 0, 1000.0), placed("DE", 36000, 1000.0 - 10 * saving_pct)
    chosen, why = choose(now, [now], [later], Policy(), {"DE": captured})
    assert (chosen is later) == delayed
    assert delayed or "saves enough" in why


def test_a_place_counts_in_full() -> None:
    """That another zone is cleaner now is no forecast: what was captured concerns delays only."""
    home, there = placed("DE", 0, 1000.0), placed("FR", 0, 900.0)
    chosen, _ = choose(home, [home, there], [home, there], Policy(), {"DE": 0.0, "FR": 0.0})
    assert chosen is there
    assert policy.Policy().min_saving_pct == 5.0
