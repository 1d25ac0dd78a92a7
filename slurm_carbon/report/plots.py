"""Pictures, by matplotlib (the extra `plots`)."""

from typing import TYPE_CHECKING

from slurm_carbon.errors import Error
from slurm_carbon.marks import Mark
from slurm_carbon.outlook import Outlook
from slurm_carbon.units import duration_text, mass_text, utc

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito: told apart by everybody
SHOWN_S = 36 * 3600


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Error("pictures need matplotlib: pip install 'slurm-carbon[plots]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def outlook_figure(outlook: Outlook, now_epoch_s: int, path: str, mark: Mark | None, run_time_s: int) -> None:
    """The intensity of every zone over the coming days, with a job's planned window and its start at once."""
    figure = _figure(9, 4)
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    def x(epoch_s: int) -> float:
        return float(date2num(utc(epoch_s)))

    axes = figure.add_subplot()
    chosen_zone = next((place.zone for place in outlook.locations if mark and place.name == mark.location), None)
    last = max(now_epoch_s + SHOWN_S, mark.begin_epoch_s + run_time_s + 4 * 3600 if mark else 0)
    for colour, (zone, grid) in zip(_COLOURS * 9, outlook.zones.items(), strict=False):
        count = min(len(grid.mean_g_per_kwh), (last - grid.start_epoch_s) // grid.slot_s)
        edges = [x(grid.start_epoch_s + i * grid.slot_s) for i in range(count + 1)]
        values = grid.mean_g_per_kwh[:count]
        axes.stairs(values, edges, color=colour, linewidth=2, baseline=None, label=f"{zone} ({grid.source})")
        if grid.low_g_per_kwh and grid.high_g_per_kwh:
            axes.stairs(
                grid.high_g_per_kwh[:count], edges, baseline=grid.low_g_per_kwh[:count], fill=True, color=colour, alpha=0.15
            )
        if mark and zone == chosen_zone:
            begin, end = x(mark.begin_epoch_s), x(mark.begin_epoch_s + run_time_s)
            axes.axvspan(begin, end, color=colour, alpha=0.25, label=f"planned on {mark.location}")
    axes.axvline(x(now_epoch_s), color="0.3", linestyle=":", label="now")
    axes.set_ylim(bottom=0)
    axes.set_xlim(x(now_epoch_s - 1800), x(last))
    axes.set_ylabel("g CO2e per kWh")
    axes.set_xlabel("UTC")
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
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
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise Error(f"cannot write {path}: {error}") from None
