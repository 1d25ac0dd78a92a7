"""From the record of a submission to the sbatch command that submits it again elsewhere, or the reason why there is none.

What the record says is given to sbatch's own parser first: only if the job that comes out is free to move, and starts
exactly where, when and held as asked, whatever else options, variables and script say, is it submitted. All of this runs
as the owner; where it is root who has become him, sbatch loads no code of his all the same: see `loader`.
"""

import os
import stat
import time

from slurm_carbon import loader
from slurm_carbon.errors import Error
from slurm_carbon.kept import Kept
from slurm_carbon.light import NamedTuple
from slurm_carbon.slurm.command import Runner
from slurm_carbon.slurm.options import job_of_options
from slurm_carbon.slurm.sbatch import Parsed, forget_folder, parse_command, parser_folder, read_parsed, site_conf
from slurm_carbon.units import begin_flag

_MOST_PRINTED = 4 << 20  # options may be long, and are printed once more


class Resubmission(NamedTuple):
    """A job to be submitted anew from its record, where and when it is to run."""

    user: str
    uid: int
    mark_id: str  # of the record
    records: str  # folder of the records, with ~ and %u
    slurm_conf: str  # of the cluster; empty: by -M
    cluster: str
    partition: str
    begin_epoch_s: int
    comment: str
    held: bool


class RefusalError(Error):
    """Nothing is to be submitted, for this reason."""


class _Parser:
    """sbatch as the parser of the words of a record, in its environment, with the slurm.conf of the target."""

    def __init__(self, start: list[str], folder: str, kept: Kept, environment: dict[str, str]) -> None:
        self.start = start
        self.folder = folder
        self.stdin = kept.script if not kept.words or _descriptor_of(os.fsdecode(kept.words[0])) == 0 else None
        self.environment = environment

    def parse(self, *words: str) -> Parsed:
        """What sbatch makes of them, times in UTC. Raises RefusalError where it stops before that."""
        command = parse_command(self.start[0], [*self.start[1:], *words], self.folder, None)
        # the form in which it shows times is set by the environment, too
        command.environment = {**self.environment, **command.environment, "TZ": "UTC", "SLURM_TIME_FORMAT": "standard"}
        command.only_environment, command.stdin, command.most_bytes = True, self.stdin, _MOST_PRINTED
        done = Runner().run(command)
        parsed = read_parsed(done)
        if parsed is None:
            raise RefusalError(f"sbatch does not take what was submitted: {done.complaint[:300]}")
        return parsed


def command_of(
    request: Resubmission, kept: Kept, sbatch: str, home: str, for_another: bool
) -> tuple[list[str], dict[str, str]]:
    """The words and environment of sbatch, once its parser has been heard. Raises Error for what is not to be submitted."""
    conf = request.slurm_conf or site_conf(os.environ)
    if conf is None or not os.path.isabs(conf):
        raise RefusalError("no slurm.conf is known: name that of the cluster in the site's configuration")
    environment = dict(os.fsdecode(entry).split("=", 1) for entry in kept.environment)
    start = _start(sbatch, environment) if for_another else [sbatch]
    environment["SLURM_CONF"] = conf  # on its node, slurmd gives the job that of the node
    options = [os.fsdecode(word) for word in kept.options]
    lines = [line.split() for line in (kept.script or b"").splitlines() if line.startswith(b"#SBATCH")]
    if ":" in options or any(words[1:2] in ([b"hetjob"], [b"packjob"]) for words in lines):
        raise RefusalError("it is a heterogeneous job")
    folder = parser_folder(conf, {"HOME": home})
    try:
        parser = _Parser(start, folder, kept, environment)
        options, words, parsed = _with_script(parser, options, kept)
        if ("wrap" in parsed.options) == (kept.script is not None):
            raise RefusalError("it has not the script that the record has")
        _check_free(parsed, request, len(words))
        flags, expected = _ours(request)
        final = parser.parse(*options, *flags, "--", *words)
        if final.options != {**parsed.options, **expected} or final.trailing != len(words):
            raise RefusalError("its own options get in the way of those that move it")
    finally:
        forget_folder(folder)
    return [*start, *options, *flags, "--", *words], environment


def _start(sbatch: str, environment: dict[str, str]) -> list[str]:
    """The words that start sbatch without any code of the owner's in it. Raises RefusalError where there are none."""
    if name := loader.what_loads(environment, os.environ):
        raise RefusalError(f"{name} has it load what is not root's: it can be submitted anew only by its owner")
    ours = os.environ.get("LD_LIBRARY_PATH", "")
    if environment.get("LD_LIBRARY_PATH", "") == ours:
        return [sbatch]
    start = loader.start_of(sbatch, ours)
    if start is None:
        raise RefusalError(f"LD_LIBRARY_PATH is set, and {sbatch} is a script: it can be submitted anew only by its owner")
    return start


def _with_script(parser: _Parser, options: list[str], kept: Kept) -> tuple[list[str], list[str], Parsed]:
    """Options and words that submit the very script of the record, and what sbatch makes of them.

    A file that has changed since, or is gone, is handed over from memory, with the job's name beside it.
    """
    words = [os.fsdecode(word) for word in kept.words]
    if kept.script is None or not words:
        return options, words, parser.parse(*options, "--")
    if (number := _descriptor_of(words[0])) is not None:
        into_memory(kept.script, number)
        return options, words, parser.parse(*options, "--", *words)
    try:
        parsed = parser.parse(*options, "--", *words)
        if _is_still(parsed.script or "", kept.script):
            return options, words, parsed
    except RefusalError:
        pass  # by what follows it shows whether the lack of a script was all
    name = os.path.basename(words[0])
    words[0] = f"/proc/self/fd/{into_memory(kept.script)}"
    parsed = parser.parse(*options, "--", *words)
    if "job-name" not in parsed.options:
        options = [f"--job-name={name}", *options]
        parsed = parser.parse(*options, "--", *words)
    return options, words, parsed


def _check_free(parsed: Parsed, request: Resubmission, words: int) -> None:
    """Raise RefusalError for a job that its owner has not left free to move."""
    if request.slurm_conf and parsed.cluster != request.cluster:
        raise RefusalError(f"{request.slurm_conf} is of cluster {parsed.cluster}, not {request.cluster}")
    if parsed.trailing != words:
        raise RefusalError("its script is not where the record has it")
    try:
        job = job_of_options(parsed.options)
    except ValueError as error:
        raise RefusalError(f"an option of sbatch has a form that is not known here ({error})") from None
    if job.fixed or job.tied:
        raise RefusalError(job.fixed or job.tied)
    if job.clusters:
        raise RefusalError("its owner named the cluster")
    if "quiet" in parsed.options:
        raise RefusalError("--quiet was given: sbatch would not name the job")
    if "export-file" in parsed.options:
        raise RefusalError("--export-file was given")


def _ours(request: Resubmission) -> tuple[list[str], dict[str, str]]:
    """Our options, which stand behind the owner's, so that they count, and how sbatch shows them."""
    shown = {
        "parsable": "set",
        "begin": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(request.begin_epoch_s)),
        "partition": request.partition,
        "comment": request.comment,
    }
    flags = ["--parsable", f"--begin={begin_flag(request.begin_epoch_s)}", f"--partition={request.partition}",
             f"--comment={request.comment}"]  # fmt: skip
    if request.held:
        flags.append("--hold")
        shown["hold"] = "set"
    if not request.slurm_conf:
        flags.append(f"--clusters={request.cluster}")
        shown["clusters"] = request.cluster
    return flags, shown


# the script


def _descriptor_of(name: str) -> int | None:
    """The descriptor that a script came by, as from `csbatch <(generate)`: it comes by the same again."""
    folder, _, number = name.rpartition("/")
    if name == "/dev/stdin":
        return 0
    if folder not in ("/dev/fd", "/proc/self/fd"):
        return None
    if not (number.isascii() and number.isdigit() and len(number) < 4 and int(number) not in (1, 2)):
        raise RefusalError(f"its script came by {name}")
    return int(number)


def _is_still(path: str, script: bytes) -> bool:
    """Whether a file has this script."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and file.read(len(script) + 1) == script


def into_memory(data: bytes, number: int | None = None) -> int:
    """A descriptor, which sbatch inherits, of a file in memory."""
    memory = os.memfd_create("script", os.MFD_CLOEXEC)
    with open(memory, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(memory, 0, os.SEEK_SET)
    if number is None or number == memory:
        os.set_inheritable(memory, True)
        return memory
    os.dup2(memory, number)
    os.close(memory)
    return number
