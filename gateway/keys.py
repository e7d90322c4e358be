"""What the gateway asks the cache for: the fields of its keys, from the choices of a turn."""

from collections.abc import Iterable

from gateway import translation
from gateway.core.values import Message
from gateway.options import SpeechChoice, TextChoice
from voicemesh.cache.v1 import cache_pb2


def history_key(session_id: str) -> cache_pb2.CacheKey:
    """Return the key of a session's history."""
    return cache_pb2.CacheKey(history=cache_pb2.HistoryKey(session_id=session_id))


def reply_key(llm_revision: str, text: TextChoice, messages: Iterable[Message]) -> cache_pb2.CacheKey:
    """Return the key of the reply to `messages`, the system prompt among them."""
    return cache_pb2.CacheKey(
        reply=cache_pb2.ReplyKey(
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


def audio_key(speech: SpeechChoice, text: str) -> cache_pb2.CacheKey:
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
        )
    )
