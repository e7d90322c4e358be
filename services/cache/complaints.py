"""Warnings that say a thing once in a while, however often it happens."""

from typing import Any, Final

from voicemesh.runtime.clock import Clock
from voicemesh.runtime.logs import Logger

EVERY_S: Final = 10
MOST: Final = 64
"""Different ones that are told apart; with more of them they are all forgotten."""


class Complaints:
    """Logs each warning when it is new, and then every ten seconds with how often it came meanwhile.

    A Redis that refuses everything would have a line for each operation otherwise.
    """

    def __init__(self, clock: Clock, logger: Logger) -> None:
        self._clock = clock
        self._logger = logger
        self._since: dict[tuple[str, str], tuple[int, int]] = {}

    def warn(self, event: str, *, reason: str, **fields: Any) -> None:
        """Log `event`, unless it was logged with this `reason` lately."""
        now_ns = self._clock.now_ns()
        said_ns, untold = self._since.get((event, reason), (None, 0))
        if said_ns is not None and now_ns - said_ns < EVERY_S * 1_000_000_000:
            self._since[event, reason] = said_ns, untold + 1
            return
        if len(self._since) >= MOST:
            self._since.clear()
        self._since[event, reason] = now_ns, 0
        if untold:
            fields["times_before"] = untold
        self._logger.warning(event, reason=reason, **fields)
