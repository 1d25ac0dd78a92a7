"""Carbon intensity of one zone over time, and its exact mean over any run.

The series is piecewise constant: one value a slot. Its running integral is therefore piecewise linear, and the mean
over a run is a difference of two of its values, exact also where run and slots do not align.
"""

from itertools import accumulate

from slurm_carbon.light import NamedTuple


class Part(NamedTuple):
    """Who says so from a point in time on, until the next part."""

    start_epoch_s: int
    source: str
    issued_epoch_s: int


class Intensity(NamedTuple):
    """g CO2e per kWh in equal slots from `start_epoch_s` on. Beyond the last slot `beyond_g_per_kwh` holds."""

    zone: str
    start_epoch_s: int
    slot_s: int
    mean_g_per_kwh: list[float]
    beyond_g_per_kwh: float
    source: str  # who says so: `climatology`, `file /etc/...`
    accounting: str  # production, consumption or marginal
    factors: str  # lifecycle or direct
    issued_epoch_s: int
    low_g_per_kwh: list[float] | None = None  # 10 % quantile, of the first slots for which it is known
    high_g_per_kwh: list[float] | None = None  # 90 % quantile, of as many
    captured: float = 1.0  # of the saving that perfect knowledge would allow, what delays by this forecast have reached
    captured_by: str = ""  # how that is known
    parts: tuple[Part, ...] = ()  # where several say so, one after the other

    @property
    def end_epoch_s(self) -> int:
        """End of the last slot."""
        return self.start_epoch_s + self.slot_s * len(self.mean_g_per_kwh)

    def over_run(self, start_epoch_s: int, run_time_s: int) -> float:
        """Mean intensity in g/kWh over a run; what lies before the first slot counts as the first slot."""
        total = Running(self.start_epoch_s, self.slot_s, self.mean_g_per_kwh, self.beyond_g_per_kwh)
        if run_time_s <= 0:
            return total.at(start_epoch_s + 1) - total.at(start_epoch_s)
        return (total.at(start_epoch_s + run_time_s) - total.at(start_epoch_s)) / run_time_s


class Running:
    """The running integral of a piecewise constant rate: `at(t)` is exact for every second t."""

    __slots__ = ("beyond", "rates", "slot_s", "start_s", "sums")

    def __init__(self, start_s: int, slot_s: int, rates: list[float], beyond: float) -> None:
        self.start_s = start_s
        self.slot_s = slot_s
        self.rates = rates
        self.beyond = beyond
        self.sums = list(accumulate(rates, initial=0.0))

    def at(self, epoch_s: int) -> float:
        """Rate x seconds from the start of the series to `epoch_s` (negative before it)."""
        slot, within_s = divmod(epoch_s - self.start_s, self.slot_s)
        if slot < 0:
            return (epoch_s - self.start_s) * self.rates[0]
        if slot >= len(self.rates):
            past_s = epoch_s - self.start_s - self.slot_s * len(self.rates)
            return self.sums[-1] * self.slot_s + past_s * self.beyond
        return self.sums[slot] * self.slot_s + within_s * self.rates[slot]
