"""Where chunks that another process cut stand in the text.

    text    ( … )  "Yes," she said. Then …
    known                            ^ 0          `"Yes," she said.`
            └─ marks that nobody says: let out in front of it, as they were then

A chunk is found by the first character in it that is said: there is none between two chunks.
"""

import re
from collections.abc import Iterable
from typing import Final

from services.chunker import marks
from services.chunker.policy import KnownChunk, Reason
from voicemesh.runtime.errors import InvalidFieldError

_NOT_WHITE: Final = re.compile(r"\S")


def places_of(known: Iterable[KnownChunk], text: str) -> list[tuple[int, Reason]] | None:
    """Return where the known chunks of `text` end, and why; None while not all of them have come.

    Raises:
        InvalidFieldError: They were not cut from that text.

    """
    ends: list[tuple[int, Reason]] = []
    at = 0
    for number, chunk in enumerate(known):
        said = marks.SPEAKABLE.search(chunk.text)
        found = (marks.SPEAKABLE if said else _NOT_WHITE).search(text, at)
        if found is None:
            return None
        begin = found.start() - (said.start() if said else 0)
        end = begin + len(chunk.text)
        if begin < at or not chunk.text.startswith(text[begin:end]):
            raise InvalidFieldError(f"configure.known_chunks[{number}]", "is not the next chunk of the text")
        if end > len(text):
            return None
        if _NOT_WHITE.search(text, at, begin):
            silent = text[:begin].rstrip()
            ends.append((len(silent), Reason.FLUSH))
        ends.append((end, chunk.reason))
        at = end
    return ends
