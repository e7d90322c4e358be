"""Where a reply goes on behind text that was already said: says nothing of it again.

    said:         … because short waves of light are scattered
    continuation:              waves of light are scattered more than long ones.
                               └── said already: dropped ──┘

Both are compared word by word, without regard to case and blanks. The longest end of what was said that
the continuation begins with is dropped. A continuation that begins the whole reply anew, and goes on in
other words, cannot be joined: `RestartedError`.
"""

import re
import unicodedata
from typing import Final

LEAST_WORDS: Final = 2
"""A model that was asked to go on and says one word twice may mean it."""
EXACT_LEAST_WORDS: Final = 4
"""The same where the server itself promises to go on."""
RESTART_WORDS: Final = 4
"""So many words as at the beginning of the reply are no accident."""
_WORD: Final = re.compile(r"(?<!\w)\w|[^\w\s]")
_FRAGMENT: Final = re.compile(r"\w{1,32}\Z")
_OPENING: Final = "([{\u201c\u2018\u00ab\u00bf\u00a1-\u2013\u2014/'\u2019"


class RestartedError(Exception):
    """The model began its reply anew, in other words."""


class Seam:
    """Takes the continuation in pieces and gives what was not said yet.

    Holds back what may still be a repetition: no more than what was said.

    Args:
        said: What was said, as it was told.
        exact: The server goes on where the text ends, in the middle of a word if need be.

    Attributes:
        prefix: What the model is told that it said: without a last word that may be half of one, unless
            `exact`. That word is what the continuation is expected to begin with.

    """

    def __init__(self, said: str, *, exact: bool) -> None:
        self.exact = exact
        self._said = said
        fragment = None if exact or not said or _is_wide(said[-1]) else _FRAGMENT.search(said)
        self.prefix = said[: fragment.start()].rstrip() if fragment else said
        self._least = EXACT_LEAST_WORDS if exact else LEAST_WORDS
        self._known = _Folded(said).text
        self._fragment_start = len(self._known) - len(_Folded(fragment.group()).text) if fragment else -1
        starts = {0, *(match.start() for match in _WORD.finditer(self._known))}
        if fragment:
            starts.add(self._fragment_start)
        self._alive = sorted(starts) if self._known else []
        self._dropped = 0
        self._restarted = False
        self._held = ""
        self._folded = _Folded()
        self._open = True

    def feed(self, text: str) -> str:
        """Return what is new of what came so far and was not returned.

        Raises:
            RestartedError: See the module.

        """
        if not self._open:
            return text
        self._held += text
        self._folded.feed(text)
        return self._decide(at_end=False)

    def end(self) -> str:
        """Return what was held back and is new; the continuation is complete."""
        return self._decide(at_end=True) if self._open else ""

    def _decide(self, *, at_end: bool) -> str:
        blanks = len(self._held) - len(self._held.lstrip())
        folded = self._folded.text
        if not folded and not at_end:
            return ""
        still: list[int] = []
        for start in self._alive:
            length = len(self._known) - start
            # One character more shows whether its last word is that word.
            if length > len(folded) or (length == len(folded) and not at_end):
                if self._known.startswith(folded, start):
                    still.append(start)
                elif start == 0:
                    self._restarted = self._is_restart(folded)
            elif folded.startswith(self._known[start:]):
                if self._counts(start, length, folded):
                    self._dropped = max(self._dropped, length)
            elif start == 0:
                self._restarted = self._is_restart(folded)
        self._alive = still
        if still and not at_end:
            return ""
        self._open = False
        if any(self._counts(start, len(folded), folded) for start in still):
            return ""  # it ends within a repetition: all of that was said
        if self._restarted and not self._dropped:
            raise RestartedError
        cut = self._folded.places[self._dropped - 1] + 1 if self._dropped else blanks
        return self._join(self._held[cut:], repeated=bool(self._dropped), blanks=self._held[:blanks])

    def _counts(self, start: int, length: int, folded: str) -> bool:
        """Say whether a repetition of so many characters is one, and no accident."""
        if start == self._fragment_start:
            return True
        # What was said may end in the middle of a word, unless a blank follows it.
        if self._said[-1].isspace() and length < len(folded) and _splits_word(folded, length):
            return False
        return (start == 0 and not self.exact) or len(folded[:length].split()) >= self._least

    def _is_restart(self, folded: str) -> bool:
        same = 0
        for mine, theirs in zip(self._known.split(), folded.split(), strict=False):
            if mine != theirs:
                break
            same += 1
        return same >= RESTART_WORDS

    def _join(self, text: str, *, repeated: bool, blanks: str) -> str:
        if repeated:
            return text.lstrip() if self._said[-1:].isspace() else text
        if self.exact:
            return blanks + text
        if self._said[-1:].isspace() or not self._said:
            return text
        if blanks:
            return blanks + text
        last, first = self._said[-1], text[:1]
        joins = last in _OPENING or not first or _is_wide(last) or _is_wide(first)
        begins_word = first.isalnum() or unicodedata.category(first or "a") in ("Ps", "Pi")
        return text if joins or not begins_word else f" {text}"


class _Folded:
    """A text in lower case with single blanks between words, in pieces: each character is looked at once.

    Attributes:
        text: What came so far, without blanks around it.
        places: For each character of that its place in what came.

    """

    def __init__(self, text: str = "") -> None:
        self.text = ""
        self.places: list[int] = []
        self._length = 0
        self._blank = -1
        self.feed(text)

    def feed(self, text: str) -> None:
        """Take more."""
        folded: list[str] = []
        for place, char in enumerate(text, self._length):
            if char.isspace():
                if self._blank < 0 and self.places:
                    self._blank = place
                continue
            if self._blank >= 0:
                folded.append(" ")
                self.places.append(self._blank)
                self._blank = -1
            for part in char.lower():
                folded.append(part)
                self.places.append(place)
        self.text += "".join(folded)
        self._length += len(text)


def _splits_word(text: str, at: int) -> bool:
    return text[at - 1].isalnum() and text[at].isalnum() and not _is_wide(text[at])


def _is_wide(char: str) -> bool:
    """Say whether a character is of a script that sets no blanks between words."""
    return bool(char) and unicodedata.east_asian_width(char) in ("W", "F")
