"""What this process may do with the jobs of a cluster: nothing is tried that Slurm would refuse anyway."""

import os
import pwd
from enum import Enum

from slurm_carbon.errors import CommandError
from slurm_carbon.slurm.command import Command, Runner
from slurm_carbon.slurm.facts import settings
from slurm_carbon.slurm.moves import Site

TIMEOUT_S = 10.0
_LEVELS = ("Operator", "Administrator")


class Rights(Enum):
    """Whose waiting jobs may be changed."""

    OWN = "own jobs"
    OPERATOR = "all jobs"
    ROOT = "all jobs, and to become their owners"


def read(runner: Runner, site: Site, uid: int | None = None) -> Rights:
    """What a user, ourselves if none is named, may do. Whatever cannot be found out counts as not allowed."""
    uid = os.geteuid() if uid is None else uid
    if uid == 0:
        return Rights.ROOT
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return Rights.OWN
    return Rights.OPERATOR if _slurm_user(runner, site) == uid or _level(runner, site, name) in _LEVELS else Rights.OWN


def _slurm_user(runner: Runner, site: Site) -> int | None:
    """The uid in `SlurmUser = slurm(64030)`."""
    text = _ask(runner, site, ["scontrol", *site.where, "show", "config"])
    number = dict(settings(text)).get("SlurmUser", "").partition("(")[2].rstrip(")")
    return int(number) if number.isdecimal() else None


def _level(runner: Runner, site: Site, name: str) -> str:
    # the accounting may be down: then an operator is taken for an ordinary user until it is back
    return _ask(runner, site, ["sacctmgr", "-n", "-P", "show", "user", f"name={name}", "format=AdminLevel"]).strip()


def _ask(runner: Runner, site: Site, argv: list[str]) -> str:
    try:
        done = runner.run(Command(argv, f"rights on {site.name}", environment=site.environment, timeout_s=TIMEOUT_S))
    except CommandError:
        return ""
    return done.stdout.decode("utf-8", "replace") if done.exit_code == 0 else ""
