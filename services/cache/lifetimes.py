"""How long entries live."""

from dataclasses import dataclass

from services.cache.values import Kind


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long entries live, in milliseconds from their writing."""

    audio_ms: int
    reply_ms: int
    history_ms: int
    history_copy_ms: int
    """In memory, of a history that Redis has."""

    @property
    def longest_ms(self) -> int:
        """The longest of all."""
        return max(self.audio_ms, self.reply_ms, self.history_ms)

    def of(self, kind: Kind) -> int:
        """Return the lifetime of a kind."""
        return {"audio": self.audio_ms, "reply": self.reply_ms, "history": self.history_ms}[kind]
