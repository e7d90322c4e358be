# ruff: noqa: PLR0911 - a rule is a list of cases, each with its answer
"""Marks of emphasis: which `*`, `_`, `~~` and `==` are markup, and which are meant.

A mark is decided by its neighbours and by what is open, without looking for its partner, so that nothing
but the mark itself is held. CommonMark's flanking rules are the base; they are narrowed where a reader
would see arithmetic, names or a footnote: 2*3, snake_case, A*, *.py. A word that begins with underscores is
looked at to its end, since _private_var and __init__.py are names.
"""

import re
import string
from typing import Final

from services.chunker.speech.reading import UNSPACED_FROM, WAIT, Reading

_RUN: Final = {char: re.compile(re.escape(char) + "+") for char in "*_~="}
_RUN_LIMIT: Final = 64
_PART_LIMIT: Final = 48  # emphasis of a part of a word is looked for so far
_PART: Final = re.compile(r"(\*{1,3})[^\W\d_](?:[^\s*]*[^\W_])?(\*{1,3})")
_PART_BEGUN: Final = re.compile(r"\*{1,3}[^\s*]*\*{0,3}\Z")
_NAME_LIMIT: Final = 64
_NAME: Final = re.compile(r"_{1,3}[A-Za-z0-9]\w*", re.ASCII)
_KEYCAP: Final = "\ufe0f\u20e3"
_EMOTICON: Final = frozenset(":;=-^>")
_PUNCTUATION: Final = frozenset(string.punctuation)


def emphasis(reading: Reading, index: int) -> int:
    """Decide about the run of marks at `index`."""
    text = reading.text
    mark = text[index]
    match = _RUN[mark].match(text, index, index + _RUN_LIMIT)
    assert match is not None
    end = match.end()
    count = end - index
    if end == len(text) and reading.short_of(index, _RUN_LIMIT):
        return WAIT
    before, after = reading.previous(index), text[end : end + 1]
    if mark == "*":
        return _star(reading, index, count, before, after)
    if mark == "_":
        if _is_edge(before) or before in _PUNCTUATION:
            name = _name(reading, index, count)
            if name:
                return name if name == WAIT else reading.keep(index, name)
        markup = _is_underscore_markup(reading, count, before, after)
    else:
        markup = _is_pair(reading, mark, count, before, after)
    return reading.drop(count) if markup else reading.keep(index, count)


def _star(reading: Reading, index: int, count: int, before: str, after: str) -> int:
    if after and after in _KEYCAP:
        return reading.drop(count)
    if _is_word(before) and _is_word(after) and not reading.emphasis.get("*"):
        if before.isdigit() or after.isdigit():
            return reading.keep(index, count)
        return _inside_word(reading, index, count)
    if _is_star_markup(reading, count, before, after):
        return reading.drop(count)
    return reading.keep(index, count)


def _is_star_markup(reading: Reading, count: int, before: str, after: str) -> bool:
    opened = reading.emphasis.get("*", 0)
    begins = _is_edge(before)
    ends = _is_edge(after)
    if begins and ends:
        return count > 3 or (count > 1 and opened > 0)
    if before.isdigit() and after.isdigit():
        return False
    if opened and not begins:
        reading.emphasis["*"] = max(0, opened - count)
        return True
    if not ends and not (before.isalnum() and after in _PUNCTUATION):
        if after == "." and count == 1:
            return False
        reading.emphasis["*"] = opened + count
        return True
    # It closes what was not open: a footnote's star, or a name such as A*.
    return not (count == 1 and (before.isdigit() or before.isupper() or before in _EMOTICON))


def _inside_word(reading: Reading, index: int, count: int) -> int:
    """Decide about stars between two letters: emphasis of a part of the word, or a product."""
    text = reading.text
    if count == 1 and not (reading.before + text[:index])[-2:-1].isalpha():
        return reading.keep(index, count)
    match = _PART.match(text, index, index + _PART_LIMIT)
    if match is None:
        begun = _PART_BEGUN.match(text, index)
        if begun and reading.short_of(index, _PART_LIMIT):
            return WAIT
        return reading.keep(index, count)
    if match.end() == len(text) and reading.short_of(index, _PART_LIMIT):
        return WAIT
    if len(match[1]) != count or len(match[2]) < count:
        return reading.keep(index, count)
    reading.emphasis["*"] = count
    return reading.drop(count)


def _name(reading: Reading, index: int, count: int) -> int:
    """Return the length of the name that begins with underscores at `index`; 0 where none does.

    _private_var and __init__.py are names; _very_ and __bold__ are emphasis.
    """
    text = reading.text
    match = _NAME.match(text, index, index + _NAME_LIMIT)
    if match is None:
        return 0
    end = match.end()
    if text[end : end + 1] == ".":
        end += 1
    if end == len(text) and reading.short_of(index, _NAME_LIMIT):
        return WAIT
    name = match[0]
    closed = len(name) - len(name.rstrip("_")) == count
    reached = closed and end > match.end() and text[end : end + 1].isalnum()
    is_name = "_" in name.strip("_") or text.startswith("(", end) or reached or reading.previous(index) == "."
    return len(name) if is_name else 0


def _is_underscore_markup(reading: Reading, count: int, before: str, after: str) -> bool:
    opened = reading.emphasis.get("_", 0)
    if _is_word(before) and _is_word(after):
        return False
    if count > 3:
        return True  # a blank to be filled in
    begins, ends = _is_edge(before), _is_edge(after)
    if begins and ends:
        return count > 1
    if opened and not begins:
        reading.emphasis["_"] = max(0, opened - count)
        return True
    if before.isalnum() or (before in _PUNCTUATION and after in _PUNCTUATION and before and after):
        return False
    if ends:
        return False
    reading.emphasis["_"] = opened + count
    return True


def _is_pair(reading: Reading, mark: str, count: int, before: str, after: str) -> bool:
    """Decide about `~~` and `==`, which stand directly at what they mark."""
    if count != 2:
        return count > 2 and not (_is_word(before) and _is_word(after))
    begins, ends = _is_edge(before), _is_edge(after)
    if begins and ends:
        return False
    if reading.emphasis.get(mark) and not begins:
        reading.emphasis[mark] = 0
        return True
    if ends or (before.isalnum() and after.isalnum()):
        return False
    reading.emphasis[mark] = count
    return True


def _is_edge(char: str) -> bool:
    return not char or char.isspace()


def _is_word(char: str) -> bool:
    return char.isalnum() and char < UNSPACED_FROM
