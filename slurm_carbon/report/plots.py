"""Pictures, by matplotlib (the extra `plots`)."""

import os
from typing import TYPE_CHECKING

from slurm_carbon.errors import Error
from slurm_carbon.marks import Mark
from slurm_carbon.outlook import Outlook
from slurm_carbon.units import duration_text, mass_text, utc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from slurm_carbon.intensity import Intensity
    from slurm_carbon.planning.planner import Outcome
    from slurm_carbon.planning.problem import Floats, Problem

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito: told apart by everybody
SHOWN_S = 36 * 3600


ENDINGS = (".png", ".svg", ".pdf")


def check(path: str) -> None:
    """Raise Error for a picture that could not be made or written, before all the work for it is done."""
    _figure(1, 1)
    if not path.lower().endswith(ENDINGS):
        raise Error(f"{path}: a picture ends in {', '.join(ENDINGS)}")
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise Error(f"cannot write {path}: {folder} is no folder that can be written to")


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Error("pictures need matplotlib: install slurm-carbon with its extra `plots`") from None
    return Figure(figsize=(width, height), layout="constrained")


def outlook_figure(outlook: Outlook, now_epoch_s: int, path: str, mark: Mark | None, run_time_s: int) -> None:
    """The intensity of every zone over the coming days, with a job's planned window and its start at once."""
    figure = _figure(9, 4)
    from matplotlib.dates import date2num

    def x(epoch_s: int) -> float:
        return float(date2num(utc(epoch_s)))

    axes = figure.add_subplot()
    chosen_zone = next((place.zone for place in outlook.locations if mark and place.name == mark.location), None)
    last = max(now_epoch_s + SHOWN_S, mark.begin_epoch_s + run_time_s + 4 * 3600 if mark else 0)
    for colour, (zone, grid) in zip(_COLOURS * 9, outlook.zones.items(), strict=False):
        count = min(len(grid.mean_g_per_kwh), (last - grid.start_epoch_s) // grid.slot_s)
        edges = [x(grid.start_epoch_s + i * grid.slot_s) for i in range(count + 1)]
        values = grid.mean_g_per_kwh[:count]
        axes.stairs(values, edges, color=colour, linewidth=2, baseline=None, label=f"{zone} ({source_of(grid)})")
        if grid.low_g_per_kwh and grid.high_g_per_kwh:
            _band(axes, edges, grid.low_g_per_kwh[:count], grid.high_g_per_kwh[:count], colour)
        if mark and zone == chosen_zone:
            begin, end = x(mark.begin_epoch_s), x(mark.begin_epoch_s + run_time_s)
            axes.axvspan(begin, end, color=colour, alpha=0.25, label=f"planned on {mark.location}")
    axes.axvline(x(now_epoch_s), color="0.3", linestyle=":", label="now")
    axes.set_ylim(bottom=0)
    axes.set_xlim(x(now_epoch_s - 1800), x(last))
    axes.set_ylabel("g CO2e per kWh")
    _time_axis(axes)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
    if mark:
        saved = mark.baseline_g - mark.emissions_g
        share = f", {100 * saved / mark.baseline_g:.0f} %" if mark.baseline_g else ""
        wait = duration_text(max(0, mark.begin_epoch_s - now_epoch_s))
        axes.set_title(
            f"Starts in {wait}: {mass_text(mark.emissions_g)} instead of {mass_text(mark.baseline_g)} CO2e"
            f" ({mass_text(saved)}{share} less than at once)",
            fontsize="medium",
            loc="left",
        )
    else:
        axes.set_title("Expected carbon intensity of electricity", fontsize="medium", loc="left")
    _save(figure, path)


def _time_axis(axes: "Axes") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_xlabel("UTC")
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def source_of(grid: "Intensity") -> str:
    """Who speaks first of a zone, in a word or two: a legend has no room for folders."""
    first = grid.parts[0].source if grid.parts else grid.source
    return f"file {os.path.basename(first)}" if first.startswith("file ") else first


def _band(axes: "Axes", edges: list[float], low: list[float], high: list[float], colour: str, label: str = "") -> None:
    """What lies between two quantiles, as far as they are known."""
    axes.stairs(high, edges[: len(high) + 1], baseline=low, fill=True, color=colour, alpha=0.18, label=label or None)


def forecast_figure(grid: "Intensity", now_epoch_s: int, path: str) -> None:
    """One zone: its expected course with the band from 10 to 90 %, and where another source takes over."""
    figure = _figure(9, 4)
    from matplotlib.dates import date2num

    axes = figure.add_subplot()
    edges = [float(date2num(utc(grid.start_epoch_s + i * grid.slot_s))) for i in range(len(grid.mean_g_per_kwh) + 1)]
    if grid.low_g_per_kwh and grid.high_g_per_kwh:
        _band(axes, edges, grid.low_g_per_kwh, grid.high_g_per_kwh, _COLOURS[0], "10 to 90 %")
    axes.stairs(grid.mean_g_per_kwh, edges, baseline=None, color=_COLOURS[0], linewidth=2, label="expected")
    for part in grid.parts[1:]:
        axes.axvline(float(date2num(utc(part.start_epoch_s))), color="0.5", linestyle="--", label=f"from here on {part.source}")
    axes.axvline(float(date2num(utc(now_epoch_s))), color="0.3", linestyle=":", label="now")
    axes.set_ylim(bottom=0)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylabel("g CO2e per kWh")
    _time_axis(axes)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower left", fontsize="small")
    source = grid.parts[0].source if grid.parts else grid.source
    age = duration_text(max(0, now_epoch_s - grid.issued_epoch_s))
    axes.set_title(f"{grid.zone}: {source}, {grid.accounting}, {grid.factors} factors, issued {age} ago", fontsize="medium",
                   loc="left")  # fmt: skip
    _save(figure, path)


def plan_figure(problem: "Problem", outcome: "Outcome", path: str) -> None:
    """A plan as a Gantt chart: a row a location, its intensity behind, a bar a task, as high as its share of the room."""
    import numpy as np

    places, jobs, plan = problem.places, problem.jobs, outcome.plan
    count = len(places.locations)
    figure = _figure(10, 1.2 + 1.1 * count)
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    from matplotlib.dates import date2num

    from slurm_carbon.report.plan import worth

    def x(slot: float) -> float:
        return float(date2num(utc(places.start_epoch_s + slot * places.slot_s)))

    run = problem.profiles.run_h[jobs.profile[plan.job], plan.location] / places.slot_h
    last = float(max((plan.start + run).max(initial=0) + 2, min(places.slots, 24)))
    shown = min(int(np.ceil(last)), places.intensity_g_per_kwh.shape[1])
    most = float(places.intensity_g_per_kwh[:, :shown].max(initial=1)) or 1.0
    for location, (name, one) in enumerate(zip(places.locations, axes, strict=True)):
        edges = [x(slot) for slot in range(shown + 1)]
        grams = places.intensity_g_per_kwh[location, :shown]
        one.stairs(grams, edges, fill=True, color="0.88")
        one.set_ylim(0, most * 1.08)
        one.set_ylabel(name, rotation=0, ha="right", va="center")
        one.tick_params(axis="y", labelsize="x-small")
        here = np.flatnonzero(plan.location == location)
        for row, low, high in zip(here, *_rows(plan.start[here], run[here]), strict=True):
            begin, job = x(plan.start[row]), int(plan.job[row])
            colour = _COLOURS[job % len(_COLOURS)]
            width = x(plan.start[row] + run[row]) - begin
            one.broken_barh([(begin, width)], (low * most, (high - low) * most * 0.92), color=colour, alpha=0.85)
            if len(plan) <= 40:
                label = jobs.name(job) + (f" x {plan.tasks[row]}" if plan.tasks[row] > 1 else "")
                one.text(begin + width / 2, (low + high) / 2 * most, label, ha="center", va="center", fontsize="small")
    axes[-1].set_xlim(x(0), x(last))
    _time_axis(axes[-1])
    figure.supylabel("g CO2e per kWh", fontsize="small")
    axes[0].set_title(f"{mass_text(outcome.verdict.emissions_g)} CO2e, {worth(outcome)}", fontsize="medium", loc="left")
    _save(figure, path)


def _rows(start: "Floats", run: "Floats") -> tuple[list[float], list[float]]:
    """Lower and upper edge of each bar, as shares of the height, so that no two of them overlap."""
    ends: list[float] = []
    row_of = []
    for begin, length in sorted(zip(start.tolist(), run.tolist(), strict=True)):
        row = next((row for row, end in enumerate(ends) if end <= begin), len(ends))
        ends[row : row + 1] = [begin + length]
        row_of.append(row)
    height = 1 / max(1, len(ends))
    order = sorted(range(len(row_of)), key=lambda i: (start[i], run[i]))
    rows = [0] * len(row_of)
    for place, item in enumerate(order):
        rows[item] = row_of[place]
    return [row * height for row in rows], [(row + 1) * height for row in rows]


def _save(figure: "Figure", path: str) -> None:
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise Error(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
