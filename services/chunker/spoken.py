"""The chunker with a filter before it: written text in, chunks of what is to be said out.

    source   See the **[guide](https://example.com/a)** now.
    spoken   See the guide now.
    runs     (0-8 = 0-8) (8-13 = 11-16) (13-18 = 42-47): what is between them is not said

Chunks carry the spoken text, where in the source it stands, and the runs where the two differ.
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.chunker import marks
from services.chunker.core import Chunker, ChunkerConfig, Pace
from services.chunker.policy import Chunk, KnownChunk, TextRun
from services.chunker.speech import SPECIAL_CLASS, SpeechText, Spoken
from voicemesh.runtime.errors import InvalidFieldError

_UNLIMITED: Final = 1 << 62
_MOST_ARRIVALS: Final = 1000
_search_loud: Final = re.compile(f"[{re.escape(marks.SENTENCE_CHARACTERS)}{SPECIAL_CLASS}]").search
"""Finds what a rule looks at, of the filter or of the chunker behind its first chunk."""


@dataclass(slots=True)
class _Run:
    """A `TextRun` in the making; its offsets count the whole spoken and the whole written text."""

    spoken_offset: int
    spoken_length: int
    source_offset: int
    source_length: int

    @property
    def verbatim(self) -> bool:
        return self.spoken_length == self.source_length

    def drop(self, count: int) -> None:
        """Forget the first `count` spoken characters; what stands for them as a whole goes with the first."""
        count = max(0, min(count, self.spoken_length))
        if not count:
            return
        source = count if self.verbatim else self.source_length
        self.spoken_offset += count
        self.spoken_length -= count
        self.source_offset += source
        self.source_length -= source


class SpokenChunker:
    """A `Chunker` that says what is written as it should be said; it has the same methods.

    Raises:
        InvalidFieldError: From `push`, when the text grows beyond `max_text_chars`.
        OutOfOrderError: From anything after `end`.

    """

    def __init__(self, config: ChunkerConfig, known: Sequence[KnownChunk] = ()) -> None:
        self.config = config
        self.text_length = 0
        """Code points that have come in."""
        self._filter = SpeechText(config.language)
        self._chunker = Chunker(replace(config, max_text_chars=_UNLIMITED), known)
        self._runs: deque[_Run] = deque()  # of spoken text that is in no chunk yet
        self._spoken_length = 0
        self._source_length = 0  # of what was said of it
        self._consumed = 0  # of the spoken text
        self._arrivals: deque[tuple[int, int]] = deque()  # (source length, when it came), but for the last
        self._now_ns = 0
        self._silent = 0  # chunks of marks alone, which do not go out
        # Quiet text: nothing can come of it before more has come. So it is looked at later, all at once.
        self._quiet: list[str] = []
        self._quiet_from = 0  # code points of text in front of it
        self._room = -1  # so many quiet characters may come

    @property
    def chunk_count(self) -> int:
        """Chunks that have gone out."""
        return self._chunker.chunk_count - self._silent

    def push(self, text: str, now_ns: int) -> list[Chunk]:
        """Take in more text."""
        size, limit = len(text), self.config.max_text_chars
        length = self.text_length + size
        if length > limit:
            raise InvalidFieldError("text.text", f"the text of a stream may have at most {limit} characters")
        before_ns = self._now_ns
        if now_ns != before_ns:
            self._arrivals.append((self.text_length, before_ns))
            self._now_ns = now_ns
            if len(self._arrivals) > _MOST_ARRIVALS:
                # Much that says nothing has come: half of the times will do.
                self._arrivals = deque(list(self._arrivals)[1::2])
        self.text_length = length
        if 0 < size <= self._room and _search_loud(text) is None:
            if not self._quiet:
                self._quiet_from = length - size
            self._room -= size
            self._quiet.append(text)
            return []
        if self._quiet:
            self._chunker.came(self.text_length - size - self._quiet_from, before_ns)
            self._quiet.append(text)
            text = "".join(self._quiet)
            self._quiet.clear()
        chunks = self._read(text, now_ns)
        # A space may be held that is in no chunk.
        self._room = self._chunker.room - 1 if self._filter.is_plain else -1
        return chunks

    def _read(self, text: str, now_ns: int) -> list[Chunk]:
        """Say what there is to say of more text; return the chunks that it completed."""
        runs = self._runs
        if runs and (last := runs[-1]).spoken_length == last.source_length:
            said = self._filter.pass_on(text)
            if said is not None:
                # Most tokens are said as they are written, as was what came before.
                count = len(said)
                last.spoken_length += count
                last.source_length += count
                self._spoken_length += count
                self._source_length += count
                return self._chunk(said, now_ns)
        return self._say(self._filter.push(text), now_ns)

    def _read_quiet(self) -> None:
        """Look at the text that nothing could come of."""
        if self._quiet:
            text = "".join(self._quiet)
            self._quiet.clear()
            self._read(text, self._now_ns)

    def flush(self, now_ns: int) -> list[Chunk]:
        """Let out everything that is held, now."""
        self._read_quiet()
        self._room = -1
        chunks = self._say(self._filter.flush(), now_ns)
        return chunks + self._placed(self._chunker.flush(now_ns), now_ns)

    def end(self, now_ns: int) -> list[Chunk]:
        """Let out the rest: no more text comes."""
        self._read_quiet()
        self._room = -1
        chunks = self._say(self._filter.flush(), now_ns)
        return chunks + self._placed(self._chunker.end(now_ns), now_ns)

    def slack(
        self,
        left_to_play_ms: float,
        now_ns: int,
        *,
        chunks_counted: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        """As `Chunker.slack`."""
        self._read_quiet()
        counted = None if chunks_counted is None else chunks_counted + self._silent
        self._chunker.slack(left_to_play_ms, now_ns, chunks_counted=counted, pace=pace)

    def next_deadline_ns(self) -> int | None:
        """As `Chunker.next_deadline_ns`."""
        self._read_quiet()
        return self._chunker.next_deadline_ns()

    def tick(self, now_ns: int) -> list[Chunk]:
        """As `Chunker.tick`."""
        self._read_quiet()
        self._room = -1
        return self._placed(self._chunker.tick(now_ns), now_ns)

    def _say(self, pieces: list[Spoken], now_ns: int) -> list[Chunk]:
        chunker = self._chunker
        if not pieces:
            return chunker.push("", now_ns)  # so that nothing follows the end here either
        for piece in pieces:
            self._note(piece)
        text = pieces[0].text if len(pieces) == 1 else "".join([piece.text for piece in pieces])
        return self._chunk(text, now_ns)

    def _chunk(self, spoken: str, now_ns: int) -> list[Chunk]:
        """Hand on what is to be said; return the chunks that it completed."""
        chunker = self._chunker
        chunks = chunker.push(spoken, now_ns)
        if chunks:
            chunks = self._placed(chunks, now_ns)
        consumed = chunker.consumed
        if consumed != self._consumed:
            self._consumed = consumed
            self._forget(consumed)
        return chunks

    def _forget(self, consumed: int) -> None:
        """Drop what is in chunks, or between them: white space there belongs to none."""
        runs = self._runs
        while runs and runs[0].spoken_offset + runs[0].spoken_length <= consumed:
            runs.popleft()
        source = runs[0].source_offset if runs else self._source_length
        while self._arrivals and self._arrivals[0][0] <= source:
            self._arrivals.popleft()

    def _note(self, piece: Spoken) -> None:
        """Remember where a piece stands; pieces that are said as they are written become one run."""
        text, offset, source_length = piece
        length = len(text)
        self._source_length = offset + source_length
        runs = self._runs
        if runs:
            last = runs[-1]
            same = length == source_length and last.spoken_length == last.source_length
            if (same and length) or (not length and not last.spoken_length):
                last.spoken_length += length
                last.source_length += source_length
                self._spoken_length += length
                return
        runs.append(_Run(self._spoken_length, length, offset, source_length))
        self._spoken_length += length

    def _placed(self, chunks: list[Chunk], now_ns: int) -> list[Chunk]:
        """Return the chunks as they stand in the source; a voice has nothing to say for marks alone."""
        placed = []
        for chunk in chunks:
            if marks.SPEAKABLE.search(chunk.text):
                placed.append(self._place(chunk, now_ns))
            else:
                self._take_runs(chunk.text_offset, chunk.text_offset + chunk.text_length)
                self._silent += 1
        return placed

    def _place(self, chunk: Chunk, now_ns: int) -> Chunk:
        """Return the chunk as it stands in the source."""
        spoken_end = chunk.text_offset + chunk.text_length
        begin = self._take_verbatim(chunk.text_offset, spoken_end)
        runs: list[TextRun] = []
        if begin >= 0:
            end = begin + chunk.text_length
        else:
            runs = self._take_runs(chunk.text_offset, spoken_end)
            begin, last = runs[0].source_offset, runs[-1]
            end = last.source_offset + last.source_length
        arrived_ns = self._now_ns
        for covered, when in reversed(self._arrivals):
            if covered < end:
                break
            arrived_ns = when
        plain = not runs or (len(runs) == 1 and runs[0].spoken_length == runs[0].source_length)
        return Chunk(
            index=chunk.index - self._silent,
            text=chunk.text,
            text_offset=begin,
            text_length=end - begin,
            reason=chunk.reason,
            held_ns=max(chunk.held_ns, now_ns - arrived_ns),
            alignment=() if plain else tuple(runs),
        )

    def _take_verbatim(self, begin: int, end: int) -> int:
        """Forget the spoken text up to `end`, if it is said as it stands from `begin` on, as most chunks are.

        Returns:
            Where it stands in the source; -1 where it is more than one run, which is for `_take_runs`.

        """
        runs = self._runs
        run = runs[0]
        while run.spoken_offset + run.spoken_length <= begin:
            runs.popleft()
            run = runs[0]
        count = end - run.spoken_offset
        if count > run.spoken_length or run.spoken_length != run.source_length:
            return -1
        source = run.source_offset + begin - run.spoken_offset
        if count == run.spoken_length:
            runs.popleft()
        else:
            run.spoken_offset = end
            run.spoken_length -= count
            run.source_offset += count
            run.source_length -= count
        return source

    def _take_runs(self, begin: int, end: int) -> list[TextRun]:
        """Return the runs of the spoken text from `begin` to `end`, and forget them."""
        taken: list[TextRun] = []
        runs = self._runs
        while runs and runs[0].spoken_offset < end:
            run = runs[0]
            run.drop(begin - run.spoken_offset)
            if run.spoken_length or taken:
                length = min(run.spoken_length, end - run.spoken_offset)
                source = length if run.verbatim else run.source_length
                taken.append(TextRun(run.spoken_offset - begin, length, run.source_offset, source))
            run.drop(end - run.spoken_offset)
            if not run.spoken_length:
                runs.popleft()
        while taken and not taken[-1].spoken_length:
            taken.pop()
        return taken


def chunker_for(
    config: ChunkerConfig, *, speech_text: bool, known: Sequence[KnownChunk] = ()
) -> Chunker | SpokenChunker:
    """Return the chunker of a text; with `speech_text`, markup and the like become what should be said.

    `known` are its first chunks, as another process cut them.
    """
    return SpokenChunker(config, known) if speech_text else Chunker(config, known)
