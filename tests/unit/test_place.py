"""The exact placement of one job: laws first."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_carbon.intensity import Intensity
from slurm_carbon.model import Estimate, Location, Power, Window
from slurm_carbon.place import best_start, starts, still_due

HERE = Location("alpha", "batch", "DE", Power(10, 200, 0.4, 1.5))
START = 1_795_000_000

values = st.lists(st.floats(0, 1500), min_size=2, max_size=40)
slots = st.sampled_from([300, 900, 1800, 3600])


def grid(mean: list[float], slot_s: int = 3600, beyond: float = 300.0) -> Intensity:
    """A series from START on."""
    return Intensity("DE", START, slot_s, mean, beyond, "test", "production", "lifecycle", START)


def cost_by_sum(intensity: Intensity, estimate: Estimate, start: int) -> float:
    """Emissions of a run in g, second by second in whole pieces: the definition, without prefix sums."""
    total, t, end = 0.0, start, start + estimate.run_time_s
    while t < end:
        slot = (t - intensity.start_epoch_s) // intensity.slot_s
        edge = min(end, intensity.start_epoch_s + (slot + 1) * intensity.slot_s)
        inside = 0 <= slot < len(intensity.mean_g_per_kwh)
        rate = intensity.mean_g_per_kwh[slot] if inside else intensity.beyond_g_per_kwh
        total += rate * estimate.power_w * (edge - t) / 3.6e6
        t = edge
    return total


@settings(max_examples=300, deadline=None)
@given(values, slots, st.integers(1, 60_000), st.integers(0, 40_000), st.integers(0, 90_000), st.floats(0, 50))
def test_no_start_is_better(mean: list[float], slot_s: int, run_s: int, first_s: int, wide_s: int, weight: float) -> None:
    """No second of the window, on the grid or off it, is cheaper than the start that is chosen."""
    intensity, estimate = grid(mean, slot_s), Estimate(run_s, 800.0, "test")
    window = Window(START + first_s, START + first_s + wide_s, "test")
    best = best_start(HERE, intensity, estimate, window, delay_g_per_h=weight)
    assert window.earliest_epoch_s <= best.start_epoch_s <= window.latest_epoch_s
    step = max(1, wide_s // 97)
    for start in range(window.earliest_epoch_s, window.latest_epoch_s + 1, step):
        cost = cost_by_sum(intensity, estimate, start) + weight * (start - window.earliest_epoch_s) / 3600
        assert best.cost_g <= cost + 1e-6 * max(1.0, cost)


@settings(max_examples=200, deadline=None)
@given(values, slots, st.integers(1, 100_000), st.integers(0, 100_000))
def test_emissions_are_the_integral(mean: list[float], slot_s: int, run_s: int, offset_s: int) -> None:
    """Emissions over a run are the sum over its pieces, whether it aligns with the slots or not."""
    intensity, estimate = grid(mean, slot_s), Estimate(run_s, 1234.0, "test")
    window = Window(START + offset_s, START + offset_s, "test")
    placed = best_start(HERE, intensity, estimate, window)
    assert math.isclose(placed.emissions_g, cost_by_sum(intensity, estimate, START + offset_s), rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=200, deadline=None)
@given(values, st.integers(1, 30_000), st.integers(0, 50_000), st.integers(0, 50_000))
def test_more_slack_never_emits_more(mean: list[float], run_s: int, slack_s: int, more_s: int) -> None:
    """A later latest start can only help."""
    intensity, estimate = grid(mean), Estimate(run_s, 500.0, "test")
    narrow = best_start(HERE, intensity, estimate, Window(START, START + slack_s, "test"))
    wide = best_start(HERE, intensity, estimate, Window(START, START + slack_s + more_s, "test"))
    assert wide.cost_g <= narrow.cost_g * (1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(values, st.integers(1, 30_000), st.integers(0, 50_000), st.integers(-10_000, 10_000))
def test_shift_of_time_shifts_the_answer(mean: list[float], run_s: int, slack_s: int, shift: int) -> None:
    """Moving the series and the window together moves the start, and nothing else."""
    estimate = Estimate(run_s, 500.0, "test")
    here = best_start(HERE, grid(mean), estimate, Window(START, START + slack_s, "test"))
    shifted = grid(mean)._replace(start_epoch_s=START + shift)
    there = best_start(HERE, shifted, estimate, Window(START + shift, START + shift + slack_s, "test"))
    assert (there.start_epoch_s - shift, there.cost_g) == (here.start_epoch_s, here.cost_g)


def test_sine_has_its_minimum_at_the_trough() -> None:
    """A 6 h run under a sampled sine is centred on its lowest point, as calculus says."""
    mean = [300 + 200 * math.sin(2 * math.pi * (hour + 0.5) / 24) for hour in range(48)]
    placed = best_start(HERE, grid(mean), Estimate(6 * 3600, 1000.0, "test"), Window(START, START + 24 * 3600, "test"))
    assert placed.start_epoch_s == START + 15 * 3600  # the trough is at 18 h
    exact = 300 - 200 * math.sin(math.pi / 4) / (math.pi / 4)
    assert math.isclose(placed.emissions_g / placed.estimate.energy_kwh, exact, rel_tol=0.01)


def test_a_flat_day_delays_nobody() -> None:
    """Of equal starts the earliest is taken, whatever the rounding of floats says."""
    placed = best_start(HERE, grid([0.1 + 0.2] * 48), Estimate(5000, 777.7, "test"), Window(START + 17, START + 90_000, "test"))
    assert placed.start_epoch_s == START + 17


def test_a_start_between_the_slots_can_be_best() -> None:
    """A 90 min run ends with the clean slot that it half fills: its best start is on no edge."""
    mean = [500.0, 400.0, 100.0, 900.0]
    placed = best_start(HERE, grid(mean), Estimate(5400, 1000.0, "test"), Window(START, START + 3 * 3600, "test"))
    assert placed.start_epoch_s == START + 3 * 3600 - 5400


def test_a_price_moves_the_start_but_is_not_emitted() -> None:
    """A congestion price makes another slot best; the emissions shown are still those of the electricity."""
    estimate = Estimate(3600, 1000.0, "test")
    window = Window(START, START + 3 * 3600, "test")
    placed = best_start(HERE, grid([300.0, 100.0, 120.0, 300.0]), estimate, window, price_g_per_h=[0.0, 50.0, 0.0, 0.0])
    assert placed.start_epoch_s == START + 2 * 3600
    assert math.isclose(placed.emissions_g, 120.0)
    assert math.isclose(placed.cost_g, 120.0)


@given(st.integers(0, 100_000), st.integers(0, 100_000), st.integers(1, 50_000), slots)
def test_starts_are_in_the_window_and_in_order(first_s: int, wide_s: int, run_s: int, slot_s: int) -> None:
    """Candidate starts are ascending, inside the window, and include both of its ends."""
    window = Window(START + first_s, START + first_s + wide_s, "test")
    found = starts(window, run_s, START, slot_s, 30)
    assert found == sorted(set(found))
    assert {window.earliest_epoch_s, window.latest_epoch_s} <= set(found)
    assert all(window.earliest_epoch_s <= t <= window.latest_epoch_s for t in found)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.booleans(), min_size=2, max_size=30), st.integers(1, 30_000), st.integers(-9000, 60_000), st.integers(0, 60_000)
)
def test_a_start_without_room_is_none(room: list[bool], run_s: int, first_s: int, wide_s: int) -> None:
    """The start that is chosen meets no full slot, and an infinite cost means that every start on an edge does."""
    intensity, estimate = grid([100.0 + slot for slot in range(len(room))]), Estimate(run_s, 800.0, "test")
    window = Window(START + first_s, START + first_s + wide_s, "test")

    def full(start_s: int) -> bool:
        slots = range(max(0, start_s // 3600), min(len(room), -(-(start_s + run_s) // 3600)))
        return not all(room[slot] for slot in slots)

    best = best_start(HERE, intensity, estimate, window, room=room)
    tried = starts(window, run_s, START, 3600, len(room))
    if best.cost_g < math.inf:
        assert not full(best.start_epoch_s - START)
    else:
        assert all(full(start - START) for start in tried)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.integers(0, 100_000))
def test_a_price_is_gone_when_its_slot_is_there(prices: list[float], later_s: int) -> None:
    """What is left of a price is never negative or more than the price, falls with time, and is zero in the slot itself."""
    before = still_due(prices, START, 3600, START - 7200)
    after = still_due(prices, START, 3600, START - 7200 + later_s)
    assert all(0 <= b <= a <= price for a, b, price in zip(before, after, prices, strict=True))
    assert still_due(prices, START, 3600, START)[0] == 0.0
