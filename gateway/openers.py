"""The audio of the words that replies usually begin with, looked up while the LLM thinks."""

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from dataclasses import replace
from typing import Final

from gateway.core import actions as do
from gateway.core import events as on

_FORESEEN: Final = -1
"""The index of a lookup that no chunk has asked for."""
_LAST: Final = 8
"""Replies of one kind that are remembered."""
_USUAL: Final = 2
"""An opener is usual where it began this many of them."""
_MAX_KINDS: Final = 1024
_MAX_CHARS: Final = 200


class Openers:
    """The first chunks of the last replies, by kind: what is alike in what makes replies begin alike.

    A kind is known by its hash: there may be a long system prompt in it, and a thousand of those are not to
    be kept. Two kinds with the same one cost a lookup in vain.
    """

    def __init__(self) -> None:
        self._kinds: OrderedDict[int, deque[str]] = OrderedDict()

    def note(self, kind: Hashable, text: str) -> None:
        """Note how a reply began."""
        if len(text) > _MAX_CHARS:
            return
        known_by = hash(kind)
        self._kinds.setdefault(known_by, deque(maxlen=_LAST)).append(text)
        self._kinds.move_to_end(known_by)
        if len(self._kinds) > _MAX_KINDS:
            self._kinds.popitem(last=False)

    def usual(self, kind: Hashable) -> str:
        """Return how replies of this kind usually begin; "" where they begin differently."""
        ((text, count),) = Counter(self._kinds.get(hash(kind), ())).most_common(1) or [("", 0)]
        return text if count >= _USUAL else ""


class Foresight:
    """What one turn asks the cache for before it knows that it needs it.

        StartLlm ── guess ──> lookup ── keep ──┐
        first chunk ── answer ──> is it that? ─┴─ yes: its audio is in hand; no: it is looked up

    Args:
        openers: Of all turns.
        kind: Of this turn's reply.

    """

    def __init__(self, openers: Openers, kind: Hashable) -> None:
        self._openers = openers
        self._kind = kind
        self._guessing = False
        self._guessed = ""
        self._found: on.AudioFound | None = None

    def guess(self) -> do.LookUpAudio | None:
        """Return what is to be looked up ahead, if anything. Called while the LLM thinks."""
        self._guessing = True
        self._guessed = self._openers.usual(self._kind)
        return do.LookUpAudio(_FORESEEN, self._guessed) if self._guessed else None

    def keep(self, event: on.Event) -> bool:
        """Take the answer to a guess; return False for any other event."""
        if not isinstance(event, (on.AudioFound, on.AudioMissing)) or event.index != _FORESEEN:
            return False
        if isinstance(event, on.AudioFound):
            self._found = event
        return True

    def answer(self, action: do.LookUpAudio) -> on.AudioFound | None:
        """Return the audio that a chunk asks for, where it is in hand."""
        if action.index != 0 or not self._guessing:
            return None  # words that no LLM writes begin like nothing else
        self._openers.note(self._kind, action.text)
        found, self._found = self._found, None
        if found is None or action.text != self._guessed:
            return None
        return replace(found, index=0, server_us=0)  # the time that the cache took was nobody's
