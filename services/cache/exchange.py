"""One stream of requests: what can be answered at once is, the rest runs beside it.

    requests ──> serve ──┬─ from memory, leases ─────────────────┐
                         ├─ needs Redis or an embedding, or is   │
                         │  the rest of a head: a task, `limit`  │
                         │  at most ─────────────────────────────┼──> outbox ──> responses
                         └─ follows: a task each, bounded ───────┘

A full outbox, or `limit` tasks, stop the reading: that is the caller's backpressure. The leases of a
stream end with it.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from services.cache.answers import Conflict, Done, Hit, Joined, Miss
from services.cache.core import CacheCore
from services.cache.durable import RoundTrips
from services.cache.fills import FollowEvent, Following, Granted, Lease, Part, Sealed
from services.cache.needs import Need
from services.cache.requests import Append, Get, Put, Release, Request, Seal
from services.cache.values import AudioValue, HistoryValue
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import InvalidFieldError, MeshError
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.sessions import Session
from voicemesh.runtime.streams import Outbox

if TYPE_CHECKING:
    from services.cache.similar import SimilarPrompts

MAX_UNDER_WAY: Final = 64
"""Requests of one stream that wait for Redis at once; more wait unread."""
MAX_LEASES: Final = 256
"""Leases and follows of one stream at once."""
MAX_SPARSE_IDS: Final = 65_536
"""Request ids that are remembered beyond the gapless run from 1 on."""
OUTBOX_LIMIT: Final = 32
REST_PART_BYTES: Final = 256 * 1024
"""What comes behind a head comes in parts of this size, so that other answers get between them.
A multiple of every sample's size."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Failed:
    """The request cannot be done."""

    error: Exception


Result = Hit | Miss | Done | Conflict | Following | FollowEvent | Failed


@dataclass(frozen=True, slots=True)
class Response:
    """What answers a request, and how long that took from its arrival, in microseconds."""

    request_id: int
    server_us: int
    result: Result


@dataclass(slots=True)
class Tally:
    """How many responses of each sort one stream got; for its span."""

    memory_hits: int = 0
    redis_hits: int = 0
    similar_hits: int = 0
    misses: int = 0
    granted: int = 0
    following: int = 0
    errors: int = 0


class RequestIds:
    """Tells whether an id was used before, in little memory where ids count up."""

    def __init__(self) -> None:
        self._below = 1
        self._used: set[int] = set()

    def use(self, request_id: int) -> None:
        """Note that the id is used.

        Raises:
            InvalidFieldError: It is 0 or was used before, or too many ids are scattered.

        """
        if request_id == 0:
            raise InvalidFieldError("request_id", "must not be 0")
        if request_id < self._below or request_id in self._used:
            raise InvalidFieldError("request_id", f"{request_id} was used before in this stream")
        if len(self._used) >= MAX_SPARSE_IDS:
            raise InvalidFieldError(
                "request_id", f"more than {MAX_SPARSE_IDS} ids that do not count up from 1"
            )
        self._used.add(request_id)
        while self._below in self._used:
            self._used.remove(self._below)
            self._below += 1


class Exchange:
    """The requests of one stream.

    Args:
        core: The cache.
        clock: Measures `server_us`.
        session: Runs the tasks; its owner cancels it when the stream ends.
        trips: Is told of round trips to Redis.
        similar: Finds replies to similar prompts; None where they are not wanted.

    """

    def __init__(
        self,
        core: CacheCore,
        clock: Clock,
        session: Session,
        trips: RoundTrips,
        similar: "SimilarPrompts | None" = None,
    ) -> None:
        self._core = core
        self._similar = similar
        self._clock = clock
        self._session = session
        self._trips = trips
        self._ids = RequestIds()
        self._leases: dict[str, Lease] = {}
        self._abandoned = False
        self._slots = asyncio.Semaphore(MAX_UNDER_WAY)
        self.tally = Tally()
        self.responses: Outbox[Response] = Outbox(OUTBOX_LIMIT)

    async def serve(self, requests: AsyncIterator[Request]) -> None:
        """Answer `requests` until they end; then end the leases, answer what is under way, and close."""
        try:
            async for request in requests:
                arrived_ns = request.arrived_ns
                answer = self._answer_now(request)
                if answer is not None:
                    await self._send(request.request_id, arrived_ns, answer)
                    if isinstance(answer, Hit) and answer.whole is not None:
                        await self._slots.acquire()
                        rest = self._finish(answer, request.request_id, arrived_ns)
                        self._session.spawn(rest, "cache-rest")
                    continue
                assert isinstance(request.operation, Get | Put)
                await self._slots.acquire()
                waiting = self._wait(request.operation, request.request_id, arrived_ns)
                self._session.spawn(waiting, "cache-wait")
            self.end_leases()
            for _ in range(MAX_UNDER_WAY):  # every slot is free once nothing is under way
                await self._slots.acquire()
            self.end_leases()
            self.responses.close()
        except Exception as error:  # noqa: BLE001 - the reader of the responses raises it
            self.responses.close(error)

    def abandon(self) -> None:
        """End every lease of this stream, and those that its tasks may still be given. Never waits."""
        self._abandoned = True
        self.end_leases()

    def end_leases(self) -> None:
        """Give back every lease of this stream, and stop all follows. Never waits."""
        leases, self._leases = tuple(self._leases.values()), {}
        for lease in leases:
            self._core.release(lease)

    def _answer_now(self, request: Request) -> Result | None:
        """Return the answer; None where it needs Redis, or an embedding."""
        operation = request.operation
        try:
            self._ids.use(request.request_id)
            if isinstance(operation, Get):
                self._core.asked(operation.key, keep=operation.keep)
                return self._get_now(operation)
            if isinstance(operation, Put):
                return self._put_now(operation)
            if isinstance(operation, MeshError):
                return Failed(operation)
            return self._use_lease(operation)
        except MeshError as error:
            return Failed(error)

    def _get_now(self, operation: Get) -> Result | None:
        if operation.lease_format is not None:
            self._check_room()
            found = self._core.acquire_now(
                operation.key, operation.lease_format, operation.head_ms, self._need_of(operation)
            )
            return self._join(found)
        if self._similar is not None and self._similar.may_find(operation.key, operation.prompt):
            return None
        return self._core.get_now(operation.key, operation.head_ms)

    def _need_of(self, operation: Get) -> Need:
        trace = self._trips.traceparent
        return replace(operation.need, traceparent=trace) if trace else operation.need

    def _put_now(self, operation: Put) -> Result | None:
        done = self._core.put_now(
            operation.key, operation.value, operation.expected_version, operation.age_ms
        )
        if self._similar is not None and isinstance(done, Done) and not done.stale:
            self._similar.stored(operation.key, operation.prompt)
        return done

    def _use_lease(self, operation: Append | Seal | Release) -> Result:
        lease = self._leases.get(operation.lease_id)
        if isinstance(operation, Release):
            # One that has ended is given back already: its holder cannot know that yet.
            self._leases.pop(operation.lease_id, None)
            return self._core.release(lease) if lease is not None else Done()
        if lease is None:
            name = type(operation).__name__.lower()
            raise InvalidFieldError(f"{name}.lease_id", "no lease of this stream: it ended, or never was")
        try:
            if isinstance(operation, Append):
                return self._core.append(lease, operation.part)
            return self._core.seal(lease, operation.tags, operation.age_ms)
        finally:
            if lease.ended:
                self._leases.pop(lease.id, None)

    async def _wait(self, operation: Get | Put, request_id: int, arrived_ns: int) -> None:
        try:
            try:
                result = await self._perform(operation, arrived_ns)
            except Exception as error:  # noqa: BLE001 - one request's fault does not end the stream
                result = _failed(error)
            await self._send(request_id, arrived_ns, result)
            if isinstance(result, Hit) and result.whole is not None:
                await self._send_rest(result, request_id, arrived_ns)
        finally:
            self._slots.release()

    async def _finish(self, head: Hit, request_id: int, arrived_ns: int) -> None:
        try:
            await self._send_rest(head, request_id, arrived_ns)
        finally:
            self._slots.release()

    async def _send_rest(self, head: Hit, request_id: int, arrived_ns: int) -> None:
        """Send what comes behind a head."""
        assert head.whole is not None
        assert isinstance(head.value, AudioValue)
        try:
            whole = await head.whole()
        except Exception as error:  # noqa: BLE001 - as above
            await self._send(request_id, arrived_ns, _failed(error))
            return
        for start in range(len(head.value.audio), len(whole.audio), REST_PART_BYTES):
            part = whole.cut(start, start + REST_PART_BYTES)
            await self._send(request_id, arrived_ns, Part(part))
        await self._send(request_id, arrived_ns, Sealed())

    async def _perform(self, operation: Get | Put, arrived_ns: int) -> Result:
        if isinstance(operation, Put):
            assert isinstance(operation.value, HistoryValue)
            return await self._core.histories.put(
                operation.key, operation.value, operation.expected_version, self._trips
            )
        if operation.lease_format is None:
            result = await self._core.get(operation.key, self._trips, operation.head_ms)
            return await self._or_similar(operation, result, arrived_ns)
        found = await self._core.acquire(
            operation.key, operation.lease_format, self._trips, operation.head_ms, self._need_of(operation)
        )
        joined = self._join(found)
        assert joined is not None
        return joined

    async def _or_similar(self, operation: Get, exact: Hit | Miss, arrived_ns: int) -> Hit | Miss:
        """Return the exact reply, or where it is missing that to a similar prompt."""
        similar, prompt = self._similar, operation.prompt
        if similar is None or prompt is None:
            return exact
        if isinstance(exact, Hit):
            similar.stored(operation.key, prompt)  # another replica had stored it
            return exact
        found = await similar.find(operation.key, prompt, arrived_ns, operation.similar_ms, self._trips)
        return found or exact

    def _check_room(self) -> None:
        if len(self._leases) >= MAX_LEASES:
            self._leases = {name: lease for name, lease in self._leases.items() if not lease.ended}
        if len(self._leases) >= MAX_LEASES:
            raise InvalidFieldError("get.on_miss", f"the limit of {MAX_LEASES} leases of a stream is reached")

    def _join(self, found: Hit | Joined | None) -> Result | None:
        if not isinstance(found, Joined):
            return found
        if self._abandoned:
            # A cancel can be lost while Redis is waited for: `asyncio.wait_for` of Python 3.11 drops one that
            # comes with the result. Nobody would give this lease back.
            self._core.release(found.lease)
        else:
            self._leases[found.lease.id] = found.lease
        return found.event

    async def _follow(self, lease: Lease, request_id: int, arrived_ns: int) -> None:
        async for event in self._core.leases.follow(lease):
            await self._send(request_id, arrived_ns, event)
        if lease.ended:
            self._leases.pop(lease.id, None)

    async def _send(self, request_id: int, arrived_ns: int, result: Result) -> None:
        self._count(result)
        server_us = (self._clock.now_ns() - arrived_ns) // 1000
        await self.responses.put(Response(request_id, server_us, result))
        if isinstance(result, Following) and (lease := self._leases.get(result.lease_id)) is not None:
            self._session.spawn(self._follow(lease, request_id, arrived_ns), "cache-follow")

    def _count(self, result: Result) -> None:
        tally = self.tally
        if isinstance(result, Hit):
            if result.similar:
                tally.similar_hits += 1
            elif result.tier == "memory":
                tally.memory_hits += 1
            else:
                tally.redis_hits += 1
        elif isinstance(result, Failed):
            tally.errors += 1
        elif isinstance(result, Miss):
            tally.misses += 1
        elif isinstance(result, Granted):
            tally.granted += 1
        elif isinstance(result, Following):
            tally.following += 1


def _failed(error: Exception) -> Failed:
    if not isinstance(error, MeshError):
        _log.error("request failed", exc_info=error)
    return Failed(error)
