"""Which stream to the TTS service a chunk is asked for on, and what its end means."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.core import actions as do
from gateway.core import events as on
from gateway.options import SpeechChoice
from gateway.synthesis import Synthesis
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.errors import DrainingError, MeshError, QueueFullError, VoiceNotReadyError
from voicemesh.runtime.status import RemoteError, to_status
from voicemesh.tts.v1 import tts_pb2


class StillLink:
    """A stream that keeps what is sent; it says what the test has it say."""

    def __init__(self) -> None:
        self.sent: list[tts_pb2.SynthesizeRequest] = []
        self.half_closed = False

    def send(self, request: tts_pb2.SynthesizeRequest) -> None:
        self.sent.append(request)

    def listen(self, take: Callable[[Any], Awaitable[None]], ended: Callable[[Any], None]) -> None:
        self.take, self.ended = take, ended

    def half_close(self) -> None:
        self.half_closed = True

    @property
    def asked(self) -> list[int]:
        return [sent.chunk.chunk_index for sent in self.sent if sent.HasField("chunk")]

    async def finish(self, index: int) -> None:
        finished = tts_pb2.ChunkFinished(chunk_index=index)
        await self.take(tts_pb2.SynthesizeResponse(finished=finished))


class Bench:
    def __init__(self) -> None:
        self.links: list[StillLink] = []
        self.events: list[on.Event] = []
        voice = common_pb2.Voice(name="v", model_revision="1")
        self.speech = SpeechChoice(
            voice=voice,
            format=common_pb2.AudioFormat(),
            heard=common_pb2.AudioFormat(),
            speed=1,
            policy=common_pb2.ChunkPolicy(),
            max_lead_ms=0,
            word_timings=False,
            audio_cache=True,
            speech_text=True,
        )
        self.synthesis = Synthesis(
            "t",
            self.speech,
            new_link=self._new_link,  # type: ignore[arg-type] # stands in for a Link
            read=lambda _link: None,
            handle=self.events.append,
            room=self._room,
        )

    def _new_link(self) -> StillLink:
        self.links.append(StillLink())
        return self.links[-1]

    async def _room(self) -> None:
        pass

    def ask(self, index: int, *, at_once: bool = False) -> None:
        self.synthesis.ask(do.Synthesize(index, "text", 0, at_once=at_once))

    @property
    def asked(self) -> list[list[int]]:
        return [link.asked for link in self.links]


async def test_chunks_that_nobody_else_waits_for_share_the_stream_that_is_open() -> None:
    bench = Bench()
    bench.synthesis.open_ahead()
    bench.synthesis.open_ahead()
    for index in range(3):
        bench.ask(index)
    assert bench.asked == [[0, 1, 2]]
    assert bench.links[0].sent[0].configure.turn_id == "t"


async def test_a_chunk_that_others_may_wait_for_comes_behind_no_other_one() -> None:
    bench = Bench()
    for index in range(3):
        bench.ask(index, at_once=True)
    assert bench.asked == [[0], [1], [2]]
    await bench.links[1].finish(1)
    bench.ask(3, at_once=True)
    assert bench.asked == [[0], [1, 3], [2]], "a stream that has answered all is used again"


async def test_a_chunk_that_comes_behind_a_later_one_has_a_stream_of_its_own() -> None:
    bench = Bench()
    bench.ask(1)
    await bench.links[0].finish(1)
    bench.ask(0)
    bench.ask(2)
    assert bench.asked == [[1, 2], [0]]


async def test_a_stream_that_ends_takes_its_own_chunks_along_and_no_others() -> None:
    bench = Bench()
    bench.ask(0, at_once=True)
    bench.ask(1, at_once=True)
    bench.events.clear()
    bench.links[0].ended(None)
    (failed,) = bench.events
    assert isinstance(failed, on.SpeechFailed)
    assert (failed.indexes, failed.lost is not None) == ((0,), True)
    await bench.links[1].finish(1)
    bench.links[1].ended(None)
    spoken, failed = bench.events[1:]
    assert spoken == on.ChunkSpoken(1)
    assert isinstance(failed, on.SpeechFailed)
    assert failed.indexes == ()
    bench.ask(2)
    assert bench.asked == [[0], [1], [2]]


async def test_all_streams_are_cancelled_and_closed() -> None:
    bench = Bench()
    bench.ask(1, at_once=True)
    bench.ask(0)
    bench.synthesis.cancel()
    bench.synthesis.half_close()
    assert all(link.sent[-1].HasField("cancel_turn") and link.half_closed for link in bench.links)


@pytest.mark.parametrize(
    ("error", "another"),
    [
        (VoiceNotReadyError("it is being loaded", retry_after_ms=1000), True),
        (DrainingError("it goes"), True),
        (QueueFullError("it is full", retry_after_ms=1000), False),
    ],
)
def test_another_process_is_asked_where_one_is_gone_or_still_loads(
    error: MeshError, *, another: bool
) -> None:
    bench = Bench()
    bench.ask(0)
    bench.links[0].ended(RemoteError(to_status(error)))
    (failed,) = bench.events
    assert isinstance(failed, on.SpeechFailed)
    assert (failed.lost is not None, failed.indexes) == (another, (0,))
