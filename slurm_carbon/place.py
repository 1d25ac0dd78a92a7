"""One job, placed exactly: the start of least cost at one location.

The cost of starting at t is the integral of a piecewise constant rate over [t, t + run time], plus a weight that
grows with t. It is piecewise linear in t, and bends only where the start or the end of the run crosses the edge
of a slot. Its minimum over a window is therefore at the window's first or last second or at one of those bends: all
of them are tried, so no grid of starts can find a better one.
"""

from itertools import accumulate
from math import exp

from slurm_carbon.intensity import Intensity, Running
from slurm_carbon.model import Estimate, Location, Placement, Window

SAME = 1e-9  # relative: what floating point cannot tell apart is no reason to wait
PERISHES_S = 3600.0  # how fast a congestion price falls as its slot comes near; chosen with `scripts/bench planner`


def still_due(price_g_per_h: list[float], start_epoch_s: int, slot_s: int, now_epoch_s: int) -> list[float]:
    """What is left of a congestion price at the time of a submission, slot by slot.

    A price stands for those who are still to come, and who could use a slot better. Fewer of them can come the nearer
    it is, and what is free in it now would perish: its price goes to zero.
    """
    ahead_s = range(start_epoch_s - now_epoch_s, start_epoch_s - now_epoch_s + slot_s * len(price_g_per_h), slot_s)
    shares = [1 - exp(-ahead / PERISHES_S) if ahead > 0 else 0.0 for ahead in ahead_s]
    return [price * share for price, share in zip(price_g_per_h, shares, strict=True)]


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
    room: list[bool] | None = None,
) -> Placement:
    """The placement of least cost at one location; of equals the earliest.

    `room` says of each slot whether the job fits in beside what is known to run there; outside the slots it does. Where
    that leaves no start, the cost is infinite.
    """
    run_s = estimate.run_time_s
    g_per_s = estimate.power_w / 3.6e6  # for one g/kWh
    carbon = Running(intensity.start_epoch_s, intensity.slot_s, intensity.mean_g_per_kwh, intensity.beyond_g_per_kwh).at
    prices = [price / 3600 for price in price_g_per_h or []]
    price_g = Running(intensity.start_epoch_s, intensity.slot_s, prices, 0.0).at if prices else None
    full = None if room is None else list(accumulate((not free for free in room), initial=0))
    best_s, best_g, emissions_g = window.earliest_epoch_s, float("inf"), float("inf")
    for t in starts(window, run_s, intensity.start_epoch_s, intensity.slot_s, len(intensity.mean_g_per_kwh)):
        if full is not None and _taken(full, t - intensity.start_epoch_s, run_s, intensity.slot_s):
            continue
        emitted_g = (carbon(t + run_s) - carbon(t)) * g_per_s
        g = emitted_g + delay_g_per_h * (t - window.earliest_epoch_s) / 3600
        if price_g:
            g += price_g(t + run_s) - price_g(t)
        if g < best_g * (1 - SAME):
            best_s, best_g, emissions_g = t, g, emitted_g
    return Placement(location, best_s, estimate, emissions_g, best_g)


def _taken(full: list[int], begin_s: int, run_s: int, slot_s: int) -> bool:
    """Whether a run meets a slot that has no room, by the running count of those."""
    last = len(full) - 1
    first = min(max(begin_s // slot_s, 0), last)
    return full[min(max(-(-(begin_s + run_s) // slot_s), first), last)] > full[first]
