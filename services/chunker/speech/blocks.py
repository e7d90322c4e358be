# ruff: noqa: PLR0911 - a rule is a list of cases, each with its answer
r"""Rules for what begins a line: marks of lists, quotes and headings, fences, rules, tables, indented code.

    > - [ ] **Buy** milk
    ^^^^^^^^`---------- content: from here on the rules for what stands in a line apply
    | | `-- task box
    | `---- bullet
    `------ quote

Each mark is decided by itself, and the next one is looked at from where it ended.
"""

import re
from collections.abc import Callable
from typing import Final

from services.chunker.speech.lines import line_end, settle_break
from services.chunker.speech.reading import WAIT, Fence, Kind, Line, Reading, Skip

_BLANK: Final = re.compile(r"[ \t]+")
_RULE: Final = re.compile(r"[-=*_+|: \t\u2012-\u2015]+")
_RULE_LIMIT: Final = 160
_TABLE_RULE: Final = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[-: \t|]*)")
_TICKS: Final = re.compile(r"`+|~+")
_TICKS_LIMIT: Final = 64
_INFO_LIMIT: Final = 120
_INFO_END: Final = re.compile(r"[`\n]")
_FENCE_LINE: Final = re.compile(r"[ \t>]*(`+|~+)?")
_FENCE_LINE_LIMIT: Final = 80
_LINE_END: Final = re.compile(r"[\r\n]")
_BULLETS: Final = frozenset("-*+\u2022\u25e6\u25aa\u2023\u2043\u25cf\u25cb\u25a0\u25a1\u00b7\u2013")
_TIGHT_BULLETS: Final = frozenset("\u2022\u25e6\u25aa\u2023\u2043")
"""May stand directly before the word."""
_NUMBER: Final = re.compile(r"\d{1,9}[.)](?=[ \t\r\n])")
_NUMBER_BEGUN: Final = re.compile(r"\d{1,9}[.)]?\Z")
_TASK: Final = re.compile(r"\[[ xX\u2713\u2714]\](?=\s)")
_TASK_BEGUN: Final = re.compile(r"\[(?:[ xX\u2713\u2714]\]?)?\Z")
_HASHES: Final = re.compile(r"#+")
_HASHES_LIMIT: Final = 8
_QUOTED: Final = re.compile(r"[\s>*\[`\"'\u201c\u2018\u00ab!#(-]|[^\W\d_]")
"""What may stand behind the mark of a quote; >5 and >:( are none."""
_ROW_LIMIT: Final = 300
_CODE_INDENT: Final = 4
_TAB: Final = 4


def begin_line(reading: Reading, index: int) -> int:
    """Decide about the next mark before a line's content, or that the content begins at `index`."""
    line = reading.line
    char = reading.text[index]
    if char in " \t":
        return _indent(reading, index)
    if char in "\r\n":
        return _blank(reading, index)
    for rule in _MARKS.get(char, ()):
        done = rule(reading, index)
        if done is not None:
            return done
    if _is_code(line):
        reading.out.settle_break("\n")
        line.kind, line.starting = Kind.CODE, False
        reading.skip = Skip(_LINE_END, 0, inclusive=False)
        return reading.drop(1)
    leaf = _LEAVES.get(char)
    done = leaf(reading, index) if leaf else None
    return _content(reading, index) if done is None else done


def skip_fence(reading: Reading, index: int) -> int:
    """Pass over a block of code up to its end, line by line."""
    text, fence = reading.text, reading.fence
    assert fence is not None
    if not reading.line.starting:
        match = _LINE_END.search(text, index)
        end = match.start() if match else len(text)
        if end > index:
            return reading.drop(end - index)
        return line_end(reading, index)
    match = _FENCE_LINE.match(text, index, index + _FENCE_LINE_LIMIT)
    assert match is not None
    marks = match[1] or ""
    if match.end() == len(text) and reading.short_of(index, _FENCE_LINE_LIMIT):
        return WAIT
    if marks[:1] == fence.mark and len(marks) >= fence.count and fence.in_line:
        reading.fence = None
        reading.line.starting = False
        reading.line.kind = Kind.TEXT
        return reading.drop(match.end() - index)
    if marks[:1] == fence.mark and len(marks) >= fence.count:
        rest = _BLANK.match(text, match.end(), index + _FENCE_LINE_LIMIT)
        end = rest.end() if rest else match.end()
        if end == len(text) and reading.short_of(index, _FENCE_LINE_LIMIT):
            return WAIT
        if text[end : end + 1] in ("", "\r", "\n"):
            reading.fence = None
            reading.line.kind = Kind.APART
            reading.line.starting = False
            return reading.drop(end - index)
    reading.line.starting = False
    return reading.drop(match.end() - index)


def _indent(reading: Reading, index: int) -> int:
    match = _BLANK.match(reading.text, index)
    assert match is not None
    line = reading.line
    length = match.end() - index
    for char in match[0]:
        line.indent += _TAB - line.indent % _TAB if char == "\t" else 1
    behind_number = line.marked and not (reading.out.at_boundary or reading.out.has_break)
    if behind_number or (line.begin == 0 and not line.marked):
        return reading.keep(index, length)
    return reading.drop(length)


def _blank(reading: Reading, index: int) -> int:
    reading.out.settle_break("\n")
    reading.end_paragraph()
    return line_end(reading, index)


def _rule(reading: Reading, index: int) -> int | None:
    """Decide about a line of nothing but marks: a rule, an underline of a heading, a table's separator."""
    text = reading.text
    match = _RULE.match(text, index, index + _RULE_LIMIT)
    if match is None:
        return None
    end = match.end()
    if end == len(text):
        if reading.short_of(index, _RULE_LIMIT):
            return WAIT
    elif text[end] not in "\r\n" and end - index < _RULE_LIMIT:
        return None
    reading.out.settle_break("\n")
    line = reading.line
    line.starting = False
    line.kind = Kind.ROW if "|" in match[0] and "-" in match[0] else Kind.APART
    if end - index >= _RULE_LIMIT:
        reading.skip = Skip(_LINE_END, 0, inclusive=False)
    return reading.drop(end - index)


def _fence(reading: Reading, index: int) -> int | None:
    text = reading.text
    match = _TICKS.match(text, index, index + _TICKS_LIMIT)
    assert match is not None
    end = match.end()
    count = end - index
    if end == len(text) and reading.short_of(index, _TICKS_LIMIT):
        return WAIT
    if count < 3:
        return None
    if text[index] == "`":
        found = _INFO_END.search(text, end, end + _INFO_LIMIT)
        if found is None and reading.short_of(end, _INFO_LIMIT):
            return WAIT
        if found is not None and found[0] == "`":
            return None
    reading.out.settle_break("\n")
    reading.end_paragraph()
    reading.fence = Fence(text[index], count)
    reading.line.starting = False
    reading.line.kind = Kind.APART
    return reading.drop(count)


def _mark(reading: Reading, index: int) -> int | None:
    """Decide about the mark of a quote or an item."""
    text, line = reading.text, reading.line
    char = text[index]
    following = text[index + 1 : index + 2]
    if not following and not reading.final:
        return WAIT
    if char == ">":
        if line.indent >= _CODE_INDENT or (following and not _QUOTED.match(following)):
            return None
        line.marked = True
        return reading.drop(1)
    if not following.isspace() and not (char in _TIGHT_BULLETS and following not in _BULLETS):
        return None
    _open_item(reading)
    return reading.drop(1)


def _number(reading: Reading, index: int) -> int | None:
    text = reading.text
    match = _NUMBER.match(text, index)
    if match is None:
        return WAIT if _NUMBER_BEGUN.match(text, index) and not reading.final else None
    line = reading.line
    if reading.out.has_break and len(match[0]) > 4 and not line.list_open:
        return None
    _open_item(reading)
    return reading.keep(index, match.end() - index)


def _open_item(reading: Reading) -> None:
    reading.out.settle_break("\n")
    reading.end_paragraph()
    line = reading.line
    line.kind = Kind.ITEM
    line.marked = line.numbered = line.list_open = True
    line.indent = 0


def _is_code(line: Line) -> bool:
    """Say whether a line is indented code: behind a blank line, and not in a list."""
    if line.indent < _CODE_INDENT or line.marked or line.list_open or not line.begin:
        return False
    return line.before in (Kind.NONE, Kind.CODE)


def _task(reading: Reading, index: int) -> int | None:
    text = reading.text
    if not reading.line.numbered:
        return None
    match = _TASK.match(text, index)
    if match:
        return reading.drop(match.end() - index)
    return WAIT if _TASK_BEGUN.match(text, index) and not reading.final else None


def _heading(reading: Reading, index: int) -> int | None:
    text = reading.text
    match = _HASHES.match(text, index, index + _HASHES_LIMIT)
    assert match is not None
    end = match.end()
    count = end - index
    if end == len(text) and reading.short_of(index, _HASHES_LIMIT):
        return WAIT
    following = text[end : end + 1]
    if count > 6 or not (not following or following.isspace() or (count > 1 and following.isalpha())):
        return None
    reading.out.settle_break("\n")
    reading.end_paragraph()
    line = reading.line
    line.kind = Kind.HEADING
    line.starting = line.list_open = False
    return reading.drop(count)


def _row(reading: Reading, index: int) -> int | None:
    """Decide about a line that begins with a bar: a row ends with one, too."""
    text, line = reading.text, reading.line
    if line.before is not Kind.ROW:
        end = _LINE_END.search(text, index, index + _ROW_LIMIT)
        if end is None and reading.short_of(index, _ROW_LIMIT):
            return WAIT
        row = text[index : end.start() if end else index + _ROW_LIMIT]
        if row.count("|") < 2 or (len(row) < _ROW_LIMIT and not row.rstrip().endswith("|")):
            return None
    reading.out.settle_break("\n")
    reading.end_paragraph()
    line.kind = Kind.ROW
    line.starting = False
    return reading.drop(1)


def _content(reading: Reading, index: int) -> int:
    """Begin with the content; nothing of it is read here."""
    line = reading.line
    if not settle_break(reading, index):
        return WAIT
    line.starting = False
    if line.kind is Kind.NONE:
        if line.before is Kind.ROW:
            line.kind = Kind.ROW
        elif line.before is Kind.NONE and line.indent < 2:
            line.list_open = False
        line.kind = line.kind if line.kind is Kind.ROW else Kind.TEXT
    return 0


_Rule = Callable[[Reading, int], int | None]
_MARKS: Final[dict[str, tuple[_Rule, ...]]] = {
    **dict.fromkeys("0123456789", (_number,)),
    **dict.fromkeys("=_|:\u2012\u2014\u2015", (_rule,)),
    **dict.fromkeys(_BULLETS, (_mark,)),
    **dict.fromkeys("-*+\u2013", (_rule, _mark)),
    **dict.fromkeys("`~", (_fence,)),
    ">": (_mark,),
}
"""Rules for what may stand before content; None from one says that it does not apply."""
_LEAVES: Final[dict[str, _Rule]] = {"[": _task, "#": _heading, "|": _row}
"""Rules for content of its own kind, which in indented code is none."""
