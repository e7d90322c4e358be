"""What was said, as the conventions for generative AI write it into spans. Only where that is asked for.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/: JSON, because attributes of spans
have no structure.
"""

import json
from collections.abc import Sequence
from typing import Any


def text_part(text: str) -> dict[str, Any]:
    """Return a part of a message that is text."""
    return {"type": "text", "content": text}


def picture_part(media_type: str, url: str) -> dict[str, Any]:
    """Return a part that is a picture: its address, or its type alone where it came as bytes."""
    if url:
        return {"type": "uri", "modality": "image", "uri": url}
    return {"type": "blob", "modality": "image", "mime_type": media_type}


def messages(told: Sequence[tuple[str, Sequence[dict[str, Any]], str]]) -> str:
    """Return messages of role, parts, and why the message ended ("" where nobody said)."""
    listed = [
        {"role": role, "parts": list(parts), **({"finish_reason": ended} if ended else {})}
        for role, parts, ended in told
    ]
    return json.dumps(listed, ensure_ascii=False)


def message(role: str, text: str, ended: str = "") -> str:
    """Return one message that is text."""
    return messages([(role, [text_part(text)], ended)])


def parts(texts: Sequence[str]) -> str:
    """Return texts that belong to no message, as system instructions do."""
    return json.dumps([text_part(text) for text in texts], ensure_ascii=False)
