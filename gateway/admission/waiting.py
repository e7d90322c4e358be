"""Turns that wait for their first audio from an engine, and what engines usually take for it.

A crowd shows in this earlier than in what engines say of themselves: an answer says how long it waited when
the wait is over, and by then as many more have been let in.
"""

from typing import Final

from gateway.admission.limit import AdaptiveLimit

_LOOK_NS: Final = 20_000_000
_WEIGHT: Final = 0.1
_OUTLIER: Final = 3.0
_MOST_VOICES: Final = 256


class Usual:
    """A duration as it mostly is: a mean that forgets, and that one outlier does not move far. In ms."""

    __slots__ = ("ms",)

    def __init__(self) -> None:
        self.ms = 0.0
        """0 before anything was learned."""

    def learn(self, ms: float) -> None:
        """Take one duration."""
        if not self.ms:
            self.ms = ms
        self.ms += _WEIGHT * (min(ms, _OUTLIER * self.ms) - self.ms)


class Way:
    """How long the way to the TTS service and back takes by itself: the least, slowly forgotten."""

    __slots__ = ("ms",)

    def __init__(self) -> None:
        self.ms = -1.0

    def beyond(self, ms: float) -> float:
        """Take how long it took once; return how much that is beyond the usual."""
        if self.ms < 0 or ms < self.ms:
            self.ms = ms
        beyond_ms = ms - self.ms
        self.ms += 0.002 * beyond_ms
        return beyond_ms


class Waiting:
    """Who waits.

    Attributes:
        way: How long the way to the TTS service takes.

    """

    def __init__(self) -> None:
        self.way = Way()
        self._usual: dict[str, Usual] = {}
        # By number, in the order in which they asked.
        self._asked: dict[int, tuple[int, int, str]] = {}
        self._numbers = 0
        self._looked_ns = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._asked)

    def begin(self, epoch: int, voice: str, due_ns: int) -> int:
        """Take a turn that asks for its first audio, which is due then; return its number."""
        self._numbers += 1
        self._asked[self._numbers] = epoch, due_ns, voice
        return self._numbers

    def end(self, number: int) -> None:
        """Take one out, answered or not. Does nothing the second time."""
        self._asked.pop(number, None)

    def answered(self, voice: str, synthesis_ms: float) -> None:
        """Learn how long a voice's engine took from when it began with a chunk to its first frame."""
        usual = self._usual.get(voice)
        if usual is None:
            if len(self._usual) >= _MOST_VOICES:
                self._usual.clear()
            usual = self._usual[voice] = Usual()
        usual.learn(synthesis_ms)

    def look(self, limit: AdaptiveLimit, turns: float, now_ns: int) -> None:
        """Tell a limit of those that are overdue, if it is some time that it was told."""
        if not self._asked or now_ns - self._looked_ns < _LOOK_NS:
            return
        self._looked_ns = now_ns
        overdue = []
        for epoch, due_ns, voice in self._asked.values():
            usual = self._usual.get(voice)
            if epoch != limit.epoch or usual is None or not usual.ms:
                continue
            late_ms = (now_ns - due_ns) / 1e6 - usual.ms - max(0.0, self.way.ms)
            if late_ms > 2 * limit.target_ms:
                overdue.append(late_ms)
        if overdue:
            limit.overdue(overdue, turns, now_ns)
