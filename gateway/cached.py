"""What the cache says, looked at before it is believed.

The cache is a process of its own, and may be wrong: of another version, or in somebody else's hands. What it
gives is heard, shown and sent to a model, so it must be what was asked for: of this format, in whole samples,
about this text. What cannot be is no answer at all, and the cache is held off for a while.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from gateway import translation
from gateway.core.values import Chunk, Message, Word
from voicemesh.cache.v1 import cache_pb2
from voicemesh.common.v1 import common_pb2 as common
from voicemesh.runtime.frames import BYTES_PER_SAMPLE

MOST_CHUNK_S: Final = 900
"""Of one chunk's audio."""
MOST_REPLY_CHARS: Final = 1_000_000
MOST_MESSAGES: Final = 10_000
_MOST_CHUNK_TIMES: Final = 64
"""What is said may be so many times as long as what is written: "%" is "percent"."""
_SPOKEN: Final = (common.ROLE_USER, common.ROLE_ASSISTANT)


class ImpossibleAnswerError(Exception):
    """The cache said what cannot be; the text says what."""


def audio_of(
    value: cache_pb2.AudioValue, form: common.AudioFormat, text: str, before_bytes: int = 0
) -> tuple[bytes, tuple[Word, ...]]:
    """Return audio that the cache has for `text`, and when its words are heard.

    Args:
        value: What the cache gave: the whole, or the next part.
        form: As it was asked for.
        text: What it says.
        before_bytes: Of the parts before.

    Raises:
        ImpossibleAnswerError: It is of another format, or no whole samples, longer than any text is, or has
            words that are not in the text.

    """
    audio, given = value.audio, value.format
    for name in ("encoding", "sample_rate_hz", "channels"):  # 0 leaves it as it was asked for
        if getattr(given, name) not in (0, getattr(form, name) or 1):
            raise ImpossibleAnswerError("audio of another format than was asked for")
    if len(audio) % BYTES_PER_SAMPLE:
        raise ImpossibleAnswerError("audio of an odd number of bytes")
    if before_bytes + len(audio) > MOST_CHUNK_S * form.sample_rate_hz * BYTES_PER_SAMPLE:
        raise ImpossibleAnswerError(f"more than {MOST_CHUNK_S} s of audio for one chunk")
    for word in value.words:
        if word.text_offset + word.text_length > len(text):
            raise ImpossibleAnswerError("words that are not in the text")
    return audio, translation.words_from(value.words)


def check_reply(reply: cache_pb2.ReplyValue) -> None:
    """Refuse a reply that nobody wrote.

    Raises:
        ImpossibleAnswerError: It is empty, or longer than any.

    """
    if not reply.text:
        raise ImpossibleAnswerError("a reply without a text")
    if len(reply.text) > MOST_REPLY_CHARS:
        raise ImpossibleAnswerError(f"a reply of more than {MOST_REPLY_CHARS} characters")


def chunks_of(chunks: Iterable[common.Chunk], text: str) -> tuple[Chunk, ...]:
    """Return how a reply was cut when it was first spoken.

    Raises:
        ImpossibleAnswerError: The chunks are not one behind the other, or not within the text.

    """
    found = tuple(map(translation.chunk_from, chunks))
    at = 0
    for number, chunk in enumerate(found):
        end = chunk.text_offset + chunk.text_length
        if chunk.index != number or chunk.text_offset < at or end > len(text):
            raise ImpossibleAnswerError("chunks that are not those of their text")
        if len(chunk.text) > _MOST_CHUNK_TIMES * (chunk.text_length + 1):
            raise ImpossibleAnswerError("a chunk that says more than it stands for")
        if not _follows(chunk):
            raise ImpossibleAnswerError("a chunk that stands for what is not in it")
        at = end
    return found


def _follows(chunk: Chunk) -> bool:
    """Return whether the parts of a chunk are within what is said and what it stands for."""
    end = chunk.text_offset + chunk.text_length
    return all(
        run.spoken_offset + run.spoken_length <= len(chunk.text)
        and chunk.text_offset <= run.source_offset
        and run.source_offset + run.source_length <= end
        for run in chunk.alignment
    )


def history_of(messages: Sequence[common.Message]) -> tuple[Message, ...]:
    """Return a session's messages.

    Raises:
        ImpossibleAnswerError: They are more than any session has, or one is neither the user's nor the
            model's: whoever writes a system prompt into a history would tell the model what to do.

    """
    if len(messages) > MOST_MESSAGES:
        raise ImpossibleAnswerError(f"a history of more than {MOST_MESSAGES} messages")
    if any(message.role not in _SPOKEN or not message.parts for message in messages):
        raise ImpossibleAnswerError("a history with messages that nobody said")
    return tuple(map(translation.message_from, messages))
