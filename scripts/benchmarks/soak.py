"""Whether the hook loses, doubles or leaks: 20,000 submissions by eight clients while its outlook is replaced every second.

On a real test cluster. The jobs that sbatch says it has submitted are compared with those that slurmctld has and those that
reach the accounting database. slurmctld needs memory for every job that it knows, and its allocator keeps for long what is
free in many arenas: so it is looked at when it has forgotten all jobs, after each of four equal lots with the hook, which take
turns in the same slurmctld with four lots through

- a job_submit.lua whose functions return slurm.SUCCESS, on the same command with `--begin` in some hours,

and what it has grown by in the ones is compared with what it has grown by in the others. The heap of Lua is measured over
100,000 decisions in Lua 5.1, with the outlook read anew at every thousandth. Exit code 1 if a job was lost or doubled, or
memory grows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import hook

CLIENTS = 8
LOTS = ("empty", "hook", "hook", "empty", "empty", "hook", "hook", "empty")  # so that neither has the earlier ones
SETTLED_S = 90
GROWTH_BYTES = 1000  # for a submission, beyond the empty hook's own growth: about what the hook writes on a job
HEAP_GROWTH = 1.02


class Soak:
    """A cluster, what was submitted to it, and what it makes of it."""

    def __init__(self, site: hook.Site) -> None:
        self.site = site
        self.ids: list[int] = []
        self.wrong: list[str] = []
        self.replaced = 0

    def memory(self) -> int:
        """Resident bytes of slurmctld."""
        status = Path(f"/proc/{self.site.pid()}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    @contextlib.contextmanager
    def outlooks(self) -> Iterator[None]:
        """Replace the outlook every second: other intensities, and prices every other time."""
        done = threading.Event()

        def write() -> None:
            while not done.wait(1):
                self.replaced += 1
                self.site.publish(self.replaced, priced=self.replaced % 2 == 1)

        writer = threading.Thread(target=write)
        self.site.publish()
        writer.start()
        try:
            yield
        finally:
            done.set()
            writer.join()

    def lot(self, name: str, count: int, words: str = "") -> int:
        """Submit so many, compare with what slurmctld has, and return its memory when it has forgotten them."""
        took, printed = self.site.submit(CLIENTS, count // CLIENTS, words, name)
        said = [int(line.split()[3]) for line in printed]
        rows = [row.split() for row in self.site.call("squeue", "-h", "-r", "-o", "%i %j").splitlines()]
        wanted = sorted(f"{name}-{client}-{i + 1}" for client in range(CLIENTS) for i in range(count // CLIENTS))
        self.compare(f"{name}: sbatch and slurmctld", said, [int(row[0]) for row in rows])
        self.compare(f"{name}: names and slurmctld", wanted, [row[1] for row in rows])
        self.ids += said
        before = self.memory()
        self.site.empty_queue()
        end = time.monotonic() + SETTLED_S
        while any(map(self.is_known, said[:: len(said) // 8])) and time.monotonic() < end:
            time.sleep(2)
        after = self.memory()
        print(
            f"{name}: {len(said)} submitted, {len(said) / took:.0f} a second; "
            f"slurmctld {before / 2**20:.1f} MiB with them, {after / 2**20:.1f} MiB without",
            flush=True,
        )
        return after

    def is_known(self, job_id: int) -> bool:
        """Whether slurmctld still has a job: asked for alone, all of them would take memory to tell of."""
        argv = ["scontrol", "show", "job", str(job_id)]
        return subprocess.run(argv, env=self.site.environment, capture_output=True, check=False).returncode == 0

    def compare(self, what: str, wanted: list, found: list) -> None:
        """Note what of the one is not in the other, and what is there twice."""
        lost, more = set(wanted) - set(found), set(found) - set(wanted)
        doubled = len(found) - len(set(found)) + len(wanted) - len(set(wanted))
        if lost or more or doubled:
            self.wrong.append(f"{what}: {len(lost)} lost, {len(more)} unknown, {doubled} doubled: {sorted(lost | more)[:5]}")

    def accounting(self) -> list[list[str]]:
        """Id, name and record of all jobs in the database; sacct does not show those that ended before they could start."""
        query = "select id_job, job_name, admin_comment like '%slurm_carbon%' from alpha_job_table where deleted = 0"
        argv = ["mariadb", "--no-defaults", "-S", self.site.folder / "cluster/db/socket", "-N", "-B", "slurm_acct", "-e", query]
        return [row.split("\t") for row in subprocess.check_output(argv, text=True).splitlines()]

    def compare_accounting(self, placed: int) -> None:
        """The same with the database, which hears of it a little later; all that the hook has seen bear its record."""
        end = time.monotonic() + SETTLED_S
        rows: list[list[str]] = []
        while len(rows) < len(self.ids) and time.monotonic() < end:
            time.sleep(1)
            rows = [row for row in self.accounting() if not row[1].startswith("job-")]  # what only looked for the script
        self.compare("sbatch and accounting", self.ids, [int(row[0]) for row in rows])
        records = sum(row[2] == "1" for row in rows)
        if records != placed:
            self.wrong.append(f"{records} of {placed} jobs have the record of the hook")

    def run(self, count: int) -> dict[str, object]:
        """All of it."""
        each = count // LOTS.count("hook") // CLIENTS * CLIENTS
        memory = [self.lot("first", each, "--begin=now+6hours")]
        with self.outlooks():
            for number, kind in enumerate(LOTS):
                self.site.use(hook=kind == "hook")
                memory.append(self.lot(f"{kind}{number}", each, "" if kind == "hook" else "--begin=now+6hours"))
        placed = LOTS.count("hook") * each
        self.compare_accounting(placed)
        log = (self.site.folder / "cluster/log/slurmctld-alpha.log").read_text(errors="replace")
        said = [line for line in log.splitlines() if "slurm-carbon: " in line and " is loaded, and reads " not in line]
        self.wrong += said[:5]
        growth = dict.fromkeys(LOTS, 0.0)
        for kind, (before, after) in zip(LOTS, pairwise(memory), strict=True):
            growth[kind] += (after - before) / placed
        if growth["hook"] - growth["empty"] > GROWTH_BYTES:
            self.wrong.append(f"slurmctld grows by {growth['hook'] - growth['empty']:.0f} bytes a submission")
        return {
            "submissions": placed,
            "outlooks": self.replaced,
            "bytes_per_submission": round(growth["hook"]),
            "bytes_per_submission_empty_hook": round(growth["empty"]),
            "mib_after_each_lot": [round(rss / 2**20, 1) for rss in memory],
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench soak", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=20000, help="submissions through the hook (default: %(default)s)")
    parser.add_argument("--decisions", type=int, default=100000, help="decisions in Lua alone (default: %(default)s)")
    words = parser.parse_args()
    with hook.folder_of("soak") as folder:
        # with an arena for each thread, memory that is free in one of them looks used: 60 MiB more or less by chance
        os.environ["MALLOC_ARENA_MAX"] = "1"
        site = hook.Site(folder, "MinJobAge=2\nMaxJobCount=200000\n")
        soak = Soak(site)
        try:
            site.up()
            result = soak.run(words.count)
        finally:
            site.down()
        heap = hook.decisions(folder, words.decisions, priced=True)["heap_kb"]
        result["lua_heap_kb"] = [heap[0], heap[-1]]
        print(f"heap of Lua after a twentieth of {words.decisions} decisions {heap[0]} KB, after all {heap[-1]} KB")
        if heap[-1] > heap[0] * HEAP_GROWTH:
            soak.wrong.append("the heap of Lua grows")
    for line in soak.wrong:
        print(f"WRONG: {line}")
    print(json.dumps({**result, "wrong": len(soak.wrong)}))
    sys.exit(bool(soak.wrong))


if __name__ == "__main__":
    main()
