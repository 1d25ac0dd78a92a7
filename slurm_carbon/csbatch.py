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
    forget_folder,
    parse_command,
    parser_folder,
    read_parsed,
    site_conf,
    wants_stdin,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_carbon.model import Decision, Wishes
    from slurm_carbon.outlook import Outlook
    from slurm_carbon.own import Own


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
    from slurm_carbon.submission import allowed, command_line, decided, job_of, note_of, owner_of, recorded, wishes_of

    wishes, habits = wishes_of(given, parsed, now)
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
        job, owner = job_of(parsed), owner_of(outlook)
        wishes = allowed(wishes, job, owner, outlook)
        decision = decided(job, owner, parsed.cluster, options, script, wishes, outlook, now, sbatch, runner, places)
    except UsageError:
        raise
    except Error as error:
        if wishes.dry_run:
            say(f"error: {error}; nothing was submitted")
            return 1
        if wishes.off:
            return become_sbatch(options + script)
        return plainly(options + script, str(error))
    if outlook.hook:  # the word of this csbatch, for this submission: a job that inherits it has another number
        os.environ["SLURM_CARBON_DECIDED"] = os.environ.get("SLURM_JOB_ID", "0")
    note = note_of(decision, wishes, parsed, outlook)
    if note and not isinstance(note, str) and not wishes.dry_run:
        try:
            note = recorded(note, job, parsed, options, script, outlook, now, places)
        except (Error, OSError) as error:
            if wishes.verbose or wants_words():
                say(f"no record is kept, so it stays on its cluster from now on: {error}")
    argv = command_line(decision, sbatch or "sbatch", options, script, job, outlook, parsed.options.values(), note)
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
        from slurm_carbon import submission  # noqa: F401

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
