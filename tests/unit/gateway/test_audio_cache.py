"""What is told to the cache about a chunk's audio, and what comes of its answers."""

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from gateway.audio_cache import AudioCache
from gateway.breaker import Breaker
from gateway.cache_link import CacheLink, Patience
from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.values import Word
from gateway.options import SpeechChoice
from gateway.stand_ins import StandIns
from tests.unit.gateway.engine import spec
from tests.unit.gateway.test_cache_link import SilentLink
from voicemesh.cache.v1 import cache_pb2
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.clock import ManualClock

RATE = 1000
FORMAT = common_pb2.AudioFormat(sample_rate_hz=RATE)
WORD = Word("well", 0, 4, 0)


def speech() -> SpeechChoice:
    return SpeechChoice(
        voice=common_pb2.Voice(name="v"),
        format=FORMAT,
        heard=FORMAT,
        speed=1,
        policy=common_pb2.ChunkPolicy(),
        max_lead_ms=0,
        word_timings=False,
        audio_cache=True,
        speech_text=True,
    )


class PeersOf:
    """What is needed of the peers."""

    def __init__(self, clock: ManualClock) -> None:
        self.stand_ins = StandIns(clock)


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.link = SilentLink()
        self.events: list[on.Event] = []
        self.span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("turn")
        patience = Patience(60, Breaker(self.clock, 1.0))
        open_link: Any = lambda: self.link  # noqa: E731 - stands in for a Link
        self.cache = CacheLink(open_link, patience, patience, stall_s=60)
        peers: Any = PeersOf(self.clock)
        self.audio = AudioCache(
            spec(), speech(), peers, self.cache, self.events.append, self.span, self.clock
        )

    def look_up(self, index: int = 0) -> cache_pb2.ExchangeRequest:
        self.audio.look_up(do.LookUpAudio(index, "well", due_ms=700, begin_ms=500))
        sent: cache_pb2.ExchangeRequest = self.link.sent[-1]
        return sent

    async def say(self, request: cache_pb2.ExchangeRequest, **result: Any) -> None:
        await self.cache.take(cache_pb2.ExchangeResponse(request_id=request.request_id, **result))

    async def lead(self) -> cache_pb2.ExchangeRequest:
        request = self.look_up()
        await self.say(request, granted=cache_pb2.LeaseGranted(lease_id="l"))
        return request

    async def follow(self) -> cache_pb2.ExchangeRequest:
        request = self.look_up()
        so_far = cache_pb2.AudioValue(audio=b"ab")
        await self.say(request, following=cache_pb2.Following(lease_id="f", so_far=so_far))
        return request

    @property
    def told(self) -> list[tuple[str, str, bytes, int]]:
        """What was sent behind the lookups: operation, lease, audio, words."""
        return [
            (
                kind,
                getattr(sent, kind).lease_id,
                sent.append.part.audio,
                len(sent.append.part.words),
            )
            for sent in self.link.sent
            if (kind := sent.WhichOneof("operation")) not in ("get", "put")
        ]

    @property
    def noted(self) -> list[str]:
        assert isinstance(self.span, ReadableSpan)
        return [event.name for event in self.span.events]


async def test_a_chunk_asks_for_the_head_or_the_lease_and_what_is_foreseen_for_neither() -> None:
    bench = Bench()
    get = bench.look_up().get
    assert (get.on_miss, get.head_ms) == (cache_pb2.Get.ON_MISS_LEASE_OR_FOLLOW, 200)
    bench.audio.foresee(do.LookUpAudio(-1, "well"))
    get = bench.link.sent[-1].get
    assert (get.on_miss, get.head_ms) == (cache_pb2.Get.ON_MISS_RETURN, 0)


async def test_the_first_frames_leave_at_once_with_their_words_and_later_ones_together() -> None:
    bench = Bench()
    await bench.lead()
    assert bench.events == [on.AudioGranted(0)]
    bench.audio.append(0, b"", (WORD,))
    bench.audio.append(0, b"aa" * 100, ())
    await asyncio.sleep(0)
    assert bench.told == [("append", "l", b"aa" * 100, 1)]
    bench.audio.append(0, b"bb" * 100, ())  # behind the first 160 ms
    await asyncio.sleep(0)
    bench.audio.append(0, b"cc", ())
    assert len(bench.told) == 1
    bench.audio.seal(0)
    assert bench.told[1:] == [("append", "l", b"bb" * 100 + b"cc", 0), ("seal", "l", b"", 0)]
    bench.audio.append(0, b"dd", ())
    bench.audio.release(0)
    assert len(bench.told) == 3


async def test_what_is_given_up_goes_to_the_others_with_all_there_was() -> None:
    bench = Bench()
    await bench.lead()
    bench.audio.append(0, b"aa" * 100, ())
    bench.audio.release(0)
    assert bench.told == [("append", "l", b"aa" * 100, 0), ("release", "l", b"", 0)]


async def test_a_lease_that_was_lost_is_told_nothing_more() -> None:
    bench = Bench()
    await bench.lead()
    bench.audio.append(0, b"aa", ())
    await asyncio.sleep(0)
    await bench.say(bench.link.sent[-1], error={"code": 3})
    bench.audio.append(0, b"bb", ())
    bench.audio.seal(0)
    assert [kind for kind, *_ in bench.told] == ["append"]
    assert bench.noted == [names.LEASE_LOST]


async def test_a_lease_whose_stream_ended_is_lost() -> None:
    bench = Bench()
    await bench.lead()
    bench.cache.ended(bench.link, None)  # type: ignore[arg-type] # stands in for a Link
    bench.audio.append(0, b"aa", ())
    await asyncio.sleep(0)
    assert (bench.told, bench.noted) == ([], [names.LEASE_LOST])


async def test_what_a_follower_hears_are_events_up_to_the_seal() -> None:
    bench = Bench()
    request = await bench.follow()
    await bench.say(request, part=cache_pb2.AudioValue(audio=b"cd"))
    await bench.say(request, sealed=cache_pb2.Sealed())
    assert bench.events == [
        on.AudioFollowing(0, b"ab", ()),
        on.AudioPart(0, b"cd", ()),
        on.AudioSealed(0),
    ]
    assert bench.noted == [names.FOLLOWED]
    bench.audio.release(0)
    assert bench.told == []


async def test_a_follower_that_is_granted_the_lease_leads() -> None:
    bench = Bench()
    await bench.say(await bench.follow(), granted=cache_pb2.LeaseGranted(lease_id="f", offset_samples=1))
    bench.audio.append(0, b"cd", ())
    bench.audio.seal(0)
    assert bench.events[1:] == [on.AudioGranted(0, 1)]
    assert bench.told == [("append", "f", b"cd", 0), ("seal", "f", b"", 0)]
    assert bench.noted == [names.FOLLOWED, names.TAKEN_OVER]


async def test_a_follower_that_stops_says_so() -> None:
    bench = Bench()
    request = await bench.follow()
    bench.audio.release(0)
    assert bench.told == [("release", "f", b"", 0)]
    await bench.say(request, part=cache_pb2.AudioValue(audio=b"cd"))
    assert len(bench.events) == 1


@pytest.mark.parametrize("how", ["error", "ended"])
async def test_a_follow_that_breaks_is_lost_with_a_reason(how: str) -> None:
    bench = Bench()
    request = await bench.follow()
    if how == "error":
        await bench.say(request, error={"code": 14, "message": "gone"})
        assert bench.told == [("release", "f", b"", 0)]
    else:
        bench.cache.ended(bench.link, None)  # type: ignore[arg-type] # stands in for a Link
    assert bench.events[1:] == [on.AudioLost(0, "gone" if how == "error" else "the cache ended the stream")]


async def test_while_another_voice_stands_in_nobody_leads_and_nobody_follows() -> None:
    bench = Bench()
    following, asking = await bench.follow(), bench.look_up(1)
    bench.audio.look_up(do.LookUpAudio(2, "well"))
    leading = bench.link.sent[-1]
    await bench.say(leading, granted=cache_pb2.LeaseGranted(lease_id="l"))
    bench.events.clear()
    bench.audio.release(2, foreign=True)
    await bench.say(following, granted=cache_pb2.LeaseGranted(lease_id="f", offset_samples=1))
    await bench.say(asking, granted=cache_pb2.LeaseGranted(lease_id="g"))
    assert bench.events == [on.AudioLost(0), on.AudioMissing(1)]
    assert [lease for kind, lease, *_ in bench.told if kind == "release"] == ["l", "f", "g"]
    assert bench.look_up(3).get.on_miss == cache_pb2.Get.ON_MISS_RETURN
    bench.clock.advance_ms(2001)
    assert bench.look_up(4).get.on_miss == cache_pb2.Get.ON_MISS_LEASE_OR_FOLLOW


async def test_the_cache_is_told_when_audio_is_needed_and_what_it_takes_to_begin() -> None:
    bench = Bench()
    get = bench.look_up().get
    assert (get.due_ms, get.begin_ms) == (700, 500)
