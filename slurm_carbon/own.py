"""Our options apart from sbatch's: all that has to be known before sbatch can be asked about the rest."""

from slurm_carbon.errors import UsageError
from slurm_carbon.launch import OWN_PREFIX, TAKE_A_WORD, VALUE_OPTIONS, own_option

Given = list[tuple[str, str | None]]


class Own:
    """Our options taken out of a command line: `words` is what is left, `taken` where each of ours stood."""

    __slots__ = ("kept", "taken", "words")

    def __init__(self, words: list[str]) -> None:
        self.words: list[str] = []
        self.kept: list[int] = []
        self.taken: list[tuple[int, list[str]]] = []
        position = 0
        while position < len(words):
            word = words[position]
            if word == "--":
                self._keep(words, range(position, len(words)))
                return
            width = 1
            if word.startswith(OWN_PREFIX) and (not self.words or self.words[-1] not in TAKE_A_WORD):
                name, value = own_option(word)
                if name in VALUE_OPTIONS and value is None:
                    width = 2
                self.taken.append((position, words[position : position + width]))
            else:
                self._keep(words, range(position, position + 1))
            position += width

    def _keep(self, words: list[str], positions: range) -> None:
        self.kept.extend(positions)
        self.words.extend(words[i] for i in positions)

    def split_at_script(self, trailing: int) -> tuple[list[str], list[str], Given]:
        """sbatch's options, the script with its arguments, and our options.

        `trailing` is how many of the words sbatch took as script and arguments: what looked like ours behind the
        script is an argument of it, and goes back to its place.
        """
        first = len(self.words) - trailing
        script_at = self.kept[first] if trailing else None
        ours = [t for t in self.taken if script_at is None or t[0] < script_at]
        back = [t for t in self.taken if script_at is not None and t[0] > script_at]
        tail = [(position, [word]) for position, word in zip(self.kept[first:], self.words[first:], strict=True)]
        arguments = [word for _, group in sorted(tail + back) for word in group]
        return self.words[:first], arguments, [_given(group) for _, group in ours]


def _given(group: list[str]) -> tuple[str, str | None]:
    name, value = own_option(group[0])
    if name in VALUE_OPTIONS and value is None:
        if len(group) < 2:
            raise UsageError(f"{OWN_PREFIX}{name} needs a value")
        value = group[1]
    return name, value
