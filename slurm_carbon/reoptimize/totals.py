"""What runs emit at many places and times at once: the integrals of `intensity.Running`, vectorised for thousands of jobs."""

from collections.abc import Sequence

import numpy as np

from slurm_carbon.intensity import Intensity
from slurm_carbon.planning.problem import Floats, Ints


def on_slots(zone: Intensity, now_epoch_s: int, start_epoch_s: int, slot_s: int, slots: int) -> list[float]:
    """Mean intensity in each slot; in the first, of a slot from now on: what starts there starts now."""
    edges = [now_epoch_s, *range(start_epoch_s + slot_s, start_epoch_s + slots * slot_s, slot_s)]
    totals = Totals([zone])
    begin = np.array(edges, dtype=float)
    found = (totals.at(np.zeros(slots, dtype=int), begin + slot_s) - totals.at(np.zeros(slots, dtype=int), begin)) / slot_s
    return [float(value) for value in found]


class Totals:
    """Running integrals of several intensities, for many points in time at once: `Running` of intensity.py, vectorised."""

    def __init__(self, zones: Sequence[Intensity]) -> None:
        self.zones = zones
        self.sums = [np.concatenate(([0.0], np.cumsum(zone.mean_g_per_kwh))) * zone.slot_s for zone in zones]

    def at(self, which: Ints, epoch_s: Floats) -> Floats:
        """g/kWh x s from the start of each zone's series until a point in time."""
        out = np.zeros(len(which))
        for index, (zone, sums) in enumerate(zip(self.zones, self.sums, strict=True)):
            here = which == index
            if not here.any():
                continue
            since = epoch_s[here] - zone.start_epoch_s
            end = zone.slot_s * (len(sums) - 1)
            value = np.interp(since, np.arange(len(sums)) * float(zone.slot_s), sums)
            value += np.maximum(since - end, 0.0) * zone.beyond_g_per_kwh + np.minimum(since, 0.0) * zone.mean_g_per_kwh[0]
            out[here] = value
        return out

    def emitted_g(self, which: Ints, start_epoch_s: Floats, run_s: Floats, power_w: Floats) -> Floats:
        """g CO2e of runs at these zones."""
        return (self.at(which, start_epoch_s + run_s) - self.at(which, start_epoch_s)) * power_w / 3.6e6
