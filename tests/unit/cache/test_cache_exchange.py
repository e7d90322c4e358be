"""One stream of requests: what it was given is given back, however it ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from services.cache.durable import DurableEntry, RoundTrips, Untraced
from services.cache.exchange import Exchange
from services.cache.keys import StoredKey
from services.cache.requests import Get, Request
from tests.unit.cache.fake_durable import FakeDurable
from tests.unit.cache.test_cache_core import Process
from tests.unit.cache.values_for_tests import FORMAT, audio_key
from voicemesh.runtime.sessions import SessionRegistry


class DeafDurable(FakeDurable):
    """Loses the cancel that comes while it answers, as `asyncio.wait_for` may under a client of Redis."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.clear()
        self.waited_for = asyncio.Event()

    async def get(self, key: StoredKey, trips: RoundTrips, head_ms: int = 0) -> DurableEntry | None:
        self.waited_for.set()
        with contextlib.suppress(asyncio.CancelledError):
            await super().get(key, trips, head_ms)
        return None


async def test_a_lease_that_comes_behind_the_end_of_its_stream_is_given_back() -> None:
    durable = DeafDurable()
    process, sessions = Process(durable), SessionRegistry()
    session = sessions.open()
    exchange = Exchange(process.core, process.clock, session, Untraced())

    async def requests() -> AsyncIterator[Request]:
        yield Request(1, Get(audio_key(), lease_format=FORMAT), 0)
        await asyncio.Event().wait()

    session.spawn(exchange.serve(requests()), "serve")
    await durable.waited_for.wait()
    await asyncio.sleep(0)  # into the answer itself
    session.cancel()
    exchange.abandon()
    await sessions.join(30)
    assert not process.core.leases.active
