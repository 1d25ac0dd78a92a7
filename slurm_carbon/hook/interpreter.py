"""Lua as Slurm has it: the very library that its plugins link, so that what is checked here is what slurmctld will run.

The C interface is that of Lua 5.1 to 5.4 (https://www.lua.org/manual/5.1/manual.html#3); the few names that differ between
them are looked up.
"""

import ctypes
import glob
import os
import re

from slurm_carbon.errors import HookError

_PLUGINS = ("/usr/lib/*/slurm*/job_submit_lua.so", "/usr/lib64/slurm*/job_submit_lua.so", "/usr/lib/slurm*/job_submit_lua.so")
_LIBRARIES = ("liblua5.1.so.0", "liblua-5.1.so", "liblua5.1.so")  # where there is no Slurm: the one that most builds have


def library_of(plugin_dir: str = "") -> str:
    """The Lua library of Slurm's submit plugin; of this machine, where there is none. Raises HookError."""
    plugins = [f"{plugin_dir}/job_submit_lua.so"] if plugin_dir else [path for x in _PLUGINS for path in glob.glob(x)]
    for plugin in plugins:
        if os.path.exists(plugin):
            with open(plugin, "rb") as file:
                needed = re.search(rb"\0(liblua[\w.+-]*\.so[.\d]*)\0", file.read())
            if needed:
                return needed[1].decode()
    for name in _LIBRARIES:
        try:
            ctypes.CDLL(name)
            return name
        except OSError:
            continue
    raise HookError(
        "no job_submit_lua.so of Slurm, and no Lua 5.1, here: install Slurm's Lua plugin (Debian: slurm-wlm-basic-plugins)"
    )


class Interpreter:
    """One Lua library; each call has a state of its own."""

    def __init__(self, library: str) -> None:
        try:
            self._lua = ctypes.CDLL(library)
        except OSError as error:
            raise HookError(f"{library}: {error}") from None
        self.library = library
        self._lua.luaL_newstate.restype = ctypes.c_void_p
        self._lua.lua_tolstring.restype = ctypes.c_void_p

    def problem(self, text: str, name: str) -> str:
        """What is wrong with the syntax of a script; empty if nothing is."""
        return self._run(text, name, call=False)[1]

    def evaluate(self, text: str, name: str) -> str:
        """The text that a script returns, run with all of Lua's libraries. Raises HookError with Lua's message."""
        result, problem = self._run(text, name, call=True)
        if problem:
            raise HookError(problem)
        return result

    def _run(self, text: str, name: str, *, call: bool) -> tuple[str, str]:
        lua, data = self._lua, text.encode("utf-8", "surrogateescape")
        state = ctypes.c_void_p(lua.luaL_newstate())
        try:
            lua.luaL_openlibs(state)
            size, label = ctypes.c_size_t(len(data)), f"@{name}".encode()
            if hasattr(lua, "luaL_loadbufferx"):
                failed = lua.luaL_loadbufferx(state, data, size, label, b"t")
            else:
                failed = lua.luaL_loadbuffer(state, data, size, label)
            if not failed and call:
                if hasattr(lua, "lua_pcallk"):
                    failed = lua.lua_pcallk(state, 0, 1, 0, ctypes.c_void_p(0), None)
                else:
                    failed = lua.lua_pcall(state, 0, 1, 0)
            shown = self._text(state) if failed or call else ""
            return ("", shown or "failed") if failed else (shown, "")
        finally:
            lua.lua_close(state)

    def _text(self, state: ctypes.c_void_p) -> str:
        """The value on top of the stack, as text."""
        size = ctypes.c_size_t()
        found = self._lua.lua_tolstring(state, -1, ctypes.byref(size))
        return ctypes.string_at(found, size.value).decode("utf-8", "replace") if found else ""
