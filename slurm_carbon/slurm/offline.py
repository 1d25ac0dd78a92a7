"""A small reader of sbatch's options, for `--carbon-dry-run` on a machine that has no sbatch.

It knows the options that placement needs and those that take a value next to them; a submission never relies on it.
"""

import getopt

from slurm_carbon.errors import UsageError
from slurm_carbon.slurm.sbatch import Parsed

_SHORT = {
    "A": "account", "a": "array", "b": "begin", "C": "constraint", "c": "cpus-per-task", "D": "chdir", "d": "dependency",
    "e": "error", "F": "nodefile", "G": "gpus", "H": "hold", "h": "help", "I": "immediate", "i": "input", "J": "job-name",
    "L": "licenses", "M": "clusters", "m": "distribution", "N": "nodes", "n": "ntasks", "o": "output", "O": "overcommit",
    "p": "partition", "Q": "quiet", "q": "qos", "S": "core-spec", "s": "oversubscribe", "t": "time", "V": "version",
    "v": "verbose", "W": "wait", "w": "nodelist", "x": "exclude",
}  # fmt: skip
_FLAGS = ("hold", "help", "immediate", "overcommit", "quiet", "oversubscribe", "version", "verbose", "wait", "contiguous",
          "no-kill", "no-requeue", "requeue", "parsable", "spread-job", "test-only", "use-min-nodes", "exclusive")  # fmt: skip
_MORE = ("comment", "wrap", "gres", "mem", "mem-per-cpu", "mem-per-gpu", "gpus-per-node", "gpus-per-task", "cpus-per-gpu",
         "ntasks-per-node", "ntasks-per-core", "ntasks-per-socket", "deadline", "reservation", "export", "signal",
         "mail-type", "mail-user", "open-mode", "nice", "priority", "switches", "time-min", "tmp", "bb", "wckey")  # fmt: skip


def parse(words: list[str], home_cluster: str) -> Parsed:
    """The options of a command line and its script. Raises UsageError for those that it does not know."""
    letters = "".join(letter if name in _FLAGS else letter + ":" for letter, name in _SHORT.items())
    names = [*_FLAGS, *(name + "=" for name in (*_SHORT.values(), *_MORE) if name not in _FLAGS)]
    try:
        pairs, rest = getopt.getopt(words, letters, names)
        options = _script_options(rest[0], letters, names) if rest else {}
    except getopt.GetoptError as error:
        raise UsageError(f"{error.msg} (there is no sbatch here, and what stands in for it knows few options)") from None
    except OSError as error:
        raise UsageError(f"script {rest[0]}: {error.strerror}") from None
    return Parsed(home_cluster, options | _named(pairs), rest)


def _script_options(path: str, letters: str, names: list[str]) -> dict[str, str]:
    import shlex

    words: list[str] = []
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                break
            if line.startswith("#SBATCH"):
                words += shlex.split(line[len("#SBATCH") :], comments=True)
    return _named(getopt.getopt(words, letters, names)[0])


def _named(pairs: list[tuple[str, str]]) -> dict[str, str]:
    return {(_SHORT[name[1:]] if not name.startswith("--") else name[2:]): value or "set" for name, value in pairs}
