"""Settings of the gateway."""

from typing import Annotated, Literal

from pydantic import Field

from voicemesh.runtime.settings import ListenAddress, ServerSettings

_DEFAULT_PROMPT = (
    "You are a voice assistant. Your reply is spoken aloud: answer in plain sentences, without lists, "
    "markup or emoji, and begin with a short clause."
)


class GatewaySettings(ServerSettings):
    """What the gateway can be told."""

    gateway_listen: ListenAddress = "127.0.0.1:50050"
    """Where callers reach the gateway over gRPC."""
    http_listen: ListenAddress = "127.0.0.1:8080"
    """Where callers reach the gateway over HTTP."""
    http_enabled: bool = True
    """Answer HTTP at all."""
    llm_addr: str = "127.0.0.1:50051"
    """Where the LLM service is: any gRPC target."""
    chunker_addr: str = "127.0.0.1:50052"
    """Where the chunker service is."""
    tts_addr: str = "127.0.0.1:50053"
    """Where the TTS service is."""
    cache_addr: str = "127.0.0.1:50054"
    """Where the cache service is."""
    gateway_system_prompt: str = _DEFAULT_PROMPT
    """Instructions to the model, where a caller gives none of its own."""
    gateway_max_turns: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Turns that may run at once; more are refused with RESOURCE_EXHAUSTED."""
    gateway_max_prompt_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 32_768
    """Most characters of a prompt."""
    gateway_max_text_chars: Annotated[int, Field(ge=1, le=10_000_000)] = 200_000
    """Most characters of a turn of the caller's own words."""
    chunker_max_chars: Annotated[int, Field(ge=20, le=10_000)] = 400
    """Most characters of a chunk, as the chunker is told by the same variable: no caller may ask for more."""
    gateway_text_idle_s: Annotated[float, Field(ge=0, le=3_600)] = 60.0
    """Longest wait for more of a caller's words; then the turn fails: DEADLINE_EXCEEDED. 0: no limit."""
    gateway_draft_s: Annotated[float, Field(ge=0.1, le=600)] = 10.0
    """A draft that is not confirmed by then is discarded; its confirmation begins it anew."""
    gateway_max_channels: Annotated[int, Field(ge=0, le=100_000)] = 64
    """Channels that there may be at once; streams that name more are refused with RESOURCE_EXHAUSTED."""
    gateway_max_listeners: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Streams that may share one channel."""
    gateway_channel_backlog_s: Annotated[float, Field(ge=1, le=600)] = 60.0
    """Audio that a channel keeps for members who are slow, or join late; who falls behind it loses frames."""
    gateway_max_image_bytes: Annotated[int, Field(ge=0, le=50_000_000)] = 2_097_152
    """Most bytes of the pictures of a prompt; the LLM service and the cache have limits of their own."""
    gateway_max_lead_ms: Annotated[int, Field(ge=0, le=600_000)] = 5_000
    """Synthesis stays at most this far ahead of playback, where the caller says nothing; 0: no limit."""
    gateway_history_messages: Annotated[int, Field(ge=0, le=1_000)] = 40
    """Most messages that a session's history keeps; 0: none."""
    gateway_history_chars: Annotated[int, Field(ge=1_000, le=1_000_000)] = 100_000
    """Most characters that a session's history keeps, and its last picture."""
    gateway_cache_timeout_ms: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Longest that a turn waits for an answer of the cache."""
    gateway_cache_breaker_s: Annotated[float, Field(ge=0.1, le=600)] = 1.0
    """How long the cache is left alone after it failed; doubles, up to 30 times this, while it fails."""
    gateway_shared_cache: Literal["none", "audio", "all"] = "none"
    """What all tenants find of each other in the cache: nothing, `audio`, or `all`, which is replies too."""
    flags_file: str = ""
    """A JSON file of feature flags, which is watched: see docs/flags.md."""
    flags_provider: str = ""
    """Another provider of OpenFeature, as `module:factory`; then `VOICEMESH_FLAGS_FILE` is not read."""
    flags_timeout_ms: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Longest that a turn waits for such a provider; then its session keeps what it was last given."""
    gateway_follow_stall_ms: Annotated[int, Field(ge=10, le=600_000)] = 3_000
    """Longest that a turn waits for more of the audio that another one has made; then it goes on by itself.
    More than VOICEMESH_CACHE_LEASE_TTL_MS, after which the cache hands over."""
    gateway_standby_s: Annotated[float, Field(ge=0, le=3_600)] = 60.0
    """How long a stream to the LLM service stands by for a caller's next prompt; 0: none does."""
    gateway_voices_poll_s: Annotated[float, Field(gt=0, le=3_600)] = 1.0
    """How often the TTS service is asked for its voices, which may change while it serves."""
    gateway_warm_file: str = ""
    """Phrases, one a line or as JSONL, that are kept spoken in the cache; see docs/cache.md. Empty: none."""
    gateway_warm_every_s: Annotated[float, Field(ge=1, le=86_400)] = 3_600.0
    """How often those phrases are looked up, so that what has expired is spoken again."""
    gateway_remembered_turns: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Turns whose reports `ExplainTurn` can find."""
    price_input_usd_per_mtok: Annotated[float, Field(ge=0)] = 0.15
    """Price of a million input tokens."""
    price_cached_input_usd_per_mtok: Annotated[float, Field(ge=0)] = 0.075
    """Price of a million input tokens that the provider had cached."""
    price_output_usd_per_mtok: Annotated[float, Field(ge=0)] = 0.60
    """Price of a million output tokens."""
    price_speech_usd_per_mchar: Annotated[float, Field(ge=0)] = 0.0
    """Price of a million spoken characters that were not cached."""
