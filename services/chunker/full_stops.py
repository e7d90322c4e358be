# ruff: noqa: RUF001 - marks of other scripts are what is meant
# ruff: noqa: PLR0911 - a rule is a list of cases, each with its answer
"""Whether a full stop ends a sentence, or belongs to an abbreviation, an initial, an ordinal, a list."""

import re
from typing import Final

from services.chunker import abbreviations as abbr
from services.chunker import marks
from services.chunker.abbreviations import Kind, Table
from services.chunker.view import (
    OVER,
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
    word_before,
)

MARKER: Final = re.compile(r"(?:\d{1,3}|[A-Za-zА-яЁё]|[ivxIVX]{1,5})")
"""What may number a list."""

_SEEN_WORDS: Final = 2000
_DIGITS: Final = re.compile(r"\d*")
_BEFORE_LETTER: Final = frozenset("'’°º&/+=<>^~|\\")
"""Behind these a letter is no initial: "I'd. Then", "25 °C. Now", "R&D. Next"."""
_LAST_PART: Final = re.compile(r"[^\W_][\w.°º№]*$")
_DOTTED: Final = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")
_ROMAN: Final = re.compile(r"[IVXLC]+")
_VOWEL: Final = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýœ]", re.IGNORECASE)
_AT_TIME: Final = re.compile(r"\W*(?:At|By|Around|About|Before|After|From|Until|Since)\s+[\d:.]+\s*")
_COLON: Final = re.compile(r":\s*[(\[]?$")
_OPENING: Final = "".join(marks.OPENERS)
_STREETS: Final = ("str",)  # Bahnhofstr. 7
_PLAUSIBLE: Final = (None, Kind.TAIL, Kind.TIME, Kind.COMPANY, Kind.PROPER, Kind.DATE)
_NO: Final = Verdict.NO
_YES: Final = Verdict.YES


def plausible_stop(view: View, index: int) -> bool:
    """Say whether a full stop with nothing behind it may be an end."""
    word_start = start_of_word(view, index)
    word = view.text[word_start:index].lstrip(_OPENING)
    if not word or word[-1].isdigit() or is_marker(view, word_start, word) or _begun_address(word):
        return False
    return _classify(view, word) in _PLAUSIBLE and not _is_cased_letter(word)


def _begun_address(word: str) -> bool:
    """Say whether more of an address, a path or a name may follow the full stop ("https://docs.")."""
    return word[:4].lower() in ("www", "www.") or any(char in "/\\@_" for char in word)


def decide_full_stop(view: View, index: int, end: int, closed: bool) -> Decision:
    """Decide about the full stop at `index`, whose closers end at `end`."""
    text = view.text
    if end == len(text):
        return Decision(_YES, end)
    following = text[end]
    if not following.isspace():
        if closed and following in "“‘«„¿¡":
            return Decision(_YES, end)
        between_han = marks.CJK.match(text, index - 1) and marks.CJK.match(following) if index else None
        return Decision(_YES if between_han else _NO, end)
    word_start = start_of_word(view, index)
    word = text[word_start:index].lstrip(_OPENING)
    if is_marker(view, word_start, word):
        return Decision(_NO, end)
    behind = next_char(view, end)
    if behind == UNKNOWN:
        return maybe(end, _classify(view, word) in _PLAUSIBLE and not _is_cased_letter(word))
    if behind == OVER:
        return Decision(_YES, end)
    if view.guillemet_open and text[behind] == "»":
        return after_closer(view, behind + 1)
    kind = _classify(view, word)
    if kind is not None:
        return _abbreviation(view, kind, word, word_start, end, behind)
    part = _LAST_PART.search(word)
    tail = part.group() if part else word
    if len(tail) == 1 and tail.isalpha() and (len(word) == 1 or word[-2] not in _BEFORE_LETTER):
        return _single_letter(view, tail, word_start, end, behind)
    number = word.lstrip("-–")
    if number.isdecimal() and len(number) <= 2:
        return _small_number(view, number, word_start, end, behind)
    char = text[behind]
    if closed:
        return after_closer(view, end)
    if char.islower() and (_ROMAN.fullmatch(word) or _consonants(word)):
        return Decision(_NO, end)
    if char.isdigit() and word.endswith(_STREETS):
        return Decision(_NO, end)
    if len(word) <= 4 and word.isalpha():
        before = word_before(view, word_start)
        unit = char.islower() and before[-1:].isdigit()
        if unit or (word.islower() and _joins(before) and not _behind_number(view, word_start, before)):
            # "3 mi. in a day", "p. ex. Paris"
            return Decision(_NO, end)
    return Decision(_NO if char in ",;:" else _YES, end)


def _classify(view: View, word: str) -> Kind | None:
    """Return what kind of abbreviation `word` is; the same words come again and again."""
    seen = view.table.seen
    try:
        return seen[word]
    except KeyError:
        if len(seen) >= _SEEN_WORDS:
            seen.clear()
        found = seen[word] = _look_up(view.table, word)
        return found


def _look_up(table: Table, word: str) -> Kind | None:
    """Return what kind of abbreviation `word` is: itself, its last part, or without the number before it."""
    found = abbr.find(table, word)
    if found is not None:
        return found
    part = _LAST_PART.search(word)
    if part is None:
        return None
    tail = part.group()
    if len(tail) == 1 and len(word) > 1 and word[-2] in "'’":
        return None
    if tail[0].isdigit():
        tail = tail.lstrip("0123456789.")
    found = abbr.find(table, tail)
    if found is not None:
        return found
    if _DOTTED.fullmatch(tail):
        return Kind.TAIL if tail.islower() else Kind.PROPER
    if len(tail) == 2 and tail[0] == tail[1] and tail.isupper():
        # Spanish plurals: EE. UU., RR. HH.
        return Kind.PROPER
    return None


def is_marker(view: View, word_start: int, word: str) -> bool:
    """Say whether `word` numbers a list: alone at the beginning of its sentence, or "1" behind a colon."""
    if len(word) > 5 or not MARKER.fullmatch(word):
        return False
    if view.sentence_start >= view.start:
        before = view.text[view.sentence_start : word_start]
        if len(before) < 64 and not before.strip(marks.BULLETS + " \t\xa0([" + marks.NEWLINES):
            return True
    return (
        word in ("1", "a", "A", "i")
        and _COLON.search(view.text[max(view.start, word_start - 4) : word_start]) is not None
    )


def _is_cased_letter(word: str) -> bool:
    return len(word) == 1 and (word.isupper() or word.islower())


def _consonants(word: str) -> bool:
    """An unknown word without a vowel is an abbreviation (tbsp.)."""
    return 1 < len(word) <= 5 and word.isascii() and word.isalpha() and not _VOWEL.search(word)


def _abbreviation(view: View, kind: Kind, word: str, word_start: int, end: int, behind: int) -> Decision:
    char = view.text[behind]
    if kind in (Kind.TITLE, Kind.INNER):
        return Decision(_NO, end)
    if kind is Kind.REFERENCE:
        return _reference(view, word, end, behind)
    if kind in (Kind.PROPER, Kind.PLACE):
        if "." in word and view.sentence_start >= view.start and word_start <= view.sentence_start:
            # Nothing but the abbreviation has come: "P.S. I love you".
            return Decision(_NO, end)
        return before_starter(view, end)
    if not char.isupper():
        opens = char in marks.OPENERS and char not in "(["
        caseless = char.isalpha() and not char.islower()
        return Decision(_YES if opens or caseless else _NO, end)
    if kind is Kind.TAIL:
        return Decision(_YES, end)
    following = word_at(view, behind)
    if following is None:
        return maybe(end)
    if kind is Kind.DATE:
        return Decision(_NO if following in abbr.DAYS_AND_MONTHS else _YES, end)
    if kind is Kind.COMPANY:
        return Decision(_NO if following in abbr.AFTER_COMPANY else _YES, end)
    # "At 5 a.m. Mr. Smith went": the time alone is no sentence.
    lone = view.sentence_start >= view.start and _AT_TIME.fullmatch(
        view.text, view.sentence_start, word_start
    )
    return Decision(_NO if lone or following in abbr.AFTER_TIME else _YES, end)


def _joins(before: str) -> bool:
    """Say whether the word before is a part of an abbreviation in parts (z. B.)."""
    return len(before) == 2 and before[1] == "." and before[0].islower()


def _behind_number(view: View, word_start: int, before: str) -> bool:
    """Say whether `before`, the word before the one at `word_start`, is a unit ("10 s. flat")."""
    begin = view.text.rfind(before, view.start, word_start)
    return word_before(view, begin)[-1:].isdigit()


def _reference(view: View, word: str, end: int, behind: int) -> Decision:
    char = view.text[behind]
    if char.isdigit() or char in "#§(":
        return Decision(_NO, end)
    if word.lower() in ("no", "nos"):
        return Decision(_YES, end)
    if not char.isupper():
        return Decision(_NO if char.islower() else _YES, end)
    following = word_at(view, behind)
    if following is None:
        return maybe(end)
    labelled = (len(following) == 1 and following not in "IA") or (
        len(following) > 1 and _ROMAN.fullmatch(following)
    )
    return Decision(_NO if labelled else _YES, end)


def _single_letter(view: View, letter: str, word_start: int, end: int, behind: int) -> Decision:
    """An initial (J. Smith), a label (the answer is A.), or half of an abbreviation (z. B.)."""
    char = view.text[behind]
    if not letter.isupper() and not letter.islower():
        # Caseless: in Arabic a title (د. أحمد); elsewhere a word.
        return Decision(_NO if "\u0600" <= letter <= "\u06ff" else _YES, end)
    if not char.isupper():
        opens = char in marks.OPENERS and char not in "(["
        return Decision(_YES if opens else _NO, end)
    following = word_at(view, behind)
    if following is None:
        return maybe(end, False)
    after = behind + len(following)
    if len(following) == 1 and after == len(view.text) and not view.final:
        return maybe(end, False)
    if len(following) == 1 and view.text[after : after + 1] == ".":
        return Decision(_NO, end)
    before = word_before(view, word_start)
    if letter.islower():
        if "\u0400" <= letter <= "\u04ff":
            return Decision(_YES if before[-1:].isdigit() else _NO, end)
        return Decision(_NO if _joins(before) else _YES, end)
    if _joins(before):
        return Decision(_NO, end)
    if following in abbr.STARTERS:
        return Decision(_YES, end)
    labelled = before.lower() in abbr.LABELS or (letter == "I" and before.islower())
    return Decision(_YES if labelled else _NO, end)


def _small_number(view: View, word: str, word_start: int, end: int, behind: int) -> Decision:
    """The end of a sentence (the score was 3.), or an ordinal of the languages that write it so (3. Mai)."""
    text = view.text
    char = text[behind]
    if char.islower():
        return Decision(_NO, end)
    if char.isdigit():
        # "am 3. 5. 2020", but "1 + 1 is 2. 2 + 2 is 4."
        match = _DIGITS.match(text, behind, behind + 3)
        last = match.end() if match else behind
        if last == len(text) and not view.final:
            return maybe(end, False)
        date = last - behind <= 2 and text[last : last + 1] == "." and int(word) <= 31
        return Decision(_NO if date else _YES, end)
    if char in marks.SHORT_DASHES:
        # "vom 1. -3. Mai"
        return Decision(_NO, end)
    if not char.isupper() or int(word) == 0:
        return Decision(_YES, end)
    before = word_before(view, word_start)
    if before in abbr.ORDINAL_ARTICLES and not (
        before == "am" and view.text[view.start : word_start].rstrip().endswith("I am")
    ):
        return Decision(_NO, end)
    following = word_at(view, behind)
    if following is None:
        return maybe(end)
    ordinal = following in abbr.ORDINAL_NOUNS or following in abbr.DAYS_AND_MONTHS
    return Decision(_NO if ordinal else _YES, end)
