r"""Which prompts may share a reply because a model finds them similar: a look at their words says no.

Embeddings put "Is it safe?" beside "Isn't it safe?", and "the capital of France" beside "the capital of
Germany". So two prompts are kept apart, however similar they are said to be, where any of these differs:

    numbers      in digits and in words, with their signs, in order; so do symbols: "5 + 3" and "5 * 3"
    negations    not, n't, never, without, …
    quotes       what stands in double quotes or backticks, to the letter
    names        words in capitals ("US"), or of mixed case, to the letter; words that are capitalised
                 within a sentence, but for the case of a word at its beginning
    opposites    words of small sets of which another is another question: days, months, before and
                 after, more and less, who and when, …; and a word with and without un-, in-, dis-, …
    asking       a question and a statement
    frame        the words that carry meaning, in order: either they are the same, or less than half of
                 them are. Between lie the prompts that differ by what is asked about: one word replaced
                 or added, or all of them in another order ("man bites dog").

What is left are prompts that differ by what is said around them ("Can you please tell me what rain is?"
and "What is rain?"), and those that are truly said in other words. The lists are English, the negations
and days also of some other languages; elsewhere numbers, quotes, names and the frame decide.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from services.cache.prompts import normalise

MOST_CHARS: Final = 600
"""Longer prompts are similar to none: they seldom come again in other words, and take long to compare."""
LEAST_WORDS: Final = 3
"""Prompts with fewer words that carry meaning are too short to be said in other words."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEGATIONS: Final = _words(
    "not no never none nothing nobody nowhere neither nor without cannot hardly barely scarcely unless "
    "except aint isnt arent wasnt werent dont doesnt didnt cant couldnt wont wouldnt shouldnt hasnt "
    "havent hadnt nicht kein keine keinen keinem keiner keines nie niemals ohne ne pas jamais sans "
    "aucun aucune nunca sin nada non mai senza niente não nem niet geen nooit zonder ingen inte ikke "
    "nie bez не нет без никогда"
)
_NUMBER_WORDS: Final = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred "
    "thousand million billion trillion dozen half third quarter once twice thrice double triple second "
    "fourth fifth sixth seventh eighth ninth tenth i ii iii iv vi vii viii ix xi xii"
) - {"i"}
_OPPOSITES: Final = _words(
    "monday tuesday wednesday thursday friday saturday sunday weekday weekend january february april "
    "june july august september october november december montag dienstag mittwoch donnerstag freitag "
    "samstag sonntag lundi mardi mercredi jeudi vendredi samedi dimanche lunes martes miércoles jueves "
    "viernes sábado domingo today tomorrow yesterday tonight morning noon evening night day week month "
    "year spring summer autumn winter before after earlier later first last next previous since until "
    "now then past future more less most least fewer many few maximum minimum max min best worst better "
    "worse all any some only every both either always sometimes often rarely up down left right north "
    "south east west above below over under inside outside front back top bottom near far high low big "
    "small large long short old new young hot cold warm cool fast slow good bad right wrong true false "
    "safe dangerous legal illegal possible impossible buy sell start stop begin end open close increase "
    "decrease raise lower add remove enable disable install uninstall accept reject allow forbid give "
    "take win lose gain borrow lend import export multiply divide plus minus advantages disadvantages "
    "advantage disadvantage pros cons benefits risks cause effect causes effects he she him her his "
    "hers male female man woman men women boy girl mother father who whom whose when where why"
)
_NEGATING: Final = ("un", "in", "im", "il", "ir", "dis", "non", "anti", "mis", "de")
_PLAIN: Final = _words("a an the is are am be been do does please")
"""Words that never say what is asked about."""
_QUESTIONS: Final = _words(
    "what who whom whose when where why how which is are am do does can could will would"
)

_NOT: Final = re.compile(r"n't\b")
_SHORT_IS: Final = re.compile(r"\b(what|who|where|when|why|how|that|it|there|he|she)'s\b", re.IGNORECASE)
_QUOTED: Final = re.compile(r'"([^"]*)"|`([^`]*)`|(?<!\w)\'([^\']+)\'(?!\w)')
_NUMBER: Final = re.compile(r"[-+]?\w*\d(?:[\w]|[.,:/'-](?=\d))*(?:!|%)?|[½⅓¼¾⅔⅛²³¹⁰-⁹₀-₉]+")
_OPENING: Final = re.compile(
    r"^(?:(?:hi|hello|hey|ok|okay|so|well|please)\b[,!. ]*)*"
    r"(?:(?:can|could|would|will) you (?:please )?|i(?: would|'d)? (?:want|like) (?:you )?to |do you know )?"
    r"(?:please )?"
    r"(?:(?:tell|explain|describe)(?: to)?(?: me| us)? (?:about )?(?:what )?|know (?:what )?"
    r"|what(?: is| are|'s) )?",
    re.IGNORECASE,
)
# Marks that are read aloud as nothing: all others count as symbols.
_SYMBOLS: Final = re.compile(r"[^\w\s.,;:!?'\"()…-]")
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_CAPITALISED: Final = re.compile(r"(?<![.!?:] )(?<!^)\b[^\W\d_]+(?:'[^\W\d_]+)*")
_WITHOUT_SPACES: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts that put no space between words: each character counts as a word."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What of a prompt must be the same in another."""

    said: tuple[tuple[str, ...], ...] = field(repr=False)
    """Numbers, symbols, negations, opposites, quotes, names in capitals; and whether it asks."""
    names: frozenset[str] = field(repr=False)
    """Words that are capitalised within a sentence, as they are."""
    words: frozenset[str] = field(repr=False)
    """All words, without their case."""
    openers: frozenset[str] = field(repr=False)
    """The words that begin a sentence, without their case."""
    frame: tuple[str, ...] = field(repr=False)
    """The words that carry meaning, in order."""

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes: never below the truth by much."""
        words = len(self.words) + len(self.frame) + len(self.names) + sum(map(len, self.said))
        return 1600 + 140 * words

    def allows(self, other: "Guard") -> bool:
        """Return whether the two prompts may share a reply, if they are similar. Symmetrical."""
        return (
            self.said == other.said
            and _found(self.names, other)
            and _found(other.names, self)
            and not _negated(self.words, other.words)
            and not _negated(other.words, self.words)
            and _same_frame(self.frame, other.frame)
        )


def guard_of(text: str) -> Guard | None:
    """Return the guard of what a user typed; None where it is too long to be similar to another, or empty."""
    text = normalise(text, "typing")
    if not text or len(text) > MOST_CHARS:
        return None
    plain = _SHORT_IS.sub(r"\1 is", _NOT.sub(" not", text))
    plain = re.sub(r"\bca not\b", "can not", re.sub(r"\bcannot\b", "can not", plain))
    said = tuple(word.casefold() for word in _split(plain))
    opened = _OPENING.match(plain)
    body = plain[opened.end() :] if opened is not None else plain
    frame = tuple(_stem(word.casefold()) for word in _split(body) if word.casefold() not in _PLAIN)
    capitals = [word for word in _split(text) if _is_capitals(word)]
    facts = (
        tuple(number.casefold() for number in _NUMBER.findall(text)),
        tuple(word for word in said if word in _NUMBER_WORDS),
        tuple(_SYMBOLS.findall(text)),
        tuple(sorted(word for word in said if word in _NEGATIONS)),
        tuple(sorted(word for word in said if word in _OPPOSITES)),
        tuple(next(filter(None, quoted), "") for quoted in _QUOTED.findall(text)),
        tuple(sorted(set(capitals))),
        ("asks" if _asks(text, said, opened) else "says",),
    )
    names = frozenset(word for word in _CAPITALISED.findall(text) if word[0].isupper()) - {"I"}
    openers = frozenset(part.casefold() for part in _openers(text))
    return Guard(facts, names - set(capitals), frozenset(said), openers, frame)


def _split(text: str) -> list[str]:
    """Return the words of a text; of scripts without spaces, the characters."""
    return _WORD.findall(_WITHOUT_SPACES.sub(lambda found: f" {found[0]} ", text))


def _openers(text: str) -> list[str]:
    return [found[1] for found in re.finditer(r"(?:^|[.!?:] )[\"'(]*([^\W_]+(?:'[^\W_]+)*)", text)]


def _is_capitals(word: str) -> bool:
    """Return whether a word has a capital that is not its first letter: "US", "iPhone", "McCoy"."""
    return any(character.isupper() for character in word[1:])


def _asks(text: str, said: tuple[str, ...], opened: re.Match[str] | None) -> bool:
    return text.endswith("?") or bool(opened and opened.end()) or bool(said and said[0] in _QUESTIONS)


def _stem(word: str) -> str:
    """Return an English word without the ending of a plural: what is not one just stays apart."""
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] not in "su'i" else word


def _found(names: frozenset[str], other: Guard) -> bool:
    return all(name in other.names or name.casefold() in other.openers for name in names)


def _negated(words: frozenset[str], others: frozenset[str]) -> bool:
    """Return whether a word is there without, and in the other prompt with, a prefix that turns it round."""
    return any(prefix + word in others for word in words - others if len(word) > 2 for prefix in _NEGATING)


def _same_frame(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Return whether two prompts ask the same in the same words, or are not of one mould."""
    if one == other:
        return bool(one)
    if min(len(one), len(other)) < LEAST_WORDS or Counter(one) == Counter(other):
        return False
    return 2 * _in_common(one, other) < max(len(one), len(other)) and not _within(one, other)


def _within(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Return whether one has all words of the other, in order, and more."""
    return _in_common(one, other) == min(len(one), len(other))


def _in_common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for at, theirs in enumerate(other, 1):
            before, row[at] = row[at], before + 1 if word == theirs else max(row[at], row[at - 1])
    return row[-1]
