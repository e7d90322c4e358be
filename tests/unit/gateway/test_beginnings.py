"""How replies to known questions begin, and audio that is asked for with the reply."""

import random
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from gateway.beginnings import _MAX_QUESTIONS, Beginnings, question_of
from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.values import Chunk
from gateway.keys import chunking, reply_key
from gateway.memory import Memory
from gateway.options import TextChoice
from tests.unit.gateway.engine import spec
from tests.unit.gateway.test_audio_cache import Bench, speech
from voicemesh.cache.v1 import cache_pb2
from voicemesh.common.v1 import common_pb2

HEAD = cache_pb2.Hit(value=cache_pb2.CacheValue(audio=cache_pb2.AudioValue(audio=b"ab")), more=True)
WHOLE = cache_pb2.Hit(value=cache_pb2.CacheValue(audio=cache_pb2.AudioValue(audio=b"abcd")))
PART = cache_pb2.AudioValue(audio=b"cd")
TEXT = TextChoice("", "", common_pb2.GenerationParameters(), reply_cache=True)
QUESTION = question_of("", "v", chunking(speech(), "c"), reply_key(spec(), "r", TEXT, ()))


def ahead(bench: Bench, text: str = "well") -> cache_pb2.ExchangeRequest:
    bench.audio.look_ahead(text)
    sent: cache_pb2.ExchangeRequest = bench.link.sent[-1]
    return sent


def became(bench: Bench) -> Any:
    assert isinstance(bench.span, ReadableSpan)
    assert bench.span.attributes is not None
    return bench.span.attributes["voicemesh.beginning"]


def test_what_is_remembered_is_bounded_and_goes_when_it_is_not_true_any_more() -> None:
    beginnings = Beginnings()
    beginnings.note(b"long", "x" * 10_000)
    assert beginnings.known(b"long") == ""
    beginnings.note(b"first", "Well,")
    beginnings.note(b"second", "Sure,")
    beginnings.note(b"second", "No,")
    assert (beginnings.known(b"first"), beginnings.known(b"second")) == ("Well,", "No,")
    beginnings.forget(b"second")
    beginnings.forget(b"never")
    assert beginnings.known(b"second") == ""
    for number in range(_MAX_QUESTIONS):
        beginnings.note(b"%d" % number, "Yes.")
    assert beginnings.known(b"first") == ""


def test_a_question_is_another_one_for_another_tenant_voice_policy_or_prompt() -> None:
    key = reply_key(spec(), "r", TEXT, ())
    others = [
        question_of("acme", "v", "en|40", key),
        question_of("", "w", "en|40", key),
        question_of("", "v", "en|80", key),
        question_of("", "ve", "n|40", key),
        question_of("", "v", "en|40", reply_key(spec(), "other", TEXT, ())),
    ]
    plain = question_of("", "v", "en|40", reply_key(spec(), "r", TEXT, ()))
    assert question_of("", "v", "en|40", key) == plain
    assert len({plain, *others}) == len(others) + 1


async def test_audio_in_hand_takes_no_time_and_its_rest_goes_on() -> None:
    bench = Bench()
    request = ahead(bench)
    assert (request.get.on_miss, request.get.head_ms) == (cache_pb2.Get.ON_MISS_RETURN, 200)
    assert became(bench) == "unused"
    await bench.say(request, hit=HEAD, server_us=90)
    assert bench.events == []
    bench.look_up()
    await bench.say(request, part=PART)
    await bench.say(request, sealed=cache_pb2.Sealed())
    assert bench.link.sent == [request]
    assert bench.events == [
        on.AudioFound(0, b"ab", (), "memory", 0, more=True),
        on.AudioPart(0, b"cd", ()),
        on.AudioSealed(0),
    ]
    assert became(bench) == "right"
    bench.look_up()
    assert len(bench.link.sent) == 2, "what was asked for ahead serves once"


async def test_audio_that_comes_behind_its_chunk_takes_no_more_time_than_that_waited() -> None:
    bench = Bench()
    request = ahead(bench)
    bench.look_up()
    bench.clock.advance_ms(2)
    await bench.say(request, hit=WHOLE, server_us=90_000)
    assert bench.link.sent == [request]
    assert bench.events == [on.AudioFound(0, b"abcd", (), "memory", 2000)]


@pytest.mark.parametrize("behind", [False, True], ids=["known when it is asked for", "known later"])
async def test_where_it_is_missing_the_chunk_asks_for_the_lease(behind: bool) -> None:
    bench = Bench()
    request = ahead(bench)
    if behind:
        bench.look_up()
    await bench.say(request, miss=cache_pb2.Miss())
    if not behind:
        bench.look_up()
    asked = bench.link.sent[-1]
    assert asked is not request
    assert asked.get.on_miss == cache_pb2.Get.ON_MISS_LEASE_OR_FOLLOW
    await bench.say(asked, granted=cache_pb2.LeaseGranted(lease_id="l"))
    assert bench.events == [on.AudioGranted(0)]
    assert became(bench) == "missing"


async def test_a_reply_that_begins_otherwise_is_not_given_it() -> None:
    bench = Bench()
    request = ahead(bench, "sure")
    await bench.say(request, hit=HEAD)
    asked = bench.look_up()
    assert asked.get.key.audio.text == "well"
    await bench.say(request, part=PART)
    await bench.say(asked, hit=WHOLE)
    assert bench.events == [on.AudioFound(0, b"abcd", (), "memory", 0)]
    assert became(bench) == "wrong"


async def test_a_later_chunk_that_says_the_same_asks_for_itself() -> None:
    bench = Bench()
    request = ahead(bench)
    await bench.say(request, hit=HEAD)
    assert bench.look_up(1) is not request


async def test_what_broke_before_it_was_asked_for_is_asked_again() -> None:
    bench = Bench()
    await bench.say(ahead(bench), hit=HEAD)
    bench.cache.ended(bench.link, None)  # type: ignore[arg-type] # stands in for a Link
    assert bench.look_up().get.on_miss == cache_pb2.Get.ON_MISS_LEASE_OR_FOLLOW
    assert bench.events == []


async def test_what_breaks_behind_that_is_lost_or_missing() -> None:
    begun, waiting = Bench(), Bench()
    await begun.say(ahead(begun), hit=HEAD)
    ahead(waiting)
    for bench in (begun, waiting):
        bench.look_up()
        bench.cache.ended(bench.link, None)  # type: ignore[arg-type] # stands in for a Link
    why = "the cache ended the stream"
    assert begun.events[1:] == [on.AudioLost(0, why)]
    assert waiting.events == [on.AudioMissing(0, 0, why)]


@pytest.mark.parametrize("seed", range(40))
async def test_whenever_the_chunk_asks_it_gets_each_part_once_and_in_order(seed: int) -> None:
    draw = random.Random(seed)
    bench = Bench()
    request = ahead(bench)
    parts = [bytes([65 + number] * 2) for number in range(draw.randint(0, 4))]
    answers: list[dict[str, Any]] = [
        {"hit": HEAD},
        *({"part": cache_pb2.AudioValue(audio=part)} for part in parts),
        {"sealed": cache_pb2.Sealed()},
    ]
    claimed, stopped = draw.randint(0, len(answers)), draw.randint(0, 2 * len(answers))
    for number in range(len(answers) + 1):
        if number == claimed:
            bench.look_up()
        if number == max(claimed, stopped):
            bench.audio.release(0)
        if number < len(answers):
            await bench.say(request, **answers[number])
    told = [event.audio for event in bench.events if isinstance(event, on.AudioFound | on.AudioPart)]
    whole = [b"ab", *parts]
    heard = max(claimed, stopped)
    assert told == whole[:heard]
    assert (bench.events[-1:] == [on.AudioSealed(0)]) == (heard >= len(answers))
    assert bench.told == []


class Remembering:
    """A turn's memory, with the beginnings of all turns."""

    def __init__(self, beginnings: Beginnings) -> None:
        self.bench = Bench()
        peers: Any = type("Peers", (), {"llm_revision": "r", "chunker_revision": "c"})
        self.memory = Memory(
            spec(),
            TEXT,
            speech(),
            peers,
            self.bench.cache,
            self.bench.events.append,
            self.bench.clock,
            beginnings,
        )

    async def ask(self, **result: Any) -> None:
        self.memory.look_up(do.LookUpReply(()))
        await self.bench.say(self.bench.link.sent[-1], **result)


async def test_it_is_known_from_the_reply_that_was_stored_up_to_the_one_that_is_gone() -> None:
    beginnings = Beginnings()
    made = Remembering(beginnings)
    await made.ask(miss=cache_pb2.Miss())
    assert (made.memory.beginning, made.memory.found) == ("", False)
    chunks = (Chunk(0, "Well", 0, 4, "sentence", 0), Chunk(1, "no.", 5, 3, "sentence", 0))
    made.memory.store(do.StoreReply((), "Well no.", None, chunks))
    stored = made.bench.link.sent[-1].put.value

    again = Remembering(beginnings)
    await again.ask(hit=cache_pb2.Hit(value=stored))
    assert (again.memory.beginning, again.memory.found) == ("Well\n", True)
    gone = Remembering(beginnings)
    await gone.ask(miss=cache_pb2.Miss())
    assert (gone.memory.beginning, gone.memory.found) == ("Well\n", False)
    assert beginnings.known(QUESTION) == ""

    found = Remembering(beginnings)
    await found.ask(hit=cache_pb2.Hit(value=stored))
    assert found.memory.beginning == ""
    uncut = Remembering(beginnings)
    stored.reply.chunks = b""
    await uncut.ask(hit=cache_pb2.Hit(value=stored))
    assert uncut.memory.beginning == "Well\n"
    assert beginnings.known(QUESTION) == ""
