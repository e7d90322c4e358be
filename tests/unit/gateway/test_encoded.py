"""The responses of a call with their audio encoded: which frame belongs where, and what an end leaves."""

import asyncio
from array import array
from typing import Any

import pytest

from gateway.callers import Item, OutboxCaller, Responses
from gateway.encoding import heard_format
from voicemesh.common.v1 import common_pb2 as common
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.streams import Outbox

RATE_HZ = 24000
MS = RATE_HZ // 1000


def started(code: Any, turn_id: str = "t") -> pb.TurnStarted:
    wanted = common.AudioFormat(encoding=code, sample_rate_hz=RATE_HZ)
    return pb.TurnStarted(turn_id=turn_id, format=heard_format(wanted, RATE_HZ, "v", "f"))


def frame(chunk: int, offset_ms: int, turn_ms: int, length_ms: int, turn_id: str = "t") -> common.Frame:
    pcm = array("h", (i % 601 * 13 for i in range(length_ms * MS))).tobytes()
    return common.Frame(
        turn_id=turn_id,
        chunk_index=chunk,
        offset_samples=offset_ms * MS,
        turn_offset_samples=turn_ms * MS,
        audio=pcm,
        samples=length_ms * MS,
    )


def ended(outcome: Any = pb.TURN_OUTCOME_COMPLETED, turn_id: str = "t") -> pb.TurnCompleted:
    return pb.TurnCompleted(report=pb.TurnReport(turn_id=turn_id, outcome=outcome))


def respond(event: str, message: Any) -> pb.ConverseResponse:
    return pb.ConverseResponse(**{event: message})


class Call:
    """A caller whose outbox is read as an RPC does it."""

    def __init__(self, code: Any = common.AUDIO_ENCODING_OPUS) -> None:
        self.outbox: Outbox[Item] = Outbox(64)
        self.caller = OutboxCaller(respond, self.outbox)
        self.responses = Responses(self.outbox)
        self.sent: list[int] = []
        self.caller.send("turn_started", started(code))

    def frame(self, chunk: int, offset_ms: int, turn_ms: int, length_ms: int) -> None:
        number = len(self.outbox)
        self.caller.send(
            "frame", frame(chunk, offset_ms, turn_ms, length_ms), lambda: self.sent.append(number)
        )

    async def all(self) -> list[Any]:
        self.outbox.close()
        return [response async for response in self.responses]


def places(responses: list[Any]) -> list[tuple[int, int, float, float, float]]:
    """Return (chunk, sequence, offset, turn offset, length) of each frame, times in ms."""
    frames = [response.frame for response in responses if response.WhichOneof("event") == "frame"]
    return [
        (f.chunk_index, f.sequence, f.offset_samples / MS, f.turn_offset_samples / MS, f.samples / MS)
        for f in frames
    ]


async def test_a_packet_belongs_to_the_chunk_of_its_first_sample():
    call = Call()
    call.frame(0, 0, 0, 20)
    call.frame(0, 20, 20, 30)
    call.frame(1, 0, 50, 45)
    call.caller.send("turn_completed", ended())
    responses = await call.all()
    assert places(responses) == [
        (0, 0, 0, 0, 20),
        (0, 1, 20, 20, 20),
        (0, 2, 40, 40, 20),  # half of it speaks the next chunk
        (1, 0, 10, 60, 20),
        (1, 1, 30, 80, 15),
        (1, 2, 45, 95, 0),  # what the encoder had looked ahead for
    ]
    assert responses[-1].WhichOneof("event") == "turn_completed"
    assert call.sent == [1, 2, 3]


async def test_frames_that_were_left_out_leave_no_trace_in_the_places():
    """A member of a channel who was too slow."""
    call = Call()
    call.frame(0, 0, 0, 20)
    call.frame(2, 100, 900, 20)
    assert places(await call.all()) == [(0, 0, 0, 0, 20), (2, 0, 100, 900, 20)]


@pytest.mark.parametrize("code", [common.AUDIO_ENCODING_PCM_S16LE, common.AUDIO_ENCODING_UNSPECIFIED])
async def test_pcm_passes_as_it_is(code):
    call = Call(common.AUDIO_ENCODING_PCM_S16LE)
    call.frame(0, 0, 0, 20)
    responses = await call.all()
    assert responses[1].frame == frame(0, 0, 0, 20)


async def test_of_an_interrupted_turn_nothing_is_left():
    call = Call()
    call.frame(0, 0, 0, 30)
    call.caller.send("turn_completed", ended(pb.TURN_OUTCOME_INTERRUPTED))
    call.caller.send("turn_started", started(common.AUDIO_ENCODING_OPUS, "next"))
    call.caller.send("frame", frame(0, 0, 0, 20, "next"))
    responses = await call.all()
    assert places(responses) == [(0, 0, 0, 0, 20), (0, 0, 0, 0, 20)]
    assert [r.WhichOneof("event") for r in responses] == [
        "turn_started",
        "frame",
        "turn_completed",
        "turn_started",
        "frame",
    ]


async def test_an_interrupt_drops_packets_that_are_made_already():
    """A frame of 200 ms is ten packets: the caller has one when the interrupt comes."""
    call = Call()
    call.frame(0, 0, 0, 200)
    for event in ("turn_started", "frame"):
        assert (await anext(call.responses)).WhichOneof("event") == event
    call.caller.drop()
    call.caller.send("turn_completed", ended(pb.TURN_OUTCOME_INTERRUPTED))
    assert [r.WhichOneof("event") for r in await call.all()] == ["turn_completed"]


async def test_an_interrupt_behind_the_end_of_a_turn_drops_its_last_packets_too():
    """All was queued, and the turn had ended; its end is told as it was, without what is in the encoder."""
    call = Call()
    call.frame(0, 0, 0, 30)
    for event in ("turn_started", "frame"):
        assert (await anext(call.responses)).WhichOneof("event") == event
    call.frame(0, 30, 30, 100)
    call.caller.send("turn_completed", ended())
    call.caller.drop()
    assert [r.WhichOneof("event") for r in await call.all()] == ["turn_completed"]


async def test_an_interrupt_drops_what_is_being_encoded():
    call = Call()
    await anext(call.responses)
    call.frame(0, 0, 0, 500)
    reading = asyncio.create_task(call.all())
    await asyncio.sleep(0)
    assert not len(call.outbox)  # the first frame is being encoded, in a thread
    call.caller.drop()
    call.caller.send("turn_completed", ended(pb.TURN_OUTCOME_INTERRUPTED))
    # The outbox was closed by then: the end of the call is all that is left.
    assert await reading == []


async def test_the_turn_behind_an_interrupt_has_a_stream_of_its_own():
    call = Call()
    call.frame(0, 0, 0, 200)
    for _ in range(2):
        await anext(call.responses)
    call.caller.drop()
    call.caller.send("turn_completed", ended(pb.TURN_OUTCOME_INTERRUPTED))
    call.caller.send("turn_started", started(common.AUDIO_ENCODING_OPUS, "next"))
    call.caller.send("frame", frame(0, 0, 0, 40, "next"))
    responses = await call.all()
    assert [r.frame.turn_id for r in responses if r.WhichOneof("event") == "frame"] == ["next"] * 2


async def test_audio_that_fills_no_packet_is_told_as_sent_once_nothing_else_is_there():
    """Else a turn whose audio is shorter than a packet would wait for its own first frame."""
    call = Call()
    call.frame(0, 0, 0, 12)
    reading = aiter(call.responses)
    assert (await anext(reading)).WhichOneof("event") == "turn_started"
    assert call.sent == []

    def end() -> None:
        call.caller.send("turn_completed", ended())

    call.caller.send("frame", frame(0, 12, 12, 4), end)  # as the turn engine ends on hearing that it left
    rest = [await anext(reading), await anext(reading), await anext(reading)]
    assert places(rest) == [(0, 0, 0, 0, 16), (0, 1, 16, 16, 0)]
    assert call.sent == [1]


async def test_texts_of_a_batch_have_an_encoder_each():
    outbox: Outbox[Item] = Outbox(64)
    for turn_id, index in (("a", 0), ("b", 1)):
        outbox.push(
            (
                pb.SpeakBatchResponse(
                    text_indexes=[index], started=started(common.AUDIO_ENCODING_FLAC, turn_id)
                ),
                None,
            )
        )
    for at_ms in (0, 20):
        for turn_id, index in (("a", 0), ("b", 1)):
            part = pb.SpeakBatchResponse(text_indexes=[index], frame=frame(0, at_ms, at_ms, 20, turn_id))
            outbox.push((part, None))
    outbox.push((pb.SpeakBatchResponse(text_indexes=[1], completed=ended(turn_id="b")), None))
    failed = pb.TurnFailed(turn_id="a", report=pb.TurnReport(turn_id="a", outcome=pb.TURN_OUTCOME_FAILED))
    outbox.push((pb.SpeakBatchResponse(text_indexes=[0], failed=failed), None))
    outbox.close()
    responses = [response async for response in Responses(outbox)]
    for turn_id, index in (("a", 0), ("b", 1)):
        own = [r for r in responses if list(r.text_indexes) == [index]]
        frames = [r.frame for r in own if r.WhichOneof("event") == "frame"]
        assert {f.turn_id for f in frames} == {turn_id}
        assert sum(f.samples for f in frames) == 40 * MS
        assert frames[0].audio.startswith(b"fLaC")
        assert not any(f.audio.startswith(b"fLaC") for f in frames[1:])
    # What was made of a text that failed is heard too.
    assert [r.WhichOneof("event") for r in responses][-2:] == ["frame", "failed"]
