# ruff: noqa: RUF001, RUF002 - characters that look alike are what is meant
r"""Which prompts ask the same: what is typing, and what may be meaning.

    exact    nothing is folded
    typing   what keyboards, speech recognisers and editors decide rather than people    (the default)
    loose    words and numbers alone, in lower case

`typing` folds, in this order:

    forms        Unicode normal form C; full and half width, Arabic presentation forms, ligatures.
                 Not "x²" (x2), "½", "①", "𝒙": those say something.
    invisible    soft hyphens, zero-width spaces, marks of direction, variation selectors
    quotes       ‘ ’ ‚ ‛ to ', “ ” „ ‟ « » to ". Not ′ and ″, which are feet and minutes.
    dashes       ‐ ‑ ‒ – — ― − to -, and -- between spaces to -
    ellipsis     … and .. to ...
    white space  runs become one space; so do line breaks, unless a line is indented by two or more (code)
    marks        "rain ??" and "rain??" to "rain?", "?!" and "!?" to "!?"; a full stop at the end goes
    case         of the first word, and of one behind "?" or "!", where it is Capitalised

What is not folded, and why: any other case ("US" and "us", "in March" and "in march"; "iPhone"), marks
within and between words ("2.5" and "25", "1,000", "let's eat, Grandma"), the mark at the end where it
is another than a full stop ("You are coming?" and "You are coming."; "5!" is 120), accents, the order
and number of words. A capital at the beginning of a sentence is spelling: it says nothing of the word.

`loose` takes that "Us?" and "US" ask the same. Signs that belong to numbers and symbols stay.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final, Literal

Match = Literal["exact", "typing", "loose"]

_FORMS: Final = frozenset(
    (
        "<wide>",
        "<narrow>",
        "<noBreak>",
        "<small>",
        "<vertical>",
        "<isolated>",
        "<initial>",
        "<medial>",
        "<final>",
    )
)
"""Decompositions that change how a character looks, and never what it says."""
_QUOTES: Final = dict.fromkeys(map(ord, "‘’‚‛´"), "'") | dict.fromkeys(map(ord, "“”„‟«»"), '"')
_DASHES: Final = dict.fromkeys(map(ord, "‐‑‒–—―−"), "-")
_INVISIBLE: Final = dict.fromkeys(
    map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufe0e\ufe0f\ufeff\u061c\u202a\u202b\u202c\u202d\u202e"), ""
) | dict.fromkeys(range(0x2066, 0x206A), "")
_MARKS: Final = _QUOTES | _DASHES | _INVISIBLE | {ord("…"): "..."}

_ROUNDS: Final = 8
_KEPT_CHARS: Final = 1000
_DOTS: Final = re.compile(r"\.{2,}")
_DASHED: Final = re.compile(r"(?<= )-{2,}(?= )")
_INDENTED: Final = re.compile(r"\n(?: {2}|\t)[ \t]*\S")
_REPEATED: Final = re.compile(r"(?<=\w)(?: (?=[?!] ))?([?!]+)(?= )")
_MARKS_AT_END: Final = "?! \n\t"
_FULL_STOPS: Final = (".", "。", "।")
_FIRST_WORD: Final = re.compile(r"(?:^|(?<=[?!] ))[\"'(]*([^\W\d_]+)")
_SIGN: Final = re.compile(r"(?<=\d)[.,:/'-](?=\d)|(?<![^\s(])[-+](?=\d)")


def normalise(text: str, match: Match) -> str:
    """Return what stands for all texts that ask the same as `text`."""
    if match == "exact":
        return text
    return _kept(text, match) if len(text) <= _KEPT_CHARS else _folded(text, match)


@lru_cache(maxsize=1024)
def _kept(text: str, match: Match) -> str:
    """Fold a text that is likely to come again: it is looked up, stored, and then part of a history."""
    return _folded(text, match)


def _folded(text: str, match: Match) -> str:
    fold = _typed if match == "typing" else _loose
    # What goes may bring together what composes, or leave another end: once more, until nothing does.
    for _ in range(_ROUNDS):
        folded = fold(text)
        if folded == text:
            break
        text = folded
    return text


def _typed(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFC", "".join(map(_form, unicodedata.normalize("NFC", text))))
        text = unicodedata.normalize("NFC", text.translate(_MARKS))
    text = _spaced(_DOTS.sub("...", text))
    text = _DASHED.sub("-", text)
    text = _REPEATED.sub(lambda run: _mark(run[1]), text)
    said = text.rstrip(_MARKS_AT_END)
    if marks := "".join(text[len(said) :].split()):
        text = said + _mark(marks)
    if text.endswith(_FULL_STOPS) and not text.endswith("..."):
        text = text[:-1].rstrip()
    return _FIRST_WORD.sub(_uncapitalised, text)


def _spaced(text: str) -> str:
    """Collapse white space; where a line is indented, within lines alone."""
    text = text.strip().replace("\r\n", "\n")
    if _INDENTED.search(text) is None:
        return " ".join(text.split())
    lines = text.split("\n")
    return "\n".join(_indent(line) + " ".join(line.split()) for line in lines)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())].expandtabs(4) if line.strip() else ""


def _mark(run: str) -> str:
    """Return one mark for a run of them: "?" for "??", "!?" for any mixture."""
    return "!?" if len(set(run)) > 1 else run[0]


def _uncapitalised(found: re.Match[str]) -> str:
    word = found[1]
    if len(word) > 1 and word[0].isupper() and word[1:].islower():
        return found[0][: found.start(1) - found.start()] + word[0].lower() + word[1:]
    return found[0]


@lru_cache(maxsize=8192)
def _form(character: str) -> str:
    """Return the usual form of a character: itself, but for those that differ in looks alone."""
    how, _, codes = unicodedata.decomposition(character).partition(" ")
    ligature = how == "<compat>" and unicodedata.category(character)[0] == "L"
    if how not in _FORMS and not ligature:
        return character
    return "".join(_form(chr(int(code, 16))) for code in codes.split())


def _loose(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _typed(text)).casefold())
    kept = [False] * len(text)
    for found in _SIGN.finditer(text):
        kept[found.start()] = True
    return " ".join(
        "".join(
            character if kept[at] or unicodedata.category(character)[0] in "LMNS" else _gap(character)
            for at, character in enumerate(text)
        ).split()
    )


def _gap(character: str) -> str:
    """Return what a mark leaves: nothing within "don't", else a space."""
    return "" if character == "'" else " "
