"""Cuts a stream of text by what the text alone shows. Sans-I/O; `core.py` adds what time has to say.

    buffer:  … | t h e   c h u n k   s o   f a r .   N e |          (older text is gone)
               ^start                        ^cursor    ^end of what has come
               [start, cursor)  decided: no chunk ends here
               cursor           the mark that is looked at; undecided while lookahead is missing

The text is scanned once: the cursor never goes back, and what is left of `start` is dropped, so the
cost is linear and the memory bounded by `max_chars` plus a bounded lookahead.
"""

import re
from collections import deque
from dataclasses import dataclass
from typing import Final

from services.chunker import marks
from services.chunker.abbreviations import table_for
from services.chunker.boundaries import decide_sentence
from services.chunker.clauses import clause_is_speakable, decide_clause, last_clause_end
from services.chunker.limits import forced_cut, word_ends
from services.chunker.policy import Chunk, ChunkerConfig, Policy, Reason
from services.chunker.view import WHITE_LIMIT, Decision, Verdict, View

JOINED_CHARS: Final = 200
"""Sentences are joined to a chunk of at most so many characters."""
UNSPACED_CHARS: Final = 100
"""Text without spaces and marks is cut at so many characters, but by the policies that wait for sentences."""
SLICE_CHARS: Final = 8192
"""A long text is taken in by slices of this size, so that dropping old text stays cheap."""
_DROPPED_CHARS: Final = 128
"""Old text is dropped by so much at a time, which is cheaper than by the chunk."""
_NOT_WHITE: Final = re.compile(r"\S")
_SPACE: Final = " "
_FIRST_CJK: Final = "\u3005"


@dataclass(slots=True)
class Held:
    """A chunk whose end is undecided, though it may well be one."""

    end: int
    """Absolute offset behind its last character."""
    since_ns: int
    """When that character came."""
    reason: Reason


_UNSEEN: Final = Held(-1, 0, Reason.SENTENCE)
"""Stands for a mark with nothing behind it, which is looked at when somebody asks, or more has come."""


class Scanner:
    """Finds where chunks end. Each call returns the chunks that it completed, in order.

    The chunks do not depend on how the text is cut into pushes.
    """

    def __init__(self, config: ChunkerConfig) -> None:
        self.config = config
        self.text_length = 0
        """Code points that have come in."""
        self.chunk_count = 0
        """Chunks that have gone out."""
        self._buffer = ""
        self._base = 0  # absolute offset of the buffer's first character
        self._start = 0
        self._cursor = 0
        self._sentence_start = 0
        self._words = 0
        self._word_start = 0
        self._joined_end = -1  # behind the last sentence of a chunk that may take in another
        self._guillemet_open = False
        self._held: Held | None = None  # `_held_end` tells
        self._arrivals: deque[tuple[int, int]] = deque()  # (absolute end, when it came), but for the last
        self._now_ns = 0  # when the last text came
        self._max_chars = config.max_chars
        self._most = config.max_chars  # of this chunk
        self._known_ends: deque[tuple[int, Reason]] = deque()  # absolute ends of chunks that are cut there
        self._seen = View("", 0, 0, 0, False, False, table_for(config.language))
        self._early = config.policy in (Policy.CLAUSE, Policy.ADAPTIVE)
        self._paced = config.policy is Policy.ADAPTIVE
        self._by_words = config.policy is Policy.WORDS
        self._pattern = (
            marks.WORD_END if self._by_words else marks.ANY_MARK if self._early else marks.SENTENCE_MARK
        )
        self._least = config.least_chars(first=True)
        # Text up to this length needs no look at the limits.
        self._near = min(self._max_chars, UNSPACED_CHARS) if self._early else self._max_chars

    @property
    def consumed(self) -> int:
        """Code points that are in chunks, or between them."""
        return self._base + self._start

    @property
    def room(self) -> int:
        """How many characters, none of which ends a sentence, may come before one of them can make a chunk.

        -1 where each character may, because a mark waits for it or more than sentences is looked for.
        """
        length = len(self._buffer)
        if self._pattern is not marks.SENTENCE_MARK or self._cursor < length or self._start == length:
            return -1
        return self._near - (length - self._start)

    def _take(self, piece: str, chunks: list[Chunk], now_ns: int) -> None:
        if now_ns != self._now_ns:
            self._arrivals.append((self.text_length, self._now_ns))
            self._now_ns = now_ns
        start, buffer = self._start, self._buffer
        new = start >= len(buffer)
        self._buffer = buffer = buffer + piece
        length = len(buffer)
        self.text_length = self._base + length
        found = -1
        if not new and length - start <= self._near:
            match = self._pattern.search(buffer, self._cursor)
            found = match.start() if match else length
            if self._by_words and found < length and (found := self._pass_words(found, chunks, now_ns)) < 0:
                self._drop()
                return
            if found == length:
                # Most tokens hold no mark: then there is nothing more to do.
                self._cursor = length
                self._held = None
                return
        self._scan(chunks, now_ns, final=False, found=found)
        self._drop()

    def _end_scan(self, chunks: list[Chunk], now_ns: int) -> None:
        """Let out everything that is held."""
        self._scan(chunks, now_ns, final=True)
        while self._start < len(self._buffer):
            end = self._fitted(len(self._buffer), now_ns)
            whole = end == len(self._buffer)
            self._cut(chunks, end, Reason.FLUSH if whole else Reason.DEADLINE, now_ns)
        self._sentence_start = self._start
        self._drop()

    def _may_join(self, chars: int, now_ns: int) -> bool:
        """Say whether a chunk of so many characters may take in the next sentence."""
        del chars, now_ns
        return False

    def _note_cut(self, chunk: Chunk, now_ns: int) -> None:
        """Take note of a chunk that leaves; called where chunks are paced."""

    def _fitted(self, end: int, now_ns: int) -> int:
        """Return where to cut a chunk that could end at `end`, if that is too long to be there in time."""
        del now_ns
        return end

    def _scan(self, chunks: list[Chunk], now_ns: int, *, final: bool, found: int = -1) -> None:
        """Decide as far as the text that has come allows, and cut; `found` is the next mark, if known."""
        self._held = None
        buffer = self._buffer
        end = len(buffer)
        index, pattern = found, self._pattern
        self._skip_white()
        while True:
            if index < self._cursor or pattern is not self._pattern:
                pattern = self._pattern
                match = pattern.search(buffer, self._cursor)
                index = match.start() if match else end
                if self._by_words and not final and (index := self._pass_words(index, chunks, now_ns)) < 0:
                    return
            limit = self._start + (self._limit_here() if end - self._start > self._near else self._most)
            if self._joined_end >= 0 and min(index, end) - self._start >= JOINED_CHARS:
                self._cut(chunks, self._joined_end, Reason.SENTENCE, now_ns)
                index = -1  # the next mark may be one that was passed
                continue
            if index > limit or (index == limit and (index == end or buffer[index] not in marks.NEWLINES)):
                if not self._overflows(limit, final=final):
                    # As much as fits has come, and nothing but white space behind it.
                    self._cursor = min(self._cursor, index)
                    return
                self._force(chunks, limit, now_ns)
                index = -1  # as above
                continue
            if index == end:
                self._cursor = index
                return
            if index + 1 == end and index < limit and not final and buffer[index] in marks.CLUSTER:
                self._cursor = index
                self._held = _UNSEEN  # what follows decides
                return
            decision, reason = self._decide(index, final=final)
            if decision.verdict is Verdict.UNDECIDED:
                self._cursor = index
                self._hold(decision, reason)
                return
            if decision.verdict is Verdict.NO:
                self._cursor = max(decision.end, index + 1)
                continue
            if self._accept(chunks, decision.end, reason, now_ns, final=final):
                index = -1  # as above
            else:
                self._cursor = max(decision.end, index + 1)

    def _decide(self, index: int, *, final: bool) -> tuple[Decision, Reason]:
        buffer = self._buffer
        if self._by_words and (buffer[index] == " " or not marks.is_sentence_mark(buffer, index)):
            return self._decide_word(index, final=final), Reason.WORDS
        view = self._view(index, final=final)
        if not self._early or self.chunk_count or marks.is_sentence_mark(buffer, index):
            return decide_sentence(view, index), Reason.SENTENCE
        decision = decide_clause(view, index)
        if decision.verdict is not Verdict.NO and not self._may_begin(decision.end):
            decision = Decision(Verdict.NO, decision.end)
        return decision, Reason.CLAUSE

    def _may_begin(self, end: int) -> bool:
        """Say whether the first chunk may be the clause that ends at `end`."""
        return clause_is_speakable(self._buffer[self._start : end])

    def _limit_here(self) -> int:
        """Return how long this chunk may become; called when there is enough of it to see what it is."""
        if self._joined_end >= 0:
            self._near = self._most
        elif self._early and self._near == UNSPACED_CHARS:
            seen = self._buffer[self._start : self._start + UNSPACED_CHARS]
            if len(marks.UNSPACED.findall(seen)) > UNSPACED_CHARS // 2:
                self._most = UNSPACED_CHARS
            self._near = self._most
        return self._most

    def _pass_words(self, index: int, chunks: list[Chunk], now_ns: int) -> int:
        """Count words from the mark at `index` on, and cut where there are enough; the plain cases only.

        Returns:
            The next mark that needs a closer look; -1 where what follows enough words is still missing.

        """
        buffer, search, speakable = self._buffer, self._pattern.search, marks.SPEAKABLE.search
        length, enough, start = len(buffer), self.config.words - 1, self._start
        least, most = self._least, self._most
        while index < length and index - start < most:
            char = buffer[index]
            end = index  # of the word
            if char != _SPACE:
                if char < _FIRST_CJK or marks.CJK.match(char) is None:
                    break
                end += 1
            elif speakable(buffer, self._word_start, index) is None:
                self._word_start = end + 1
                end = -1
            if end >= 0 and self._words >= enough and least <= end - start <= most:
                following = buffer[index + 1 : index + 2]
                if not following:
                    self._held = Held(self._base + end, self._arrival_ns(self._base + end), Reason.WORDS)
                    self._cursor = index
                    return -1
                if not following.isalnum() or (following.isdigit() and buffer[end - 1].isdigit()):
                    break
                plain = end == index and not buffer[end - 1].isspace() and not self._known_ends
                if plain and "«" not in buffer and "»" not in buffer:
                    # As `_cut` does, where nothing is special: this is what words:N spends its time on.
                    offset = self._base + start
                    held_ns = max(0, now_ns - self._arrival_ns(offset + end - start))
                    text = buffer[start:end]
                    chunks.append(Chunk(self.chunk_count, text, offset, end - start, Reason.WORDS, held_ns))
                    self.chunk_count += 1
                    self._held = None
                    self._words = 0
                    self._start = self._word_start = start = end + 1
                else:
                    self._cut(chunks, end, Reason.WORDS, now_ns)
                    start = self._start
            elif end >= 0:
                self._words += 1
                self._word_start = end
            match = search(buffer, index + 1)
            self._cursor = index = match.start() if match else length
        return index

    def _decide_word(self, index: int, *, final: bool) -> Decision:
        """Count the word that ends at `index`; decide once there are enough of them."""
        buffer = self._buffer
        end, counts = word_ends(buffer, self._word_start, index)
        if not counts:
            self._word_start = index + 1
            return Decision(Verdict.NO, index + 1)
        if self._words + 1 >= self.config.words and end - self._start >= self._least:
            following = _NOT_WHITE.search(buffer, end)
            if following is None:
                verdict = Verdict.YES if final or len(buffer) - end >= WHITE_LIMIT else Verdict.UNDECIDED
                return Decision(verdict, end)
            if following.start() - end >= WHITE_LIMIT or self._may_part(buffer, end, following.start()):
                return Decision(Verdict.YES, end)
        self._words += 1
        self._word_start = end
        return Decision(Verdict.NO, max(end, index + 1))

    @staticmethod
    def _may_part(text: str, end: int, following: int) -> bool:
        """Say whether a chunk may end between `end` and `following`: not in "1 234", not before a mark."""
        char = text[following]
        if char.isdigit() and text[end - 1].isdigit():
            return False
        return char.isalnum() or char in marks.OPENERS or char in "-#$€£&@+/~<=>*" or char in marks.DASHES

    def _accept(self, chunks: list[Chunk], end: int, reason: Reason, now_ns: int, *, final: bool) -> bool:
        """Cut at `end`, unless the chunk is too short; say whether it was cut."""
        piece = self._buffer[self._start : end].rstrip()
        if self._joined_end >= 0 and len(piece) > JOINED_CHARS:
            self._cut(chunks, self._joined_end, Reason.SENTENCE, now_ns)
            return True
        if len(piece) > self._most:
            self._force(chunks, self._start + self._most, now_ns)
            return True
        if len(piece) < self._least or not marks.SPEAKABLE.search(piece):
            if reason is Reason.SENTENCE:
                self._sentence_start = end
            return False
        if reason is Reason.SENTENCE and (fitted := self._fitted(end, now_ns)) < end:
            # What is left of the sentence is looked at again.
            self._cut(chunks, fitted, Reason.DEADLINE, now_ns)
            return True
        if final and _NOT_WHITE.search(self._buffer, end) is None:
            reason = Reason.FLUSH
        elif (
            reason is Reason.SENTENCE
            and self._buffer[end - 1] not in marks.NEWLINES
            and self._may_join(len(piece), now_ns)
        ):
            self._joined_end = self._sentence_start = end
            self._near = min(self._most, JOINED_CHARS)
            return False
        self._cut(chunks, end, reason, now_ns)
        return True

    def _held_end(self) -> Held | None:
        """Return what is held and may leave when its time comes."""
        if self._held is _UNSEEN:
            self._held = None
            self._hold(*self._decide(self._cursor, final=False))
        return self._held

    def _hold(self, decision: Decision, reason: Reason) -> None:
        """Remember an undecided end, so that `tick` can let it out."""
        piece = self._buffer[self._start : decision.end].rstrip()
        if decision.plausible and self._least <= len(piece) <= self._most and marks.SPEAKABLE.search(piece):
            end = self._base + self._start + len(piece)
            self._held = Held(end, self._arrival_ns(end), reason)

    def _view(self, index: int, *, final: bool) -> View:
        view = self._seen
        view.text = self._buffer
        view.start = self._start
        view.sentence_start = self._sentence_start
        view.limit = self._start + self._most + 1
        view.final = final
        view.guillemet_open = self._guillemet_open_at(index)
        return view

    def _guillemet_open_at(self, index: int) -> bool:
        """Say whether a « of French kind, with a space behind it, waits for its » at `index`."""
        opened = self._buffer.rfind("«", self._start, index)
        if opened < 0:
            return self._guillemet_open and self._buffer.find("»", self._start, index) < 0
        return self._buffer[opened + 1].isspace() and self._buffer.find("»", opened, index) < 0

    def _overflows(self, limit: int, *, final: bool) -> bool:
        """Say whether more has come than a chunk holds, white space aside."""
        if len(self._buffer) <= limit:
            return False
        if _NOT_WHITE.search(self._buffer, limit):
            return True
        return not final and len(self._buffer) - limit >= WHITE_LIMIT

    def _force(self, chunks: list[Chunk], limit: int, now_ns: int) -> None:
        """Cut at the last clause, else at a space, else between two words' characters."""
        end = last_clause_end(self._view(self._start, final=False))
        if end - self._start < self._least or not marks.SPEAKABLE.search(self._buffer, self._start, end):
            end = forced_cut(self._buffer, self._start, limit)
        self._cut(chunks, end, Reason.LIMIT, now_ns)

    def _cut(self, chunks: list[Chunk], end: int, reason: Reason, now_ns: int) -> None:
        """Let out what is between `start` and `end`, or up to where the chunk is known to end."""
        if self._known_ends:
            known, reason = self._known_ends.popleft()
            end = known - self._base
        text = self._buffer[self._start : end].rstrip()
        if text:
            offset, length, index = self._base + self._start, len(text), self.chunk_count
            held_ns = max(0, now_ns - self._arrival_ns(offset + length))
            chunks.append(Chunk(index, text, offset, length, reason, held_ns))
            self.chunk_count = index + 1
            if self._paced:
                self._note_cut(chunks[-1], now_ns)
            if not index:
                self._least = self.config.least_chars(first=False)
                if self._early:
                    self._pattern = marks.SENTENCE_MARK
        if "«" in text or "»" in text:
            opened, closed = text.rfind("«"), text.rfind("»")
            self._guillemet_open = opened > closed and text[opened + 1 : opened + 2].isspace()
        self._held = None
        self._start = end
        self._joined_end = -1
        self._most = self._max_chars
        self._near = min(self._max_chars, UNSPACED_CHARS) if self._early else self._max_chars
        self._words = 0
        # Words are counted anew from here; marks behind a clause or a limit were decided before.
        self._cursor = end if self._by_words else max(self._cursor, end)
        self._word_start = end
        if reason in (Reason.SENTENCE, Reason.FLUSH):
            self._sentence_start = end
        self._skip_white()

    def _skip_white(self) -> None:
        """Begin the chunk at its first character."""
        buffer, start = self._buffer, self._start
        if start >= len(buffer) or not buffer[start].isspace():
            return
        if (
            buffer[start] == _SPACE
            and not buffer[start + 1 : start + 2].isspace()
            and start + 1 < len(buffer)
        ):
            # As most words are parted.
            self._start = after = start + 1
            if self._sentence_start >= start:
                self._sentence_start = after
            self._cursor = max(self._cursor, after)
            self._word_start = max(self._word_start, after)
            return
        match = _NOT_WHITE.search(buffer, start)
        self._start = match.start() if match else len(buffer)
        if self._sentence_start >= start or any(
            char in marks.NEWLINES for char in buffer[start : self._start]
        ):
            self._sentence_start = self._start
        self._cursor = max(self._cursor, self._start)
        self._word_start = max(self._word_start, self._start)

    def _arrival_ns(self, end: int) -> int:
        """Return when the character before the absolute offset `end` came."""
        found = self._now_ns
        for covered, when in reversed(self._arrivals):
            if covered < end:
                break
            found = when
        return found

    def _drop(self) -> None:
        """Forget the text before the chunk, but for one character, which rules may look at."""
        count = self._start - 1
        if count <= 0 or (count < _DROPPED_CHARS and self._start < len(self._buffer)):
            return
        self._buffer = self._buffer[count:]
        self._base += count
        self._start -= count
        self._cursor -= count
        self._sentence_start -= count
        self._word_start -= count
        if self._joined_end >= 0:
            self._joined_end -= count
        consumed = self._base + self._start
        while self._arrivals and self._arrivals[0][0] <= consumed:
            self._arrivals.popleft()
