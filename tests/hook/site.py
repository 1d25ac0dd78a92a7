"""Real clusters and the hook installed in them: what the tests of it share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Done, Lab, start_lab

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "etc/lua/slurm_carbon.lua"
LUAS = ("lua5.1", "lua5.4")
THREE = ("alpha", "beta", "gamma")
JOB = ("-t", "120", "-n", "4", "-o", "/dev/null", "--wrap=sleep 1")
HOUR = 3600
DIPS_H = {"alpha": 10, "beta": 8, "gamma": 6}  # when the power of each is cleanest, gamma's being the cleanest of all
SITE_SCRIPT = """\
function slurm_job_submit(description, partitions, uid) return slurm.SUCCESS end
function slurm_job_modify(description, record, partitions, uid) return slurm.SUCCESS end
"""


def run_lua(version: str, *argv: str | Path) -> str:
    """What a Lua script prints."""
    if not shutil.which(version):
        pytest.skip(f"needs {version}")
    done = subprocess.run([version, *map(str, argv)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def hook_folder(lab: Lab) -> Path:
    """The folder of the hook's outlook, made as `slurm-carbon hook install` makes it."""
    folder = lab.site / "hook"
    if not folder.exists():
        folder.mkdir()
        shutil.chown(folder, group="slurm")
        folder.chmod(0o2755)
    return folder


def set_mode(lab: Lab, mode: str, **others: str) -> None:
    """Give the hook a mode, by the site's configuration, and publish."""
    text = lab.config.read_text()
    begin = text.index("\n[hook]")
    end = text.index("\n[", begin + 2) if "\n[" in text[begin + 2 :] else len(text)
    modes = ", ".join(f'"{who.replace("__", ":")}" = "{what}"' for who, what in others.items())
    hook = f'[hook]\nmode = "{mode}"\nclient_moves = true\nmodes = {{{modes}}}\n'
    lab.config.write_text(f"{text[:begin]}\n{hook}{text[end:]}")
    lab.refresh()


def install_hook(lab: Lab, *clusters: str, client: bool = True) -> None:
    """`slurm-carbon hook install` on each cluster, the plugins in its slurm.conf, and a restart."""
    for cluster in clusters:
        folder = lab.folder / cluster
        (folder / "job_submit.lua").write_text(SITE_SCRIPT + "return slurm.SUCCESS\n")
        filters = "CliFilterPlugins=cli_filter/lua\n" if client else ""
        with (folder / "site.conf").open("a") as conf:
            conf.write(f"JobSubmitPlugins=lua\n{filters}")
        done = lab.run(lab.bin / "slurm-carbon", "hook", "install", user=None, cluster=cluster)
        assert done.code == 0, done.err
    os.chown(lab.site / "hook", 0, _slurm_gid(lab))
    lab.control("restart")


def _slurm_gid(lab: Lab) -> int:
    """The group of the user slurm, which a chroot numbers by itself."""
    inside = lab.folder / "bin/inside"
    return int(lab.run(*([inside] if inside.exists() else []), "id", "-g", "slurm", user=None).out)


def write_zones(lab: Lab, dips_h: dict[str, int]) -> None:
    """Forecasts in which each cluster's power is clean for four hours, some hours from now, the later the less."""
    hour = int(lab.run("date", "+%s").out) // 3600 * 3600
    text = lab.config.read_text()
    for cluster, dip in dips_h.items():
        rows = [f"{hour + h * 3600},{100 + 20 * dip if dip <= h < dip + 4 else 600}" for h in range(-2, 24 * 8)]
        (lab.site / f"{cluster}.csv").write_text("start,g_per_kwh\n" + "\n".join(rows) + "\n")
    head = "[outlook]" + text.partition("[outlook]")[2].partition("\n[hook]")[0]
    tables = "".join(
        f'[zones.{c}]\nsources = ["file"]\nfile = "{lab.site}/{c}.csv"\n'
        f'[clusters.{c}]\nzone = "{c}"\nfilesystem = "home"\nslurm_conf = "{lab.folder}/{c}/slurm.conf"\npue = 1.5\n'
        f"[clusters.{c}.partitions.batch]\n[clusters.{c}.partitions.gpu]\n[clusters.{c}.partitions.short]\npue = 1.1\n"
        for c in dips_h
    )
    lab.config.write_text(f'{head}\n[hook]\nmode = "enforce"\nclient_moves = true\n{tables}')
    lab.refresh()


def with_hook(installed: Path, name: str, *up: str, version: str, client: bool = True) -> Iterator[Lab]:
    """Three clusters with the hook in each, on the fake clock; the partition `short` is the better one."""
    for lab in start_lab(installed, name, "--fake-clock", *up, clusters=THREE, version=version):
        install_hook(lab, *THREE, client=client)
        yield lab


# submissions


def sbatch(lab: Lab, *words: str, cluster: str = "alpha", **environment: str | None) -> Done:
    """Submit as an ordinary user; it must succeed."""
    done = lab.run("sbatch", *words, cluster=cluster, **environment)
    assert done.code == 0, done.err
    return done


def where(done: Done, home: str = "alpha") -> tuple[str, str]:
    """Cluster and id of the job that sbatch says it has submitted."""
    words = done.out.split()
    return (words[-1] if "cluster" in words else home), words[3]


# a job on a fake clock may fail at once: libfaketime wants the memory of the sbatch that submitted it, and that is gone
STARTED = ("RUNNING", "COMPLETING", "COMPLETED", "FAILED")


def started(lab: Lab, done: Done) -> dict[str, str]:
    """The fields of a job that has been started."""
    return lab.wait_for(*where(done), *STARTED)


def record(job: dict[str, str]) -> dict:
    """The hook's record."""
    return json.loads(job["AdminComment"])


def epoch(lab: Lab, job: dict[str, str], field: str = "StartTime") -> int:
    """A time of a job, in epoch seconds."""
    return int(lab.run("date", "-d", job[field], "+%s").out)


def now(lab: Lab) -> int:
    """The clusters' time."""
    return int(lab.run("date", "+%s").out)


def starts_as_planned(lab: Lab, cluster: str, job_id: str) -> None:
    """Let the clock jump to shortly before the planned start, and over it: the job starts there, at that time."""
    planned = record(lab.job(cluster, job_id))["begin"]
    lab.jump_to(planned - 90)
    assert lab.job(cluster, job_id)["JobState"] == "PENDING"
    lab.jump_to(planned + 2)
    fields = lab.wait_for(cluster, job_id, *STARTED)
    assert planned <= epoch(lab, fields) <= planned + 60
