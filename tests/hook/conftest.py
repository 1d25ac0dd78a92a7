"""Fixtures that the tests of the hook share."""

from tests.hook.live import cluster, hook

__all__ = ["cluster", "hook"]
