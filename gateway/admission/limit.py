"""How many turns the mesh can take at once, learned from how late engines are with their audio.

     turns            cut: most of a window are late        limit
       │        ╭────╮    ╭─╮╭──╮╭───── near the last cut it grows by one
       │   ╭────╯    ╰────╯ ╰╯  ╰╯
       │───╯  it grows by a quarter while it is used and nobody waits
       └──────────────────────────────────> time

What counts is lateness that only load explains: the time that a chunk waited for an engine beyond the moment
its listener needed it, and an engine's service that answers later than it usually does. How long a model
thinks, or an engine takes for a chunk that it has begun with, is no sign of load, and is not looked at.

Each decision is made of turns that were admitted behind the one before it: nothing is cut twice for the same
crowd, however late its consequences show, and so the limit does not hunt. One or two outliers in a window
decide nothing. While the limit is not used there is nothing to learn, and it stays.

Sans-I/O: times are passed in, in nanoseconds.
"""

from collections import deque
from typing import Final

WINDOW: Final = 12
"""Samples of a decision."""
_LEAST: Final = 6
"""Samples of one that is urgent, or slow to come."""
_HIGH: Final = 0.85
"""Share of a window that must be in time: one sample of six may be late."""
_SLOW_NS: Final = 1_000_000_000
"""With fewer samples a decision waits so long for more."""
_USED: Final = 0.7
"""A limit of which less is used need not grow."""
_STEEP: Final = 1.25
_NEAR: Final = 0.9
"""From this share of the last cut on, growth is by one turn a decision."""
_FAR: Final = 1.3
"""Beyond this multiple of it, the mesh has become another: the cut is forgotten."""
_DEEP: Final = 0.7
"""An urgent cut leaves at least this share of what ran,"""
_SHALLOW: Final = 0.85
"""and another one this."""


class AdaptiveLimit:
    """The limit of one gateway. See the module.

    Args:
        least: It never goes below.
        start: Where it begins.
        most: It never goes above.
        target_ms: Lateness that is accepted of those that are late.

    Attributes:
        epoch: Counts decisions that changed it; a turn keeps the one under which it was admitted.
        late_ms: What the last window showed.
        cuts: Times that it was lowered.

    """

    def __init__(self, *, least: int, start: int, most: int, target_ms: float) -> None:
        self._least = float(min(least, most))
        self._most = float(most)
        self._target_ms = target_ms
        self._limit = float(min(max(start, least), most))
        self._knee = 0.0
        self._peak = 0.0
        self._decided_ns = 0
        # The first audio of a turn and what follows it are told apart: a long reply has one of the first
        # kind, which must not be lost among the others.
        self._first: deque[float] = deque(maxlen=WINDOW)
        self._later: deque[float] = deque(maxlen=WINDOW)
        self._older_late = False
        self._latest_ms = 0.0
        self.epoch = 0
        self.late_ms = 0.0
        self.cuts = 0

    @property
    def turns(self) -> float:
        """How many turns may run."""
        return self._limit

    @property
    def target_ms(self) -> float:
        """Lateness that is accepted."""
        return self._target_ms

    def ran(self, turns: float, now_ns: int) -> None:
        """Say how many run, whenever that changes or one more wants to."""
        self._peak = max(self._peak, turns)
        if not self._decided_ns:
            self._decided_ns = now_ns
        if now_ns - self._decided_ns >= _SLOW_NS and not self._first and not self._later:
            # Nobody had anything of an engine: models think, or all was cached. That is no overload of ours.
            self._decide(turns, now_ns)

    def sample(self, epoch: int, late_ms: float, turns: float, now_ns: int, *, first: bool) -> None:
        """Take how late the audio of a chunk was, below zero for what was early.

        Args:
            epoch: Under which its turn was admitted.
            late_ms: How much later than it was needed an engine had it, without what it is slow by itself.
            turns: How many run.
            now_ns: The time.
            first: True for the first audio of a turn.

        """
        self._peak = max(self._peak, turns)
        self._latest_ms = late_ms
        if epoch != self.epoch:
            # Of a crowd that was judged already: no reason to cut again, and none to grow.
            self._older_late |= late_ms > self._target_ms
            return
        window = self._first if first else self._later
        window.append(max(0.0, late_ms))
        slow = now_ns - self._decided_ns >= _SLOW_NS
        if len(window) == WINDOW or (len(window) >= _LEAST and (slow or self._urgent(window))):
            self._decide(turns, now_ns)

    def overdue(self, late_ms: list[float], turns: float, now_ns: int) -> None:
        """Take how late those are already that wait for their first audio, admitted under this epoch.

        It counts while the last one that was answered had to queue: an engine that has become slow, or stands
        still, has its listeners wait as well.
        """
        if self._latest_ms < self._target_ms / 2:
            return
        seen = [*self._first, *late_ms]
        if len(late_ms) >= _LEAST // 2 and len(seen) >= _LEAST and self._urgent(seen):
            self._first.extend(late_ms)
            self._decide(turns, now_ns)

    def _urgent(self, window: "deque[float] | list[float]") -> bool:
        """Say whether half of a window is twice as late as is accepted."""
        return sorted(window)[len(window) // 2] > 2 * self._target_ms

    def _decide(self, turns: float, now_ns: int) -> None:
        late_ms = max(_high(self._first), _high(self._later))
        self.late_ms = late_ms
        before = self._limit
        if late_ms > self._target_ms:
            urgent = any(len(window) and self._urgent(window) for window in (self._first, self._later))
            self._cut(late_ms, _DEEP if urgent else _SHALLOW)
        elif late_ms <= self._target_ms / 2 and self._may_grow(turns):
            near = self._knee and self._limit >= _NEAR * self._knee
            self._limit = self._limit + 1 if near else max(self._limit + 1, self._limit * _STEEP)
            if self._limit > _FAR * self._knee:
                self._knee = 0.0
        self._limit = min(max(self._limit, self._least), self._most)
        if self._limit != before:
            self.epoch += 1
        self._first.clear()
        self._later.clear()
        self._older_late = False
        self._peak = turns
        self._decided_ns = now_ns

    def _cut(self, late_ms: float, deepest: float) -> None:
        """Lower the limit to a share of what ran: a limit that nobody reached says nothing."""
        ran = min(self._limit, max(self._peak, 1.0))
        self._knee = ran
        self._limit = ran * max(deepest, (self._target_ms / late_ms) ** 0.5)
        self.cuts += 1

    def _may_grow(self, turns: float) -> bool:
        """Say whether it is used, and those that it holds have gone below it since it was cut."""
        return not self._older_late and self._peak >= _USED * self._limit and turns <= self._limit + 1


def _high(window: "deque[float]") -> float:
    """Return what most of a window is below; 0 where there is too little of it."""
    if len(window) < _LEAST:
        return 0.0
    return sorted(window)[int(_HIGH * (len(window) - 1) + 0.5)]
