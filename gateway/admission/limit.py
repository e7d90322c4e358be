"""How many turns the mesh can take at once, learned from how late engines are with their audio.

     turns      cut: what ran, less what waits
       │───────╮      ╭╮     ╭╮          ╭╮            trials of one turn more: the next one comes
       │       ╰──╮ ╭─╯╰─────╯╰──────────╯╰─────────   after twice as long, where one failed
       │          ╰─╯
       └──────────────────────────────────> time

What counts is lateness that only load explains: the time that a chunk waited for an engine beyond the moment
its listener needed it, and an engine's service that answers later than it usually does. How long a model
thinks, or an engine takes for a chunk that it has begun with, is no sign of load, and is not looked at.

Each decision is made of turns that were admitted behind the one before it: nothing is cut twice for the same
crowd, however late its consequences show, and so the limit does not hunt. One or two outliers in a window
decide nothing, but that a trial is over. While the limit is not used there is nothing to learn, and it stays.
Before anything was cut, and when many trials in a row went well, it grows by a quarter at a time.

Sans-I/O: times are passed in, in nanoseconds.
"""

from collections import deque
from typing import Final

WINDOW: Final = 12
"""Samples of a decision."""
_LEAST: Final = 6
"""Samples of one that is urgent, or slow to come."""
_HIGH: Final = 0.85
"""Share of a window that must be in time: two samples of twelve may be late."""
_SLOW_NS: Final = 1_000_000_000
"""With fewer samples a decision waits so long for more."""
_USED: Final = 0.7
"""A limit of which less is used need not grow."""
_STEEP: Final = 1.25
_MOST_PATIENCE: Final = 16
"""Windows between two trials, at most: few of those let in shall be who shows that it was too many."""
_EASY: Final = 0.6
"""While no more of the limit is used than this, the crowd that taught patience has gone."""
_FAR: Final = 3
"""So many trials in a row,"""
_FAR_SHARE: Final = 0.2
"""and as many as this share of the limit, went well: the mesh is another, and the cut is forgotten."""
_DEEP: Final = 0.7
"""An urgent cut leaves at least this share of what ran, unless more of it is known to wait,"""
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
        self._was_cut = False
        self._trial = False
        self._went_well = 0
        self._patience = 1
        """Windows in time before the next trial."""
        self._waited = 0
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
        if (
            (len(window) == WINDOW and (first or _high(window) > self._target_ms))
            or (len(window) >= _LEAST and ((first and slow and not self._trial) or self._urgent(window)))
            or (self._trial and self._failed(window))
        ):
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
            # What runs and does not wait is what fits.
            self._decide(turns, now_ns, len(late_ms))

    def _urgent(self, window: "deque[float] | list[float]") -> bool:
        """Say whether half of a window is twice as late as is accepted."""
        return sorted(window)[len(window) // 2] > 2 * self._target_ms

    def _failed(self, window: "deque[float]") -> bool:
        """Say whether a window shows, full or not, that the trial was one turn too many.

        The first that is late decides: while the trial goes on, nearly everybody waits who is let in.
        """
        return any(late_ms > self._target_ms for late_ms in window)

    def _decide(self, turns: float, now_ns: int, waiting: int = 0) -> None:
        late_ms = max(_high(self._first), _high(self._later))
        self.late_ms = late_ms
        before = self._limit
        if self._trial and not waiting and (self._failed(self._first) or self._failed(self._later)):
            self._limit -= 1
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
            self._trial, self._went_well, self._waited = False, 0, 0
            self.cuts += 1
        elif late_ms > self._target_ms:
            urgent = any(len(window) and self._urgent(window) for window in (self._first, self._later))
            self._cut(late_ms, _DEEP if urgent else _SHALLOW, waiting)
        elif late_ms <= self._target_ms / 2 and self._may_grow(turns):
            self._grow(turns)
        self._limit = min(max(self._limit, self._least), self._most)
        if self._limit != before:
            self.epoch += 1
        self._first.clear()
        self._later.clear()
        self._older_late = False
        self._peak = turns
        self._decided_ns = now_ns

    def _grow(self, turns: float) -> None:
        """Raise the limit, or wait with that."""
        if turns <= _EASY * self._limit:
            self._patience = 1  # a trial costs little while few come so far
        if self._trial:
            if self._peak <= self._limit - 1:
                return  # nobody took the place that is tried
            self._trial = False
            self._patience = max(1, self._patience // 2)
            self._went_well += 1
            if self._went_well >= max(_FAR, _FAR_SHARE * self._limit):
                self._was_cut = False
        if not self._was_cut:
            self._limit = max(self._limit + 1, self._limit * _STEEP)
            return
        self._waited += 1
        if self._waited >= self._patience:
            self._waited, self._trial = 0, True
            self._limit += 1

    def _cut(self, late_ms: float, deepest: float, waiting: int) -> None:
        """Lower the limit to a share of what ran: a limit that nobody reached says nothing."""
        ran = min(self._limit, max(self._peak, 1.0))
        self._limit = min(ran * max(deepest, (self._target_ms / late_ms) ** 0.5), ran - waiting)
        self._was_cut = True
        self._trial, self._went_well, self._waited = False, 0, 0
        self.cuts += 1

    def _may_grow(self, turns: float) -> bool:
        """Say whether it is used, and those that it holds have gone below it since it was cut."""
        return not self._older_late and self._peak >= _USED * self._limit and turns <= self._limit + 1


def _high(window: "deque[float]") -> float:
    """Return what most of a window is below; 0 where there is too little of it."""
    if len(window) < _LEAST:
        return 0.0
    return sorted(window)[int(_HIGH * (len(window) - 1) + 0.5)]
