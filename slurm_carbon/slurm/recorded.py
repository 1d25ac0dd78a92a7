"""What Slurm answered once, kept in a file: for machines without Slurm, and for tests of every version."""

import json

from slurm_carbon.errors import CommandError
from slurm_carbon.slurm.command import Command, Completed, FakeRunner, Runner


def record(runner: Runner, commands: list[Command], path: str) -> None:
    """Run commands and keep their answers. Raises CommandError."""
    answers = []
    for command in commands:
        done = runner.run(command)
        answers.append(
            {
                "why": command.why,
                "exit_code": done.exit_code,
                "stdout": done.stdout.decode("utf-8", "replace"),
                "stderr": done.stderr.decode("utf-8", "replace"),
            }
        )
    with open(path, "w", encoding="utf-8") as file:
        json.dump(answers, file, indent=1)


class Player(FakeRunner):
    """Answers with what was recorded, by what a command is for: paths differ from one machine to another."""

    def __init__(self, answers: dict[str, Completed]) -> None:
        super().__init__({})
        self.by_why = answers

    def run(self, command: Command) -> Completed:
        """The recorded answer. Raises CommandError where there is none."""
        self.asked.append(command)
        if command.why not in self.by_why:
            raise CommandError(f"{command.why} was not recorded")
        return self.by_why[command.why]


def player(path: str) -> Player:
    """A runner that answers from a file of `record`. Raises CommandError."""
    try:
        with open(path, encoding="utf-8") as file:
            raw = json.load(file)
        return Player({a["why"]: Completed(a["exit_code"], a["stdout"].encode(), a["stderr"].encode()) for a in raw})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(f"recorded facts {path}: {error}") from None
