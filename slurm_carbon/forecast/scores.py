"""What a forecast is worth: its errors, and above all the share of the possible saving that it lets a job reach.

A forecast with a small error can still choose the wrong hour, and one that is far off in level can choose the right one.
So delays are judged by `capture`: over many issues, what the hours that it chose have saved against starting at once,
divided by what the best hours would have saved. Each refresh writes down what was forecast; when the hours have passed,
it is compared with what was measured, source by source. Until enough is known of a zone, the share is a usual one.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from slurm_carbon.forecast import climatology
from slurm_carbon.forecast.series import Series
from slurm_carbon.forecast.store import Store
from slurm_carbon.units import DAY_S, HOUR_S

RUN_H, WINDOW_H = 4, 24  # the job by which forecasts are judged: four hours, that may wait within a day
EVERY_S = 6 * HOUR_S  # a forecast is written down that often
KEPT_H = 96
KEPT_ISSUES = 240  # two months
USUAL_ISSUES = 20.0  # how many issues the usual share counts as, beside those that were seen
# Mean over six regions of the published day-ahead forecasts of `scripts/bench forecast` (CISO, DE, ERCO, ISNE, PJM, SE; 2021)
USUAL = 0.8
FITTED = "on what it was not fitted to"

Values = Sequence[float]


class Issue(NamedTuple):
    """A forecast as it was made: hourly g/kWh from a start on."""

    source: str
    kind: tuple[str, str]
    start_epoch_s: int
    mean: Values
    low: Values | None = None
    high: Values | None = None


class Score(NamedTuple):
    """How good the forecasts of a source were. Shares from 0 to 1; None where nothing can be said."""

    issues: int
    mape_pct: float | None  # over the first day
    pinball_g_per_kwh: float | None  # mean over the quantiles 10, 50 and 90 %
    coverage: float | None  # of the band from 10 to 90 %
    captured: float | None


# the measures


def mape_pct(forecast: Values, truth: Values) -> float:
    """Mean absolute error in percent of the truth, hour by hour; hours without emissions are left out."""
    errors = [abs(f - y) / y for f, y in zip(forecast, truth, strict=True) if y > 0]
    return 100 * sum(errors) / len(errors) if errors else 0.0


def pinball(quantile: float, forecast: Values, truth: Values) -> float:
    """Mean pinball loss of one quantile (Koenker and Bassett 1978): least on the mean if it is the true quantile."""
    losses = [max(quantile * (y - f), (quantile - 1) * (y - f)) for f, y in zip(forecast, truth, strict=True)]
    return sum(losses) / len(losses)


def coverage(low: Values, high: Values, truth: Values) -> float:
    """Share of the hours that lie in the band."""
    return sum(a <= y <= b for a, y, b in zip(low, truth, high, strict=True)) / len(truth)


def saving(forecast: Values, truth: Values, run_h: int, window_h: int) -> tuple[float, float]:
    """What the start that the forecast would choose saves against starting at once, and the best start; mean g/kWh."""

    def runs(values: Values) -> list[float]:
        return [sum(values[start : start + run_h]) / run_h for start in range(window_h - run_h + 1)]

    true, expected = runs(truth), runs(forecast)
    return true[0] - true[expected.index(min(expected))], true[0] - min(true)


def judge(issues: Sequence[Issue], truth: Mapping[int, float]) -> Score:
    """The score of the issues whose first day has been measured."""
    errors, losses, covered = [], [], []
    reached = best = 0.0
    for issue in issues:
        hours = [issue.start_epoch_s + hour * HOUR_S for hour in range(WINDOW_H)]
        if len(issue.mean) < WINDOW_H or not all(hour in truth for hour in hours):
            continue
        day = [truth[hour] for hour in hours]
        mean = issue.mean[:WINDOW_H]
        errors.append(mape_pct(mean, day))
        got, possible = saving(mean, day, RUN_H, WINDOW_H)
        reached, best = reached + got, best + possible
        if issue.low and issue.high and len(issue.low) >= WINDOW_H <= len(issue.high):
            low, high = issue.low[:WINDOW_H], issue.high[:WINDOW_H]
            covered.append(coverage(low, high, day))
            losses.append((pinball(0.1, low, day) + pinball(0.5, mean, day) + pinball(0.9, high, day)) / 3)

    def mean_of(values: list[float]) -> float | None:
        return sum(values) / len(values) if values else None

    return Score(len(errors), mean_of(errors), mean_of(losses), mean_of(covered), reached / best if best > 0 else None)


# what is written down


def note(store: Store, source: str, series: Series, now_epoch_s: int) -> None:
    """Write down what a source says of the hours from now on, if that is due. Raises ForecastError if it cannot be."""
    issues = [issue for issue in issued(store, series.zone, source) if issue.start_epoch_s <= now_epoch_s + EVERY_S]
    start = -(-max(series.start_epoch_s, now_epoch_s) // HOUR_S) * HOUR_S
    if issues and start < issues[-1].start_epoch_s + EVERY_S:
        return
    hours = min(KEPT_H, (series.end_epoch_s - start) // HOUR_S)
    if hours < WINDOW_H or series.period_s > HOUR_S or HOUR_S % series.period_s:
        return

    def hourly(values: Values) -> list[float]:
        per_hour = HOUR_S // series.period_s
        first = (start - series.start_epoch_s) // series.period_s
        return [round(sum(values[i : i + per_hour]) / per_hour, 2) for i in range(first, first + hours * per_hour, per_hour)]

    low, high = (hourly(values) if values else None for values in (series.low, series.high))
    issues.append(Issue(source, series.kind, start, hourly(series.g_per_kwh), low, high))
    store.write(json.dumps(issues[-KEPT_ISSUES:]).encode(), "issued", f"{series.zone} {source}.json")


def issued(store: Store, zone: str, source: str) -> list[Issue]:
    """What was written down of a source."""
    try:
        raw = json.loads(store.read("issued", f"{zone} {source}.json") or b"[]")
        return [issue for issue in (Issue(s, (kind[0], kind[1]), *rest) for s, kind, *rest in raw) if _sound(issue)]
    except (ValueError, TypeError, IndexError, RecursionError):
        return []


def _sound(issue: Issue) -> bool:
    """Whether a note is one of ours: numbers where numbers have to be."""
    lists = (issue.mean, issue.low or [], issue.high or [])
    numbers = all(isinstance(values, list) and all(isinstance(x, int | float) for x in values) for values in lists)
    return numbers and type(issue.start_epoch_s) is int and all(isinstance(word, str) for word in issue.kind)


def _of_one_kind(issues: list[Issue]) -> list[Issue]:
    """Those that count as the newest one does: only they can be compared with its history."""
    return [issue for issue in issues if issue.kind == issues[-1].kind]


def all_of(store: Store, zone: str, sources: Sequence[str]) -> dict[str, Score]:
    """The scores of the sources of a zone of which something was written down and measured."""
    found = {}
    for source in sources:
        issues = _of_one_kind(issued(store, zone, source))
        if issues:
            found[source] = judge(issues, store.history(zone, issues[-1].kind))
    return found


def captured(store: Store, zone: str, source: str, usual: float | None = None) -> tuple[float, str]:
    """The share of the possible saving that a source's forecasts of a zone have been shown to capture, and how that is known.

    What was seen counts beside the usual share (of the source, if nothing is given) as so many issues more.
    """
    seen = Score(0, None, None, None, None)
    if source == "climatology":
        share, how = climatology.captured(zone)
    else:
        share, how = (USUAL, "usual for published forecasts") if usual is None else (usual, FITTED)
        share = min(1.0, max(0.0, share))
        issues = _of_one_kind(issued(store, zone, source))
        if issues:
            seen = judge(issues, store.history(zone, issues[-1].kind))
    if seen.captured is None:
        return share, how
    weight = seen.issues / (seen.issues + USUAL_ISSUES)
    mixed = weight * min(1.0, max(0.0, seen.captured)) + (1 - weight) * share
    return mixed, f"{seen.issues} forecasts of the last {KEPT_ISSUES * EVERY_S // DAY_S} days, and {how}"
