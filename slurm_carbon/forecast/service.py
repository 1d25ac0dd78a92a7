"""What every service is asked for, and how the chain knows it."""

from collections.abc import Callable
from typing import NamedTuple

from slurm_carbon.forecast.http import Ask, Secret
from slurm_carbon.forecast.series import Said


class Subject(NamedTuple):
    """What one service is asked about: the zone by our name and by its own, where it is, and with which key."""

    zone: str
    name: str
    url: str
    secret: Secret | None = None
    factors: str = "lifecycle"  # of a file, or for a mix that is turned into intensity here
    accounting: str = "production"  # of a file

    def hides(self, error: Exception) -> str:
        """What went wrong, without the key: an answer may repeat what we sent."""
        return self.secret.hidden_in(str(error)) if self.secret else str(error)


Fetch = Callable[[Ask, Subject, int, int], Said]  # of which `int, int`: the span in epoch seconds, from now or until now


class Service(NamedTuple):
    """A source of forecasts, of history, or of both."""

    name: str
    url: str
    forecast: Fetch | None
    history: Fetch | None
    names: dict[str, str]  # zone by our name -> by its own; another zone must be named in the configuration
    fresh_s: int  # how long an answer need not be asked for again
    key: str = ""  # what its key is; empty: none is needed
    any_zone: bool = False  # it goes by our own names, and knows many more
    account: str = ""  # the source whose key and address it shares
    credit: str = ""  # licence and origin, shown with the numbers
