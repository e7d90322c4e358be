# ruff: noqa: RUF001, RUF002 - marks of other scripts are what is meant
"""How long it is silent behind a chunk: by the mark that ends its text.

The lengths are those that espeak-ng 1.52 keeps between two sentences or clauses of one text at its
usual 175 words a minute, from the last sample above silence to the first one (measured for English,
German, French, Mandarin, Japanese, Hindi, Arabic, Urdu, Russian, Armenian, Amharic and Greek; they
differ by a few milliseconds between languages):

    . ? 。 ।   303     ! ！   341     : ; — …   228     , 、 ،   152     ॥, empty line   529     )   110

So a reply that was cut into chunks has the rhythm that it has in one piece.

With speed, pauses change more than the words between them: espeak-ng's are 843, 550, 303 and 130 ms
behind a full stop at 0.5, 0.69, 1 and 1.5. `speed ** -1.5` is near to that (858, 532, 303, 165).

Workers import this module: standard library only.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PAUSES_MS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "paragraph": 530,
        "exclamation": 340,
        "sentence": 300,
        "colon": 225,
        "clause": 150,
        "aside": 110,
        "none": 25,
    }
)
"""Kind of ending → milliseconds from the last sound of a chunk to the first of the next, at speed 1.

`colon` also stands for semicolon, dash and ellipsis, `aside` for a bracket or quotation mark that
closes without a mark in front, `none` for a text that ends with a word.
"""

MAX_PAUSE_MS: Final = 5000
_SLOWEST: Final = 3.0
"""No speed makes a pause longer than so many times: espeak-ng speaks no slower than that either."""

_MARKS: Final = {
    "paragraph": "॥༎፨៚꧉᭟",
    "exclamation": "!！﹗՜‼⁉߹",
    "sentence": ".。．｡﹒?？﹖؟۔؝؞।۔։።፧՞‽⁇⁈\u037e။།៕។꓿᠃᠉܀܁܂෴⸮᥄᥅᪨᪩᪪᪫᭚᭛᭞᰻᰼᱾᱿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꩝꩞꩟꫰꫱꯫",
    "colon": ":;：；﹔﹕؛…‥⋯፤፥፦៖—–―‒⸺⸻−᠄߸܃܄܅\u0387꛴꛵",
    "clause": ",，、､﹐﹑،፣՝၊᠂᠈܆܇܈꘍꛶",
}
_KINDS: Final = {mark: kind for kind, marks in _MARKS.items() for mark in marks}
# Greek asks with a semicolon, and has a raised point where others have one.
_GREEK: Final = {";": "sentence", "\u037e": "sentence", "·": "colon", "\u0387": "colon"}
_BRACKETS: Final = '"”»›)]}」』）】〉》〕］｝｠〞＂'
_CLOSING: Final = _BRACKETS + "'’*_~`"
_LINE_END: Final = re.compile(r"[\n\r\u2028\x85]")
_PARAGRAPH_END: Final = re.compile(r"\u2029|\n[^\S\n]*\n|\r\n[^\S\n]*\r\n")


def ending(text: str, language: str = "") -> str:
    """Return the kind of pause that belongs behind `text`: a key of `PAUSES_MS`.

    Args:
        text: A chunk.
        language: BCP 47 tag of what speaks; some marks mean other things in some languages.

    """
    body = text.rstrip()
    space = text[len(body) :]
    if body and _PARAGRAPH_END.search(space):
        return "paragraph"
    kind = _mark(body, language)
    if body and _LINE_END.search(space) and PAUSES_MS[kind] < PAUSES_MS["sentence"]:
        return "sentence"
    return kind


def _mark(body: str, language: str) -> str:
    bare = body.rstrip(_CLOSING).rstrip()
    last = bare[-1:]
    if language.partition("-")[0].lower() == "el" and last in _GREEK:
        return _GREEK[last]
    if bare.endswith(".."):
        return "colon"
    if last in ("-", "\u2010", "\u2011"):
        # A hyphen behind a word waits for the rest of it; one that stands alone, or two, are a dash.
        return "none" if bare[-2:-1].isalnum() else "colon"
    if last in _KINDS:
        return _KINDS[last]
    closing = body[len(bare) :]
    return "aside" if any(mark in _BRACKETS for mark in closing) else "none"


def pause_ms(text: str, language: str, speed: float, pauses_ms: Mapping[str, float] = PAUSES_MS) -> float:
    """Return the silence behind `text` in milliseconds: a function of nothing but the arguments.

    Args:
        text: A chunk.
        language: BCP 47 tag of what speaks.
        speed: Speed of speech; 1 is the voice's own.
        pauses_ms: What the voice sets otherwise than `PAUSES_MS`.

    """
    kind = ending(text, language)
    longer: float = min(speed**-1.5, _SLOWEST)
    return min(pauses_ms.get(kind, PAUSES_MS[kind]) * longer, MAX_PAUSE_MS)
