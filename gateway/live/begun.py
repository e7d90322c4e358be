"""How turns began, for as long as anybody may ask how they ended."""

from collections import OrderedDict

from gateway.record import REFUSED, TurnBegun, TurnEnded, TurnName


class Begun:
    """How the turns that run, and the last ones that ended, began.

    Args:
        most_running: Turns that may run at once.
        most_ended: Turns that ended of which there may still be a report.

    """

    def __init__(self, most_running: int, most_ended: int) -> None:
        self._most_running = most_running
        self._most_ended = most_ended
        self._running: OrderedDict[TurnName, TurnBegun] = OrderedDict()
        self._ended: OrderedDict[TurnName, TurnBegun] = OrderedDict()

    def __len__(self) -> int:
        """Turns that are known."""
        return len(self._running) + len(self._ended)

    def begins(self, turn: TurnBegun) -> None:
        """Take a turn that begins."""
        self._running[turn.tenant, turn.turn_id] = turn
        if len(self._running) > self._most_running:
            self._running.popitem(last=False)  # nobody was told how it ended

    def ends(self, turn: TurnEnded) -> TurnBegun | None:
        """Take a turn that ended; return how it began, None where nobody saw that, or it never did."""
        name = turn.tenant, turn.turn_id
        begun = self._running.pop(name, None) if turn.outcome != REFUSED else None
        if begun is not None:
            self._ended[name] = begun
            self._ended.move_to_end(name)  # an id that came again counts from now
            if len(self._ended) > self._most_ended:
                self._ended.popitem(last=False)
        return begun

    def of(self, name: TurnName) -> TurnBegun | None:
        """Return how a turn began that ended, or is about to be told of; None where nobody knows any more."""
        return self._running.get(name) or self._ended.get(name)
