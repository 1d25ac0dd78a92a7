"""The record of a submission: all that submitting the same job again, on another cluster, takes.

Slurm itself does not keep it: it shows neither how the arguments were quoted, nor --signal, nor the umask. So csbatch
writes it down as it becomes sbatch, for the job's owner alone, and the job's mark has its id. One file for each job:

    {"slurm_carbon_record":1,"id":"5f0c...","time":T,"gid":1000,"umask":18,"nice":0,"options":3,"words":2,
     "environment":40,"script":1234,"limits":{"NOFILE":1024,"CORE":-1,...}}

as one line, then, each ended by a NUL: the working directory, the cluster whose sbatch it was, sbatch's `options` (without
ours), the script and its arguments as `words`, the `environment` as NAME=VALUE; then the script, `script` bytes long (-1:
there is none, but --wrap). `limits` are the soft ones, -1 for none, in the units of getrlimit. Whoever owns the file can
write what he likes into it: it is data, believed as far as its owner could have said the same to sbatch himself.
"""

import os
import stat

from slurm_carbon.errors import RecordError
from slurm_carbon.light import NamedTuple, json_loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
MAX_BYTES = 1 << 20
KEPT_S = 60 * 86400
_LOOKED_AT = 8  # old records that one submission may remove, at most
_LIMITS = {
    "Max cpu time": "CPU", "Max file size": "FSIZE", "Max data size": "DATA", "Max stack size": "STACK",
    "Max core file size": "CORE", "Max resident set": "RSS", "Max processes": "NPROC", "Max open files": "NOFILE",
    "Max locked memory": "MEMLOCK", "Max address space": "AS",
}  # fmt: skip  # by their names in /proc, which costs less than importing `resource`: all that sbatch hands on


class Kept(NamedTuple):
    """One submission, as sbatch got it."""

    id: str
    cluster: str
    time_epoch_s: int
    gid: int  # of the job: not the first of its user, where he has said newgrp
    umask: int
    nice: int
    limits: dict[str, int]  # NOFILE and the like: soft, -1 for none
    directory: bytes
    options: tuple[bytes, ...]  # of sbatch, without ours
    words: tuple[bytes, ...]  # the script and its arguments; none where it came on stdin, or by --wrap
    environment: tuple[bytes, ...]  # NAME=VALUE
    script: bytes | None  # None: --wrap


def new_id() -> str:
    """An id for a record."""
    return os.urandom(8).hex()


def path_of(template: str, uid: int, record_id: str) -> str:
    """Where a user's record is. `~` is the home that the system knows for him, so that others find the same file.

    Raises RecordError where there can be none.
    """
    import pwd

    if not (len(record_id) == 16 and set(record_id) <= set("0123456789abcdef")):
        raise RecordError("a record has an id of 16 hexadecimal digits")
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        raise RecordError(f"there is no user {uid}") from None
    folder = template.replace("%u", user.pw_name)
    if folder.startswith("~/"):
        if not user.pw_dir.startswith("/"):
            raise RecordError(f"user {user.pw_name} has no home")
        folder = user.pw_dir.rstrip("/") + folder[1:]
    if not folder.startswith("/") or "/" in user.pw_name:
        raise RecordError(f"{template!r} is no folder for records")
    return f"{folder.rstrip('/')}/{record_id[:2]}/{record_id}"


def of_this(record_id: str, cluster: str, now_epoch_s: int, options: list[str], words: list[str], script: bytes | None) -> Kept:
    """The record of what this process is about to submit. Raises RecordError."""
    try:
        umask = os.umask(0o077)
        os.umask(umask)
        return Kept(
            record_id,
            cluster,
            now_epoch_s,
            os.getgid(),
            umask,
            os.getpriority(os.PRIO_PROCESS, 0),
            _limits(),
            os.getcwdb(),
            tuple(map(os.fsencode, options)),
            tuple(map(os.fsencode, words)),
            tuple(name + b"=" + value for name, value in os.environb.items()),
            script,
        )
    except OSError as error:
        raise RecordError(f"this process cannot be described: {error.strerror}") from None


def _limits() -> dict[str, int]:
    with open("/proc/self/limits", encoding="ascii") as file:
        lines = file.read().splitlines()
    found = {_LIMITS.get(line[:26].rstrip(), ""): line[26:47].strip() for line in lines}
    return {name: -1 if value == "unlimited" else int(value) for name, value in found.items() if name}


def write(path: str, kept: Kept, now_epoch_s: int) -> None:
    """Keep a record: all of it or nothing. Raises RecordError.

    It is not forced to the disk: one that does not survive a crash only means that the job stays on its cluster.
    """
    data = _encode(kept)
    if len(data) > MAX_BYTES:
        raise RecordError(f"script and environment are larger than {MAX_BYTES >> 20} MiB")
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.new"
    umask = os.umask(0o077)  # the user's could keep ourselves out
    try:
        try:
            descriptor = _create(temporary)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            os.makedirs(folder, exist_ok=True)
            descriptor = _create(temporary)
        try:
            _check_ours(os.path.dirname(folder))
            _check_ours(folder)
            try:
                _write_all(descriptor, data)
            finally:
                os.close(descriptor)  # a network file system may say only now that it is full
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _forget_old(folder, now_epoch_s)
    except OSError as error:
        raise RecordError(f"{folder}: {error.strerror}") from None
    finally:
        os.umask(umask)


def _encode(kept: Kept) -> bytes:
    limits = ",".join(f'"{name}":{value}' for name, value in kept.limits.items())
    head = (
        f'{{"slurm_carbon_record":{FORMAT},"id":"{kept.id}","time":{kept.time_epoch_s},"gid":{kept.gid},'
        f'"umask":{kept.umask},"nice":{kept.nice},"options":{len(kept.options)},"words":{len(kept.words)},'
        f'"environment":{len(kept.environment)},"script":{-1 if kept.script is None else len(kept.script)},'
        f'"limits":{{{limits}}}}}\n'
    )
    fields = (kept.directory, os.fsencode(kept.cluster), *kept.options, *kept.words, *kept.environment, kept.script or b"")
    return head.encode("ascii") + b"\0".join(fields)


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _check_ours(folder: str) -> None:
    """Raise OSError for a folder where somebody else could put another record."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(1, "not a folder that is ours alone to write")


def _forget_old(folder: str, now_epoch_s: int) -> None:
    """Look at a few records of the same folder, and remove those whose jobs cannot wait any more."""
    names = os.listdir(folder)
    first = os.urandom(1)[0] % len(names) if names else 0
    for name in (names[first:] + names[:first])[:_LOOKED_AT]:
        try:
            if os.lstat(f"{folder}/{name}").st_mtime < now_epoch_s - KEPT_S:
                os.unlink(f"{folder}/{name}")
        except OSError:
            continue  # another submission was faster


# reading


def read(path: str, uid: int) -> Kept:
    """The record in a file that must be its owner's own. Raises RecordError for any that is not one, whole and sound."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise RecordError(f"record {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise RecordError(f"record {path}: is no plain file")
        if found.st_uid != uid or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RecordError(f"record {path}: is not the owner's alone to write")
        if found.st_size > MAX_BYTES:
            raise RecordError(f"record {path}: larger than {MAX_BYTES >> 20} MiB")
        data = os.read(descriptor, MAX_BYTES + 1)
    except OSError as error:
        raise RecordError(f"record {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    try:
        kept = _decode(data)
        if kept.id != os.path.basename(path):
            raise ValueError(f"it is that of {kept.id}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RecordError(f"record {path}: broken ({type(error).__name__}: {str(error)[:80]})") from None
    return kept


def _decode(data: bytes) -> Kept:
    head, newline, body = data.partition(b"\n")
    raw = json_loads(head.decode("ascii"))
    if not newline or _whole(raw["slurm_carbon_record"], 0, 1 << 30) != FORMAT:
        raise ValueError("another format")
    counts = [_whole(raw[name], 0, MAX_BYTES) for name in ("options", "words", "environment")]
    fields = body.split(b"\0", 2 + sum(counts))
    if len(fields) != 3 + sum(counts) or len(data) > MAX_BYTES:
        raise ValueError("it is not as long as it says")
    directory, cluster, *rest, script = fields
    length = _whole(raw["script"], -1, MAX_BYTES)
    if len(script) != max(0, length):
        raise ValueError("its script is not as long as it says")
    options, words = rest[: counts[0]], rest[counts[0] : counts[0] + counts[1]]
    environment = rest[counts[0] + counts[1] :]
    if not all(entry.find(b"=") > 0 for entry in environment):
        raise ValueError("a variable without a name")
    if not directory.startswith(b"/"):
        raise ValueError("the working directory is not absolute")
    if length < 0 and words:
        raise ValueError("arguments, and no script")
    return Kept(
        _text(raw["id"]),
        os.fsdecode(cluster),
        _whole(raw["time"], 0, 1 << 40),
        _whole(raw["gid"], 0, (1 << 32) - 1),
        _whole(raw["umask"], 0, 0o777),
        _whole(raw["nice"], -20, 19),
        {_limit(name): _whole(value, -1, 1 << 63) for name, value in raw["limits"].items()},
        directory,
        tuple(options),
        tuple(words),
        tuple(environment),
        None if length < 0 else script,
    )


def _whole(value: "Any", low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{str(value)[:20]} is no number from {low} to {high}")
    return value


def _text(value: "Any") -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _limit(name: str) -> str:
    if name not in _LIMITS.values():
        raise ValueError(f"no limit {name[:20]}")
    return name
