"""What may turn out otherwise: run times as a few equally likely points, forecasts as scenarios with errors that last.

The expectation over run times changes what a start costs; capacity is kept for a quantile of them. The mean over
scenarios is the mean forecast, exactly, because emissions are linear in the intensity; only a weight on the worst of
them needs the scenarios themselves.
"""

from statistics import NormalDist

import numpy as np

from slurm_carbon.planning.problem import Floats

POINTS = 5
KEPT = 0.95  # of an error after an hour: day-ahead forecasts are wrong for hours on end
BAND = 2 * NormalDist().inv_cdf(0.9)  # width of a band from the 10 % to the 90 % quantile, in standard deviations


def run_times(spread: float, quantile: float) -> tuple[float, Floats]:
    """A lognormal run time with a median of 1: the quantile that capacity is kept for, and equally likely points.

    `spread` is the standard deviation of its logarithm; with 0 there is one point.
    """
    if spread <= 0:
        return 1.0, np.ones(1)
    normal = NormalDist(0.0, spread)
    points = [normal.inv_cdf((2 * point + 1) / (2 * POINTS)) for point in range(POINTS)]
    return float(np.exp(normal.inv_cdf(quantile))), np.exp(points)


def scenarios(mean: Floats, low: Floats, high: Floats, count: int, slot_h: float, seed: int = 0) -> Floats:
    """[S, L, H] forecasts around a mean [L, H] with its 10 % and 90 % quantiles; their mean is the mean again."""
    random = np.random.default_rng(seed)
    keep = KEPT**slot_h
    step = random.normal(size=(count, *mean.shape))
    error = np.empty_like(step)
    error[..., 0] = step[..., 0]
    for slot in range(1, mean.shape[1]):
        error[..., slot] = keep * error[..., slot - 1] + np.sqrt(1 - keep**2) * step[..., slot]
    out = np.maximum(mean + error * (high - low) / BAND, 0.0)
    return np.asarray(out * np.divide(mean, out.mean(0), out=np.ones_like(mean), where=out.mean(0) > 0))
