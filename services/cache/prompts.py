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
    dashes       ‐ ‑ ‒ – — ― − to -
    ellipsis     … to ...; so is .. behind a word
    white space  runs within a line become one space, blank lines one line break; around the whole it goes.
                 Indents stay where a line is indented by two or more (code)
    marks        "rain ??" and "rain??" to "rain?", "?!" and "!?" to "!?"; a full stop behind a word at the
                 end goes
    case         of the first word, and of one behind "?" or "!", where it is Capitalised

What is not folded, and why: any other case ("US" and "us", "in March" and "in march"; "iPhone"), marks
within and between words ("2.5" and "25", "1,000", "let's eat, Grandma"), the mark at the end where it
is another than a full stop ("You are coming?" and "You are coming."; "5!" is 120 and "5!!" is 15), marks
that are spoken of ("a .. b" and "a ... b", "git checkout -- x" and "git checkout - x", "the command ."),
line breaks (a matrix of two rows is not one of one), accents, the order and number of words. A capital at
the beginning of a sentence is spelling: it says nothing of the word.

`loose` takes that "Us?" and "US" ask the same, and a line break for a space. What calculates or names
something stays: digits with their signs, brackets, symbols, and marks such as % * / # & @.
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
_DOTS: Final = re.compile(r"(?<=[^\W\d_]{2})\.{2,}(?=\s|$)")
_INDENTED: Final = re.compile(r"\n(?: {2}|\t)[ \t]*\S")
_REPEATED: Final = re.compile(r"(?<=\w)(?: (?=[?!]\s))?([?!]+)(?=\s)")
_AT_END: Final = re.compile(r"(?<=[\w\"')\]]) ?([?!][?! ]*)$")
_FACTORIAL: Final = re.compile(r"(?:[\d)]|(?<![^\W_])[^\W\d_]) ?$")
"""What a "!" may belong to: a number, a bracket, a letter by itself."""
_BEFORE: Final = 4
"""Characters that show whether it does."""
_FULL_STOP: Final = re.compile(r"(?<=[^\s.,:;!?])[.。।]$")
_FIRST_WORD: Final = re.compile(r"(?:^|(?<=[?!]\s))[\"'(]*([^\W\d_]+)")
_SAYS: Final = re.compile(
    r"(?<=\d)[.,:'](?=\d)"  # within a number
    r"|(?<![\w.])\.(?=\w)"  # .5, .NET
    r"|(?<=\d) ?-(?= ?\w)|[-+](?= ?\d)|\b[^\W\d_] ?- ?[^\W\d_]\b"  # a sign, or taken away
    r"|(?:[\d)]|\b[^\W\d_])!+"
)
"""Marks of text in which `loose` leaves the others out."""
_SAYING: Final = frozenset("%*/\\#&@_^§‰()[]{}")
"""Marks that always say something."""


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
    text = _AT_END.sub(_mark, _REPEATED.sub(_mark, text))
    return _FIRST_WORD.sub(_uncapitalised, _FULL_STOP.sub("", text))


def _spaced(text: str) -> str:
    """Collapse white space within lines, and blank lines where none is indented."""
    text = text.strip().replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if _INDENTED.search(text) is None:
        return "\n".join(" ".join(words) for line in lines if (words := line.split()))
    return "\n".join(_indent(line) + " ".join(line.split()) for line in lines)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())].expandtabs(4) if line.strip() else ""


def _mark(found: re.Match[str]) -> str:
    """Return one mark for a run of them: "?" for "??", "!?" for any mixture; all where "!" may count."""
    run = set(found[1]) - {" "}
    at = found.start()
    if "!" in run and _FACTORIAL.search(found.string, max(0, at - _BEFORE), at):
        return found[0]
    return "!?" if len(run) > 1 else run.pop()


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
    text = unicodedata.normalize("NFD", _typed(text)).casefold()
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text))
    says = [False] * len(text)
    for found in _SAYS.finditer(text):
        says[found.start() : found.end()] = [True] * (found.end() - found.start())
    return " ".join(
        "".join(
            character
            if says[at] or character in _SAYING or unicodedata.category(character)[0] in "LMNS"
            else _gap(character)
            for at, character in enumerate(text)
        ).split()
    )


def _gap(character: str) -> str:
    """Return what a mark leaves: nothing within "don't", else a space."""
    return "" if character == "'" else " "
