"""The words of a prompt that stand out."""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Final

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_ENDS_SENTENCE = re.compile(r"\s*(?:[?!.]|$)")
_SCANNED_CHARS: Final = 8_000
_OPENING_WORDS: Final = 6
_TOPICS: Final = 3
_TOPIC_CHARS: Final = 32
_PHRASE_WORDS: Final = 3

# Words that carry no topic: grammar, requests and politeness; the commonest of other languages too.
_COMMON_WORDS: Final = """
    a about above after again against ain't all also always am an and any anyone anything are aren't around as
    ask at away back be because been before being below between both but by call came can can't cannot come
    could couldn't day did didn't do does doesn't doing don't done down during each either else enough even
    ever every everyone everything explain describe few find first for from further gave get gets give given
    go goes going gone good got had hadn't has hasn't have haven't having he he's hello hence her here here's
    hers herself hey hi him himself his how however i i'd i'll i'm i've if in inside instead into is isn't it
    it's its itself just keep kind know last least less let let's like list little lot made make makes many
    may maybe me mean means might mine more most much must my myself name need needs neither never new next
    no nobody none nor not nothing now of off often oh ok okay on once one ones only onto or other others
    ought our ours ourselves out outside over own per perhaps please put quite rather really said same say
    says see seem seems sentence sentences several shall she she's should shouldn't show simple since so some
    someone something sometimes somewhat still such sure take talk tell than thank thanks that that's the
    their theirs them themselves then there there's these they they're thing things think this those though
    through thus to today together too toward towards try two under unless until up upon us use used using
    usually very want wants was wasn't way we we'd we'll we're we've well went were weren't what what's when
    where whether which while who who's whole whom whose why will with within without won't word words work
    works would wouldn't write yes yet you you'd you'll you're you've your yours yourself yourselves
    begin best better build built cause causes happen happens help helps learn mention start
    à al aux avec che ce ces cette como con cómo cuál da dans das de del della den der des di die dos du
    ein eine el elle en es est et être il im ist la las le les lo los mais mein mit nous oder ou où para pas
    por porque pour pourquoi qual que quel quelle qué qui sein sie son sont sur um un una und une uno von
    vous warum wer wie y zu zum zur è é
    """
_COMMON: Final = frozenset(_COMMON_WORDS.split())
_YES_OR_NO_WORDS: Final = """
    am are can could did do does had has have is may might must shall should was were will would
    """
_YES_OR_NO: Final = frozenset(_YES_OR_NO_WORDS.split())
_QUESTION_WORDS: Final = ("why", "how", "what", "who", "where", "when", "which")
_QUESTION_MARKS: Final = ("?", "\uff1f", "\u061f")
_ASK_OF_PREDICATE: Final = ("why", "how", "yes or no")


@dataclass(frozen=True)
class Topics:
    """The words of a prompt that stand out, in the order of the prompt."""

    phrases: tuple[str, ...]

    def __str__(self) -> str:
        """Return them as a list that can be spoken: "a", "a and b", "a, b and c"."""
        if len(self.phrases) < 2:
            return "".join(self.phrases)
        return f"{', '.join(self.phrases[:-1])} and {self.phrases[-1]}"


def topics_of(prompt: str) -> Topics:
    """Return up to three salient words or short phrases of `prompt`, which may be in any language."""
    prompt = prompt[:_SCANNED_CHARS]
    has_predicate = question_kind_of(prompt) in _ASK_OF_PREDICATE
    runs: list[list[str]] = []
    end = -1
    for match in _WORD.finditer(prompt):
        word = match.group()[:_TOPIC_CHARS]
        key = _key(word)
        if key in _COMMON or (len(key) == 1 and key.isascii()):
            end = -1
            continue
        adjoins = end >= 0 and prompt[end : match.start()] == " "
        # "Why is the sky blue", "do black holes form": the last word says something of those before it.
        is_predicate = has_predicate and _ENDS_SENTENCE.match(prompt, match.end())
        if adjoins and len(runs[-1]) < _PHRASE_WORDS and not is_predicate:
            runs[-1].append(word)
        else:
            runs.append([word])
        end = match.end()
    phrases: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for run in runs:
        phrase = " ".join(run)
        phrases.setdefault(_key(phrase), phrase)
        counts[_key(phrase)] += 1
    # Phrases that come often matter most, then long ones; equal ones in the order of the prompt.
    ranked = sorted(phrases, key=lambda key: (-counts[key], -min(len(key), 8)))[:_TOPICS]
    return Topics(tuple(phrases[key] for key in phrases if key in ranked))


def question_kind_of(prompt: str) -> str:
    """Return "why", "how", "what", "who", "where", "when", "which", "yes or no", "other", or "" for none."""
    # "Hello, what is …" and "Tell me why …" ask as well as "Why …" does.
    matches = islice(_WORD.finditer(prompt), _OPENING_WORDS)
    words = [_key(match.group()).removesuffix("'s") for match in matches]
    for word in words:
        if word in _QUESTION_WORDS:
            return word
    if not any(mark in prompt for mark in _QUESTION_MARKS):
        return ""
    return "yes or no" if words and words[0] in _YES_OR_NO else "other"


def _key(phrase: str) -> str:
    return phrase.casefold().replace("\u2019", "'")
