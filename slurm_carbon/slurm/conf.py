"""A slurm.conf as text: the few settings that have to be known where no slurmctld may be running yet."""

import os


def settings_of(path: str) -> dict[str, str]:
    """Every `Name=value` that begins a line, by its name in small letters; included files are followed, the last counts."""
    found: dict[str, str] = {}
    _read(os.path.abspath(path), found, 0)
    return found


def _read(path: str, found: dict[str, str], depth: int) -> None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        words = line.partition("#")[0].split(None, 1)
        if len(words) == 2 and words[0].lower() == "include" and depth < 8:
            _read(os.path.join(os.path.dirname(path), words[1].strip()), found, depth + 1)
        elif words:
            name, equals, value = line.partition("#")[0].partition("=")
            if equals:
                found[name.strip().lower()] = value.split()[0].strip('"') if value.split() else ""
