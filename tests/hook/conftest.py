"""Real clusters with the hook installed in them."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conftest import Lab

ROOT = Path(__file__).parents[2]
SITE_SCRIPT = """\
function slurm_job_submit(description, partitions, uid) return slurm.SUCCESS end
function slurm_job_modify(description, record, partitions, uid) return slurm.SUCCESS end
"""
LOADS = """\
local ok, carbon = pcall(dofile, "{module}")
if ok then pcall(carbon.job_submit, {{outlook = "{outlook}"}}) else slurm.log_error("%s", tostring(carbon)) end
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
    lab.config.write_text(f'{text[:begin]}\n[hook]\nmode = "{mode}"\nmodes = {{{modes}}}\n{text[end:]}')
    lab.refresh()
