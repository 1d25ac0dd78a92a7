"""A program started in somebody else's environment, which loads none of that person's code.

Who submits a job may set LD_LIBRARY_PATH and the like for it, and the job has to get them. But sbatch itself, run for him on
a machine that he may not be let in on, must not load libraries of his. Its loader is told where to look instead, which
beats the variable; what it cannot be told is refused, unless only root could have put it there.
"""

import os
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_FILES = ("LD_PRELOAD", "LD_AUDIT", "GCONV_PATH")  # of files or folders that are loaded from
_CODE = ("LUA_PATH", "LUA_CPATH", "LUA_INIT")  # for the site's filters in Lua, some with a version behind

_NAMES_LOADER = 3  # PT_INTERP


def start_of(program: str, library_path: str) -> list[str] | None:
    """The words that start a program with this library path, whatever the environment says; None if it is a script."""
    loader = _loader_of(program)
    return [loader, "--library-path", library_path, program] if loader else None


def what_loads(environment: "Mapping[str, str]", trusted: "Mapping[str, str]") -> str:
    """The name of a variable by which code of its owner's could be loaded all the same; empty if there is none.

    What `trusted`, our own environment, has too, is ours.
    """
    for name, value in environment.items():
        if not value or trusted.get(name) == value:
            continue
        if name.startswith(_CODE) or (name in _FILES and not all(map(_is_roots, value.replace(":", " ").split()))):
            return name
    return ""


def _is_roots(path: str) -> bool:
    """Whether only root could have put a file, or what is in a folder, there. Names without a folder are the system's."""
    if "$" in path or (not path.startswith("/") and "/" in path):
        return False
    if "/" not in path:
        return True
    try:
        path = os.path.realpath(path, strict=True)
        while True:
            found = os.lstat(path)
            if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return False
            if path == "/":
                return True
            path = os.path.dirname(path)
    except OSError:
        return False


def _loader_of(program: str) -> str | None:
    """The interpreter that an ELF file names; None for other files, and for those that name none. Raises OSError."""
    with open(program, "rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            return None
        order, is_64 = "<" if head[5] == 1 else ">", head[4] == 2
        table, size, count = (
            struct.unpack_from(order + form, head, at)[0]
            for form, at in ((("Q", 32), ("H", 54), ("H", 56)) if is_64 else (("I", 28), ("H", 42), ("H", 44)))
        )
        file.seek(table)
        entries = file.read(size * count)
        for at in range(0, len(entries), size):
            if struct.unpack_from(order + "I", entries, at)[0] == _NAMES_LOADER:
                file.seek(struct.unpack_from(order + ("Q" if is_64 else "I"), entries, at + (8 if is_64 else 4))[0])
                return file.read(4096).split(b"\0", 1)[0].decode()
    return None
