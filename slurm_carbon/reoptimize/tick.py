"""One run, from beginning to end: finish what was begun, look, plan, move, publish, remember.

It can end at any instruction: what it was about to do stands in the ledger, and the next run finishes or undoes it. What it
cannot reach (a source, a cluster, the accounting) it does without, and says so.
"""

import os
import pwd
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from slurm_carbon import outlook as outlooks
from slurm_carbon import refresh
from slurm_carbon.config import Config
from slurm_carbon.errors import CommandError, Error
from slurm_carbon.ledger.store import Ledger
from slurm_carbon.ledger.values import Decided, Transfer
from slurm_carbon.outlook import Outlook
from slurm_carbon.owner import Answer, Resubmission, read_answer, resubmit_command
from slurm_carbon.planning.planner import Progress
from slurm_carbon.queued import Queue
from slurm_carbon.reoptimize import apply, choose, expect, faults, guard, look, remember, transfer
from slurm_carbon.reoptimize.adopt import adopt
from slurm_carbon.reoptimize.room import Room, furnish
from slurm_carbon.reoptimize.standing import Rules, Standing
from slurm_carbon.reoptimize.transfer import Means
from slurm_carbon.slurm import accounting, rights
from slurm_carbon.slurm.command import Runner
from slurm_carbon.slurm.moves import Site
from slurm_carbon.slurm.rights import Rights
from slurm_carbon.units import DAY_S, mass_text, time_text

SAID = {"observe": "observed", "advise": "advised"}  # outcomes of what is not done
DOING = {
    "outlook": "asking the sources and the clusters",
    "finish": "finishing moves to other clusters",
    "read": "reading the queues",
    "room": "counting what is free",
    "plan": "planning",
    "apply": "moving",
    "publish": "publishing the outlook",
    "remember": "asking what became of jobs",
}
ASKED = 5000  # jobs that one run asks the accounting about
SHOWN = 20  # moves, in a terminal

Watch = Callable[[str], None]
T = TypeVar("T")


class Setting(NamedTuple):
    """What a run is to do."""

    config: Config
    mode: str  # observe, advise, enforce
    outlook_path: str
    own_user: str | None = None  # only his jobs: then the outlook is read, not made
    dry_run: bool = False


class Report(NamedTuple):
    """What a run has done."""

    mode: str
    decided: tuple[Decided, ...]
    figures: dict[str, float | int | str]
    problems: tuple[str, ...]
    commands: tuple[str, ...] = ()  # of a dry run
    failed: bool = False
    dry_run: bool = False

    def lines(self) -> list[str]:
        """For a terminal."""
        figures = self.figures
        acted = self.mode == "enforce" and not self.dry_run
        count, saved = ("done", "done_saved_g") if acted else ("moves", "saved_g")
        lines = [
            f"{figures.get('waiting', 0)} jobs wait, of which {figures.get('movable', 0)} may be moved; "
            f"{figures.get(count, 0)} {'moved' if acted else 'would be moved'}"
        ]
        if figures.get(count):
            share = 100 * float(figures[saved]) / float(figures["present_g"]) if figures.get("present_g") else 0.0
            lines[0] += f", which should save {mass_text(float(figures[saved]))} ({share:.1f} %)"
        if figures.get("late"):
            lines.append(f"{figures['late']} jobs will start after their latest start: all is full before")
        for each in self.decided[:SHOWN]:
            where = "" if each.from_location == each.to_location else f" on {each.to_location}"
            lines.append(
                f"  {each.cluster} {each.job_id}{f'_[{each.tasks}]' if each.tasks else ''}: {time_text(each.from_epoch_s)} "
                f"-> {time_text(each.to_epoch_s)}{where}: {each.outcome}; {each.reason}"
            )
        if len(self.decided) > SHOWN:
            lines.append(f"  and {len(self.decided) - SHOWN} more: --json has them all")
        return [*lines, *self.commands]

    def as_json(self) -> dict[str, Any]:
        """For tools."""
        return {**self._asdict(), "decided": [each._asdict() for each in self.decided]}


def publish_only(setting: Setting, runner: Runner, clock: Callable[[], float] = time.time) -> tuple[str, ...]:
    """Publish the outlook as `outlook refresh` does, where nothing else can or may be done: submissions go by it.

    Returns what is missing from it. Raises Error.
    """
    if setting.own_user is not None or setting.dry_run:
        return ()
    outlook, problems = refresh.outlook(setting.config, int(clock()), runner)
    refresh.publish(refresh.with_last_prices(outlook, setting.outlook_path), setting.config, setting.outlook_path)
    return tuple(problems)


def run(
    setting: Setting, runner: Runner, ledger: Ledger, clock: Callable[[], float] = time.time, watch: Watch | None = None
) -> Report:
    """One run. Raises Error where it cannot even begin: no outlook, no cluster, no ledger."""
    return _Tick(setting, runner, ledger, clock, watch or (lambda text: None)).run()


class _Tick:
    def __init__(self, setting: Setting, runner: Runner, ledger: Ledger, clock: Callable[[], float], watch: Watch) -> None:
        self.setting, self.runner, self.ledger, self.clock, self.watch = setting, runner, ledger, clock, watch
        self.config = setting.config
        self.began = time.monotonic()
        self.took: dict[str, float] = {}
        self.problems: list[str] = []
        self.sites = {site.name: Site(site.name, site.slurm_conf) for site in self.config.sites}

    @property
    def now(self) -> int:
        return int(self.clock())

    # in the order of the run

    def run(self) -> Report:
        setting, ledger = self.setting, self.ledger
        acts = setting.mode == "enforce" and not setting.dry_run
        number = 0 if setting.dry_run else ledger.begin_run(self.now, setting.mode)
        faults.point("run begun")
        outlook = self.timed("outlook", self.outlook)
        try:
            return self.go_by(outlook, number, acts)
        except Error:
            if not setting.dry_run and setting.own_user is None:  # submissions go by it, whatever is wrong here
                refresh.publish(refresh.with_last_prices(outlook, setting.outlook_path), self.config, setting.outlook_path)
            raise

    def go_by(self, outlook: Outlook, number: int, acts: bool) -> Report:
        setting, ledger = self.setting, self.ledger
        may = {name: rights.read(self.runner, site) for name, site in self.sites.items()}
        means = self.means()
        # what was begun is brought to an end in every mode: each of these jobs is held until then
        if not setting.dry_run and (under_way := ledger.open_transfers()):
            self.timed("finish", lambda: transfer.drive(under_way, means))
        queues = self.timed("read", self.queues)
        if not queues:
            raise CommandError("no cluster answers: " + "; ".join(self.problems))
        if not setting.dry_run and (found := adopt(queues, means, self.now)):
            self.timed("finish", lambda: transfer.drive(found, means))
        now, rules = self.now, self.rules(may)
        stood = look.standing_of_queues(queues, ledger, outlook, rules, now)
        room, stood = self.timed("room", lambda: furnish(queues, stood, outlook, rules, now, look.horizon_s(outlook, now)))
        solver_s = float(self.config.reoptimize.solver_time_s)
        chosen = self.timed("plan", lambda: choose.choose(room, stood, outlook, rules, now, solver_s, watch=self.progress))
        decided, commands = self.timed("apply", lambda: self.carry_out(number, chosen, means, now, acts))
        if not setting.dry_run:
            if setting.own_user is None:
                self.timed("publish", lambda: self.publish(outlook, queues, room, stood, chosen, now))
            self.timed("remember", lambda: self.remember(queues))
            ledger.forget(self.now - self.config.reoptimize.keep_s)
        done = [each for each in decided if each.outcome == apply.DONE]
        figures = {**chosen.figures, "clusters": len(queues), "problems": len(self.problems)}
        figures |= {"done": len(done), "done_saved_g": sum(each.saved_g for each in done)}
        figures |= {f"{name}_s": round(seconds, 3) for name, seconds in self.took.items()}
        figures["run_s"] = round(time.monotonic() - self.began, 3)
        if not setting.dry_run:
            ledger.end_run(number, self.now, figures)
            faults.point("run ended")
        self.watch("")
        problems = tuple(dict.fromkeys(self.problems))
        return Report(setting.mode, decided, figures, problems, commands, bool(problems), setting.dry_run)

    def timed(self, name: str, do: Callable[[], T]) -> T:
        """Do it, tell whoever watches, and note how long it took."""
        self.watch(DOING[name])
        before = time.monotonic()
        done = do()
        self.took[name] = self.took.get(name, 0.0) + time.monotonic() - before
        return done

    def progress(self, progress: Progress) -> None:
        best = "" if progress.best_g == float("inf") else f", {mass_text(progress.best_g)}"
        self.watch(f"{DOING['plan']}: {progress.doing}{best}, bound {mass_text(progress.bound_g)}, {progress.seconds:.0f} s")

    # looking

    def outlook(self) -> Outlook:
        """Made anew from all sources; for one user's run, and a dry one, the published one: nothing is left behind."""
        if self.setting.own_user is not None or self.setting.dry_run:
            return outlooks.read(self.setting.outlook_path, self.now)
        outlook, problems = refresh.outlook(self.config, self.now, self.runner)
        self.problems += problems
        return outlook

    def queues(self) -> list[Queue]:
        return look.read_queues(self.config, self.runner, self.now, self.problems)

    def rules(self, may: Mapping[str, Rights]) -> Rules:
        config, setting = self.config.reoptimize, self.setting
        me = pwd.getpwuid(os.geteuid()).pw_name
        allowed = set(may.values())
        own = setting.own_user or (me if allowed == {Rights.OWN} else None)
        elsewhere = None if allowed == {Rights.ROOT} and setting.own_user is None else frozenset([me])
        return look.rules_of(config, own, elsewhere if config.records else frozenset())

    def means(self) -> Means:
        records = self.config.reoptimize.records

        def submit(moved: Transfer) -> Answer:
            cluster, _, partition = moved.to_location.partition("/")
            request = Resubmission(
                moved.user, moved.uid, moved.mark_id, records, self.sites[cluster].slurm_conf, cluster, partition,
                moved.begin_epoch_s, moved.comment, True,
            )  # fmt: skip
            return read_answer(self.runner.run(resubmit_command(request, os.geteuid())))

        return Means(self.runner, self.sites, self.ledger, submit, clock=self.clock, sleep=self.runner.pause)

    # doing

    def carry_out(
        self, number: int, chosen: choose.Chosen, means: Means, now: int, acts: bool
    ) -> tuple[tuple[Decided, ...], tuple[str, ...]]:
        """What became of the moves; in a dry run, the commands."""
        setting, ledger = self.setting, self.ledger
        if setting.dry_run:
            told = tuple(apply.decision(move, 0, now, "not done: --dry-run") for move in chosen.moves)
            return told, apply.as_text(chosen.moves, self.sites, now)
        with faults.around("entries"):
            ledger.put_entries(chosen.entries)
        if not acts:
            told = tuple(apply.decision(move, number, now, SAID[setting.mode]) for move in chosen.moves)
            ledger.add_decisions(told)
            return told, ()
        if guard.is_stopped(setting.outlook_path):
            self.problems.append(f"stopped: {guard.stop_file(setting.outlook_path)} is there; nothing is moved")
            return (), ()
        return apply.apply(chosen.moves, means, ledger, number, self.config.reoptimize.margin_s, self.problems.append), ()

    def publish(
        self, outlook: Outlook, queues: list[Queue], room: Room, stood: list[Standing], chosen: choose.Chosen, now: int
    ) -> None:
        """The outlook, with the prices by which csbatch and the hook place the next jobs."""
        expected = expect.arrivals(queues, stood, outlook, now)
        free = chosen.free if self.setting.mode == "enforce" else chosen.free_as_is
        prices = expect.prices(room, free, expected, outlook, now)
        places = room.places
        priced = outlooks.with_prices(outlook, prices, places.start_epoch_s, places.slot_s, now)
        with faults.around("publish"):
            refresh.publish(priced, self.config, self.setting.outlook_path)

    def remember(self, queues: list[Queue]) -> None:
        """What became of the jobs since the last run."""
        unsettled = self.ledger.unsettled()
        seen = remember.in_queues(unsettled, queues)
        found: dict[str, Mapping[int, accounting.Outcome]] = {}
        since = min((entry.submit_epoch_s for entry in unsettled), default=self.now) - DAY_S
        for cluster, numbers in seen.to_ask.items():
            try:
                conf = self.sites[cluster].slurm_conf
                found[cluster] = accounting.outcomes(self.runner, cluster, conf, numbers[:ASKED], since, self.now)
            except CommandError as error:
                self.problems.append(str(error))
        with faults.around("outcomes"):
            self.ledger.put_entries([*seen.changed, *remember.ended(unsettled, found, seen.to_ask, self.now)])
