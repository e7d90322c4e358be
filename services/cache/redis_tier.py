"""The Redis tier: entries that outlive the process and that all cache processes share.

    get, write_history ── at most timeout_ms, connect included ──> Redis
    write_behind ── queue ── one pipeline at a time ──────────────> Redis
    the supervisor ── PING, while held off ────────────────────────> Redis

Nobody but the supervisor ever finds out that Redis is still away: after the first failure everything
else raises at once until a probe is answered. Failures are of three sorts: no answer (the breaker
opens), a refusal such as OOM or READONLY (that write is given up, reading goes on), and an entry that
is not one of ours (a miss; it is removed).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.cache import codec, redis_search
from services.cache.announcements import BLOCK_MS, Announcements
from services.cache.breaker import Breaker
from services.cache.complaints import Complaints
from services.cache.durable import DurableEntry, DurableUnavailableError, RoundTrips, Written
from services.cache.entries import Entries, TooLongError
from services.cache.keys import Selector, StoredKey
from services.cache.patience import patience
from services.cache.redis_pools import open_pools
from services.cache.redis_words import address_of, reason_of
from services.cache.trip_times import TripTimes
from services.cache.values import AudioValue, HistoryValue, Value
from services.cache.writeback import Write, WriteQueue
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.logs import get_logger

_BACKGROUND_TIMEOUT_S: Final = 1.0  # for what no caller waits for: probes, writes behind, removal
_NOT_THERE: Final = -2  # what PTTL answers for a key that does not exist

# KEYS[1] the entry; ARGV: bytes before the version, bytes behind it, lifetime in ms, mode, expected
# version, floor (or, to restore, the version to write). SET replaces a value of any type, so foreign
# data at the key is overwritten. Versions pass through Lua's doubles: exact up to 2^53.
_COMPARE_AND_SET: Final = """
local present, stored = 0, false
if redis.call('TYPE', KEYS[1]).ok == 'string' then
  stored = redis.call('GETRANGE', KEYS[1], 0, 12)
  if #stored == 13 and string.sub(stored, 1, 5) == ARGV[1] then
    present = struct.unpack('>I8', string.sub(stored, 6, 13))
  end
end
local new
if ARGV[4] == 'restore' then
  new = tonumber(ARGV[6])
  if present >= new then return {0, present} end
else
  present = math.max(present, tonumber(ARGV[6]))
  if ARGV[4] == 'expect' and present ~= tonumber(ARGV[5]) then return {0, present} end
  new = present + 1
end
redis.call('SET', KEYS[1], ARGV[1] .. struct.pack('>I8', new) .. ARGV[2], 'PX', ARGV[3])
return {1, new}
"""
_VERSION_AT: Final = slice(5, 13)

# ValueError: what redis-py's parser raises where the peer does not speak Redis's protocol.
UNANSWERED: Final = (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError, ValueError)

_log = get_logger(__name__)


class RedisTier:
    """Entries in one Redis.

    Args:
        url: redis://, rediss:// or unix://, maybe with a password.
        clock: Measures the lifetime of queued writes.
        breaker: Says when to leave Redis alone.
        timeout_ms: Milliseconds that a caller waits at most.
        queue: Writes behind.
        lifetime_ms: Milliseconds that entries live at most.
        entries: Writes and reads their bytes.

    Attributes:
        on_lost: Called when Redis is held off.
        on_back: Called when it answers again; and once at the start, when it first answers.
        on_removed: Called for what another process removes; with True once that has ended, and its name.
        on_gap: Called where it is not known what others have removed.

    Raises:
        ValueError: The URL is none of these, or its files of TLS cannot be used; the text does not hold it.

    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        breaker: Breaker,
        timeout_ms: int,
        queue: WriteQueue,
        lifetime_ms: int,
        entries: Entries | None = None,
    ) -> None:
        self.entries = entries or Entries()
        """Writes and reads the bytes of entries."""
        self._clock = clock
        self._breaker = breaker
        self.timeout_s = timeout_ms / 1000
        """Seconds that a caller waits at most."""
        self.queue = queue
        self.on_lost: Callable[[], None] = lambda: None
        self.on_back: Callable[[], None] = lambda: None
        self.on_removed: Callable[[Selector, bool, str], Awaitable[object]] = _nothing
        self.on_gap: Callable[[], Awaitable[None]] = _nothing
        self.address = address_of(url)
        self._redis, self._listening = open_pools(
            url,
            # redis-py is not to give up before we do
            longest_s=max(_BACKGROUND_TIMEOUT_S, self.timeout_s),
            listens_s=BLOCK_MS / 1000 + _BACKGROUND_TIMEOUT_S,
        )
        self.announcements = Announcements(
            self._listening, clock, lifetime_ms=lifetime_ms, on_removed=self._heard, on_gap=self._missed
        )
        self._lost = asyncio.Event()
        self._usable = asyncio.Event()
        self._usable.set()
        self._queued = asyncio.Event()
        self._writing = asyncio.Lock()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self.errors = 0
        """Operations that failed or timed out."""
        self.corrupt = 0
        """Entries that could not be read, and were removed."""
        self.trips = TripTimes(clock)
        """How long round trips take; those of `PING` and of what listens are not among them."""
        self.complaints = Complaints(clock, _log)
        """What Redis refuses, said once in a while."""
        self._refused = 0
        self._warned = False

    @property
    def available(self) -> bool:
        """False while Redis is held off."""
        return self._breaker.closed

    @property
    def dropped(self) -> int:
        """Writes that were given up: no room in the queue, or refused by Redis."""
        return self.queue.dropped + self._refused

    def start(self) -> None:
        """Begin to look after the connection and to write; needs a running loop."""
        loop = asyncio.get_running_loop()
        self._tasks = (
            loop.create_task(self._supervise(), name="redis-supervisor"),
            loop.create_task(self._write(), name="redis-writer"),
            loop.create_task(self.announcements.listen(), name="redis-announcements"),
        )
        for task in self._tasks:
            task.add_done_callback(report)

    async def close(self) -> None:
        """Write what is queued if Redis answers, for a second at most, and disconnect."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BACKGROUND_TIMEOUT_S):
                while self._breaker.closed and len(self.queue):
                    await self._write_batch()
        ending: set[asyncio.Task[None]] = set(self._tasks)
        while ending:
            for task in ending:
                task.cancel()
            # Again and again: a cancellation that meets redis-py in the middle of a failure gets lost.
            _, ending = await asyncio.wait(ending, timeout=0.05)
        for client in (self._redis, self._listening):
            with contextlib.suppress(RedisError, OSError):
                await client.aclose(close_connection_pool=True)

    async def get(self, key: StoredKey, trips: RoundTrips, head_ms: int = 0) -> DurableEntry | None:
        """Return the entry of `key`; see `DurableTier`."""
        if head_ms and key.kind == "audio":
            return await self._get_head(key, trips, head_ms)
        # A GET, told as one, that takes no more than an entry may have, whatever is there.
        whole = ("GETRANGE", key.name, 0, self.entries.max_bytes)
        with trips.redis("GET", key):
            data, ttl_ms = await self._ask("GET", self._read(whole, ("PTTL", key.name)))
        if ttl_ms == _NOT_THERE:
            return None
        try:
            value, version = self.entries.decode(key, data)
        except codec.CorruptEntryError as error:
            await self._spoiled(key, error)
            return None
        return DurableEntry(value, version, ttl_ms if ttl_ms >= 0 else None)

    async def _get_head(self, key: StoredKey, trips: RoundTrips, head_ms: int) -> DurableEntry | None:
        first = ("GETRANGE", key.name, 0, codec.HEAD_BYTES - 1)
        with trips.redis("GETRANGE", key):
            data, size, ttl_ms = await self._ask(
                "GETRANGE", self._read(first, ("STRLEN", key.name), ("PTTL", key.name))
            )
        if ttl_ms == _NOT_THERE:
            return None
        lifetime_ms = ttl_ms if ttl_ms >= 0 else None
        try:
            head = self.entries.decode_head(key, data, size)
        except codec.CorruptEntryError as error:
            await self._spoiled(key, error)
            return None
        if head is not None and head.start == size:
            return DurableEntry(head.value, 0, lifetime_ms)
        if head is None or len(head.value.audio) < head.value.format.bytes_of(head_ms):
            return await self.get(key, trips)
        # The listener has the head to hear meanwhile: half of it, and the other half is left to find
        # other means where the rest does not come.
        timeout_s = max(self.timeout_s, head_ms / 2000)

        async def whole() -> AudioValue | None:
            with trips.redis("GETRANGE", key):
                rest = self._read(("GETRANGE", key.name, head.start, size - 1))
                (data,) = await self._ask("GETRANGE", rest, timeout_s)
            try:
                return codec.decode_rest(head, data)
            except codec.CorruptEntryError as error:
                if data:  # else it has expired
                    await self._spoiled(key, error)
                return None

        return DurableEntry(head.heard, 0, lifetime_ms, whole)

    async def _read(self, *commands: tuple[str | int, ...]) -> list[Any]:
        """Send commands in one round trip. The first reads the entry: b"" where that is of another type.

        The others answer with numbers.
        """
        answers = await self.send(*commands)
        numbers = [answer for answer in answers[1:] if not isinstance(answer, Exception)]
        if not isinstance(answers[0], bytes | Exception) or not all(isinstance(n, int) for n in numbers):
            raise ValueError("Redis answered with something else than was asked for")
        if isinstance(answers[0], ResponseError) and str(answers[0]).startswith("WRONGTYPE"):
            # Not an entry: what cannot be decoded is counted and removed.
            return [b""] + [0 if isinstance(answer, ResponseError) else answer for answer in answers[1:]]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _spoiled(self, key: StoredKey, error: codec.CorruptEntryError) -> None:
        """Remove what is not an entry, unless another version of this service may know what it is."""
        if isinstance(error, codec.OtherLayoutError):
            return
        self.corrupt += 1
        self.complaints.warn("entry in Redis cannot be read; removed", reason=str(error), kind=key.kind)
        with contextlib.suppress(DurableUnavailableError):
            await self._ask("UNLINK", self._redis.unlink(key.name))

    def write_behind(self, key: StoredKey, value: Value, ttl_ms: int) -> None:
        """Write an entry soon; never waits."""
        self.queue.add(key, value, self._clock.now_ns() + ttl_ms * 1_000_000)
        self._queued.set()

    async def write_history(
        self,
        key: StoredKey,
        value: HistoryValue,
        ttl_ms: int,
        trips: RoundTrips,
        *,
        expected_version: int | None,
        floor_version: int,
    ) -> Written:
        """Compare and set a history; see `DurableTier`."""
        mode = "write" if expected_version is None else "expect"
        with trips.redis("EVAL", key):
            return await self._set(key, value, ttl_ms, (mode, expected_version or 0, floor_version))

    async def restore_history(
        self, key: StoredKey, value: HistoryValue, ttl_ms: int, version: int
    ) -> Written:
        """Write a history back that Redis may have lost; see `DurableTier`."""
        return await self._set(key, value, ttl_ms, ("restore", 0, version))

    async def _set(
        self, key: StoredKey, value: HistoryValue, ttl_ms: int, condition: tuple[str, int, int]
    ) -> Written:
        data = self._encoded(key, value)
        if data is None:
            raise DurableUnavailableError("too long for Redis")
        before, behind = data[: _VERSION_AT.start], data[_VERSION_AT.stop :]
        arguments = (before, behind, ttl_ms, *condition)
        # EVAL, not EVALSHA: the script is short, and a Redis that was restarted does not know it.
        setting = self._redis.eval(_COMPARE_AND_SET, 1, key.name, *arguments)
        match await self._ask("EVAL", setting):
            case [int(done), int(version)] if 0 <= version <= codec.MOST_VERSION:
                return Written(version, bool(done))
            case _:
                self.errors += 1
                self.complaints.warn("Redis refused", reason="no version of a history came back")
                raise DurableUnavailableError("no version")

    def _encoded(self, key: StoredKey, value: Value) -> bytes | None:
        """Return the bytes of an entry; None, and a complaint, where nobody would read so many."""
        try:
            return self.entries.encode(key, value)
        except TooLongError as error:
            self._refused += 1
            self.complaints.warn("an entry is too long for Redis", reason=str(error), kind=key.kind)
            return None

    async def announce(self, selector: Selector, removal_id: str = "") -> None:
        """Tell all other processes that `invalidate` is about to begin; see `DurableTier`."""
        await self._announce(selector, removal_id, ended=False)

    async def invalidate(self, selector: Selector, removal_id: str = "") -> int:
        """Remove all entries that match, and tell all other processes; see `DurableTier`."""
        removed = await self._remove(selector)
        # Last, so that nobody keeps in memory what was still in Redis.
        await self._announce(selector, removal_id, ended=True)
        return removed

    async def _announce(self, selector: Selector, removal_id: str, *, ended: bool) -> None:
        announced = self.announcements.announce(self._redis, selector, removal_id, ended=ended)
        await self._ask("XADD", announced, _BACKGROUND_TIMEOUT_S)

    async def _heard(self, selector: Selector, ended: bool, removal_id: str) -> None:
        self.queue.discard(selector)
        await self.on_removed(selector, ended, removal_id)

    async def _missed(self) -> None:
        await self.on_gap()

    async def _remove(self, selector: Selector) -> int:
        self.queue.discard(selector)
        async with self._writing:  # what was being written is there now, and is found
            pass
        return await redis_search.remove(
            self._redis,
            selector,
            lambda operation, work: self._ask(operation, work, _BACKGROUND_TIMEOUT_S),
        )

    @property
    def client(self) -> Redis:
        """The client, for what has a connection of its own; all else goes through `ask`."""
        return self._redis

    async def send(self, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
        """Send commands in one round trip, under `ask`; what Redis refuses is an exception in the list."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def ask(self, operation: str, work: Awaitable[Any], timeout_s: float | None = None) -> Any:
        """Await `work`, for the tier's timeout at most, unless Redis is held off.

        `operation` is the command that its time is told under, see `trips`.

        Raises:
            DurableUnavailableError: It is, or there was no answer, or it refused.

        """
        return await self._ask(operation, work, timeout_s)

    async def _ask(self, operation: str, work: Any, timeout_s: float | None = None) -> Any:
        if not self._breaker.closed:
            if asyncio.iscoroutine(work):
                work.close()
            raise DurableUnavailableError("held off")
        try:
            with self.trips.timed(operation):
                async with patience(timeout_s or self.timeout_s):
                    answer = await work
        except UNANSWERED as error:
            self._failed(error)
            raise DurableUnavailableError(type(error).__name__) from error
        except RedisError as error:
            self.errors += 1
            self.complaints.warn("Redis refused", reason=reason_of(error))
            raise DurableUnavailableError(type(error).__name__) from error
        self._breaker.answered()
        return answer

    def _failed(self, error: BaseException) -> None:
        self.errors += 1
        if self._breaker.failed():
            if self._breaker.wait_s:  # else the probe that comes at once tells whether it is worth a word
                self._warn(error)
            self._usable.clear()
            self._lost.set()
            self.on_lost()

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            _log.warning("Redis does not answer; memory only", address=self.address, reason=reason_of(error))
        self._warned = True

    async def _supervise(self) -> None:
        first = True
        while True:
            try:
                async with asyncio.timeout(_BACKGROUND_TIMEOUT_S):
                    await self._redis.ping()
            except (RedisError, *UNANSWERED) as error:
                if self._breaker.closed:
                    self._failed(error)
                else:
                    self.errors += 1
                    self._breaker.probe_failed()
                    self._warn(error)
                # Connections from before may be half dead; callers must not be the ones to find out.
                with contextlib.suppress(RedisError, OSError):
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
            else:
                if self._breaker.succeeded() or first:
                    if first or self._warned:
                        if self._warned:  # as loud as what it takes back
                            _log.warning("Redis answers again", address=self.address)
                        else:
                            _log.info("Redis answers", address=self.address)
                    first = self._warned = False
                    self._usable.set()
                    self.on_back()
                while self._breaker.closed:
                    self._lost.clear()
                    await self._lost.wait()
            await asyncio.sleep(self._breaker.wait_s)

    async def _write(self) -> None:
        while True:
            self._queued.clear()
            if not len(self.queue):
                await self._queued.wait()
            await self._usable.wait()
            await self._write_batch()

    async def _write_batch(self) -> None:
        async with self._writing:
            batch = self.queue.take()
            now_ns = self._clock.now_ns()
            batch = [write for write in batch if write.expires_ns > now_ns]
            if not batch:
                return
            try:
                with self.trips.timed("SET"):
                    async with asyncio.timeout(_BACKGROUND_TIMEOUT_S):
                        answers = await self._send(batch, now_ns)
            except UNANSWERED as error:
                self.queue.give_back(batch)
                self._failed(error)
                return
            except RedisError as error:
                answers = [error] * len(batch)
            refused = [answer for answer in answers if isinstance(answer, Exception)]
            if refused:
                self.errors += len(refused)
                self._refused += len(refused)
                self.complaints.warn(
                    "Redis refused writes", reason=reason_of(refused[0]), dropped=self._refused
                )

    async def _send(self, batch: Iterable[Write], now_ns: int) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for write in batch:
                ttl_ms = max(1, (write.expires_ns - now_ns) // 1_000_000)
                if (data := self._encoded(write.key, write.value)) is not None:
                    pipeline.set(write.key.name, data, px=ttl_ms)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers


async def _nothing(*_: object) -> None:
    """Stand for a callback that is not set."""


def report(task: asyncio.Task[None]) -> None:
    """Log the fault that ended a task which ought never to end."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task failed", task=task.get_name(), exc_info=error)
