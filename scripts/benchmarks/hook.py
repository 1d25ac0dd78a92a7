"""What the hook costs slurmctld: submissions per second, and one decision, against an empty Lua hook in the same slurmctld.

On a real test cluster, as an ordinary user, `sbatch` in a loop of sh, alone and as eight loops at once; medians of rounds
that take turns, the script replaced between them as Slurm notices it. The hook decides by an outlook of ten locations in ten
zones, of a week of quarters of an hour. Compared with:

- a job_submit.lua whose functions return slurm.SUCCESS, on the very same sbatch command;
- the same script on that command with `--begin` in some hours, which leaves Slurm the same job as the hook does: without it
  slurmctld tries to start every job at once, on nodes that are drained here.

The decision alone is timed in Lua 5.1, on a description as slurmctld gives it: from the call to the fields that are set.
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
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from slurm_carbon import luaform  # noqa: E402
from slurm_carbon.intensity import Intensity  # noqa: E402
from slurm_carbon.model import Cluster, Location, NodeShape, Partition, Power  # noqa: E402
from slurm_carbon.outlook import Outlook, Source  # noqa: E402
from slurm_carbon.policy import Policy  # noqa: E402

UID = 20001
SLOT_S, SLOTS = 900, 7 * 96
PARTITIONS = ("batch", *(f"p{i}" for i in range(1, 10)))
SCRIPT = """\
function slurm_job_submit(description, partitions, uid) return slurm.SUCCESS end
function slurm_job_modify(description, record, partitions, uid) return slurm.SUCCESS end
"""
CLIENT = 'i=0; while [ $i -lt "$1" ]; do i=$((i + 1)); sbatch -J "$2$i" $3 -t 120 -n 4 -o /dev/null "$HOME/job.sh"; done'

DECISIONS = """\
local module, path, count = arg[1], arg[2], tonumber(arg[3])
local carbon = dofile(module)
local clock, real_time, ceil, random = os.clock, os.time, math.ceil, math.random
local first = real_time()
local now = first
os.time = function(parts) return parts and real_time(parts) or now end
local function nothing() end
slurm = {SUCCESS = 0, CLUSTER_NAME = "alpha", log_user = nothing, log_info = nothing,
  log_error = function(form, ...) error(form:format(...), 0) end}
local environment, partitions = {HOME = "/home/user1", PATH = "/usr/bin:/bin", USER = "user1", LANG = "C.UTF-8"}, {}
for name in arg[4]:gmatch("%S+") do partitions[name] = {} end
local NONE, NONE16 = 4294967294, 65534
local function description(minutes, memory_mb)
  return {script = "#!/bin/sh\\nhostname\\n", environment = environment, user_name = "user1", user_id = 20001, name = "job",
    default_account = "lab", begin_time = 0, priority = NONE, time_limit = minutes, het_job_offset = NONE, min_nodes = NONE,
    max_nodes = NONE, num_tasks = 4, min_cpus = 4, cpus_per_task = NONE16, ntasks_per_node = NONE16, shared = NONE16,
    min_mem_per_node = memory_mb}
end
local loads, times, delayed, heap_kb = {}, {}, 0, {}
for i = 1, 11 do
  carbon.hook.state.seen = nil
  collectgarbage()
  local begin = clock()
  carbon.hook.outlook(path, now)
  loads[i] = (clock() - begin) * 1e3
end
math.randomseed(7)
for i = 1, math.min(count, 20000) do times[i] = 0 end
for i = 1, count do
  if i % 1000 == 0 then carbon.hook.state.seen = nil end
  now = first + random(0, 1800)
  local job = description(random(1, 2880), i % 2 == 0 and 4000 or nil)
  local begin = clock()
  carbon.hook.on_submit({outlook = path}, job, partitions, 20001)
  times[(i - 1) % 20000 + 1] = (clock() - begin) * 1e6
  assert(job.admin_comment, "no decision")
  if job.begin_time > now then delayed = delayed + 1 end
  if i % ceil(count / 20) == 0 then
    collectgarbage()
    heap_kb[#heap_kb + 1] = ("%.1f"):format(collectgarbage("count"))
  end
end
table.sort(loads)
table.sort(times)
print(('{"median_us": %.1f, "us_95": %.1f, "load_ms": %.2f, "delayed": %d, "heap_kb": [%s]}'):format(times[ceil(#times / 2)],
  times[ceil(#times * 0.95)], loads[6], delayed, table.concat(heap_kb, ",")))
"""


def outlook(now: int, *, priced: bool = False, turned: int = 0) -> Outlook:
    """Ten locations in as many zones, each cleanest at another hour that is still to come; `turned` gives another one."""
    rng = Random(turned)
    start = now - now % SLOT_S
    zones, locations, partitions, prices = {}, [], {}, {}
    for i, name in enumerate(PARTITIONS):
        dip_h = 5 + i + turned % 3
        mean = [
            round(400 - 200 * math.cos((slot * SLOT_S / 3600 - dip_h) * math.tau / 24) + rng.gauss(0, 15), 2)
            for slot in range(SLOTS)
        ]
        zones[f"Z{i}"] = Intensity(
            f"Z{i}",
            start,
            SLOT_S,
            [max(0.0, value) for value in mean],
            400.0,
            "benchmark",
            "production",
            "lifecycle",
            now - 600,
        )
        locations.append(Location("alpha", name, f"Z{i}", Power(10.8, 300.0, 0.3725, 1.2 + i / 50)))
        partitions["alpha", name] = Partition(
            name, "alpha", is_default=i == 0, default_time_s=3600, max_time_s=7 * 86400, shapes=(NodeShape(4, 16, 64000),)
        )
        if priced:
            prices[f"alpha/{name}"] = {
                resource: [round(max(0.0, scale * rng.uniform(-0.3, 1)), 6) for _ in range(SLOTS)]
                for resource, scale in (("cores", 1.0), ("memory_gb", 0.1))
            }
    return Outlook(
        now, 6 * 3600, Source("/etc/slurm_carbon/slurm_carbon.toml", 1, 1), Policy(), {"alpha": Cluster("alpha", "home")},
        partitions, tuple(locations), zones, prices, now - 600, (), {"mode": "enforce"},
    )  # fmt: skip


def decisions(folder: Path, count: int, *, priced: bool) -> dict[str, float]:
    """What the decision alone costs in Lua 5.1: microseconds, milliseconds of loading, KB of heap after each twentieth."""
    site = folder / ("priced" if priced else "plain")
    (site / "hook").mkdir(parents=True)
    luaform.publish(outlook(int(time.time()), priced=priced), str(site / "outlook.json"))
    script = folder / "decisions.lua"
    script.write_text(DECISIONS)
    argv = ["lua5.1", script, ROOT / "etc/lua/slurm_carbon.lua", site / "hook/outlook.lua", str(count), " ".join(PARTITIONS)]
    return json.loads(subprocess.check_output(argv, text=True))


class Site:
    """One real cluster on which no job can start, and its job_submit.lua."""

    def __init__(self, folder: Path, site_conf: str) -> None:
        self.folder = folder
        self.cluster = [str(ROOT / "scripts/cluster"), "--dir", str(folder / "cluster")]
        self.script = folder / "cluster/alpha/job_submit.lua"
        self.site_conf = site_conf

    def up(self) -> None:
        """Bring it up with the empty hook, and drain the nodes."""
        self.script.parent.mkdir(parents=True)
        partitions = "".join(f"PartitionName={name} Nodes=ALL MaxTime=7-0 State=UP\n" for name in PARTITIONS[1:])
        (self.script.parent / "site.conf").write_text(f"JobSubmitPlugins=lua\n{self.site_conf}{partitions}")
        self.script.write_text(SCRIPT + "return slurm.SUCCESS\n")
        shutil.copytree(ROOT / "etc/lua", self.folder / "lua")
        (self.folder / "hook").mkdir()
        subprocess.check_call([*self.cluster, "up", "--clusters", "1"], stdout=subprocess.DEVNULL)
        shutil.chown(self.folder / "hook", group="slurm")
        (self.folder / "hook").chmod(0o2755)
        exported = subprocess.check_output([*self.cluster, "env"], text=True).splitlines()
        self.home = self.folder / "cluster/home/user1"
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "USER": "user1",
            **{name: shlex.split(value)[0] for name, _, value in (w.removeprefix("export ").partition("=") for w in exported)},
        }
        (self.home / "job.sh").write_text("#!/bin/sh\nsleep 1\n")
        self.call("scontrol", "update", "NodeName=alpha[0-3]", "State=DRAIN", "Reason=benchmark")

    def call(self, *argv: str) -> str:
        """What a command of Slurm prints to root."""
        return subprocess.check_output(argv, env=self.environment, text=True, cwd="/")

    def publish(self, turned: int = 0, *, priced: bool = False) -> None:
        """Write the hook's outlook, whole."""
        luaform.publish(outlook(int(time.time()), turned=turned, priced=priced), str(self.folder / "outlook.json"))

    def use(self, *, hook: bool) -> None:
        """Replace the script, and wait until slurmctld, which looks at whole seconds, has it."""
        loads = f"""\
local ok, carbon = pcall(dofile, "{self.folder}/lua/slurm_carbon.lua")
if ok then pcall(carbon.job_submit, {{outlook = "{self.folder}/hook/outlook.lua"}}) end
"""
        new = self.script.with_suffix(".new")
        for _ in range(10):
            new.write_text(SCRIPT + (loads if hook else "") + "return slurm.SUCCESS\n")
            new.rename(self.script)
            self.submit(1, 1)
            job_id = self.call("squeue", "-h", "-o", "%i").split()[0]
            if ("AdminComment=" in self.call("scontrol", "show", "job", job_id)) == hook:
                self.empty_queue()
                return
            self.empty_queue()
            time.sleep(0.5)
        sys.exit("slurmctld has not seen that its job_submit.lua was replaced")

    def submit(self, clients: int, each: int, words: str = "", name: str = "job") -> tuple[float, list[str]]:
        """Seconds that so many loops take, and what sbatch printed in all of them."""
        with contextlib.ExitStack() as stack:
            outs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(clients)]
            begin = time.perf_counter()
            loops = [
                subprocess.Popen(
                    ["/bin/sh", "-c", CLIENT, "sh", str(each), f"{name}-{client}-", words], env=self.environment,
                    cwd=self.home, user=UID, group=UID, extra_groups=[], stdout=out,
                )
                for client, out in enumerate(outs)
            ]  # fmt: skip
            for loop in loops:
                loop.wait()
            took = time.perf_counter() - begin
            for out in outs:
                out.seek(0)
            return took, [line for out in outs for line in out.read().splitlines()]

    def delay_of(self, job_id: str) -> float:
        """Seconds from submission to planned start."""
        fields = dict(word.split("=", 1) for word in self.call("scontrol", "show", "job", job_id).split() if "=" in word)
        submitted, starts = (time.mktime(time.strptime(fields[f], "%Y-%m-%dT%H:%M:%S")) for f in ("SubmitTime", "StartTime"))
        return starts - submitted

    def pid(self) -> int:
        """The process of slurmctld."""
        return int(json.loads((self.folder / "cluster/state.json").read_text())["processes"]["slurmctld-alpha"][0])

    def cpu_s(self) -> float:
        """What slurmctld has used of a processor, in seconds."""
        fields = Path(f"/proc/{self.pid()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def empty_queue(self) -> None:
        """Cancel every job."""
        self.call("scancel", "-u", "user1")

    def down(self) -> None:
        """End and remove the cluster."""
        subprocess.run([*self.cluster, "down"], check=False)


@contextlib.contextmanager
def folder_of(name: str) -> Iterator[Path]:
    """A folder that all can enter, gone afterwards."""
    if os.geteuid() != 0:
        sys.exit(f"bench {name}: needs root, for a real cluster")
    folder = Path(f"/var/tmp/slurm-carbon-{name}-{os.getpid()}")
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


HOOK, EMPTY, EMPTY_BEGIN = "hook", "empty_hook", "empty_hook_with_begin"
CASES = {HOOK: (True, ""), EMPTY: (False, ""), EMPTY_BEGIN: (False, "--begin=now+6hours")}
LOADS = {"sequential": 1, "8_clients": 8}


def throughput(site: Site, rounds: int, jobs: int) -> dict[str, float]:
    """Submissions per second of all cases in turn; the ratios are medians of those within a round: others use the machine."""
    rates: dict[tuple[str, str], list[float]] = {(case, load): [] for case in CASES for load in LOADS}
    cpu_s = dict.fromkeys(CASES, 0.0)
    for number in range(-1, rounds):  # the first fills caches, and does not count
        for case in list(CASES) if number % 2 else reversed(CASES):
            hook, words = CASES[case]
            site.publish()
            site.use(hook=hook)
            before_s = site.cpu_s()
            for load, clients in LOADS.items():
                took, printed = site.submit(clients, jobs // clients, words)
                if len(printed) != jobs // clients * clients:
                    sys.exit(f"{case}: {len(printed)} of {jobs} jobs were submitted")
                if hook and site.delay_of(printed[-1].split()[-1]) < 3600:
                    sys.exit("the hook has not set the begin time")
                if number >= 0:
                    rates[case, load].append(len(printed) / took)
            if number >= 0:
                cpu_s[case] += site.cpu_s() - before_s
            site.empty_queue()
    found: dict[str, float] = {}
    for load in LOADS:
        for case in CASES:
            values = rates[case, load]
            found[f"{case}_per_s_{load}"] = round(statistics.median(values), 1)
            print(
                f"{statistics.median(values):7.1f} submissions/s  ({min(values):.1f} to {max(values):.1f})  "
                f"{load}, {case}".replace("_", " ")
            )
        for name, other in (("", EMPTY), ("with_begin_", EMPTY_BEGIN)):
            ratios = [a / b for a, b in zip(rates[HOOK, load], rates[other, load], strict=True)]
            found[f"throughput_ratio_{name}{load}"] = round(statistics.median(ratios), 3)
    for case, seconds in cpu_s.items():
        found[f"{case}_slurmctld_us"] = round(seconds / rounds / sum(jobs // n * n for n in LOADS.values()) * 1e6)
        print(f"{found[f'{case}_slurmctld_us']:7.0f} us of a processor, slurmctld for a submission, {case.replace('_', ' ')}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench hook", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each case is run (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=240, help="submissions of a case in a round (default: %(default)s)")
    parser.add_argument("--decisions", type=int, default=20000, help="decisions in Lua alone (default: %(default)s)")
    words = parser.parse_args()
    with folder_of("hook") as folder:
        site = Site(folder, "MinJobAge=2\nMaxJobCount=100000\n")
        try:
            site.up()
            result = throughput(site, words.rounds, words.jobs)
        finally:
            site.down()
        for name, priced in (("decision", False), ("decision_priced", True)):
            found = decisions(folder, words.decisions, priced=priced)
            print(
                f"{found['median_us']:7.1f} us a {name.replace('_', ', ')}, 95 % below {found['us_95']:.1f}; "
                f"{found['load_ms']:.2f} ms to load the outlook; {found['delayed']} of {words.decisions} delayed"
            )
            result |= {f"{name}_us": found["median_us"], f"{name}_us_95": found["us_95"]}
            result["load_priced_ms" if priced else "load_ms"] = found["load_ms"]
    print(f"load of the machine in the last five minutes: {os.getloadavg()[1]:.2f} on {os.cpu_count()} cores")
    print(json.dumps({**result, "rounds": words.rounds}))


if __name__ == "__main__":
    main()
