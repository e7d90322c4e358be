"""The stages of a turn's time to first audio: the one set of names, in the order of the path.

The same names are members of `voicemesh.common.v1.Stage`, span attributes (`voicemesh.stage.<name>_ms`),
fields of the JSON report and rows of the waterfall. `docs/turn.md` defines the clock points of each.
This module is plain Python, so that logic without generated code can use it too.
"""

from enum import StrEnum


class Stage(StrEnum):
    """One stage. The value is its name everywhere; the order of definition is that of the path."""

    ADMISSION = "admission"
    """Prompt received to turn admitted."""
    HISTORY = "history"
    """Reading the session's history."""
    REPLY_CACHE = "reply_cache"
    """Looking for the whole reply in the cache."""
    LLM_CONNECT = "llm_connect"
    """The LLM service's request to the provider's response headers."""
    LLM_TTFT = "llm_ttft"
    """Response headers to the first token."""
    LLM_TEXT = "llm_text"
    """First token to the last token that the first chunk needed."""
    CHUNK_HOLD = "chunk_hold"
    """From there to the chunk leaving the chunker."""
    AUDIO_CACHE = "audio_cache"
    """Looking for the chunk's audio in the cache."""
    TTS_QUEUE = "tts_queue"
    """The chunk waits for a replica."""
    TTS_SYNTHESIS = "tts_synthesis"
    """Lease to the first frame."""
    TRANSPORT = "transport"
    """What the gateway saw of each call, less what the called service says it took."""
    GATEWAY = "gateway"
    """The gateway's own work between calls."""


STAGES: tuple[Stage, ...] = tuple(Stage)
"""All stages, in order."""
