"""Removing what must not be found any more: here, in Redis, and where another process says so."""

import asyncio
from collections.abc import Iterator

from services.cache.answers import Removed
from services.cache.durable import DurableTier, DurableUnavailableError, SharedLeases
from services.cache.keys import Selector
from services.cache.leases import LeaseTable
from services.cache.memory import STEP, MemoryTier
from services.cache.removals import Removals, Tally
from voicemesh.runtime.errors import ServiceUnavailableError
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)


class Invalidation:
    """Removes entries from both tiers, and what is being made.

    Args:
        memory: The memory tier.
        leases: What is being made in this process.
        removals: Remembers what was invalidated.
        durable: The tier behind memory; None for memory alone.
        shared: Leases among all replicas; None where they are those of this process.

    """

    def __init__(
        self,
        memory: MemoryTier,
        leases: LeaseTable,
        removals: Removals,
        durable: DurableTier | None,
        shared: SharedLeases | None,
    ) -> None:
        self._memory = memory
        self._leases = leases
        self._removals = removals
        self._durable = durable
        self._shared = shared

    async def invalidate(self, selector: Selector, removal_id: str = "") -> Removed:
        """Remove all entries that match from both tiers, and those that are being made.

        Which tags a value will have is known when it is complete: a tag counts for all that are being made.
        Other processes are told, and remove it from their memory (`forget`).
        Of one `removal_id` all that left this memory is counted, also where another process told of it first.

        Raises:
            ServiceUnavailableError: Memory is clear, but Redis did not answer; try again.

        """
        tally, known = self._removals.tally(removal_id)
        self._removals.add(selector, again=known)
        self._leases.discard(selector)
        await self._remove(selector, tally)
        in_redis = 0
        try:
            if self._durable is not None:
                await self._durable.announce(selector, removal_id)
                if self._shared is not None:  # first: what is sealed from here on is refused
                    await self._shared.discard(selector)
                in_redis = await self._durable.invalidate(selector, removal_id)
        except DurableUnavailableError as error:
            raise ServiceUnavailableError(
                f"{tally.memory_entries} entries were removed from memory, "
                "but Redis did not answer; try again",
                retry_after_ms=1000,
            ) from error
        finally:
            # What was read from Redis before it was removed there may have come back.
            self._removals.ended(0, in_redis)
            await _all(self._memory.remove_matching(selector, STEP))
        in_memory = tally.memory_entries
        _log.info("invalidated", target=selector.target, memory_entries=in_memory, redis_entries=in_redis)
        return Removed(in_memory, in_redis)

    async def forget(self, selector: Selector, again: bool = False, removal_id: str = "") -> None:
        """Remove what matches from memory, and from what is being made: another process removes it.

        `again`: it was told before that this begins; now it is removed from Redis too.
        """
        tally, known = self._removals.tally(removal_id)
        self._removals.add(selector, again=again or known)
        self._leases.discard(selector)
        removed = await self._remove(selector, tally)
        self._removals.ended(0, 0)
        if removed or not (again or known):
            _log.info("invalidated elsewhere", target=selector.target, memory_entries=removed)

    async def _remove(self, selector: Selector, tally: Tally) -> int:
        """Remove what matches from memory, counting as it goes: two may do it at once; return how many."""
        removed = 0
        for count in self._memory.remove_matching(selector, STEP):
            removed += count
            tally.memory_entries += count
            self._removals.memory_entries += count
            await asyncio.sleep(0)
        return removed

    async def forget_copies(self) -> None:
        """Remove all from memory but the histories that Redis may not have: nobody knows what was removed."""
        everything = Selector("all")
        self._removals.add(everything)
        self._leases.discard(everything)
        self._removals.ended(await _all(self._memory.remove_copies(STEP)), 0)


async def _all(steps: Iterator[int]) -> int:
    """Take all steps, letting other work in between; return the sum."""
    total = 0
    for count in steps:
        total += count
        await asyncio.sleep(0)
    return total
