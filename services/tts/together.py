"""Which requests an engine advanced together, for those of them whose trace is recorded.

    A ──────step step step─┐
    B ────────┘ step step──┼ A ends: {A, B, C}, 5 steps
    C ───────────────step──┘            from here on {B, C} are another group

A group is those that were met in steps of one stage, until the first of them ends: so there are never
more of them than requests, however many steps an engine takes. Workers import this module: standard
library only.
"""

from collections.abc import Iterable

from services.tts.wire import Together


class _Group:
    __slots__ = ("began_ns", "ended_ns", "engine_ns", "ids", "largest", "stage", "steps")

    def __init__(self, stage: str, began_ns: int) -> None:
        self.stage = stage
        self.ids: dict[int, None] = {}
        self.steps = self.largest = self.engine_ns = 0
        self.began_ns = self.ended_ns = began_ns


class Groups:
    """The groups that go on. For one thread."""

    def __init__(self) -> None:
        self._groups: list[_Group] = []

    def ran(self, stage: str, ids: Iterable[int], began_ns: int, ended_ns: int) -> None:
        """Note that these requests, two at least, took a step together, which took from began to ended."""
        ids = tuple(ids)
        group = self._group(stage, ids, began_ns)
        group.ids.update(dict.fromkeys(ids))
        group.steps += 1
        group.largest = max(group.largest, len(ids))
        group.engine_ns += ended_ns - began_ns
        group.ended_ns = ended_ns

    def _group(self, stage: str, ids: tuple[int, ...], began_ns: int) -> _Group:
        for group in self._groups:
            if group.stage == stage and any(each in group.ids for each in ids):
                return group
        self._groups.append(_Group(stage, began_ns))
        return self._groups[-1]

    def ended(self, request_id: int, now_ns: int) -> list[Together]:
        """Return the groups that end because this request does."""
        over = [group for group in self._groups if request_id in group.ids]
        if over:
            self._groups = [group for group in self._groups if request_id not in group.ids]
        return [
            Together(
                stage=group.stage,
                ids=tuple(group.ids),
                steps=group.steps,
                largest=group.largest,
                engine_us=group.engine_ns // 1000,
                began_us=(now_ns - group.began_ns) // 1000,
                ended_us=(now_ns - group.ended_ns) // 1000,
            )
            for group in over
        ]
