"""The values that decisions are made of and from: all frozen, units in the names.

They are NamedTuples, not dataclasses: the module `dataclasses` alone would add a quarter to what csbatch costs.
"""

from slurm_carbon.light import NamedTuple


class Job(NamedTuple):
    """What one submission asks for, as far as placing it needs to know. Amounts are per task of an array."""

    time_limit_s: int | None = None  # None: none was given, and the partition's default counts
    unlimited: bool = False  # --time=0: no end is known
    array_tasks: int = 1  # that may run at the same time
    array_waves: int = 1  # how often one after the other: --array=1-10%2 is five waves of two
    nodes: int = 1  # the least number of nodes
    max_nodes: int | None = None
    cpus: int = 1  # over all nodes
    gpus: int = 0  # over all nodes
    gpu_type: str = ""
    memory_mb_per_node: float | None = None
    memory_mb_per_cpu: float | None = None
    exclusive: bool = False
    gres_per_node: tuple[tuple[str, int], ...] = ()  # ("gpu:a100", 2), ...
    licenses: tuple[tuple[str, int], ...] = ()
    features: tuple[str, ...] = ()  # every one of them is needed
    clusters: tuple[str, ...] = ()  # named by the user
    partitions: tuple[str, ...] = ()  # named by the user
    account: str = ""
    qos: str = ""
    comment: str | None = None  # None: none was given, not even an empty one
    fixed: str = ""  # why the whole job is left alone: `--begin was given`
    tied: str = ""  # why it has to stay in the partition where sbatch would run it: `--nodelist was given`


class Wishes(NamedTuple):
    """What the owner of a job asks of slurm-carbon; None where he says nothing."""

    max_delay_s: int | None = None
    finish_by_epoch_s: int | None = None
    locations: tuple[str, ...] | None = None
    off: bool | None = None
    dry_run: bool | None = None
    explain: bool | None = None
    verbose: bool | None = None


class Owner(NamedTuple):
    """Who submits: what partitions let in or keep out."""

    name: str
    groups: frozenset[str] = frozenset()
    is_root: bool = False


class NodeShape(NamedTuple):
    """Nodes of a partition that are alike and in service."""

    nodes: int
    cpus: int
    memory_mb: int
    features: frozenset[str] = frozenset()
    gres: tuple[tuple[str, int], ...] = ()  # ("gpu:a100", 4), ...


class Partition(NamedTuple):
    """What Slurm says of a partition. None stands for `no limit` and `everybody`."""

    name: str
    cluster: str
    up: bool = True
    is_default: bool = False
    default_time_s: int | None = None
    max_time_s: int | None = None
    min_nodes: int = 0
    max_nodes: int | None = None
    root_only: bool = False
    needs_reservation: bool = False
    whole_nodes: bool = False  # OverSubscribe=EXCLUSIVE
    default_mb_per_cpu: int | None = None  # what a job that asks for no memory gets: by the CPU, by the node, or no limit
    default_mb_per_node: int | None = None
    allow_groups: frozenset[str] | None = None
    allow_accounts: frozenset[str] | None = None
    deny_accounts: frozenset[str] = frozenset()
    allow_qos: frozenset[str] | None = None
    deny_qos: frozenset[str] = frozenset()
    shapes: tuple[NodeShape, ...] = ()


class Cluster(NamedTuple):
    """A Slurm cluster as the placement sees it."""

    name: str
    filesystem: str = ""  # jobs move only between clusters that name the same one: they see the same files
    slurm_conf: str = ""  # asks its controller without slurmdbd; empty: by -M
    controllers: tuple[tuple[str, int], ...] = ()  # (host, port): where to look whether it is alive
    licenses: tuple[tuple[str, int], ...] = ()
    federation: str = ""  # slurmctld itself can send jobs to another cluster of the same one


class Power(NamedTuple):
    """What hardware draws while it works, at the plug of the node. PUE comes on top."""

    watts_per_core: float
    watts_per_gpu: float
    watts_per_gb: float
    pue: float


class Location(NamedTuple):
    """A place to run: a partition of a cluster, the zone whose electricity it uses, and what it draws."""

    cluster: str
    partition: str
    zone: str
    power: Power

    @property
    def name(self) -> str:
        """As users write it in --carbon-locations."""
        return f"{self.cluster}/{self.partition}"


class Estimate(NamedTuple):
    """What one job will take at one location."""

    run_time_s: int
    power_w: float  # mean, all tasks of an array together, PUE included
    source: str  # where the run time comes from: `--time`, `default of alpha/batch`

    @property
    def energy_kwh(self) -> float:
        """Energy of the whole run, PUE included."""
        return self.power_w * self.run_time_s / 3.6e6


class Window(NamedTuple):
    """When a job may start. `bound` says in words what set the latest start."""

    earliest_epoch_s: int
    latest_epoch_s: int
    bound: str


class Placement(NamedTuple):
    """A place and start, what they emit, and what the choice was made by."""

    location: Location
    start_epoch_s: int
    estimate: Estimate
    emissions_g: float
    cost_g: float  # emissions + congestion price + weight of the delay: what was minimised


class Alternative(NamedTuple):
    """A location that was looked at: its best placement, or why there is none."""

    location: Location
    best: Placement | None
    why_not: str


class Decision(NamedTuple):
    """What shall be done with a job, and why. `chosen` is None where it is left as the user wrote it."""

    chosen: Placement | None
    baseline: Placement | None  # what plain sbatch would have done, started at once
    window: Window | None
    reason: str
    alternatives: tuple[Alternative, ...] = ()

    @property
    def saved_g(self) -> float:
        """Expected saving against the baseline, in g CO2e; zero where nothing is changed."""
        if self.chosen is None or self.baseline is None:
            return 0.0
        return self.baseline.emissions_g - self.chosen.emissions_g

    @property
    def delay_s(self) -> int:
        """How much later than at once the job starts."""
        if self.chosen is None or self.window is None:
            return 0
        return self.chosen.start_epoch_s - self.window.earliest_epoch_s
