"""Whether a stream that broke off is opened anew, at another process of its service.

    broken ──┬── paid from the budget ──> another stream goes on behind what came
             └── else ──> as if the service had failed for good

A process that is killed takes the streams of all of its turns along, and each of them opens another. What
fails again and again is not asked for ever, and where everything fails, hardly anything is asked twice: the
budget is that of the gateway (`voicemesh/runtime/retry_budget.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from voicemesh.runtime.errors import MeshError

Again = Callable[[str, MeshError, int], bool]
"""Says whether a stream to a service that broke off with an error is opened anew, after so often before; and
pays for it."""


@dataclass(frozen=True, slots=True)
class Failover:
    """A stream that broke off and was opened anew."""

    service: str
    """`llm`, `chunker` or `tts`."""
    at_us: int
    """Prompt to when it broke off, in microseconds."""
    why: str
    """What its end was, in words."""


def always(service: str, error: MeshError, attempt: int) -> bool:
    """Open every stream anew, twice."""
    del service, error
    return attempt < 2


class Failovers:
    """Those of one turn.

    Args:
        received_ns: When the prompt came.
        again: Decides.

    Attributes:
        done: Those that there were, in order.

    """

    def __init__(self, received_ns: int = 0, again: Again = always) -> None:
        self.done: list[Failover] = []
        self._received_ns = received_ns
        self._again = again

    def attempts(self, service: str) -> int:
        """Return how often a stream to a service was opened anew."""
        return sum(failover.service == service for failover in self.done)

    def allows(self, service: str, error: MeshError, now_ns: int, before: int | None = None) -> bool:
        """Say whether a stream that broke off is opened anew, and note it.

        `before` is how often that was done already for what is lost with it; None: as often as in the whole
        turn. One that is not was given up here: its error says so, and no caller asks for the turn again.
        """
        if not self._again(service, error, self.attempts(service) if before is None else before):
            error.retried_by = error.retried_by or "gateway"
            return False
        self.done.append(Failover(service, (now_ns - self._received_ns) // 1000, error.message))
        return True
