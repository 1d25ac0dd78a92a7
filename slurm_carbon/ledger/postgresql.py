"""A connection to PostgreSQL that gives up on a server that hangs: libpq itself waits for an answer for ever."""

from collections.abc import Generator
from time import monotonic
from typing import Any, TypeVar

import psycopg

from slurm_carbon.errors import LedgerError

INTERVAL_S = 0.2  # how often a waiting connection looks at the clock

T = TypeVar("T")


class Bounded(psycopg.Connection[Any]):
    """A connection whose every answer has to come within a time."""

    answer_s = 30.0

    def wait(self, gen: Any, interval: float = INTERVAL_S, *rest: Any, **more: Any) -> Any:
        """Wait for an answer. Raises OperationalError when there is none in time; the connection is closed then."""
        return super().wait(self._bounded(gen), INTERVAL_S, *rest, **more)

    def _bounded(self, answer: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        end = monotonic() + self.answer_s
        try:
            wanted = next(answer)
            while True:
                ready = yield wanted
                if not ready and monotonic() > end:
                    answer.close()
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {self.answer_s:.0f} s")
                wanted = answer.send(ready)
        except StopIteration as stop:
            value: T = stop.value
            return value


def connect(*arguments: Any, patience_s: float, answer_s: float, read_only: bool, **keywords: Any) -> Bounded:
    """A new connection. Raises psycopg.Error, or LedgerError for a database that cannot keep every text."""
    made = Bounded.connect(
        *arguments,
        autocommit=True,
        connect_timeout=max(2, round(patience_s)),
        client_encoding="utf8",
        **keywords,
    )
    try:
        made.answer_s = 1.2 * answer_s  # the server gives up first, if it can
        encoding = made.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise LedgerError(f"its database has encoding {encoding}: make one with UTF8")
        for name, value in (("lock_timeout", patience_s), ("statement_timeout", answer_s)):
            made.execute(f"SET {name} = {round(value * 1000)}")
        if read_only:
            made.execute("SET default_transaction_read_only = on")
        made.autocommit = False
    except BaseException:
        made.close()
        raise
    return made
