# ruff: noqa: RUF001 - marks of other scripts are what is meant
"""Characters that end sentences and clauses, script by script.

Sources: Unicode's property Sentence_Terminal (UAX #29) for the scripts, and their orthographies for
which of the marks stand for a comma.
"""

import re
from typing import Final

NEWLINES: Final = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Each ends a line, and a line ends a chunk."""

DOTS: Final = ".…"
"""An end only if what stands around says so."""

ASKING: Final = "?!‼⁇⁈⁉‽\u037e"
"""Ends where white space follows. U+037E is the Greek question mark; `;` after a Greek letter is the same."""

ARMENIAN_STRESS: Final = "՞՜"
"""Stand on the stressed vowel; they end a sentence only at a word's end before a capital."""

HARD: Final = "。！？｡．﹒﹖﹗؟۔؝؞।॥։።፧፨។៕။།༎᠃᠉܀܁܂߹෴⸮᥄᥅᜵᜶᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫"
"""Ends of scripts where no white space need follow."""

CLUSTER: Final = frozenset(DOTS + ASKING + ARMENIAN_STRESS + HARD + "․‥")
"""What may stand together with an end mark and belongs to it."""

HARD_SET: Final = frozenset(HARD)
ASKING_SET: Final = frozenset(ASKING)
STRESS_SET: Final = frozenset(ARMENIAN_STRESS)

CLOSERS: Final = frozenset("\"'”’»›)]}）］｝」』】〕〉》〗〙〛＂＇*_")
"""Quotes, brackets and emphasis that close; directly after an end mark they belong to the sentence."""

EITHER: Final = frozenset("“‘«‹")
"""Open in one language and close in another („…“, »…«); closing where white space follows."""

OPENERS: Final = frozenset("“‘«‹„‚\"'¿¡([{（［｛「『【〔〈《〖〘〚⟨")
"""What may stand before the first word of a sentence."""

CLAUSE_ASCII: Final = frozenset(",;:")
"""Clause marks that need white space behind them: they also stand in numbers, times and addresses."""

CLAUSE_FULL: Final = frozenset("，、；：､﹐﹑﹔﹕،؛՝፣፤፥፦៖၊᠂᠄᠈߸܃܄܅܆܇܈\u0387꘍꛴꛵꛶")
"""Clause marks that need nothing behind them."""

LONG_DASHES: Final = frozenset("—―⸺⸻")
SHORT_DASHES: Final = frozenset("–-")
"""Dashes only with white space around them (`--` also without)."""

DASHES: Final = LONG_DASHES | SHORT_DASHES

BULLETS: Final = "-*•◦▪▫‣⁃●○■□·–—>#+"
"""What may stand before a list marker."""

QUOTE_CLOSERS: Final = frozenset("\"'”’»›」』＂＇")
"""Closing quotes, which belong to the clause mark that they follow."""

_GREEK: Final = "\u0370-\u03ff\u1f00-\u1fff"
_ARMENIAN: Final = "\u0531-\u058f"
# Han, kana, bopomofo; then the scripts of South-East Asia and Tibet. None puts spaces between words.
_CJK: Final = (
    "\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_SOUTH_EAST: Final = "\u0e01-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"

CJK: Final = re.compile(f"[{_CJK}]")
UNSPACED: Final = re.compile(f"[{_CJK}{_SOUTH_EAST}]")
SYLLABIC: Final = re.compile(f"[{_CJK}\uac00-\ud7a3]")
"""A character that is spoken as a syllable or more."""

# In Greek `;` asks, in Armenian `:` ends: the letter before tells.
# A mark inside a number, a name or an address is not worth a look, if only because there are many.
_ENDS: Final = NEWLINES + "…" + ASKING.lstrip("?!") + ARMENIAN_STRESS + HARD
_PAUSES: Final = "".join(sorted(CLAUSE_FULL | LONG_DASHES)) + "–"
_IF_SENTENCE: Final = (
    rf"(?<=\.)(?![A-Za-z0-9])|(?<=[?!])(?![a-z0-9])|(?<=[{re.escape(_ENDS)}])"
    f"|(?<=[{_GREEK}];)|(?<=[{_ARMENIAN}]:)"
)
_IF_CLAUSE: Final = (
    r"(?<=[^\W\d_],)|(?<=[-:;,])(?![A-Za-z0-9])"
    rf"|(?<=[{re.escape(_PAUSES)}])|(?<=[{_GREEK}]·)"
)


def _mark(characters: str, conditions: str, classes: str = "") -> re.Pattern[str]:
    """Return a pattern of one of the characters, under the conditions behind it.

    A pattern that begins with a set of characters is looked for many times faster than alternatives.
    """
    return re.compile(f"[{re.escape(characters)}{classes}](?:{conditions})")


SENTENCE_CHARACTERS: Final = _ENDS + ".?!;:"
"""Text without any of them ends no sentence, whatever stands around."""

SENTENCE_MARK: Final = _mark(SENTENCE_CHARACTERS, _IF_SENTENCE)
"""Finds the next place where a sentence may end."""

CLAUSE_MARK: Final = _mark(_PAUSES + ",;:-·", _IF_CLAUSE)
"""Finds the next place where a clause may end."""

ANY_MARK: Final = _mark(_ENDS + ".?!" + _PAUSES + ",;:-·", f"{_IF_SENTENCE}|{_IF_CLAUSE}")
"""Finds the next place where either may end."""

WORD_END: Final = _mark(SENTENCE_CHARACTERS, f"(?<=\\s)|{_IF_SENTENCE}|(?<=[{_CJK}])", f"\\s{_CJK}")
"""Finds the next place where a sentence or a word may end."""

SPEAKABLE: Final = re.compile(r"[^\W_]")
"""A letter or a digit: without one there is nothing to say."""


def is_sentence_mark(text: str, index: int) -> bool:
    """Say whether `text[index]` is a mark that may end a sentence."""
    return SENTENCE_MARK.match(text, index) is not None


def is_emoji(char: str) -> bool:
    """Say whether `char` is (part of) a pictograph."""
    code = ord(char)
    return code >= 0x1F000 or 0x2600 <= code <= 0x27BF or code in (0xFE0F, 0x200D)
