"""Who asks a second time, how often, and when: the one retry budget of the mesh.

Every further question of the mesh is paid from a budget, so that trouble is not made worse by those who
meet it. `docs/reliability.md` has the table of who retries what. Three rules keep retries from multiplying:

- A layer asks again only for what it lost itself: a process that is gone, or that is going (`LOST`), or one
  that said when to come back. A failure that another layer gave up on is passed on as it came.
- What was asked for again and still failed says so (`MeshError.retried_by`), and nobody above tries again.
- A call that is a second one says so (`ATTEMPT_METADATA`): it pays nothing into the budgets of the
  LLM service, behind which are those that bill.
"""

from collections.abc import Iterable
from typing import Final

from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import MeshError

RESERVE: Final = 10
"""Further questions that a process may ask before it has asked anything, and that can be saved up."""
LOST: Final = frozenset({"SERVICE_UNAVAILABLE", "DRAINING"})
"""Reasons that say that a process, or the connection to it, is gone: another one may answer at once."""
ATTEMPT_METADATA: Final = "voicemesh-attempt"
"""Metadata of a call that was made before: how often, as a decimal number. Absent on the first."""
_DIGITS: Final = 3
"""Of a number of attempts; what has more is none."""


class RetryBudget:
    """A token bucket: every question puts a part of a token in, and every further one takes a whole one out.

        saved = 10 at first, on credit: the first 10 tokens that come in pay it back

    So of N questions, at most max(10, N / 10) more are asked, however many turns fail, at any time since the
    process began: 1.1 times as much from the hundredth question on. gRPC's retry throttling (gRFC A6) stops
    retries where more than a few in a hundred fail; this is the retry budget of "Site Reliability
    Engineering", chapter 21 (a tenth of all questions), with the reserve of Finagle's, so that quiet
    processes may retry as well, and its floor, so that an hour's calm after an outage is not needed.

    Args:
        percent: How many further questions for a hundred; 0 for none at all.
        reserve: See RESERVE.
        floor_per_s: Tokens that come in with time, whatever is asked; they too are saved up to the reserve.
        clock: For the floor; needed only where there is one.

    Attributes:
        spent: Further questions that were asked.
        refused: Further questions that were not asked, because they could not be paid.

    """

    def __init__(
        self,
        percent: float = 10.0,
        reserve: int = RESERVE,
        floor_per_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        if floor_per_s and clock is None:
            raise ValueError("a floor per second needs a clock")
        self._part = percent / 100
        self._reserve = reserve if percent else 0
        self._saved = float(self._reserve)
        self._owed = float(self._reserve)
        self._floor_per_s = floor_per_s if percent else 0.0
        self._clock = clock
        self._filled_ns = clock.now_ns() if clock is not None else 0
        self.spent = 0
        self.refused = 0

    def earn(self) -> None:
        """Note a question that is no further one."""
        paid_back = min(self._part, self._owed)
        self._owed -= paid_back
        self._saved = min(self._saved + self._part - paid_back, float(self._reserve))

    def spend(self) -> bool:
        """Take what one further question costs; return False where it is not there."""
        self._fill()
        # Parts of tokens are sums of floats: a whole one may be a little less.
        if self._saved < 1 - 1e-9:
            self.refused += 1
            return False
        self._saved -= 1
        self.spent += 1
        return True

    def _fill(self) -> None:
        if not self._floor_per_s or self._clock is None:
            return
        now_ns = self._clock.now_ns()
        came = (now_ns - self._filled_ns) / 1e9 * self._floor_per_s
        self._filled_ns = now_ns
        self._saved = min(self._saved + came, float(self._reserve))


class Retries:
    """Says whether a failed call to a service of the mesh is made again, and when: the gateway's rules.

        call ── failed ──┬─ lost, or going ──────> at once, of another replica ──┐  paid from the
                         ├─ RetryInfo ───────────> when it says, within the time ┘  service's budget
                         └─ anything else, retried already, no budget, no time ──> passed on, as it came

    A replica that dies takes along what all turns had with it, and each of them may move once, in the same
    instant: so the reserve is the turns that a process may have. Behind that it is a fifth of the calls of
    late, and ten a second.

    Args:
        services: Names of those that are called.
        clock: For the floor.
        turns: Turns that may run at once.
        percent: See `RetryBudget`.
        floor_per_s: See `RetryBudget`.
        most: How often one call is made again.

    Attributes:
        budgets: One for each service, by its name.

    """

    def __init__(
        self,
        services: Iterable[str],
        clock: Clock,
        *,
        turns: int,
        percent: float = 20.0,
        floor_per_s: float = 10.0,
        most: int = 2,
    ) -> None:
        reserve = max(RESERVE, turns)
        self.budgets = {name: RetryBudget(percent, reserve, floor_per_s, clock) for name in services}
        self._most = most

    def called(self, service: str, attempt: int = 0) -> None:
        """Note a call to a service; one that is an `attempt` behind the first earns nothing."""
        if not attempt:
            self.budgets[service].earn()

    def wait_s(
        self, service: str, error: MeshError | None, attempt: int, left_s: float | None
    ) -> float | None:
        """Return the seconds to wait before a call is made again, and take its price; None: it is not.

        Args:
            service: Whom the call was made to.
            error: How it failed; None where it ended early with OK, as where a process ends its streams.
            attempt: How often the call was made again before; 0 for the first failure.
            left_s: Seconds that the caller has left; None for no end.

        """
        if attempt >= self._most or (left_s is not None and left_s <= 0):
            return None
        wait_s = 0.0
        if error is not None:
            if error.retried_by:
                return None
            if error.reason not in LOST:
                if error.retry_after_ms is None:
                    return None
                wait_s = error.retry_after_ms / 1000
        if left_s is not None and wait_s >= left_s:
            return None
        return wait_s if self.budgets[service].spend() else None


def attempt_metadata(attempt: int) -> tuple[tuple[str, str], ...]:
    """Return what goes with a call that was made `attempt` times before; nothing with the first."""
    return ((ATTEMPT_METADATA, str(attempt)),) if attempt > 0 else ()


def attempt_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> int:
    """Return how often the caller of a call made it before; 0 where it does not say, or says nonsense."""
    for key, value in metadata or ():
        if key == ATTEMPT_METADATA:
            text = value if isinstance(value, str) else ""
            return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0
    return 0
