"""What is submitted: the owner's wishes, the decision on the job, and the sbatch command that carries it out.

csbatch imports this while sbatch parses.
"""

import os

from slurm_carbon import kept, marks
from slurm_carbon.decide import decide
from slurm_carbon.errors import CommandError, Error, RecordError
from slurm_carbon.launch import say, wants_words
from slurm_carbon.model import Decision, Job, Owner, Wishes
from slurm_carbon.outlook import Outlook
from slurm_carbon.policy import may_opt_out
from slurm_carbon.slurm import script as script_text
from slurm_carbon.slurm.command import Runner
from slurm_carbon.slurm.options import job_of_options
from slurm_carbon.slurm.sbatch import Parsed, check
from slurm_carbon.units import begin_flag
from slurm_carbon.wishes import merged, of_environment, of_options, of_script, of_user_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_carbon.marks import Mark
    from slurm_carbon.own import Given

CHECK_TIMEOUT_S = 5.0
CHECKS = 3


def wishes_of(given: "Given", parsed: Parsed, now: int) -> tuple[Wishes, Wishes]:
    """All that the owner asks of us, and what of it his own file says.

    Raises UsageError; a mistake in his file is said, and the file passed over.
    """
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


def job_of(parsed: Parsed) -> Job:
    """The job that sbatch understood. Raises CommandError where a value has an unknown form."""
    try:
        return job_of_options(parsed.options)
    except ValueError as error:
        raise CommandError(f"an option of sbatch has a form that is not known here ({error})") from None


def allowed(wishes: Wishes, job: Job, owner: Owner, outlook: Outlook) -> Wishes:
    """The wishes, as far as the site lets him have them."""
    if not wishes.off or may_opt_out(outlook.policy, owner, job.account):
        return wishes
    say("the site does not let you opt out: --carbon-off has no effect")
    return wishes._replace(off=None)


def decided(
    job: Job, owner: Owner, home_cluster: str, options: list[str], script: list[str], wishes: Wishes, outlook: Outlook,
    now: int, sbatch: str | None, runner: Runner, places: dict[int, int],
) -> Decision:  # fmt: skip
    """What to do with the job, checked with the controller of the place it would go to."""
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


def owner_of(outlook: Outlook) -> Owner:
    """Who submits, asked of the system only as far as some rule depends on it."""
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
    decision: Decision, job: Job, outlook: Outlook, sbatch: str, options: list[str], script: list[str],
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


def _place_flags(decision: Decision, job: Job, outlook: Outlook) -> list[str]:
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
    decision: Decision,
    sbatch: str,
    options: list[str],
    script: list[str],
    job: Job,
    outlook: Outlook,
    values: "Iterable[str]" = (),
    note: "Mark | str | None" = None,
) -> list[str]:
    """The sbatch command that carries a decision out, with a note in the comment behind his text.

    Our flags stand before the user's, so that his own count; only the comment, which has his text in it, comes after.
    """
    front = [f"--begin={begin_flag(decision.chosen.start_epoch_s)}"] if decision.chosen and decision.delay_s > 0 else []
    front += _place_flags(decision, job, outlook)
    comment = marks.append(job.comment, note) if note else None
    if comment and job.comment is None:
        front.append(f"--comment={comment}")
    elif comment:
        last = len(options) - ends_in_terminator(options, *values)
        options = [*options[:last], f"--comment={comment}", *options[last:]]
    return [sbatch, *front, *options, *script]


def note_of(decision: Decision, wishes: Wishes, parsed: Parsed, outlook: Outlook) -> "Mark | str | None":
    """What is to be read in the job's comment of this decision, or of its owner's word to leave it alone."""
    if outlook.reoptimize and wishes.off and "het-job" not in parsed.options:
        return marks.OFF
    return marks.of_decision(decision, outlook)


def ends_in_terminator(options: list[str], *values: str) -> bool:
    """Whether the last word is the `--` before a script: behind it, an option of ours would be the script.

    It can also be the value of the option before it, as in `-J --`, if some option has that value.
    """
    return options[-1:] == ["--"] and options.count("--") > values.count("--")


# the record


def recorded(
    mark: "Mark", job: Job, parsed: Parsed, options: list[str], script: list[str], outlook: Outlook, now: int,
    places: dict[int, int],
) -> "Mark":  # fmt: skip
    """The mark with the id of the record that is now kept; without one where none is of use.

    It is of use to a job that may run on several clusters. Raises RecordError where it cannot be kept.
    """
    folder = outlook.reoptimize.get("records", "")
    clusters = {name.partition("/")[0] for name in (mark.location, *mark.locations)}
    if not folder or len(clusters) == 1:
        return mark
    for name in ("export-file", "quiet"):  # of the second, its copy would have no number that anybody is told
        if name in parsed.options:
            raise RecordError(f"--{name} was given")
    marked = mark._replace(id=kept.new_id())
    if not (marks.append(job.comment, marked) or "").endswith(marks.write(marked)):
        raise RecordError("its comment has no room for all of the mark")
    path = kept.path_of(folder, os.geteuid(), marked.id)
    last = len(options) - ends_in_terminator(options, *parsed.options.values())
    submission = kept.of_this(
        marked.id, parsed.cluster, now, options[:last], script, script_text.whole(parsed, places, kept.MAX_BYTES + 1)
    )
    kept.write(path, submission, now)
    return marked
