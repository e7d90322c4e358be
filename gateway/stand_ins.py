"""Voices that another one speaks for at present."""

from typing import Final

from voicemesh.runtime.clock import Clock

_HOLD_NS: Final = 2_000_000_000
"""How long a voice is taken to be away after another one spoke for it."""


class StandIns:
    """Remembers for a moment which voices are not heard themselves.

    What another voice says is kept by nobody, so whoever made it would hand it on in vain: each follower
    would learn it one behind the other. While that is known, nobody leads and nobody follows.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_ns: dict[str, int] = {}

    def note(self, voice: str) -> None:
        """Note that another voice, or another model, spoke for `voice`."""
        self._until_ns[voice] = self._clock.now_ns() + _HOLD_NS

    def speaks_for(self, voice: str) -> bool:
        """Return whether another one was heard for `voice` just now."""
        if self._clock.now_ns() < self._until_ns.get(voice, 0):
            return True
        self._until_ns.pop(voice, None)
        return False
