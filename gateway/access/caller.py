"""Who asks: what an edge knows of a caller that it has let in. Everything behind the edge asks this alone."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from voicemesh.runtime.errors import UnauthenticatedError


class Priority(IntEnum):
    """Who goes first where not everybody can: the higher."""

    LOW = 1
    """Work that can wait, such as batches."""
    NORMAL = 2
    """What a caller has that asks for nothing."""
    HIGH = 3
    """Somebody listens, and matters more than others."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may take; 0: what the settings say for all."""

    requests_per_min: int = 0
    """Turns that may begin in a minute."""
    characters_per_min: int = 0
    """Characters that may be spoken in a minute."""
    turns: int = 0
    """Turns that may run at once."""


NO_LIMITS: Final = Limits()


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who was let in."""

    tenant: str = ""
    """Whose calls they are; "" for the tenant without a name."""
    key_id: str = ""
    """Which of the tenant's keys was shown, or the subject of its token; "" without access control."""
    scopes: frozenset[str] | None = None
    """What it may do; None: everything, because there is no access control."""
    priority: Priority = Priority.HIGH
    """The highest that it may ask for."""
    limits: Limits = NO_LIMITS
    """What it may take."""
    expires_unix_s: float | None = None
    """Seconds since 1970 from which it is let in no more; None: never."""
    behind: Limits = NO_LIMITS
    """What the key may take in all, where the call named another tenant than the key's: `limits` are then
    that tenant's, and naming many of them makes no more of it."""
    is_good: Callable[[], bool] = field(default=_always, compare=False, repr=False)
    """Says whether it would still be let in: asked when a turn begins on a stream that is open."""

    def check(self) -> None:
        """Raise UnauthenticatedError where its key or token has expired, or was revoked, meanwhile."""
        if not self.is_good():
            raise UnauthenticatedError("the key or token of this stream is not accepted any more")

    def may(self, scope: str) -> bool:
        """Say whether it has a scope."""
        return self.scopes is None or scope in self.scopes


CURRENT: Final[ContextVar[Caller | None]] = ContextVar("caller", default=None)
"""Who makes the call that this task serves; None: there is no access control."""
