"""The one place that starts processes: argument lists only, never a shell, always with a time limit.

It uses posix_spawn instead of `subprocess`, whose import alone costs as much as sbatch itself.
"""

import os
import select
import time

from slurm_carbon.errors import CommandError


class Command:
    """Something to run, and why: built by decisions, run or printed at the edge."""

    __slots__ = (
        "argv",
        "environment",
        "most_bytes",
        "new_session",
        "only_environment",
        "stdin",
        "stdin_fd",
        "timeout_s",
        "why",
        "without",
    )

    def __init__(
        self,
        argv: list[str],
        why: str,
        *,
        environment: dict[str, str] | None = None,  # added to ours, for this child only
        only_environment: bool = False,  # nothing of ours is added to it
        without: tuple[str, ...] = (),  # beginnings of names in our environment that the child does not get
        stdin_fd: int | None = None,  # None: /dev/null
        stdin: bytes | None = None,  # what it reads there, instead of a descriptor
        new_session: bool = False,  # without our terminal: what it runs for somebody else could type there
        most_bytes: int | None = None,  # that it may print: for what somebody else has a hand in
        timeout_s: float = 30.0,
    ) -> None:
        self.argv = argv
        self.why = why
        self.environment = environment or {}
        self.only_environment = only_environment
        self.without = without
        self.stdin_fd = stdin_fd
        self.stdin = stdin
        self.new_session = new_session
        self.most_bytes = most_bytes
        self.timeout_s = timeout_s

    @property
    def whole_environment(self) -> dict[str, str]:
        """What the child gets: ours, as far as it is to have it, and what was added for it."""
        if self.only_environment:
            return self.environment
        ours = {name: value for name, value in os.environ.items() if not name.startswith(self.without)}
        return ours | self.environment


class Completed:
    """How a command ended. A process that was killed by signal N has exit code -N."""

    __slots__ = ("exit_code", "stderr", "stdout")

    def __init__(self, exit_code: int, stdout: bytes, stderr: bytes) -> None:
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr

    @property
    def complaint(self) -> str:
        """The last line that it wrote to stderr."""
        lines = self.stderr.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.exit_code}"


class Running:
    """A started command."""

    __slots__ = ("_command", "_end", "_pid", "_pipes")

    def __init__(self, command: Command) -> None:
        self._command = command
        self._end = time.monotonic() + command.timeout_s
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        error_read, error_write = os.pipe2(os.O_CLOEXEC)
        stdin_fd = command.stdin_fd if command.stdin is None else _memory_with(command.stdin)
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0) if stdin_fd is None else (os.POSIX_SPAWN_DUP2, stdin_fd, 0),
            (os.POSIX_SPAWN_DUP2, out_write, 1),
            (os.POSIX_SPAWN_DUP2, error_write, 2),
        ]
        try:
            self._pid = os.posix_spawnp(
                command.argv[0],
                command.argv,
                command.whole_environment,
                file_actions=actions,
                setsigmask=[],
                # either way it leads a group of its own: what it starts in its turn ends with it
                **({"setsid": True} if command.new_session else {"setpgroup": 0}),
            )
        except OSError as error:
            os.close(out_read)
            os.close(error_read)
            raise CommandError(f"cannot run {command.argv[0]}: {error.strerror}") from None
        finally:
            os.close(out_write)
            os.close(error_write)
            if command.stdin is not None and stdin_fd is not None:
                os.close(stdin_fd)
        self._pipes = (out_read, error_read)

    def wait(self) -> Completed:
        """Read all that it prints and wait for its end. Raises CommandError when its time is over, or it prints too much."""
        texts: dict[int, list[bytes]] = {fd: [] for fd in self._pipes}
        poll = select.poll()
        for fd in self._pipes:
            poll.register(fd, select.POLLIN)
        reading, left = set(self._pipes), self._command.most_bytes
        try:
            while reading:
                left_s = self._end - time.monotonic()
                if left_s <= 0:
                    raise CommandError(f"{self._command.argv[0]} took longer than {self._command.timeout_s:g} s")
                for fd, _ in poll.poll(left_s * 1000):
                    chunk = os.read(fd, 1 << 16)
                    if chunk:
                        texts[fd].append(chunk)
                        if left is not None and (left := left - len(chunk)) < 0:
                            raise CommandError(f"{self._command.argv[0]} prints more than {self._command.most_bytes} bytes")
                    else:
                        poll.unregister(fd)
                        reading.discard(fd)
        except BaseException:
            from signal import SIGKILL  # only here: its enums cost 2 ms

            os.killpg(self._pid, SIGKILL)
            os.waitpid(self._pid, 0)
            raise
        finally:
            for fd in self._pipes:
                os.close(fd)
        _, status = os.waitpid(self._pid, 0)
        out, error = self._pipes
        return Completed(os.waitstatus_to_exitcode(status), b"".join(texts[out]), b"".join(texts[error]))


def _memory_with(data: bytes) -> int:
    memory = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with open(memory, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


class Runner:
    """The seam to the outside: everything that asks Slurm is given one of these."""

    def start(self, command: Command) -> Running:
        """Start a command and go on. Raises CommandError."""
        return Running(command)

    def run(self, command: Command) -> Completed:
        """Start a command and wait for its end. Raises CommandError."""
        return self.start(command).wait()

    def pause(self, seconds: float) -> None:
        """Wait. Not by `time.sleep`, which fails where the clock is a faked one."""
        select.poll().poll(seconds * 1000)

    def replace(self, argv: list[str]) -> None:
        """Become another program; returns only if there is none."""
        os.execv(argv[0], argv)


class FakeRunner(Runner):
    """Answers by what the argument list begins with; keeps what it was asked."""

    def __init__(self, answers: dict[tuple[str, ...], Completed]) -> None:
        self.answers = answers
        self.asked: list[Command] = []

    def run(self, command: Command) -> Completed:
        """The answer with the longest matching beginning. Raises CommandError where there is none."""
        self.asked.append(command)
        for count in range(len(command.argv), 0, -1):
            if (start := tuple(command.argv[:count])) in self.answers:
                return self.answers[start]
        raise CommandError(f"cannot run {command.argv[0]}: not faked")

    def replace(self, argv: list[str]) -> None:
        """Only note what would have been run."""
        self.asked.append(Command(argv, "replace"))
