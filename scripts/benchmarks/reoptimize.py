"""What a run of `slurm-carbon reoptimize` costs with 10,000 waiting jobs on three real clusters, and what it does to slurmctld.

The jobs are submitted by sbatch, with the marks of csbatch, and only wait: all nodes are reserved for the next hour. Each is
to begin when it is dirtiest. The first
two runs move as many as the site's default lets them (2000), the third one all that is left, and the fourth one finds the
same forecasts again: it should leave jobs alone.

All through each run a user lists his jobs on each cluster in turn, and asks for a single one. How long squeue takes is
compared with the same squeue on an idle machine, and beside a process that keeps one core busy and asks Slurm nothing: so
what the run does to slurmctld is told apart from what any program does to a machine of two cores. `squeue_ratio` is the
latter one, the worse of both calls.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
from _crowd import crowd, keep, submit  # noqa: E402

from slurm_carbon import outlook  # noqa: E402

CLUSTERS = {"alpha": "DE", "beta": "GB", "gamma": "FR"}
UIDS = {"user1": 20001, "user2": 20002}
CORES = 128  # of each of the four nodes of a cluster
SCHEDULER = "SchedulerParameters=bf_window=10080,bf_resolution=600,bf_continue"
RESERVED_MIN = 55
RESERVATION = ("Nodes=ALL", "Users=root", "Flags=maint", "ReservationName=bench")
PAUSE_S = 0.1  # between two calls of the user
WINDOW_S = 3.0
OWN, ONE = "own", "one"  # his jobs, a single one


class Site:
    """Three real clusters whose nodes are large enough for the crowd, and a configuration for them."""

    def __init__(self, folder: Path, with_records: bool) -> None:
        self.folder, self.with_records = folder, with_records
        self.cluster = [str(ROOT / "scripts/cluster"), "--dir", str(folder / "cluster")]
        self.outlook = folder / "site/outlook.json"

    def up(self) -> None:
        """Bring all up, with larger nodes and the intervals of a site's scheduler, not those of a test."""
        for name in CLUSTERS:
            (self.folder / "cluster" / name).mkdir(parents=True)
            (self.folder / "cluster" / name / "site.conf").write_text("MaxJobCount=50000\nMinJobAge=300\n")
        subprocess.check_call([*self.cluster, "up", "--clusters", str(len(CLUSTERS))], stdout=subprocess.DEVNULL)
        for name in CLUSTERS:
            conf = self.folder / "cluster" / name / "slurm.conf"
            text = conf.read_text().replace(
                "CPUs=16 Sockets=2 CoresPerSocket=8", f"CPUs={CORES} Sockets=2 CoresPerSocket={CORES // 2}"
            )
            text = text.replace("RealMemory=64000", f"RealMemory={CORES * 4000}")
            conf.write_text(re.sub("SchedulerParameters=.*", SCHEDULER, text))
        subprocess.check_call([*self.cluster, "restart"], stdout=subprocess.DEVNULL)
        self.environment = {name: self.environment_of(name) for name in CLUSTERS}
        for user in UIDS:
            (self.home / user / "job.sh").write_text("#!/bin/sh\nsleep 1\n")
            (self.home / user / "job.sh").chmod(0o755)
        (self.folder / "site").mkdir()
        self.configure(2000)
        self.program("outlook", "refresh")
        for environment in self.environment.values():  # nothing starts meanwhile
            argv = ["scontrol", "create", "reservation", "StartTime=now", f"Duration={RESERVED_MIN}", *RESERVATION]
            subprocess.check_call(argv, env=environment, stdout=subprocess.DEVNULL, cwd="/")

    def environment_of(self, cluster: str) -> dict[str, str]:
        exported = subprocess.check_output([*self.cluster, "env", "--cluster", cluster], text=True).splitlines()
        words = (line.removeprefix("export ").partition("=") for line in exported)
        return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **{name: shlex.split(value)[0] for name, _, value in words}}

    @property
    def home(self) -> Path:
        return self.folder / "cluster/home"

    @property
    def config(self) -> Path:
        return self.folder / "site/slurm_carbon.toml"

    def configure(self, most: int) -> None:
        """Let a run move so many jobs."""
        words = [f"--zone={name}={zone}" for name, zone in CLUSTERS.items()]
        words += [f"--slurm-conf={name}={self.folder}/cluster/{name}/slurm.conf" for name in CLUSTERS]
        proposed = self.program("config", "init", *words, "--filesystem", "home")
        before, name, rest = proposed.partition("\n[reoptimize]\n")
        section, _, after = rest.partition("\n[")
        wanted = {"mode": '"enforce"', "max_updates": most, "records": '"~/records"' if self.with_records else '""'}
        section = "\n".join(f"{key} = {value}" for key, value in wanted.items())
        text = f"{before}{name}{section}\n\n[{after}"
        self.config.write_text(text.replace(outlook_file(proposed), str(self.outlook)))

    def program(self, *words: str) -> str:
        """What slurm-carbon prints."""
        return subprocess.check_output(self.argv(*words), env=self.own_environment(), text=True, cwd="/")

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
                "from slurm_carbon.cli import main; sys.exit(main())", *words]  # fmt: skip

    def own_environment(self) -> dict[str, str]:
        return {
            **self.environment_of("alpha"), "SLURM_CARBON_CONFIG": str(self.config), "SLURM_CARBON_OUTLOOK": str(self.outlook),
            "HOME": "/root", "CSBATCH_SBATCH": "/usr/bin/sbatch",
        }  # fmt: skip

    def cpu_s(self) -> float:
        """What all slurmctlds have used of a processor."""
        processes = json.loads((self.folder / "cluster/state.json").read_text())["processes"]
        total = 0.0
        for name in CLUSTERS:
            fields = Path(f"/proc/{processes[f'slurmctld-{name}'][0]}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total

    def one_job(self, cluster: str) -> str:
        """The number of one of user1's jobs; of a cluster that all have left, one that is not known."""
        argv = ["squeue", "-h", "-u", "user1", "-o", "%i"]
        return subprocess.check_output(argv, env=self.environment[cluster], text=True, cwd="/").partition("\n")[0] or "1"

    def waiting(self) -> int:
        """Jobs that wait, on all clusters."""
        argv = ["squeue", "-h", "-t", "PD", "-o", "%i"]
        return sum(
            len(subprocess.check_output(argv, env=environment, text=True, cwd="/").split())
            for environment in self.environment.values()
        )

    def down(self) -> None:
        """End and remove the clusters."""
        subprocess.run([*self.cluster, "down"], check=False)


def outlook_file(text: str) -> str:
    """What the proposed configuration names as the outlook's file."""
    return next(line.split('"')[1] for line in text.splitlines() if line.startswith("file = "))


@contextlib.contextmanager
def folder_of(name: str) -> Iterator[Path]:
    """A folder that all can enter, gone afterwards."""
    if os.geteuid() != 0:
        sys.exit(f"bench {name}: needs root, for real clusters")
    folder = Path(f"/var/tmp/slurm-carbon-{name}-{os.getpid()}")
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# the user


class Call(NamedTuple):
    """One squeue."""

    kind: str
    began_s: float  # monotonic
    took_s: float
    bad: bool


class User:
    """A process that lists jobs, again and again, as their owner."""

    def __init__(self, site: Site) -> None:
        calls = [
            (kind, argv, site.environment[cluster])
            for cluster in CLUSTERS
            for kind, argv in (
                (OWN, ["squeue", "-h", "-u", "user1"]),
                (ONE, ["squeue", "-h", "-j", site.one_job(cluster)]),
            )
        ]
        self.notes = tempfile.TemporaryFile("w+")  # noqa: SIM115  # both processes have it
        self.pid = os.fork()
        if not self.pid:
            try:
                os.setgid(UIDS["user1"])
                os.setuid(UIDS["user1"])
                self.go_on(calls)
            finally:
                os._exit(1)

    def go_on(self, calls: Sequence[tuple[str, list[str], dict[str, str]]]) -> None:
        files = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
        while True:
            for kind, argv, environment in calls:
                began = time.monotonic()
                pid = os.posix_spawnp(argv[0], argv, environment, file_actions=files)
                status = os.waitpid(pid, 0)[1]
                print(kind, began, time.monotonic() - began, int(status != 0), file=self.notes, flush=True)
                time.sleep(PAUSE_S)

    def end(self) -> list[Call]:
        """All his calls."""
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        self.notes.seek(0)
        rows = [line.split() for line in self.notes.read().splitlines()]
        self.notes.close()
        return [Call(kind, float(began), float(took), bad == "1") for kind, began, took, bad in rows]


class Seen(NamedTuple):
    """How long squeue took while something went on."""

    median_s: dict[str, float]
    high_s: dict[str, float]  # 95 % took less
    worst_s: dict[str, float]  # the highest of the medians of all WINDOW_S
    slowest_s: float
    bad: int
    controllers: float  # share of a processor that all slurmctlds took

    def told(self, what: str) -> str:
        """For a terminal."""
        return f"{what:22} " + "   ".join(
            f"{name} {self.median_s[kind] * 1e3:5.1f} ms, 95 % below {self.high_s[kind] * 1e3:5.1f}, worst {WINDOW_S:.0f} s "
            f"{self.worst_s[kind] * 1e3:5.1f}"
            for kind, name in ((OWN, "all of his"), (ONE, "one job"))
        ) + f"   slurmctlds {100 * self.controllers:.0f} % of a core" + f"   {self.bad} FAILED" * bool(self.bad)  # fmt: skip


def watched(site: Site, do: Callable[[], Any]) -> tuple[Any, Seen]:
    """Do it, and see how long squeue takes meanwhile."""
    user, cpu, began = User(site), site.cpu_s(), time.monotonic()
    try:
        result = do()
    finally:
        ended = time.monotonic()
        calls = [call for call in user.end() if call.began_s + call.took_s <= ended]
    median, high, worst = {}, {}, {}
    for kind in (OWN, ONE):
        took = sorted(call.took_s for call in calls if call.kind == kind)
        median[kind], high[kind] = statistics.median(took), took[int(0.95 * (len(took) - 1))]
        windows = [
            [call.took_s for call in calls if call.kind == kind and 0 <= call.began_s - start < WINDOW_S]
            for start in (began + number * WINDOW_S / 2 for number in range(int((ended - began) / WINDOW_S * 2)))
        ]
        worst[kind] = max((statistics.median(some) for some in windows if len(some) > 2), default=median[kind])
    slowest = max(call.took_s for call in calls)
    return result, Seen(median, high, worst, slowest, sum(call.bad for call in calls), (site.cpu_s() - cpu) / (ended - began))


def busy(seconds: float) -> None:
    """Keep one core busy."""
    pid = os.fork()
    if not pid:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sum(range(10000))
        os._exit(0)
    os.waitpid(pid, 0)


# a run


class Run(NamedTuple):
    """One run of the reoptimizer."""

    wall_s: float
    cpu_s: float  # its own, and that of what it started
    peak_mib: float  # of the largest of its processes, which is itself
    said: dict[str, Any]

    @property
    def read_apply_s(self) -> float:
        """Reading the queues, finishing, making and looking at moves, and asking what became of jobs."""
        return sum(float(self.said["figures"].get(f"{name}_s", 0)) for name in ("read", "finish", "apply", "remember"))

    def told(self, number: int) -> str:
        """For a terminal."""
        figures, moves = self.said["figures"], self.said["decided"]
        done = sum(one["outcome"] == "done" for one in moves)
        parts = ", ".join(
            f"{name} {figures[f'{name}_s']:.1f}"
            for name in ("outlook", "finish", "read", "room", "plan", "apply", "publish", "remember")
            if f"{name}_s" in figures
        )
        saved, present = float(figures["saved_g"]), float(figures["present_g"])
        return (
            f"run {number}: {self.wall_s:.1f} s, {self.cpu_s:.1f} s of a processor, {self.peak_mib:.0f} MiB ({parts}); "
            f"{figures['movable']} of {figures['waiting']} may be moved, {len(moves)} moves, {done} of them done, "
            f"saving {saved / 1000:.2f} of {present / 1000:.2f} kg ({100 * saved / present if present else 0:.2f} %)"
        )


def reoptimize(site: Site) -> Run:
    """One run, as cron makes it."""
    with tempfile.TemporaryFile("w+") as out:
        began = time.monotonic()
        process = subprocess.Popen(
            site.argv("reoptimize", "--json"), env=site.own_environment(), stdout=out, stdin=subprocess.DEVNULL, cwd="/"
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - began
        out.seek(0)
        text = out.read()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"slurm-carbon reoptimize ended with {process.returncode}: {text[-500:]}")
    return Run(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, json.loads(text))


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench reoptimize", description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=10000, help="how many wait, on all clusters (default: %(default)s)")
    parser.add_argument("--idle", type=float, default=20, help="seconds of each comparison (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=4, help="how many runs (default: %(default)s)")
    parser.add_argument("--records", action="store_true", help="with records of their submission: moves to other clusters, too")
    parser.add_argument("--keep", type=Path, help="a folder for what each run said")
    words = parser.parse_args()
    with folder_of("reoptimize") as folder:
        site = Site(folder, words.records)
        try:
            site.up()
            result = measured(site, words)
        finally:
            site.down()
    print(f"load of the machine in the last five minutes: {os.getloadavg()[1]:.2f} on {os.cpu_count()} cores")
    print(json.dumps(result))


def measured(site: Site, words: argparse.Namespace) -> dict[str, Any]:
    now = int(time.time())
    known = outlook.read(str(site.outlook), now)
    jobs = crowd(words.jobs, known, list(CLUSTERS), 4 * CORES, list(UIDS), words.records, now)
    if words.records:
        keep(jobs, UIDS, site.home, now)
    began = time.monotonic()
    submit(jobs, site.environment, UIDS, site.home)
    core_h = sum(job.cores * job.minutes / 60 for job in jobs)
    print(
        f"{site.waiting()} jobs wait, of {core_h:.0f} core hours; {time.monotonic() - began:.0f} s to submit them", flush=True
    )
    time.sleep(5)
    _, idle = watched(site, lambda: time.sleep(words.idle))
    print(idle.told("idle"), flush=True)
    _, beside = watched(site, lambda: busy(words.idle))
    print(beside.told("beside a busy core"), flush=True)
    runs, seen = [], []
    for number, most in enumerate(((2000,) * 2 + (1_000_000,) * words.runs)[: words.runs], 1):
        site.configure(most)
        run, during = watched(site, lambda: reoptimize(site))
        runs.append(run)
        seen.append(during)
        print(run.told(number) + "\n" + during.told(f"during run {number}"), flush=True)
        for problem in run.said["problems"]:
            print(f"  {problem}")
        if words.keep:
            words.keep.mkdir(exist_ok=True)
            (words.keep / f"run{number}.json").write_text(json.dumps(run.said))
    if site.waiting() != words.jobs:
        sys.exit(f"{site.waiting()} of {words.jobs} jobs are left")
    return {
        "jobs": words.jobs,
        "tick_s": round(max(run.wall_s for run in runs[:2]), 1),
        "peak_mib": round(max(run.peak_mib for run in runs)),
        "read_apply_s": round(max(run.read_apply_s for run in runs[:2]), 1),
        "squeue_ratio": round(worst_ratio(seen[:2], beside, "median_s"), 2),
        "squeue_ratio_high": round(worst_ratio(seen[:2], beside, "high_s"), 2),
        "squeue_ratio_worst": round(worst_ratio(seen[:2], beside, "worst_s"), 2),
        "squeue_ratio_idle": round(worst_ratio(seen[:2], idle, "median_s"), 2),
        "squeue_slowest_s": round(max(one.slowest_s for one in seen), 3),
        "moves": [len(run.said["decided"]) for run in runs],
        "all_tick_s": [round(run.wall_s, 1) for run in runs],
    }


def worst_ratio(during: Sequence[Seen], before: Seen, which: str) -> float:
    """The worse of both calls, in the worse of some runs."""
    return max(getattr(one, which)[kind] / getattr(before, which)[kind] for one in during for kind in (OWN, ONE))


if __name__ == "__main__":
    main()
