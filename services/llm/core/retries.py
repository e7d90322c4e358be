"""After which wait a provider is asked again. How often, `voicemesh.runtime.retry_budget` bounds."""

from dataclasses import dataclass


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
