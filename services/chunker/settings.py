"""What the chunker process can be told."""

from typing import Annotated

from pydantic import Field

from services.chunker.policy import DEFAULT_MAX_CHARS, DEFAULT_MAX_TEXT_CHARS, Limits
from voicemesh.runtime.settings import ListenAddress, MetricsAddress, ServerSettings


class ChunkerSettings(ServerSettings):
    """Settings of the chunker. Each field is the variable `VOICEMESH_<FIELD>`."""

    chunker_listen: ListenAddress = "127.0.0.1:50052"
    """Where the service listens."""
    chunker_metrics_listen: MetricsAddress = ""
    """Where Prometheus scrapes this process; empty: nowhere. `voicemesh up` sets it."""
    chunker_max_chars: Annotated[int, Field(ge=20, le=10_000)] = DEFAULT_MAX_CHARS
    """Most characters of a chunk; a stream may ask for fewer."""
    chunker_hold_ms: Annotated[int, Field(ge=10, le=60_000)] = 300
    """Milliseconds that a chunk whose end is undecided is held while no text comes."""
    chunker_max_text_chars: Annotated[int, Field(ge=1_000, le=100_000_000)] = DEFAULT_MAX_TEXT_CHARS
    """Most characters of the text of one stream."""
    chunker_max_message_chars: Annotated[int, Field(ge=1, le=4_000_000)] = 1_000_000
    """Most characters of one `text` message."""

    def limits(self) -> Limits:
        """Return the limits that the streams are held to."""
        return Limits(
            max_chars=self.chunker_max_chars,
            max_text_chars=self.chunker_max_text_chars,
            hold_ns=self.chunker_hold_ms * 1_000_000,
            max_message_chars=self.chunker_max_message_chars,
        )
