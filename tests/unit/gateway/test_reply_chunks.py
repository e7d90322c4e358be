"""How a reply was cut is found again by who would cut it so."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.beginnings import Beginnings
from gateway.core import actions as do
from gateway.core import events as on
from gateway.memory import Memory
from gateway.translation import chunk_from
from tests.unit.gateway.test_keys import MESSAGES, SPEC, SPEECH, TEXT
from voicemesh.cache.v1 import cache_pb2
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.clock import ManualClock

CHUNK = chunk_from(common_pb2.Chunk(text="Because.", text_length=8, reason=common_pb2.CHUNK_REASON_SENTENCE))


@dataclass
class Peers:
    chunker_revision: str
    llm_revision: str = "llm"


@dataclass
class Cache:
    """Keeps the last reply that it is given."""

    reply: cache_pb2.CacheValue = field(default_factory=cache_pb2.CacheValue)
    timeout_ms: float = 20

    def request(self, request: cache_pb2.ExchangeRequest, answer: Any = None) -> None:
        if request.HasField("put"):
            self.reply = request.put.value
        else:
            answer(
                cache_pb2.ExchangeResponse(
                    hit=cache_pb2.Hit(value=self.reply, tier=cache_pb2.CACHE_TIER_MEMORY)
                ),
                "",
            )


def found(cache: Cache, chunker_revision: str) -> on.ReplyFound:
    heard: list[on.Event] = []
    memory(cache, chunker_revision, heard).look_up(do.LookUpReply(MESSAGES))
    (event,) = heard
    assert isinstance(event, on.ReplyFound)
    return event


def memory(cache: Cache, chunker_revision: str, heard: list[on.Event]) -> Memory:
    peers: Any = Peers(chunker_revision)
    link: Any = cache
    return Memory(SPEC, TEXT, SPEECH, peers, link, heard.append, ManualClock(), Beginnings())


@pytest.mark.parametrize(("now", "cut"), [("a", (CHUNK,)), ("b", ()), ("", ())])
def test_what_another_chunker_has_cut_is_cut_anew(now: str, cut: tuple[Any, ...]) -> None:
    cache = Cache()
    memory(cache, "a", []).store(do.StoreReply(MESSAGES, "Because.", None, (CHUNK,)))
    assert found(cache, now).text == "Because."
    assert found(cache, now).chunks == cut
