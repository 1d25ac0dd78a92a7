"""csbatch without Slurm: the pieces that need none, and the dry run on a machine that has no sbatch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_carbon import marks
from slurm_carbon import outlook as outlooks
from slurm_carbon.decide import decide
from slurm_carbon.errors import CommandError, UsageError
from slurm_carbon.marks import read
from slurm_carbon.model import Job, Wishes
from slurm_carbon.narrate import details, line, table
from slurm_carbon.slurm import offline
from slurm_carbon.slurm.command import Command, Runner
from slurm_carbon.slurm.sbatch import Parsed, forget_folder, parser_folder
from slurm_carbon.submission import allowed, command_line, ends_in_terminator, note_of
from tests.unit.factory import NOW, OWNER, outlook, partition

ROOT = Path(__file__).parent.parent.parent
JOB = Job(time_limit_s=7200, cpus=16)
LATER = [300.0] * 5 + [10.0] * 67


def final(job: Job, options: list[str], script: list[str]) -> list[str]:
    """The sbatch command for a job that is best off later on beta."""
    world = outlook(clean=LATER)
    decision = decide(job, OWNER, Wishes(), world, "alpha", NOW)
    return command_line(decision, "sbatch", options, script, job, world, (), marks.of_decision(decision, world))


def test_ours_stand_before_the_users() -> None:
    """So that his own are the last, and count."""
    argv = final(JOB, ["-n", "16"], ["job.sh", "-x"])
    assert argv[0:4] == ["sbatch", f"--begin=uts{NOW + 5 * 3600}", "-M", "beta"]
    assert argv[-4:] == ["-n", "16", "job.sh", "-x"]
    assert read(argv[4].removeprefix("--comment="))[1].location == "beta/batch"


def test_the_comment_with_the_users_text_stands_last() -> None:
    """Behind his own, before the script and before a `--` that ends the options; also where his own is empty."""
    job = JOB._replace(comment="mine")
    assert final(job, ["--comment=mine"], ["job.sh"])[-2].startswith("--comment=mine | cs1 ")
    assert final(job, ["--comment=mine", "--"], ["job.sh"])[-3].startswith("--comment=mine | cs1 ")
    assert final(job._replace(comment=""), ["--comment="], ["job.sh"])[-2].startswith("--comment=cs1 ")


def test_a_value_can_look_like_the_end_of_the_options() -> None:
    """`-J --` names a job: what follows is still an option."""
    assert not ends_in_terminator(["-J", "--"], "--")
    assert ends_in_terminator(["-J", "--", "--"], "--")
    assert ends_in_terminator(["-J", "x", "--"], "x")


def test_partition_is_named_where_it_is_not_the_default() -> None:
    """And only there."""
    world = outlook(clean=[100.0], partitions=[partition("alpha"), partition("beta", "green", is_default=False)])
    argv = command_line(decide(JOB, OWNER, Wishes(), world, "alpha", NOW), "sbatch", [], [], JOB, world)
    assert argv[1:5] == ["-M", "beta", "-p", "green"]


def test_what_is_left_alone_is_what_was_written() -> None:
    """Not a word more."""
    world = outlook()
    decision = decide(Job(fixed="--begin was given"), OWNER, Wishes(), world, "alpha", NOW)
    assert command_line(decision, "sbatch", ["--begin=now"], ["j"], JOB, world) == ["sbatch", "--begin=now", "j"]


def test_who_opts_out_says_so_where_jobs_are_planned_again() -> None:
    """In the comment behind his own text, if the site lets him; elsewhere the job is what was written."""
    world = outlook()
    again = world._replace(reoptimize={"mode": "enforce", "records": ""})
    decision, off = decide(JOB, OWNER, Wishes(off=True), world, "alpha", NOW), Wishes(off=True)
    parsed, het = Parsed("alpha", {}, ["j"]), Parsed("alpha", {"het-job": "set"}, ["j"])
    assert note_of(decision, off, parsed, world) is None
    assert note_of(decision, off, het, again) is None
    note = note_of(decision, off, parsed, again)
    argv = command_line(decision, "sbatch", ["-n1"], ["j"], JOB._replace(comment="mine"), again, (), note)
    assert argv == ["sbatch", "-n1", "--comment=mine | cs1 off", "j"]
    assert allowed(off, JOB, OWNER, world) == off
    assert allowed(off, JOB, OWNER, outlook(opt_out=("user:user2",))).off is None


def test_words_say_what_was_decided_and_why() -> None:
    """One line; the details; the table with every location, its figures or its reason."""
    world = outlook(clean=LATER, partitions=[partition("alpha"), partition("beta"), partition("beta", "x", up=False)])
    decision = decide(JOB, OWNER, Wishes(), world, "alpha", NOW)
    assert re.search(
        r"5 h later\) on beta/batch \(C\); should emit \S+ g CO2e instead of .* % less; test\)", line(decision, world)
    )
    assert "the site's 1 d" in details(decision, world, NOW)[0]
    rows = table(decision, world)
    assert any(re.match(r"sbatch +alpha/batch +D +at once", row) for row in rows)
    assert any(re.match(r"-> +beta/batch", row) for row in rows)
    assert any(re.search(r"beta/x .* the partition is not up", row) for row in rows)


@pytest.mark.parametrize(
    ("words", "options", "script"),
    [
        (
            ["-n4", "--time=1:00:00", "-c", "2", "--hold"],
            {"ntasks": "4", "time": "1:00:00", "cpus-per-task": "2", "hold": "set"},
            None,
        ),
        (["--acc", "lab", "--wrap", "a b"], {"account": "lab", "wrap": "a b"}, None),
    ],
)
def test_offline_reader(words: list[str], options: dict[str, str], script: str | None) -> None:
    """Short, long and abbreviated options, as getopt has them."""
    parsed = offline.parse(words, "alpha")
    assert (parsed.options, parsed.script) == (options, script)


def test_offline_reader_reads_the_script_and_knows_its_limits(tmp_path: Path) -> None:
    """The command line beats the script; an unknown option is an error that says why."""
    script = tmp_path / "j.sh"
    script.write_text("#!/bin/sh\n#SBATCH -t 10 -n 2 # remark\necho\n#SBATCH -n 9\n")
    parsed = offline.parse(["-t", "20", str(script), "x"], "alpha")
    assert (parsed.options["time"], parsed.options["ntasks"], parsed.trailing) == ("20", "2", 2)
    with pytest.raises(UsageError, match="no sbatch here"):
        offline.parse(["--frobnicate"], "alpha")


def dry_run(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """csbatch --carbon-dry-run where there is no sbatch."""
    environment = {"PATH": str(tmp_path), "SLURM_CARBON_OUTLOOK": str(tmp_path / "o.json"), "HOME": str(tmp_path)}
    code = (
        "import os, sys; sys.argv[1:1] = [str(os.open('/dev/null', 0))]; from slurm_carbon.launch import main; sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-I", "-c", code, *words], env=environment, capture_output=True, text=True, check=False
    )


def test_dry_run_without_slurm(tmp_path: Path) -> None:
    """The decision and the exact command, on stdout; without --carbon-dry-run nothing is there to submit with."""
    now = int(os.environ.get("SOURCE_DATE_EPOCH", 0)) or int(__import__("time").time())
    world = outlook(clean=LATER)
    shifted = {zone: grid._replace(start_epoch_s=now - now % 3600) for zone, grid in world.zones.items()}
    outlooks.write(world._replace(generated_epoch_s=now, zones=shifted), str(tmp_path / "o.json"))
    done = dry_run(tmp_path, "--carbon-dry-run", "--carbon-explain", "-t", "2:00:00", "-n", "16", "--wrap", "echo 'a b'")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.match(r"sbatch --begin=uts\d+ -M beta '--comment=cs1 .*' -t 2:00:00 -n 16 --wrap", last)
    plain = dry_run(tmp_path, "-t", "2:00:00", "--wrap", "x")
    assert plain.returncode == 127
    assert "no sbatch on PATH" in plain.stderr


def test_help_needs_nothing(tmp_path: Path) -> None:
    """No Slurm, no outlook."""
    done = dry_run(tmp_path, "--carbon-help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: csbatch")


def test_commands_end(tmp_path: Path) -> None:
    """Output of any length is read whole, exit codes and signals come back, and what takes too long is ended."""
    run = Runner().run
    done = run(
        Command([sys.executable, "-c", "import sys; print('x' * 10**6); print('e' * 10**6, file=sys.stderr); sys.exit(3)"], "t")
    )
    assert (done.exit_code, len(done.stdout), len(done.stderr)) == (3, 10**6 + 1, 10**6 + 1)
    assert run(Command([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "t")).exit_code == -9
    with pytest.raises(CommandError, match=r"took longer than 0\.2 s"):
        run(Command([sys.executable, "-c", "import time; time.sleep(60)"], "t", timeout_s=0.2))
    with pytest.raises(CommandError, match="cannot run"):
        run(Command([str(tmp_path / "nothing")], "t"))


def test_parser_folder_follows_the_sites(tmp_path: Path) -> None:
    """Made once, made again when the site's folder changes, never used when others could write to it."""
    site, cache = tmp_path / "site", tmp_path / "cache"
    site.mkdir()
    (site / "slurm.conf").write_text("ClusterName=x\n")
    (site / "plugstack.conf").touch()
    environment = {"XDG_CACHE_HOME": str(cache)}
    for path in (site, site / "slurm.conf"):
        os.utime(path, (1, 1))
    folder = Path(parser_folder(str(site / "slurm.conf"), environment))
    assert sorted(os.listdir(folder)) == ["cli_filter.lua", "plugstack.conf", "slurm.conf"]
    made = (folder / "cli_filter.lua").stat().st_mtime_ns
    assert Path(parser_folder(str(site / "slurm.conf"), environment)) == folder
    assert (folder / "cli_filter.lua").stat().st_mtime_ns == made
    (site / "nodes.conf").touch()
    later = made / 1e9 + 1
    os.utime(site, (later, later))
    parser_folder(str(site / "slurm.conf"), environment)
    assert (folder / "nodes.conf").is_symlink()
    folder.chmod(0o777)
    elsewhere = Path(parser_folder(str(site / "slurm.conf"), environment))
    assert elsewhere != folder
    forget_folder(str(elsewhere))
    assert not elsewhere.exists()
