"""What the service did about its providers, counted since it began."""

from dataclasses import dataclass


@dataclass
class Figures:
    """Counts of a process."""

    asked: int = 0
    """Questions to providers, of every kind."""
    retries: int = 0
    """Questions to a provider that had just failed."""
    fallbacks: int = 0
    """Questions to another provider than the first, for which that was not asked or failed."""
    hedges: int = 0
    """First texts that were late and asked for a second time."""
    hedges_won: int = 0
    """Those where the second was faster."""
    resumed: int = 0
    """Replies that broke off and went on."""
