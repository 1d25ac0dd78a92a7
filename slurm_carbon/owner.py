"""The process that submits a job again as its owner: `python -I -m slurm_carbon.owner`, with a request on stdin.

It becomes the owner before it touches anything of his, for good, and from then on can do nothing that he could not do;
then it becomes the sbatch of the job that `resubmit` makes of his record. It has a time limit that outlives it: an orphan
cannot submit an hour later. Exit code 70 says that certainly nothing was submitted; after any other but 0, or where the
Runner raises a CommandError, that is not known.
"""

import json
import os
import pwd
import resource
import signal
import sys
import tempfile  # noqa: F401  # what is loaded later would be loaded as the owner, who may not be able to read it

from slurm_carbon import kept as records
from slurm_carbon.errors import CommandError, Error
from slurm_carbon.kept import Kept
from slurm_carbon.launch import find_sbatch
from slurm_carbon.light import NamedTuple
from slurm_carbon.resubmit import RefusalError, command_of, into_memory
from slurm_carbon.resubmit import Resubmission as Resubmission
from slurm_carbon.slurm.command import Command, Completed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

NOTHING_SUBMITTED = 70
LIMIT_S = 25  # for this process, sbatch included
_MOST_BYTES = 1 << 16  # of a request
_MOST_SAID = 1 << 20
_GRACE_S = 5
# What of the caller's environment this process gets: how to find Slurm, libraries and users. None of it reaches the job.
_HANDED_ON = ("PATH", "SLURM_CONF", "CSBATCH_SBATCH")
_HANDED_ON_FOR_THE_LOADER = ("LD_", "NSS_", "FAKETIME")
_PATH = "/usr/local/bin:/usr/bin:/bin"
# sbatch's last words when the controller has answered, and the answer was no
_REFUSED = b"error: Batch job submission failed: "
_REFUSALS = (
    b"Access/permission denied",
    b"Invalid --nice value",
    b"Invalid account or account/partition combination specified",
    b"Invalid feature specification",
    b"Invalid generic resource (gres) specification",
    b"Invalid job array specification",
    b"Invalid license specification",
    b"Invalid partition name specified",
    b"Invalid qos specification",
    b"Invalid wckey specification",
    b"Job violates accounting/QOS policy",
    b"Memory required by task is not available",
    b"Memory specification can not be satisfied",
    b"More processors requested than permitted",
    b"Node count specification invalid",
    b"Requested node configuration is not available",
    b"Requested partition configuration not available now",
    b"Requested time limit is invalid",
    b"Required partition not available",
    b"User's group not permitted to use this partition",
)


class Answer(NamedTuple):
    """What came of it. Without a job id, `certain` says whether nothing was submitted for sure."""

    job_id: int | None
    certain: bool
    said: str


def resubmit_command(request: Resubmission, as_uid: int, limit_s: int = LIMIT_S) -> Command:
    """The call that carries a request out, for a caller who is root or the owner himself. Raises CommandError."""
    if as_uid not in (0, request.uid):
        raise CommandError(f"a job of {request.user} can be submitted by himself and by root, not by user {as_uid}")
    handed_on = {
        name: value for name, value in os.environ.items() if name in _HANDED_ON or name.startswith(_HANDED_ON_FOR_THE_LOADER)
    }
    return Command(
        [sys.executable, "-I", "-m", "slurm_carbon.owner"],
        f"submit job of {request.user} anew on {request.cluster}/{request.partition}",
        environment={"PATH": _PATH, **handed_on},
        only_environment=True,
        stdin=json.dumps({**request._asdict(), "limit_s": limit_s}).encode(),
        new_session=True,
        most_bytes=_MOST_SAID,
        timeout_s=limit_s + _GRACE_S,
    )


def read_answer(done: Completed) -> Answer:
    """What a resubmission came to."""
    said = "".join(c if c.isprintable() else "?" for c in done.complaint[:500])
    if done.exit_code == 0:
        number, _, _ = done.stdout.removesuffix(b"\n").partition(b";")
        whole = number.isdigit() and len(number) <= 10 and b"\n" not in done.stdout[:-1]
        return Answer(int(number), True, "") if whole and int(number) else Answer(None, False, "sbatch named no job")
    if done.exit_code == NOTHING_SUBMITTED:
        return Answer(None, True, said)
    _, refused, why = done.stderr.rstrip(b"\n").rpartition(_REFUSED)
    return Answer(None, done.exit_code == 1 and bool(refused) and why.startswith(_REFUSALS), said)


# in the process


def main() -> int:
    """Carry out the request on stdin: this process ends as sbatch, or with NOTHING_SUBMITTED."""
    try:
        _submit()
    except Exception as error:  # noqa: BLE001  # whatever it is: sbatch has not run
        why = str(error) if isinstance(error, Error) else f"{type(error).__name__}: {error}"
        os.write(2, f"nothing was submitted: {why}\n".encode("utf-8", "backslashreplace"))
    return NOTHING_SUBMITTED


def _submit() -> "NoReturn":
    request, limit_s = _read_request()
    signal.alarm(limit_s)
    _leave_all_behind()
    person, for_another = _person(request.user, request.uid), os.geteuid() != request.uid
    if os.geteuid() == 0:
        _become(person)
    if os.getuid() != request.uid or os.geteuid() != request.uid:
        raise RefusalError(f"this process is user {os.geteuid()}, and not {request.user}")
    sbatch = find_sbatch()
    if sbatch is None or not os.path.isabs(sbatch):
        raise RefusalError("no sbatch on PATH")
    kept = records.read(records.path_of(request.records, request.uid, request.mark_id), request.uid)
    if kept.gid != os.getgid():
        raise RefusalError(f"it was submitted as group {kept.gid}, and {request.user} is of group {os.getgid()}")
    os.chdir(kept.directory)
    argv, environment = command_of(request, kept, sbatch, person.pw_dir, for_another)
    _become_sbatch(argv, environment, kept)


def _read_request() -> tuple[Resubmission, int]:
    data = b""
    while len(data) <= _MOST_BYTES and (chunk := os.read(0, _MOST_BYTES)):
        data += chunk
    raw = json.loads(data)
    limit_s = raw.pop("limit_s")
    request = Resubmission(**raw)
    numbers, texts = (request.uid, request.begin_epoch_s, limit_s), [x for x in request if isinstance(x, str)]
    if not all(type(n) is int and 0 <= n < 1 << 40 for n in numbers) or len(texts) != 7 or type(request.held) is not bool:
        raise RefusalError("the request is broken")
    if not request.partition or not request.cluster or (request.slurm_conf and not os.path.isabs(request.slurm_conf)):
        raise RefusalError("the request names no place")
    return request, max(1, limit_s)


def _leave_all_behind() -> None:
    """Keep nothing that was inherited: descriptors, the terminal, ignored or blocked signals, the folder, niceness."""
    os.closerange(3, 1 << 20)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if os.getsid(0) != os.getpid():
        os.setsid()  # who cannot leave the session could be made to type into its terminal, and ends here
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o077)
    os.chdir("/")
    if os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def _person(user: str, uid: int) -> pwd.struct_passwd:
    try:
        person = pwd.getpwuid(uid)
    except KeyError:
        raise RefusalError(f"there is no user {uid}") from None
    if person.pw_name != user:
        raise RefusalError(f"user {uid} is {person.pw_name}, not {user}")
    return person


def _become(person: pwd.struct_passwd) -> None:
    """Stop being root, with no way back."""
    uid, gid = person.pw_uid, person.pw_gid
    os.initgroups(person.pw_name, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise RefusalError(f"this process cannot become {person.pw_name}")
    if uid == 0:
        return
    with open("/proc/self/status", encoding="utf-8") as file:
        rights = dict(line.split(":", 1) for line in file.read().splitlines() if line.startswith("Cap"))
    if any(int(rights[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")):
        raise RefusalError(f"this process keeps rights that {person.pw_name} has not")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise RefusalError("this process could become root again")


def _become_sbatch(argv: list[str], environment: dict[str, str], kept: Kept) -> "NoReturn":
    if kept.script is not None and not kept.words:
        into_memory(kept.script, 0)
    os.umask(kept.umask)
    if kept.nice > os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, kept.nice)
    for name, soft in kept.limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        resource.setrlimit(number, (_lower(soft, hard), hard))
    os.execve(argv[0], argv, environment)


def _lower(soft: "Any", hard: "Any") -> int:
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    return int(min(limits)) if limits else resource.RLIM_INFINITY


if __name__ == "__main__":
    sys.exit(main())
