"""Problems that people write: tasks and locations as TOML or JSON, for `slurm-carbon plan`.

The keys are those of the tables below. Times are `2h` after the start of the plan, or points in time. What a location
does not limit is unlimited there.
"""

import json
import os
import time
import tomllib
from collections.abc import Mapping
from typing import Any

import numpy as np

from slurm_carbon.errors import ConfigError, UsageError
from slurm_carbon.forecast import climatology
from slurm_carbon.forecast.series import on_grid
from slurm_carbon.keys import Key, check_names, duration, nearest, number, section, string, strings, tables
from slurm_carbon.planning.problem import NO_END, POWER, Jobs, Places, Problem, Profiles
from slurm_carbon.planning.uncertainty import run_times, scenarios
from slurm_carbon.units import duration_s, parse_time

MAX_BYTES = 64 << 20
MAX_CELLS = 50_000_000  # locations x slots: a week of minutes at 5000 places
RESOURCES = ("nodes", "cores", "gpus", "memory_gb")
LARGE = 1e9


def _amounts(value: Any) -> Any:
    """A number, or a list of them."""
    each = number(0, LARGE)
    return [each(item) for item in value] if isinstance(value, list) else each(value)


def _margin(value: Any) -> int | None:
    return None if value == "" else duration(value)


def _moment(value: Any) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError('a duration after the start such as "2h", or a time such as "2026-11-24T08:00Z"')
    return str(value)


PLAN = (
    Key("start", string, "", "When the first slot begins; default: now."),
    Key("slot", duration, "1h", "Jobs start at the beginning of one."),
    Key("horizon", duration, "7d", "The last start."),
    Key("capacity_quantile", number(0.01, 0.999), 0.9, "Of an uncertain run time, what capacity is kept for."),
)
LOCATION = (
    Key("zone", string, "", "The zone of its electricity, in the climatology."),
    Key("intensity_g_per_kwh", _amounts, [], "Or its intensity, a number or one for each slot."),
    Key("pue", number(1, 5), 1.0, "Power usage effectiveness."),
    Key("speed", number(1e-3, 1e3), 1.0, "Run times are divided by it."),
    Key("power_factor", number(0, 1e3), 1.0, "Power is multiplied by it."),
    *(Key(name, _amounts, [], f"How many {name} are free, a number or one for each slot.") for name in RESOURCES),
    Key(POWER, _amounts, [], "A limit on electric power, PUE included."),
)
TASK = (
    Key("run_time", duration, "1h", "How long it runs; the median, if it is uncertain."),
    Key("run_time_spread", number(0, 3), 0.0, "Standard deviation of the logarithm of the run time."),
    Key("energy_kwh", number(0, LARGE), 0.0, "Energy of a run of that time, before PUE."),
    Key("power_w", number(0, LARGE), 0.0, "Or its power."),
    Key("arrival", _moment, "0h", "When it may start."),
    Key("margin", _margin, "", "How much later it may start; default: not at all, or with `finish_by` as late as that allows."),
    Key("finish_by", _moment, "", "When it has to be done."),
    Key("tasks", number(1, 1e6), 1, "How many of them there are: an array."),
    Key("locations", strings, [], "Where it may run; default: anywhere."),
    Key("home", string, "", "Where it would run without a plan; default: the first of these."),
    Key("delay_g_per_h", number(0, LARGE), 0.0, "What an hour of waiting weighs, in g CO2e."),
    Key("data_gb", number(0, LARGE), 0.0, "What has to be moved when it runs elsewhere than `data_at`."),
    Key("data_at", string, "", "Where its data is; default: at home."),
    Key("account", string, "", "Whose budget it counts in."),
    *(Key(name, number(0, LARGE), 0.0, f"How many {name} one task takes.") for name in RESOURCES),
)
ACCOUNT = (Key("budget_g", number(0, 1e15), 1e15, "What its tasks may emit in all."),)
TRANSFER = (
    Key("kwh_per_gb", number(0, 100), 0.06, "Energy of moving a GB (default: Aslan et al. 2018)."),
    Key("gb_per_h", number(1e-3, LARGE), 450.0, "How fast."),
)
RISK = (
    Key("weight", number(0, 1e3), 0.0, "How much the worst scenarios of the forecast count beside the mean."),
    Key("level", number(0, 0.999), 0.9, "Which are the worst: with 0.9 a tenth."),
    Key("error_pct", number(0, 100), 10.0, "Half the width of the forecast's 80 % band."),
    Key("scenarios", number(1, 1000), 100, "How many."),
)


def load(path: str, now_epoch_s: int | None = None) -> Problem:
    """The problem in a file. Raises ConfigError with the table, the key and what is allowed."""
    try:
        if not os.path.isfile(path):
            raise ConfigError(f"plan {path}: {'is no file' if os.path.exists(path) else 'there is no such file'}")
        if os.path.getsize(path) > MAX_BYTES:
            raise ConfigError(f"plan {path}: larger than {MAX_BYTES >> 20} MiB")
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES).decode()
        raw = json.loads(data) if data.lstrip()[:1] == "{" else tomllib.loads(data)
    except OSError as error:
        raise ConfigError(f"plan {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # both parsers' errors, and text that is not UTF-8
        raise ConfigError(f"plan {path}: {str(error)[:200]}") from None
    return parse(raw, f"plan {path}", int(time.time()) if now_epoch_s is None else now_epoch_s)


def parse(raw: Any, where: str, now_epoch_s: int) -> Problem:
    """The problem in the tables of a file. Raises ConfigError."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{where} must hold tables")
    names = ("locations", "tasks", "accounts", "transfer", "risk")
    check_names(raw, (*(key.name for key in PLAN), *names), where)
    plan = section({k: v for k, v in raw.items() if k not in names}, PLAN, where)
    slot_s = plan["slot"]
    if slot_s < 60 or plan["horizon"] < slot_s:
        raise ConfigError(f"{where}: slot must be at least 1m, and horizon at least one slot")
    try:
        start_s = parse_time(plan["start"], now_epoch_s) if plan["start"] else now_epoch_s
    except UsageError as error:
        raise ConfigError(f"{where}: start: {error}") from None
    slots = plan["horizon"] // slot_s
    locations = {
        name: section(table, LOCATION, f"{where}: [locations.{name}]")
        for name, table in tables(raw.get("locations", {}), f"{where}: [locations]")
    }
    tasks = {
        name: section(table, TASK, f"{where}: [tasks.{name}]")
        for name, table in tables(raw.get("tasks", {}), f"{where}: [tasks]")
    }
    if not locations:
        raise ConfigError(f"{where}: there is no [locations.NAME] to place tasks at")
    if len(locations) * slots > MAX_CELLS:
        raise ConfigError(f"{where}: {len(locations)} locations x {slots} slots are too many")
    accounts = {
        name: section(table, ACCOUNT, f"{where}: [accounts.{name}]")["budget_g"]
        for name, table in tables(raw.get("accounts", {}), f"{where}: [accounts]")
    }
    transfer = section(raw.get("transfer", {}), TRANSFER, f"{where}: [transfer]")
    risk = section(raw.get("risk", {}), RISK, f"{where}: [risk]")
    longest_s = max((task["run_time"] for task in tasks.values()), default=0)
    places = _places(locations, where, start_s, slot_s, slots, slots + min(longest_s // slot_s + 1, 10_000), transfer, risk)
    profiles, jobs = _tasks(tasks, locations, list(accounts), where, places, plan["capacity_quantile"])
    return Problem(
        places, RESOURCES, profiles, jobs, tuple(accounts), np.array(list(accounts.values()), dtype=float),
        risk["weight"], risk["level"],
    )  # fmt: skip


def _places(
    locations: Mapping[str, Mapping[str, Any]], where: str, start_s: int, slot_s: int, slots: int, horizon: int,
    transfer: Mapping[str, Any], risk: Mapping[str, Any],
) -> Places:  # fmt: skip
    grams = np.empty((len(locations), horizon))
    pools: list[tuple[str, str, int, Any]] = []
    for index, (name, table) in enumerate(locations.items()):
        here = f"{where}: [locations.{name}]"
        values = table["intensity_g_per_kwh"]
        if (values == []) == (not table["zone"]):
            raise ConfigError(f"{here}: needs one of zone and intensity_g_per_kwh")
        if table["zone"]:
            if table["zone"] not in climatology.zones():
                raise ConfigError(f"{here}: zone {table['zone']!r}{nearest(table['zone'], climatology.zones())}")
            usual = climatology.series(table["zone"], start_s, start_s + slot_s * horizon)
            values = on_grid(usual, start_s, slot_s, horizon).mean_g_per_kwh
        grams[index] = _each_slot(values, horizon, slots, f"{here}: intensity_g_per_kwh")
        limited = [resource for resource in (*RESOURCES, POWER) if table[resource] != []]
        pools += [(f"{resource} of {name}", resource, index, table[resource]) for resource in limited]
    capacity = [_each_slot(free, slots, slots, f"{where}: {name}") for name, _, _, free in pools]
    members = np.zeros((len(pools), len(locations)), dtype=bool)
    for row, (_, _, index, _) in enumerate(pools):
        members[row, index] = True
    half = risk["error_pct"] / 100 * grams
    sample = scenarios(grams, grams - half, grams + half, int(risk["scenarios"]), slot_s / 3600) if risk["weight"] else None
    return Places(
        start_s, slot_s, slots, tuple(locations), np.array([table["pue"] for table in locations.values()]), grams,
        grams.mean(1), tuple(pool[0] for pool in pools), tuple(pool[1] for pool in pools), members,
        np.array(capacity).reshape(len(pools), slots), sample, transfer["kwh_per_gb"], transfer["gb_per_h"],
    )  # fmt: skip


def _each_slot(values: Any, count: int, needed: int, where: str) -> "np.ndarray[Any, Any]":
    """One number a slot: of one, of as many as there are slots, or of more; what lies beyond is the mean."""
    if not isinstance(values, list):
        return np.full(count, float(values))
    if len(values) < needed:
        raise ConfigError(f"{where}: {len(values)} numbers for {needed} slots")
    if len(values) > count:
        raise ConfigError(f"{where}: {len(values)} numbers, and only {count} slots in which they could count")
    more = [float(np.mean(values))] * max(0, count - len(values))
    return np.array([*values, *more][:count], dtype=float)


def _tasks(
    tasks: Mapping[str, Mapping[str, Any]], locations: Mapping[str, Mapping[str, Any]], accounts: list[str], where: str,
    places: Places, quantile: float,
) -> tuple[Profiles, Jobs]:  # fmt: skip
    names = list(locations)
    speed = np.array([table["speed"] for table in locations.values()])
    factor = np.array([table["power_factor"] for table in locations.values()])
    rows: list[tuple[Any, ...]] = []
    windows: list[tuple[int, int, int, int]] = []
    for name, task in tasks.items():
        here = f"{where}: [tasks.{name}]"
        if (task["energy_kwh"] > 0) == (task["power_w"] > 0):
            raise ConfigError(f"{here}: needs one of energy_kwh and power_w, above 0")
        if task["run_time"] <= 0:
            raise ConfigError(f"{here}: run_time must be above 0")
        allowed = task["locations"] or tuple(names)
        home = task["home"] or allowed[0]
        for place in (*allowed, home, task["data_at"] or home):
            if place not in locations:
                raise ConfigError(f"{here}: no location {place!r}{nearest(place, names)}")
        if home not in allowed:
            raise ConfigError(f"{here}: home = {home!r} is not among its locations, {', '.join(allowed)}")
        if task["account"] and task["account"] not in accounts:
            raise ConfigError(f"{here}: no account {task['account']!r}{nearest(task['account'], accounts)}")
        run_h = task["run_time"] / 3600
        kept, points = run_times(task["run_time_spread"], quantile)
        kw = task["energy_kwh"] / run_h if task["energy_kwh"] else task["power_w"] / 1000
        rows.append((
            [task[name] for name in RESOURCES], kw * factor, kept * run_h / speed, [place in allowed for place in names],
            task["delay_g_per_h"], points / kept, task["data_gb"], names.index(task["data_at"] or home),
            accounts.index(task["account"]) if task["account"] else -1,
        ))  # fmt: skip
        earliest_s = _offset_s(task["arrival"], places.start_epoch_s, f"{here}: arrival")
        first = max(0, -(-earliest_s // places.slot_s))
        last, end = (max(0, earliest_s) + (task["margin"] or 0)) // places.slot_s, NO_END
        if task["finish_by"]:
            end = _offset_s(task["finish_by"], places.start_epoch_s, f"{here}: finish_by") // places.slot_s
            last = end if task["margin"] is None else last
        windows.append((first, max(first, last), end, names.index(home)))
    number_of = len(rows)
    width = max((len(row[5]) for row in rows), default=1)
    share, weight = np.ones((number_of, width)), np.zeros((number_of, width))
    for row, points in enumerate(row[5] for row in rows):
        share[row, : len(points)], weight[row, : len(points)] = points, 1 / len(points)

    def column(index: int, *shape: int) -> Any:
        return np.array([row[index] for row in rows]).reshape(number_of, *shape)

    profiles = Profiles(
        column(0, len(RESOURCES)).astype(float), column(1, len(names)).astype(float), column(2, len(names)).astype(float),
        column(3, len(names)).astype(bool), column(4).astype(float), share, weight, column(6).astype(float),
        column(7).astype(int), column(8).astype(int),
    )  # fmt: skip
    when = np.array(windows, dtype=np.int64).reshape(number_of, 4).T
    counts = np.array([int(task["tasks"]) for task in tasks.values()], dtype=np.int64)
    earliest, latest, ends, homes = when
    jobs = Jobs(np.arange(number_of), np.ones(number_of), counts, earliest, latest, ends, homes, tuple(tasks))
    return profiles, jobs


def _offset_s(text: str, start_s: int, where: str) -> int:
    """Seconds from the start of the plan; 18:00 is an hour of the clock here, not eighteen minutes."""
    if ":" not in text or "-" in text:
        try:
            return duration_s(text)
        except UsageError:
            pass
    try:
        return parse_time(text, start_s) - start_s
    except UsageError as error:
        raise ConfigError(f"{where}: {error}") from None
