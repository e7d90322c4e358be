"""What is broken on purpose: one thing at a time, never the last replica of anything."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from benchmarks.soak.lab import GATEWAYS, REPLICATED, Lab
from tests.support.openai_server import Reply

_PAUSE_S: Final = (1.0, 4.0)
"""Between the end of a fault and the next one."""
_STOPPED_S: Final = (0.5, 3.0)
_AWAY_S: Final = (0.1, 1.0)
_AFTERMATH_S: Final = 3.0
"""So long behind its end, what a fault explains is still explained by it."""
_BAD_REPLIES: Final = {
    "429": Reply.error(429, retry_after="0.05"),
    "500": Reply.error(500),
    "garbage": Reply.raw(b"data: {not json\n\n"),
    "silence": Reply(hangs_after=0),
    "breaks": Reply(cut_after=6),
}


@dataclass(slots=True)
class Fault:
    """One that was, or is.

    Attributes:
        kind: What was done.
        target: To what.
        began_s: In seconds since the start.
        ended_s: When all was well again; infinity while it lasts.

    """

    kind: str
    target: str
    began_s: float
    ended_s: float = float("inf")

    @property
    def name(self) -> str:
        """What it is called in a report."""
        return f"{self.kind} {self.target}"

    def touches(self, began_s: float, ended_s: float) -> bool:
        """Say whether it may have to do with what lasted from `began_s` to `ended_s`."""
        return self.began_s <= ended_s and began_s <= self.ended_s + _AFTERMATH_S


@dataclass(slots=True)
class Faults:
    """Breaks one thing after another.

    Attributes:
        lab: What is broken.
        draw: Decides which, when, and for how long.
        now_s: Seconds since the start.
        done: Every fault so far, in order.

    """

    lab: Lab
    draw: random.Random
    now_s: Callable[[], float]
    done: list[Fault] = field(default_factory=list)

    async def run(self, until: asyncio.Event) -> None:
        """Break things until `until` is set; what is broken then is mended first."""
        while not await _set_within(until, self.draw.uniform(*_PAUSE_S)):
            kind, target, break_and_mend = self._next()
            fault = Fault(kind, target, self.now_s())
            self.done.append(fault)
            await break_and_mend()
            fault.ended_s = self.now_s()

    def touching(self, began_s: float, ended_s: float) -> list[Fault]:
        """Return the faults that may have to do with what lasted from `began_s` to `ended_s`."""
        return [fault for fault in self.done if fault.touches(began_s, ended_s)]

    def _next(self) -> tuple[str, str, Callable[[], Awaitable[None]]]:
        lab, draw = self.lab, self.draw
        process = draw.choice(REPLICATED)
        gateway = draw.choice(GATEWAYS)
        bad = draw.choice(list(_BAD_REPLIES))
        stopped_s, away_s = draw.uniform(*_STOPPED_S), draw.uniform(*_AWAY_S)
        choices: list[tuple[float, str, str, Callable[[], Awaitable[None]]]] = [
            (3, "kill", process, lambda: lab.kill(process, away_s)),
            (3, "stop", process, lambda: lab.pause(process, stopped_s)),
            (2, "restart", process, lambda: lab.restart(process)),
            (1, "kill", gateway, lambda: lab.kill(gateway, away_s)),
            (1, "restart", gateway, lambda: lab.restart(gateway)),
            (2, "kill", "engine", lab.kill_engine),
            (2, "stop", "engine", lambda: lab.pause_engine(stopped_s)),
            (1, "kill", "redis", lambda: lab.kill_redis(away_s)),
            (1, "stop", "redis", lambda: lab.pause_redis(stopped_s)),
            (2, bad, "provider", lambda: lab.spoil_provider(_BAD_REPLIES[bad], stopped_s)),
        ]
        (chosen,) = draw.choices(choices, [choice[0] for choice in choices])
        return chosen[1:]


async def _set_within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False
