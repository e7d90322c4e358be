"""What one replica removes, all others remove from their memory: a stream in Redis that all of them read.

    invalidate ── XADD voicemesh:invalidations ──> [ … the last 1,000 … ] ── XREAD BLOCK ──> every replica

Each is announced twice: where it begins, so that no replica writes to Redis what it searches, and where
it ends, so that none keeps what it read there meanwhile.
A stream, not a channel: a replica that was cut off reads on where it was, so it misses nothing unless
1,000 or more came meanwhile; then it gives up all its copies. Nor client-side tracking, which tells of
every write and cannot tell a removal from one: docs/adr/0031-removals-are-announced.md.
"""

import asyncio
import contextlib
import dataclasses
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, get_args, get_type_hints

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from services.cache.keys import Selector
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.logs import get_logger

STREAM: Final = "voicemesh:invalidations"
"""Outside of the prefix of entries, so that it is not removed with them."""
KEPT: Final = 1000
"""Announcements that are kept, two for each removal: so many a replica can miss and catch up with."""
ENDED: Final = b"ended"
"""What the announcement of an end says of itself in `phase`."""
BLOCK_MS: Final = 5000
"""One read waits so long for news; a connection that is dead is noticed a little later."""
_AGAIN_S: Final = 0.5
_TARGETS: Final = get_args(get_type_hints(Selector)["target"])

_log = get_logger(__name__)


class Announcements:
    """One replica's part in them.

    Args:
        redis: A client for reading alone; its connection waits for minutes, so it is not one of the pool's.
        clock: Measures for how long nothing was heard.
        lifetime_ms: Milliseconds that entries live at most: older announcements are about nothing.
        on_removed: Called for what another replica removes; with True once that has ended, and its name.
        on_gap: Called where some announcements were missed for good.

    """

    def __init__(
        self,
        redis: Redis,
        clock: Clock,
        *,
        lifetime_ms: int,
        on_removed: Callable[[Selector, bool, str], Awaitable[object]],
        on_gap: Callable[[], Awaitable[None]],
    ) -> None:
        self._redis = redis
        self._lifetime_ms = lifetime_ms
        self._on_removed = on_removed
        self._on_gap = on_gap
        self._replica = secrets.token_hex(8)
        self._clock = clock
        self._last_id = "0-0"
        self._deaf_since_ns: int | None = None
        """When reading failed first; None while it does not."""
        self.gaps = 0
        """How often some were missed for good, or not understood."""

    @property
    def behind_s(self) -> float:
        """For how long nothing was heard that others removed, in seconds; 0 while all is heard at once."""
        if self._deaf_since_ns is None:
            return 0.0
        return (self._clock.now_ns() - self._deaf_since_ns) / 1e9

    async def announce(self, redis: Redis, selector: Selector, removal_id: str, *, ended: bool) -> None:
        """Tell all other replicas that a removal begins, or `ended`, through a connection of `redis`.

        Raises:
            RedisError: It was not announced.

        """
        message = json.dumps(dataclasses.asdict(selector))
        for attempt in range(2):
            try:
                async with redis.pipeline(transaction=False) as pipeline:
                    pipeline.xadd(
                        STREAM,
                        {
                            "by": self._replica,
                            "selector": message,
                            "phase": ENDED if ended else b"begins",
                            "removal": removal_id,
                        },
                        maxlen=KEPT,
                        approximate=False,
                    )
                    pipeline.pexpire(STREAM, self._lifetime_ms)
                    await pipeline.execute()
            except ResponseError as error:
                if attempt or "WRONGTYPE" not in str(error):
                    raise
                await redis.unlink(STREAM)  # something else is in its place
            else:
                return

    async def listen(self) -> None:
        """Read what others announce, until cancelled; trouble with Redis is waited out."""
        while True:
            try:
                found: Any = await self._redis.xread({STREAM: self._last_id}, count=KEPT, block=BLOCK_MS)
            except (RedisError, OSError, ValueError, TimeoutError) as error:
                if self._deaf_since_ns is None:
                    self._deaf_since_ns = self._clock.now_ns()
                    _log.warning(
                        "what other cache services remove is not heard until Redis answers again",
                        reason=str(error) or "no answer in time",
                    )
                with contextlib.suppress(RedisError, OSError):
                    await self._redis.connection_pool.disconnect()
                await asyncio.sleep(_AGAIN_S)
                continue
            if self._deaf_since_ns is not None:
                _log.warning("what other cache services remove is heard again")
            self._deaf_since_ns = None
            for _, messages in found:
                await self._take(messages)

    async def _take(self, messages: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        if messages:
            self._last_id = messages[-1][0].decode(errors="replace")
        if len(messages) >= KEPT:
            _log.warning("removals of other replicas were missed: all copies in memory are given up")
            self.gaps += 1
            await self._on_gap()
            return
        for _, fields in messages:
            if fields.get(b"by") == self._replica.encode():
                continue
            selector = _selector(fields.get(b"selector", b""))
            if selector is None:  # of another version of this service: what it removes, nobody knows
                self.gaps += 1
                await self._on_gap()
            else:
                removal_id = fields.get(b"removal", b"").decode(errors="replace")
                await self._on_removed(selector, fields.get(b"phase") == ENDED, removal_id)


def _selector(message: bytes) -> Selector | None:
    try:
        fields: dict[str, Any] = json.loads(message)
        texts = all(isinstance(field, str) for field in (fields["name"], *fields.values()))
        known = texts and fields["target"] in _TARGETS
        return Selector(**fields) if known else None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
