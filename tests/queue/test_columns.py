"""The parser of squeue's columns: whatever users write comes back as it is, or nothing is believed."""

from __future__ import annotations

import os
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_carbon.queued import QueuedJob
from slurm_carbon.slurm import queue_columns, queue_values
from slurm_carbon.slurm.queue_columns import FIELDS, command, draw_word, parse
from slurm_carbon.slurm.queue_values import FormError

PLAIN = {
    "JobID": "7", "ArrayJobID": "7", "ArrayTaskID": "N/A", "State": "PENDING", "Cluster": "alpha", "UserName": "carol",
    "UserID": "20001", "Partition": "batch", "SubmitTime": "1795975600", "Reason": "Priority", "Name": "x", "Account": "lab",
    "QOS": "normal", "EligibleTime": "1795975600", "StartTime": "N/A", "EndTime": "N/A", "TimeLimit": "1:00:00",
    "PriorityLong": "1", "HetJobID": "N/A", "Dependency": "(null)", "NumNodes": "1", "MaxNodes": "1", "NumCPUs": "1",
    "NumTasks": "1", "cpus-per-task": "1", "Tres": "cpu=1,mem=1G,node=1,billing=1", "tres-per-job": "N/A",
    "tres-per-node": "N/A", "tres-per-task": "N/A", "tres-per-socket": "N/A", "Sockets": "*", "MinMemory": "1024M",
    "OverSubscribe": "OK", "Exclusive": "NO", "Feature": "(null)", "Licenses": "(null)", "Reservation": "(null)",
    "ReqNodes": "", "ExcNodes": "", "RestartCnt": "0", "BatchFlag": "1", "SiblingsActive": "NA", "SiblingsViable": "NA",
    "Deadline": "N/A",
    "Comment": "(null)", "admin_comment": "(null)",
}  # fmt: skip
# any text that argv can carry: no NUL; bytes that are no UTF-8 are lone surrogates here
TEXT = st.binary(max_size=60).map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
NASTY = st.sampled_from(["\n", "JOBID", "\n7", ":", ",", "Q", "%s", "(null", "records=9\n", "\n\n", "\x1b[2J", "‮", "N/A"])
FREE = st.lists(TEXT | NASTY, max_size=5).map(lambda parts: os.fsdecode(os.fsencode("".join(parts))))


def printed(rows: list[dict[str, str]], word: str, records: int | None = None) -> bytes:
    """What squeue prints for some jobs."""
    header = [field.upper() for field in FIELDS]
    lines = [header, *[[{**PLAIN, **row}[field] for field in FIELDS] for row in rows]]
    text = f"verbose = 1\nlast_update_time=1 records={len(rows) if records is None else records}\n"
    return (text + "".join("".join(f"{cell}{word}" for cell in line) + "\n" for line in lines)).encode(
        "utf-8", "surrogateescape"
    )


def job(word: str = "Qabcdefghijk", **fields: str) -> QueuedJob:
    """One job with some fields of its own."""
    (found,) = parse("alpha", printed([fields], word), word).jobs
    return found


@given(name=FREE, comment=FREE, admin=FREE, features=FREE, dependency=FREE, licenses=FREE)
def test_any_text_comes_back_unchanged(
    name: str, comment: str, admin: str, features: str, dependency: str, licenses: str
) -> None:
    """In every field that a user can write into, in the middle of other jobs."""
    word = draw_word()
    fields = {"Name": name, "Comment": comment, "admin_comment": admin, "Feature": features, "Dependency": dependency,
              "Licenses": licenses}  # fmt: skip
    before, found, after = parse("alpha", printed([{"JobID": "6"}, fields, {"JobID": "8"}], word), word).jobs
    none = ("(null)", "N/A", "NA")
    read = (found.name, found.comment, found.admin_comment, found.features, found.dependency, found.licenses)
    for given_text, got in zip((name, comment, admin, features, dependency, licenses), read, strict=True):
        assert got == ("" if given_text in none and got == "" else given_text)
    assert comment in ("(null)", found.comment)
    assert (before.id, found.id, after.id) == (6, 7, 8)
    assert os.fsencode(found.comment) == comment.encode("utf-8", "surrogateescape") or comment == "(null)"


@given(FREE, st.integers(1, 3), st.booleans())
def test_who_knows_the_word_makes_no_job(text: str, times: int, whole_row: bool) -> None:
    """Even a comment with the word in it, or with a whole row, is refused and changes no other job."""
    word = "Qabcdefghijk"
    row = word.join({**PLAIN, "JobID": "99", "UserName": "root"}[field] for field in FIELDS)
    comment = f"{text}{word}{PLAIN['admin_comment']}{word}\n{row}" if whole_row else text + word * times
    with pytest.raises(FormError):
        parse("alpha", printed([{"JobID": "6"}, {"Comment": comment}], word), word)


@given(st.sampled_from(FIELDS), FREE)
@settings(max_examples=300)
def test_any_text_in_any_field_is_read_or_refused(field: str, text: str) -> None:
    """Fields of Slurm's own are numbers, times and states in forms that are known, or the whole reading is refused."""
    word = draw_word()
    try:
        found = parse("alpha", printed([{"JobID": "6"}, {field: text}], word), word)
    except FormError:
        return
    plain = job(word)._asdict()
    (other, *same) = found.jobs
    assert other.id == 6
    assert len(same) == 1 or text in queue_values.OVER
    changed = [value for job_ in same for name, value in job_._asdict().items() if value != plain[name]]
    assert len(changed) <= 5  # a task of an array has a list, a number and an array; what is counted has nodes and memory


@given(st.lists(st.integers(0, 200), min_size=1, max_size=30, unique=True), st.integers(0, 20))
def test_lists_of_tasks(numbers: list[int], throttle: int) -> None:
    """However it is written, it names the same tasks, in the form that scontrol takes."""
    text = ",".join(map(str, sorted(numbers))) + (f"%{throttle}" if throttle else "")
    found = job(ArrayTaskID=text, ArrayJobID="7")
    assert (found.task_count, found.throttle) == (len(numbers), throttle)
    assert found.number == f"7_[{text.partition('%')[0]}]"


@pytest.mark.parametrize(
    ("text", "which", "count", "throttle"),
    [("0-9", "0-9", 10, 0), ("1-99:7%3", "1,8,15,22,29,36,43,50,57,64,71,78,85,92,99", 15, 3), ("3", "3", 1, 0),
     ("0-2,4,6-7%1", "0-2,4,6-7", 6, 1)],
)  # fmt: skip
def test_forms_of_tasks(text: str, which: str, count: int, throttle: int) -> None:
    """Ranges stay, steps are written out: scontrol does not take those."""
    assert queue_values.tasks(text) == (which, count, throttle)


@pytest.mark.parametrize("text", ["0-9,...", "", "a", "1-", "[1-2]", "-3", "1;2", "0x7"])
def test_a_list_of_tasks_that_is_none(text: str) -> None:
    """One that was cut short is refused, not taken for a shorter one."""
    with pytest.raises(FormError):
        job(ArrayTaskID=text)


@pytest.mark.parametrize(
    ("fields", "gpus", "gpu_type", "gres"),
    [
        ({"tres-per-node": "gres:gpu:a100:2", "Tres": "cpu=4,mem=1G,node=2"}, 4, "a100", (("gpu:a100", 2),)),
        ({"tres-per-node": "gres/gpu:a100:2", "Tres": "cpu=4,mem=1G,node=2"}, 4, "a100", (("gpu:a100", 2),)),
        ({"tres-per-node": "gpu:2"}, 2, "", (("gpu", 2),)),
        ({"tres-per-node": "gres/gpu"}, 1, "", (("gpu", 1),)),
        ({"tres-per-node": "gres/gpu:1g.5gb:3,gres/shard:2"}, 3, "1g.5gb", (("gpu:1g.5gb", 3), ("shard", 2))),
        ({"tres-per-job": "gres/gpu:4", "tres-per-node": "gres/gpu:2", "Tres": "cpu=4,mem=1G,node=2"}, 4, "", (("gpu", 2),)),
        ({"tres-per-task": "cpu=3,gres/gpu:h100=1", "NumTasks": "3"}, 3, "h100", ()),
        ({"tres-per-task": "gres:gpu:1", "NumTasks": "", "cpus-per-task": "2", "NumCPUs": "8"}, 4, "", ()),
        ({"tres-per-socket": "gres:gpu:1", "Sockets": "2", "Tres": "cpu=4,mem=1G,node=3"}, 6, "", ()),
        ({"Tres": "cpu=4,mem=1G,node=1,gres/gpu=2,gres/gpu:a100=2"}, 2, "a100", ()),
        ({"Tres": "cpu=4,mem=1G,node=1,gres/gpu:a100=1,gres/gpu:v100=2"}, 3, "a100", ()),
        ({"tres-per-node": "gres:craynetwork:1"}, 0, "", (("craynetwork", 1),)),
        ({"tres-per-task": "cpu:3", "tres-per-node": "none"}, 0, "", ()),
        ({"tres-per-node": "gres:gpu:999999999999999999999k,::,=,gres/="}, 1024 * 999999999999999999999, "",
         (("gpu", 1024 * 999999999999999999999), ("::", 1), ("=", 1))),
    ],
)  # fmt: skip
def test_gpus(fields: dict[str, str], gpus: int, gpu_type: str, gres: tuple[tuple[str, int], ...]) -> None:
    """In each form of each version, counted over all nodes."""
    found = job(**fields)
    assert (found.gpus, found.gpu_type, found.gres_per_node) == (gpus, gpu_type, gres)


@pytest.mark.parametrize(
    ("fields", "per_node", "per_cpu"),
    [
        ({"MinMemory": "4096M", "Tres": "cpu=3,mem=4G,node=1", "NumCPUs": "3"}, 4096, None),
        ({"MinMemory": "4000M", "Tres": "cpu=3,mem=12000M,node=1", "NumCPUs": "3"}, None, 4000),
        ({"MinMemory": "4G", "Tres": "cpu=8,mem=32G,node=2", "NumCPUs": "8"}, None, 4096),
        ({"MinMemory": "4G", "Tres": "cpu=8,mem=8G,node=2", "NumCPUs": "8"}, 4096, None),
        ({"MinMemory": "1000M", "Tres": "cpu=2,mem=2000M,node=2", "NumCPUs": "2"}, 1000, None),  # one CPU a node: the same
        ({"MinMemory": "2T", "Tres": "cpu=64,mem=4T,node=2", "NumCPUs": "64"}, 2 * 1024**2, None),
        ({"MinMemory": "0", "Tres": "cpu=1,mem=62.50G,node=1"}, 0, None),
        ({"MinMemory": "500M", "Tres": "cpu=4,node=1", "NumCPUs": "4"}, 500, None),
    ],
)
def test_memory(fields: dict[str, str], per_node: float | None, per_cpu: float | None) -> None:
    """squeue does not say whether it is by node or by CPU; what Slurm counts in all does. 0 is all of a node."""
    found = job(**fields)
    assert (found.memory_mb_per_node, found.memory_mb_per_cpu) == (per_node, per_cpu)


@pytest.mark.parametrize("state", sorted(queue_values.OVER))
def test_what_is_over_is_left_out(state: str) -> None:
    """Jobs that slurmctld only remembers wait for nothing and use nothing."""
    word = draw_word()
    assert parse("alpha", printed([{"State": state}], word), word).jobs == ()


def test_rows_that_are_missing_say_that_arrays_are_merged() -> None:
    """squeue says how many records there are, and shows fewer."""
    word = draw_word()
    assert parse("alpha", printed([{}], word, records=2), word).merged
    assert not parse("alpha", printed([{}], word, records=1), word).merged


def test_the_command_gives_nothing_away_and_nothing_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The word is in the environment, never in the argument list; none of our own SQUEUE_* reaches squeue."""
    word = draw_word()
    found = command("beta", "", word)
    assert not any(word in part for part in found.argv)
    assert found.argv[:3] == ["squeue", "-M", "beta"]
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    monkeypatch.setenv("SLURM_CLUSTERS", "gamma")
    assert not {"SQUEUE_STATES", "SLURM_CLUSTERS"} & found.whole_environment.keys()
    by_conf = command("beta", "/etc/beta.conf", word)
    assert "-M" not in by_conf.argv
    assert by_conf.environment["SLURM_CONF"] == "/etc/beta.conf"


def test_words_are_drawn_anew_and_overlap_with_nothing() -> None:
    """No end of it is its beginning, so that a field cannot run into it; squeue takes no digit of it for a width."""
    words = {draw_word() for _ in range(100)}
    assert len(words) == 100
    for word in words:
        assert word[0] in string.ascii_uppercase
        assert set(word[1:]) <= set(string.ascii_lowercase)
        assert not any(word.startswith(word[-n:]) for n in range(1, len(word)))


def test_ten_thousand_jobs_are_read_in_half_a_second() -> None:
    """CPU time, the best of three: the machine does other things too."""
    word = draw_word()
    rows = [{"JobID": str(n), "Name": f"job {n}", "Comment": "text | cs1 begin=1795489200 latest=1795546800 at=beta/batch"}
            for n in range(1, 10_001)]  # fmt: skip
    output = printed(rows, word)
    took_s = []
    for _ in range(3):
        began = time.process_time()
        assert len(parse("alpha", output, word).jobs) == 10_000
        took_s.append(time.process_time() - began)
    assert min(took_s) < 0.5


def test_long_time_limits() -> None:
    """squeue cannot print one of more than a year: it is the time between start and end."""
    found = job(TimeLimit="INVALID", StartTime="1795982154", EndTime="1856462154")
    assert (found.time_limit_s, found.end_epoch_s) == (60_480_000, None)
    assert job(TimeLimit="INVALID").time_limit_s is None
    assert job(TimeLimit="UNLIMITED", State="RUNNING", StartTime="5", EndTime="NONE").end_epoch_s is None


def test_columns_by_name() -> None:
    """The fields of one row stand for what they are called."""
    found = job(State="RUNNING", StartTime="1795975700", EndTime="1795979300", SiblingsActive="alpha,beta", RestartCnt="2",
                BatchFlag="0", HetJobID="6", Exclusive="NODE", Deadline="1795999999", Reservation="r1")  # fmt: skip
    assert (found.start_epoch_s, found.end_epoch_s, found.siblings) == (1795975700, 1795979300, ("alpha", "beta"))
    assert (found.restarts, found.is_batch, found.het_id, found.exclusive) == (2, False, 6, True)
    assert (found.deadline_epoch_s, found.reservation) == (1795999999, "r1")
    assert len(queue_columns.FIELDS) == len(set(queue_columns.FIELDS))
