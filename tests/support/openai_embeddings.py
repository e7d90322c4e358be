"""Embeddings without a model: bags of words, of which those that say little weigh little."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

DIMENSIONS = 256
_LIGHT = frozenset(
    (
        "a",
        "an",
        "the",
        "is",
        "are",
        "do",
        "does",
        "can",
        "could",
        "you",
        "me",
        "tell",
        "please",
        "what",
        "explain",
    )
)


def bag_of_words(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return the same for the same words in any order; what shares no word is nearly orthogonal."""
    numbers = [0.0] * dimensions
    for word in re.findall(r"\w+", text.casefold()):
        digest = hashlib.sha256(word.encode()).digest()
        numbers[int.from_bytes(digest[:4]) % dimensions] += 0.1 if word in _LIGHT else 1.0
    numbers[0] += 1e-3
    return numbers


def embeddings_answer(body: dict[str, Any], embedding: Callable[[str], Sequence[float]]) -> bytes:
    """Return the body that answers a request, in OpenAI's form."""
    given = body["input"]
    texts = [given] if isinstance(given, str) else given
    data = [
        {"object": "embedding", "index": at, "embedding": list(embedding(text))}
        for at, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return json.dumps({"object": "list", "data": data, "model": body["model"], "usage": usage}).encode()
