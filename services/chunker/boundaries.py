# ruff: noqa: RUF001 - marks of other scripts are what is meant
# ruff: noqa: PLR0911 - a rule is a list of cases, each with its answer
"""Whether a mark ends a sentence: the rules for all marks but the full stop."""

import re
from typing import Final

from services.chunker import abbreviations as abbr
from services.chunker import marks
from services.chunker.full_stops import MARKER, decide_full_stop, plausible_stop
from services.chunker.view import (
    UNKNOWN,
    Decision,
    Verdict,
    View,
    after_closer,
    before_starter,
    maybe,
    next_char,
    start_of_word,
    word_at,
)

_FOOTNOTE: Final = re.compile(r"\[\d{1,4}\]")
_FOOTNOTE_BEGUN: Final = re.compile(r"\[\d{0,4}$")
_ADDRESS: Final = re.compile(r"[/:=@&]")
_JAPANESE_GOES_ON: Final = frozenset("とっのをにがはもでやなへ、，")
_CHINESE_SPEAKER: Final = frozenset("他她它我你您咱")
_CHINESE_SAYS: Final = frozenset("说說问問道喊答想叫笑")
_CHINESE_PLURAL: Final = frozenset("们們")
_NO: Final = Verdict.NO
_YES: Final = Verdict.YES


def decide_sentence(view: View, index: int) -> Decision:
    """Decide about the sentence mark or line end at `index`."""
    text = view.text
    mark = text[index]
    if mark in marks.NEWLINES:
        return _line_end(view, index)
    end, closed, complete = _absorb(view, index)
    if end >= view.limit:
        return Decision(_NO, end)
    if not complete and not view.final:
        plausible = end > index + 1 or mark not in marks.DOTS or plausible_stop(view, index)
        return maybe(end, plausible)
    run = text[index:end]
    if run == ".":
        return decide_full_stop(view, index, end, closed)
    if marks.HARD_SET.intersection(run):
        return _hard(view, index, end, closed)
    if marks.ASKING_SET.intersection(run) or mark in ";:":
        return _asking(view, index, end, closed)
    if marks.STRESS_SET.intersection(run):
        return _before_capital(view, end)
    if run[0] == "…" or run[:2] == ".." or run.startswith(". ."):
        return _ellipsis(view, end, run)
    return decide_full_stop(view, index, end, closed)


def _line_end(view: View, index: int) -> Decision:
    """A line ends a chunk, unless it holds nothing but a list marker, or nothing to say."""
    line = view.text[view.start : index].strip()
    if not marks.SPEAKABLE.search(line):
        return Decision(_NO, index + 1)
    if view.sentence_start >= view.start and line[-1] in ".)":
        sentence = view.text[view.sentence_start : index].strip()
        if MARKER.fullmatch(sentence.strip(marks.BULLETS + " .)(")):
            return Decision(_NO, index + 1)
    return Decision(_YES, index + 1)


def _absorb(view: View, index: int) -> tuple[int, bool, bool]:
    """Take in the marks and closers at `index`.

    Returns:
        Where they end, whether a quote or bracket closed, and whether the text shows that they end there.

    """
    text = view.text
    length = len(text)
    closed = False
    end = index + 1
    while end < length and end < view.limit:
        char = text[end]
        if char in marks.CLUSTER:
            end += 1
        elif char in marks.CLOSERS:
            # `*` and `_` close emphasis; they say nothing about what follows.
            closed = closed or char not in "*_"
            end += 1
        elif marks.is_emoji(char):
            end += 1
        elif char == "[":
            if note := _FOOTNOTE.match(text, end):
                end = note.end()
            elif _FOOTNOTE_BEGUN.match(text, end) and not view.final:
                return end, closed, False
            else:
                return end, closed, True
        elif char in marks.EITHER:
            if end + 1 >= length:
                return (end + 1, True, True) if view.final else (end, closed, False)
            if not text[end + 1].isspace() and text[end + 1] not in ".,;:!?":
                return end, closed, True
            closed = True
            end += 1
        elif char == " " and text[end - 1] == "." and not closed:
            # ". . ." is an ellipsis; ". .NET" is not.
            if end + 2 >= length and not view.final and text[end + 1 : end + 2] in ("", "."):
                return end, closed, False
            if text[end + 1 : end + 2] != "." or text[end + 2 : end + 3].isalnum():
                return end, closed, True
            end += 2
        else:
            return end, closed, True
    return end, closed, False


def _hard(view: View, index: int, end: int, closed: bool) -> Decision:
    text = view.text
    if end == len(text):
        return Decision(_YES, end)
    following = text[end]
    if text[index - 1 : index].isdigit() and following.isdigit() and end == index + 1:
        return Decision(_NO, end)
    if text.rfind("《", view.start, index) > text.rfind("》", view.start, end):
        return Decision(_NO, end)
    if not closed:
        return Decision(_YES, end)
    if text[end - 1] in "」』" and following in _JAPANESE_GOES_ON:
        return Decision(_NO, end)
    if following in _CHINESE_SPEAKER:
        verb = end + 1
        if text[verb : verb + 1] in _CHINESE_PLURAL:
            verb += 1
        if verb == len(text) and not view.final:
            return maybe(end)
        if text[verb : verb + 1] in _CHINESE_SAYS:
            return Decision(_NO, end)
    if following.isspace():
        return after_closer(view, end)
    return Decision(_NO if following.islower() or following in ",;:，、；：" else _YES, end)


def _asking(view: View, index: int, end: int, closed: bool) -> Decision:
    text = view.text
    if end == len(text):
        return Decision(_YES, end)
    following = text[end]
    if following.isspace():
        if following in marks.NEWLINES:
            return Decision(_YES, end)
        if view.guillemet_open:
            spaced = _spaced_guillemet(view, end)
            if spaced is not None:
                return spaced
        if closed:
            return after_closer(view, end)
        if text[index] == "!" and text[start_of_word(view, index) : index] in abbr.EXCLAIMING_NAMES:
            return before_starter(view, end)
        return Decision(_YES, end)
    if following in "“‘«„¿¡「『《" or (closed and following in marks.OPENERS):
        return Decision(_YES, end)
    if marks.CJK.match(following):
        return Decision(_YES, end)
    if (
        following.isupper()
        and text[index - 1].islower()
        and not _ADDRESS.search(text[start_of_word(view, index) : index])
    ):
        # A space was forgotten: "Hello!How are you".
        return Decision(_YES, end)
    return Decision(_NO, end)


def _spaced_guillemet(view: View, end: int) -> Decision | None:
    """Take in the » of « Non ! » ; None where none follows."""
    following = next_char(view, end)
    if following == UNKNOWN:
        return maybe(end)
    if following < 0 or view.text[following] != "»":
        return None
    return after_closer(view, following + 1)


def _before_capital(view: View, end: int) -> Decision:
    if end < len(view.text) and not view.text[end].isspace():
        return Decision(_NO, end)
    following = next_char(view, end)
    if following < 0:
        return maybe(end) if following == UNKNOWN else Decision(_YES, end)
    return Decision(_YES if view.text[following].isupper() else _NO, end)


def _ellipsis(view: View, end: int, run: str) -> Decision:
    text = view.text
    if end < len(text) and not text[end].isspace():
        return Decision(_NO, end)
    following = next_char(view, end)
    if following < 0:
        return maybe(end) if following == UNKNOWN else Decision(_YES, end)
    char = text[following]
    if run.count(".") >= 4:
        return Decision(_NO if char.islower() else _YES, end)
    if not char.isupper():
        return Decision(_YES if char in marks.OPENERS - {"(", "["} else _NO, end)
    if char == "I":
        # "I" has its capital anywhere: "well ... I mean it".
        word = word_at(view, following)
        return maybe(end) if word is None else Decision(_NO if word == "I" else _YES, end)
    return Decision(_YES, end)
