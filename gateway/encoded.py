"""The responses of a call with their audio encoded: the last step before the connection.

    turn engine ── PCM frames ──> outbox ── (an interrupt drops what is queued) ──> Encoding ──> caller

Encoders stand behind the outbox, so that nothing is encoded that an interrupt drops; each member of a
channel has its own, so that one who comes late gets a stream with a beginning.
"""

import asyncio
from typing import Any, Final, NamedTuple

from gateway.encoding import Encoder, Packet, encoder_for
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.frames import BYTES_PER_SAMPLE

_AT_ONCE_MS: Final = 40
"""A longer frame is encoded in a thread: 40 ms of audio take a fifth of a millisecond."""


class _Mark(NamedTuple):
    """Where a PCM frame begins."""

    at: int
    """Samples of the turn's stream before it."""
    frame: common_pb2.Frame
    """Without its audio."""


class _TurnEncoding:
    """The encoder of one turn, and where its packets belong."""

    def __init__(self, encoder: Encoder, rate_hz: int) -> None:
        self._encoder = encoder
        self._at_once_bytes = _AT_ONCE_MS * rate_hz // 1000 * BYTES_PER_SAMPLE
        self._opened = False
        self._marks: list[_Mark] = []
        self._taken = 0
        self._given = 0
        self._chunk_index = -1
        self._sequence = 0

    async def push(self, frame: common_pb2.Frame) -> list[common_pb2.Frame]:
        """Take a frame of PCM; return those that are complete."""
        mark = common_pb2.Frame()
        mark.turn_id, mark.chunk_index = frame.turn_id, frame.chunk_index
        mark.offset_samples, mark.turn_offset_samples = frame.offset_samples, frame.turn_offset_samples
        self._marks.append(_Mark(self._taken, mark))
        self._taken += frame.samples
        # The first one opens the encoder.
        if self._opened and len(frame.audio) <= self._at_once_bytes:
            packets = self._encoder.push(frame.audio)
        else:
            packets = await asyncio.to_thread(self._encoder.push, frame.audio)
            self._opened = True
        return [self._frame(packet) for packet in packets]

    async def finish(self) -> list[common_pb2.Frame]:
        """Return what is left at the end of the turn."""
        return [self._frame(packet) for packet in await asyncio.to_thread(self._encoder.finish)]

    def _frame(self, packet: Packet) -> common_pb2.Frame:
        """Return the frame of a packet: it belongs to the chunk of its first sample."""
        while len(self._marks) > 1 and self._marks[1].at <= self._given:
            del self._marks[0]
        mark = self._marks[0]
        into = self._given - mark.at
        if mark.frame.chunk_index != self._chunk_index:
            self._chunk_index, self._sequence = mark.frame.chunk_index, 0
        frame = common_pb2.Frame()
        frame.CopyFrom(mark.frame)
        frame.sequence = self._sequence
        frame.offset_samples += into
        frame.turn_offset_samples += into
        frame.audio = packet.audio
        frame.samples = packet.samples
        self._sequence += 1
        self._given += packet.samples
        return frame


class Encoding:
    """The encoders of the turns of one call."""

    def __init__(self) -> None:
        self._turns: dict[str, _TurnEncoding] = {}

    async def take(self, response: Any) -> list[Any]:
        """Return what becomes of a response: itself, or frames in its place, or before it.

        Empty where the audio fills nothing yet.
        """
        event = response.WhichOneof("event")
        if event in ("turn_started", "started"):
            started: pb.TurnStarted = getattr(response, event)
            encoder = encoder_for(started.format)
            if encoder is not None:
                self._turns[started.turn_id] = _TurnEncoding(encoder, started.format.sample_rate_hz)
        elif self._turns and event == "frame":
            turn = self._turns.get(response.frame.turn_id)
            if turn is not None:
                return [_with(response, frame) for frame in await turn.push(response.frame)]
        elif self._turns and event in ("turn_completed", "completed", "turn_failed", "failed"):
            report = getattr(response, event).report
            turn = self._turns.pop(report.turn_id, None)
            # Of a turn that was interrupted nobody wants the rest.
            if turn is not None and report.outcome != pb.TURN_OUTCOME_INTERRUPTED:
                return [*(_with(response, frame) for frame in await turn.finish()), response]
        return [response]

    def drop(self) -> None:
        """Forget what the encoders hold: an interrupt dropped the rest of their turns."""
        self._turns.clear()


def _with(response: Any, frame: common_pb2.Frame) -> Any:
    """Return a response as the given one, with this frame. Members of a channel share the given one."""
    made = type(response)(frame=frame)
    if isinstance(response, pb.SpeakBatchResponse):
        made.text_indexes.extend(response.text_indexes)
    return made
