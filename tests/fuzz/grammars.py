"""What is plausible for each service: orders of events, values of fields, metadata."""

import random
from typing import Final

from tests.fuzz.plans import LEASE, Grammar
from tests.fuzz.soup import deep, soup
from voicemesh.cache.v1 import cache_pb2
from voicemesh.chunker.v1 import chunker_pb2
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.llm.v1 import llm_pb2
from voicemesh.tts.v1 import tts_pb2

VOICE: Final = "sim"
CHAR_MS: Final = 1
"""Audio for a character, in milliseconds: no text may take as long to be heard as a call may take to end."""
MOST_CHARS: Final = 4_100
"""What one turn may say, for the same reason: at the slowest speed that is 16 s."""
VOICES: Final = (
    '[{"name": "sim", "engine": "simulated", "language": "en", "replicas": 2,'
    f' "options": {{"first_frame_ms": 0, "rtf": 0, "char_ms": {CHAR_MS}, "slots": 8}}}}]'
)
"""What the fuzzed mesh speaks with: an engine that costs nothing."""

_RNG: Final = random.Random("plausible texts")
_TEXTS: Final = (
    *("Hello there.", "One, two; three: four!", "Dr. Lee said: no. 7 is it?", "word " * 30, "Ende.", "a", ""),
    *(soup(_RNG, 8) for _ in range(40)),
    *(deep(_RNG, depth) for depth in (3, 40, 40, 400, 400, 2_000)),
)
_SAID: Final = tuple(text for text in _TEXTS if text.strip())
_SPEECH: Final = {
    "voice": (*("", VOICE, "SIM") * 4, "nobody", "sim/de"),
    "encoding": (0, 1, 1, 1, 2, 3, 4),
    "sample_rate_hz": (0, 0, 8000, 16000, 24000, 22050),
    "channels": (0, 1),
    "speed": (0.0, 0.0, 1.0, 0.25, 4.0),
}
_POLICY: Final = {
    "ChunkPolicy.kind": (0, 1, 2, 3),
    "ChunkPolicy.words": (0,),
    "min_chars": (0, 0, 10),
    "max_chars": (0, 0, 40, 400),
    "language": ("", "en", "de"),
}
_PARAMETERS: Final = {
    "max_tokens": (1, 5, 40),
    "temperature": (0.0, 1.0),
    "top_p": (0.5, 1.0),
    "stop": ("the", "."),
    "seed": (1, 2),
}
_IDS: Final = ("", "t1", "t2", "t3")
_TRACEPARENTS: Final = (
    "",
    "",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-zz-1",
    "\u00e4",
)
_IMAGES: Final = {
    "media_type": (*("image/png",) * 8, "text/html"),
    "url": (*("https://a.example/b.png", "data:image/png;base64,iVBORw0KGgo=") * 4, "file:///etc/passwd"),
    "data": (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, b""),
}
_METADATA: Final = (
    *((),) * 8,
    (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),),
    (("traceparent", "00-ffffffffffffffffffffffffffffffff-0-zz"), ("tracestate", "=,=,")),
    (("voicemesh-turn-id", "%ff%00%zz%"), ("baggage", "a=b,,;=")),
    (("x-bin", b"\xff\x00\xfe"),),
)

CHUNKER: Final = Grammar(
    chunker_pb2.DESCRIPTOR.services_by_name["ChunkerService"],
    {
        "Chunk": (
            ("configure", "text*", "text*", "end"),
            ("configure", "text*", "slack?", "text*", "flush", "text*", "slack*", "end"),
            ("configure", "text*", "flush*"),
            ("configure",),
        )
    },
    {
        **_POLICY,
        "text": _TEXTS,
        "turn_id": _IDS,
        "voice_max_chars": (0, 0, 100),
        "ms_per_char": (0.0, 60.0),
        "first_frame_ms": (0.0, 100.0),
        "first_frame_ms_per_char": (0.0, 1.0),
        "writer_chars_per_s": (0.0, 200.0),
        "left_to_play_ms": (0, 100, 5000),
    },
    _METADATA,
)

LLM: Final = Grammar(
    llm_pb2.DESCRIPTOR.services_by_name["LlmService"],
    {
        "Generate": (
            ("start", "patience*"),
            ("start",),
            ("start", "patience?", "cancel"),
            ("start", "patience*", "cancel", "patience*"),
            (),
        )
    },
    {
        **_PARAMETERS,
        **_IMAGES,
        "text": _SAID,
        "role": (*(2,) * 12, 3, 1),
        "model": (*("",) * 6, "rehearsal", "nobody"),
        "turn_id": _IDS,
        "session_id": _IDS,
        "tenant": ("", "acme"),
        "traceparent": _TRACEPARENTS,
        "join_ms": (0, 20, 100),
    },
    _METADATA,
)

TTS: Final = Grammar(
    tts_pb2.DESCRIPTOR.services_by_name["TtsService"],
    {
        "Synthesize": (
            ("configure", "chunk"),
            ("configure", "chunk", "cancel_chunk"),
            ("configure", "chunk", "cancel_turn"),
            ("configure", "chunk", "cancel_chunk*", "chunk", "cancel_turn?"),
            ("configure",),
        )
    },
    {
        **_SPEECH,
        "text": _SAID,
        "texts": _SAID,
        "turn_id": _IDS,
        "chunk_index": (0, 1, 2, 3),
        "deadline_ms": (0, 0, 1000),
        "start_offset_samples": (0, 0, 0, 100, 100_000),
        "language": ("", "en", "en-us"),
    },
    _METADATA,
    {"Synthesize": 12},
)

_TENANTS: Final = ("", "acme", "*")
CACHE: Final = Grammar(
    cache_pb2.DESCRIPTOR.services_by_name["CacheService"],
    {
        "Exchange": (
            ("get", "put", "get"),
            ("put*", "get*"),
            ("get", "append*", "seal", "get"),
            ("get", "append", "release", "get"),
            ("get*", "put*", "append*", "seal", "release*", "get*"),
        )
    },
    {
        **_PARAMETERS,
        **_IMAGES,
        "on_miss": (0, 1, 2, 2, 2),
        "head_ms": (0, 0, 20, 500),
        "due_ms": (0, 1000),
        "begin_ms": (0, 50),
        "similar_ms": (0,),
        "AudioKey.engine": ("e",),
        "model_revision": ("r",),
        "voice": ("v",),
        "AudioKey.language": ("en",),
        "speed_permille": (1000,),
        "encoding": (1,),
        "sample_rate_hz": (16000,),
        "channels": (1,),
        "AudioKey.text": ("one", "two", "three", "four"),
        "text": ("one", "two", "three", "four"),
        "audio": (b"\1\0" * 320, b"\2\0" * 20_000, b"\0\0"),
        "word": ("one",),
        "text_offset": (0, 4),
        "text_length": (3,),
        "offset_samples": (0, 100),
        "role": (1, 2, 3),
        "tenant": _TENANTS,
        "only_tenant": _TENANTS,
        "session_id": ("s1", "s2"),
        "llm_revision": ("l1",),
        "model": ("",),
        "tag": ("t",),
        "tags": ("t", "u"),
        "age_ms": (0, 0, 10),
        "expected_version": (0, 1, 2),
        "lease_id": (LEASE, LEASE, LEASE, "none"),
        "removal_id": ("", "r1", "r2"),
    },
    _METADATA,
    {"Exchange": 12},
)

GATEWAY: Final = Grammar(
    gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"],
    {
        "Converse": (
            ("configure", "prompt"),
            ("configure", "prompt", "playback*", "interrupt", "prompt"),
            ("configure", "text*", "text*", "playback?", "interrupt?"),
            ("configure", "draft", "confirm", "playback*"),
            ("configure", "draft*", "prompt", "interrupt"),
            ("configure", "text", "prompt", "text*", "draft", "confirm"),
            ("configure",),
        )
    },
    {
        **_SPEECH,
        **_POLICY,
        **_PARAMETERS,
        **_IMAGES,
        "text": _SAID,
        "texts": _SAID,
        "turn_id": _IDS,
        "session_id": ("", "", "s1", "s2"),
        "system_prompt": ("", "Be brief."),
        "system_prompt_variant": (*("",) * 6, "compact", "nobody"),
        "model": (*("",) * 6, "rehearsal", "nobody"),
        "channel": ("", "", "", "", "c1"),
        "channel_join": (0, 0, 0, 1, 2),
        "listen_only": (False, False, False, True),
        "max_lead_ms": (0, 0, 0, 200, 60_000),
        "played_ms": (0, 20, 100, 1000),
        "traceparent": _TRACEPARENTS,
        "cache_tags": ("tag",),
        "language": ("", "en"),
        "last": (False, True),
        "warm": (False, False, True),
    },
    (*_METADATA, (("voicemesh-tenant", "acme"),), (("voicemesh-tenant", "no tenant!"),)),
    {"Converse": 14, "Speak": 4},
)

GRAMMARS: Final = {"chunker": CHUNKER, "llm": LLM, "tts": TTS, "cache": CACHE, "gateway": GATEWAY}
