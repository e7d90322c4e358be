"""The cache link with a link that keeps what is sent: nothing is answered but by the test."""

import asyncio
from typing import Any

from gateway.breaker import Breaker
from gateway.cache_link import CacheLink
from voicemesh.cache.v1 import cache_pb2
from voicemesh.runtime.clock import ManualClock


class SilentLink:
    def __init__(self) -> None:
        self.half_closed = False
        self.sent: list[Any] = []

    def send(self, request: Any) -> None:
        self.sent.append(request)

    @property
    def open(self) -> bool:
        return not self.half_closed

    def half_close(self) -> None:
        self.half_closed = True


class Bench:
    def __init__(self, timeout_s: float) -> None:
        self.links: list[SilentLink] = []
        self.breaker = Breaker(ManualClock(), 1.0)
        self.cache = CacheLink(self._open, self.breaker, timeout_s, stall_s=60)
        self.answers: list[tuple[Any, str]] = []
        self.answered = asyncio.Event()

    def _open(self) -> Any:
        self.links.append(SilentLink())
        return self.links[-1]

    def ask(self) -> cache_pb2.ExchangeRequest:
        request = cache_pb2.ExchangeRequest()
        self.cache.request(request, self._answer)
        return request

    def _answer(self, response: Any, why: str) -> None:
        self.answers.append((response, why))
        self.answered.set()


async def test_a_late_answer_does_not_close_the_breaker_that_its_lateness_opened() -> None:
    bench = Bench(timeout_s=0.001)
    request = bench.ask()
    await bench.answered.wait()
    assert bench.answers == [(None, "the cache took longer than 1 ms")]
    assert not bench.breaker.allows()
    await bench.cache.take(cache_pb2.ExchangeResponse(request_id=request.request_id))
    assert not bench.breaker.allows()
    assert len(bench.answers) == 1


async def test_what_nobody_waits_for_does_not_touch_the_breaker() -> None:
    bench = Bench(timeout_s=60)
    put = cache_pb2.ExchangeRequest()
    bench.cache.request(put)
    bench.cache.ended(bench.links[0], None)  # type: ignore[arg-type] # stands in for a Link
    assert bench.breaker.allows()


async def test_an_answer_in_time_is_given_once_and_a_drained_link_is_replaced() -> None:
    bench = Bench(timeout_s=60)
    request = bench.ask()
    bench.cache.drain()
    assert [link.half_closed for link in bench.links] == [False]
    response = cache_pb2.ExchangeResponse(request_id=request.request_id)
    await bench.cache.take(response)
    await bench.cache.take(response)
    assert bench.answers == [(response, "")]
    assert [link.half_closed for link in bench.links] == [True]
    again = bench.ask()
    assert len(bench.links) == 2
    bench.cache.ended(bench.links[0], None)  # type: ignore[arg-type] # the old one: changes nothing
    await bench.cache.take(cache_pb2.ExchangeResponse(request_id=again.request_id))
    assert len(bench.answers) == 2


async def test_a_stream_that_breaks_answers_everything_with_nothing() -> None:
    bench = Bench(timeout_s=60)
    bench.ask()
    bench.ask()
    bench.cache.ended(bench.links[0], None)  # type: ignore[arg-type] # stands in for a Link
    assert bench.answers == [(None, "the cache ended the stream")] * 2
