"""How the cached replies to questions begin, so that their first audio is asked for with them.

question asked again ── known ──> reply and audio are looked up in one breath
                                     └─ claimed, where the reply begins so; else it was one lookup too many
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from voicemesh.cache.v1 import cache_pb2

_MAX_QUESTIONS: Final = 8192
"""At about 300 bytes each, 2.5 MB."""
_MAX_CHARS: Final = 200
_DIGEST_BYTES: Final = 16

Response = cache_pb2.ExchangeResponse | None


def question_of(tenant: str, voice: str, chunked_for: str, key: cache_pb2.CacheKey) -> bytes:
    """Return what stands for a question: who asks, how the reply is cut and spoken, and its key."""
    asked = hashlib.blake2b(key.SerializeToString(deterministic=True), digest_size=_DIGEST_BYTES)
    for part in (tenant, voice, chunked_for):
        asked.update(f"{len(part)}:{part}".encode())
    return asked.digest()


class Beginnings:
    """What the first chunks of the last cached replies said. No audio is kept, and no question."""

    def __init__(self) -> None:
        self._texts: OrderedDict[bytes, str] = OrderedDict()

    def note(self, question: bytes, text: str) -> None:
        """Note how the reply begins that the cache has for a question."""
        if len(text) > _MAX_CHARS:
            return
        self._texts[question] = text
        self._texts.move_to_end(question)
        if len(self._texts) > _MAX_QUESTIONS:
            self._texts.popitem(last=False)

    def forget(self, question: bytes) -> None:
        """Note that the cache has no reply to a question, or none that is cut already."""
        self._texts.pop(question, None)

    def known(self, question: bytes) -> str:
        """Return how the reply to a question began; "" where that is not known."""
        return self._texts.get(question, "")


@dataclass(eq=False, slots=True)
class Ahead:
    """A lookup of audio that no chunk has asked for yet, and what came of it."""

    text: str
    """What the chunk must say to get it."""
    request_id: int = 0
    claimed_ns: int | None = None
    """When a chunk asked for it; None: none has."""
    came: list[tuple[Response, str]] = field(default_factory=list)
    """The answers so far, and why there are no more."""

    @property
    def failed(self) -> bool:
        """True where the cache has not got it, or not all of it came: it is of no use."""
        return bool(self.came) and (kind_of(self.came[0][0]) != "hit" or kind_of(self.came[-1][0]) in _FAILED)


_FAILED: Final = ("", "error")


def kind_of(response: Response) -> str:
    """Return which kind of answer it is; "" for none."""
    return (response.WhichOneof("result") or "") if response is not None else ""
