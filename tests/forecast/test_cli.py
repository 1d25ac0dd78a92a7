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
FACTS = str(ROOT / "etc/examples/two-clusters.json")
CLUSTERS = """
[clusters.alpha]
zone = "DE"
[clusters.alpha.partitions.batch]
[clusters.beta]
zone = "GB"
[clusters.beta.partitions.batch]
"""


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
        site.write(
            f"""
[sources.energycharts]
url = "{url}"
[zones.DE]
sources = ["energycharts", "climatology"]
[zones.GB]
sources = ["carbonintensity", "climatology"]
[sources.carbonintensity]
url = "http://127.0.0.1:9"
"""
            + CLUSTERS
        )
        _, error = site.run("outlook", "refresh", "--facts", FACTS, code=1)
    assert "zone GB: carbonintensity: 127.0.0.1:9" in error
    shown, _ = site.run("outlook", "show")
    assert "DE: production, lifecycle factors; energycharts, issued" in shown
    assert "on the course of climatology" in shown
    assert "data: Energy-Charts.info, Fraunhofer ISE, CC BY 4.0" in shown  # the licence asks for it
    assert "GB: production, lifecycle factors; climatology; waiting by it captures 31 %" in shown
    outlook = outlooks.read(str(site.folder / "outlook.json"), int(time.time()))
    assert [part.source for part in outlook.zones["DE"].parts] == ["energycharts", "climatology"]
    assert outlook.zones["DE"].captured == 0.8
    assert outlooks.decode(json.loads((site.folder / "outlook.json").read_text())) == outlook


def test_zones_that_count_differently_are_said_and_never_mixed(site: Site) -> None:
    """A refresh names them; it is no failure."""
    site.write(
        """
[zones.DE]
[zones.GB]
sources = ["static"]
g_per_kwh = 200
accounting = "marginal"
factors = "direct"
"""
        + CLUSTERS
    )
    _, error = site.run("outlook", "refresh", "--facts", FACTS)
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
    assert "own, from what was measured until" in out
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
        (("forecast", "show", "DE", "--sources", "magic"), "--sources magic: must be a list, without repetition, of"),
        (("forecast", "show", "DE", "--hours", "0"), "--hours 0: at least 1"),
        (("forecast", "show", "DE", "--plot", "/none/x.png"), "cannot write /none/x.png: /none is no folder"),
        (("forecast", "fit", "DE", "--history", "none.csv"), "none.csv: No such file"),
        (("forecast", "fit", "--history", "x"), "no zone has the source `own`"),
        (("forecast", "score", "FR"), "no zone 'FR'"),
    ],
)
def test_mistakes_are_one_line(site: Site, argv: tuple[str, ...], says: str) -> None:
    """With what to do, and no traceback."""
    site.write("[zones.DE]\n")
    usage = {"ED", "magic", "0", "x", "FR"}  # what was asked for makes no sense: 2; what was found: 1
    _, error = site.run(*argv, code=2 if usage & set(argv) else 1)
    assert says in error
    assert len(error.splitlines()) == 1


def test_any_zone_can_be_looked_at_without_a_configuration(site: Site) -> None:
    """And on a terminal without a font for bars."""
    site.write("")
    out, _ = site.run("forecast", "show", "FR", "--sources", "climatology", "--hours", "2")
    assert "FR: g CO2e/kWh of production, lifecycle factors" in out
    site.run("forecast", "show", "FR", "--sources", "climatology", LANG="C", LC_ALL="C", PYTHONIOENCODING="ascii")


# what an attack has found


def test_one_zone_that_cannot_be_published_does_not_take_the_others_along(site: Site) -> None:
    """A broken note, a broken answer in the store, a clock of another age: the healthy zone has its outlook."""
    first = now_hour()
    (site.folder / "de.csv").write_text("start,g_per_kwh\n" + "".join(f"{first + h * HOUR},{300 + h}\n" for h in range(48)))
    os.utime(site.folder / "de.csv", (-3e8, -3e8))
    answers, issued = site.folder / "forecasts/answers", site.folder / "forecasts/issued"
    for folder in (answers, issued):
        folder.mkdir(parents=True)
    series = {"zone": "GB", "start_epoch_s": first, "period_s": 3600, "g_per_kwh": [1.0] * 48, "source": 5, "accounting": ["x"],
              "factors": "direct", "issued_epoch_s": 10**20, "low": [1.0], "high": None}  # fmt: skip
    (answers / "GB carbonintensity.json").write_text(json.dumps({"fetched": first, "asked": "", **series}))
    for hostile in (5, [[1, 2, 3]], [["file", ["a", "b"], "1e999", 5, None, None]], "x"):
        (issued / "DE file.json").write_text(json.dumps(hostile))
        site.write(
            f"""
[zones.DE]
sources = ["file"]
file = "{site.folder}/de.csv"
[zones.GB]
sources = ["carbonintensity", "climatology"]
[sources.carbonintensity]
url = "http://127.0.0.1:9"
"""
            + CLUSTERS
        )
        site.run("outlook", "refresh", "--facts", FACTS, code=1)
        shown, _ = site.run("outlook", "show")
        assert "alpha/batch" in shown
        assert "beta/batch" in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_what_cannot_be_kept_is_said_and_the_forecast_is_there(site: Site) -> None:
    """A user who may not write the store still sees the zone, and whom to run it as."""
    first = now_hour()
    (site.folder / "de.csv").write_text("start,g_per_kwh\n" + "".join(f"{first + h * HOUR},{300 + h}\n" for h in range(48)))
    site.write(f'[zones.DE]\nsources = ["file"]\nfile = "{site.folder}/de.csv"\n')
    (site.folder / "forecasts").mkdir(mode=0o700)
    for folder in (site.folder, *site.folder.parents):
        if not folder.stat().st_mode & 0o077:
            folder.chmod(0o755)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"PYTHONPATH={ROOT}", sys.executable]
    if subprocess.run([*nobody, "-c", "import slurm_carbon, requests"], cwd="/", check=False, capture_output=True).returncode:
        pytest.skip("the interpreter of the tests cannot be read by others")
    command = [*nobody, "-m", "slurm_carbon.cli", "--config", str(site.folder / "site.toml"), "forecast", "show", "DE"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=60)
    assert "g CO2e/kWh of production" in done.stdout, done.stderr
    assert "it belongs to root: run it as that user" in done.stderr


def test_what_root_puts_into_the_store_of_another_is_that_users(site: Site) -> None:
    """Else the next refresh could not read the model that an admin has fitted."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a folder away")
    (site.folder / "forecasts").mkdir(mode=0o700)
    os.chown(site.folder / "forecasts", 12345, 12345)
    first = now_hour() - 130 * 24 * HOUR
    rows = [f"{first + h * HOUR},{300 + 50 * ((h % 24) > 12) + h % 7}" for h in range(130 * 24)]
    (site.folder / "years.csv").write_text("start,g_per_kwh\n" + "\n".join(rows) + "\n")
    site.write('[zones.DE]\nsources = ["own"]\n')
    site.run("forecast", "fit", "DE", "--history", "years.csv")
    assert {path.stat().st_uid for path in (site.folder / "forecasts").rglob("*")} == {12345}


def test_the_history_of_another_zone_is_refused(site: Site) -> None:
    """A wrong file would spoil what was collected for months; nor may it be in another unit, or of the future."""
    first = now_hour() - 130 * 24 * HOUR

    def years(name: str, factor: float, shift: int = 0) -> None:
        rows = [f"{first + (h + shift) * HOUR},{(300 + h % 24) * factor}" for h in range(130 * 24)]
        (site.folder / name).write_text("start,g_per_kwh\n" + "\n".join(rows) + "\n")

    years("right.csv", 1)
    years("other.csv", 5)
    years("kg.csv", 0.001)
    years("later.csv", 1, 48)
    site.write('[zones.DE]\nsources = ["own"]\n')
    site.run("forecast", "fit", "DE", "--history", "right.csv")
    for name, says in (("other.csv", "is it another zone's"), ("kg.csv", "is it another unit"), ("later.csv", "still to come")):
        _, error = site.run("forecast", "fit", "DE", "--history", name, code=1)
        assert says in error


def test_another_question_has_no_old_answer(site: Site) -> None:
    """Another address, name or way to count: what was answered before is not an answer to that."""
    first = now_hour()
    course = bodies.Course([(first + i * 1800, 100.0) for i in range(96)], 1800)
    with serving(Plan(body=lambda path: bodies.carbonintensity(course, path))) as url:
        site.write(f'[sources.carbonintensity]\nurl = "{url}"\n[zones.GB]\nsources = ["carbonintensity"]\n')
        site.run("forecast", "show", "GB")
    site.run("forecast", "show", "GB")  # from the store
    site.write('[sources.carbonintensity]\nurl = "http://127.0.0.1:9"\n[zones.GB]\nsources = ["carbonintensity"]\n')
    _, error = site.run("forecast", "show", "GB", code=1)
    assert "127.0.0.1:9/intensity" in error


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


def test_a_cheap_place_that_forecasts_badly_does_not_hide_a_good_one() -> None:
    """Where waiting for the cheapest zone is worth nothing, waiting for the next one may still be."""
    now = placed("DE", 0, 1000.0)
    windy, sunny = placed("NL", 36000, 500.0), placed("DE", 36000, 510.0)
    assert choose(now, [now], [windy, sunny], Policy(), {"NL": 0.0, "DE": 0.95})[0] is sunny


def test_a_place_counts_in_full() -> None:
    """That another zone is cleaner now is no forecast: what was captured concerns delays only."""
    home, there = placed("DE", 0, 1000.0), placed("FR", 0, 900.0)
    chosen, _ = choose(home, [home, there], [home, there], Policy(), {"DE": 0.0, "FR": 0.0})
    assert chosen is there
    assert policy.Policy().min_saving_pct == 5.0
