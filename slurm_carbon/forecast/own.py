"""Our own forecast of a zone that has a history: see `model` for what it is."""

from slurm_carbon.config import Zone
from slurm_carbon.errors import ForecastError
from slurm_carbon.forecast.http import Ask
from slurm_carbon.forecast.series import Series
from slurm_carbon.forecast.store import Store


def series(zone: Zone, store: Store, ask: Ask, now_epoch_s: int) -> Series:
    """The coming four days with quantiles. Raises ForecastError where there is no model, or too little history."""
    raise ForecastError(f"zone {zone.name}: own: no model; fit one with `slurm-carbon forecast fit {zone.name}`")


def captured(zone: Zone, store: Store) -> float | None:
    """The share of the possible saving that the model reached on what it was not fitted to; None without one."""
    return None
