"""The one place that starts processes: argument lists only, never a shell, always with a time limit.

It uses posix_spawn instead of `subprocess`, whose import alone costs as much as sbatch itself.
"""

import os
import select
import time

from slurm_carbon.errors import CommandError


class Command:
    """Something to run, and why: built by decisions, run or printed at the edge."""

    __slots__ = ("argv", "environment", "stdin_fd", "timeout_s", "why")

    def __init__(
        self,
        argv: list[str],
        why: str,
        *,
        environment: dict[str, str] | None = None,  # added to ours, for this child only
        stdin_fd: int | None = None,  # None: /dev/null
        timeout_s: float = 30.0,
    ) -> None:
        self.argv = argv
        self.why = why
        self.environment = environment or {}
        self.stdin_fd = stdin_fd
        self.timeout_s = timeout_s


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
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
            if command.stdin_fd is None
            else (os.POSIX_SPAWN_DUP2, command.stdin_fd, 0),
            (os.POSIX_SPAWN_DUP2, out_write, 1),
            (os.POSIX_SPAWN_DUP2, error_write, 2),
        ]
        try:
            self._pid = os.posix_spawnp(
                command.argv[0],
                command.argv,
                {**os.environ, **command.environment},
                file_actions=actions,
                setpgroup=0,  # what it starts in its turn ends with it
                setsigmask=[],
            )
        except OSError as error:
            os.close(out_read)
            os.close(error_read)
            raise CommandError(f"cannot run {command.argv[0]}: {error.strerror}") from None
        finally:
            os.close(out_write)
            os.close(error_write)
        self._pipes = (out_read, error_read)

    def wait(self) -> Completed:
        """Read all that it prints and wait for its end. Raises CommandError when its time is over."""
        texts: dict[int, list[bytes]] = {fd: [] for fd in self._pipes}
        poll = select.poll()
        for fd in self._pipes:
            poll.register(fd, select.POLLIN)
        reading = set(self._pipes)
        try:
            while reading:
                left_s = self._end - time.monotonic()
                if left_s <= 0:
                    raise CommandError(f"{self._command.argv[0]} took longer than {self._command.timeout_s:g} s")
                for fd, _ in poll.poll(left_s * 1000):
                    chunk = os.read(fd, 1 << 16)
                    if chunk:
                        texts[fd].append(chunk)
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


class Runner:
    """The seam to the outside: everything that asks Slurm is given one of these."""

    def start(self, command: Command) -> Running:
        """Start a command and go on. Raises CommandError."""
        return Running(command)

    def run(self, command: Command) -> Completed:
        """Start a command and wait for its end. Raises CommandError."""
        return self.start(command).wait()

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
