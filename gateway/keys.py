"""What the gateway asks the cache for: the fields of its keys, from the choices of a turn."""

from collections.abc import Iterable

from gateway import translation
from gateway.core.values import Message, TurnSpec
from gateway.options import SpeechChoice, TextChoice
from voicemesh import tenant
from voicemesh.cache.v1 import cache_pb2


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


def chunking(speech: SpeechChoice) -> str:
    """Return what chunks are cut for: they differ by language, limit, policy and whether markup is said."""
    policy, voice = speech.policy, speech.voice
    parts = (voice.language, voice.max_chars, policy.kind, policy.words, policy.min_chars, policy.max_chars)
    return "|".join(str(part) for part in (*parts, speech.speech_text))


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
