"""What the rules are compared on: an intensity that is true, what is known of it when, and a burst of jobs of two users."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

HOUR, DAY = 3600, 86400
USERS = ("user1", "user2")
CLUSTERS = ("alpha", "beta")
PARTITIONS = ("batch", "short")
SHORT_S = 4 * HOUR  # that a job in `short` runs at most
NODES, CORES = 4, 16
W_PER_CORE = 10.0
PUE = {"alpha": 1.3, "beta": 1.2}
GRID = 1800  # s: what all run times and most starts are a multiple of


class Truth(NamedTuple):
    """The intensity of each cluster's power, hour by hour: a daily cycle, and weather that is forecast as well as can be."""

    start_epoch_s: int
    cycle: dict[str, list[float]]
    weather: dict[str, list[float]]
    lasts: float  # share of the weather that is left an hour later

    def now(self, cluster: str, hour: int) -> float:
        """g/kWh."""
        return max(20.0, self.cycle[cluster][hour] + self.weather[cluster][hour])

    def expected(self, cluster: str, hour: int, at_hour: int) -> float:
        """g/kWh of an hour, as the best forecast of an earlier one has it."""
        known = self.weather[cluster][min(hour, at_hour)] * self.lasts ** max(0, hour - at_hour)
        return max(20.0, self.cycle[cluster][hour] + known)

    def hour_of(self, epoch_s: float) -> int:
        """The hour of a time."""
        return int((epoch_s - self.start_epoch_s) // HOUR)

    def emitted_g(self, cluster: str, start_epoch_s: float, end_epoch_s: float, cores: int) -> float:
        """g CO2e of cores that were busy from one time to another: second by second, in pieces of an hour."""
        grams, at = 0.0, start_epoch_s
        while at < end_epoch_s:
            hour = self.hour_of(at)
            until = min(end_epoch_s, self.start_epoch_s + (hour + 1) * HOUR)
            grams += (until - at) / HOUR * self.now(cluster, hour)
            at = until
        return grams * cores * W_PER_CORE * PUE[cluster] / 1000

    def forecast(self, cluster: str, now_epoch_s: int) -> str:
        """What a file of the site says at a time, as CSV."""
        at = self.hour_of(now_epoch_s)
        rows = [
            f"{self.start_epoch_s + hour * HOUR},{self.expected(cluster, hour, at):.3f}"
            for hour in range(max(0, at - 2), len(self.cycle[cluster]))
        ]
        return "start,g_per_kwh\n" + "\n".join(rows) + "\n"


def one_green_hour(begin_epoch_s: int, days: int = 12, green: int = 10) -> Truth:
    """One clean hour a day; the others differ little, and both clusters are the same. All of it is known beforehand."""
    day = [50.0 if hour == green else 350.0 + 50 * ((hour * 7) % 24 - 12) / 12 for hour in range(24)]
    still = [0.0] * 24 * days
    start = begin_epoch_s - begin_epoch_s % DAY - DAY
    return Truth(start, dict.fromkeys(CLUSTERS, day * days), dict.fromkeys(CLUSTERS, still), 1.0)


def truth(begin_epoch_s: int, seed: int, days: int = 12, weather: float = 40.0, lasts: float = 0.95) -> Truth:
    """alpha has its clean hours about noon, beta in the night. `weather` is its standard deviation in g/kWh."""
    random = Random(seed)
    start = begin_epoch_s - begin_epoch_s % DAY - DAY
    cycle: dict[str, list[float]] = {"alpha": [], "beta": []}
    spells: dict[str, list[float]] = {"alpha": [], "beta": []}
    for cluster, dip, mean, depth, width in (("alpha", 13, 460, 330, 3.0), ("beta", 2, 430, 260, 3.5)):
        spell = 0.0
        for hour in range(days * 24):
            away = abs((hour - dip + 12) % 24 - 12)
            cycle[cluster].append(mean - depth * math.exp(-((away / width) ** 2)))
            spell = lasts * spell + random.gauss(0, weather * math.sqrt(1 - lasts**2))
            spells[cluster].append(spell)
    return Truth(start, cycle, spells, lasts)


# the jobs


class Asked(NamedTuple):
    """One job, or an array, as its user submits it."""

    name: str
    user: str
    home: str  # cluster of his login node
    cores: int
    run_s: int  # which is its time limit
    max_delay_s: int
    tasks: int = 1
    words: tuple[str, ...] = ()  # of sbatch
    locations: tuple[str, ...] = ()  # --carbon-locations
    off: bool = False

    def places(self) -> set[str]:
        """CLUSTER/PARTITION where it may run."""
        if self.off:
            return {f"{self.home}/batch"}
        partition = next((w[2:] for w in self.words if w.startswith("-p")), "")
        cluster = next((w[2:] for w in self.words if w.startswith("-M")), "")
        found = {
            f"{c}/{p}" for c in ([cluster] if cluster else CLUSTERS) for p in ([partition] if partition else PARTITIONS)
            if p != "short" or self.run_s <= SHORT_S
        }  # fmt: skip
        named = {x for x in found if not self.locations or x in self.locations or x.partition("/")[0] in self.locations}
        return named | {f"{self.home}/{partition or 'batch'}"}  # where sbatch sends it, if nothing is worth it

    def sbatch(self, ran: Path) -> list[str]:
        """What of its command line is sbatch's. The job writes into a file that it has begun."""
        array = [f"--array=1-{self.tasks}"] if self.tasks > 1 else []
        # a job that took the library of the fake clock along would look for what its sbatch has left in memory
        return [
            "-J", self.name, f"-t{self.run_s // 60}", "-N1", f"-n{self.cores}", "--mem-per-cpu=1000", "--export=PATH",
            "-o/dev/null", *array,
            *self.words, f'--wrap=echo "$SLURM_CLUSTER_NAME $SLURM_JOB_ID" >> {ran}; exec sleep 999999',
        ]  # fmt: skip

    def carbon(self) -> list[str]:
        """What of it is csbatch's."""
        if self.off:
            return ["--carbon-off"]
        where = [f"--carbon-locations={','.join(self.locations)}"] if self.locations else []
        return [f"--carbon-max-delay={self.max_delay_s // HOUR}h", *where]


NARROW, WIDE = (1, 1, 2, 2, 3, 4, 4, 6, 8, 16), (1, 4, 4, 8, 8, 8, 12, 16, 16, 16)  # cores


def mixed(count: int, seed: int, widths: tuple[int, ...] = NARROW) -> list[Asked]:
    """Jobs of two users: 1 to 16 cores, 0.5 to 8 h, up to 48 h of delay; some are arrays, or tied to a place, or opt out."""
    random = Random(seed)
    found = []
    for number in range(count):
        home = random.choice(CLUSTERS)
        cores = random.choice(widths)
        run_s = random.choice((1, 1, 2, 2, 2, 4, 4, 6, 8, 16)) * GRID
        delay_s = random.choices((0, 6, 12, 24, 36, 48), (1, 3, 4, 5, 4, 4))[0] * HOUR
        asked = Asked(f"j{number:03}", random.choice(USERS), home, cores, run_s, delay_s)
        kind = random.random()
        if kind < 0.08 and run_s <= SHORT_S:
            asked = asked._replace(words=("-pshort",))
        elif kind < 0.14:
            asked = asked._replace(words=("-pbatch",))
        elif kind < 0.24:
            asked = asked._replace(words=(f"-M{home}",))
        elif kind < 0.30:
            asked = asked._replace(locations=(home,))
        elif kind < 0.36:
            asked = asked._replace(locations=(f"{random.choice(CLUSTERS)}/batch",))
        elif kind < 0.42:
            asked = asked._replace(tasks=random.randint(2, 4), cores=min(cores, 4))
        elif kind < 0.47:
            asked = asked._replace(off=True, max_delay_s=0)
        found.append(asked)
    return found


def cleanest(asked: Asked, known: Callable[[str, int], float], now_epoch_s: int) -> int:
    """The CATS rule: the start whose window is cleanest by the forecast of its own cluster, on a half-hourly grid."""
    if asked.off:
        return now_epoch_s

    def mean(start: int) -> float:
        return sum(known(asked.home, at) for at in range(start, start + asked.run_s, GRID))

    edges = range(-(-now_epoch_s // GRID) * GRID, now_epoch_s + asked.max_delay_s + 1, GRID)
    starts: list[int] = [now_epoch_s, *edges]
    return min(starts, key=mean)
