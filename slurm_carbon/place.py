"""One job, placed exactly: the start of least cost at one location.

The cost of starting at t is the integral of a piecewise constant rate over [t, t + run time], plus a weight that
grows with t. It is piecewise linear in t, and bends only where the start or the end of the run crosses the edge
of a slot. Its minimum over a window is therefore at the window's first or last second or at one of those bends: all
of them are tried, so no grid of starts can find a better one.
"""

from slurm_carbon.intensity import Intensity, Running
from slurm_carbon.model import Estimate, Location, Placement, Window

SAME = 1e-9  # relative: what floating point cannot tell apart is no reason to wait


def rate_g_per_s(intensity: Intensity, estimate: Estimate, price_g_per_h: list[float]) -> Running:
    """What the run costs each second of each slot: emissions, and the congestion price where there is one.

    `price_g_per_h` has one value a slot, for this job's whole use of resources; empty means zero everywhere.
    """
    g_per_s = estimate.power_w / 3.6e6  # for one g/kWh
    rates = [value * g_per_s for value in intensity.mean_g_per_kwh]
    if price_g_per_h:
        rates = [rate + price / 3600 for rate, price in zip(rates, price_g_per_h, strict=True)]
    return Running(intensity.start_epoch_s, intensity.slot_s, rates, intensity.beyond_g_per_kwh * g_per_s)


def starts(window: Window, run_time_s: int, first_edge_s: int, slot_s: int, slots: int) -> list[int]:
    """Every start in the window, in order, at which the cost can have its minimum."""
    found = {window.earliest_epoch_s, window.latest_epoch_s}
    for shift in (0, run_time_s):
        edge = first_edge_s - shift
        low = max(0, -((edge - window.earliest_epoch_s) // slot_s))
        high = min(slots, (window.latest_epoch_s - edge) // slot_s)
        found.update(range(edge + low * slot_s, edge + high * slot_s + 1, slot_s))
    return sorted(t for t in found if window.earliest_epoch_s <= t <= window.latest_epoch_s)


def best_start(
    location: Location,
    intensity: Intensity,
    estimate: Estimate,
    window: Window,
    *,
    delay_g_per_h: float = 0.0,
    price_g_per_h: list[float] | None = None,
) -> Placement:
    """The placement of least cost at one location; of equals the earliest."""
    run_s = estimate.run_time_s
    cost = rate_g_per_s(intensity, estimate, price_g_per_h or [])
    at = cost.at
    best_s, best_g = window.earliest_epoch_s, float("inf")
    for t in starts(window, run_s, intensity.start_epoch_s, intensity.slot_s, len(intensity.mean_g_per_kwh)):
        g = at(t + run_s) - at(t) + delay_g_per_h * (t - window.earliest_epoch_s) / 3600
        if g < best_g * (1 - SAME):
            best_s, best_g = t, g
    emissions_g = estimate.energy_kwh * intensity.over_run(best_s, run_s) if price_g_per_h or delay_g_per_h else best_g
    return Placement(location, best_s, estimate, emissions_g, best_g)
