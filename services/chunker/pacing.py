"""When a chunk must leave so that the player never runs dry: what is known of player, voice and writer.

    audio in hand ──────────────────────────────────┐
    now            latest cut                      dry
     ├────────────────┼──────────┬───────────────────┤
     │ text may come  │  margin  │ engine: first frame
     │ better marks   │          │ of a chunk so long

    dry        = last report + what was left then + the audio of every chunk cut since, estimated
    latest cut = dry - time to the first frame of a chunk as long as the text that waits - margin

What was never observed is taken for worse than usual: the first report corrects it.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

MS: Final = 1_000_000

USUAL_MS_PER_CHAR: Final = 65.0
"""About 15 characters a second."""
CJK_FACTOR: Final = 3.0
"""A character of Han, kana or hangul takes as long as so many letters."""
UNKNOWN_FIRST_FRAME_MS: Final = 300.0
UNKNOWN_FIRST_FRAME_MS_PER_CHAR: Final = 5.0
CAUTION: Final = 0.85
"""So much of the audio that is only estimated is counted on."""
MARGIN_MS: Final = 100.0
"""For the ways between processes, and for timers that are late."""
COMFORT_MS: Final = 1500.0
"""Sentences are joined only with so much more in hand than is needed."""
BETTER_CHARS: Final = 20
"""A better boundary is hardly ever nearer: with time for fewer characters, nothing is waited for."""
_BETTER_MS: Final = 400.0
_PRIOR_CHARS: Final = 60
"""What earlier turns showed of the writer counts as much as so many characters of this text."""
BRIDGED_CHARS: Final = 65
"""So many characters hold a good end, nearly always: a clause mark is 45 away, as a rule."""
COMMA_MS: Final = 100.0
"""Behind a comma voices pause, and what stands alone is spoken slowly: an opener takes longer by this."""
_WINDOW_NS: Final = 2_000 * MS
_MOST_UNCOUNTED: Final = 256
_JOINED_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a voice speaks, and how soon its engine begins."""

    ms_per_char: float = 0.0
    """Milliseconds of audio for a character; 0: unknown."""
    first_frame_ms: float | None = None
    """Milliseconds from cut to first frame, whatever the length; None: unknown."""
    first_frame_ms_per_char: float = 0.0
    """Further milliseconds for each character."""
    writer_chars_per_s: float = 0.0
    """How fast the text is written, by what earlier turns showed; 0: unknown."""


UNKNOWN_PACE: Final = Pace()


class Pacing:
    """The clockwork of one text. Times are nanoseconds of one monotonic clock."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.reported = False
        """True once the player's side has said what it has."""
        self._dry_ns: int | None = None
        self._uncounted: deque[tuple[int, float]] = deque(maxlen=_MOST_UNCOUNTED)  # chunk index, its audio
        self._free_ns = 0  # when the engine has begun all that was cut, as far as is known
        self._first_ns: int | None = None
        self._last_ns = 0
        self._window_ns = 0
        self._window_chars = 0

    # ------------------------------------------------------------ the writer

    def arrived(self, chars: int, now_ns: int) -> None:
        """Take note that text came."""
        if self._first_ns is None:
            # The first piece shows when the writer began, not how fast it is.
            self._first_ns = self._window_ns = self._last_ns = now_ns
            return
        if now_ns != self._last_ns:
            elapsed = now_ns - self._window_ns
            if elapsed > _WINDOW_NS:
                self._window_ns += elapsed // 2
                self._window_chars //= 2
            self._last_ns = now_ns
        self._window_chars += chars

    @property
    def first_ns(self) -> int | None:
        """When the first text came."""
        return self._first_ns

    @property
    def last_ns(self) -> int:
        """When the last text came."""
        return self._last_ns

    def wait_ms(self, chars: float) -> float:
        """Return how long so many characters take to come, by what was observed; 0 while nothing was."""
        elapsed_ms = (self._last_ns - self._window_ns) / MS
        if elapsed_ms <= 0 or not self._window_chars:
            return 0.0
        return chars * elapsed_ms / self._window_chars

    def _expected_ms(self, chars: int) -> float:
        """Return how long so many characters will take, by what earlier turns and this one showed.

        The first tokens alone say little: the second one may be a comma.
        """
        expected_ms = _PRIOR_CHARS * 1000 / self.pace.writer_chars_per_s
        elapsed_ms = (self._last_ns - self._window_ns) / MS
        if elapsed_ms <= 0:
            return chars * expected_ms / _PRIOR_CHARS
        return chars * (expected_ms + elapsed_ms) / (_PRIOR_CHARS + self._window_chars)

    # ------------------------------------------------------------ the voice and the player

    def audio_ms(self, chars: int, cjk: int = 0) -> float:
        """Return the audio of a chunk of so many characters, `cjk` of which are of a syllabic script."""
        if self.pace.ms_per_char:
            return chars * self.pace.ms_per_char
        return (chars + cjk * (CJK_FACTOR - 1)) * USUAL_MS_PER_CHAR

    def first_frame_ms(self, chars: int) -> float:
        """Return how long a chunk of so many characters takes to its first frame."""
        pace = self.pace
        if pace.first_frame_ms is None:
            return UNKNOWN_FIRST_FRAME_MS + chars * UNKNOWN_FIRST_FRAME_MS_PER_CHAR
        return pace.first_frame_ms + chars * pace.first_frame_ms_per_char

    def cut(self, index: int, chars: int, cjk: int, now_ns: int, *, opener: bool = False) -> None:
        """Take note of a chunk: it adds to what the player has."""
        audio_ms = self._bridged_ms(chars, cjk) if opener else self.audio_ms(chars, cjk) * CAUTION
        self._uncounted.append((index, audio_ms))
        # Nobody counts on the time until its first frame: the player begins later, and ends later.
        self._free_ns = max(self._free_ns, now_ns) + round(self.first_frame_ms(chars) * MS)
        begins_ns = now_ns if self._dry_ns is None else max(self._dry_ns, now_ns)
        self._dry_ns = begins_ns + round(audio_ms * MS)

    def report(self, left_ms: float, counted: int, pace: Pace | None, now_ns: int) -> None:
        """Take a report of the player: what it has left, with the first `counted` chunks in it."""
        if pace is not None:
            self.pace = Pace(
                pace.ms_per_char or self.pace.ms_per_char,
                self.pace.first_frame_ms if pace.first_frame_ms is None else pace.first_frame_ms,
                self.pace.first_frame_ms_per_char
                if pace.first_frame_ms is None
                else pace.first_frame_ms_per_char,
                pace.writer_chars_per_s or self.pace.writer_chars_per_s,
            )
        while self._uncounted and self._uncounted[0][0] < counted:
            self._uncounted.popleft()
        self.reported = True
        self._dry_ns = now_ns + round((left_ms + sum(audio for _, audio in self._uncounted)) * MS)

    def bridges(self, chars: int, cjk: int = 0) -> bool:
        """Say whether the audio of a first chunk lasts until the next chunk, of a phrase or so, is there.

        Never while the writer, the voice or its engine is unknown.
        """
        pace = self.pace
        if not pace.writer_chars_per_s or not pace.ms_per_char or pace.first_frame_ms is None:
            return False
        # An engine may begin with a chunk only when it is done with the one before.
        begins_ms = max(self._expected_ms(BRIDGED_CHARS), self.first_frame_ms(chars))
        needed_ms = begins_ms + self.first_frame_ms(BRIDGED_CHARS) + MARGIN_MS
        return self._bridged_ms(chars, cjk) >= needed_ms

    def _bridged_ms(self, chars: int, cjk: int) -> float:
        """Return for how long an opener lasts, from its cut on."""
        return self.first_frame_ms(chars) + self.audio_ms(chars, cjk) * CAUTION + COMMA_MS

    def fits(self, chars: int, now_ns: int) -> bool:
        """Say whether a chunk of so many characters, cut now, begins before the player runs dry.

        Also while nothing was observed of the engine: then no sentence is torn on suspicion.
        """
        if self.pace.first_frame_ms is None:
            return True
        ready_ns = max(now_ns, self._free_ns) + round((self.first_frame_ms(chars) + MARGIN_MS) * MS)
        return ready_ns <= self.dry_ns

    @property
    def dry_ns(self) -> int:
        """When the player runs dry, by what is known; 0 while no chunk was cut."""
        return self._dry_ns or 0

    def latest_cut_ns(self, chars: int) -> int:
        """Return when a chunk of so many characters must be cut at the latest."""
        return self.dry_ns - round((self.first_frame_ms(chars) + MARGIN_MS) * MS)

    def better_ns(self) -> int:
        """Return how long before `latest_cut_ns` nothing better than what is there can come any more."""
        return round(min(self.wait_ms(BETTER_CHARS), _BETTER_MS) * MS)

    def writer_is_faster(self) -> bool:
        """Say whether text comes faster than it is spoken, as far as was observed."""
        return self.wait_ms(1) < self.audio_ms(1)

    def latest_join_ns(self, chars: int) -> int:
        """Return when a chunk must be cut that only waits for another sentence."""
        return self.latest_cut_ns(chars) - round(COMFORT_MS * MS)

    def may_join(self, now_ns: int) -> bool:
        """Say whether there is time to wait for another sentence."""
        return self.reported and self.latest_join_ns(_JOINED_CHARS) > now_ns + COMFORT_MS * MS
