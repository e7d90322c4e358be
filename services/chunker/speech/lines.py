r"""Ends of lines, cells of tables, and the closing marks of headings.

A blank line, a heading, an item and a row end in a boundary. Within a paragraph a line break is a space
where the sentence goes on in the next line, and a boundary where the lines stand for themselves, as in an
address, a poem or a list without bullets:

    This is a long\nsentence.        the next line goes on in small letters   -> space
    First line\nSecond line          it begins anew                           -> boundary
    apples\npears                    lines of one or two words are items      -> boundary
    … wrapped at 72 characters\nPeter …   a line of 60 to 100 was wrapped     -> space
"""

import re
from typing import Final

from services.chunker import marks
from services.chunker.speech.emoji import PICTOGRAPH
from services.chunker.speech.reading import WAIT, Kind, Line, Reading

_WRAPPED_FROM: Final = 60
_WRAPPED_TO: Final = 100
_WRAPPED_UNCASED_FROM: Final = 30  # scripts without small letters; many are twice as wide
_WORDS_FROM: Final = 3
_ENDS: Final = frozenset("?!:") | marks.HARD_SET | marks.ASKING_SET
_GOES_ON: Final = frozenset((Kind.TEXT, Kind.ITEM))
_PIPES: Final = re.compile(r"\|(?:[ \t]{0,32}\|)*[ \t]{0,32}")
_PIPES_LIMIT: Final = 128
_ROW_MARKS: Final = {
    "zh": ("\uff0c", "\u3002"),
    "yue": ("\uff0c", "\u3002"),
    "ja": ("\u3001", "\u3002"),
    "ar": ("\u060c ", "."),
    "fa": ("\u060c ", "."),
    "ur": ("\u060c ", "\u06d4"),
    "hi": (", ", "\u0964"),
    "am": ("\u1363 ", "\u1362"),
    "hy": (", ", "\u0589"),
}
"""What is said between cells and at the end of a row, by the language."""
_HASHES: Final = re.compile(r"#+[ \t]*(?=[\r\n]|\Z)")
_HASHES_LIMIT: Final = 32
_NUMBERED: Final = re.compile(r"\(?(?:[A-Za-z]|[ivxIVX]{1,4}|\d{1,3})[.)](?:\s|\Z)")
_NUMBERED_BEGUN: Final = re.compile(r"\(?(?:[A-Za-z]|[ivxIVX]{1,4}|\d{1,3})?[.)]?\Z")


def line_end(reading: Reading, index: int) -> int:
    """Decide about the line end at `index`, or leave that to what begins the next line."""
    text = reading.text
    length = 1
    if text[index] == "\r":
        if index + 1 == len(text) and not reading.final:
            return WAIT
        length = 2 if text[index + 1 : index + 2] == "\n" else 1
    out, line = reading.out, reading.line
    spaces = (reading.before + text[max(0, index - 2) : index])[-2:] == "  "
    words = out.words
    out.pend_break(length)
    if line.kind not in _GOES_ON or spaces or line.broken or out.last in _ENDS:
        out.settle_break("\n")
    if line.kind not in _GOES_ON:
        reading.end_paragraph()
    reading.code = 0
    offset = reading.base + index
    reading.line = Line(
        before=line.kind,
        begin=offset + length,
        length_before=offset - line.begin,
        words_before=words,
        list_open=line.list_open,
    )
    return length


def settle_break(reading: Reading, index: int) -> bool:
    """Decide about the line break before the text at `index`; False while more has to come."""
    out, line, text = reading.out, reading.line, reading.text
    if not out.has_break:
        return True
    char = text[index]
    if not _joins(line, char):
        out.settle_break("\n")
        reading.end_paragraph()
        return True
    if _NUMBERED_BEGUN.match(text, index) and not reading.final:
        return False
    if _NUMBERED.match(text, index):
        out.settle_break("\n")
    elif marks.UNSPACED.match(out.last) and marks.UNSPACED.match(char):
        out.settle_break("")
    else:
        out.settle_break(" ")
    return True


def _joins(line: Line, char: str) -> bool:
    if PICTOGRAPH.match(char):
        return False
    if _WRAPPED_FROM <= line.length_before <= _WRAPPED_TO:
        return True
    if char.islower():
        return line.words_before >= _WORDS_FROM
    return char.isalpha() and not char.isupper() and line.length_before >= _WRAPPED_UNCASED_FROM


def pipe(reading: Reading, index: int) -> int:
    """Decide about the `|` at `index`: between cells it is a comma, at the end of a row a full stop."""
    text = reading.text
    out = reading.out
    if reading.line.kind is not Kind.ROW:
        return _bar(reading, index)
    match = _PIPES.match(text, index, index + _PIPES_LIMIT)
    assert match is not None
    length = match.end() - index
    if match.end() == len(text) and reading.short_of(index, _PIPES_LIMIT):
        return WAIT
    if out.at_boundary or not (out.last.isalnum() or out.last in ")]\"'%\u201d\u2019\u00b0"):
        return reading.say(" ", length)
    between, end = _row_marks(reading.language, out.last)
    if text[match.end() : match.end() + 1] not in ("", "\r", "\n"):
        reading.line.cells += 1
        return reading.say(between, length)
    if reading.line.cells == 1 and out.last.isdigit():
        return reading.drop(length)  # "3." alone would be the mark of an item
    return reading.say(end, length)


def _row_marks(language: str, last: str) -> tuple[str, str]:
    """Return the marks for a row in `language`, or else in the script of what was said last."""
    primary = language.replace("_", "-").partition("-")[0].lower()
    return _ROW_MARKS.get(primary) or (_ROW_MARKS["zh"] if marks.CJK.match(last) else (", ", "."))


def _bar(reading: Reading, index: int) -> int:
    """Decide about a bar outside tables: between words it is a comma."""
    before, after = reading.previous(index), reading.text[index + 1 : index + 2]
    if not before.isspace():
        return reading.keep(index, 1)
    if not after and not reading.final:
        return WAIT
    if after == " " and reading.out.last.isalnum() and not reading.out.at_boundary:
        return reading.say(",", 1)
    return reading.keep(index, 1)


def hash_sign(reading: Reading, index: int) -> int:
    """Decide about the `#` at `index`: it closes a heading, or is part of a key cap."""
    text = reading.text
    if index + 1 == len(text) and not reading.final:
        return WAIT
    if text[index + 1 : index + 2] in ("\ufe0f", "\u20e3"):
        return reading.drop(1)
    if reading.line.kind is Kind.HEADING and reading.previous(index).isspace():
        match = _HASHES.match(text, index, index + _HASHES_LIMIT)
        if match:
            if match.end() == len(text) and reading.short_of(index, _HASHES_LIMIT):
                return WAIT
            return reading.drop(match.end() - index)
    return reading.keep(index, 1)
