# ruff: noqa: RUF001 - marks of other scripts are what is meant
# ruff: noqa: PLR0911 - a rule is a list of cases, each with its answer
"""Whether a mark ends a clause, and whether the clause is long enough to be spoken alone."""

import re
from typing import Final

from services.chunker import marks
from services.chunker.view import Decision, Verdict, View, start_of_word

FIRST_CLAUSE_WORDS: Final = 3
FIRST_CLAUSE_CHARS: Final = 8
FIRST_CLAUSE_CHARS_CJK: Final = 4

_HYPHENS: Final = re.compile(r"-+")
_QUOTE: Final = re.compile(r"""["‘‚-‟«»‹›「-『]|(?<!\S)'""")
"""A quotation mark: behind one, a comma may be followed by the mark that closes it."""
_NO: Final = Verdict.NO
_YES: Final = Verdict.YES
_UNDECIDED: Final = Verdict.UNDECIDED


def decide_clause(view: View, index: int) -> Decision:
    """Decide about the clause mark at `index`.

    Marks of full width need no lookahead, except behind a digit or inside open quotes. A comma behind a
    plain word needs none either, so that the first clause need not wait for the model's next token; other
    Latin marks need the white space behind them, so that "1,234", "10:30", "f(a,b)" and "https:" stay whole.
    """
    text = view.text
    mark = text[index]
    if mark in marks.CLAUSE_ASCII:
        return _latin(view, index)
    if mark in marks.LONG_DASHES:
        return _long_dash(view, index)
    if mark == "-":
        return _hyphen(view, index)
    if mark in marks.SHORT_DASHES:
        return _spaced_dash(view, index, index + 1)
    return _full_width(view, index)


def clause_is_speakable(clause: str) -> bool:
    """Say whether a clause can be spoken well alone: 3 words and 8 characters; of CJK, 4 characters.

    Scripts of South-East Asia put no spaces between words: there 8 characters are enough.
    """
    if marks.UNSPACED.search(clause):
        cjk = marks.CJK.search(clause) is not None
        return len(clause) >= (FIRST_CLAUSE_CHARS_CJK if cjk else FIRST_CLAUSE_CHARS)
    if len(clause) < FIRST_CLAUSE_CHARS:
        return False
    words = sum(1 for word in clause.split() if marks.SPEAKABLE.search(word))
    return words >= FIRST_CLAUSE_WORDS


def last_clause_end(view: View) -> int:
    """Return where the last decided clause of the view ends; -1 if there is none."""
    ends = clause_ends(view)
    return ends[-1] if ends else -1


def clause_ends(view: View) -> list[int]:
    """Return where the decided clauses (or sentence-like pauses) of the view end, in order.

    The view's text is looked at up to its `limit` alone, so that the answer does not depend on how
    much more has come.
    """
    ends: list[int] = []
    window = View(
        text=view.text[: view.limit],
        start=view.start,
        sentence_start=view.sentence_start,
        limit=view.limit,
        final=False,
        guillemet_open=view.guillemet_open,
        table=view.table,
    )
    for match in marks.CLAUSE_MARK.finditer(window.text, view.start):
        if ends and match.start() < ends[-1]:
            continue
        decision = decide_clause(window, match.start())
        if decision.verdict is _YES and decision.end < view.limit:
            ends.append(decision.end)
    return ends


def _at(text: str, index: int) -> str:
    return text[index : index + 1]


def _quotes(view: View, end: int) -> int:
    text = view.text
    while end < len(text) and end < view.limit and text[end] in marks.QUOTE_CLOSERS:
        end += 1
    return end


def _before(view: View, index: int) -> str:
    return view.text[index - 1] if index > 0 else ""


def _is_plain(view: View, index: int) -> bool:
    """Say whether a word of letters alone ends at `index`, and no quote is open that may close there."""
    word = view.text[start_of_word(view, index) : index].replace("-", "").replace("’", "'")
    return word.replace("'", "").isalpha() and not _QUOTE.search(view.text, view.start, index)


def _latin(view: View, index: int) -> Decision:
    text = view.text
    if text[index] == "," and _is_plain(view, index):
        return Decision(_YES, index + 1)
    end = _quotes(view, index + 1)
    if end == len(text):
        return Decision(_YES if view.final else _UNDECIDED, end, not _before(view, index).isdigit())
    if text[end].isspace():
        return Decision(_YES, end)
    han = marks.CJK.match(_before(view, index)) and marks.CJK.match(text[end])
    return Decision(_YES if han else _NO, end)


def _full_width(view: View, index: int) -> Decision:
    text = view.text
    end = index + 1
    after_digit = _before(view, index).isdigit()
    quoted = max(text.rfind("“", view.start, index), text.rfind("「", view.start, index)) > max(
        text.rfind("”", view.start, index), text.rfind("」", view.start, index)
    )
    if not after_digit and not quoted:
        return Decision(_YES, end)
    if quoted:
        end = _quotes(view, end)
    if end == len(text) and not view.final:
        return Decision(_UNDECIDED, end, not after_digit)
    return Decision(_NO if after_digit and _at(text, end).isdigit() else _YES, end)


def _long_dash(view: View, index: int) -> Decision:
    text = view.text
    end = index + 1
    while end < len(text) and end < view.limit and text[end] in marks.LONG_DASHES:
        end += 1
    end = _quotes(view, end)
    if end == len(text) and not view.final:
        return Decision(_UNDECIDED, end)
    ranged = _before(view, index).isdigit() and _at(text, end).isdigit()
    return Decision(_NO if ranged else _YES, end)


def _hyphen(view: View, index: int) -> Decision:
    """A single hyphen with white space around it, or a double one that is no option ("--help")."""
    text = view.text
    run = _HYPHENS.match(text, index, view.limit)
    end = run.end() if run else index + 1
    before = _before(view, index)
    if end == len(text) and not view.final:
        # "a-" may become "a--b".
        return Decision(_UNDECIDED, end, False)
    length = end - index
    if length > 2:
        return Decision(_NO, end)
    if length == 2 and before.isalpha() and not before.isspace():
        return Decision(_YES if _at(text, end).isalpha() or _at(text, end).isspace() else _NO, end)
    return _spaced_dash(view, index, end)


def _spaced_dash(view: View, index: int, end: int) -> Decision:
    """White space on both sides, words before it on the same line, and no sum ("5 - 3")."""
    text = view.text
    if not _before(view, index).isspace() or index - 1 <= view.start:
        return Decision(_NO, end)
    word_end = index - 1
    before = text[word_end - 1]
    if before.isspace() or text[word_end] in marks.NEWLINES:
        return Decision(_NO, end)
    if end == len(text) and not view.final:
        return Decision(_UNDECIDED, end, False)
    if not _at(text, end).isspace():
        return Decision(_NO, end)
    if not before.isdigit():
        return Decision(_YES, end)
    if end + 1 >= len(text) and not view.final:
        return Decision(_UNDECIDED, end, False)
    return Decision(_NO if _at(text, end + 1).isdigit() else _YES, end)
