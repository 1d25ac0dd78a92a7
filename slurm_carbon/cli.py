"""slurm-carbon: the command of admins and of the curious. Thin: each verb reads, calls one piece, prints."""

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Sequence

from slurm_carbon import __version__, cli_forecast, cli_hook, cli_reoptimize
from slurm_carbon.errors import ConfigError, Error, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Exit codes: 0 done, 1 failed or incomplete (the reason is on stderr), 2 wrong usage."""
    words = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no bars gets question marks
    try:
        code: int = words.run(words)
        sys.stdout.flush()
        return code
    except Error as error:
        print(f"slurm-carbon: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read us has seen enough
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slurm-carbon", description="Carbon-aware placement of Slurm jobs.")
    parser.add_argument("--version", action="version", version=f"slurm-carbon {__version__}")
    parser.add_argument("--config", metavar="FILE", help="the configuration (default: $SLURM_CARBON_CONFIG, or the site's)")
    nouns = parser.add_subparsers(
        required=True, metavar="outlook | reoptimize | queue | explain | forecast | plan | hook | config"
    )

    outlook = nouns.add_parser("outlook", help="the published forecast and facts that jobs are placed by")
    verbs = outlook.add_subparsers(required=True, metavar="refresh | show | plot")
    refresh = verbs.add_parser("refresh", help="ask all sources and clusters, and publish")
    refresh.add_argument("--facts", metavar="FILE", help="recorded facts of the clusters, instead of asking Slurm")
    refresh.add_argument("--record-facts", metavar="FILE", help="write down what Slurm answers, for --facts")
    refresh.set_defaults(run=_refresh)
    show = verbs.add_parser("show", help="print it: per location the coming day, its source and age")
    show.add_argument("--json", action="store_true", help="the file itself")
    show.set_defaults(run=_show)
    plot = verbs.add_parser("plot", help="draw the forecast of every zone (needs the extra `plots`)")
    plot.add_argument("--output", required=True, metavar="FILE", help="PNG, SVG or PDF, by its ending")
    plot.add_argument("--mark", metavar="TEXT", help="a job's comment: its planned window is drawn in")
    plot.add_argument("--run-time", metavar="DURATION", default="1h", help="of that job (default: 1h)")
    plot.set_defaults(run=_plot)

    cli_forecast.add_to(nouns)
    cli_hook.add_to(nouns)
    cli_reoptimize.add_to(nouns)

    plan = nouns.add_parser("plan", help="place the tasks of a file together over locations and time")
    plan.add_argument("file", metavar="FILE", help="tasks and locations, TOML or JSON: see etc/examples/plan.toml")
    plan.add_argument("--json", action="store_true", help="everything as JSON, prices included")
    plan.add_argument("--plot", metavar="FILE", help="draw the plan: PNG, SVG or PDF, by its ending (needs the extra `plots`)")
    plan.add_argument(
        "--solver-time", metavar="DURATION", help="go on improving for that long (default: a fixed amount of work)"
    )
    plan.set_defaults(run=_plan)

    config = nouns.add_parser("config", help="the site's configuration")
    verbs = config.add_subparsers(required=True, metavar="show | check | init")
    verbs.add_parser("show", help="print every key, its value and meaning").set_defaults(run=_config_show)
    verbs.add_parser("check", help="check the file, and against Slurm what it names").set_defaults(run=_config_check)
    init = verbs.add_parser("init", help="print a configuration proposed from what Slurm reports")
    init.add_argument(
        "--zone", action="append", default=[], metavar="[CLUSTER=]ZONE", help="where a cluster's electricity comes from"
    )
    init.add_argument("--slurm-conf", action="append", default=[], metavar="CLUSTER=FILE", help="the slurm.conf of a cluster")
    init.add_argument(
        "--filesystem", default="", metavar="NAME", help="all these clusters share their files: jobs may move between them"
    )
    init.set_defaults(run=_config_init)
    return parser


def _refresh(words: argparse.Namespace) -> int:
    from slurm_carbon import config as configs
    from slurm_carbon import refresh
    from slurm_carbon.slurm import facts, recorded
    from slurm_carbon.slurm.command import Runner

    config = configs.load(configs.config_path(words.config))
    runner = recorded.player(words.facts) if words.facts else Runner()
    if words.record_facts:
        recorded.record(runner, [c for s in config.sites for c in facts.commands(s.name, s.slurm_conf)], words.record_facts)
    outlook, problems = refresh.outlook(config, int(time.time()), runner)
    path = os.environ.get("SLURM_CARBON_OUTLOOK") or config.outlook.file
    refresh.publish(refresh.with_last_prices(outlook, path), config, path)
    for said in problems + refresh.incomparable(outlook.zones):
        print(f"slurm-carbon: {said}", file=sys.stderr)
    print(f"{path}: {len(outlook.locations)} locations in {len(outlook.zones)} zones, {len(outlook.clusters)} clusters")
    return 1 if problems else 0


def _show(words: argparse.Namespace) -> int:
    from slurm_carbon import outlook as outlooks
    from slurm_carbon.config import outlook_path
    from slurm_carbon.report import text

    path, now = outlook_path(words.config), int(time.time())
    outlook = outlooks.read(path, now)
    if words.json:
        print(json.dumps(outlooks.encode(outlook), indent=1))
    else:
        print("\n".join(text.outlook_table(outlook, path, now)))
    return 0


def _plot(words: argparse.Namespace) -> int:
    from slurm_carbon import marks
    from slurm_carbon import outlook as outlooks
    from slurm_carbon.config import outlook_path
    from slurm_carbon.report import plots
    from slurm_carbon.units import duration_s

    now = int(time.time())
    outlook = outlooks.read(outlook_path(words.config), now)
    mark = None
    if words.mark is not None:
        mark = marks.read(words.mark)[1]
        if mark is None:
            raise UsageError(f"--mark {words.mark!r}: no mark of slurm-carbon in it")
    plots.outlook_figure(outlook, now, words.output, mark, duration_s(words.run_time))
    print(words.output)
    return 0


def _plan(words: argparse.Namespace) -> int:
    import signal

    from slurm_carbon import planfile
    from slurm_carbon.planning.planner import Planner, Progress
    from slurm_carbon.report import plan as reports
    from slurm_carbon.units import duration_s

    if words.plot:
        from slurm_carbon.report import plots

        plots.check(words.plot)
    limit_s = None if words.solver_time is None else duration_s(words.solver_time)
    problem = planfile.load(words.file)

    def watch(progress: Progress) -> None:
        gap = (progress.best_g / progress.bound_g - 1) * 100 if progress.bound_g > 0 else 0.0
        best = f"best {progress.best_g:.6g} g, at most {gap:.2f} % too much" if gap < float("inf") else "no plan yet"
        print(f"\r\x1b[K{progress.seconds:.0f} s, {progress.doing}: {best}", end="", file=sys.stderr, flush=True)

    planner = Planner(problem, limit_s, watch=watch if sys.stderr.isatty() else None)

    def end(_signal: int, _frame: object) -> None:
        planner.stop = True  # it ends with the best plan so far; a second time ends at once
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, end)
    try:
        outcome = planner.run()
    finally:
        signal.signal(signal.SIGINT, before)
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    others = reports.compared(problem)
    if words.plot:
        plots.plan_figure(problem, outcome, words.plot)
    if words.json:
        print(json.dumps(reports.as_json(problem, outcome, others), indent=1, allow_nan=False))
    else:
        print("\n".join(reports.table(problem, outcome, others)))
        if words.plot:
            print(words.plot)
    return 0 if outcome.complete else 1


def _config_show(words: argparse.Namespace) -> int:
    from slurm_carbon.config import config_path, load
    from slurm_carbon.config_text import render

    print(render(load(config_path(words.config))), end="")
    return 0


def _config_check(words: argparse.Namespace) -> int:
    from slurm_carbon import refresh
    from slurm_carbon.config import config_path, load
    from slurm_carbon.slurm.command import Runner

    path = config_path(words.config)
    config = load(path)
    outlook, problems = refresh.outlook(config, int(time.time()), Runner())
    for said in problems + refresh.incomparable(outlook.zones):
        print(f"slurm-carbon: {said}", file=sys.stderr)
    print(f"{path}: {len(config.sites)} clusters, {len(outlook.locations)} locations, {len(config.zones)} zones: "
          + ("see above" if problems else "good"))  # fmt: skip
    return 1 if problems else 0


def _config_init(words: argparse.Namespace) -> int:
    from slurm_carbon.config_text import render
    from slurm_carbon.propose import propose
    from slurm_carbon.slurm.command import Runner

    zones, confs = _pairs(words.zone), _pairs(words.slurm_conf)
    if "" in confs:
        raise ConfigError("--slurm-conf: write CLUSTER=FILE")
    if missing := [path for path in confs.values() if not os.path.isfile(path)]:
        raise ConfigError(f"--slurm-conf: {missing[0]} is no file")
    print(render(propose(Runner(), zones, confs, words.filesystem)), end="")
    return 0


def _pairs(items: list[str]) -> dict[str, str]:
    """`a=b` as {"a": "b"}, `b` alone as {"": "b"}."""
    return {name if equals else "": value if equals else name for name, equals, value in (i.partition("=") for i in items)}


if __name__ == "__main__":
    sys.exit(main())
