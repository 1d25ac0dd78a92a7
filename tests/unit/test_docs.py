"""The manual says what the program does: every option, variable and key, and nothing that is gone."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from slurm_carbon import cli, config, planfile
from slurm_carbon.launch import FLAG_OPTIONS, VALUE_OPTIONS
from slurm_carbon.narrate import HELP

ROOT = Path(__file__).parent.parent.parent
OPTIONS = {f"--carbon-{name}" for name in FLAG_OPTIONS + VALUE_OPTIONS}


def text(name: str) -> str:
    """A page of the manual without its escapes."""
    return (ROOT / "man" / name).read_text().replace("\\-", "-")


def test_every_option_is_in_the_help_the_manual_and_the_completion() -> None:
    """And no other one."""
    for where in (HELP, text("csbatch.1"), (ROOT / "etc/completion/csbatch.bash").read_text()):
        assert OPTIONS <= set(re.findall(r"--carbon-[a-z]+(?:-[a-z]+)*", where)) <= {*OPTIONS, "--carbon-off"}


def test_every_variable_is_in_the_manual() -> None:
    """CSBATCH_* of each option that can be said in the environment."""
    for option in OPTIONS - {"--carbon-help"}:
        assert "CSBATCH_" + option.removeprefix("--carbon-").replace("-", "_").upper() in text("csbatch.1")


def test_every_key_is_in_the_manual_with_its_meaning() -> None:
    """slurm_carbon.toml(5) is the table of keys."""
    page = text("slurm_carbon.toml.5")
    for keys in (
        config.POLICY,
        config.OUTLOOK,
        config.HOOK,
        config.REOPTIMIZE,
        config.FORECASTS,
        config.FEED,
        config.POWER,
        config.ZONE,
        config.CLUSTER,
        config.PARTITION,
    ):
        for key in keys:
            assert f".B {key.name}\n{key.text.replace('`', '')}" in page


def test_every_key_of_a_plan_is_in_the_manual_with_its_meaning() -> None:
    """slurm_carbon_plan.toml(5) is the tables of keys."""
    page = text("slurm_carbon_plan.toml.5")
    for keys in (planfile.PLAN, planfile.LOCATION, planfile.TASK, planfile.ACCOUNT, planfile.TRANSFER, planfile.RISK):
        for key in keys:
            assert f".B {key.name}\n{key.text.replace('`', '')}" in page


def test_every_verb_and_option_is_in_the_manual_and_the_completion() -> None:
    """slurm-carbon(8) and its completion know what the parser knows."""
    page, completion = text("slurm-carbon.8"), (ROOT / "etc/completion/slurm-carbon.bash").read_text()
    found: list[str] = []

    def walk(parser: argparse.ArgumentParser) -> None:
        for action in parser._actions:
            found.extend(option for option in action.option_strings if option not in ("-h", "--help"))
            if isinstance(action, argparse._SubParsersAction):
                found.extend(action.choices)
                for inner in action.choices.values():
                    walk(inner)

    walk(cli._parser())
    assert {"plan", "--solver-time", "--mark"} <= set(found)
    for word in set(found) - {"--version"}:
        assert word in page, word
        assert word in completion, word


def test_readme_names_what_exists() -> None:
    """Every script, folder and module that the README speaks of is there."""
    for path in re.findall(r"(?<![/\w])(?:scripts|etc|man|docs)/[\w./-]*\w", (ROOT / "README.md").read_text()):
        assert (ROOT / path).exists(), path
