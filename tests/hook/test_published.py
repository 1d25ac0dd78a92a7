"""What is published for the hook, what it writes down, and what of a slurm.conf is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurm_carbon import luaform
from slurm_carbon.errors import CommandError, OutlookError
from slurm_carbon.hook import records
from slurm_carbon.slurm.command import Completed, FakeRunner
from slurm_carbon.slurm.conf import settings_of
from tests.unit import factory


def published(tmp_path: Path, mode: int) -> Path:
    """The file in a folder of a mode."""
    outlook = tmp_path / "outlook.json"
    folder = tmp_path / "hook"
    folder.mkdir()
    folder.chmod(mode)
    assert luaform.is_installed(str(outlook))
    luaform.publish(factory.outlook(), str(outlook))
    return folder / luaform.FILE


def test_the_group_may_write_only_where_installing_has_chosen_it(tmp_path: Path) -> None:
    """Without the mark that a group is inherited nobody but the owner may."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert published(tmp_path / "a", 0o2755).stat().st_mode & 0o777 == 0o664
    assert published(tmp_path / "b", 0o755).stat().st_mode & 0o777 == 0o644


def test_without_a_hook_nothing_is_published(tmp_path: Path) -> None:
    """The folder is the sign that there is one."""
    assert not luaform.is_installed(str(tmp_path / "outlook.json"))


def test_the_first_line_says_what_the_file_is(tmp_path: Path) -> None:
    """Format, time and the exact length, in bytes."""
    data = published(tmp_path, 0o755).read_bytes()
    words = data.split(b"\n")[0].split()
    assert words[:4] == [b"--", b"slurm-carbon", b"outlook", b"1"]
    assert (int(words[4]), int(words[5])) == (factory.NOW, len(data))


def test_what_is_too_long_is_not_published(tmp_path: Path) -> None:
    """The error says what to do; the file that was there stays."""
    path = published(tmp_path, 0o755)
    before = path.read_bytes()
    grid = factory.intensity("D", *([123.456789] * 400_000))
    big = factory.outlook()._replace(zones={"D": grid, "C": grid})
    with pytest.raises(OutlookError, match="larger than 4 MiB: choose a shorter horizon"):
        luaform.publish(big, str(tmp_path / "outlook.json"))
    assert path.read_bytes() == before


def test_names_cannot_break_out_of_their_quotes() -> None:
    """What could end a text in Lua, or its line, is written as a question mark."""
    assert luaform.lua('a"]] os.exit() --\\\n\0é') == '"a?]] os.exit() --???é"'


RECORD = {"slurm_carbon": "0.1.0", "mode": "enforce", "decided": 100, "outlook": 90, "reason": ""}


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"at": "a/b", "home": "a/b", "begin": 200}, "later"),
        ({"at": "c/b", "home": "a/b", "begin": 100}, "elsewhere"),
        ({"at": "c/b", "home": "a/b", "begin": 200}, "later and elsewhere"),
        ({"at": "a/b", "home": "a/b", "begin": 100}, "at once, on the cleanest of the clusters that were named"),
        ({"reason": "no choice saves enough: 1 g (2 %) at best"}, "no choice saves enough"),
        ({"reason": "a/b, where sbatch sends it: the partition is not up"}, "the partition is not up"),
    ],
)
def test_outcomes_are_few(fields: dict[str, object], outcome: str) -> None:
    """Without names and figures, so that they can be counted."""
    assert records.outcome({**RECORD, **fields}) == outcome


def test_the_last_hour_is_counted_from_memory_and_accounting() -> None:
    """Each job once; what is no record of the hook, of an older hour or of the future does not count."""
    jobs = [RECORD, {"slurm_carbon": "x"}, "mine", {**RECORD, "decided": 1e12}, {**RECORD, "reason": "a\x1b[2J" + "b" * 99}]
    memory = {"jobs": [{"job_id": i, "admin_comment": json.dumps(x)} for i, x in enumerate(jobs, 1)]}
    old = {**RECORD, "decided": 10, "reason": "--begin was given"}
    rows = f"1|{json.dumps(RECORD)}\n6|{json.dumps({**RECORD, 'decided': 150})}\n7|{json.dumps(old)}\n8|\n9|[]\n"
    runner = FakeRunner(
        {("squeue",): Completed(0, b"CLUSTER: alpha\n" + json.dumps(memory).encode(), b""),
         ("sacct",): Completed(0, rows.encode(), b"")}
    )  # fmt: skip
    newest, counted = records.summary(records.read(runner, "alpha", "", 200), 50)
    assert newest is not None
    assert newest.decided_epoch_s == 150
    assert counted == [("", 2), ("a [2J" + "b" * 75, 1)]
    assert all("-M" in command.argv for command in runner.asked)


def test_without_accounting_memory_is_enough() -> None:
    """A slurmctld that does not answer is an error, a missing slurmdbd is none."""
    gone = Completed(1, b"", b"sacct: error: no\n")
    runner = FakeRunner({("squeue",): Completed(0, b'{"jobs": []}', b""), ("sacct",): gone})
    assert records.read(runner, "alpha", "/etc/slurm.conf", 200) == []
    with pytest.raises(CommandError, match="cluster alpha: squeue: sacct: error: no"):
        records.read(FakeRunner({("squeue",): gone}), "alpha", "", 200)
    with pytest.raises(CommandError, match="form that is not known"):
        records.read(FakeRunner({("squeue",): Completed(0, b"{}", b"")}), "alpha", "", 200)


def test_settings_of_a_slurm_conf(tmp_path: Path) -> None:
    """Names in any case, includes, comments, the last of two; what cannot be read is not there."""
    (tmp_path / "more.conf").write_text("SlurmUser=slurm2 # who\nJobSubmitPlugins=lua\n")
    conf = tmp_path / "slurm.conf"
    conf.write_text(
        "include slurm.conf\nSLURMUSER=slurm\n#PluginDir=/x\nNodeName=a CPUs=2\ninclude more.conf\nInclude missing.conf\n"
    )
    found = settings_of(str(conf))
    assert (found["slurmuser"], found["jobsubmitplugins"], found["nodename"]) == ("slurm2", "lua", "a")
    assert "plugindir" not in found
