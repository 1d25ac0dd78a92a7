"""csbatch: sbatch, at a cleaner hour and place.

sbatch parses, we decide, sbatch submits: this process becomes it, so its output, exit code, --wait and signals are its
own. Nothing here submits, so nothing is submitted twice; whatever fails here ends in a plain submission.
"""

import os
import sys
import time

from slurm_carbon.errors import CommandError, Error, OutlookError, UsageError
from slurm_carbon.launch import (
    OWN_PREFIX,
    become_sbatch,
    find_sbatch,
    nothing_to_submit,
    plainly,
    say,
    wants_words,
    without_own,
)
from slurm_carbon.slurm import script as script_text
from slurm_carbon.slurm.command import Runner
from slurm_carbon.slurm.sbatch import (
    Parsed,
    check,
    forget_folder,
    parse_command,
    parser_folder,
    read_parsed,
    site_conf,
    wants_stdin,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_carbon.model import Decision, Job, Owner, Wishes
    from slurm_carbon.outlook import Outlook
    from slurm_carbon.own import Given, Own

CHECK_TIMEOUT_S = 5.0
CHECKS = 3


def main(words: list[str]) -> int:
    """Submit, or say what would be submitted. Returns an exit code, if it returns at all."""
    try:
        return _submit(words, Runner())
    except UsageError as error:
        say(f"error: {error}")
        return 255
    except Error as error:
        if nothing_to_submit(words):
            say(f"error: {error}; nothing was submitted")
            return 1
        return plainly(without_own(words), str(error))


def _submit(words: list[str], runner: Runner) -> int:
    now = int(time.time())
    sbatch, conf = find_sbatch(), site_conf(os.environ)
    if sbatch is None or conf is None:  # no Slurm here: we can still say what we would do
        if not nothing_to_submit(words):
            raise CommandError("no sbatch on PATH" if sbatch is None else "no slurm.conf is known: set SLURM_CONF")
        sbatch = None
    places: dict[int, int] = {}
    own, parsed, outlook, complaint = _understand(words, sbatch, conf, runner, now, places)
    options, script, given = own.split_at_script(parsed.trailing if parsed else 0)
    if any(name == "help" for name, _ in given):
        from slurm_carbon.narrate import HELP

        sys.stdout.write(HELP)
        return 0
    if parsed is None:  # --help, or a mistake: sbatch says so itself
        if nothing_to_submit(words):
            say(f"error: {complaint}; nothing was submitted")
            return 1
        return become_sbatch(without_own(words))

    if ":" in options:
        parsed.options["het-job"] = "set"
    wishes, habits = _wishes(given, parsed, now)
    if wishes.dry_run or wants_words():
        from slurm_carbon.wishes import unknown_variables

        passed_over = unknown_variables(os.environ)
        if late := next((word for word in script[1:] if word.startswith(OWN_PREFIX)), None):
            passed_over.append(f"{late} stands behind the script and is an argument of it")
        for problem in passed_over:
            say(f"passed over: {problem}")
    try:
        if isinstance(outlook, Error):
            raise outlook
        if wishes.locations is not None and wishes.locations is habits.locations:
            from slurm_carbon.decide import unknown_location

            if problem := unknown_location(habits, outlook):
                wishes = wishes._replace(locations=None)
                if wishes.dry_run or wants_words():
                    say(f"passed over: locations in your config.toml: {problem}")
        job = _job(parsed)
        decision = _decision(job, parsed.cluster, options, script, wishes, outlook, now, sbatch, runner, places)
    except UsageError:
        raise
    except Error as error:
        if wishes.dry_run:
            say(f"error: {error}; nothing was submitted")
            return 1
        if wishes.off:
            return become_sbatch(options + script)
        return plainly(options + script, str(error))
    values = parsed.options.values()
    argv = command_line(decision, sbatch or "sbatch", options, script, job, outlook, values)
    return _carry_out(decision, argv, wishes, outlook, now)


# understanding


def _understand(
    words: list[str], sbatch: str | None, conf: str | None, runner: Runner, now: int, places: dict[int, int]
) -> "tuple[Own, Parsed | None, Outlook | Error, str]":
    """Our options apart, what sbatch understood of the rest, the outlook, and sbatch's complaint if it stopped early.

    Adds to `places` the descriptors that have to be rewound for each further reader: see script.keep_readable.

    sbatch parses while we import and read: the order of these lines is a quarter of the time that a submission takes.
    """
    from slurm_carbon.own import Own

    own = Own(words)
    if sbatch is None or conf is None:
        from slurm_carbon.slurm import offline

        outlook = _outlook(now)
        home = next(iter(outlook.clusters), "") if not isinstance(outlook, Error) else ""
        return own, offline.parse(own.words, home), outlook, ""
    places |= script_text.keep_readable(own.words)
    folder = parser_folder(conf, os.environ)
    try:
        parsing = runner.start(parse_command(sbatch, own.words, folder, 0 if 0 in places else None))
        # now is the time for imports: the other processor is at work
        from slurm_carbon import decide, marks, wishes  # noqa: F401
        from slurm_carbon.slurm import options  # noqa: F401

        outlook = _outlook(now)
        if own.taken or wants_words():
            from slurm_carbon import narrate  # noqa: F401
        done = parsing.wait()
        script_text.rewind(places)
        parsed = read_parsed(done)
        if parsed is None and 0 not in places and wants_stdin(done):
            from slurm_carbon.wishes import of_options

            given = own.split_at_script(0)[2]
            of_options(given, now)  # a mistake in them has to show before we wait for stdin
            if not any(name == "help" for name, _ in given):
                script_text.stdin_to_memory()
                places[0] = 0
                done = runner.run(parse_command(sbatch, own.words, folder, 0))
                parsed = read_parsed(done)
                script_text.rewind(places)
    finally:
        forget_folder(folder)
    return own, parsed, outlook, done.complaint


def _outlook(now: int) -> "Outlook | Error":
    """The published outlook; else one made here, if the site allows that; else why there is none."""
    from slurm_carbon import outlook as outlooks

    path = os.environ.get("SLURM_CARBON_OUTLOOK", "")
    config_path = os.environ.get("SLURM_CARBON_CONFIG", "")
    try:
        if path or (not config_path and os.path.exists("/var/lib/slurm_carbon/outlook.json")):
            return outlooks.read(path or "/var/lib/slurm_carbon/outlook.json", now)
    except OutlookError as error:
        problem: Error = error
    else:
        problem = OutlookError("no outlook is published yet")
    from slurm_carbon import config as configs

    try:
        config = configs.load(config_path or configs.SITE_FILE)
        if not path:
            try:
                return outlooks.read(config.outlook.file, now)
            except OutlookError as error:
                problem = error
        if config.outlook.fallback == "none":
            return problem
        from slurm_carbon import publish

        return publish.on_climatology(config, now, Runner())
    except Error as error:
        return problem if path else error


def _wishes(given: "Given", parsed: Parsed, now: int) -> "tuple[Wishes, Wishes]":
    """All that the owner asks of us, and what of it his own file says.

    Raises UsageError; a mistake in his file is said, and the file passed over.
    """
    from slurm_carbon.model import Wishes
    from slurm_carbon.wishes import merged, of_environment, of_options, of_script, of_user_file

    in_script, heterogeneous = of_script(script_text.lines(parsed), now)
    if heterogeneous:
        parsed.options["het-job"] = "set"
    wishes, habits = merged(of_options(given, now), of_environment(os.environ, now), in_script), Wishes()
    try:
        habits = of_user_file(os.environ, now)
    except Error as error:
        if wishes.dry_run or wants_words():
            say(f"passed over: {error}")
    return merged(wishes, habits), habits


# deciding


def _job(parsed: Parsed) -> "Job":
    from slurm_carbon.slurm.options import job_of_options

    try:
        return job_of_options(parsed.options)
    except ValueError as error:
        raise CommandError(f"an option of sbatch has a form that is not known here ({error})") from None


def _decision(
    job: "Job", home_cluster: str, options: list[str], script: list[str], wishes: "Wishes", outlook: "Outlook", now: int,
    sbatch: str | None, runner: Runner, places: dict[int, int],
) -> "Decision":  # fmt: skip
    """What to do with the job, checked with the controller of the place it would go to."""
    from slurm_carbon.decide import decide
    from slurm_carbon.policy import may_opt_out

    owner = _owner(outlook)
    if wishes.off and not may_opt_out(outlook.policy, owner, job.account):
        say("the site does not let you opt out: --carbon-off has no effect")
        wishes = wishes._replace(off=None)
    ruled_out: dict[str, str] = {}
    for _ in range(CHECKS):
        decision = decide(job, owner, wishes, outlook, home_cluster, now, ruled_out)
        refusal = _refusal(decision, job, outlook, sbatch, options, script, runner, places) if sbatch else None
        if not refusal or decision.chosen is None:
            return decision
        there = decision.chosen.location
        for location in outlook.locations:
            if location == there or (refusal[1] and location.cluster == there.cluster):
                ruled_out[location.name] = refusal[0]
    home = decision.baseline.location if decision.baseline else None
    for location in outlook.locations:
        if location != home:
            ruled_out.setdefault(location.name, "not asked after several refusals elsewhere")
    return decide(job, owner, wishes, outlook, home_cluster, now, ruled_out)


def _owner(outlook: "Outlook") -> "Owner":
    """Who submits, asked of the system only as far as some rule depends on it."""
    from slurm_carbon.model import Owner

    groups: frozenset[str] = frozenset()
    if any(p.allow_groups is not None for p in outlook.partitions.values()):
        import grp

        groups = frozenset(grp.getgrgid(gid).gr_name for gid in {os.getegid(), *os.getgroups()} if _has_group(gid))
    name = ""
    if outlook.policy.left_alone or outlook.policy.opt_out != ("everyone",) or groups:
        import pwd

        name = pwd.getpwuid(os.geteuid()).pw_name
    return Owner(name, groups, os.geteuid() == 0)


def _has_group(gid: int) -> bool:
    import grp

    try:
        grp.getgrgid(gid)
    except KeyError:
        return False
    return True


def _refusal(
    decision: "Decision", job: "Job", outlook: "Outlook", sbatch: str, options: list[str], script: list[str],
    runner: Runner, places: dict[int, int],
) -> tuple[str, bool] | None:  # fmt: skip
    """Why the chosen place would not take the job, and whether that speaks against its whole cluster.

    Only another place is asked: where plain sbatch would send the job, a later start changes nothing.
    """
    chosen, baseline = decision.chosen, decision.baseline
    if chosen is None or baseline is None or chosen.location == baseline.location:
        return None
    cluster = outlook.clusters[chosen.location.cluster]
    elsewhere = chosen.location.cluster != baseline.location.cluster
    if elsewhere and cluster.controllers and not _answers(cluster.controllers):
        return f"the controller of {cluster.name} does not answer", True
    flags = _place_flags(decision, job, outlook)
    said = check(runner, sbatch, [*flags, *options, *script], 0 if 0 in places else None, CHECK_TIMEOUT_S)
    script_text.rewind(places)
    return (f"Slurm there says: {said}", elsewhere) if said else None


def _answers(controllers: tuple[tuple[str, int], ...]) -> bool:
    import socket

    for host, port in controllers:
        try:
            with socket.create_connection((host, port), timeout=1.0):
                return True
        except OSError:
            continue
    return False


# carrying out


def _place_flags(decision: "Decision", job: "Job", outlook: "Outlook") -> list[str]:
    """-M and -p, where the place is not the one that sbatch would take by itself."""
    chosen, baseline = decision.chosen, decision.baseline
    if chosen is None or baseline is None or chosen.location == baseline.location:
        return []
    where, flags = chosen.location, []
    if where.cluster != baseline.location.cluster:
        flags += ["-M", where.cluster]
    partition = outlook.partitions[where.cluster, where.partition]
    if not job.partitions and (where.cluster == baseline.location.cluster or not partition.is_default):
        flags += ["-p", where.partition]
    return flags


def command_line(
    decision: "Decision",
    sbatch: str,
    options: list[str],
    script: list[str],
    job: "Job",
    outlook: "Outlook",
    values: "Iterable[str]" = (),
) -> list[str]:
    """The sbatch command that carries a decision out.

    Our flags stand before the user's, so that his own count; only the comment, which has his text in it, comes after.
    """
    from slurm_carbon import marks
    from slurm_carbon.units import begin_flag

    if decision.chosen is None:
        return [sbatch, *options, *script]
    front = [f"--begin={begin_flag(decision.chosen.start_epoch_s)}"] if decision.delay_s > 0 else []
    front += _place_flags(decision, job, outlook)
    comment = marks.append(job.comment, marks.of_decision(decision))
    if comment and job.comment is None:
        front.append(f"--comment={comment}")
    elif comment:
        last = len(options) - ends_in_terminator(options, *values)
        options = [*options[:last], f"--comment={comment}", *options[last:]]
    return [sbatch, *front, *options, *script]


def ends_in_terminator(options: list[str], *values: str) -> bool:
    """Whether the last word is the `--` before a script: behind it, an option of ours would be the script.

    It can also be the value of the option before it, as in `-J --`, if some option has that value.
    """
    return options[-1:] == ["--"] and options.count("--") > values.count("--")


def _carry_out(decision: "Decision", argv: list[str], wishes: "Wishes", outlook: "Outlook", now: int) -> int:
    said = wishes.verbose or wishes.explain or wants_words()
    if not said and not wishes.dry_run:
        return become_sbatch(argv[1:])
    from slurm_carbon import narrate

    lines = [narrate.line(decision, outlook)]
    if wishes.verbose or wishes.dry_run:
        lines += narrate.details(decision, outlook, now)
    if wishes.explain:
        lines += narrate.table(decision, outlook)
    if wishes.dry_run:
        from slurm_carbon.light import shell_words

        sys.stdout.write("\n".join([*lines, shell_words(argv)]) + "\n")
        return 0
    for line in lines:
        say(line)
    return become_sbatch(argv[1:])
