"""How many tokens a prompt has, as far as that can be said without the model's own vocabulary.

A text is cut into runs of one class of script, and each run weighs what such runs weigh on average in
OpenAI's `o200k_base`, the vocabulary of `gpt-4o` and later (`n`: characters of the run):

    class                                      tokens
    a word of A to Z                           1 + 0.07 (n - 4), at least 1
    a Latin word with other letters in it      1 + 0.28 (n - 3), at least 1
    Cyrillic; Greek, Hebrew, Arabic, …         0.29 n; 0.34 n; at least 1
    Indic scripts, Thai, Khmer, …              0.42 n, at least 1
    Chinese characters, kana, hangul           0.8 n each
    digits                                     one for each three, begun threes too; 0.4 more behind a space
    ASCII marks                                1 for the first two, 0.4 for each further one; "_" alone: 0.3
    line breaks with what is indented          0.8, or 1.4 with spaces behind them; other wide gaps: 1
    anything else, such as an emoji            1.3 for each

Texts of a vocabulary of another kind differ by a factor that is much the same from prompt to prompt: it is
learned from what providers report (`calibration.py`). docs/llm.md has the error before and after.
"""

import functools
import re
from collections.abc import Iterable
from typing import Final

from gateway.core.budget import Tiles
from gateway.core.values import Image, Message
from voicemesh.pictures import size_of

MESSAGE_TOKENS: Final = 4
"""What a message costs beside its content: its role, and the marks around it."""
REPLY_TOKENS: Final = 3
"""What opens the reply behind the last message."""

_RUNS: Final = re.compile(
    r"(?P<ascii>[A-Za-z]+(?![\u00aa-\u024f\u0300-\u036f\u1e00-\u1eff]))"
    r"|(?P<latin>[A-Za-z\u00aa-\u024f\u0300-\u036f\u1e00-\u1eff]+)"
    r"|(?P<lone>_)"
    r"|(?P<digits> ?[0-9]+)"
    r"|(?P<marks>[!-/:-@\[-^`{-~]+)"
    r"|(?P<lines>[^\S\n]*\n\s*)"
    r"|(?P<gap>[^\S\n]{2,})"
    r"|(?P<wide>[\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3041-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    r"\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]+)"
    r"|(?P<cyrillic>[\u0400-\u052f]+)"
    r"|(?P<east>[\u0370-\u03ff\u0530-\u08ff\u10a0-\u10ff\u1f00-\u1fff]+)"
    r"|(?P<indic>[\u0900-\u109f\u1780-\u17ff]+)"
    r"|(?P<other>\S)"
)
_SHORT_CHARS: Final = 1000
_CALM: Final = 4
"""Letters of a word that are surely one token."""


_TILES: Final = (("gpt-4o-mini", Tiles(2833, 5667)), ("o1", Tiles(75, 150)), ("o3", Tiles(75, 150)))
"""Where a model counts otherwise than `gpt-4o`: the beginning of its name."""


def tiles_of(model: str) -> Tiles:
    """Return what `model` counts for pictures: as `gpt-4o` where nothing else is known of it."""
    return next((tiles for name, tiles in _TILES if model.startswith(name)), Tiles())


def text_tokens(text: str) -> float:
    """Return about how many tokens `text` has. Messages come again with every turn: they are weighed once."""
    return _short(text) if len(text) <= _SHORT_CHARS else _long(text)


def _weigh(text: str) -> float:
    total = 0.0
    for run in _RUNS.finditer(text):
        begin, end = run.span()
        length = end - begin
        match run.lastgroup:
            case "ascii":
                total += 1 + 0.07 * max(0, length - _CALM)
            case "latin":
                total += 1 + 0.28 * max(0, length - _CALM + 1)
            case "marks":
                total += 1 + 0.4 * max(0, length - 2)
            case "digits":
                spaced = text[begin] == " "
                total += -(-(length - spaced) // 3) + 0.4 * spaced
            case "lines":
                total += 0.8 if text[end - 1] == "\n" else 1.4
            case "gap":
                total += 1
            case "lone":
                total += 0.3
            case "wide":
                total += 0.8 * length
            case "cyrillic":
                total += max(1.0, 0.29 * length)
            case "east":
                total += max(1.0, 0.34 * length)
            case "indic":
                total += max(1.0, 0.42 * length)
            case _:
                total += 1.3
    return total


_short = functools.lru_cache(4096)(_weigh)
_long = functools.lru_cache(64)(_weigh)


def message_tokens(message: Message, tiles: Tiles) -> float:
    """Return about how many tokens a message has, with its pictures and what stands around it."""
    content = sum(
        tiles.tokens(size_of(part.data)) if isinstance(part, Image) else text_tokens(part)
        for part in message.parts
    )
    return MESSAGE_TOKENS + content


def prompt_tokens(messages: Iterable[Message], tiles: Tiles) -> float:
    """Return about how many tokens a prompt of these messages has."""
    return REPLY_TOKENS + sum(message_tokens(message, tiles) for message in messages)


def at_most(message: Message, tiles: Tiles) -> float:
    """Return what `message_tokens` is not above, without looking at the text."""
    content = sum(
        tiles.tokens(size_of(part.data)) if isinstance(part, Image) else 1.5 * len(part)
        for part in message.parts
    )
    return MESSAGE_TOKENS + content
