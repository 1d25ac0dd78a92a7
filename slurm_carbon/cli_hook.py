"""`slurm-carbon hook`: install, uninstall, status, test. Thin: it finds out where things are, and prints."""

import argparse
import os
import sys
import time

from slurm_carbon.errors import CommandError, HookError, OutlookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_carbon.hook.install import Effect
    from slurm_carbon.hook.interpreter import Interpreter
    from slurm_carbon.slurm.sbatch import Parsed


def add_to(nouns: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The verbs of `slurm-carbon hook`."""
    hook = nouns.add_parser("hook", help="plain sbatch placed by Slurm itself: the submit hook of this cluster")
    verbs = hook.add_subparsers(required=True, metavar="install | uninstall | status | test")
    install = verbs.add_parser("install", help="put the hook into job_submit.lua and cli_filter.lua, beside the slurm.conf")
    uninstall = verbs.add_parser("uninstall", help="take it out again")
    status = verbs.add_parser("status", help="what runs where, the age of the outlook it sees, the decisions of the last hour")
    status.set_defaults(run=_status)
    test = verbs.add_parser("test", help="what the hook would do with a job, by the installed script in Slurm's own Lua")
    for verb in (install, uninstall, status, test):
        verb.add_argument("--slurm-conf", metavar="FILE", help="the slurm.conf (default: that of Slurm's commands)")
    for verb, run in ((install, _install), (uninstall, _uninstall)):
        verb.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
        verb.set_defaults(run=run)
    install.add_argument("--no-cli-filter", action="store_true", help="job_submit.lua only; see slurm_carbon_hook(7)")
    install.add_argument("--slurm-user", metavar="NAME", help="who slurmctld runs as (default: what slurm.conf says, or slurm)")
    test.add_argument("--user", metavar="NAME", help="who submits (default: you)")
    test.add_argument("sbatch", nargs="...", metavar="-- OPTIONS SCRIPT", help="as you would give them to sbatch")
    test.set_defaults(run=_test)


def _conf(words: argparse.Namespace) -> str:
    from slurm_carbon.slurm.sbatch import site_conf

    found = words.slurm_conf or site_conf(os.environ)
    if not found or not os.path.isfile(found):
        raise HookError(f"no slurm.conf {found or 'is known'}: say --slurm-conf FILE")
    if words.slurm_conf:
        os.environ["SLURM_CONF"] = os.path.abspath(found)  # for Slurm's commands
    return os.path.abspath(found)


def _outlook_folder(words: argparse.Namespace) -> str:
    from slurm_carbon.config import outlook_path
    from slurm_carbon.luaform import folder_of

    return folder_of(outlook_path(words.config))


def _settings(conf: str) -> dict[str, str]:
    from slurm_carbon.slurm.conf import settings_of

    return settings_of(conf)


def _interpreter(conf: str) -> "Interpreter":
    """Lua as the Slurm of a slurm.conf has it."""
    from slurm_carbon.hook.interpreter import Interpreter, library_of

    return Interpreter(library_of(_settings(conf).get("plugindir", "").split(":")[0]))


def _install(words: argparse.Namespace) -> int:
    import pwd

    from slurm_carbon.hook import install

    conf, folder = _conf(words), _outlook_folder(words)
    settings = _settings(conf)
    user = words.slurm_user or settings.get("slurmuser", "slurm").partition("(")[0]
    try:
        gid = pwd.getpwnam(user).pw_gid
    except KeyError:
        raise HookError(f"no user {user!r} here: say --slurm-user NAME, as whom slurmctld runs") from None
    scripts = ("job_submit.lua",) if words.no_cli_filter else tuple(install.SCRIPTS)
    effects = install.installing(os.path.dirname(conf), scripts, folder, gid, _interpreter(conf).problem)
    code = _carry_out(effects, words.dry_run)
    wanted = {"job_submit.lua": ("JobSubmitPlugins", "lua", ", then restart slurmctld"),
              "cli_filter.lua": ("CliFilterPlugins", "cli_filter/lua", "")}  # fmt: skip
    for name in scripts:
        key, plugin, then = wanted[name]
        others = settings.get(key.lower(), "")
        if "lua" not in others:
            print(f"next: {key}={others + ',' if others else ''}{plugin} in {conf}{then}")
    if not os.path.exists(os.path.join(folder, "outlook.lua")):
        print("next: `slurm-carbon outlook refresh`, which also publishes for the hook from now on")
    return code


def _uninstall(words: argparse.Namespace) -> int:
    from slurm_carbon.hook import install

    conf = _conf(words)
    effects = install.uninstalling(os.path.dirname(conf), _interpreter(conf).problem)
    if not effects:
        print(f"{os.path.dirname(conf)}: no hook of slurm-carbon")
    code = _carry_out(effects, words.dry_run)
    if effects:
        print("left: the scripts, as the site wrote them or accepting everything, because slurm.conf may still want them; and")
        print("      the folder `hook` beside the outlook, which other clusters may read: remove it when none does any more")
    return code


def _carry_out(effects: "list[Effect]", dry_run: bool) -> int:
    from slurm_carbon.hook import install

    if not dry_run:
        install.carry_out(effects)
    for effect in effects:
        print(("would be: " if dry_run else "") + effect.why)
    return 0


def _status(words: argparse.Namespace) -> int:
    from slurm_carbon.config import config_path, load
    from slurm_carbon.hook import records
    from slurm_carbon.slurm.command import Runner
    from slurm_carbon.units import duration_text

    config, now, code = load(config_path(words.config)), int(time.time()), 0
    for line, good in _here(words):
        print(line)
        code = code if good else 1
    for site in config.sites:
        try:
            newest, outcomes = records.summary(records.read(Runner(), site.name, site.slurm_conf, now), now - 3600)
        except CommandError as error:
            print(f"slurm-carbon: {error}", file=sys.stderr)
            code = 1
            continue
        if newest is None:
            print(f"{site.name}: no job with a record of the hook")
            continue
        ago = duration_text(now - newest.decided_epoch_s)
        age = duration_text(newest.decided_epoch_s - newest.outlook_epoch_s)
        print(f"{site.name}: {newest.version}, {newest.mode}; last decision {ago} ago, by an outlook that was {age} old")
        for outcome, count in outcomes:
            print(f"  {count:6}  {outcome}")
        if not outcomes:
            print("  nothing in the last hour")
    return code


def _here(words: argparse.Namespace) -> "list[tuple[str, bool]]":
    """Of this machine: each script, whether it is wired and whether Slurm's Lua takes it; the hook's outlook and its age."""
    from slurm_carbon.hook import install, trial
    from slurm_carbon.units import duration_text

    rows: list[tuple[str, bool]] = []
    try:
        conf = _conf(words)
    except HookError as error:
        return [(str(error), True)]
    interpreter, settings = _interpreter(conf), _settings(conf)
    for name, key in (("job_submit.lua", "jobsubmitplugins"), ("cli_filter.lua", "clifilterplugins")):
        path = os.path.join(os.path.dirname(conf), name)
        text = install.read(path)
        wired = install.is_in(text)
        said = interpreter.problem(text, name) if text is not None else ""
        active = "lua" in settings.get(key, "")
        what = "no hook" if not wired else "the hook" if active else f"the hook, but {conf} does not use it"
        rows.append((f"{path}: {what}" + (f"; broken: {said}" if said else ""), not said and (active or not wired)))
    path = os.path.join(_outlook_folder(words), "outlook.lua")
    if os.path.exists(path):
        age_s, said = trial.outlook_age(interpreter, path)
        rows.append((f"{path}: {said or duration_text(age_s) + ' old'}", not said))
    else:
        rows.append((f"{path}: not published: `slurm-carbon hook install` and `outlook refresh` see to that", False))
    if os.path.exists(os.path.join(_outlook_folder(words), "stop")):
        rows.append((f"{os.path.join(_outlook_folder(words), 'stop')}: is there, and stops the hook", False))
    return rows


def _test(words: argparse.Namespace) -> int:
    import pwd

    from slurm_carbon import outlook as outlooks
    from slurm_carbon.config import outlook_path
    from slurm_carbon.hook import install, trial
    from slurm_carbon.slurm.options import job_of_options
    from slurm_carbon.units import time_text

    conf, now = _conf(words), int(time.time())
    given = words.sbatch[1:] if words.sbatch[:1] == ["--"] else words.sbatch
    parsed = _parse(given, conf)
    script = f"#!/bin/sh\n{parsed.options.get('wrap', '')}\n"
    if "wrap" not in parsed.options:
        script = install.read(parsed.script or "") or ""
    try:
        entry = pwd.getpwnam(words.user) if words.user else pwd.getpwuid(os.getuid())
    except KeyError:
        raise HookError(f"no user {words.user!r} here") from None
    path = os.path.join(os.path.dirname(conf), "job_submit.lua")
    if not install.is_in(install.read(path)):
        raise HookError(f"{path}: no hook in it; `slurm-carbon hook install` puts it there")
    environment = {name: value for name, value in os.environ.items() if name.startswith(("CSBATCH_", "SLURM_JOB_ID"))}
    described = trial.description(
        parsed.options, job_of_options(parsed.options), script, environment, (entry.pw_name, entry.pw_uid, entry.pw_gid), now
    )
    interpreter = _interpreter(conf)
    try:
        outlook = outlooks.read(outlook_path(words.config), now)
        partitions = trial.open_partitions(p for p in outlook.partitions.values() if p.cluster == parsed.cluster)
    except OutlookError:
        partitions = {}  # the hook will say what is wrong with its own
    found = trial.run(interpreter, path, parsed.cluster, partitions, described)
    print(f"{path}, by {interpreter.library}: " + ("accepted" if found.code in ("0", "nil") else f"refused, {found.code}"))
    for text in found.told_user:
        print(f"the user is told: {text}")
    for text in found.logged:
        print(f"the log says: {text}")
    for name, value in sorted(found.changed.items()):
        print(f"{name} = {value}" + (f" ({time_text(int(value))})" if name == "begin_time" else ""))
    if not found.changed:
        print("nothing is changed")
    return 0 if found.code in ("0", "nil") else 1


def _parse(given: list[str], conf: str) -> "Parsed":
    from slurm_carbon.errors import UsageError
    from slurm_carbon.launch import find_sbatch
    from slurm_carbon.slurm import sbatch
    from slurm_carbon.slurm.command import Runner

    program = find_sbatch()
    if program is None:
        raise HookError("no sbatch on PATH to read these options with")
    folder = sbatch.parser_folder(conf, os.environ)
    try:
        done = Runner().run(sbatch.parse_command(program, given, folder, None))
    finally:
        sbatch.forget_folder(folder)
    parsed = sbatch.read_parsed(done)
    if parsed is None:
        raise UsageError(f"sbatch: {done.complaint}")
    return parsed
