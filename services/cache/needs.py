"""How badly a caller needs audio that somebody else may be making."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Need:
    """When a caller needs audio, and what it would take to make it."""

    due_ms: int = 0
    """Milliseconds from now in which it needs the first sample."""
    begin_ms: int = 0
    """Milliseconds that it would take to make the first sample itself; 0: unknown, the lease's time."""
    traceparent: str = ""
    """Where it is in its trace, for those who hear what it makes; "" where nobody records that."""


AT_ONCE: Final = Need()
"""That of a caller who says nothing of it: it needs the audio at once."""
