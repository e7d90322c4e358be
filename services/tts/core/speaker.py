"""A voice that was asked for and found, with those that stand in for it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.tts.core.hedging import Hedges
    from services.tts.core.pool import Pool


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice that was asked for and found."""

    name: str
    """In full, as ListVoices has it."""
    pool: "Pool"
    variant: str
    model_revision: str
    sample_rate_hz: int
    """Of the audio that is wanted of it."""
    is_fallback: bool = False
    """True where another voice was asked for."""
    stand_ins: "Callable[[], tuple[Speaker, ...]]" = tuple
    """Says who speaks where this one cannot, in order: those that there are now."""
    hedges: "Hedges | None" = None
    """Who looks after late first chunks; None where nobody does."""
