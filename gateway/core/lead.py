"""How much of a turn's audio is asked for before its caller wants it."""

from typing import Final

from gateway.core.playback import Player

UNTAKEN_MS: Final = 5_000
"""Without a lead, what is asked for and not sent, beyond as much again as was sent: who has taken nothing yet
may take nothing at all."""


def beyond_ms(lead_ms: int, unsent_ms: float, player: Player, now_ns: int) -> float:
    """Return by how many milliseconds a turn is as far ahead as it may be, or farther; below 0: it is not.

    Args:
        lead_ms: How far it may be ahead of its player; 0: as far as it gets.
        unsent_ms: Audio that is asked for and not sent.
        player: Has the rest.
        now_ns: Now.

    """
    if lead_ms:
        return player.in_hand_ms(now_ns) + unsent_ms - lead_ms
    return unsent_ms - UNTAKEN_MS - player.audio_ms
