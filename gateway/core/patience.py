"""How patient a turn is with its LLM: text may be joined while the player has plenty in hand."""

from typing import Final

PATIENT_ABOVE_MS: Final = 1500
HURRY_BELOW_MS: Final = 1000
"""The LLM's text may be joined from the first in hand on, until the player has less than the second."""
JOIN_MS: Final = 100
"""For how long, in milliseconds."""


class Patience:
    """Says when the LLM service is to be told: fewer messages are worth a delay that nobody waits for."""

    def __init__(self) -> None:
        self._patient = False

    def news(self, in_hand_ms: float) -> int | None:
        """Return for how long text may now be joined, in milliseconds; None where that has not changed."""
        patient = in_hand_ms > (HURRY_BELOW_MS if self._patient else PATIENT_ABOVE_MS)
        if patient is self._patient:
            return None
        self._patient = patient
        return JOIN_MS if patient else 0
