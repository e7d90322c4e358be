"""Cuts a stream of text into pieces that can be spoken. Sans-I/O: text and times in, chunks out.

The scanner below cuts by what the text shows. Here is what time adds, for the adaptive policy:

    first chunk    a clause, a sentence; or a phrase, where waiting for a mark would be longer than it is
                   worth; or, when nothing came for long, what words there are
    later ones     sentences, short ones joined while the player has much in hand; and when the latest
                   moment comes at which a chunk can be cut without the player running dry (`pacing.py`):
                   the best end that is there, sentence before clause before phrase before word

Text that is to be filtered before it is spoken (markup, pictographs) is filtered before `push`: this
machine keeps every character that it gets.
"""

from collections.abc import Sequence
from typing import Final

from services.chunker import marks
from services.chunker.clauses import (
    FIRST_CLAUSE_CHARS,
    FIRST_CLAUSE_CHARS_CJK,
    clause_ends,
    clause_is_speakable,
)
from services.chunker.known import places_of
from services.chunker.pacing import MS, Pace, Pacing
from services.chunker.phrases import Strength, is_opener, last_word_end, phrase_boundaries
from services.chunker.policy import Chunk, ChunkerConfig, KnownChunk, Policy, Reason
from services.chunker.scanner import SLICE_CHARS, Scanner
from services.chunker.view import WHITE_LIMIT, Decision, Verdict
from voicemesh.runtime.errors import InvalidFieldError, OutOfOrderError

__all__ = ["Chunk", "Chunker", "ChunkerConfig", "Pace", "Policy", "Reason"]

USUAL_CLAUSE_CHARS: Final = 45
"""From a phrase boundary to the next mark, as texts that are made to be spoken go."""
WORTH_MS: Final[dict[Strength, int]] = {Strength.STRONG: 60, Strength.WEAK: 100}
"""A phrase is taken for the first chunk where the next mark is further away than this.

The trade: a listener notices a delay from about a tenth of a second on. What a cut at a phrase costs is
that the voice does not know how the sentence goes on: next to nothing before "and" or "because", where
readers pause anyway, a little more before a preposition. So a fast model is let finish its clause, and a
slow one is not waited for.
"""
PATIENCE_MS: Final = 800
"""So long after the first text, or after the player ran dry, words are spoken that end no phrase."""
BRIEF_WAIT_MS: Final = 250
"""A first sentence too brief to bridge the time to the next ("No.") waits so long for more text."""
LEAST_FITTED_CHARS: Final = 15
FIRST_WORDS: Final = 4
LATER_WORDS: Final = 3
JOIN_BELOW_CHARS: Final = 100
"""A chunk that is longer takes in no further sentence."""
NEXT_CHARS: Final = 6
"""A token and a half: a mark with nothing behind it is waited for so long, even when time presses."""
NEXT_MS: Final = 80
"""But no longer: less than the margin with which chunks are cut."""
_AFTER_END: Final = "nothing may follow `end`"
_PHRASE: Final = 1
_WORD: Final = 2
_NEVER: Final = 1 << 62


class Chunker(Scanner):
    """Cuts one text.

    Times are nanoseconds of one monotonic clock and never go back. Each call returns the chunks that it
    completed, in order. While time stands still the chunks do not depend on how the text is cut into
    pushes.

    `known` are the first chunks, as another process cut them: they are cut just so, and given out again.

    Raises:
        InvalidFieldError: From `push`, when the text grows beyond `max_text_chars`, or is not the one that
            the known chunks were cut from.
        OutOfOrderError: From anything after `end`.

    """

    def __init__(self, config: ChunkerConfig, known: Sequence[KnownChunk] = ()) -> None:
        super().__init__(config)
        self._known = tuple(known)
        self._unread = ""  # text that has come, while not all known chunks have
        self._ended = False
        self._pacing = Pacing(config.pace) if self._paced else None
        # How far in vain was looked for an end, and at which length of the text.
        self._tried = (-1, 0)
        self._came = 0  # characters of the next pushes that the pacing knows of

    def push(self, text: str, now_ns: int) -> list[Chunk]:
        """Take in more text."""
        if self._ended:
            raise OutOfOrderError(_AFTER_END)
        size = len(text)
        if self.text_length + len(self._unread) + size > self.config.max_text_chars:
            limit = self.config.max_text_chars
            raise InvalidFieldError("text.text", f"the text of a stream may have at most {limit} characters")
        if self._known:
            return self._push_known(text, now_ns)
        chunks: list[Chunk] = []
        pacing = self._pacing
        if pacing is not None and size:
            if size > self._came:
                pacing.arrived(size - self._came, now_ns)
            self._came = max(0, self._came - size)
        if size <= SLICE_CHARS:
            self._take(text, chunks, now_ns)
        else:
            for index in range(0, size, SLICE_CHARS):
                self._take(text[index : index + SLICE_CHARS], chunks, now_ns)
        if not self.chunk_count and pacing is not None:
            wait_ms = pacing.wait_ms(USUAL_CLAUSE_CHARS)
            if wait_ms >= WORTH_MS[Strength.STRONG]:
                self._begin_with_phrase(chunks, wait_ms, now_ns)
        return chunks

    def _push_known(self, text: str, now_ns: int) -> list[Chunk]:
        """Take in text that was cut before; once all of that has come, cut it at the same places.

        What the scanner knows behind each cut is then what it knew when the text was cut first: it reads up
        to the end of a chunk and no further. Only a chunk that was cut by its length was read beyond.
        """
        self._unread += text
        ends = places_of(self._known, self._unread)
        if ends is None:
            return []
        chunks: list[Chunk] = []
        text, self._known, self._unread = self._unread, (), ""
        self._known_ends.extend(ends)
        read = 0
        for end, reason in ends:
            ahead = end + self._max_chars + WHITE_LIMIT if reason is Reason.LIMIT else end
            if ahead > read:
                self._take(text[read:ahead], chunks, now_ns)
                read = min(ahead, len(text))
            if self._known_ends and self._known_ends[0][0] == end:
                self._cut(chunks, end - self._base, reason, now_ns)
                self._scan(chunks, now_ns, final=False)
                self._drop()
        return chunks + self.push(text[read:], now_ns)

    def came(self, chars: int, then_ns: int) -> None:
        """Take note of when text came that is pushed later: it tells how fast the writer is."""
        if self._pacing is not None:
            self._pacing.arrived(chars, then_ns)
            self._came += chars

    def flush(self, now_ns: int) -> list[Chunk]:
        """Let out everything that is held, now."""
        self._check_open()
        chunks: list[Chunk] = []
        if not self._known:  # what was let out then is among what is known
            self._end_scan(chunks, now_ns)
        return chunks

    def end(self, now_ns: int) -> list[Chunk]:
        """Let out the rest: no more text comes."""
        if self._known:
            raise InvalidFieldError("configure.known_chunks", "the text ends before they do")
        chunks = self.flush(now_ns)
        self._ended = True
        return chunks

    def slack(
        self,
        left_to_play_ms: float,
        now_ns: int,
        *,
        chunks_counted: int | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Take in how many milliseconds of audio the player has left, and what was learned of the voice.

        `chunks_counted` chunks are in the figure already, None: all. For the adaptive policy alone.
        """
        self._check_open()
        if self._pacing is not None:
            counted = self.chunk_count if chunks_counted is None else chunks_counted
            self._pacing.report(left_to_play_ms, counted, pace, now_ns)
            self._tried = (-1, 0)

    def next_deadline_ns(self) -> int | None:
        """Return when `tick` is due; None while nothing waits for time to pass."""
        held = self._held_end()
        due = _NEVER if held is None else held.since_ns + self.config.hold_ns
        if self._pacing is not None and self._start < len(self._buffer):
            phrase_ns, word_ns = self._pressed_ns(self._pacing)
            tried = self._tried[1] if self._tried[0] == self.text_length else 0
            if tried < _PHRASE:
                due = min(due, phrase_ns)
            if tried < _WORD:
                due = min(due, word_ns)
        return None if due == _NEVER else due

    def tick(self, now_ns: int) -> list[Chunk]:
        """Let out what was held too long, or what the player cannot wait for."""
        self._check_open()
        chunks: list[Chunk] = []
        held = self._held_end()
        if held is not None and now_ns >= held.since_ns + self.config.hold_ns:
            self._cut(chunks, held.end - self._base, held.reason, now_ns)
            self._scan(chunks, now_ns, final=False)
        elif self._pacing is not None and self._start < len(self._buffer):
            phrase_ns, word_ns = self._pressed_ns(self._pacing)
            level = _WORD if now_ns >= word_ns else _PHRASE if now_ns >= phrase_ns else 0
            if level:
                self._relieve(chunks, level, now_ns)
        self._drop()
        return chunks

    def _check_open(self) -> None:
        if self._ended:
            raise OutOfOrderError(_AFTER_END)

    def _accept(self, chunks: list[Chunk], end: int, reason: Reason, now_ns: int, *, final: bool) -> bool:
        """Cut at `end`, but not before a chunk ends that is known."""
        if self._known_ends:
            said = len(self._buffer[self._start : end].rstrip())
            if self._base + self._start + said < self._known_ends[0][0]:
                if reason is Reason.SENTENCE:
                    self._sentence_start = end
                return False
        return super()._accept(chunks, end, reason, now_ns, final=final)

    # ------------------------------------------------------------ the adaptive policy

    def _begin_with_phrase(self, chunks: list[Chunk], wait_ms: float, now_ns: int) -> None:
        """Cut the first chunk at the earliest phrase that is worth it."""
        if self._held is not None or self._cursor < len(self._buffer):
            return  # a mark has come: what follows it decides
        begin = max(self._start, self._joined_end)  # behind a sentence that is too brief
        begin += len(self._buffer[begin:]) - len(self._buffer[begin:].lstrip())
        for boundary in phrase_boundaries(self._buffer[begin:], self.config.language):
            end = begin + boundary.end
            if wait_ms >= WORTH_MS[boundary.strength] and self._fits(end):
                self._cut(chunks, end, Reason.PHRASE, now_ns)
                self._scan(chunks, now_ns, final=False)
                self._drop()
                return

    def _decide(self, index: int, *, final: bool) -> tuple[Decision, Reason]:
        decision, reason = super()._decide(index, final=final)
        clause = self._paced and reason is Reason.CLAUSE and decision.verdict is not Verdict.NO
        if clause and self._in_bracket(decision.end):
            # "The bridge (built in 1894, rebuilt in 1952) is": the voice must know where it closes.
            decision = Decision(Verdict.NO, decision.end)
        return decision, reason

    def _may_begin(self, end: int) -> bool:
        return super()._may_begin(end) or self._opens(end)

    def _opens(self, end: int) -> bool:
        """Say whether the text begins with an opener ("Sure,") that lasts until the next chunk is there."""
        pacing = self._pacing
        return (
            pacing is not None
            and is_opener(self._buffer[self._start : end], self.config.language)
            and pacing.bridges(end - self._start)
        )

    def _in_bracket(self, end: int) -> bool:
        """Say whether a round bracket is open where a chunk would end."""
        return self._buffer.rfind("(", self._start, end) > self._buffer.rfind(")", self._start, end)

    def _may_join(self, chars: int, now_ns: int) -> bool:
        pacing = self._pacing
        if pacing is None:
            return False
        if not self.chunk_count:
            cjk = marks.CJK.search(self._buffer, self._start, self._start + chars) is not None
            return chars < (FIRST_CLAUSE_CHARS_CJK if cjk else FIRST_CLAUSE_CHARS)
        return chars < JOIN_BELOW_CHARS and pacing.may_join(now_ns)

    def _fitted(self, end: int, now_ns: int) -> int:
        """Cut a sentence that the engine would begin too late at a place that it begins in time.

        An engine that gives the whole audio of a chunk at once needs time for it; so chunks grow from
        one to the next only as much as the audio in hand allows.
        """
        pacing, start = self._pacing, self._start
        if pacing is None or not self.chunk_count or pacing.fits(end - start, now_ns):
            return end
        clauses = [
            at for at in clause_ends(self._view(start, final=False)) if at < end and not self._in_bracket(at)
        ]
        text = self._buffer[start:end]
        phrases = [start + phrase.end for phrase in phrase_boundaries(text, self.config.language)]
        least = max(self._least, LEAST_FITTED_CHARS)
        ends = [[at for at in found if start + least <= at < end] for found in (clauses, phrases)]
        for found in ends:
            for at in reversed(found):
                if pacing.fits(at - start, now_ns):
                    return at
        # Nothing is in time: what is shortest is least late.
        return min((at for found in ends for at in found), default=end)

    def _pressed_ns(self, pacing: Pacing) -> tuple[int, int]:
        """Return when the text that waits is cut at a phrase or better, and when at a word."""
        held = self._held_end()
        if not self.chunk_count:
            first_ns = pacing.first_ns
            if first_ns is None or held is not None:
                return _NEVER, _NEVER  # what is held has its own time
            if self._joined_end >= 0:
                return _NEVER, pacing.last_ns + BRIEF_WAIT_MS * MS
            return pacing.last_ns + WORTH_MS[Strength.WEAK] * MS, first_ns + PATIENCE_MS * MS
        chars = len(self._buffer) - self._start
        if self._joined_end >= 0:
            joined_ns = pacing.latest_join_ns(chars)
            return joined_ns, joined_ns
        latest_ns = pacing.latest_cut_ns(chars)
        early_ns = latest_ns - pacing.better_ns()
        if held is not None:
            # The next token says whether "example." is an end, or goes on with "com".
            wait_ms = min(pacing.wait_ms(NEXT_CHARS), NEXT_MS)
            early_ns = latest_ns = max(latest_ns, held.since_ns + round(wait_ms * MS))
        elif not pacing.writer_is_faster():
            # The player runs dry whatever is cut: then between phrases, where a pause belongs.
            latest_ns = max(latest_ns, pacing.dry_ns + PATIENCE_MS * MS)
        return early_ns, latest_ns

    def _relieve(self, chunks: list[Chunk], level: int, now_ns: int) -> None:
        """Cut at the best end that is there; remember where there is none."""
        end, reason = self._best_end(level)
        if end <= self._start:
            self._tried = (self.text_length, level)
            return
        self._cut(chunks, end, reason, now_ns)
        self._scan(chunks, now_ns, final=False)

    def _best_end(self, level: int) -> tuple[int, Reason]:
        """Return where to cut in the buffer, and the reason; -1 where nothing fits."""
        if self._joined_end >= 0:
            return self._joined_end, Reason.SENTENCE
        held = self._held_end()
        if held is not None:
            return held.end - self._base, Reason.DEADLINE
        view = self._view(self._start, final=False)
        clauses = [end for end in clause_ends(view) if self._fits(end) and self._is_speakable(end)]
        outside = [end for end in clauses if not self._in_bracket(end)]
        if outside:
            return outside[-1], Reason.DEADLINE
        end = self._last_phrase()
        if end > 0:
            return end, Reason.DEADLINE if self.chunk_count else Reason.PHRASE
        if level < _WORD:
            return -1, Reason.DEADLINE
        return clauses[-1] if clauses else self._last_word(), Reason.DEADLINE

    def _last_phrase(self) -> int:
        text = self._buffer[self._start : self._start + self._most]
        ends = [self._start + found.end for found in phrase_boundaries(text, self.config.language)]
        return next((end for end in reversed(ends) if self._fits(end)), -1)

    def _last_word(self) -> int:
        text = self._buffer[self._start : self._start + self._most]
        least = LATER_WORDS if self.chunk_count else FIRST_WORDS
        end = self._start + last_word_end(text, self.config.language, least)
        return end if self._fits(end) else -1

    def _is_speakable(self, end: int) -> bool:
        return clause_is_speakable(self._buffer[self._start : end])

    def _fits(self, end: int) -> bool:
        chars = end - self._start
        return self._least <= chars <= self._most and bool(
            marks.SPEAKABLE.search(self._buffer, self._start, end)
        )

    def _note_cut(self, chunk: Chunk, now_ns: int) -> None:
        if self._pacing is not None:
            syllables = len(marks.SYLLABIC.findall(chunk.text))
            opener = not chunk.index and self._opens(self._start + len(chunk.text))
            self._pacing.cut(chunk.index, len(chunk.text), syllables, now_ns, opener=opener)
