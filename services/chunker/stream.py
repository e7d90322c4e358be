"""One `Chunk` stream: its messages in their legal order, and the chunks that answer them."""

from collections.abc import Iterator, Sequence
from typing import Final

from services.chunker.core import Chunker
from services.chunker.pacing import Pace
from services.chunker.policy import Chunk, KnownChunk, Limits, Policy, Reason
from services.chunker.revision import revision_of
from services.chunker.spoken import SpokenChunker, chunker_for
from voicemesh.chunker.v1 import chunker_pb2
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import InvalidFieldError, OutOfOrderError

MAX_TURN_ID_CHARS: Final = 256
MAX_PACE_MS: Final = 600_000
MAX_WRITER_CHARS_PER_S: Final = 1_000_000
SLICE_CHARS: Final = 16_384
"""So much text is cut at a stretch: a few milliseconds in which other streams wait."""

_POLICIES: Final = {
    common_pb2.ChunkPolicy.KIND_UNSPECIFIED: Policy.ADAPTIVE,
    common_pb2.ChunkPolicy.KIND_ADAPTIVE: Policy.ADAPTIVE,
    common_pb2.ChunkPolicy.KIND_SENTENCE: Policy.SENTENCE,
    common_pb2.ChunkPolicy.KIND_CLAUSE: Policy.CLAUSE,
    common_pb2.ChunkPolicy.KIND_WORDS: Policy.WORDS,
}
_REASONS: Final = {
    Reason.SENTENCE: common_pb2.CHUNK_REASON_SENTENCE,
    Reason.CLAUSE: common_pb2.CHUNK_REASON_CLAUSE,
    Reason.WORDS: common_pb2.CHUNK_REASON_WORDS,
    Reason.LIMIT: common_pb2.CHUNK_REASON_LIMIT,
    Reason.DEADLINE: common_pb2.CHUNK_REASON_DEADLINE,
    Reason.FLUSH: common_pb2.CHUNK_REASON_FLUSH,
    Reason.PHRASE: common_pb2.CHUNK_REASON_PHRASE,
}


_REASONS_BY_NUMBER: Final = {number: reason for reason, number in _REASONS.items()}


def _known(chunks: Sequence[common_pb2.Chunk], limits: Limits) -> list[KnownChunk]:
    """Return the chunks that another process cut, or be told which cannot be."""
    known = []
    for number, chunk in enumerate(chunks):
        field = f"configure.known_chunks[{number}]"
        reason = _REASONS_BY_NUMBER.get(chunk.reason)
        if chunk.index != number:
            raise InvalidFieldError(f"{field}.index", f"must be {number}, not {chunk.index}")
        if not 1 <= len(chunk.text) <= limits.max_chars:
            raise InvalidFieldError(f"{field}.text", f"must have 1 to {limits.max_chars} characters")
        if reason is None:
            raise InvalidFieldError(f"{field}.reason", f"no such reason: {chunk.reason}")
        known.append(KnownChunk(chunk.text, reason))
    return known


def _pace(pace: chunker_pb2.Pace, field: str) -> Pace:
    """Return what is known of a voice, or be told which figure cannot be."""
    for name in ("ms_per_char", "first_frame_ms", "first_frame_ms_per_char"):
        value: float = getattr(pace, name)
        if not 0 <= value <= MAX_PACE_MS:
            raise InvalidFieldError(f"{field}.{name}", f"must be 0 to {MAX_PACE_MS}, not {value}")
    if not 0 <= pace.writer_chars_per_s <= MAX_WRITER_CHARS_PER_S:
        raise InvalidFieldError(
            f"{field}.writer_chars_per_s",
            f"must be 0 to {MAX_WRITER_CHARS_PER_S}, not {pace.writer_chars_per_s}",
        )
    known = pace.HasField("first_frame_ms")
    return Pace(
        ms_per_char=pace.ms_per_char,
        first_frame_ms=pace.first_frame_ms if known else None,
        first_frame_ms_per_char=pace.first_frame_ms_per_char if known else 0.0,
        writer_chars_per_s=pace.writer_chars_per_s,
    )


class ChunkStream:
    """Configure first, once; then text, slack and flush; then end.

    Raises:
        OutOfOrderError: A message came where the order does not allow it.
        InvalidFieldError: A field is missing, malformed or over its limit.

    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._chunker: Chunker | SpokenChunker | None = None
        self._known = 0
        self.turn_id = ""
        self.ended = False

    @property
    def chunk_count(self) -> int:
        """Chunks that have gone out."""
        return self._chunker.chunk_count if self._chunker else 0

    def take(self, request: chunker_pb2.ChunkRequest) -> Iterator[list[Chunk]]:
        """Take in a message; yield the chunks that it completed, after each slice of a long text."""
        for chunks in self._take(request):
            yield self._new(chunks)

    def _new(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return those of `chunks` that the caller does not know."""
        return [chunk for chunk in chunks if chunk.index >= self._known] if self._known else chunks

    def _take(self, request: chunker_pb2.ChunkRequest) -> Iterator[list[Chunk]]:
        event = request.WhichOneof("event")
        if self.ended:
            raise OutOfOrderError("nothing may follow `end`", field=event or "event")
        if event is None:
            raise InvalidFieldError("event", "must be configure, text, slack, flush or end")
        if event == "configure":
            self._configure(request.configure)
            return
        chunker = self._chunker
        if chunker is None:
            raise OutOfOrderError(f"`configure` must come before `{event}`", field=event)
        now_ns = self._clock.now_ns()
        if event == "text":
            yield from self._push(chunker, request.text.text, now_ns)
        elif event == "slack":
            slack = request.slack
            chunker.slack(
                slack.left_to_play_ms,
                now_ns,
                chunks_counted=slack.chunks_counted if slack.HasField("chunks_counted") else None,
                pace=_pace(slack.pace, "slack.pace") if slack.HasField("pace") else None,
            )
        elif event == "flush":
            yield chunker.flush(now_ns)
        else:
            yield self.end()

    def end(self) -> list[Chunk]:
        """End the text; return the last chunks. A stream that never began has none."""
        self.ended = True
        return self._new(self._chunker.end(self._clock.now_ns())) if self._chunker else []

    def tick(self) -> list[Chunk]:
        """Return what was held too long."""
        return self._chunker.tick(self._clock.now_ns()) if self._chunker and not self.ended else []

    def due_in_s(self) -> float | None:
        """Return in how many seconds `tick` is due; None while nothing waits."""
        deadline_ns = self._chunker.next_deadline_ns() if self._chunker and not self.ended else None
        return None if deadline_ns is None else (deadline_ns - self._clock.now_ns()) / 1e9

    def message_of(self, chunk: Chunk) -> chunker_pb2.ChunkResponse:
        """Return the message that carries `chunk`."""
        return chunker_pb2.ChunkResponse(
            chunk=common_pb2.Chunk(
                turn_id=self.turn_id,
                index=chunk.index,
                text=chunk.text,
                text_offset=chunk.text_offset,
                text_length=chunk.text_length,
                reason=_REASONS[chunk.reason],
                held_us=chunk.held_ns // 1000,
                alignment=[
                    common_pb2.TextRun(
                        spoken_offset=run.spoken_offset,
                        spoken_length=run.spoken_length,
                        source_offset=run.source_offset,
                        source_length=run.source_length,
                    )
                    for run in chunk.alignment
                ],
            )
        )

    def done(self) -> chunker_pb2.ChunkResponse:
        """Return the last message."""
        length = self._chunker.text_length if self._chunker else 0
        return chunker_pb2.ChunkResponse(
            done=chunker_pb2.ChunkDone(
                chunk_count=self.chunk_count, text_length=length, revision=revision_of(self._limits)
            )
        )

    def _configure(self, configure: chunker_pb2.ChunkConfigure) -> None:
        if self._chunker is not None:
            raise OutOfOrderError("`configure` comes first, once", field="configure")
        if len(configure.turn_id) > MAX_TURN_ID_CHARS:
            raise InvalidFieldError("configure.turn_id", f"may have at most {MAX_TURN_ID_CHARS} characters")
        policy = _POLICIES.get(configure.policy.kind)
        if policy is None:
            raise InvalidFieldError("configure.policy.kind", f"no such policy: {configure.policy.kind}")
        config = self._limits.config(
            policy=policy,
            words=configure.policy.words,
            min_chars=configure.policy.min_chars,
            max_chars=configure.policy.max_chars,
            language=configure.language,
            voice_max_chars=configure.voice_max_chars,
            pace=_pace(configure.pace, "configure.pace"),
        )
        self.turn_id = configure.turn_id
        speech_text = configure.speech_text if configure.HasField("speech_text") else True
        known = _known(configure.known_chunks, self._limits)
        self._known = len(known)
        self._chunker = chunker_for(config, speech_text=speech_text, known=known)

    def _push(self, chunker: Chunker | SpokenChunker, text: str, now_ns: int) -> Iterator[list[Chunk]]:
        if len(text) > self._limits.max_message_chars:
            raise InvalidFieldError(
                "text.text", f"a message may have at most {self._limits.max_message_chars} characters"
            )
        if len(text) <= SLICE_CHARS:
            yield chunker.push(text, now_ns)
            return
        for index in range(0, len(text), SLICE_CHARS):
            yield chunker.push(text[index : index + SLICE_CHARS], now_ns)
