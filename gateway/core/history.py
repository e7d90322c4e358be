"""What a session's history keeps."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.core.values import Message


def bounded(messages: Sequence[Message], most: int, most_chars: int) -> tuple[Message, ...]:
    """Return the end of a conversation that fits: at most `most` messages with `most_chars` characters.

    Of the pictures, those of the last message that has any are kept: the next question may be about them.
    The last message is kept whatever its length.
    """
    kept: list[Message] = []
    chars = 0
    pictured = False
    for message in reversed(messages[-most:] if most else ()):
        chars += len(message.text)
        if kept and chars > most_chars:
            break
        has_pictures = any(not isinstance(part, str) for part in message.parts)
        if has_pictures and pictured:
            message = replace(message, parts=tuple(p for p in message.parts if isinstance(p, str)))  # noqa: PLW2901
        pictured = pictured or has_pictures
        kept.append(message)
    return tuple(reversed(kept))
