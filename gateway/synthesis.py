"""A turn's streams to the TTS service.

A stream answers its chunks in the order in which they were asked for. So a chunk has one that is not busy
where others may wait for it, because their player is not where this turn's is; and so has one that goes on
with what another turn had begun, where a later one was asked for before it.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from google.rpc import status_pb2

from gateway import translation
from gateway.core import actions as do
from gateway.core import events as on
from gateway.links import Link, broke_off
from gateway.options import SpeechChoice
from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.retry_budget import LOST
from voicemesh.runtime.status import RemoteError, reason_of
from voicemesh.tts.v1 import tts_pb2

METHOD: Final = "voicemesh.tts.v1.TtsService/Synthesize"
_REFUSALS: Final = frozenset(
    {"INVALID_FIELD", "UNKNOWN_VOICE", "QUEUE_FULL", "DEADLINE_EXCEEDED", "VOICE_NOT_READY"}
)
"""Reasons of the TTS service that speak against the request or the load, not against an engine."""

_ANOTHER_MAY: Final = LOST | {"VOICE_NOT_READY"}
"""Reasons for which another process is asked: one that came back may still load what the other one has."""

TtsLink = Link[tts_pb2.SynthesizeRequest, tts_pb2.SynthesizeResponse]


@dataclass(eq=False, slots=True)
class _Stream:
    link: TtsLink
    last: int = -1
    """The last chunk that it was asked for."""
    asked: set[int] = field(default_factory=set)
    """Those that it has not ended."""


class Synthesis:
    """Asks the TTS service for the chunks of one turn.

    Args:
        turn_id: The turn.
        speech: How it is spoken.
        new_link: Opens a stream.
        read: Has a stream read.
        handle: Takes the events that come of it.
        room: Waits until the caller has read enough.

    """

    def __init__(
        self,
        turn_id: str,
        speech: SpeechChoice,
        *,
        new_link: Callable[[], TtsLink],
        read: Callable[[TtsLink], None],
        handle: Callable[[on.Event], None],
        room: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._turn_id = turn_id
        self._speech = speech
        self._new_link = new_link
        self._read = read
        self._handle = handle
        self._room = room
        self._streams: list[_Stream] = []

    def open_ahead(self) -> None:
        """Open the stream before it is needed, unless it is there."""
        if not self._streams:
            self._open()

    def ask(self, action: do.Synthesize) -> None:
        """Have a chunk spoken."""
        index = action.index
        free = (
            stream
            for stream in self._streams
            if stream.last < index and not (action.at_once and stream.asked)
        )
        stream = next(free, None) or self._open()
        stream.last = index
        stream.asked.add(index)
        chunk = tts_pb2.SynthesizeChunk(
            chunk_index=index,
            text=action.text,
            deadline_ms=action.deadline_ms,
            start_offset_samples=action.start_offset_samples,
        )
        stream.link.send(tts_pb2.SynthesizeRequest(chunk=chunk))

    def cancel(self) -> None:
        """End all synthesis of the turn."""
        for stream in self._streams:
            stream.link.send(tts_pb2.SynthesizeRequest(cancel_turn=tts_pb2.CancelTurn()))

    def half_close(self) -> None:
        """Say that nothing more will be asked for."""
        for stream in self._streams:
            stream.link.half_close()

    def _open(self) -> _Stream:
        stream = _Stream(self._new_link())
        self._streams.append(stream)
        configure = self._speech.configure(self._turn_id)
        stream.link.send(tts_pb2.SynthesizeRequest(configure=configure))
        stream.link.listen(partial(self._take, stream), partial(self._ended, stream))
        self._read(stream.link)
        return stream

    async def _take(self, stream: _Stream, response: tts_pb2.SynthesizeResponse) -> None:
        match response.WhichOneof("event"):
            case "frame":
                self._take_frame(response.frame)
                await self._room()
            case "words":
                words = translation.words_from(response.words.words)
                self._handle(on.WordsTimed(response.words.chunk_index, words))
            case "finished":
                finished = response.finished
                stream.asked.discard(finished.chunk_index)
                self._handle(on.ChunkSpoken(finished.chunk_index, finished.resumed, finished.engine_us))
            case "failed":
                failed = response.failed
                stream.asked.discard(failed.chunk_index)
                self._handle(
                    on.ChunkUnspeakable(
                        failed.chunk_index,
                        failed.status.message,
                        _refusal(failed.status),
                        failed.engine_us,
                    )
                )

    def _take_frame(self, made: tts_pb2.SynthesizedFrame) -> None:
        frame, start = made.frame, made.start
        began = made.HasField("start")
        self._handle(
            on.FrameMade(
                index=frame.chunk_index,
                offset_samples=frame.offset_samples,
                audio=frame.audio,
                queue_us=start.queue_us,
                synthesis_us=start.synthesis_us,
                first=began and not frame.sequence,
                other_model=began and start.model_revision != self._speech.voice.model_revision,
                fallback=start.voice if start.is_fallback else "",
            )
        )
        if made.words:  # behind the audio that was waited for, which is theirs
            self._handle(on.WordsTimed(frame.chunk_index, translation.words_from(made.words)))

    def _ended(self, stream: _Stream, error: RemoteError | None) -> None:
        self._streams.remove(stream)  # a chunk that comes later gets a new one
        refusal = _refusal(error.status) if error is not None else None
        lost: MeshError | None = error or broke_off("tts")
        if error is not None and error.reason not in _ANOTHER_MAY:
            lost = None
        self._handle(on.SpeechFailed(refusal, tuple(sorted(stream.asked)), lost))


def _refusal(status: status_pb2.Status) -> RemoteError | None:
    return RemoteError(status) if reason_of(status) in _REFUSALS else None
