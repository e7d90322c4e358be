"""What of a conversation goes into the next prompt, and so what a session's history keeps.

A provider that has seen the beginning of a prompt before reads it from its prompt cache, for less money and
in less time. So a prompt only ever grows at its end, until it is over its budget; then the oldest turns go
all at once, down to 70% of it, and the next prompts grow again:

    system prompt │ turn 7  turn 8  turn 9  turn 10 │ question        at most 100%
    system prompt │                 turn 9  turn 10 │ question        70%: a new prefix, once

The stored history is the only state of this: nothing has to be remembered beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from gateway.core.budget import Budget, Tiles
from gateway.core.tokens import REPLY_TOKENS, at_most, message_tokens
from gateway.core.values import Image, Message

KEEP: Final = 0.7
"""What is left of a budget when something has to go."""
PICTURE_GONE: Final = "(There was a picture here.)"


def fitted(
    history: Sequence[Message], budget: Budget, beside: Sequence[Message] = (), *, asking: bool = False
) -> tuple[Message, ...]:
    """Return what of `history` may stay, given what is asked `beside` it: system prompt and question.

    Whole turns go, oldest first. The end stays whatever its size, unless `asking`: then the question is the
    end. Of the pictures those of the last message that has any are kept, because the next question may be
    about them; in place of the others a few words say that there were some.
    """
    if not budget.messages:
        return ()
    messages = _without_old_pictures(history)
    if _holds(messages, budget, beside, 1.0):
        return messages
    turns = _turns(messages)
    while turns and (asking or len(turns) > 1) and not _holds(_joined(turns), budget, beside, KEEP):
        del turns[0]
    messages = _joined(turns)
    if asking:
        return messages if _holds(messages, budget, beside, 1.0) else ()
    # One turn alone is too large: its end stays.
    while len(messages) > 1 and not _holds(messages, budget, beside, 1.0):
        messages = messages[1:]
    return messages


def with_system(system_prompt: str, history: Sequence[Message]) -> tuple[Message, ...]:
    """Return system prompt and history as a prompt has them, for a question to follow."""
    return (*((Message("system", (system_prompt,)),) if system_prompt else ()), *history)


def _holds(messages: Sequence[Message], budget: Budget, beside: Sequence[Message], share: float) -> bool:
    """Say whether the history is within that share of every limit."""
    if len(messages) > share * budget.messages:
        return False
    if sum(len(message.text) for message in messages) > share * budget.chars:
        return False
    for weigh in (at_most, message_tokens):
        if _weight((*beside, *messages), budget.tiles, weigh) <= share * budget.tokens:
            return True
    return False


def _weight(messages: Sequence[Message], tiles: Tiles, weigh: Callable[[Message, Tiles], float]) -> float:
    return REPLY_TOKENS + sum(weigh(message, tiles) for message in messages)


def _turns(messages: tuple[Message, ...]) -> list[list[Message]]:
    """Cut a history into turns: a user's message and what follows it."""
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def _joined(turns: Sequence[Sequence[Message]]) -> tuple[Message, ...]:
    return tuple(message for turn in turns for message in turn)


def _without_old_pictures(history: Sequence[Message]) -> tuple[Message, ...]:
    pictured = [number for number, message in enumerate(history) if _has_picture(message)]
    messages = list(history)
    for number in pictured[:-1]:
        parts = (PICTURE_GONE if isinstance(part, Image) else part for part in messages[number].parts)
        # Several pictures leave one remark.
        messages[number] = replace(messages[number], parts=tuple(dict.fromkeys(parts)))
    return tuple(messages)


def _has_picture(message: Message) -> bool:
    return any(isinstance(part, Image) for part in message.parts)
