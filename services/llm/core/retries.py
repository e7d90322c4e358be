"""How often, and after which wait, a provider is asked again."""

from dataclasses import dataclass
from typing import Final

RESERVE: Final = 10
"""Further questions that a process may ask before it has asked anything, and that can be saved up."""


class Budget:
    """A token bucket: every question puts a part of a token in, and every further one takes a whole one out.

        saved = 10 at first, on credit: the first 10 tokens that come in pay it back

    So of N questions, at most max(10, N / 10) more are asked, however many turns fail, at any time since the
    process began: 1.1 times as much from the hundredth question on. gRPC's retry throttling (gRFC A6) stops
    retries where more than a few in a hundred fail; this is the retry budget of "Site Reliability
    Engineering", chapter 21 (a tenth of all questions), with the reserve of Finagle's, so that quiet
    processes may retry as well.

    Args:
        percent: How many further questions for a hundred; 0 for none at all.
        reserve: See RESERVE.

    """

    def __init__(self, percent: float = 10.0, reserve: int = RESERVE) -> None:
        self._part = percent / 100
        self._reserve = reserve if percent else 0
        self._saved = float(self._reserve)
        self._owed = float(self._reserve)
        self.spent = 0
        """Further questions that were asked."""

    def earn(self) -> None:
        """Note a question that is no further one."""
        paid_back = min(self._part, self._owed)
        self._owed -= paid_back
        self._saved = min(self._saved + self._part - paid_back, float(self._reserve))

    def spend(self) -> bool:
        """Take what one further question costs; return False where it is not there."""
        # Parts of tokens are sums of floats: a whole one may be a little less.
        if self._saved < 1 - 1e-9:
            return False
        self._saved -= 1
        self.spent += 1
        return True


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after which wait, a provider is asked again before its first text.

    The n-th wait is drawn evenly from the upper half of `first_wait_s` · 2ⁿ, at most `longest_wait_s`;
    or it is what the provider asked for. A wait that ends behind the deadline is not begun, nor one of
    more than `patience_s` while another provider can be asked.
    """

    first_wait_s: float = 0.2
    longest_wait_s: float = 4.0
    patience_s: float = 1.0
    continues: bool = True
    """A reply that broke off is gone on with; False: it ends with an error."""
    hedge_percent: float = 0.0
    """How many first texts of a hundred may be asked for a second time, of the next provider, because they
    are late; 0: none."""

    def wait_s(self, retry: int, retry_after_ms: int | None, draw: float) -> float:
        """Return seconds to wait before the retry numbered `retry` from 0; `draw` is 0 to 1."""
        if retry_after_ms is not None:
            return retry_after_ms / 1000
        wait_s: float = min(self.first_wait_s * 2**retry, self.longest_wait_s)
        return wait_s * (0.5 + draw / 2)
