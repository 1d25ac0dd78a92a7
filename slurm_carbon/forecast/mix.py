"""From an energy mix to carbon intensity: the emission factor of each source, and what counts as its electricity.

intensity = sum(MW of a source x its factor) / sum(MW), over what is generated.

- Storage (pumped hydro, batteries) is left out while it discharges as well as while it charges: what comes out of it is
  electricity of this mix at another hour, and it is counted when it is generated. Its losses are then not counted.
- Imports are left out where only the production is known, and the result is called `production`. A service that traces
  flows gives the mix of what is consumed, imports included; that is called `consumption`.
- `unknown`, and a source that a service has added since, counts as a thermal mix; where that is more than half of
  everything there is no intensity.
- A negative amount is consumption of the plant itself, and counts as none.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from slurm_carbon.errors import ForecastError

MOST_UNKNOWN = 0.5
MAX_MW = 1e6  # the largest zones have half of it


class Factor(NamedTuple):
    """g CO2e per kWh of a source of electricity, over its whole life and at the stack, and who says so."""

    lifecycle: float
    direct: float
    said_by: str


IPCC = "IPCC AR5 WG III 2014, annex III, table A.III.2, median"
UNKNOWN = "unknown"
FACTORS = {
    "coal": Factor(820, 760, IPCC),
    "gas": Factor(490, 370, IPCC),
    "oil": Factor(650, 406, "lifecycle: UK POST note 383, 2011; direct: Electricity Maps"),
    "biomass": Factor(230, 0, IPCC + "; at the stack zero, as biogenic carbon is counted by convention"),
    "geothermal": Factor(38, 0, IPCC),
    "hydro": Factor(24, 0, IPCC),
    "nuclear": Factor(12, 0, IPCC),
    "solar": Factor(45, 0, IPCC + " of rooftop (41) and utility (48), mean"),
    "wind": Factor(11, 0, IPCC + ", onshore"),
    UNKNOWN: Factor(700, 575, "Electricity Maps, factors of an unknown thermal mix"),
}
STORAGE = ("pumped hydro", "battery")

Hourly = dict[str, dict[int, float]]  # MW by a service's code of the source, and by the start of the hour


def intensity(mw: Mapping[str, float | None], factors: str) -> float | None:
    """g/kWh of the amounts by source in MW (or of shares); None where there are no amounts.

    Raises ForecastError for a source that has no factor, for what no grid can generate, and where most is of unknown origin.
    """
    emitted = total = unknown = 0.0
    for source, amount in mw.items():
        if amount is not None and not abs(amount) < MAX_MW:
            raise ForecastError(f"{amount:g} MW of {source} are not possible")
        if source in STORAGE or amount is None or amount <= 0:
            continue
        factor = FACTORS.get(source)
        if factor is None:
            raise ForecastError(f"no emission factor for {source!r}; there is one for {', '.join(FACTORS)}")
        emitted += amount * (factor.lifecycle if factors == "lifecycle" else factor.direct)
        total += amount
        unknown += amount if source == UNKNOWN else 0.0
    if total <= 0:
        return None
    if unknown > total * MOST_UNKNOWN:
        raise ForecastError(f"{100 * unknown / total:.0f} % of the electricity is of unknown origin")
    return emitted / total


def by_source(mw: Hourly, sources: Mapping[str, str]) -> Hourly:
    """Amounts by our names of the sources, of the hours in which each code has an amount that mostly has one.

    A service that has not yet heard of the wind of an hour must not make that hour look dirty. Storage may be missing.
    """
    every = {t for hours in mw.values() for t in hours}
    usual = {
        code
        for code, hours in mw.items()
        if sources.get(code, UNKNOWN) not in STORAGE and 2 * len(hours) >= len(every) and any(x > 0 for x in hours.values())
    }
    whole = {t for t in every if all(t in mw[code] for code in usual)}
    found: Hourly = {}
    for code, hours in mw.items():
        total = found.setdefault(sources.get(code, UNKNOWN), {})
        for t in hours.keys() & whole:
            total[t] = total.get(t, 0.0) + hours[t]
    return found


def intensities(mw: Hourly, factors: str) -> list[tuple[int, float | None]]:
    """Intensity of each hour of amounts by our names, in order."""
    hours = sorted({t for by_hour in mw.values() for t in by_hour})
    return [(t, intensity({source: by_hour.get(t) for source, by_hour in mw.items()}, factors)) for t in hours]


def shares(mw: Mapping[str, Mapping[int, float]]) -> dict[int, tuple[float, ...]]:
    """What is kept of the mix of each hour, by our names of the sources: the columns of `store.MIX`."""
    found = {}
    for t in sorted({t for by_hour in mw.values() for t in by_hour}):
        made = {source: max(0.0, by_hour.get(t, 0.0)) for source, by_hour in mw.items() if source not in STORAGE}
        total = sum(made.values())
        if total > 0:
            found[t] = (math.log(total), *(made.get(source, 0.0) / total for source in ("wind", "solar", "hydro", "nuclear")))
    return found
