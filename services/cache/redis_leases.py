"""Leases that hold across replicas: the questions of `replication.py`, asked of one Redis.

    a caller's miss ── look, at most the tier's timeout ──┐
    the pump ── all questions that are due, one pipeline ─┼──> Redis
    the listener <── mail, on a connection of its own ────┘

Where Redis is held off, or mail does not arrive, leases are those of this replica alone.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final, Literal

from redis.exceptions import RedisError

from services.cache import lease_scripts
from services.cache.durable import DurableUnavailableError, RoundTrips, Untraced
from services.cache.keys import Selector, StoredKey
from services.cache.records import Answer, Condemn, Condemned, Failed, Held, Question, Taken
from services.cache.redis_tier import UNANSWERED, RedisTier, report
from services.cache.replication import Asked, Replication
from services.cache.values import AudioFormat, AudioValue
from voicemesh.runtime.clock import Clock

_BATCH: Final = 64
"""Questions in one pipeline."""
_QUIET_S: Final = 5.0
"""Silence of the mailbox after which it is asked whether it is still there."""
_RETRY_S: Final = (0.05, 1.0)
"""Shortest and longest wait before the mailbox is opened again."""
_CLOSE_S: Final = 1.0
_SCAN_COUNT: Final = 500


class RedisLeases:
    """The leases of this replica, as far as Redis knows of them.

    Args:
        tier: The Redis; its breaker is the one of the leases too.
        replication: What is to be asked.
        clock: Its clock.
        replica: Names this replica among all.

    """

    def __init__(self, tier: RedisTier, replication: Replication, clock: Clock, *, replica: str) -> None:
        self._tier = tier
        self.replication = replication
        self._clock = clock
        self._replica = replica
        self._work = asyncio.Event()
        self._lost = asyncio.Event()
        self._listening = False
        self._asking = asyncio.Lock()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        # The pump's questions have no caller that waits; their followers do.
        self._pump_timeout_s = max(tier.timeout_s, replication.hold_ms / 4000)
        replication.on_work = self._work.set

    @property
    def available(self) -> bool:
        """False while leases are those of this replica alone."""
        return self._tier.available and self._listening

    @property
    def timeout_s(self) -> float:
        """Seconds that a caller waits for `look` at most."""
        return self._tier.timeout_s

    def start(self) -> None:
        """Begin to listen and to ask; needs a running loop."""
        loop = asyncio.get_running_loop()
        self._tasks = (
            loop.create_task(self._listen(), name="lease-listener"),
            loop.create_task(self._pump(), name="lease-pump"),
        )
        for task in self._tasks:
            task.add_done_callback(report)

    async def close(self) -> None:
        """Give up what is held, for a second at most, and end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                while asked := self._questions():
                    await self._ask(asked)
        ending: set[asyncio.Task[None]] = set(self._tasks)
        while ending:
            for task in ending:
                task.cancel()
            # Again and again: a cancellation that meets redis-py in the middle of a failure gets lost.
            _, ending = await asyncio.wait(ending, timeout=0.05)

    def redis_lost(self) -> None:
        """Note that Redis is held off: the mailbox may be half dead."""
        self._lost.set()
        self.replication.disconnected()

    def redis_back(self) -> None:
        """Note that Redis answers again."""
        self.replication.reconnected()

    async def look(
        self, key: StoredKey, form: AudioFormat, trips: RoundTrips, timeout_s: float
    ) -> Literal["opened", "stored", "alone"]:
        """Take or follow the lease of `key`, which nobody has here; never fails.

        Returns:
            "opened" where `LeaseTable.acquire` is to follow at once, "stored" where the entry is in
            Redis, "alone" where Redis had no answer in time.

        """
        question = self.replication.look(key, trips.traceparent)
        try:
            with trips.redis("EVAL", key):
                looking = self._tier.send(self._command(question))
                (reply,) = await self._tier.ask("EVAL", looking, timeout_s)
            answer = self._answer(reply)
        except DurableUnavailableError:
            answer = Failed()
        except asyncio.CancelledError:
            self.replication.unlooked(question, unknown=True)
            raise
        if isinstance(answer, Held | Taken):
            self.replication.looked(key, form, question, answer)
            return "opened"
        self.replication.unlooked(question, unknown=answer is not None)
        return "stored" if answer is None else "alone"

    def store(self, key: StoredKey, value: AudioValue, ttl_ms: int, *, admitted: bool) -> bool:
        """Write a sealed value and then let its lease go; False where Redis knows of no lease."""
        return self.replication.store(key, value, ttl_ms, admitted=admitted)

    async def discard(self, selector: Selector) -> None:
        """Make sure that nothing that matches and is being made at any replica gets into Redis.

        Raises:
            DurableUnavailableError: Redis did not answer.

        """
        if selector.target == "key":
            await self._condemn([selector.name])
            return
        cursor = 0
        while True:
            pattern = lease_scripts.PREFIX + selector.pattern
            step = self._tier.client.scan(cursor, match=pattern, count=_SCAN_COUNT)
            cursor, found = await self._tier.ask("SCAN", step, _CLOSE_S)
            names = {lease_scripts.name_of(record.decode()) for record in found}
            await self._condemn(sorted(names))
            if not cursor:
                return

    async def _condemn(self, names: Sequence[str]) -> None:
        for name in names:
            await self._tier.ask("EVAL", self._tier.send(self._command(Condemn(name))), _CLOSE_S)

    def _command(self, question: Question) -> tuple[str | bytes | int, ...]:
        hold_ms, most_bytes = self.replication.hold_ms, self._tier.entries.max_bytes
        return lease_scripts.command(question, self._replica, hold_ms, most_bytes)

    def _questions(self) -> list[Asked]:
        return self.replication.questions(reachable=self._tier.available, listening=self._listening)

    async def _pump(self) -> None:
        while True:
            self._work.clear()
            if asked := self._questions():
                await self._ask(asked)
                continue
            due_ns = self.replication.next_due_ns
            left_s = None if due_ns is None else max((due_ns - self._clock.now_ns()) / 1e9, 0.001)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._work.wait()

    async def _ask(self, asked: Sequence[Asked]) -> None:
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            commands = [self._command(each.question) for each in batch]
            try:
                replies = await self._tier.ask("EVAL", self._tier.send(*commands), self._pump_timeout_s)
            except DurableUnavailableError:
                answers: list[Answer | None] = [Failed()] * len(batch)
            else:
                answers = [self._answer(reply) for reply in replies]
            for each, answer in zip(batch, answers, strict=True):
                # Without an answer the entry is there, and a follower is to hear the end of it.
                self.replication.answered(each, await self._entry(each) if answer is None else answer)

    async def _entry(self, asked: Asked) -> Answer:
        assert asked.share is not None
        try:
            found = await self._tier.get(asked.share.fill.key, Untraced())
        except DurableUnavailableError:
            return Failed()
        return Failed(refused=True) if found is None else found  # nobody can read it, or it has gone

    async def _listen(self) -> None:
        wait_s = _RETRY_S[0]
        while True:
            self._lost.clear()
            reading = asyncio.ensure_future(self._read_mail())
            losing = asyncio.ensure_future(self._lost.wait())
            try:
                await asyncio.wait({reading, losing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                was_listening, self._listening = self._listening, False
                self.replication.disconnected()
                for task in (reading, losing):
                    task.cancel()
                await asyncio.gather(reading, losing, return_exceptions=True)
            wait_s = _RETRY_S[0] if was_listening else min(2 * wait_s, _RETRY_S[1])
            await asyncio.sleep(wait_s)

    async def _read_mail(self) -> None:
        """Hand on what comes to this replica's mailbox, until that fails."""
        pubsub = self._tier.client.pubsub()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await pubsub.subscribe(lease_scripts.MAILBOX + self._replica)
            asked = False
            while True:
                message = await pubsub.get_message(timeout=_QUIET_S)
                if message is None:
                    if asked:
                        return
                    asked = True
                    await pubsub.ping()
                    continue
                asked = False
                if message["type"] == "subscribe":
                    self._listening = True
                    self.replication.reconnected()
                elif message["type"] == "message":
                    self._hear(message["data"])
        except (RedisError, *UNANSWERED):
            return  # the tier says so, once
        finally:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _hear(self, data: bytes) -> None:
        try:
            mail = lease_scripts.mail_of(data, self._tier.entries.max_bytes)
        except ValueError as error:
            self._tier.complaints.warn("mail of a lease cannot be read", reason=str(error))
            return
        self.replication.heard(mail)

    def _answer(self, reply: Any) -> Answer | None:
        """Return what a script answered; None where the entry exists."""
        if isinstance(reply, Exception):
            self._tier.complaints.warn("Redis refused a lease", reason=str(reply)[:120])
            return Failed(refused=True)
        try:
            return lease_scripts.answer_of(reply)
        except ValueError as error:
            self._tier.complaints.warn("a lease in Redis cannot be read", reason=str(error))
            return Condemned()
