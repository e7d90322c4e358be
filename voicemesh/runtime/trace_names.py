"""Every name in a trace: spans, attributes and events. `docs/tracing.md` has them with what they mean.

Names of the OpenTelemetry conventions come first; they move, so that each is written once, here:
https://opentelemetry.io/docs/specs/semconv/ (generative AI, RPC, HTTP, databases, feature flags,
exceptions). What they have no name for begins with `voicemesh.`.
"""

from typing import Final

# ---- generative AI ------------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
"""What is done: one of the three below."""
CHAT: Final = "chat"
TEXT_TO_SPEECH: Final = "text_to_speech"
"""The conventions have no operation for speech yet."""
EMBEDDINGS: Final = "embeddings"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STOP: Final = "gen_ai.request.stop_sequences"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds."""
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
OUTPUT_TYPE: Final = "gen_ai.output.type"
CONVERSATION: Final = "gen_ai.conversation.id"
"""The session."""
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
"""Text, only where that is switched on; so are the next two. JSON by the conventions."""
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"

# ---- calls --------------------------------------------------------------------------------------

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
"""The name of the status, as in "NOT_FOUND". Still moving in the conventions."""
HTTP_METHOD: Final = "http.request.method"
HTTP_STATUS: Final = "http.response.status_code"
HTTP_URL: Final = "url.full"
"""Without user, password and query."""
HTTP_VERSION: Final = "network.protocol.version"
HTTP_HEADERS: Final = "voicemesh.http.headers"
"""Event: the response headers came; the span goes on to the last byte."""
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"
ERROR_TYPE: Final = "error.type"

# ---- feature flags ------------------------------------------------------------------------------

FLAG_EVENT: Final = "feature_flag.evaluation"
FLAG_KEY: Final = "feature_flag.key"
FLAG_VARIANT: Final = "feature_flag.result.variant"
FLAG_REASON: Final = "feature_flag.result.reason"
FLAG_PROVIDER: Final = "feature_flag.provider.name"
FLAG_CONTEXT: Final = "feature_flag.context.id"

# ---- spans of our own ---------------------------------------------------------------------------

TURN_SPAN: Final = "turn"
LEASE_SPAN: Final = "lease"
"""A replica that speaks a chunk, below the chunk's span: `lease {engine}`."""
BATCH_SPAN: Final = "voicemesh.tts.batch"
"""Chunks of several turns that an engine advanced together; linked with the span of each."""

# ---- events, the same wherever it happens -------------------------------------------------------

ERROR: Final = "exception"
"""Something failed: its span has `error.type`, too. Of the conventions; without message and stack, which
may hold what was said."""
EXCEPTION_TYPE: Final = "exception.type"
RETRIED: Final = "voicemesh.retried"
"""The same provider, or another replica of the same voice, is asked again."""
FAILED_OVER: Final = "voicemesh.failed_over"
"""Another provider, another voice or another process of a service is asked instead."""
LATE: Final = "late"
"""`error.type` of the two events that come of a first word, or frame, that is late."""
HEDGED: Final = "voicemesh.hedged"
"""A second one is asked beside the first, which is late."""
RESUMED: Final = "voicemesh.resumed"
"""What broke off goes on behind what was heard."""
BARGE_IN: Final = "voicemesh.barge_in"
"""The user spoke over the reply."""
DEGRADED: Final = "voicemesh.degraded"
"""Something was given up; also the attribute that says what."""
CANCELLED: Final = "voicemesh.cancelled"
"""It was not wanted any more."""
REPLICA_LOST: Final = "voicemesh.replica_lost"
CHUNK: Final = "voicemesh.chunk"
"""A chunk was cut (chunker), or how its time went (turn)."""
FOLLOWED: Final = "voicemesh.followed"
"""The audio of a chunk is heard from the turn that has it made, which a link names."""
TAKEN_OVER: Final = "voicemesh.taken_over"
"""It goes on by itself from there."""
LEASE_LOST: Final = "voicemesh.lease_lost"
"""Another turn goes on with what this one had begun."""

# ---- attributes of the turn ---------------------------------------------------------------------

TURN_ID: Final = "voicemesh.turn_id"
TENANT: Final = "voicemesh.tenant"
VOICE: Final = "voicemesh.voice"
KIND: Final = "voicemesh.turn.kind"
OUTCOME: Final = "voicemesh.outcome"
TTFT_MS: Final = "voicemesh.ttft_ms"
TTFA_MS: Final = "voicemesh.ttfa_ms"
TOTAL_MS: Final = "voicemesh.total_ms"
LEADING_SILENCE_MS: Final = "voicemesh.leading_silence_ms"
UNATTRIBUTED_MS: Final = "voicemesh.unattributed_ms"
AUDIO_MS: Final = "voicemesh.audio_ms"
UNDERRUNS: Final = "voicemesh.underruns"
UNDERRUN_MS: Final = "voicemesh.underrun_ms"
HEAD_START_MS: Final = "voicemesh.head_start_ms"
CHUNK_COUNT: Final = "voicemesh.chunk_count"
CHARACTERS: Final = "voicemesh.characters"
ENGINE_MS: Final = "voicemesh.engine_ms"
REPLY_CACHE: Final = "voicemesh.reply_cache"
PROMPT_VARIANT: Final = "voicemesh.prompt_variant"
BEGINNING: Final = "voicemesh.beginning"
"""What became of audio that was asked for ahead: unused, right, wrong, missing."""
COST_USD: Final = "voicemesh.cost_usd"
SAVED_USD: Final = "voicemesh.saved_usd"
UNPRICED: Final = "voicemesh.unpriced"

# ---- attributes of its parts --------------------------------------------------------------------

PEER: Final = "voicemesh.peer"
"""The service whose stream it is about."""
ATTEMPT: Final = "voicemesh.attempt"
"""Attempts at the reply before this one."""
REASON: Final = "voicemesh.reason"
"""Why: a word or a short sentence of ours, never text of a turn."""
CHUNK_INDEX: Final = "voicemesh.chunk_index"
CHUNK_REASON: Final = "voicemesh.chunk.reason"
"""Why a chunk ends where it does."""
HELD_MS: Final = "voicemesh.chunk.held_ms"
CHUNK_CACHE: Final = "voicemesh.chunk.cache"
CHUNK_QUEUE_MS: Final = "voicemesh.chunk.queue_ms"
CHUNK_SYNTHESIS_MS: Final = "voicemesh.chunk.synthesis_ms"
CHUNK_AUDIO_MS: Final = "voicemesh.chunk.audio_ms"
CHUNK_FIRST_FRAME_MS: Final = "voicemesh.chunk.first_frame_ms"
CHUNK_SLACK_MS: Final = "voicemesh.chunk.slack_ms"
CHUNK_UNDERRUN_MS: Final = "voicemesh.chunk.underrun_ms"
CHUNK_UNDERRUN_CAUSE: Final = "voicemesh.chunk.underrun_cause"
OFFSET_SAMPLES: Final = "voicemesh.offset_samples"
TTS_VOICE: Final = "voicemesh.tts.voice"
"""Who spoke, which may be another voice than was asked for."""
TTS_REPLICA: Final = "voicemesh.tts.replica"
TTS_QUEUE_MS: Final = "voicemesh.tts.queue_ms"
TTS_SYNTHESIS_MS: Final = "voicemesh.tts.synthesis_ms"
BATCH_STAGE: Final = "voicemesh.tts.batch.stage"
BATCH_SIZE: Final = "voicemesh.tts.batch.size"
BATCH_CHUNKS: Final = "voicemesh.tts.batch.chunks"
BATCH_STEPS: Final = "voicemesh.tts.batch.steps"
CACHE_KIND: Final = "voicemesh.cache.kind"
CACHE_MEMORY_HITS: Final = "voicemesh.cache.memory_hits"
CACHE_REDIS_HITS: Final = "voicemesh.cache.redis_hits"
CACHE_SIMILAR_HITS: Final = "voicemesh.cache.similar_hits"
CACHE_MISSES: Final = "voicemesh.cache.misses"
CACHE_GRANTED: Final = "voicemesh.cache.leases_granted"
CACHE_FOLLOWED: Final = "voicemesh.cache.leases_followed"
CACHE_ERRORS: Final = "voicemesh.cache.errors"


def variant_of(flag: str) -> str:
    """Return the attribute of the turn that says what a feature flag gave it."""
    return f"voicemesh.variant.{flag.removeprefix('voicemesh.')}"


def stage_ms(stage: str) -> str:
    """Return the attribute of the turn that holds the milliseconds of a stage of `voicemesh.stages`."""
    return f"voicemesh.stage.{stage}_ms"


def hop_ms(hop: str) -> str:
    """Return the attribute of the turn that holds the milliseconds of the stage `transport` on one hop."""
    return f"voicemesh.hop.{hop}_ms"
