"""A turn's stream to the chunker: opened ahead, told the text, and opened anew where it broke off."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Final

from gateway import translation
from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.pace import Pace
from gateway.core.values import Chunk
from gateway.links import Link, broke_off
from gateway.options import SpeechChoice
from voicemesh.chunker.v1 import chunker_pb2
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.errors import ServiceUnavailableError
from voicemesh.runtime.retry_budget import LOST
from voicemesh.runtime.status import RemoteError

METHOD: Final = "voicemesh.chunker.v1.ChunkerService/Chunk"
_PIECE_CHARS: Final = 16_384
"""So much of a text that is told again goes into a message."""
_KNOWN: Final = "configure.known_chunks"
"""Field of what a chunker refuses that cuts in another way than the one whose chunks they are."""


Told = do.FeedChunker | do.FlushChunker | do.EndChunker | do.TellSlack
ChunkerLink = Link[chunker_pb2.ChunkRequest, chunker_pb2.ChunkResponse]


class Chunking:
    """Has the text of one turn cut, and tells the engine what comes.

    Args:
        turn_id: The turn.
        speech: How it is spoken.
        pace: Returns what is known of voice and writer when a stream is opened.
        new_link: Opens a stream.
        read: Begins to read a new stream.
        handle: Takes the events.
        room: Waits until the caller has read enough.
        revised: Is told which chunker has cut the text.

    """

    def __init__(
        self,
        turn_id: str,
        speech: SpeechChoice,
        *,
        pace: Callable[[], Pace],
        new_link: Callable[[], ChunkerLink],
        read: Callable[[ChunkerLink], None],
        handle: Callable[[on.Event], None],
        room: Callable[[], Awaitable[None]],
        revised: Callable[[str], None],
    ) -> None:
        self._turn_id = turn_id
        self._speech = speech
        self._pace = pace
        self._new_link = new_link
        self._read = read
        self._handle = handle
        self._room = room
        self._revised = revised
        self._link: ChunkerLink | None = None
        self._told = False
        self._complete = False
        self._knows_chunks = False
        self._before = (0, 0)
        """Chunks, and code points of text, in front of what the stream was told."""

    def open_ahead(self) -> None:
        """Open the stream before it is needed, unless it is there."""
        if self._link is None:
            self._open()

    def tell(self, action: Told | do.RestartChunker) -> None:
        """Tell the chunker what the engine wants of it."""
        if isinstance(action, do.TellSlack) and not wants_slack(self._speech):
            return
        if isinstance(action, do.RestartChunker):
            self._restart(action)
            return
        if self._told and self._link is None:
            return  # it broke off, and nobody opened another
        if isinstance(action, do.TellSlack) and self._before[0]:
            action = replace(action, chunks_counted=max(0, action.chunks_counted - self._before[0]))
        link = self._link or self._open()
        self._told = True
        link.send(tell_chunker(action))
        if isinstance(action, do.EndChunker):
            link.half_close()

    def _restart(self, action: do.RestartChunker) -> None:
        """Tell another stream all of the text; it goes on behind the chunks that came.

        One of another version may cut, or say, the text in another way: to that, what is behind them is a
        text of its own.
        """
        self._before = (0, 0)
        if action.anew and action.chunks:
            last = action.chunks[-1]
            self._before = len(action.chunks), last.text_offset + last.text_length
            action = behind(action, self._before[1])
        link = self._open(action.chunks)
        self._told = True
        for request in tell_again(action):
            link.send(request)

    async def room(self) -> None:
        """Wait until the service has taken enough of what it was told."""
        if self._link is not None:
            await self._link.room()

    def cancel(self) -> None:
        """End the stream."""
        if self._link is not None:
            self._link.cancel()

    def _open(self, known: Sequence[Chunk] = ()) -> ChunkerLink:
        self._link = link = self._new_link()
        self._knows_chunks = bool(known)
        link.send(configure_chunker(self._turn_id, self._speech, self._pace(), known))
        link.listen(self._take, partial(self._ended, link))
        self._read(link)
        return link

    async def _take(self, response: chunker_pb2.ChunkResponse) -> None:
        if response.WhichOneof("event") == "chunk":
            chunk = translation.chunk_from(response.chunk)
            self._handle(on.ChunkCut(moved(chunk, *self._before) if self._before[0] else chunk))
            await self._room()
        else:
            self._complete = True
            self._revised(response.done.revision)
            self._handle(on.ChunksEnded())

    def _ended(self, link: ChunkerLink, error: RemoteError | None) -> None:
        if self._complete or link is not self._link:
            return
        self._link = None  # where it broke while nothing was asked of it, the text opens another
        if not self._told:
            return
        if error is None or error.reason in LOST:
            self._handle(on.ChunkerLost(error or broke_off("chunker")))
        elif self._knows_chunks and error.message.startswith(_KNOWN):
            other = ServiceUnavailableError("this chunker cuts in another way than the one before it")
            self._handle(on.ChunkerLost(other, anew=True))
        else:
            self._handle(on.ChunkerFailed(error))


def configure_chunker(
    turn_id: str, speech: SpeechChoice, pace: Pace, known: Iterable[Chunk] = ()
) -> chunker_pb2.ChunkRequest:
    """Return the message that begins a stream to the chunker, or one that goes on behind `known` chunks."""
    return chunker_pb2.ChunkRequest(
        configure=chunker_pb2.ChunkConfigure(
            turn_id=turn_id,
            policy=speech.policy,
            language=speech.voice.language,
            speech_text=speech.speech_text,
            voice_max_chars=speech.voice.max_chars,
            pace=_pace(pace),
            known_chunks=[translation.chunk_to(turn_id, chunk) for chunk in known],
        )
    )


def behind(action: do.RestartChunker, begin: int) -> do.RestartChunker:
    """Return what is told of the text behind so many code points, where no chunk of it is known."""
    flushes = tuple(place - begin for place in action.flushes if place > begin)
    return do.RestartChunker(action.text[begin:], flushes, ())


def moved(chunk: Chunk, chunks: int, chars: int) -> Chunk:
    """Return a chunk of a text that has so many chunks and code points in front of it."""
    runs = tuple(replace(run, source_offset=run.source_offset + chars) for run in chunk.alignment)
    return replace(chunk, index=chunk.index + chunks, text_offset=chunk.text_offset + chars, alignment=runs)


def tell_again(action: do.RestartChunker) -> Iterator[chunker_pb2.ChunkRequest]:
    """Give the messages that tell all of a text anew, with every flush at its place."""
    for number, (begin, end) in enumerate(pairwise((0, *action.flushes, len(action.text)))):
        for at in range(begin, end, _PIECE_CHARS):
            text = action.text[at : min(at + _PIECE_CHARS, end)]
            yield chunker_pb2.ChunkRequest(text=chunker_pb2.ChunkText(text=text))
        if number < len(action.flushes):
            yield chunker_pb2.ChunkRequest(flush=chunker_pb2.ChunkFlush())


def wants_slack(speech: SpeechChoice) -> bool:
    """Say whether the policy looks at the player at all."""
    return speech.policy.kind in (
        common_pb2.ChunkPolicy.KIND_UNSPECIFIED,
        common_pb2.ChunkPolicy.KIND_ADAPTIVE,
    )


def tell_chunker(action: Told) -> chunker_pb2.ChunkRequest:
    """Return the message that an action asks for."""
    match action:
        case do.FeedChunker(text):
            return chunker_pb2.ChunkRequest(text=chunker_pb2.ChunkText(text=text))
        case do.FlushChunker():
            return chunker_pb2.ChunkRequest(flush=chunker_pb2.ChunkFlush())
        case do.EndChunker():
            return chunker_pb2.ChunkRequest(end=chunker_pb2.ChunkEnd())
        case do.TellSlack(left_to_play_ms, chunks_counted, pace):
            slack = chunker_pb2.ChunkSlack(
                left_to_play_ms=left_to_play_ms, chunks_counted=chunks_counted, pace=_pace(pace)
            )
            return chunker_pb2.ChunkRequest(slack=slack)


def _pace(pace: Pace) -> chunker_pb2.Pace:
    return chunker_pb2.Pace(
        ms_per_char=pace.ms_per_char,
        first_frame_ms=pace.first_frame_ms,
        first_frame_ms_per_char=pace.first_frame_ms_per_char,
        writer_chars_per_s=pace.writer_chars_per_s,
    )
