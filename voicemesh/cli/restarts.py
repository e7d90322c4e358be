"""When a child is started again, and when it counts as hung. No I/O, no clock: times are arguments.

serves ──── dies ── 0.1 s ── serves ── dies ── 0.2 s ── … ── dies once too often: the mesh ends
   └ for a minute: its deaths are forgotten ┘
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

_GROWTH: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """How a supervisor keeps its children.

    Attributes:
        restarts: How often in a row one child is started again; its next death is the end of the mesh.
        calm_s: Seconds that it must serve for its deaths to be forgotten.
        first_s: The first pause before a restart, at most, in seconds; each one in a row is twice as long.
        longest_s: The longest pause.
        jitter: Which part of a pause is drawn by lot, 0 to 1, so that children that died together do not
            come back together.
        check_s: How often a child is asked whether it serves, and how long it may take to answer.
        hung_after_s: Seconds without an answer after which it is killed; 0 for never.
        closed_after_s: The same for one that takes no connection: it may be stopping, or loading.

    """

    restarts: int = 5
    calm_s: float = 60.0
    first_s: float = 0.1
    longest_s: float = 10.0
    jitter: float = 0.5
    check_s: float = 1.0
    hung_after_s: float = 10.0
    closed_after_s: float = 60.0


class Answer(Enum):
    """What came of asking a child."""

    SERVING = "serving"
    WAITING = "waiting"
    """It answers, and does not serve."""
    SILENT = "silent"
    """It did not answer in time."""
    CLOSED = "closed"
    """It takes no connection."""


class Restarts:
    """The life of one child, over all of its processes.

    Args:
        policy: How it is kept.
        chance: Returns a number from 0 to 1.

    Attributes:
        deaths: How often in a row it died.

    """

    def __init__(self, policy: RestartPolicy, chance: Callable[[], float]) -> None:
        self._policy = policy
        self._chance = chance
        self._serving_since_s: float | None = None
        self.deaths = 0

    def serves(self, at_s: float) -> None:
        """Note that it serves."""
        if self._serving_since_s is None:
            self._serving_since_s = at_s

    def died(self, at_s: float) -> float | None:
        """Return after how many seconds it is to be started again; None where it is not."""
        since_s, self._serving_since_s = self._serving_since_s, None
        if since_s is not None and at_s - since_s >= self._policy.calm_s:
            self.deaths = 0
        self.deaths += 1
        if self.deaths > self._policy.restarts:
            return None
        # The power is bounded before it is taken: a child may die a thousand times.
        pause_s = self._policy.first_s * _GROWTH ** min(self.deaths - 1, 30)
        return min(pause_s, self._policy.longest_s) * (1 - self._policy.jitter * self._chance())


class Pulse:
    """Whether a process still lives, by what came of asking it.

    Silence is counted in checks, not by the clock: while a machine sleeps or this process is stopped, nobody
    asked.
    """

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._silent = 0
        self._closed = 0

    def note(self, answer: Answer) -> str:
        """Take an answer; return in words why the process counts as hung, "" where it does not."""
        self._silent = self._silent + 1 if answer is Answer.SILENT else 0
        self._closed = self._closed + 1 if answer is Answer.CLOSED else 0
        check_s = self._policy.check_s
        if 0 < self._policy.hung_after_s <= self._silent * check_s:
            return f"did not answer for {self._silent * check_s:.0f} s"
        if self._policy.hung_after_s and self._closed * check_s >= self._policy.closed_after_s:
            return f"took no connection for {self._closed * check_s:.0f} s"
        return ""
