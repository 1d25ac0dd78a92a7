"""On a second Slurm: csbatch keeps the record there, and its sbatch parses what the owner submits again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import VERSIONS
from tests.kept.conftest import Bench, bring_up

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", params=VERSIONS[1:])
def second(installed: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Two clusters of another version. From outside its chroot only its users' own processes can call its sbatch."""
    yield from bring_up(installed, request.param)


@pytest.mark.parametrize("by_name", [False, True])
def test_a_copy_is_the_same_job(second: Bench, by_name: bool) -> None:
    """Options, script, environment, begin and comment: submitted again by the owner himself."""
    through = "umask 0137; ulimit -S -n 512; export A=$'b\\nc'; exec \"$@\""
    words = ("--signal=B:USR1@60", "--open-mode=append", "-a", "0-9:3%2", "-t", "60", "--wrap", "echo 'a  b'\nexit 3")
    job_id, mark = second.kept(*words, through=through)
    begin, comment = second.soon() + 999, "mine | ü'\""
    changes = {"slurm_conf": ""} if by_name else {}
    found = second.again(mark.id, as_user="user1", begin_epoch_s=begin, comment=comment, held=True, **changes)
    assert found.job_id, found
    copy = second.job("beta", found.job_id)
    assert (copy["Priority"], copy["Comment"]) == ("0", comment)
    assert datetime.fromisoformat(copy["StartTime"] + "Z").timestamp() == begin
    original, again = second.shown("alpha", job_id), second.shown("beta", found.job_id)
    names = {name for name in original | again if name[:1].isupper()}  # the others are words of the SubmitLine of 26.05
    differing = {name: (original.get(name), again.get(name)) for name in names if original.get(name) != again.get(name)}
    assert differing.keys() <= {"AllocNode:Sid", "SubmitLine", "SLUID"}, differing
    stored = [
        sorted(entry for entry in second.environment(*job) if not entry.startswith((b"SLURM_CONF=", b"_=")))
        for job in (("alpha", job_id), ("beta", found.job_id))
    ]
    assert stored[0] == stored[1]
    assert second.script("alpha", job_id) == second.script("beta", found.job_id)


@pytest.mark.parametrize(
    "word", ["-H", "--begin=now", "-M alpha", "-W", "-w beta1", "--reservation=r", "-d singleton", "--deadline=now+1day"]
)
def test_what_ties_it_is_seen(second: Bench, word: str) -> None:
    """Whatever this version calls it."""
    _, mark = second.kept("-t", "60", "--wrap", "true")
    path = second.record(mark.id)
    data = path.read_bytes()
    options = word.encode().split()
    head, _, body = data.partition(b"\n")
    count = int(head.partition(b'"options":')[2].partition(b",")[0])
    head = head.replace(b'"options":%d' % count, b'"options":%d' % (count + len(options)))
    directory, cluster, rest = body.split(b"\0", 2)
    path.write_bytes(head + b"\n" + b"\0".join([directory, cluster, *options, rest]))
    found = second.again(mark.id, as_user="user1")
    assert found.nothing, found
