"""What can go wrong, as one small tree, so that each edge can say what it lets through.

    Error                  anything of ours; its text is meant for the person who reads it
    ├── UsageError         the user asked for something that makes no sense: nothing is submitted, exit code 255
    ├── ConfigError        the site's or user's configuration: says the file, the key and what is allowed
    ├── OutlookError       the published outlook is missing, broken, stale or from the future
    ├── ForecastError      a provider had no usable series for a zone
    ├── PlanError          a problem that no plan can be made from: numbers missing, not finite or of the wrong shape
    ├── HookError          the submit hook cannot be installed, checked or tried
    ├── LedgerError        the ledger cannot be opened, read or written: says what is the matter and what to do
    ├── RecordError        the record of a submission cannot be kept, or must not be used: says what is wrong with it
    └── CommandError       a Slurm command could not be run, took too long, or failed

`csbatch` lets a UsageError through to the user and answers every other failure with a plain submission.
"""


class Error(Exception):
    """Base of all errors that slurm-carbon raises on purpose."""


class UsageError(Error):
    """A wrong option or value of the user's: reported as sbatch would, with exit code 255."""


class ConfigError(Error):
    """A configuration file that cannot be used."""


class OutlookError(Error):
    """An outlook that must not be used for decisions."""


class ForecastError(Error):
    """No usable carbon intensity for a zone."""


class PlanError(Error):
    """A planning problem that makes no sense."""


class HookError(Error):
    """What is in the way of the submit hook."""


class LedgerError(Error):
    """The ledger could not be opened, read or written: nothing of that call is kept, unless the text says that is not known."""


class RecordError(Error):
    """A submission record that could not be kept or is not sound: its job stays on its cluster."""


class CommandError(Error):
    """An external command that did not do what it was asked to."""
