"""The first audio of a reply that the cache has, asked for together with the reply."""

import asyncio
import pathlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.contract.gateway_harness import GUARD_S, Services, running_gateway
from tests.contract.test_gateway import ask
from voicemesh.cache.v1 import cache_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb


@dataclass
class Keeping(Services):
    """Services with a cache that keeps what it is given.

    Once `strict`, it answers no question for a reply before audio is asked for, too.
    """

    strict: bool = False
    whole: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a turn's audio, reply and history were put."""
    kept: dict[bytes, cache_pb2.CacheValue] = field(default_factory=dict)

    async def Exchange(
        self, request_iterator: AsyncIterator[cache_pb2.ExchangeRequest], context: Any
    ) -> AsyncIterator[cache_pb2.ExchangeResponse]:
        """Answer from what was put."""
        del context
        held: list[cache_pb2.ExchangeResponse] = []
        async for request in request_iterator:
            answer = cache_pb2.ExchangeResponse(request_id=request.request_id)
            if request.WhichOneof("operation") != "get":
                self.kept[request.put.key.SerializeToString()] = request.put.value
                self.puts.append(request.put)
                if {kind(put.key) for put in self.puts} == {"audio", "reply", "history"}:
                    self.whole.set()
                answer.done.SetInParent()
                yield answer
                continue
            key = request.get.key
            self.asked.append(key)
            value = self.kept.get(key.SerializeToString())
            if value is None:
                answer.miss.SetInParent()
            else:
                answer.hit.value.CopyFrom(value)
            held.append(answer)
            if self.strict and key.WhichOneof("key") == "reply":
                continue
            while held:
                yield held.pop()


@pytest.mark.parametrize("gone", [False, True], ids=["kept", "gone meanwhile"])
async def test_a_question_asked_again_asks_for_reply_and_audio_in_one_breath(
    socket_folder: pathlib.Path, gone: bool
) -> None:
    services = Keeping()
    async with running_gateway(str(socket_folder), services) as gateway:
        await gateway.serving()
        assert (await ask(gateway)).reply_cache == pb.CACHE_OUTCOME_MISS
        async with asyncio.timeout(GUARD_S):
            await services.whole.wait()
        if gone:
            services.kept.clear()
        services.asked.clear()
        services.strict = True
        report = await ask(gateway)
        services.strict = False
    assert report.outcome == pb.TURN_OUTCOME_COMPLETED
    assert [kind(key) for key in services.asked[:2]] == ["reply", "audio"]
    assert report.reply_cache == (pb.CACHE_OUTCOME_MISS if gone else pb.CACHE_OUTCOME_MEMORY)
    assert not report.degraded
    assert len(services.asked) == (3 if gone else 2), "missing audio is asked for again, for its lease"


def kind(key: cache_pb2.CacheKey) -> str:
    """Return what an entry is."""
    return key.WhichOneof("key") or ""
