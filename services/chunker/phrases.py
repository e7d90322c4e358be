# ruff: noqa: RUF001 - marks of other scripts are what is meant
# ruff: noqa: PLR0911 - a rule is a list of cases, each with its answer
"""Where a phrase ends that can be spoken well, though no mark stands there.

    When the new release is installed | on the test machine
                         ^             ^
                         `-- ends it   `-- begins the next: a preposition that belongs to no word before

A boundary stands before a word that begins something new, behind a word that can end something, with
enough before it. It never stands behind an article, a preposition, an adjective of a list or an auxiliary,
never inside quotes, brackets, numbers, names that "and" joins, or pairs ("between five and six"). A
pause there is one that a reader makes; a pause anywhere else is a stumble, so in doubt there is none.

Languages without word lists have no phrase boundaries, but for three scripts: Japanese has one where kana
ends and a new word begins, Chinese before a conjunction, Thai and its neighbours at each space.
"""

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from services.chunker import marks
from services.chunker.phrase_words import (
    INTERJECTIONS_ANYWHERE,
    LEANING_ANYWHERE,
    PhraseWords,
    guessed,
    words_of,
)

LEAST_WORDS: Final = 4
LEAST_CHARS: Final = 15
LEAST_SUBJECT_CHARS: Final = 18
"""A subject of three words may stand alone if it has so many characters."""
LEAST_JOINED_CHARS: Final = 20
LEAST_CJK: Final = 6
PRESSED_WORDS: Final = 3
PRESSED_CHARS: Final = 12
_PHRASE_CHARS: Final = 300
"""No more text is looked at."""

_WORD: Final = re.compile(r"\S+")
_PLAIN: Final = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")
_ADJECTIVE: Final = re.compile(r".{2,}(?:able|ible|ful|ous|ive|less|ical|ary)")
_PARTICIPLE: Final = re.compile(
    r".+(?:ed|[aiu]do|[aiu]da|[aiu]dos|[aiu]das|é|ée|és|ées|i|ie|is|ies|ert)|ge.+[tn]"
    "|born|built|held|made|found|left|lost|sold|shown|known|seen|set|kept|bought|written|taken|given|drawn"
)
_BEFORE_ADJECTIVES: Final = frozenset(
    ["a", "an", "very", "so", "too", "more", "ein", "eine", "sehr", "un", "une", "très", "una", "muy"]
)
_GENITIVE: Final = frozenset(
    ["of", "de", "del", "du", "des", "della", "dei", "do", "da", "dos", "das", "der", "van", "von"]
)
"""Begin what belongs to the noun before them."""
_EITHER_CASE: Final = frozenset(["you", "it"])
"""Objects, which may end a phrase, or subjects, which may not ("what would you | like")."""
_RELATIVE: Final = frozenset(["that", "which", "who", "qui", "que"])
_ALONE_WORDS: Final = 6
"""With so many words before it, where and when it was can also be said apart."""
_VERB_LAST_WORDS: Final = 7
"""A German clause that an opener begins ends in its verb, so what is in it is not parted soon."""
_OBJECTS: Final = frozenset(["me", "him", "them", "us"])
_BEGINNINGS: Final = frozenset(
    {"with", "over", "when", "into", "from", "upon", "will", "have", "were", "also", "under"}
)
"""Begin longer words too (overview), so that one at the edge of the text may go on."""
_QUOTES: Final = (
    ("“", "”"),
    ("«", "»"),
    ("(", ")"),
    ("[", "]"),
    ("「", "」"),
    ("『", "』"),
    ("„", "“"),
    ("《", "》"),
)
_CLOSED: Final = frozenset('”»’")]')
_KANA_END: Final = re.compile("(?<=[はがでも])(?=[一-鿿々ァ-ヺA-Za-z0-9])")
_HAN_OPENER: Final = re.compile("(?:但是|因为|所以|而且|如果|然后|并且|或者|以及|不过|虽然|因此|可是|同时)")
_SOUTH_EAST_SPACE: Final = re.compile(
    "(?<=[\u0e01-\u0fff\u1000-\u109f\u1780-\u17ff]) +(?=[\u0e01-\u0fff\u1000-\u109f\u1780-\u17ff])"
)


class Strength(IntEnum):
    """How natural a pause is."""

    WEAK = 1
    """Before a preposition."""
    STRONG = 2
    """Before what joins or opens a clause, or between a subject and what is said of it."""


class Boundary(NamedTuple):
    """A place where a phrase ends."""

    end: int
    """Behind its last character."""
    strength: Strength


class _Words(NamedTuple):
    """The words of the text so far."""

    text: str
    spans: Sequence[tuple[int, int]]
    plain: Sequence[str]
    """In lower case; "" where it is not of letters alone."""
    table: PhraseWords
    edge: bool
    """The last word may go on."""

    def raw(self, index: int) -> str:
        begin, end = self.spans[index]
        return self.text[begin:end]


def phrase_boundaries(text: str, language: str) -> Iterator[Boundary]:
    """Return the phrase boundaries of `text`, which begins with a chunk, in order.

    A boundary may stand before the last word though more of that word may come: it is taken for a whole
    word where it is one, unless it is a usual beginning of others. That saves a token's time, and a wrong
    guess only makes a boundary less good: none ever stands inside a word.
    """
    text = text[:_PHRASE_CHARS]
    if marks.UNSPACED.search(text):
        yield from _unspaced(text)
        return
    spans = [match.span() for match in _WORD.finditer(text)]
    if len(spans) <= PRESSED_WORDS:
        return
    plain = [_plain(text[begin:end]) for begin, end in spans]
    table = words_of(language) if language else guessed(plain)
    if table is None:
        return
    words = _Words(text, spans, plain, table, edge=not text[-1].isspace())
    for index in range(PRESSED_WORDS, len(spans)):
        strength = _strength(words, index)
        if strength is not None:
            yield Boundary(spans[index - 1][1], strength)


def is_opener(text: str, language: str) -> bool:
    """Say whether `text` is an interjection and a comma, as replies begin with: said apart, a pause follows.

    Of a text whose language is unknown the openers of all known languages count.
    """
    if text[-1:] != ",":
        return False
    table = words_of(language)
    openers = table.interjections if table else INTERJECTIONS_ANYWHERE if not language else frozenset()
    return " ".join(text[:-1].lower().replace("’", "'").split()) in openers


def last_word_end(text: str, language: str, least_words: int = PRESSED_WORDS) -> int:
    """Return where the last word of `text` ends behind which a chunk can end at need; -1 if there is none.

    At least `least_words` words and 12 characters come before it, and it does not lean on the next word,
    as far as the language is known. The last word of `text` may go on and does not count.
    """
    spans = [match.span() for match in _WORD.finditer(text)]
    if spans and spans[-1][1] == len(text):
        following = spans.pop()
    elif spans:
        following = (len(text), len(text))
    table = words_of(language)
    # A voice may be given a text of another language: what leans in any of them is no end.
    leaning = LEANING_ANYWHERE | table.leaning if table else LEANING_ANYWHERE
    last = -1
    for index in range(len(spans) - 1, least_words - 2, -1):
        end = spans[index][1]
        if end < PRESSED_CHARS:
            break
        word = text[spans[index][0] : end]
        after = text[following[0] : following[1]]
        following = spans[index]
        if word[-1].isdigit() and (not after or after[0].isdigit()):
            continue
        plain = word.lower().replace("’", "'")
        if not word[-1].isalnum() or plain in leaning or _elided(plain) in leaning:
            continue
        if word[0].isupper() and after[:1].isupper():
            continue
        if after and not (after[0].isalnum() or after[0] in marks.OPENERS):
            continue
        if _inside(text[:end]):
            continue
        if not _clings(plain, after.lower(), table):
            return end
        last = max(last, end)
    return last


def _elided(word: str) -> str:
    """Return the word without an elided one before it: "un" of "d'un"."""
    before, mark, rest = word.partition("'")
    return rest if mark and (len(before) <= 1 or before.endswith("qu")) else ""


def _clings(before: str, after: str, table: PhraseWords | None) -> bool:
    """Say whether two words belong together so closely that a pause elsewhere is better."""
    if before in _EITHER_CASE or after in _GENITIVE or after.startswith(("d'", "d’")):
        return True
    return table is not None and before in table.governing and after in table.leaning


def _plain(word: str) -> str:
    return word.lower().replace("’", "'") if _PLAIN.fullmatch(word) else ""


def _inside(text: str) -> bool:
    """Say whether a quote or a bracket is open at the end of `text`."""
    if text.count('"') % 2 or text.count("`") % 2 or text.count("*") % 2:
        return True
    return any(text.rfind(opened) > text.rfind(closed) for opened, closed in _QUOTES)


def _unspaced(text: str) -> Iterator[Boundary]:
    found = [match.start() for match in _KANA_END.finditer(text)]
    found += [match.start() for match in _HAN_OPENER.finditer(text)]
    found += [match.start() for match in _SOUTH_EAST_SPACE.finditer(text)]
    for end in sorted(found):
        if end >= LEAST_CJK and not _inside(text[:end]):
            yield Boundary(end, Strength.STRONG)


def _strength(words: _Words, index: int) -> Strength | None:
    """Return how natural a pause is before the word at `index`; None where there must be none, or not yet."""
    table, before, word = words.table, words.plain[index - 1], words.plain[index]
    at_edge = index == len(words.spans) - 1 and words.edge
    if words.raw(index)[0] == "(" and not at_edge:
        return _before_bracket(words, index)
    if not word or (at_edge and word in _BEGINNINGS):
        return None
    last = words.raw(index - 1)[-1]
    if words.raw(index)[0].isupper() or not (last.isalnum() or last in _CLOSED) or before in table.leaning:
        return None
    chars = words.spans[index - 1][1]
    if word in table.predicates and _is_subject(words, index):
        found = Strength.STRONG if chars >= LEAST_SUBJECT_CHARS else None
    elif index < LEAST_WORDS or chars < LEAST_CHARS:
        found = None
    elif word in table.openers:
        depends = word in table.asking and before in table.governing | table.particle_verbs
        found = None if depends else Strength.STRONG
    elif word in table.joiners:
        found = Strength.STRONG if chars >= LEAST_JOINED_CHARS and _joins_clauses(words, index) else None
    elif word in table.prepositions or word in table.particles:
        found = Strength.WEAK if _begins_adjunct(words, index) else None
    else:
        found = None
    if found is not None and _inside(words.text[:chars]):
        return None
    return found


def _before_bracket(words: _Words, index: int) -> Strength | None:
    """A pause stands before what is said aside, not before a mere abbreviation: "the Organization (WHO)"."""
    before, chars = words.plain[index - 1], words.spans[index - 1][1]
    if not before or before in words.table.leaning or chars < PRESSED_CHARS or ")" in words.raw(index):
        return None
    return None if _inside(words.text[:chars]) else Strength.WEAK


def _is_subject(words: _Words, index: int) -> bool:
    """Say whether the words before `index` are one noun phrase, from its determiner on."""
    table = words.table
    if words.plain[0] not in table.determiners or not words.plain[index - 1]:
        return False
    others = table.predicates | table.subjects | table.openers
    if any(word in others for word in words.plain[1:index]):
        return False
    # A second noun phrase that nothing joins to the first: "most of the time the error".
    joined = table.leaning | table.governing
    return not any(
        words.plain[at] in table.determiners
        and words.plain[at - 1] not in joined
        and words.plain[at + 1] not in table.leaning
        for at in range(1, index - 1)
    )


def _joins_clauses(words: _Words, index: int) -> bool:
    """Say whether a joiner stands between more than two words of a pair, a number, or a name."""
    table, before = words.table, words.plain[index - 1]
    if index + 2 < len(words.spans) and words.plain[index + 1] in table.auxiliaries:
        # "between 1248 and 1322 | and is one of the largest"
        return True
    if not before or before in table.numerals or _ADJECTIVE.fullmatch(before):
        return False
    if words.plain[index - 2] in _BEFORE_ADJECTIVES:
        # "a fast and reliable line"
        return False
    if any(word in table.pairing for word in words.plain[max(0, index - 4) : index]):
        return False
    if words.raw(index - 1)[0].isupper():
        # "Simon and Garfunkel": the next word tells.
        following = words.raw(index + 1) if index + 1 < len(words.spans) else ""
        return bool(following) and not following[0].isupper()
    return True


def _begins_adjunct(words: _Words, index: int) -> bool:
    """Say whether a preposition begins a phrase of its own rather than belonging to what is before it."""
    table, before, word = words.table, words.plain[index - 1], words.plain[index]
    if before in table.governing:
        return False
    happened = words.plain[index - 2] in table.auxiliaries and _PARTICIPLE.fullmatch(before)
    if index < _ALONE_WORDS and (happened or words.plain[index - 2] in _RELATIVE):
        # What happened belongs to where and when it did: "was born in Warsaw".
        return False
    if table.nouns_are_capitalised and words.plain[0] in table.openers and index < _VERB_LAST_WORDS:
        return False
    if index > 2 and words.raw(index - 1)[0].isupper() and words.raw(index - 2)[0].isupper():
        # A title or a name goes on: "The Catcher in the Rye".
        return False
    if not before or before in table.numerals:
        hour = words.plain[index - 2] in table.hours
        if not hour:
            return False
    if table.nouns_are_capitalised and not words.raw(index - 1)[0].isupper() and before not in table.numerals:
        return False
    if word not in table.particles:
        return True
    separable = table.nouns_are_capitalised or any(
        verb in table.particle_verbs for verb in words.plain[max(0, index - 8) : index]
    )
    if not separable:
        return True
    if index + 1 >= len(words.spans) or (
        index + 2 == len(words.spans) and words.edge and word in _BEGINNINGS
    ):
        return False
    following = words.plain[index + 1]
    if words.raw(index)[-1] in ".,;:!?":
        return False
    others = table.leaning | table.joiners | table.openers | table.subjects | _OBJECTS
    return bool(following) and (following in table.determiners or following not in others)
