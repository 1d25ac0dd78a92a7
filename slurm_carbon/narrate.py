"""What csbatch says of a decision: one line, the details, the table of the alternatives."""

from slurm_carbon.model import Decision, Placement
from slurm_carbon.outlook import Outlook
from slurm_carbon.policy import TOO_LATE
from slurm_carbon.units import duration_text, energy_text, mass_text, time_text

HELP = """\
Usage: csbatch [--carbon-OPTION ...] [sbatch's options] [script [args ...]]

Submits a job with sbatch, at the hour and place where it emits least.
Takes everything that sbatch takes; `csbatch --help` is sbatch's own help.

  --carbon-max-delay DURATION  latest start, counted from now: 90m, 6h, 1d12h
  --carbon-finish-by TIME      when the job must be done, its time limit used up:
                               18:00, 2026-11-24T08:00, now+2days
  --carbon-locations LIST      where it may go: clusters, CLUSTER/PARTITION, or zones
  --carbon-off                 submit as sbatch would
  --carbon-dry-run             show the decision and the sbatch command, submit nothing
  --carbon-explain             show every alternative: when, where, g, kWh, why not
  --carbon-verbose             say what was done, also where stderr is no terminal
  --carbon-help                this help

The same as CSBATCH_MAX_DELAY, CSBATCH_OFF=1, ... in the environment, and as
`#CSBATCH --carbon-max-delay=6h` in the script. The command line beats the
environment, the environment the script, the script ~/.config/slurm_carbon/config.toml.

What you say to sbatch wins: a job with --begin, --hold, --dependency, --deadline,
--reservation or --wait is left as it is, and -M, -p and -w keep it where they say.
See csbatch(1).
"""


def line(decision: Decision, outlook: Outlook) -> str:
    """What was decided and what it should save, in one line."""
    chosen, baseline = decision.chosen, decision.baseline
    late = f"; bound by {TOO_LATE}" if decision.window and decision.window.bound == TOO_LATE else ""
    if chosen is None or baseline is None:
        return f"left as it is: {decision.reason}{late}"
    when = "at once"
    if decision.delay_s:
        when = f"{time_text(chosen.start_epoch_s)} ({duration_text(decision.delay_s)} later)"
    sources = sorted({outlook.zones[place.location.zone].source for place in (chosen, baseline)})
    share = 100 * decision.saved_g / baseline.emissions_g if baseline.emissions_g else 0.0
    return (
        f"starts {when} on {chosen.location.name} ({chosen.location.zone}); "
        f"should emit {mass_text(chosen.emissions_g)} CO2e instead of {mass_text(baseline.emissions_g)} "
        f"({share:.0f} % less; {' and '.join(sources)}){late}"
    )


def details(decision: Decision, outlook: Outlook, now_epoch_s: int) -> list[str]:
    """What the decision rests on."""
    if decision.baseline is None or decision.window is None:
        return []
    estimate = (decision.chosen or decision.baseline).estimate
    grids = {p.location.zone: outlook.zones[p.location.zone] for p in (decision.baseline, decision.chosen) if p}
    sources = "; ".join(
        f"{zone}: {grid.source} ({grid.accounting}, {grid.factors}; waiting by it has captured {100 * grid.captured:.0f} %)"
        for zone, grid in grids.items()
    )
    return [
        f"latest start {time_text(decision.window.latest_epoch_s)}, by {decision.window.bound}",
        f"run time {duration_text(estimate.run_time_s)} ({estimate.source}), "
        f"power {estimate.power_w:.4g} W with PUE, energy {energy_text(estimate.energy_kwh)}",
        f"forecast of {sources}; outlook {duration_text(now_epoch_s - outlook.generated_epoch_s)} old",
    ]


def table(decision: Decision, outlook: Outlook) -> list[str]:
    """Every location: its best start and what it would emit, or why not; empty where none was looked at."""
    if not decision.alternatives:
        return []
    rows: list[tuple[str, ...]] = [("", "location", "zone", "start", "CO2e", "energy", "mean g/kWh", "why not")]
    if decision.baseline:
        rows.append(_row("sbatch", decision.baseline, decision, ""))
    for alternative in decision.alternatives:
        place = alternative.location
        if alternative.best is None:
            rows.append(("", place.name, place.zone, "-", "-", "-", "-", alternative.why_not))
            continue
        chosen = alternative.best.location == (decision.chosen.location if decision.chosen else None)
        best = decision.chosen if chosen and decision.chosen else alternative.best
        rows.append(_row("->" if chosen else "", best, decision, "" if chosen else _why_less(best, decision)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(mark: str, placed: Placement, decision: Decision, why: str) -> tuple[str, ...]:
    started = placed.start_epoch_s
    at_once = decision.window is not None and started == decision.window.earliest_epoch_s
    energy = placed.estimate.energy_kwh
    return (
        mark,
        placed.location.name,
        placed.location.zone,
        "at once" if at_once else time_text(started),
        mass_text(placed.emissions_g),
        energy_text(energy),
        f"{placed.emissions_g / energy:.0f}" if energy else "-",
        why,
    )


def _why_less(placed: Placement, decision: Decision) -> str:
    if decision.chosen is None:
        return "saves too little"
    more = placed.emissions_g - decision.chosen.emissions_g
    if abs(placed.cost_g - decision.chosen.cost_g) <= 1e-9 * placed.cost_g:
        return "as good"
    if placed.cost_g < decision.chosen.cost_g:
        return "saves too little more for the delay"
    return f"{mass_text(more)} more" if more > 0 else "the price of a full hour, or of waiting"
