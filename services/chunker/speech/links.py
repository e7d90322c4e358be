# ruff: noqa: PLR0911 - a rule is a list of cases, each with its answer
r"""Links, images, footnotes and citations: what their text is, and where their target ends.

See the [guide](https://example.com/a "title"). [^2] 【3†source】
        ^     ^`------------------------------- dropped
        |     `-- known once the target is complete, or ruled out
        `-- held so long, at most 300 characters of text and 600 of target
"""

import re
from typing import Final

from services.chunker.speech.reading import WAIT, Closer, Kind, Reading, Skip

_LABEL_LIMIT: Final = 300
_TARGET_LIMIT: Final = 600
_REFERENCE_LIMIT: Final = 100

_LABEL: Final = re.compile(r"\[(?:(?>[^\[\]\\\n]+|\\.)|\[(?>[^\[\]\\\n]+|\\.)*\](?:\([^()\n]*\))?)*\]")
_BARE: Final = r"(?:(?>[^\s()<>\\]+|\\.)|\((?>[^\s()\\]+|\\.)*\))*"
_TITLE: Final = r"(?:\"[^\"\n]*\"|'[^'\n]*'|\([^()\n]*\))"
_TARGET: Final = re.compile(rf"\([ \t]*(?:<[^<>\n]*>|{_BARE})(?:[ \t]+{_TITLE})?[ \t]*\)")
_TARGET_BEGUN: Final = re.compile(
    rf"\([ \t]*(?:<[^<>\n]*(?:>)?|{_BARE}(?:\((?>[^\s()\\]+|\\.)*)?\\?)"
    r"(?:[ \t]+(?:\"[^\"\n]*\"?|'[^'\n]*'?|\([^()\n]*\)?)?[ \t]*)?\Z"
)
_REFERENCE: Final = re.compile(r"\[[^\[\]\n]*\]")
_REFERENCE_BEGUN: Final = re.compile(r"\[[^\[\]\n]*\Z")
_NUMBERS: Final = re.compile(r"\[\d{1,3}(?:[ ]?[,\u2013-][ ]?\d{1,3})*\]")
_DEFINED: Final = re.compile(r":[ \t]*(?:<|https?:|www\.|mailto:|[/#]|\.{1,2}/)")
_DEFINED_BEGUN: Final = re.compile(r":[ \t]*(?:h|ht|htt|https?|w|ww|www|m|ma|mai|mail|mailt|mailto|\.\.?)?\Z")
_DEFINED_LIMIT: Final = 24
_LINE_END: Final = re.compile(r"[\r\n]")
_TARGET_END: Final = re.compile(r"\)|(?=[\r\n])")
_AFTER_CITATION: Final = frozenset(".,;:!?)[\u3002\uff0c\n\r")

_SOURCE_LIMIT: Final = 200
_SOURCE: Final = re.compile("\u3010\\d+(?::\\d+)?(?:\u2020[^\u3010\u3011]*)?\u3011")
_SOURCE_BEGUN: Final = re.compile("\u3010(?:\\d+(?::\\d*)?(?:\u2020[^\u3010\u3011]*)?)?\\Z")
_MARKED: Final = re.compile("\ue200[^\ue200\ue201]*\ue201")


def bracket(reading: Reading, index: int) -> int:
    """Decide about the `[` at `index`."""
    return _link(reading, index, index)


def bang(reading: Reading, index: int) -> int:
    """Decide about the `!` at `index`: an image begins, if a bracket follows and no word stands before."""
    before = reading.previous(index)
    if before and not before.isspace() and before not in "[(*_>|":
        return reading.keep(index, 1)
    if index + 1 == len(reading.text) and not reading.final:
        return WAIT
    if reading.text[index + 1 : index + 2] != "[":
        return reading.keep(index, 1)
    return _link(reading, index, index + 1)


def closing_bracket(reading: Reading, index: int) -> int:
    """Pass over the target of the link that ends at `index`, if one does."""
    offset = reading.base + index
    closers = reading.closers
    while closers and closers[-1].offset < offset:
        closers.pop()
    if not closers or closers[-1].offset != offset:
        return reading.keep(index, 1)
    closer = closers.pop()
    reading.skip = closer.skip
    return reading.drop(closer.length)


def source_mark(reading: Reading, index: int) -> int:
    """Pass over a mark of a source such as 【3†page】, or what stands between marks of private use."""
    text = reading.text
    private = text[index] == "\ue200"
    pattern = _MARKED if private else _SOURCE
    match = pattern.match(text, index, index + _SOURCE_LIMIT)
    if match:
        return reading.drop(match.end() - index)
    if reading.short_of(index, _SOURCE_LIMIT) and (private or _SOURCE_BEGUN.match(text, index)):
        return WAIT
    return reading.drop(1) if private else reading.keep(index, 1)


def _link(reading: Reading, index: int, opening: int) -> int:
    """Decide about the link or image whose `[` stands at `opening`; `index` is its first character."""
    text = reading.text
    match = _LABEL.match(text, opening, opening + _LABEL_LIMIT)
    if match is None:
        if reading.short_of(opening, _LABEL_LIMIT) and "\n" not in text[opening : opening + _LABEL_LIMIT]:
            return WAIT
        return reading.keep(index, 1)
    end = match.end()
    if end == len(text) and not reading.final:
        return WAIT
    following = text[end : end + 1]
    if opening == index and text.startswith("[^", opening) and end - opening > 3:
        if following == ":" and _begins_line(reading):
            return _definition(reading)
        return reading.drop(end - index)
    if following == "(":
        return _inline(reading, index, opening, end)
    if following == ":" and _begins_line(reading):
        if _DEFINED.match(text, end):
            return _definition(reading)
        if _DEFINED_BEGUN.match(text, end) and reading.short_of(end, _DEFINED_LIMIT):
            return WAIT
    if opening == index and _NUMBERS.fullmatch(text, opening, end):
        return _citation(reading, index, end, following)
    if following == "[":
        return _referenced(reading, index, opening, end)
    return reading.keep(index, 1)


def _inline(reading: Reading, index: int, opening: int, end: int) -> int:
    """Decide about `[text](`, whose target begins at `end`."""
    text = reading.text
    target = _TARGET.match(text, end, end + _TARGET_LIMIT)
    if target:
        return _enter(reading, index, opening, Closer(reading.base + end - 1, target.end() - end + 1))
    if _TARGET_BEGUN.match(text, end, end + _TARGET_LIMIT):
        if reading.short_of(end, _TARGET_LIMIT):
            return WAIT
        if len(text) - end >= _TARGET_LIMIT:
            # Such a long target is a picture's data; nobody writes a sentence without spaces.
            skip = Skip(_TARGET_END, 0)
            return _enter(reading, index, opening, Closer(reading.base + end - 1, _TARGET_LIMIT + 1, skip))
    return reading.keep(index, 1)


def _enter(reading: Reading, index: int, opening: int, closer: Closer) -> int:
    """Pass over the opening bracket; the text of the link is read like any other."""
    closers = reading.closers
    while closers and closers[-1].offset < reading.base + index:
        closers.pop()  # markup in the text of a link had swallowed its end
    closers.append(closer)
    return reading.drop(opening + 1 - index)


def _referenced(reading: Reading, index: int, opening: int, end: int) -> int:
    """Decide about `[text][reference]`; a[0][1] is none."""
    text = reading.text
    if reading.previous(index).isalnum():
        return reading.keep(index, 1)
    match = _REFERENCE.match(text, end, end + _REFERENCE_LIMIT)
    if match:
        return _enter(reading, index, opening, Closer(reading.base + end - 1, match.end() - end + 1))
    if _REFERENCE_BEGUN.match(text, end) and reading.short_of(end, _REFERENCE_LIMIT):
        return WAIT
    return reading.keep(index, 1)


def _citation(reading: Reading, index: int, end: int, following: str) -> int:
    """Decide about [3]: behind a sentence or before its mark it cites, behind a word it counts."""
    before = reading.previous(index)
    if before == "]" and reading.out.last == "]":
        return reading.keep(index, 1)  # a[0][1]
    attached = bool(before) and not before.isspace() and not before.isalnum() and before not in "([{_"
    parted = before.isspace() and (not following or following in _AFTER_CITATION)
    if attached or (parted and not reading.line.refers):
        return reading.drop(end - index)
    # "[1] and [2]." is a part of the sentence, the second one as well.
    reading.line.refers = True
    return reading.keep(index, 1)


def _definition(reading: Reading) -> int:
    """Pass over the line that says what a reference or a footnote is."""
    reading.line.kind = Kind.APART
    reading.skip = Skip(_LINE_END, 0, inclusive=False)
    return reading.drop(1)


def _begins_line(reading: Reading) -> bool:
    return reading.out.at_boundary and reading.line.kind in (Kind.NONE, Kind.TEXT)
