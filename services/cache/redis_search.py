"""Finding in Redis what a selector means, and removing it."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio import Redis

from services.cache import codec
from services.cache.keys import Selector

_SCAN_COUNT: Final = 500

Ask = Callable[[str, Awaitable[Any]], Awaitable[Any]]


async def remove(redis: Redis, selector: Selector, ask: Ask) -> int:
    """Remove all entries that match; return how many. `ask` awaits each round trip, given its command.

    One SCAN step looks at about 500 keys, so that Redis is never held up; keys that are written
    meanwhile may be missed.
    """
    if selector.target == "key":
        return int(await ask("UNLINK", redis.unlink(selector.name)))
    removed, cursor = 0, 0
    while True:
        cursor, names = await ask("SCAN", redis.scan(cursor, match=selector.pattern, count=_SCAN_COUNT))
        if selector.target == "tag":
            names = await ask("GETRANGE", _tagged(redis, names, selector.name))
        if names:
            removed += int(await ask("UNLINK", redis.unlink(*names)))
        if not cursor:
            return removed


async def _tagged(redis: Redis, names: list[bytes], tag: str) -> list[bytes]:
    """Return those of the names whose entries have a tag."""
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.getrange(name, 0, codec.TAGGED_BYTES - 1)
        starts = await pipeline.execute(raise_on_error=False) if names else []
    for start in starts:
        if isinstance(start, Exception) and not str(start).startswith("WRONGTYPE"):
            raise start
    return [
        name
        for name, start in zip(names, starts, strict=True)
        if isinstance(start, bytes) and codec.has_tag(start, tag)
    ]
