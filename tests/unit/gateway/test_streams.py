"""Streams that say or take nothing: who is ended, when, and who is not."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.access.caller import CURRENT, Caller
from gateway.admission.rates import MOST_KEYS
from gateway.callers import Responses
from gateway.settings import GatewaySettings
from gateway.streams import Streams
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import DeadlineError, MeshError, TooManyCallsError
from voicemesh.runtime.streams import Outbox

SETTINGS = GatewaySettings(
    gateway_max_caller_streams=2, gateway_configure_s=30, gateway_idle_s=100, gateway_slow_reader_s=60
)


class Context:
    """A call of some peer."""

    def __init__(self, peer: str = "ipv4:10.0.0.1:5000") -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


class Talking:
    """A stream of a caller."""

    def __init__(self) -> None:
        self.heard = 0
        self.configured = False
        self.errors: list[MeshError] = []

    def end(self, error: MeshError) -> None:
        self.errors.append(error)


class Stream:
    """What a servicer has of one."""

    def __init__(self) -> None:
        self.outbox: Outbox[Any] = Outbox(8)
        self.responses = Responses(self.outbox)
        self.talk = Talking()

    async def take(self) -> None:
        self.outbox.push((pb.ConverseResponse(text_delta=pb.TextDelta(text="a")), None))
        await anext(self.responses)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def streams(clock: ManualClock) -> Streams:
    return Streams(SETTINGS, clock)


async def test_a_stream_that_is_not_configured_ends(streams: Streams, clock: ManualClock) -> None:
    stream = Stream()
    with streams.place(Context()) as place:
        place.carry(stream.responses, stream.talk)
        clock.advance_ms(29_999)
        streams.look()
        assert not stream.talk.errors
        stream.talk.heard += 1  # whatever it says: it is no `configure`
        clock.advance_ms(1)
        streams.look()
        (error,) = stream.talk.errors
        assert isinstance(error, DeadlineError)
        assert "`configure`" in str(error)
    assert len(streams) == 0


@pytest.mark.parametrize("alive", ["heard", "told"])
async def test_a_stream_is_idle_when_nothing_is_heard_or_told(
    streams: Streams, clock: ManualClock, alive: str
) -> None:
    stream = Stream()
    stream.talk.configured = True
    with streams.place(Context()) as place:
        place.carry(stream.responses, stream.talk)
        for _ in range(4):
            clock.advance_ms(99_000)
            if alive == "heard":
                stream.talk.heard += 1
            else:
                await stream.take()
                stream.responses.writing = False  # its connection took it
            streams.look()
        assert not stream.talk.errors
        clock.advance_ms(100_000)
        streams.look()
        assert "nothing was said" in str(stream.talk.errors)


async def test_who_takes_nothing_is_cut_off_and_who_waits_for_words_is_not(
    streams: Streams, clock: ManualClock
) -> None:
    slow, waiting = Stream(), Stream()

    async def serve(stream: Stream) -> None:
        with streams.place(Context()) as place:
            place.carry(stream.responses)
            await stream.take()
            stream.responses.writing = stream is slow
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(serve(stream)) for stream in (slow, waiting)]
    await asyncio.sleep(0)
    streams.look()
    clock.advance_ms(60_000)
    streams.look()
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert done == {tasks[0]}
    assert tasks[0].cancelled()
    assert len(streams) == 1
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(streams) == 0


async def test_a_caller_has_so_many_streams_and_others_have_theirs(streams: Streams) -> None:
    def hold(peer: str) -> Any:
        place = streams.place(Context(peer))
        place.__enter__()
        return place

    places = [hold("ipv4:10.0.0.1:1"), hold("ipv4:10.0.0.1:2"), hold("ipv4:10.0.0.2:1"), hold("unix:")]
    with pytest.raises(TooManyCallsError, match="2 streams open") as raised:
        hold("ipv4:10.0.0.1:3")
    assert raised.value.retry_after_ms == 1000
    assert raised.value.limit == "streams"
    # A key counts wherever it comes from.
    token = CURRENT.set(Caller("acme", "shop"))
    places += [hold("ipv4:10.0.0.1:4"), hold("ipv4:10.0.0.3:1")]
    with pytest.raises(TooManyCallsError):
        hold("ipv4:10.0.0.4:1")
    CURRENT.reset(token)
    places.pop(0).__exit__(None, None, None)
    places.append(hold("ipv4:10.0.0.1:5"))
    for place in places:
        place.__exit__(None, None, None)
    assert not streams._by_caller


async def test_without_limits_nobody_looks(clock: ManualClock) -> None:
    settings = GatewaySettings(gateway_configure_s=0, gateway_idle_s=0, gateway_slow_reader_s=0)
    streams, stream = Streams(settings, clock), Stream()
    await streams.watch()
    with streams.place(Context()) as place:
        place.carry(stream.responses, stream.talk)
        await stream.take()
        streams.look()
        clock.advance_ms(1e9)
        streams.look()
        assert not stream.talk.errors


def opened(streams: Streams, peer: str = "ipv4:10.0.0.1:1") -> bool:
    """Open a stream and drop it; return whether it was let in."""
    try:
        with streams.place(Context(peer)):
            return True
    except TooManyCallsError:
        return False


async def test_who_opens_and_drops_streams_opens_so_many_a_second(clock: ManualClock) -> None:
    streams = Streams(GatewaySettings(gateway_caller_streams_per_s=20), clock)
    # Ten seconds' worth at once, and then as many as there are for each second.
    assert [opened(streams) for _ in range(201)] == [True] * 200 + [False]
    with pytest.raises(TooManyCallsError, match="CALLER_STREAMS_PER_S") as raised:
        streams.place(Context("ipv4:10.0.0.1:9")).__enter__()
    assert (raised.value.limit, raised.value.retry_after_ms) == ("streams_per_s", 1000)
    assert opened(streams, "ipv4:10.0.0.2:1"), "another one's streams are its own"
    clock.advance_ms(1000)
    assert sum(opened(streams) for _ in range(500)) == 20, "who is refused pays nothing for it"
    clock.advance_ms(3_600_000)
    assert sum(opened(streams) for _ in range(500)) == 200, "no more is saved than that"


async def test_a_flood_is_told_once_in_a_while(clock: ManualClock) -> None:
    streams = Streams(GatewaySettings(gateway_caller_streams_per_s=0.1), clock)
    assert opened(streams), "however few they are, one may be opened"
    assert not any(opened(streams) for _ in range(50))
    with capture_logs() as logs:
        streams.look()
        streams.look()
    assert [(line["event"], line["streams"]) for line in logs] == [("streams were refused", 50)]


async def test_the_rates_of_callers_who_were_here_longest_ago_are_forgotten(clock: ManualClock) -> None:
    streams = Streams(GatewaySettings(gateway_caller_streams_per_s=0.1), clock)
    assert opened(streams, "ipv4:10.0.0.1:1")
    for number in range(MOST_KEYS - 1):
        assert opened(streams, f"ipv4:{number}:1")
    assert not opened(streams, "ipv4:10.0.0.1:1")
    assert opened(streams, "ipv4:one more:1")
    assert len(streams._rates) == MOST_KEYS
    assert not opened(streams, "ipv4:10.0.0.1:1"), "it was here a moment ago"


async def test_without_a_rate_none_is_kept(clock: ManualClock) -> None:
    streams = Streams(GatewaySettings(gateway_caller_streams_per_s=0), clock)
    assert all(opened(streams) for _ in range(5_000))
    assert not streams._rates
