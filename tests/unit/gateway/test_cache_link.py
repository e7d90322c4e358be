"""The cache link with a link that keeps what is sent: nothing is answered but by the test."""

import asyncio
from typing import Any

from google.rpc import status_pb2

from gateway.breaker import Breaker
from gateway.cache_link import CacheLink, Patience
from voicemesh.cache.v1 import cache_pb2
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.status import RemoteError


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
    def __init__(self, timeout_s: float, stall_s: float = 60, history_s: float = 60) -> None:
        self.links: list[SilentLink] = []
        self.breaker = Breaker(ManualClock(), 1.0)
        self.histories = Breaker(ManualClock(), 1.0)
        self.cache = CacheLink(
            self._open, Patience(timeout_s, self.breaker), Patience(history_s, self.histories), stall_s
        )
        self.answers: list[tuple[Any, str]] = []
        self.answered = asyncio.Event()

    def _open(self) -> Any:
        self.links.append(SilentLink())
        return self.links[-1]

    def ask(self) -> cache_pb2.ExchangeRequest:
        request = cache_pb2.ExchangeRequest()
        self.cache.request(request, self._answer)
        return request

    def remember(self) -> cache_pb2.ExchangeRequest:
        request = cache_pb2.ExchangeRequest()
        self.cache.request(request, self._answer, history=True)
        return request

    def follow(self) -> cache_pb2.ExchangeRequest:
        request = cache_pb2.ExchangeRequest()
        self.cache.request(request, self._answer, lasting=True)
        return request

    async def say(self, request: cache_pb2.ExchangeRequest, **result: Any) -> cache_pb2.ExchangeResponse:
        response = cache_pb2.ExchangeResponse(request_id=request.request_id, **result)
        await self.cache.take(response)
        return response

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


async def test_a_lasting_request_is_answered_until_the_response_that_ends_it() -> None:
    bench = Bench(timeout_s=60)
    request = bench.follow()
    bench.cache.drain()
    results: list[dict[str, Any]] = [
        {"following": cache_pb2.Following(lease_id="l")},
        {"part": cache_pb2.AudioValue(audio=b"ab")},
        {"sealed": cache_pb2.Sealed()},
    ]
    given = [await bench.say(request, **result) for result in results]
    assert [link.half_closed for link in bench.links] == [True], "drained by the last"
    await bench.say(request, part=cache_pb2.AudioValue(audio=b"late"))
    assert bench.answers == [(response, "") for response in given]


async def test_a_head_is_followed_by_the_rest_and_a_whole_hit_by_nothing() -> None:
    for more in (True, False):
        bench = Bench(timeout_s=60)
        request = bench.follow()
        await bench.say(request, hit=cache_pb2.Hit(more=more))
        await bench.say(request, part=cache_pb2.AudioValue(audio=b"ab"))
        assert len(bench.answers) == 1 + more


async def test_a_follow_that_stalls_ends_and_says_nothing_of_the_cache() -> None:
    bench = Bench(timeout_s=60, stall_s=0.01)
    request = bench.follow()
    await bench.say(request, following=cache_pb2.Following(lease_id="l"))
    bench.answered.clear()
    await bench.answered.wait()
    assert bench.answers[-1] == (None, "the cache gave no more for 0.01 s")
    assert bench.breaker.allows()


async def test_a_lease_that_is_granted_too_late_is_given_back() -> None:
    for result in (
        {"granted": cache_pb2.LeaseGranted(lease_id="l")},
        {"following": cache_pb2.Following(lease_id="l")},
    ):
        bench = Bench(timeout_s=0.001)
        request = bench.follow()
        await bench.answered.wait()
        bench.breaker.succeeded()
        await bench.say(request, **result)
        assert [sent.release.lease_id for sent in bench.links[0].sent] == ["", "l"]
        assert len(bench.answers) == 1


async def test_a_lease_that_is_granted_to_what_was_forgotten_is_given_back() -> None:
    bench = Bench(timeout_s=60)
    request = bench.follow()
    bench.cache.forget(request.request_id)
    await bench.say(request, granted=cache_pb2.LeaseGranted(lease_id="l"))
    assert bench.links[0].sent[-1].release.lease_id == "l"
    assert bench.answers == []


async def test_what_belongs_to_a_lease_goes_to_its_stream_whatever_the_breaker_says_or_nowhere() -> None:
    bench = Bench(timeout_s=60)
    await bench.say(bench.follow(), granted=cache_pb2.LeaseGranted(lease_id="l"))
    stream = bench.cache.stream
    bench.breaker.failed()
    append = cache_pb2.ExchangeRequest(append=cache_pb2.Append(lease_id="l"))
    assert bench.cache.tell(stream, append)
    assert bench.links[0].sent[-1] is append
    bench.cache.ended(bench.links[0], None)  # type: ignore[arg-type] # stands in for a Link
    bench.breaker.succeeded()
    bench.ask()
    assert not bench.cache.tell(stream, append), "another stream knows no such lease"
    assert len(bench.links[1].sent) == 1


async def test_a_stream_that_breaks_ends_what_follows_by_it() -> None:
    bench = Bench(timeout_s=60)
    await bench.say(bench.follow(), following=cache_pb2.Following(lease_id="l"))
    bench.cache.ended(bench.links[0], None)  # type: ignore[arg-type] # stands in for a Link
    assert bench.answers[-1] == (None, "the cache ended the stream")


async def test_what_is_held_off_says_what_it_failed_of() -> None:
    bench = Bench(timeout_s=0.001)
    bench.ask()
    await bench.answered.wait()
    bench.answered.clear()
    bench.ask()
    await bench.answered.wait()
    assert [why for _, why in bench.answers] == [
        "the cache took longer than 1 ms",
        "the cache is held off after it failed: the cache took longer than 1 ms",
    ]


async def test_a_cache_that_is_too_slow_for_lookups_is_still_asked_for_a_history() -> None:
    bench = Bench(timeout_s=0.001)
    bench.ask()
    history = bench.remember()
    await bench.answered.wait()
    assert not bench.breaker.allows()
    response = await bench.say(history, hit=cache_pb2.Hit())
    assert bench.answers[1:] == [(response, "")]
    bench.remember()
    assert len(bench.links[0].sent) == 3


async def test_a_history_that_is_late_is_not_waited_for_again() -> None:
    bench = Bench(timeout_s=60, history_s=0.001)
    bench.remember()
    await bench.answered.wait()
    assert bench.answers == [(None, "the cache took longer than 1 ms")]
    assert not bench.histories.allows()
    assert bench.breaker.allows()


async def test_a_stream_that_fails_is_reason_enough_to_leave_the_cache_alone() -> None:
    bench = Bench(timeout_s=60)
    bench.ask()
    gone = RemoteError(status_pb2.Status(message="gone"))
    bench.cache.ended(bench.links[0], gone)  # type: ignore[arg-type] # stands in for a Link
    assert not bench.breaker.allows()
    assert not bench.histories.allows()
