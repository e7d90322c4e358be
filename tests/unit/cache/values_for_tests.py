"""Keys and values that the tests of the cache share."""

from services.cache.keys import AudioKey, HistoryKey, StoredKey, stored_key
from services.cache.values import (
    PCM_S16LE,
    ROLE_ASSISTANT,
    ROLE_USER,
    AudioFormat,
    AudioValue,
    HistoryValue,
    Message,
    WordTiming,
)

FORMAT = AudioFormat(PCM_S16LE, 22050, 1)


def audio_key(
    text: str = "Hello.", *, voice: str = "espeak/en", revision: str = "r1", tenant: str = ""
) -> StoredKey:
    key = AudioKey("espeak", revision, voice, "en", 1000, FORMAT, text, tenant)
    return stored_key(key, "get.key", max_text_chars=1000)


def history_key(session: str = "s", tenant: str = "") -> StoredKey:
    return stored_key(HistoryKey(tenant, session), "get.key", max_text_chars=1000)


def audio(samples: int = 100, *words: str) -> AudioValue:
    timings = tuple(WordTiming(word, index, 1, index, False) for index, word in enumerate(words))
    return AudioValue(FORMAT, bytes(range(256)) * (samples // 128) + b"\x01\x02" * (samples % 128), timings)


def history(*texts: str) -> HistoryValue:
    roles = (ROLE_USER, ROLE_ASSISTANT)
    return HistoryValue(tuple(Message(roles[index % 2], (text,)) for index, text in enumerate(texts)))
