"""What the service did about its providers, counted since it began."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Figures:
    """Counts of a process."""

    asked: int = 0
    """Questions to providers, of every kind."""
    retried: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Questions to a provider that had just failed, by its name and the reason of the failure."""
    fallbacks: int = 0
    """Questions to another provider than the first, for which that was not asked or failed."""
    hedges: int = 0
    """First texts that were late and asked for a second time."""
    hedges_won: int = 0
    """Those where the second was faster."""
    hedges_lost: int = 0
    """Those where it was not, or both failed. What was cancelled meanwhile is neither."""
    resumed: int = 0
    """Replies that broke off and went on."""

    @property
    def retries(self) -> int:
        """Questions to a provider that had just failed."""
        return self.retried.total()

    def told(self) -> dict[str, int]:
        """Return the counts for the log."""
        return {
            "asked": self.asked,
            "retries": self.retries,
            "fallbacks": self.fallbacks,
            "hedges": self.hedges,
            "hedges_won": self.hedges_won,
            "resumed": self.resumed,
        }
