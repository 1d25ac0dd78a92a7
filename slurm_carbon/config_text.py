"""The configuration printed as TOML, every key with its meaning: the manual that is never out of date."""

import json
from collections.abc import Mapping
from typing import Any

from slurm_carbon.config import (
    CLUSTER,
    FEED,
    FORECASTS,
    HOOK,
    OUTLOOK,
    POLICY,
    POWER,
    REOPTIMIZE,
    REOPTIMIZE_TIMES,
    ZONE,
    Config,
    default_directory,
    default_ledger,
)  # fmt: skip
from slurm_carbon.keys import Key
from slurm_carbon.units import duration_s, duration_text


def render(config: Config) -> str:
    """The whole configuration as TOML, every key with its meaning: a file that reads back to the same configuration."""
    policy = dict(config.policy._asdict())
    policy |= {name: _short(policy[name + "_s"]) for name in ("max_delay", "max_delay_limit")}
    outlook = dict(config.outlook._asdict())
    outlook |= {name: _short(outlook[name + "_s"]) for name in ("max_age", "horizon", "slot")}
    lines = ["# Configuration of slurm-carbon: slurm_carbon.toml(5). Check it with `slurm-carbon config check`.", ""]
    lines += ["# What is allowed, and what is worth it.", "[policy]", *_render(POLICY, policy)]
    lines += ["# The file that csbatch and the hook decide by.", "[outlook]", *_render(OUTLOOK, outlook)]
    hook = {"mode": config.hook["mode"], "client_moves": config.hook["client_moves"] == "yes"}
    hook["modes"] = {who: mode for who, mode in config.hook.items() if who not in hook}
    lines += [
        "# What the submit hook does with the jobs of plain sbatch, once installed.",
        "[hook]",
        *_render(HOOK, hook),
    ]
    again = config.reoptimize._asdict()
    again |= {name: _short(again[name + "_s"]) for name in REOPTIMIZE_TIMES}
    if again["ledger"] == default_ledger(config.outlook.file):
        again["ledger"] = ""
    lines += ["# What `slurm-carbon reoptimize` does with jobs that wait.", "[reoptimize]", *_render(REOPTIMIZE, again)]
    kept = {"max_age": _short(config.forecasts.max_age_s), "directory": config.forecasts.directory}
    if kept["directory"] == default_directory(config.outlook.file):
        kept["directory"] = ""
    lines += ["# What the sources of carbon intensity say, and how long it is kept.", "[forecasts]", *_render(FORECASTS, kept)]
    if config.feeds:
        lines += ["# The services: keys and addresses."]
    for order, feed in enumerate(config.feeds):
        lines += [f"[sources.{feed.name}]", *_render(FEED, feed._asdict(), comments=order == 0)]
    lines += ["# What hardware draws. Clusters and partitions may say otherwise, with the same keys.", "[power]"]
    lines += _render(POWER, {key.name: key.default for key in POWER})
    lines += ["# Zones of the electricity grid, by the names that Electricity Maps uses."]
    for order, zone in enumerate(config.zones):
        lines += [f"[zones.{_bare(zone.name)}]", *_render(ZONE, zone._asdict(), comments=order == 0)]
    lines += ["# Clusters by their ClusterName, and the partitions that jobs may be placed in: no other is ever used."]
    for order, site in enumerate(config.sites):
        zone_name = site.places[0].zone if site.places else ""
        values = {"zone": zone_name, "slurm_conf": site.slurm_conf, "filesystem": site.filesystem}
        lines += [f"[clusters.{_bare(site.name)}]", *_render(CLUSTER, values, comments=order == 0)]
        for place in site.places:
            lines += [f"[clusters.{_bare(site.name)}.partitions.{_bare(place.partition)}]"]
            if place.zone != zone_name:
                lines += [f"zone = {_toml(place.zone)}"]
            defaults = {key.name: key.default for key in POWER}
            changed = {key: value for key, value in place.power._asdict().items() if value != defaults[key]}
            lines += [f"{key} = {_toml(value)}" for key, value in sorted(changed.items())] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _render(keys: tuple[Key, ...], values: Mapping[str, Any], comments: bool = True) -> list[str]:
    lines = []
    for key in keys:
        if comments:
            default = "" if key.default == "" else f" Default: {_toml(key.default)}"
            lines.append(f"# {key.text}{default}")
        if comments or _toml(values[key.name]) != _toml(key.default):
            lines.append(f"{key.name} = {_toml(values[key.name])}")
    return [*lines, ""]


def _short(seconds: int) -> str:
    text = duration_text(seconds).replace(" min", "m").replace(" ", "")
    return text if duration_s(text) == seconds else f"{seconds}s"


def _bare(name: str) -> str:
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isalnum() and plain.isascii() else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_bare(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value:.12g}"
