"""Where the vectors of prompts are: by context, so that nothing else is ever compared.

    context (tenant, model, parameters, all messages before the last)
       └─ rows ── unit vectors, float32, one below the other: one matrix product compares all
                  keys of the replies, guards of the prompts

A context has at most so many prompts: the oldest goes first. All take at most so many bytes: the contexts
that were used least recently go first. What this knows are keys; whether there is a reply is for others
to say.

Imported only where similar prompts are switched on: it needs numpy.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from services.cache.guard import Guard
from services.cache.keys import StoredKey

MOST_CANDIDATES: Final = 8
"""So many of the nearest are looked at by their words."""
_ROW_BYTES: Final = 700
"""Of a row, beside its vector and its guard: its key, its places in two tables."""
_CONTEXT_BYTES: Final = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """What is near enough."""

    key: StoredKey | None
    """The nearest whose words allow it; None where there is none."""
    similarity: float = 0.0
    """Its cosine."""
    guarded: int = 0
    """Nearer ones that the words forbade."""


@dataclass(slots=True)
class _Row:
    key: StoredKey
    guard: Guard


class _Context:
    """The prompts of one context: row n of the matrix is that of `rows[n]`."""

    def __init__(self, dimensions: int) -> None:
        self.matrix = np.zeros((1, dimensions), np.float32)
        self.rows: list[_Row] = []
        self.guards_bytes = 0
        self.places: dict[str, int] = {}
        """Name of the key to its row, oldest first."""

    @property
    def bytes(self) -> int:
        return _CONTEXT_BYTES + int(self.matrix.nbytes) + self.guards_bytes + len(self.rows) * _ROW_BYTES

    def add(self, row: _Row, vector: Any) -> None:
        self.remove(row.key.name)
        at = len(self.rows)
        if at == len(self.matrix):
            self._resize(2 * at)
        self.matrix[at] = vector
        self.rows.append(row)
        self.guards_bytes += row.guard.size_bytes
        self.places[row.key.name] = at

    def remove(self, name: str) -> None:
        at = self.places.pop(name, None)
        if at is None:
            return
        self.guards_bytes -= self.rows[at].guard.size_bytes
        last = self.rows.pop()
        if at < len(self.rows):  # the last takes its place
            self.rows[at] = last
            self.matrix[at] = self.matrix[len(self.rows)]
            self.places[last.key.name] = at
        if len(self.rows) <= len(self.matrix) // 4:
            self._resize(max(1, len(self.matrix) // 2))

    def _resize(self, rows: int) -> None:
        matrix = np.zeros((rows, self.matrix.shape[1]), np.float32)
        matrix[: len(self.rows)] = self.matrix[: len(self.rows)]
        self.matrix = matrix


class SimilarIndex:
    """The vectors of all contexts. Not for use by more than one thread.

    Args:
        limit_bytes: What they may take together.
        context_entries: Prompts of one context.

    """

    def __init__(self, *, limit_bytes: int, context_entries: int) -> None:
        self._limit_bytes = limit_bytes
        self._context_entries = context_entries
        self._contexts: OrderedDict[str, _Context] = OrderedDict()
        self._context_of: dict[str, str] = {}
        self.dimensions = 0
        """Of the vectors; 0 until there was one."""
        self.bytes = 0

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self._context_of)

    def __contains__(self, key: StoredKey) -> bool:
        """Return whether there is a vector for the prompt of this key."""
        return key.name in self._context_of

    def vector(self, numbers: Sequence[float]) -> Any:
        """Return the unit vector of an embedding.

        Raises:
            ValueError: It is none: empty, of another length than the others, not finite, or zero.

        """
        try:
            vector = np.asarray(numbers, np.float64)
        except OverflowError:
            raise ValueError("the embedding has a number that is too large") from None
        if vector.ndim != 1 or not vector.size:
            raise ValueError("the embedding is not a list of numbers")
        if self.dimensions not in (0, vector.size):
            raise ValueError(f"the embedding has {vector.size} numbers, those before had {self.dimensions}")
        largest = float(np.abs(vector).max())
        if not np.isfinite(largest) or largest <= 0:
            raise ValueError("the embedding has no direction")
        vector = vector / largest  # squares of what is tiny are zero, of what is huge infinite
        self.dimensions = int(vector.size)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    def known(self, context: str) -> bool:
        """Return whether there is anything to compare with in a context."""
        return context in self._contexts

    def find(self, context: str, vector: Any, guard: Guard, threshold: float) -> Found:
        """Return the nearest of a context that `guard` allows, with a cosine of at least `threshold`."""
        there = self._contexts.get(context)
        if there is None:
            return Found(None)
        self._contexts.move_to_end(context)
        cosines = there.matrix[: len(there.rows)] @ vector
        near = np.flatnonzero(cosines >= threshold)
        guarded = 0
        for at in near[np.argsort(-cosines[near], kind="stable")][:MOST_CANDIDATES]:
            row = there.rows[int(at)]
            if guard.allows(row.guard):
                return Found(row.key, float(cosines[at]), guarded)
            guarded += 1
        return Found(None, guarded=guarded)

    def add(self, context: str, key: StoredKey, vector: Any, guard: Guard) -> None:
        """Keep the vector of the prompt whose reply has this key, and make room for it."""
        self.remove(key)
        there = self._contexts.get(context)
        if there is None:
            there = self._contexts[context] = _Context(self.dimensions)
            self.bytes += there.bytes
        self._contexts.move_to_end(context)
        before = there.bytes
        there.add(_Row(key, guard), vector)
        self.bytes += there.bytes - before
        self._context_of[key.name] = context
        if len(there.rows) > self._context_entries:
            self._drop(next(iter(there.places)))
        while self.bytes > self._limit_bytes and len(self._contexts) > 1:
            self._drop_context(next(iter(self._contexts)))
        while self.bytes > self._limit_bytes and there.rows:
            self._drop(next(iter(there.places)))

    def remove(self, key: StoredKey) -> None:
        """Forget the prompt of a reply that is gone; does nothing where it is not there."""
        if key.name in self._context_of:
            self._drop(key.name)

    def _drop(self, name: str) -> None:
        context = self._context_of.pop(name)
        there = self._contexts[context]
        before = there.bytes
        there.remove(name)
        self.bytes += there.bytes - before
        if not there.rows:
            self._drop_context(context)

    def _drop_context(self, context: str) -> None:
        there = self._contexts.pop(context)
        self.bytes -= there.bytes
        for name in there.places:
            del self._context_of[name]
