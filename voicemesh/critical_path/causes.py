"""Why a stage took long, what that is called, and what helps: all as data."""

from typing import Final

from voicemesh.critical_path.baseline import Usual
from voicemesh.critical_path.turns import PARTS, SPEAKING, UNATTRIBUTED, Turn
from voicemesh.stages import Stage

_LONG_CHUNK: Final = 1.5
"""A first chunk that is longer than usual by this factor has kept the listener waiting by its length."""
_NOT_THERE_MS: Final = 1.0
HOLDS: Final = {
    "sentence": "lookahead",
    "clause": "lookahead",
    "phrase": "lookahead",
    "deadline": "deadline",
    "words": "policy",
    "limit": "policy",
    "flush": "the end of the text",
}
"""What the chunker waited for, by why it cut: a mark counts when what follows it is seen."""

_SAID: Final[dict[str, str]] = {
    Stage.ADMISSION: "let in after {ms}",
    Stage.HISTORY: "the history came after {ms}",
    Stage.REPLY_CACHE: "the reply was looked up for {ms}",
    Stage.LLM_CONNECT: "the provider's headers came after {ms}",
    Stage.LLM_TTFT: "the first token came after {ms}",
    Stage.LLM_TEXT: "the first chunk's words took {ms}",
    Stage.CHUNK_HOLD: "first chunk held {ms}",
    Stage.AUDIO_CACHE: "the audio was looked up for {ms}",
    Stage.TTS_QUEUE: "first chunk waited {ms} for a replica",
    Stage.TTS_SYNTHESIS: "the first frame took {ms}",
    Stage.TRANSPORT: "{ms} went by between the processes",
    Stage.GATEWAY: "the gateway itself took {ms}",
    UNATTRIBUTED: "no stage explains {ms}",
    SPEAKING: "{ms} went by behind the first audio",
}
BECAUSE: Final = {
    "lookahead": "by lookahead",
    "deadline": "until its deadline",
    "policy": "by policy",
    "the end of the text": "until the text ended",
    "late": "and was given up",
    "redis": "from Redis",
    "similar": "by similarity",
    "retried": "and was asked for again",
    "failed over": "from another provider",
    "long chunk": "because it was long",
    "slow writer": "because they came slowly",
    "not cached": "because no cache had it",
    "rarely asked": "and most turns ask no model",
    "shared": "from another turn's engine",
    "another voice": "from another voice",
    "long reply": "with a long reply",
    "underruns": "with a player that ran dry",
}

_CACHE: Final = "look at the cache and its Redis: `voicemesh cache stats`"
_LATE: Final = (
    "the cache did not answer in time: look at it, or give up sooner (VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS)"
)
_REDIS: Final = "Redis is slow: bring it nearer, give it CPU, or lower VOICEMESH_CACHE_REDIS_TIMEOUT_MS"

BUSY_ADVICE: Final = (
    "the machine was busy: other processes took longer in the same turns, too. Give it CPU, or less load, "
    "before anything else (Event loop, p99 and CPU of each process)"
)

_ASK_AHEAD: Final = (
    "most replies come from the cache, and this one did not: ask common prompts before their callers do, or "
    "keep replies longer (VOICEMESH_CACHE_REPLY_TTL_S)"
)
_RARELY_ASKED: Final = (
    "most turns ask no model, so nothing is known of what is usual for it: look at these turns by themselves"
)
_MODEL: Final = (Stage.LLM_CONNECT, Stage.LLM_TTFT, Stage.LLM_TEXT)

_ADVICE: Final[dict[tuple[str, str], str]] = {
    (Stage.ADMISSION, ""): (
        "the gateway is short of CPU, or waits for flags: add gateways, look at VOICEMESH_FLAGS_TIMEOUT_MS"
    ),
    (Stage.HISTORY, ""): _CACHE,
    (Stage.HISTORY, "late"): _LATE,
    (Stage.REPLY_CACHE, ""): _CACHE,
    (Stage.REPLY_CACHE, "late"): _LATE,
    (Stage.REPLY_CACHE, "redis"): _REDIS,
    (Stage.REPLY_CACHE, "similar"): "embeddings are slow: lower VOICEMESH_CACHE_SIMILAR_TIMEOUT_MS",
    (Stage.LLM_CONNECT, ""): (
        "the provider is slow to answer at all: look at the network to it and its queue, or put another one "
        "first in VOICEMESH_LLM_PROVIDERS"
    ),
    (Stage.LLM_TTFT, ""): (
        "ask a second provider when the first is late (VOICEMESH_LLM_HEDGE_PERCENT, VOICEMESH_LLM_PROVIDERS)"
        ", or shorten prompts (VOICEMESH_GATEWAY_PROMPT_TOKENS)"
    ),
    (Stage.LLM_TTFT, "retried"): (
        "the provider failed before its first token: look at its errors in the trace, or fail over sooner "
        "(VOICEMESH_LLM_MAX_RETRIES, VOICEMESH_LLM_PROVIDERS)"
    ),
    (Stage.LLM_TTFT, "failed over"): (
        "the first provider failed or was late: look at its errors in the trace, or put another one first in "
        "VOICEMESH_LLM_PROVIDERS"
    ),
    (Stage.LLM_TEXT, ""): (
        "the model writes slowly: a faster one, or another provider first in VOICEMESH_LLM_PROVIDERS"
    ),
    (Stage.LLM_TEXT, "long chunk"): (
        "begin to speak sooner: --policy adaptive, clause or words:N, or tell the model to begin with a "
        "short clause"
    ),
    (Stage.CHUNK_HOLD, ""): "look at how the text is cut: `voicemesh chunk`, --policy",
    (Stage.CHUNK_HOLD, "lookahead"): (
        "the chunker waits to see what follows a mark, and longest behind a model that writes in pieces: "
        "--policy words:N does not look ahead"
    ),
    (Stage.CHUNK_HOLD, "deadline"): (
        "no good end came in time: --policy clause or words:N, or tell the model to begin with a short "
        "sentence"
    ),
    (Stage.CHUNK_HOLD, "policy"): "take a smaller N in words:N, or --policy adaptive",
    (Stage.CHUNK_HOLD, "the end of the text"): (
        "the reply has no mark to cut at, or the caller's last words came late: --policy adaptive, or mark "
        "the last words as `last`"
    ),
    (Stage.AUDIO_CACHE, ""): _CACHE,
    (Stage.AUDIO_CACHE, "late"): _LATE,
    (Stage.AUDIO_CACHE, "redis"): _REDIS,
    (Stage.TTS_QUEUE, ""): (
        "every replica of the voice was busy: more replicas in VOICEMESH_TTS_VOICES, or less load; "
        "`voicemesh voices --pools` shows the queues"
    ),
    (Stage.TTS_SYNTHESIS, ""): (
        "the engine is slow to its first frame: a faster voice or machine, or more first chunks asked for "
        "twice (VOICEMESH_TTS_HEDGE_PERCENT)"
    ),
    (Stage.TTS_SYNTHESIS, "not cached"): (
        "speak common phrases ahead: `voicemesh warm`, VOICEMESH_GATEWAY_WARM_FILE"
    ),
    (Stage.TTS_SYNTHESIS, "shared"): (
        "the turn that had it made was slow, or stalled: look at its engine, or lower "
        "VOICEMESH_GATEWAY_FOLLOW_STALL_MS"
    ),
    (Stage.TTS_SYNTHESIS, "another voice"): (
        "the voice that was asked for could not speak: `voicemesh voices --pools` says why"
    ),
    (Stage.TRANSPORT, ""): (
        "processes are short of CPU, or far apart: look at their CPU time and at the network"
    ),
    (Stage.TRANSPORT, "to caller"): (
        "it was late behind the gateway: look at the network to the caller, and at the CPU that it has "
        "(under `voicemesh bench`, this tool's machine)"
    ),
    (Stage.GATEWAY, ""): "the gateway is short of CPU: add gateways, or give it a core of its own",
    (
        UNATTRIBUTED,
        "",
    ): "the account is wrong, not the turn: report it, with `voicemesh explain TURN_ID --json`",
    (SPEAKING, ""): "the reply took its time: look at the chunks of such a turn, `voicemesh explain TURN_ID`",
    (SPEAKING, "long reply"): "the reply is long: tell the model to be brief, or bound its tokens",
    (SPEAKING, "underruns"): "the player ran dry: see what is said of underruns",
    **{(stage, "not cached"): _ASK_AHEAD for stage in _MODEL},
    **{(stage, "rarely asked"): _RARELY_ASKED for stage in _MODEL},
}


def reason_of(turn: Turn, part: str, usual: Usual) -> str:
    """Return why `part` of a turn took long, as a key of this module; "" where nothing is known."""
    match part:
        case Stage.CHUNK_HOLD:
            reason = HOLDS.get(turn.first.reason, "") if turn.first else ""
        case Stage.LLM_CONNECT | Stage.LLM_TTFT | Stage.LLM_TEXT if _rarely_asked(part, usual):
            # Not the model is what is unusual, but that it was asked at all.
            reason = "not cached" if turn.reply_cache == "miss" else "rarely asked"
        case Stage.LLM_CONNECT | Stage.LLM_TTFT:
            reason = _model_reason(turn)
        case Stage.LLM_TEXT:
            reason = _text_reason(turn, usual)
        case Stage.HISTORY | Stage.REPLY_CACHE | Stage.AUDIO_CACHE:
            reason = _cache_reason(turn, part)
        case Stage.TTS_SYNTHESIS:
            reason = _synthesis_reason(turn, usual)
        case Stage.TRANSPORT:
            reason = _transport_reason(turn, usual)
        case _:
            reason = _speaking_reason(turn, usual) if part == SPEAKING else ""
    return reason


def said(part: str, reason: str, shown_ms: str) -> str:
    """Say what happened, for people; `shown_ms` is how long it took, with its unit."""
    because = BECAUSE.get(reason, f"({reason})" if reason else "")
    return f"{_SAID[part].format(ms=shown_ms)} {because}".rstrip()


def advice(part: str, reason: str) -> str:
    """Say what helps, with the setting to change."""
    return _ADVICE.get((part, reason)) or _ADVICE[part, ""]


def _rarely_asked(part: str, usual: Usual) -> bool:
    return not usual.own_kind and usual.parts[PARTS.index(part)] < _NOT_THERE_MS


def _model_reason(turn: Turn) -> str:
    if turn.failed_over or "model" in turn.degraded:
        return "failed over"
    if turn.retried:
        return "retried"
    return turn.provider


def _text_reason(turn: Turn, usual: Usual) -> str:
    if turn.first is None or not turn.first.audio_ms or not usual.chunk_audio_ms:
        return ""
    return "long chunk" if turn.first.audio_ms > _LONG_CHUNK * usual.chunk_audio_ms else "slow writer"


def _transport_reason(turn: Turn, usual: Usual) -> str:
    over = {hop: late_ms - usual.hops.get(hop, 0.0) for hop, late_ms in turn.hops.items()}
    # By name where two are equal, so that the order of a report says nothing.
    return f"to {max(sorted(over), key=over.__getitem__)}" if over else ""


def _cache_reason(turn: Turn, part: str) -> str:
    if ("history" if part == Stage.HISTORY else "cache") in turn.degraded:
        return "late"
    if part == Stage.HISTORY:
        return ""
    outcome = turn.reply_cache if part == Stage.REPLY_CACHE else turn.first.cache if turn.first else ""
    return outcome if outcome in ("redis", "similar") else ""


def _synthesis_reason(turn: Turn, usual: Usual) -> str:
    if "voice" in turn.degraded:
        return "another voice"
    if turn.first is not None and turn.first.cache == "shared":
        return "shared"
    # Where first audio is cached as a rule, having to make it is what is unusual.
    cached = usual.parts[PARTS.index(Stage.TTS_SYNTHESIS)] < _NOT_THERE_MS
    return "not cached" if cached and turn.first is not None and turn.first.cache == "miss" else ""


def _speaking_reason(turn: Turn, usual: Usual) -> str:
    excess_ms = turn.total_ms - turn.ttfa_ms - usual.parts[PARTS.index(SPEAKING)]
    if excess_ms <= 0:
        return ""
    if turn.underrun_ms >= excess_ms / 2:
        return "underruns"
    return "long reply" if turn.audio_ms - usual.audio_ms >= excess_ms / 2 else ""
