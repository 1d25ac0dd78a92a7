"""What a hostile user can write, as cases: each is one job of his."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.reoptimize.hostile import FIGURES, GOOD, TASKS, UIDS, Case, Scene

# what user1 does to records and jobs


def _replaced(make: Callable[[Scene, Path], None]) -> Callable[[Scene, Path], None]:
    def spoil(scene: Scene, path: Path) -> None:
        path.unlink()
        make(scene, path)
        os.chown(path, UIDS["user1"], UIDS["user1"], follow_symlinks=False)

    return spoil


def _link(target: str) -> Callable[[Scene, Path], None]:
    return _replaced(lambda scene, path: path.symlink_to(scene.fill(target)))


def _hard_link(scene: Scene, path: Path) -> None:
    path.unlink()
    os.link(scene.words["others_record"], path)


def _folder_link(scene: Scene, path: Path) -> None:
    """Another folder of records is a link to one of user2's, and the mark names a record in there."""
    folder = path.parent.parent / scene.words["others_id"][:2]
    if not folder.exists():
        folder.symlink_to(Path(scene.words["others_record"]).parent)


def _script(make: Callable[[Path], None]) -> Callable[[Scene, str], None]:
    """Put something else where the script was."""

    def submitted(scene: Scene, number: str) -> None:
        path = scene.script(next(key for key, job in scene.jobs.items() if job == number))
        path.unlink()
        make(path)
        os.chown(path, UIDS["user1"], UIDS["user1"], follow_symlinks=False)

    return submitted


def _set_uid(path: Path) -> None:
    shutil.copy("/usr/bin/id", path)
    os.chown(path, UIDS["user1"], UIDS["user1"])
    path.chmod(0o6755)


def _as_admin(*words: str) -> Callable[[Scene, str], None]:
    def submitted(scene: Scene, number: str) -> None:
        done = scene.lab.run("scontrol", *words, number, user=None)
        assert done.code == 0, done

    return submitted


def _record(**changes: Any) -> dict[str, Any]:
    return changes


FORGED_HOOK = (
    '{"slurm_carbon":"0.1","mode":"enforce","decided":1,"outlook":1,"reason":"","home":"beta/closed","baseline_g":9e9,'
    '"latest":999999999999,"bound":"","run_time_s":1,"power_w":1,"energy_kwh":1,"source":"x","issued":1,"in":["beta/closed"]}'
)
MARKS = {
    "a good mark": Case("nothing: so that it is known that such a job does move", goes=True),
    "latest far": Case("the year 318857", GOOD.replace("{latest}", "9999999999999"), goes=True),
    "latest past": Case("a latest start in 1970", GOOD.replace("{latest}", "1")),
    "begin far": Case("another start than it has", GOOD.replace("{begin}", "9999999999999"), goes=False),
    "numbers none": Case("figures that are none", GOOD.replace(FIGURES, "g=nan base=inf kwh=1e999"), goes=False),
    "numbers vast": Case("figures to be first of all", GOOD.replace(FIGURES, "g={vast} base={vast} kwh={vast}")),
    "others record": Case("the id of user2's record", GOOD.replace("{id}", "{others_id}"), goes=False),
    "id with slashes": Case("an id that leads out of the folder", GOOD.replace("{id}", "../../../../"), goes=False),
    "id a path": Case("an id that is a path", GOOD.replace("{id}", "{secret}"), goes=False),
    "closed place": Case("a partition of root's", GOOD.replace("beta/batch", "beta/closed"), goes=False),
    "unknown places": Case("clusters and partitions that are none", GOOD.replace("beta/batch", "gamma/batch,beta/no,-M/--uid"),
                           goes=False),
    "many places": Case("as many places as fit", GOOD.replace(",beta/batch", ",b/c" * 170), goes=False),
    "place an option": Case("options as the place", GOOD.replace("at=alpha/batch", "at=--uid=0/--wrap=id")),
    "a mark twice": Case("two marks", "{good} | {good}", goes=True),
    "a mark of full length": Case("no room for what we write", "x" * 850 + " | {good}"),
    "off behind a mark": Case("opts out behind a mark", "{good} | cs1 off", goes=False),
    "a record of the hook": Case("a record as only the hook can write it", FORGED_HOOK, goes=False),
    "a record of the hook and a mark": Case("the same before a mark", FORGED_HOOK + " | {good}", goes=True),
}  # fmt: skip
TEXTS = {
    "comment of lines": Case("ends lines", "one\ntwo\r\n | {good}", goes=True),
    "comment of control characters": Case("moves the cursor", "\x1b]0;own\x07\x1b[2J\x1b[31m\x08 | {good}", goes=True),
    "comment of bytes": Case("is no UTF-8", "\udcff\udcfe\udc80 | {good}"),
    "comment of unicode": Case("turns the text", "\u202e\u2028 東京 \x85 | {good}", goes=True),
    "comment of SQL": Case("SQL", "'); DROP TABLE carbon_entries; DELETE FROM carbon_runs; -- \" ` \\ | {good}", goes=True),
    "comment of shell": Case("shell", "$(id >{witness}/evil) `id` ; id & | {good}", goes=True),
    "comment of scontrol": Case("words of scontrol", "x StartTime=now UserId=root AdminComment=own JobId={plain} | {good}",
                                goes=True),
    "comment of options": Case("options of sbatch", "--uid=0 --wrap=id -M alpha | {good}", goes=True),
    "comment of squeue": Case("a row", "\n{plain}|root|PENDING\nJobId={plain} UserId=user1(20001) | {good}", goes=True),
    "name of SQL": Case("SQL", options=("-J", "'; DROP TABLE carbon_runs; --"), goes=True),
    "name of lines": Case("lines", options=("-J", "x\nJobId={plain} JobState=CANCELLED\n   Comment=cs1 off"), goes=True),
    "name of escapes": Case("moves the cursor", options=("-J", "\x1b]0;own\x07\x1b[2J\x1b[31m\rroot\x9b2J\u202e"), goes=True),
    "name a number": Case("the number of a job of user2's", options=("-J", "{plain}"), goes=True),
    "name of columns": Case("separators", options=("-J", "{plain}|20002|root|PENDING|now\t1"), goes=True),
    "name an option": Case("an option", options=("--job-name=--uid=0",), goes=True),
    "name of bytes": Case("no UTF-8", options=("-J", "\udcff\udc80")),
    "name very long": Case("a long name", options=("-J", "n" * 1000)),
}  # fmt: skip
MOVES = {
    "mv of another's move": Case("the id of a move of user2's", GOOD + " mv={move}", goes=False),
    "mv of another's move, held": Case("the same, held: so it is the other's copy", GOOD + " mv={move}", ("-H",),
                                       goes=False, lives=(0, 1), held=True),
    "mv of nobody": Case("a move that is none, held", GOOD + " mv=deadbeef000000aa", ("-H",), goes=False, held=True),
    "mv of nobody, by an admin": Case("the same, and an administrator holds it", GOOD + " mv=deadbeef000000ab",
                                      submitted=_as_admin("hold"), goes=False, held=True),
    "mv a path": Case("a move with a path as its id", GOOD + " mv=../../../../../x", goes=False),
    "mv of the flood": Case("the id of one of many", GOOD + " mv=0000000000000001", goes=False),
}  # fmt: skip
FILES = {
    "record a link to shadow": Case("the record is a link", spoil=_link("/etc/shadow"), goes=False),
    "record a link to a secret": Case("the record is a link to root's file", spoil=_link("{secret}"), goes=False),
    "record a link to another's": Case("the record is a link to user2's", spoil=_link("{others_record}"), goes=False),
    "record a hard link": Case("the record is user2's", spoil=_hard_link, goes=False),
    "record in a linked folder": Case("user2's folder", GOOD.replace("{id}", "{others_id}"), spoil=_folder_link, goes=False),
    "record a pipe": Case("the record is a pipe", spoil=_replaced(lambda _, path: os.mkfifo(path)), goes=False),
    "record a folder": Case("the record is a folder", spoil=_replaced(lambda _, path: path.mkdir()), goes=False),
    "record vast": Case("the record is of 8 MiB", spoil=lambda _, path: os.truncate(path, 8 << 20), goes=False),
    "record gone": Case("there is none", record=None, goes=False),
    "record of root's group": Case("group root", record=_record(gid=0), goes=False),
    "record of root's folder": Case("a folder of root's", record=_record(directory="/root"), goes=False),
    "record of a linked folder": Case("a link to it", record=_record(directory="{evil}/root"), goes=False),
    "record of another's folder": Case("a folder of user2's", record=_record(directory="{private}"), goes=False),
    "record of an odd folder": Case("an odd name", record=_record(directory="{evil}/odd 'dir' $(id)\n%u"), goes=True),
    "script root's": Case("the script is root's file", record=_record(words=("{secret}",))),
    "script another's": Case("the script is user2's file", record=_record(words=("{others_secret}",))),
    "script and arguments": Case("arguments that are options", record=_record(words=("{home}/jobs/script-and-arguments.sh",
                                 "--uid=0", "--", "$(id)", "; id")), goes=True),
    "script set-uid": Case("the script becomes a set-uid program", submitted=_script(_set_uid), goes=True),
    "script a folder": Case("the script becomes a folder", submitted=_script(lambda path: path.mkdir()), goes=True),
    "script a link": Case("it becomes a link", submitted=_script(lambda path: path.symlink_to("/etc/shadow")), goes=True),
}  # fmt: skip
OPTIONS = {
    "option uid": Case("another user", recorded=("--uid=0",), goes=False),
    "option gid": Case("another group", recorded=("--gid=0",), goes=False),
    "option cluster": Case("another cluster", recorded=("-M", "alpha"), goes=False),
    "option wrap": Case("another script", recorded=("--wrap", "id"), goes=False),
    "option export-file": Case("variables from root's file", recorded=("--export-file={secret}",), goes=False),
    "option chdir": Case("root's folder", recorded=("--chdir=/root",)),
    "option output of another's": Case("user2's file as output", options=("-o", "{others_secret}"), goes=True),
    "option output of root's": Case("root's file as output", options=("-o", "{secret}", "--open-mode=truncate"), goes=True),
    "option partition": Case("root's partition", recorded=("-p", "closed"), goes=True),
    "option quiet": Case("sbatch says nothing", recorded=("-Q",), second=True),
    "option nice": Case("a better priority", recorded=("--nice=-10000",)),
    "option lines": Case("another user, in the script", record=_record(script="#!/bin/sh\n#SBATCH --uid=0\n#SBATCH -H\n")),
}  # fmt: skip
ENVIRONMENT = {
    "variable LD_PRELOAD": Case("a library", variables={"LD_PRELOAD": "{evil}/lib/libc.so.6"}, goes=False),
    "variable LD_LIBRARY_PATH": Case("libraries", variables={"LD_LIBRARY_PATH": "{evil}/lib"}, goes=True),
    "variable BASH_ENV": Case("what every bash runs", environment={"BASH_ENV": "{evil}/rc", "ENV": "{evil}/rc"}, goes=True),
    "variable PYTHONPATH": Case("modules", environment={"PYTHONPATH": "{evil}/python", "PYTHONHOME": "{evil}/python",
                                "PYTHONSTARTUP": "{evil}/python/json.py"}, goes=True),
    "variable PATH": Case("programs", variables={"PATH": "{evil}/bin", "CSBATCH_SBATCH": "{evil}/bin/sbatch"}, goes=True),
    "variable LUA_PATH": Case("filters", variables={"LUA_PATH": "{evil}/lua/?.lua"}, goes=False),
    "variable SLURM_CONF": Case("a configuration", variables={"SLURM_CONF": "{evil}/slurm.conf"}, goes=True),
    "variable SLURM_CLUSTERS": Case("clusters", variables={"SLURM_CLUSTERS": "alpha,beta"}),
    "variable SBATCH_CLUSTERS": Case("a cluster", variables={"SBATCH_CLUSTERS": "alpha"}, goes=False),
    "variable SBATCH_OUTPUT": Case("user2's file as output", record=_record(options=("-t", "30")),
                                   variables={"SBATCH_OUTPUT": "{others_secret}", "SBATCH_PARTITION": "closed"}),
    "variable SBATCH_EXPORT": Case("no variables", variables={"SBATCH_EXPORT": "NIL", "SBATCH_DEBUG": "9"}),
    "variables of ours": Case("our own settings", variables={"SLURM_CARBON_END_AT": "1", "SLURM_CARBON_CONFIG": "{secret}",
                              "SLURM_CARBON_OUTLOOK": "{secret}"}, goes=True),
    "variables of users": Case("another table of users", variables={"NSS_WRAPPER_PASSWD": "{evil}/passwd"}),
    "variables very many": Case("2,000 variables",
                                variables={f"V{n}": "x" * 40 for n in range(2000)}),
}  # fmt: skip
TIES = {
    "after user2's": Case("waits for a job of user2's that is to move", options=("-d", "afterany:{mover}"), goes=False),
    "after all of user2's": Case("waits for all of them", options=("-d", "afterany:{plain}:{held}:{admin}:{running}:{mover}"),
                                 goes=False),
    "singleton of user2's name": Case("waits for jobs of that name", options=("-J", "mover", "-d", "singleton"), goes=False),
    "an array": Case("an array of very many tasks", options=("-a", f"0-{TASKS - 1}%16", "-t", "1")),
    "another array": Case("another one", options=("-a", f"0-{TASKS - 1}%7", "-t", "1")),
    "begins in 3000 years": Case("a start that is beyond all dates", GOOD.replace("{begin}", "99999999999"),
                                 ("--begin=uts99999999999",), later=True),
    "runs for ever": Case("no time limit to speak of", options=("-t", "7-0",), goes=None),
    "flip hold": Case("is held and released all the time", held=True),
    "flip release": Case("is released all the time"),
    "flip comment": Case("its comment changes all the time", goes=None),
    "flip start": Case("its start changes all the time", later=True),
    "flip cancel": Case("is cancelled meanwhile", lives=(0, 1)),
    "flip record": Case("its record changes all the time"),
}  # fmt: skip
CASES = {**MARKS, **TEXTS, **MOVES, **FILES, **OPTIONS, **ENVIRONMENT, **TIES}
