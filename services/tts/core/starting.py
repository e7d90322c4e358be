"""What a start of a replica waits for: its turn, a name, and room on its device."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from services.tts.core.model import VoiceSpec

REPLACEMENT: Final = 0
"""Urgency of a replica of a voice that speaks already."""
PRELOAD: Final = 1
"""Urgency of a replica that the service waits for at its start."""
BACKGROUND: Final = 2
"""Urgency of a replica that nobody waits for yet."""


class StartGate:
    """Lets a few replicas start at a time: models that load together share one disk and one device.

    Args:
        at_once: Replicas that may start at the same time.

    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, urgency: int) -> AsyncIterator[None]:
        """Wait for a turn, the most urgent first, and hold it."""
        if self._free > 0:
            self._free -= 1
        else:
            await self._wait(urgency)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, urgency: int) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._numbers), granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._pass_on()  # the turn came with the cancel: the next one has it
            granted.cancel()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, granted = heapq.heappop(self._waiting)
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1


class Names:
    """The names of the replicas of one voice: the lowest numbers that are free.

    Replicas that follow each other, also in a new pool of a changed voice, share one set of names, so
    that no two live replicas have the same one and figures by name stay few.
    """

    def __init__(self, voice: str) -> None:
        self._voice = voice
        self._taken: set[int] = set()

    def take(self) -> str:
        """Return a name that no live replica has."""
        number = next(number for number in itertools.count() if number not in self._taken)
        self._taken.add(number)
        return f"{self._voice}-{number}"

    def give_back(self, name: str) -> None:
        """Take back the name of a replica that is gone."""
        self._taken.discard(int(name.rpartition("-")[2]))


class DeviceMemory:
    """What the devices have for replicas, and what is taken of it, in MB (2^20 bytes).

    Args:
        limits_mb: For each device that has a limit.

    """

    def __init__(self, limits_mb: Mapping[str, int] | None = None) -> None:
        self._limits_mb = dict(limits_mb or {})
        self._taken_mb: dict[str, int] = {}

    def fits(self, device: str, memory_mb: int) -> bool:
        """Return whether so much is free."""
        limit_mb = self._limits_mb.get(device)
        return limit_mb is None or self._taken_mb.get(device, 0) + memory_mb <= limit_mb

    def take(self, device: str, memory_mb: int) -> None:
        """Note that a replica has so much, whether it fits or not."""
        self._taken_mb[device] = self._taken_mb.get(device, 0) + memory_mb

    def give_back(self, device: str, memory_mb: int) -> None:
        """Take back the room of a replica that is gone."""
        self._taken_mb[device] = self._taken_mb.get(device, 0) - memory_mb


class Place:
    """What the replicas of one voice share with each other and with those of other voices.

    Args:
        voice: Its name.
        gate: Lets replicas start; by default all at once.
        memory: The devices; by default without limits.

    """

    def __init__(self, voice: str, gate: StartGate | None = None, memory: DeviceMemory | None = None) -> None:
        self.names = Names(voice)
        self.gate = gate or StartGate(2**31)
        self.memory = memory or DeviceMemory()

    def fits(self, spec: VoiceSpec, replicas: int = 1) -> bool:
        """Return whether there is room for so many more replicas."""
        return self.memory.fits(spec.device, replicas * spec.memory_mb)

    def take(self, spec: VoiceSpec) -> str:
        """Take room for one more replica; return its name."""
        self.memory.take(spec.device, spec.memory_mb)
        return self.names.take()

    def give_back(self, spec: VoiceSpec, name: str) -> None:
        """Take back room and name of a replica that is gone."""
        self.names.give_back(name)
        self.memory.give_back(spec.device, spec.memory_mb)
