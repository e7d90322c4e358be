"""One stream: the chunks of one turn, answered in the order in which they were asked for."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Final

from services.tts.core.chunk import Chunk, Observe
from services.tts.core.model import AudioFormat, ChunkEvent, ChunkOrder, Limits
from services.tts.core.seeds import seed_of
from services.tts.core.speaker import Speaker
from services.tts.core.uses import Use
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import InvalidFieldError, MeshError, OutOfOrderError, QueueFullError

MIN_SPEED: Final = 0.25
MAX_SPEED: Final = 4.0

FindSpeaker = Callable[[str, AudioFormat, str], Speaker]
"""(voice, wanted format, name of the message for errors) → the speaker. Raises `UnknownVoiceError`
and `InvalidFieldError`."""


def check_speed(speed: float, field: str) -> float:
    """Return the speed that is meant; 0 is 1.

    Raises:
        InvalidFieldError: It is not within 0.25 to 4.

    """
    if speed == 0:
        return 1.0
    if not math.isfinite(speed) or not MIN_SPEED <= speed <= MAX_SPEED:
        raise InvalidFieldError(field, f"{speed:g} is not a speed from {MIN_SPEED:g} to {MAX_SPEED:g}")
    return speed


def check_text(text: str, field: str, limits: Limits) -> str:
    """Return `text`.

    Raises:
        InvalidFieldError: It is empty or too long.

    """
    if not text:
        raise InvalidFieldError(field, "must not be empty")
    if len(text) > limits.max_chunk_chars:
        raise InvalidFieldError(
            field, f"{len(text)} characters are more than the limit of {limits.max_chunk_chars}"
        )
    return text


class Turn:
    """The chunks of one turn.

    Requests come in as calls, in the order of the contract (configure, then chunks and cancels, then
    `cancel_turn` or `half_close`); a call out of order raises. Answers come out by iteration, for one
    reader; it ends behind the last answer. Chunks are spoken ahead of their turn to be answered, but
    only `Limits.chunks_ahead` of them, each at most a window ahead of its listener.

    Args:
        find_speaker: Looks the voice up.
        clock: See `Chunk`.
        limits: See `Limits`.
        observe: Makes the watcher of a chunk.

    """

    def __init__(
        self,
        find_speaker: FindSpeaker,
        clock: Clock,
        limits: Limits,
        observe: Observe,
    ) -> None:
        self.turn_id = ""
        self.speaker: Speaker | None = None
        self._find_speaker = find_speaker
        self._clock = clock
        self._limits = limits
        self._observe = observe
        self._speed = 1.0
        self._use: Use | None = None
        self._chunks: deque[Chunk] = deque()
        self._last_index = -1
        self._admitted = False
        self._closed = False
        self._error: MeshError | Exception | None = None
        self._news = asyncio.Event()

    # ---- requests -----------------------------------------------------------------------------

    def configure(self, turn_id: str, voice: str, wanted: AudioFormat, speed: float) -> None:
        """Take the first message.

        Raises:
            OutOfOrderError: It came before.
            UnknownVoiceError: There is no such voice.
            InvalidFieldError: Speed or format is not to be had.

        """
        if self.speaker is not None:
            raise OutOfOrderError("configure comes once, first")
        self._speed = check_speed(speed, "configure.speed")
        self.speaker = self._find_speaker(voice, wanted, "configure")
        self._use = self.speaker.pool.use()
        self.turn_id = turn_id

    def add(self, order: ChunkOrder) -> None:
        """Take a chunk.

        Raises:
            OutOfOrderError: Nothing was configured, the turn was cancelled, or the index does not rise.
            InvalidFieldError: The text is empty or too long.
            QueueFullError: Too many chunks of this stream are not answered yet.

        """
        speaker = self._open_speaker("chunk")
        if order.index <= self._last_index:
            raise OutOfOrderError(
                f"chunk.chunk_index: {order.index} does not rise; the last one was {self._last_index}"
            )
        check_text(order.text, "chunk.text", self._limits)
        if len(self._chunks) >= self._limits.max_pending_chunks:
            raise QueueFullError(
                f"{len(self._chunks)} chunks of this stream are not answered yet, which is the limit",
                retry_after_ms=1000,
            )
        self._last_index = order.index
        seed = seed_of(order.text, speaker.name, speaker.model_revision, self._speed)
        self._chunks.append(
            Chunk(
                order,
                speaker,
                self._speed,
                seed,
                self._clock,
                self._observe(order, speaker),
                self._news.set,
                self.turn_id,
            )
        )
        self._advance()

    def cancel_chunk(self, index: int) -> None:
        """End one chunk; nothing where it was answered already.

        Raises:
            OutOfOrderError: Nothing was configured, or the turn was cancelled.
            InvalidFieldError: It was never asked for.

        """
        self._open_speaker("cancel_chunk")
        if index > self._last_index:
            raise InvalidFieldError("cancel_chunk.chunk_index", f"chunk {index} was not asked for")
        for chunk in self._chunks:
            if chunk.order.index == index:
                chunk.cancel()
        self._advance()

    def cancel_turn(self) -> None:
        """End all chunks; the stream ends behind their last answers.

        Raises:
            OutOfOrderError: Nothing was configured, or the turn was cancelled before.

        """
        self._open_speaker("cancel_turn")
        for chunk in self._chunks:
            chunk.cancel()
        self.half_close()

    def half_close(self) -> None:
        """End the requests: what was asked for is answered, then the stream ends."""
        self._closed = True
        self._news.set()

    def fail(self, error: Exception) -> None:
        """End the stream with `error`, at once."""
        self._error = self._error or error
        self.abandon()

    def abandon(self) -> None:
        """End everything, with nobody to answer: the peer is gone."""
        chunks = list(self._chunks)
        self._chunks.clear()
        for chunk in chunks:
            chunk.abandon()
        self._end_use()
        self.half_close()

    def _end_use(self) -> None:
        if self._use is not None:
            self._use.end()

    def _open_speaker(self, event: str) -> Speaker:
        if self.speaker is None:
            raise OutOfOrderError(f"{event} came before configure")
        if self._closed:
            raise OutOfOrderError(f"{event} came after cancel_turn")
        return self.speaker

    # ---- answers ------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Submit the chunks that may be spoken now."""
        for place, chunk in enumerate(self._chunks):
            if place > self._limits.chunks_ahead:
                break
            if chunk.waiting:
                self._admitted = chunk.submit(admitted=self._admitted) or self._admitted

    def __aiter__(self) -> "Turn":
        """Iterate over the answers."""
        return self

    async def __anext__(self) -> ChunkEvent:
        """Return the next answer, waiting for it. A cancelled wait loses nothing."""
        while True:
            if self._error is not None:
                raise self._error
            if self._chunks:
                event = self._chunks[0].pop()
                if self._chunks[0].answered:
                    self._chunks.popleft()
                    self._advance()
                if event is not None:
                    return event
            elif self._closed:
                self._end_use()
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
