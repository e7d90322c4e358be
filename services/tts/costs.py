"""What steps cost: learned from those that ran. Workers import this module: standard library only."""

from typing import Final

from services.tts.engines.base import Step

_WEIGHT: Final = 0.2
_OUTLIER: Final = 3.0
"""One run counts at most as this many times what is known: a page fault or a rival is no trend."""


class Costs:
    """How long a batch of a size takes for a step, in nanoseconds."""

    def __init__(self) -> None:
        self._known_ns: dict[tuple[Step, int], float] = {}

    def of(self, step: Step, size: int) -> int | None:
        """Return the cost; None before it ever ran."""
        known = self._known_ns.get((step, size))
        return None if known is None else int(known)

    def at_most(self, step: Step, size: int) -> int | None:
        """Return the cost, or what it cannot be above by that of smaller batches; None before any ran."""
        known = self.of(step, size)
        if known is not None or size == 1:
            return known
        smaller = self.at_most(step, size // 2)
        return None if smaller is None else smaller * size // (size // 2)

    def learn(self, step: Step, size: int, took_ns: int) -> None:
        """Take one run. A first one that was slow (lazy start) is forgotten soon: less weighs more."""
        known = self._known_ns.get((step, size))
        if known is None:
            self._known_ns[step, size] = took_ns
        elif took_ns < known:
            self._known_ns[step, size] = known + 2 * _WEIGHT * (took_ns - known)
        else:
            self._known_ns[step, size] = known + _WEIGHT * (min(took_ns, _OUTLIER * known) - known)
