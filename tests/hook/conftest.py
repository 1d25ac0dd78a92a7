"""Real clusters with the hook installed in them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.conftest import Lab

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "etc/lua/slurm_carbon.lua"
SITE_SCRIPT = """\
function slurm_job_submit(description, partitions, uid) return slurm.SUCCESS end
function slurm_job_modify(description, record, partitions, uid) return slurm.SUCCESS end
"""


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
