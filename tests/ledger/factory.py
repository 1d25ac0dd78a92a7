"""Values for the tests of the ledger."""

from __future__ import annotations

from typing import Any

from slurm_carbon.ledger.values import HELD, Decided, Entry, Transfer


def an_entry(job_id: int = 1, **fields: Any) -> Entry:
    """An entry with every field filled in."""
    entry = Entry(
        "alpha", job_id, 1_700_000_000, "user1", "alpha/cpu", "alpha/short", 1_700_003_600, 1_700_090_000, "mark",
        "0123456789abcdef", ("alpha/cpu", "beta/gpu"), 123.4, 77.7, 1.23, "file, issued 1699", 1, 1_700_000_300, "beta:7", True,
    )  # fmt: skip
    return entry._replace(**fields)


def a_decision(job_id: int = 1, **fields: Any) -> Decided:
    """A decision with every field filled in."""
    decided = Decided(
        3,
        "alpha",
        job_id,
        "3,5-7",
        1_700_000_300,
        "alpha/cpu",
        1_700_003_600,
        "beta/gpu",
        1_700_007_200,
        45.6,
        "cleaner",
        "done",
    )
    return decided._replace(**fields)


def a_transfer(id_: str = "00112233445566aa", **fields: Any) -> Transfer:
    """A transfer with every field filled in."""
    transfer = Transfer(
        id_, "alpha", 1, 1_700_000_000, "user1", 20001, "0123456789abcdef", "beta/gpu", 1_700_007_200, 1_700_090_000,
        "mine | cs1 mv=00112233445566aa", "mine", HELD, 1_700_000_300, 1_700_000_301, 1_700_000_302, 17, "as planned",
        1_700_000_303,
    )  # fmt: skip
    return transfer._replace(**fields)
