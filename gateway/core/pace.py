"""How fast a voice speaks, how soon its engine begins, and how fast a model writes, learned from turns.

time to first frame
    │            · ·  line: least squares of what was seen,
    │      ·  ·/        raised until nothing that was seen lies above it
    │  · /  ·
    │ /·                What is told is rather too late than too early: by it the chunker decides how
    └──────────── chars long it may wait.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

_SEEN: Final = 12
"""So many chunks are remembered: a voice that becomes slower is believed within a turn or two."""
_METERS: Final = 256
"""So many pairs of voice and speed are remembered, and so many models."""
_LEAST_WRITTEN_CHARS: Final = 40
"""Less text shows nothing of how fast it is written."""
LEAST_BEGIN_MS: Final = 500
"""Less is not odd: a busy machine may be so late. It is also what an engine is taken to need of which
nothing is known."""
_MS_PER_CHAR: Final = 65
"""Estimate of speech whose audio is not there yet, of an unknown voice: about 15 characters a second."""
_MOST_CHARS_PER_S: Final = 100_000.0
_SPREAD_CHARS: Final = 30
"""With chunks of lengths closer together, nothing is known of how the time grows with the length."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a voice."""

    ms_per_char: float = 0.0
    """Milliseconds of audio for a character of text; 0: unknown."""
    first_frame_ms: float | None = None
    """Milliseconds from chunk to first frame, whatever the length; None: unknown."""
    first_frame_ms_per_char: float = 0.0
    """Further milliseconds for each character."""
    writer_chars_per_s: float = 0.0
    """How fast the model writes, in characters a second; 0: unknown."""

    @property
    def likely_ms_per_char(self) -> float:
        """The same, of a voice of which nothing is known: a guess."""
        return self.ms_per_char or _MS_PER_CHAR

    def begin_ms(self, chars: int) -> int:
        """Return after how many milliseconds it is odd that an engine has not begun with a chunk."""
        if self.first_frame_ms is None:
            return LEAST_BEGIN_MS
        expected_ms = self.first_frame_ms + self.first_frame_ms_per_char * chars
        return max(LEAST_BEGIN_MS, round(2 * expected_ms))


class PaceMeter:
    """Learns the pace of one voice at one speed."""

    def __init__(self) -> None:
        self._spoken: deque[tuple[int, float]] = deque(maxlen=_SEEN)
        self._begun: deque[tuple[int, float]] = deque(maxlen=_SEEN)
        self._pace: Pace | None = None
        """What is known, until more is: it is asked for in the way of the first frame."""

    def began(self, chars: int, waited_ms: float) -> None:
        """Take note of how long a chunk took to its first frame."""
        if chars > 0:
            self._begun.append((chars, max(0.0, waited_ms)))
            self._pace = None

    def spoke(self, chars: int, audio_ms: float) -> None:
        """Take note of how long the audio of a chunk is."""
        if chars > 0 and audio_ms > 0:
            self._spoken.append((chars, audio_ms))
            self._pace = None

    def pace(self) -> Pace:
        """Return what is known of the voice."""
        if self._pace is None:
            self._pace = self._learned()
        return self._pace

    def _learned(self) -> Pace:
        chars = sum(chars for chars, _ in self._spoken)
        audio_ms = sum(audio_ms for _, audio_ms in self._spoken)
        base_ms, slope_ms = self._line()
        return Pace(audio_ms / chars if chars else 0.0, base_ms, slope_ms)

    def _line(self) -> tuple[float | None, float]:
        if not self._begun:
            return None, 0.0
        lengths = [chars for chars, _ in self._begun]
        if max(lengths) - min(lengths) < _SPREAD_CHARS:
            # Half of the time may belong to the length: between "all" and "none" of it.
            slope_ms = max(waited_ms / chars for chars, waited_ms in self._begun) / 2
        else:
            count = len(self._begun)
            mean_chars = sum(lengths) / count
            mean_ms = sum(waited_ms for _, waited_ms in self._begun) / count
            above = sum((chars - mean_chars) * (waited_ms - mean_ms) for chars, waited_ms in self._begun)
            slope_ms = max(0.0, above / sum((chars - mean_chars) ** 2 for chars in lengths))
        base_ms = max(waited_ms - slope_ms * chars for chars, waited_ms in self._begun)
        return max(0.0, base_ms), slope_ms


class WriterMeter:
    """Learns how fast one model writes."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_SEEN)

    def wrote(self, chars: int, elapsed_ms: float) -> None:
        """Take note of the text of a reply behind its first piece, and how long it took to come."""
        if chars >= _LEAST_WRITTEN_CHARS:
            self._seen.append(min(_MOST_CHARS_PER_S, chars * 1000 / max(elapsed_ms, 0.001)))

    def chars_per_s(self) -> float:
        """Return how fast the model writes, three turns of four at least; 0 while no turn has shown it."""
        return sorted(self._seen)[len(self._seen) // 4] if self._seen else 0.0


class Paces:
    """The meters of all voices and models: what one turn learned, the next one knows."""

    def __init__(self) -> None:
        self._meters: OrderedDict[tuple[str, float], PaceMeter] = OrderedDict()
        self._writers: OrderedDict[str, WriterMeter] = OrderedDict()

    def writer(self, model: str) -> WriterMeter:
        """Return the meter of a model; "" is the one that answers where none is named."""
        found = self._writers.setdefault(model, WriterMeter())
        self._writers.move_to_end(model)
        if len(self._writers) > _METERS:
            self._writers.popitem(last=False)
        return found

    def meter(self, voice: str, speed: float) -> PaceMeter:
        """Return the meter of a voice at a speed."""
        key = voice, round(speed, 1)
        found = self._meters.get(key)
        if found is None:
            found = self._meters[key] = PaceMeter()
            if len(self._meters) > _METERS:
                self._meters.popitem(last=False)
        else:
            self._meters.move_to_end(key)
        return found
