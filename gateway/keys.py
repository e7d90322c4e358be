"""What the gateway asks the cache for: the fields of its keys, from the choices of a turn."""

from collections.abc import Iterable

from gateway import translation
from gateway.core.values import Message, TurnSpec
from gateway.options import SpeechChoice, TextChoice
from voicemesh import tenant
from voicemesh.cache.v1 import cache_pb2
from voicemesh.runtime.clock import Clock


def history_key(spec: TurnSpec) -> cache_pb2.CacheKey:
    """Return the key of a session's history. It is never shared."""
    return cache_pb2.CacheKey(history=cache_pb2.HistoryKey(tenant=spec.tenant, session_id=spec.session_id))


def reply_key(
    spec: TurnSpec, llm_revision: str, text: TextChoice, messages: Iterable[Message]
) -> cache_pb2.CacheKey:
    """Return the key of the reply to `messages`, the system prompt among them."""
    return cache_pb2.CacheKey(
        reply=cache_pb2.ReplyKey(
            tenant=tenant.SHARED if spec.shares_replies else spec.tenant,
            llm_revision=llm_revision,
            model=text.model,
            parameters=text.parameters,
            messages=[translation.message_to(message) for message in messages],
        )
    )


def age_ms(spec: TurnSpec, clock: Clock) -> int:
    """Return how long ago the turn began: at least 1 ms."""
    return max(1, (clock.now_ns() - spec.received_ns) // 1_000_000)


def put_of(
    spec: TurnSpec, clock: Clock, key: cache_pb2.CacheKey, value: cache_pb2.CacheValue
) -> cache_pb2.ExchangeRequest:
    """Return the request to store what a turn made: not kept if it was invalidated since the turn began."""
    put = cache_pb2.Put(key=key, value=value, tags=spec.cache_tags, age_ms=age_ms(spec, clock))
    return cache_pb2.ExchangeRequest(put=put)


def chunking(speech: SpeechChoice, chunker_revision: str) -> str:
    """Return what chunks are cut for, and by which chunker.

    They differ by language, limit, policy, whether markup is said, and by how the chunker cuts and says.
    """
    policy, voice = speech.policy, speech.voice
    parts = (voice.language, voice.max_chars, policy.kind, policy.words, policy.min_chars, policy.max_chars)
    return "|".join(str(part) for part in (*parts, speech.speech_text, chunker_revision))


def audio_key(spec: TurnSpec, speech: SpeechChoice, text: str) -> cache_pb2.CacheKey:
    """Return the key of `text` spoken as chosen."""
    return cache_pb2.CacheKey(
        audio=cache_pb2.AudioKey(
            engine=speech.voice.engine,
            model_revision=speech.voice.model_revision,
            voice=speech.voice.name,
            language=speech.voice.language,
            speed_permille=round(speech.speed * 1000),
            format=speech.format,
            text=text,
            tenant=tenant.SHARED if spec.shares_audio else spec.tenant,
        )
    )
