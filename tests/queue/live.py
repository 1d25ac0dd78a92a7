"""A real cluster with the hostile jobs in it, and a runner that asks it as root."""

from __future__ import annotations

from slurm_carbon.slurm.command import Command, Completed, Runner
from tests.conftest import Lab


class LabRunner(Runner):
    """Runs commands on a test cluster, and keeps them."""

    def __init__(self, lab: Lab, user: str | None = None, cluster: str = "alpha") -> None:
        self.lab = lab
        self.user = user
        self.asked: list[Command] = []
        self.cluster = cluster
        self.conf = f"{lab.folder}/{cluster}/slurm.conf"

    def run(self, command: Command) -> Completed:
        """Run it in the environment of a client of the cluster."""
        self.asked.append(command)
        environment = {name: value for name, value in command.environment.items() if name != "SLURM_CONF"}
        done = self.lab.run(*command.argv, user=self.user, cluster=self.cluster, timeout=command.timeout_s, **environment)
        return Completed(done.code, *(text.encode("utf-8", "surrogateescape") for text in (done.out, done.err)))


def prepare(lab: Lab) -> None:
    """Drain a node, with a reason that looks like something else, and announce a maintenance."""
    for words in (
        ("update", "NodeName=alpha2", "State=DRAIN", "Reason=a fan State=IDLE CPUTot=99"),
        ("create", "reservation", "ReservationName=maint", "StartTime=now+5hours", "Duration=60", "Nodes=alpha[0-1]",
         "Users=root", "Flags=MAINT"),
        ("create", "reservation", "ReservationName=lecture", "StartTime=now+5days", "Duration=90", "Nodes=alpha3",
         "Users=user2", "Flags=DAILY"),
    ):  # fmt: skip
        done = lab.run("scontrol", *words, user=None)
        assert done.code == 0, done.err
