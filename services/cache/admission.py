"""Which audio is worth keeping: what is asked for again, not what was asked for once.

    request ──> record: how often was this key asked for within the window?
    store   ──┬─ often enough for memory ──> memory
              └─ often enough for Redis  ──> memory's copy is written behind
    hit in memory of what Redis was not given: the request that makes it often enough writes it

Most phrases of a conversation are said once. Written to Redis each costs as much as one that is said
a hundred times: bandwidth for its samples, and the place of others there. So Redis gets what was asked
for twice; memory, which forgets one-off phrases first by itself, keeps everything for a while, and that
copy is what the second request finds.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from services.cache.keys import StoredKey
from voicemesh.runtime.clock import Clock

_HASHES: Final = 4
_HASH_BYTES: Final = 4
_COUNTERS_PER_KEY: Final = 16
_MOST: Final = 255
MOST_REQUESTS: Final = 100
"""Most requests that admission can be made to depend on; well below what a counter of the record holds."""


class RequestRecord:
    """How often keys were asked for lately: a count-min sketch of two generations, of fixed size.

        before [ counters ]   now [ counters ]      count = least counter in each, added up
        a request raises its 4 counters of `now`; after `window_ms`, or `keys` different keys,
        `now` becomes `before` and an empty one begins

    A request is remembered for at least the window and at most twice that long; less where more than
    `keys` different keys come within it. A count is never too low, and too high for fewer than 1% of
    keys: with 16 counters a key, (1 - e^(-4/16))^4 = 0.24% in each of two full generations. It takes
    32 bytes for each of `keys`, whatever the keys are.

    Args:
        clock: Measures the window.
        window_ms: Milliseconds for which a request counts.
        keys: Different keys of one window that the record is made for.

    """

    def __init__(self, clock: Clock, *, window_ms: int, keys: int) -> None:
        self._clock = clock
        self._window_ns = window_ms * 1_000_000
        self._keys = keys
        self._size = keys * _COUNTERS_PER_KEY
        self._now = bytearray(self._size)
        self._before = bytearray(self._size)
        self._distinct = 0
        self._ends_ns = clock.now_ns() + self._window_ns

    @property
    def bytes(self) -> int:
        """Bytes that it takes, always."""
        return 2 * self._size

    def add(self, name: str) -> None:
        """Note a request for `name`."""
        self._turn()
        places = self._places(name)
        least = min(self._now[place] for place in places)
        if least == 0:
            if self._distinct >= self._keys:
                self._next()
            self._distinct += 1
        if least < _MOST:
            for place in places:
                # Only those that are least: the others are already too high, by other keys.
                if self._now[place] == least:
                    self._now[place] = least + 1

    def count(self, name: str) -> int:
        """Return how often `name` was asked for."""
        self._turn()
        places = self._places(name)
        return min(self._now[place] for place in places) + min(self._before[place] for place in places)

    def _turn(self) -> None:
        now_ns = self._clock.now_ns()
        if now_ns < self._ends_ns:
            return
        long_ago = now_ns >= self._ends_ns + self._window_ns
        self._next()
        if long_ago:
            self._before = bytearray(self._size)

    def _next(self) -> None:
        self._before, self._now = self._now, bytearray(self._size)
        self._distinct = 0
        self._ends_ns = self._clock.now_ns() + self._window_ns

    def _places(self, name: str) -> tuple[int, ...]:
        digest = hashlib.blake2b(name.encode(), digest_size=_HASHES * _HASH_BYTES).digest()
        return tuple(
            int.from_bytes(digest[at : at + _HASH_BYTES]) % self._size
            for at in range(0, len(digest), _HASH_BYTES)
        )


@dataclass(slots=True)
class AdmissionCounts:
    """Counts since the start."""

    memory_refused: int = 0
    """Audio that memory was not given, because it was not asked for often enough yet."""
    redis_refused: int = 0
    """Audio that Redis was not given when it was stored."""
    redis_later: int = 0
    """Of it, what Redis was given when it was asked for again."""


class Admission:
    """Decides what audio each tier is given.

    Args:
        record: Of the requests; None where one is enough for either tier.
        memory_requests: Requests within the window that memory keeps audio from; 1: at once.
        redis_requests: The same for Redis.

    """

    def __init__(
        self, record: RequestRecord | None = None, *, memory_requests: int = 1, redis_requests: int = 1
    ) -> None:
        self._record = record
        self._memory_requests = memory_requests
        self._redis_requests = redis_requests
        self._most_requests = max(memory_requests, redis_requests)
        self.counts = AdmissionCounts()

    def asked(self, key: StoredKey, *, keep: bool = False) -> None:
        """Note a request, a hit or not; `keep`: it counts as often as it must for every tier."""
        if self._record is None or self._most_requests == 1 or key.kind != "audio":
            return
        for _ in range(self._most_requests if keep else 1):
            self._record.add(key.name)

    def admit(self, key: StoredKey, *, redis: bool) -> tuple[bool, bool]:
        """Return whether memory and Redis are given what is stored now, and count what they are not.

        Args:
            key: Of what is stored.
            redis: There is a Redis.

        """
        to_memory = self._often(key, self._memory_requests)
        to_redis = redis and self._often(key, self._redis_requests)
        self.counts.memory_refused += not to_memory
        self.counts.redis_refused += redis and not to_redis
        return to_memory, to_redis

    def later(self, key: StoredKey) -> bool:
        """Return whether Redis is to be given what memory alone has of audio, and count it then."""
        if key.kind != "audio" or not self._often(key, self._redis_requests):
            return False
        self.counts.redis_later += 1
        return True

    def _often(self, key: StoredKey, requests: int) -> bool:
        if self._record is None or requests == 1 or key.kind != "audio":
            return True
        return self._record.count(key.name) >= requests
