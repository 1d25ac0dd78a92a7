"""Our own options: told apart from sbatch's and from the script's, with sbatch's precedence."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_carbon.errors import ConfigError, UsageError
from slurm_carbon.launch import without_own
from slurm_carbon.model import Wishes
from slurm_carbon.own import Own
from slurm_carbon.wishes import merged, of_environment, of_options, of_script, of_user_file, unknown_variables

NOW = 1_795_000_000


@pytest.mark.parametrize(
    ("words", "trailing", "options", "script", "given"),
    [
        (["-n", "4", "job.sh"], 1, ["-n", "4"], ["job.sh"], []),
        (["--carbon-off", "job.sh", "--carbon-off"], 1, [], ["job.sh", "--carbon-off"], [("off", None)]),
        (["--carbon-max-delay", "6h", "job.sh"], 1, [], ["job.sh"], [("max-delay", "6h")]),
        (["--carbon-max-delay=6h", "-J", "x", "--wrap=a"], 0, ["-J", "x", "--wrap=a"], [], [("max-delay", "6h")]),
        (["job.sh", "--carbon-max-delay", "6h", "end"], 2, [], ["job.sh", "--carbon-max-delay", "6h", "end"], []),
        (["--carbon-v", "--", "job.sh", "--carbon-off"], 2, ["--"], ["job.sh", "--carbon-off"], [("verbose", None)]),
        (["-J", "a", "--carbon-dry", "j", "b"], 2, ["-J", "a"], ["j", "b"], [("dry-run", None)]),
        ([], 0, [], [], []),
    ],
)
def test_ours_before_the_script_and_its_own_behind_it(
    words: list[str], trailing: int, options: list[str], script: list[str], given: list[tuple[str, str | None]]
) -> None:
    """sbatch says how many words are script and arguments: what looks like ours among them is not."""
    assert Own(words).split_at_script(trailing) == (options, script, given)


@pytest.mark.parametrize("arguments", [["--carbon-off"], ["--carbon-max-delay", "6h"], ["--carbon-locations=x", "-t", "5"]])
def test_the_guess_without_sbatch_agrees(arguments: list[str], tmp_path: Path) -> None:
    """Where sbatch cannot be asked, the first word that is a file ends our options."""
    script = tmp_path / "job.sh"
    script.touch()
    assert without_own([*arguments, str(script), *arguments]) == [
        *[a for a in arguments if a in ("-t", "5")],
        str(script),
        *arguments,
    ]


def test_every_value_can_be_given() -> None:
    """Each option ends in its wish."""
    given = [("max-delay", "6h"), ("finish-by", "now+1day"), ("locations", "a, b/c"), ("off", None), ("dry-run", None),
             ("explain", None), ("verbose", None)]  # fmt: skip
    assert of_options(given, NOW) == Wishes(21600, NOW + 86400, ("a", "b/c"), True, True, True, True)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([("max-dely", "6h")], "did you mean --carbon-max-delay"),
        ([("zzz", None)], "--carbon-help"),
        ([("", None)], "unknown"),
        ([("off", "1")], "takes no value"),
        ([("max-delay", "soon")], "--carbon-max-delay: 'soon' is no duration"),
        ([("finish-by", "soon")], "--carbon-finish-by: 'soon' is no time"),
        ([("locations", ",")], "names no location"),
    ],
)
def test_mistakes_say_what_to_write(given: list[tuple[str, str | None]], text: str) -> None:
    """A wrong option or value is the user's mistake, and says what is allowed."""
    with pytest.raises(UsageError, match=text):
        of_options(given, NOW)


def test_a_missing_value_is_a_mistake() -> None:
    """--carbon-max-delay at the end of the line."""
    with pytest.raises(UsageError, match="needs a value"):
        Own(["--carbon-max-delay"]).split_at_script(0)


def test_environment() -> None:
    """CSBATCH_* says the same; a flag can be switched off; what it does not know it leaves to others."""
    values = {
        "CSBATCH_MAX_DELAY": "2h",
        "CSBATCH_OFF": "0",
        "CSBATCH_VERBOSE": "yes",
        "CSBATCH_SBATCH": "/x",
        "CSBATCH_EXPLAIN": "",
    }
    assert of_environment(values, NOW) == Wishes(max_delay_s=7200, off=False, verbose=True)
    with pytest.raises(UsageError, match="CSBATCH_OFF=maybe"):
        of_environment({"CSBATCH_OFF": "maybe"}, NOW)


def test_script_lines_count_up_to_the_first_command() -> None:
    """Like #SBATCH lines."""
    text = (
        b"#!/bin/sh\n\n#CSBATCH --carbon-max-delay=6h  # a remark\n#CSBATCHX --carbon-off\n# x\necho\n#CSBATCH --carbon-off\n"
    )
    assert of_script(text.splitlines(True), NOW) == (Wishes(max_delay_s=21600), False)


@pytest.mark.parametrize("line", [b"#CSBATCH --max-delay=6h", b"#CSBATCH --carbon-nope", b"#CSBATCH --carbon-max-delay='6h"])
def test_mistakes_in_the_script_name_the_line(line: bytes) -> None:
    """As sbatch does for #SBATCH lines, a wrong one stops the submission."""
    with pytest.raises(UsageError):
        of_script([b"#!/bin/sh\n", line], NOW)


def test_heterogeneous_script_is_seen() -> None:
    """sbatch shows us its first component only: we have to know that there are more."""
    assert of_script([b"#!/bin/sh\n", b"#SBATCH -N1\n", b"#SBATCH hetjob\n"], NOW)[1]


def test_first_to_speak_wins() -> None:
    """The command line beats the environment, and that the script."""
    assert merged(Wishes(off=False), Wishes(off=True, max_delay_s=1), Wishes(max_delay_s=2, explain=True)) == Wishes(
        max_delay_s=1, off=False, explain=True
    )


def test_user_file(tmp_path: Path) -> None:
    """~/.config/slurm_carbon/config.toml holds the habits of a user; a misspelt key is said."""
    file = tmp_path / "slurm_carbon/config.toml"
    assert of_user_file({"XDG_CONFIG_HOME": str(tmp_path)}, NOW) == Wishes()
    file.parent.mkdir()
    file.write_text('max_delay = "2h"\nlocations = ["beta", "C"]\nverbose = true\n')
    assert of_user_file({"XDG_CONFIG_HOME": str(tmp_path)}, NOW) == Wishes(7200, locations=("beta", "C"), verbose=True)
    for wrong in ("max_dely = 1", "dry_run = true", "max_delay = ", 'max_delay = "x"'):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match=r"config\.toml"):
            of_user_file({"XDG_CONFIG_HOME": str(tmp_path)}, NOW)


def test_a_misspelt_variable_is_named() -> None:
    """A wish in a variable that we do not read is told, with what it may have meant; our own and others' are not."""
    names = ["CSBATCH_MAXDELAY", "CSBATCH_OFF", "CSBATCH_SBATCH", "SBATCH_X", "CSBATCH_12345"]
    assert unknown_variables(names) == [
        "CSBATCH_MAXDELAY is none of our variables; did you mean CSBATCH_MAX_DELAY?",
        "CSBATCH_12345 is none of our variables",
    ]


def test_a_mistake_in_a_script_names_its_line() -> None:
    """Whatever is wrong there, the user is sent to the line; of equal wishes the last line counts."""
    for line in (b"#CSBATCH --carbon-nope", b"#CSBATCH --carbon-max-delay=soon", b"#CSBATCH --carbon-off='"):
        with pytest.raises(UsageError, match="script line 2: "):
            of_script([b"#!/bin/sh", line], NOW)
    assert of_script([b"#CSBATCH --carbon-max-delay=1h", b"#CSBATCH --carbon-max-delay=2h"], NOW)[0].max_delay_s == 7200
