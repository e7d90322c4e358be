"""Where the words of a text are in what became of it: letters with numbers spelled out, or phonemes.

A cleaner writes "12,345" as five words, espeak-ng speaks "for the" as one. Each word is put through the same
by itself; the results, in order, are nearly what became of the whole, and are laid over it.

Workers import this module: standard library only.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

_NEAR: Final = 3
"""A start so close to the beginning of a written word means that beginning."""


def starts(pieces: Sequence[str], whole: str) -> list[int]:
    """Return where in `whole` each of `pieces` begins: never before the one in front of it.

    Args:
        pieces: What became of each word by itself.
        whole: What became of all of them together.

    """
    return _found(pieces, whole) or _laid_over(pieces, whole)


def _found(pieces: Sequence[str], whole: str) -> list[int]:
    """Return where they are, one by one with nothing but marks between; empty where they are not."""
    found: list[int] = []
    end = 0
    for piece in pieces:
        at = whole.find(piece, end)
        if at < 0 or any(character.isalnum() for character in whole[end:at]):
            return []
        found.append(at)
        end = at + len(piece)
    return found


def _laid_over(pieces: Sequence[str], whole: str) -> list[int]:
    joined = " ".join(pieces)
    blocks = SequenceMatcher(None, joined, whole, autojunk=False).get_matching_blocks()
    begins = [at for at in range(len(whole)) if whole[at] != " " and (at == 0 or whole[at - 1] == " ")]
    found: list[int] = []
    position = least = 0
    for piece in pieces:
        at = _through(blocks, position)
        near = min(begins, key=lambda begin: abs(begin - at), default=at)
        least = max(least, near if abs(near - at) <= _NEAR else at)
        found.append(min(least, max(0, len(whole) - 1)))
        position += len(piece) + 1
    return found


def _through(blocks: Sequence[tuple[int, int, int]], position: int) -> int:
    """Return where `position` of the one text is in the other; between two blocks, in proportion."""
    left = right = 0
    for a, b, size in blocks:
        if position < a:
            return right + (position - left) * (b - right) // max(1, a - left)
        if position < a + size:
            return b + position - a
        left, right = a + size, b + size
    return right
