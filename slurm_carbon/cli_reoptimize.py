"""`slurm-carbon reoptimize`, `queue` and `explain`: one run, and what it knows of the jobs that wait."""

import argparse
import contextlib
import json
import os
import pwd
import sys
import time
from typing import TYPE_CHECKING, Any

from slurm_carbon.errors import Error, LedgerError, UsageError

if TYPE_CHECKING:
    from slurm_carbon.config import Config
    from slurm_carbon.ledger.store import Ledger
    from slurm_carbon.outlook import Outlook
    from slurm_carbon.reoptimize.tick import Report, Setting

MODES = ("observe", "advise", "enforce")
OWN_LEDGER = ".local/state/slurm_carbon/ledger/ledger.sqlite"
BUSY = 0  # a run that finds another one is no failure


def add_to(nouns: Any) -> None:
    """The three verbs."""
    again = nouns.add_parser(
        "reoptimize", help="plan all waiting jobs of all clusters again, move them, publish the outlook",
        description="One run, for cron or a systemd timer every 5 to 15 minutes: plans all waiting jobs of all clusters "
        "together and does what [reoptimize] mode says. Moves within a cluster need a Slurm operator, those between clusters "
        "root. Where a file named `stop` is beside the outlook, or the mode is off, only the outlook is published. See "
        "slurm_carbon_reoptimize(7).",
    )  # fmt: skip
    again.add_argument(
        "--dry-run", action="store_true", help="say what would be moved and print the exact commands; change nothing"
    )
    again.add_argument("--mode", choices=MODES, help="instead of that of the configuration")
    again.add_argument("--own", action="store_true", help="only your own jobs, by the published outlook; for your crontab")
    again.add_argument("--ledger", metavar="URL", help="instead of that of the configuration; with --own: of your home")
    again.add_argument("--json", action="store_true", help="every decision as JSON")
    again.add_argument("--quiet", action="store_true", help="say only what went wrong")
    again.set_defaults(run=_reoptimize)

    queue = nouns.add_parser("queue", help="what waits, why, until when, and what that saves: your jobs")
    queue.add_argument("--all", action="store_true", help="everybody's jobs")
    queue.add_argument("--user", metavar="NAME", help="this user's jobs")
    queue.add_argument("--ledger", metavar="URL", help="instead of that of the configuration")
    queue.add_argument("--json", action="store_true", help="everything as JSON")
    queue.set_defaults(run=_queue)

    explain = nouns.add_parser(
        "explain", help="all about one job: how it stands, what was decided about it, what it could save"
    )
    explain.add_argument("job", metavar="JOBID", help="12, or 12_3 of an array")
    explain.add_argument("-M", "--cluster", metavar="NAME", help="its cluster, where the number is used on several")
    explain.add_argument("--ledger", metavar="URL", help="instead of that of the configuration")
    explain.add_argument("--json", action="store_true", help="everything as JSON")
    explain.set_defaults(run=_explain)


def _config(words: argparse.Namespace) -> "tuple[Config, str]":
    from slurm_carbon.config import config_path, load

    config = load(config_path(words.config))
    return config, os.environ.get("SLURM_CARBON_OUTLOOK") or config.outlook.file


# one run


def _reoptimize(words: argparse.Namespace) -> int:
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # before numpy: its threads only wait for each other here
        os.environ.setdefault(name, "1")
    from slurm_carbon.ledger.store import memory_ledger, open_ledger
    from slurm_carbon.reoptimize import guard, tick
    from slurm_carbon.slurm.command import Runner

    config, outlook_path = _config(words)
    mode = words.mode or config.reoptimize.mode
    url = words.ledger or (_own_ledger() if words.own else config.reoptimize.ledger)
    own = pwd.getpwuid(os.geteuid()).pw_name if words.own else None
    setting = tick.Setting(config, mode, outlook_path, own, words.dry_run)
    watch = None if words.quiet or words.json or not sys.stderr.isatty() else _progress
    stopped = f"{guard.stop_file(outlook_path)} is there" if guard.is_stopped(outlook_path) else ""
    if mode == "off":
        stopped = '[reoptimize] mode is "off"; observe is the next one, also by --mode observe'
    if stopped:
        published = "nothing is done" if words.own or words.dry_run else "only the outlook is published"
        print(f"slurm-carbon: {published}: {stopped}", file=sys.stderr)
        return _only_published(setting)
    if words.dry_run:
        try:
            ledger = open_ledger(url, read_only=True)
        except LedgerError as error:
            print(f"slurm-carbon: without a ledger: {error}", file=sys.stderr)
            ledger = memory_ledger()
        with ledger:
            return _tell(words, tick.run(setting, Runner(), ledger, time.time, watch))
    try:
        with guard.alone(_lock(url, outlook_path)):
            try:
                ledger = open_ledger(url)
            except LedgerError as error:  # without it nothing can be moved safely
                print(f"slurm-carbon: error: {error}; only the outlook is published", file=sys.stderr)
                _only_published(setting)
                return 1
            with ledger:
                return _tell(words, tick.run(setting, Runner(), ledger, time.time, watch))
    except guard.BusyError as error:
        print(f"slurm-carbon: {error}", file=sys.stderr)
        return BUSY


def _only_published(setting: "Setting") -> int:
    from slurm_carbon.reoptimize import tick
    from slurm_carbon.slurm.command import Runner

    problems = tick.publish_only(setting, Runner())
    for problem in problems:
        print(f"slurm-carbon: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _own_ledger() -> str:
    """In the home that passwd has, with folders that only the owner may enter."""
    path = os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, OWN_LEDGER)
    return "sqlite:///" + path


def _lock(url: str, outlook_path: str) -> str:
    """The lock beside an SQLite ledger, since two runs with one ledger are what it keeps apart; else beside the outlook."""
    path = url.removeprefix("sqlite:///").partition("?")[0] if url.startswith("sqlite:///") else ""
    folder = os.path.dirname(path or outlook_path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise Error(f"cannot make {folder}: {error.strerror}") from None
    return os.path.join(folder, "reoptimize.lock")


def _progress(text: str) -> None:
    sys.stderr.write(f"\r\033[K{text}" if text else "\r\033[K")
    sys.stderr.flush()


def _tell(words: argparse.Namespace, report: "Report") -> int:
    if not words.quiet or report.failed:
        for problem in report.problems:
            print(f"slurm-carbon: {problem}", file=sys.stderr)
    if words.json:
        print(json.dumps(report.as_json(), indent=1))
    elif not words.quiet:
        print("\n".join(report.lines()))
    return 1 if report.failed else 0


# looking


def _look(words: argparse.Namespace) -> "tuple[Config, Outlook, Ledger | None]":
    from slurm_carbon import outlook as outlooks
    from slurm_carbon.ledger.store import open_ledger

    config, path = _config(words)
    outlook = outlooks.read(path, int(time.time()))
    try:
        return config, outlook, open_ledger(words.ledger or config.reoptimize.ledger, read_only=True)
    except LedgerError as error:
        if words.ledger or os.geteuid() == 0 or config.reoptimize.mode == "advise":
            print(f"slurm-carbon: without the ledger: {error}", file=sys.stderr)
    if not words.ledger:
        with contextlib.suppress(LedgerError):  # of his own runs, if there were any
            return config, outlook, open_ledger(_own_ledger(), read_only=True)
    return config, outlook, None


def _queue(words: argparse.Namespace) -> int:
    from slurm_carbon.reoptimize import look, view
    from slurm_carbon.slurm.command import Runner

    config, outlook, ledger = _look(words)
    now, problems = int(time.time()), list[str]()
    user = words.user or (None if words.all else pwd.getpwuid(os.geteuid()).pw_name)
    with ledger or contextlib.nullcontext():
        stood = look.waiting(config, outlook, Runner(), ledger, now, problems, user)
        advised = {}
        if ledger is not None and config.reoptimize.mode == "advise":
            advised = {each.key: view.advice(ledger.decisions_of(*each.key)) for each in stood if not each.stays}
    rows = [view.row(each, advised.get(each.key, "")) for each in stood]
    for problem in problems:
        print(f"slurm-carbon: {problem}", file=sys.stderr)
    print(json.dumps(view.as_json(rows), indent=1) if words.json else "\n".join(view.table(rows, now)))
    return 1 if problems else 0


def _explain(words: argparse.Namespace) -> int:
    from slurm_carbon.reoptimize import look, view
    from slurm_carbon.slurm.command import Runner

    number, _, task = words.job.partition("_")
    if not (number.isascii() and number.isdigit() and len(number) < 12) or (task and not (task.isascii() and task.isdigit())):
        raise UsageError(f"{words.job!r} is no job number: write 12, or 12_3")
    config, outlook, ledger = _look(words)
    clusters = [site.name for site in config.sites if words.cluster in (None, site.name)]
    if not clusters:
        raise UsageError(f"no cluster {words.cluster!r} in the configuration")
    now, problems = int(time.time()), list[str]()
    with ledger or contextlib.nullcontext():
        stood = look.waiting(config, outlook, Runner(), ledger, now, problems)
        found = look.stories(stood, outlook, ledger, clusters, int(number), task, now)
    for problem in problems:
        print(f"slurm-carbon: {problem}", file=sys.stderr)
    if not found:
        where = words.cluster or "any cluster"
        raise Error(f"no job {words.job} waits on {where}" + (", and the ledger has none" if ledger else "") + ": see sacct")
    if words.json:
        print(json.dumps([one.as_json() for one in found], indent=1, default=list))
    else:
        print("\n\n".join("\n".join(view.explained(one, outlook, now)) for one in found))
    return 0
