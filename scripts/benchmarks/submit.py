"""What a submission costs: csbatch against the sbatch command that it ends in, and against cats for the same decision.

On the real test clusters, as an ordinary user, rounds of all cases in turn, medians. Compared with:

- the very sbatch command that csbatch ends in, run directly, plus a bare `python3 -I -c pass`: once where it stays on
  its cluster, once where it goes to the other one by -M (which alone costs Slurm 22.05 some 90 ms);
- cats (climate-aware-task-scheduler, PyPI) choosing a start from the same series: its decision alone (`cats -d -l`)
  against our decision alone (`csbatch --carbon-dry-run`), and with the submission by sbatch that follows. Its service is
  on loopback, which is the best that it can have; shown beside: its forecast cached, and a service that takes 200 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from _carbonintensity import Service  # noqa: E402

UID = 20001
JOB = ["-t", "120", "-n", "16", "-o", "/dev/null", "--wrap=hostname"]
SERVICE_ANSWERS_S = 0.2


def series(now: datetime) -> dict[datetime, int]:
    """Half-hourly intensities of nine days with one dip, ten hours from now: no doubt about the best start."""
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    dip = first + timedelta(hours=11)
    moments = [first + i * timedelta(minutes=30) for i in range(9 * 48)]
    return {t: round(250 - 150 * math.exp(-((((t - dip).total_seconds() / 3600) / 3) ** 2))) for t in moments}


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Be one, so that what is timed is the command and not the change of users."""
    os.setgroups([])
    os.setresgid(UID, UID, 0)
    os.setresuid(UID, UID, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


class Bench:
    """The clusters, csbatch and cats, all in one folder, gone afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = [str(ROOT / "scripts/cluster"), "--dir", str(folder / "cluster")]
        self.bin = folder / "venv/bin"
        self.cats = folder / "cats/bin"

    def prepare(self) -> None:
        """Install, bring up, publish."""
        call = subprocess.check_call
        call([ROOT / "scripts/venv", self.folder / "venv", "", "--no-deps"])
        call(["/usr/bin/python3", "-m", "venv", self.folder / "cats"])
        call([self.cats / "pip", "install", "-q", "--disable-pip-version-check", "climate-aware-task-scheduler==1.2.1"])
        call([*self.cluster, "up"], stdout=subprocess.DEVNULL)
        for name in ("home", "tmp"):
            (self.folder / name).mkdir()
            os.chown(self.folder / name, UID, UID)
        values = series(datetime.now(UTC))
        rows = [f"{t:%Y-%m-%dT%H:%M:%SZ},{value}" for t, value in values.items()]
        (self.folder / "gb.csv").write_text("start,g_per_kwh\n" + "\n".join(rows) + "\n")
        self.service = Service(self.folder, values)
        exported = subprocess.check_output([*self.cluster, "env"], text=True).splitlines()
        client = dict(line.removeprefix("export ").split("=", 1) for line in exported)
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder / "home"),
            "LANG": "C.UTF-8",
            **{name: shlex.split(value)[0] for name, value in client.items()},
            "SLURM_CARBON_CONFIG": str(self.folder / "slurm_carbon.toml"),
            "SLURM_CARBON_OUTLOOK": str(self.folder / "outlook.json"),
        }
        zones = "".join(f'[zones.{zone}]\nsources = ["file"]\nfile = "{self.folder}/gb.csv"\n' for zone in ("HERE", "THERE"))
        clusters = "".join(
            f'[clusters.{name}]\nzone = "{zone}"\nfilesystem = "home"\nslurm_conf = "{self.folder}/cluster/{name}/slurm.conf"\n'
            f"pue = {pue}\n" + "".join(f"[clusters.{name}.partitions.{p}]\n" for p in ("batch", "short", "gpu"))
            for name, zone, pue in (("alpha", "HERE", 1.6), ("beta", "THERE", 1.1))
        )
        (self.folder / "slurm_carbon.toml").write_text('[outlook]\nslot = "30m"\n' + zones + clusters)
        self.call([str(self.bin / "slurm-carbon"), "outlook", "refresh"], {})

    def call(self, argv: list[str], more: dict[str, str]) -> tuple[float, str]:
        """Wall time in ms from start to exit of a command, and what it printed."""
        begin = time.perf_counter()
        done = subprocess.run(
            argv, env={**self.environment, **more}, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        took = (time.perf_counter() - begin) * 1000
        if done.returncode:
            sys.exit(f"{shlex.join(argv)}: {done.stdout}{done.stderr}")
        return took, done.stdout

    def begin_of(self, stdout: str) -> datetime:
        """The planned start of the job that a command says it has submitted."""
        number = next(word for word in stdout.split() if word.isdigit())
        fields = self.call(["scontrol", "show", "job", number], {})[1]
        return datetime.fromisoformat(next(w for w in fields.split() if w.startswith("StartTime=")).partition("=")[2])

    def forget(self) -> None:
        """Empty the cache of cats."""
        for file in (self.folder / "tmp").iterdir():
            file.unlink()

    def run(self, rounds: int) -> dict[str, object]:
        """All cases in turn, round by round."""
        csbatch = [str(self.bin / "csbatch"), *JOB]
        home = {"CSBATCH_LOCATIONS": "alpha/batch"}
        ends_in = {}
        for name, more in (("home", home), ("away", {})):
            printed = self.call([csbatch[0], "--carbon-dry-run", *JOB], more)[1]
            ends_in[name] = shlex.split(printed.splitlines()[-1])
        assert "-M" in ends_in["away"], ends_in
        assert "-M" not in ends_in["home"], ends_in
        assert ends_in["home"][1].startswith("--begin="), ends_in
        through = {
            "HTTPS_PROXY": f"http://127.0.0.1:{self.service.port}",
            "REQUESTS_CA_BUNDLE": str(self.service.certificate),
            "TMPDIR": str(self.folder / "tmp"),
        }
        decide = [str(self.cats / "cats"), "-d", "120", "-l", "OX1"]
        cats = [*decide, "-s", "sbatch", "-c", " ".join(JOB)]
        cases: dict[str, tuple[list[str], dict[str, str]]] = {
            "python3 -I -c pass": (["/usr/bin/python3", "-I", "-c", "pass"], {}),
            "sbatch, as csbatch ends, here": (ends_in["home"], {}),
            "csbatch, here": (csbatch, home),
            "sbatch, as csbatch ends, other cluster": (ends_in["away"], {}),
            "csbatch, other cluster": (csbatch, {}),
            "csbatch, here, decision alone": ([csbatch[0], "--carbon-dry-run", *JOB], home),
            "cats, service on loopback, decision alone": (decide, through),
            "cats, forecast cached": (cats, through),
            "cats, service on loopback": (cats, through),
            f"cats, service answers in {SERVICE_ANSWERS_S * 1000:.0f} ms": (cats, through),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        begins = {}
        for number in range(-2, rounds):  # the first two fill caches, and do not count
            for name, (argv, more) in cases.items():
                if name.startswith("cats, service"):
                    self.forget()
                self.service.answer_after_s = SERVICE_ANSWERS_S if "answers" in name else 0.0
                took, printed = self.call(argv, more)
                if number == -1 and name in ("csbatch, here", "cats, forecast cached"):
                    begins[name] = self.begin_of(printed)
                if number >= 0:
                    times[name].append(took)
            self.call(["scancel", "-u", "user1"], {})
        apart = abs((begins["csbatch, here"] - begins["cats, forecast cached"]).total_seconds()) / 60
        if apart > 60:
            sys.exit(f"not the same decision: {begins}")
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name, value in medians.items():
            print(f"{value:8.1f} ms  ({min(times[name]):.1f} to {max(times[name]):.1f})  {name}")
        print(f"csbatch and cats start the job {apart:.0f} min apart")
        python, ours = medians["python3 -I -c pass"], medians["csbatch, here"]
        here = ours / (medians["sbatch, as csbatch ends, here"] + python)
        away = medians["csbatch, other cluster"] / (medians["sbatch, as csbatch ends, other cluster"] + python)
        alone = medians["csbatch, here, decision alone"]
        slow = medians[f"cats, service answers in {SERVICE_ANSWERS_S * 1000:.0f} ms"]
        return {
            "csbatch_over_sbatch_plus_python": round(max(here, away), 3),
            "csbatch_over_sbatch_plus_python_here": round(here, 3),
            "csbatch_over_sbatch_plus_python_other_cluster": round(away, 3),
            "csbatch_over_cats": round(alone / medians["cats, service on loopback, decision alone"], 3),
            "csbatch_over_cats_submitting": round(ours / medians["cats, service on loopback"], 3),
            "csbatch_over_cats_submitting_cached": round(ours / medians["cats, forecast cached"], 3),
            "csbatch_over_cats_submitting_service_200_ms": round(ours / slow, 3),
            "rounds": rounds,
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench submit", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=31, help="how often each case is run (default: %(default)s)")
    words = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench submit: needs root, for real clusters")
    folder = Path(f"/var/tmp/slurm-carbon-bench-{os.getpid()}")
    folder.mkdir(mode=0o755)
    bench = Bench(folder)
    try:
        bench.prepare()
        with ordinary_user():
            result = bench.run(words.rounds)
    finally:
        subprocess.run([*bench.cluster, "down"], check=False)
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
