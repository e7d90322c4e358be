"""What the rehearsal model says: scripted sentences about the words that stand out in a prompt."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from services.llm.core.topics import question_kind_of, topics_of

TEXT_VERSION: Final = "2"
"""Changes with every change of what is said, because replies are cached by it."""

OPENING: Final = "This is a rehearsal, so a script is speaking, not a model."

_LEADS: Final = {
    "why": "You want to know why, and the answer has to do with {topics}.",
    "how": "You want to know how, so the way through {topics} matters most.",
    "what": "You want to know what there is to say about {topics}.",
    "who": "You want to know who, and the trail leads through {topics}.",
    "where": "You want to know where, and the map to look at is {topics}.",
    "when": "You want to know when, and the clock to watch is {topics}.",
    "which": "You want to choose, and the choice is about {topics}.",
    "yes or no": "You want a yes or a no, and that depends on {topics}.",
    "other": "You have a question, and at its heart is {topics}.",
    "": "You brought up {topics}, so let me stay with that.",
}
_PREVIOUS: Final = "A moment ago it was {previous}, and I have not forgotten."


@dataclass(frozen=True)
class _Family:
    """Ways to speak of a topic: `alone`, or `paired` with a second one; then the `end`."""

    alone: str
    paired: str
    end: str


_FAMILIES: Final = (
    _Family(
        alone="Start with {first}. Everything else leans on it, much as a house leans on its floor.",
        paired="Start with {first}. Once that is clear, {second} falls into place beside it.",
        end="Most people find that a short answer is enough. A real model would add the facts, and you "
        "would hear them in just this voice.",
    ),
    _Family(
        alone="Picture {first} on a table in front of you. Turn it slowly, and say aloud what you notice.",
        paired="Picture {first} on one side of a table, and {second} on the other. What passes between "
        "them is the part worth telling.",
        end="That is where a good answer begins. Connect a real model, ask me again, and it will go on "
        "from here.",
    ),
    _Family(
        alone="There are two ways to look at {first}. One is to ask where it comes from; the other is to "
        "ask what follows from it.",
        paired="There are two ways to look at {first}. One is to take it alone, and the other is to hold "
        "it against {second} and see what changes.",
        end="Both are worth a minute of your time. With a real model behind this voice, you would get "
        "the details as well.",
    ),
    _Family(
        alone="If a friend asked me about {first}, I would begin with a small example. Small examples are "
        "easy to follow, and they are hard to forget.",
        paired="If a friend asked me about {first}, I would begin with a small example. Then I would "
        "bring in {second}, because one explains the other.",
        end="After that, the rest is practice. A real model would choose the example for you, and it "
        "would choose well.",
    ),
)

_NO_TOPIC: Final = (
    "I found no topic in what you sent, so there is little to speak about. Still, you can hear how a reply "
    "sounds, and how soon it starts. Try a question with a few plain words in it. I will build the next "
    "answer around them."
)


def compose(prompt: str, earlier_prompts: Sequence[str] = ()) -> str:
    """Return the reply to `prompt`: always the same for the same conversation.

    Four to seven sentences. The first says that this is a rehearsal. `earlier_prompts`, oldest
    first, are what the person said before; the last one's topic is referred to.
    """
    topics = topics_of(prompt)
    if not topics.phrases:
        return f"{OPENING} {_NO_TOPIC}"
    family = _FAMILIES[hashlib.sha256(prompt.encode("utf-8", "replace")).digest()[0] % len(_FAMILIES)]
    names = {
        "topics": str(topics),
        "first": topics.phrases[0],
        "second": topics.phrases[min(1, len(topics.phrases) - 1)],
        "previous": str(topics_of(earlier_prompts[-1])) if earlier_prompts else "",
    }
    sentences = [OPENING, _LEADS[question_kind_of(prompt)]]
    if names["previous"]:
        sentences.append(_PREVIOUS)
    sentences += [family.paired if len(topics.phrases) > 1 else family.alone, family.end]
    return " ".join(sentence.format(**names) for sentence in sentences)


def tokens_of(text: str) -> list[str]:
    """Cut `text` into pieces as a model's tokenizer would: about four characters, spaces in front.

    The pieces joined are `text`.
    """
    pieces: list[str] = []
    for match in re.finditer(r"\s*(?:\w+|[^\w\s]+)|\s+$", text):
        piece = match.group()
        spaces = len(piece) - len(piece.lstrip())
        # A word of up to six letters is one token; a longer one is cut into pieces of four and a rest.
        size = len(piece) - spaces
        if size <= 6:
            pieces.append(piece)
            continue
        cuts = [0, *range(spaces + 4, len(piece), 4), len(piece)]
        pieces += [piece[start:end] for start, end in pairwise(cuts)]
    return pieces
