"""One request at work in a VITS: which step is next, and what the last one made.

text ──> flow ──> first ──> window ──> window ──┐
 ^                                              │ (of a long text: its next part)
 └──────────────────────────────────────────────┘
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch

from services.tts.engines.base import Step, Word
from services.tts.engines.coqui.reading import Tokens
from services.tts.engines.coqui.vits_model import Speaker
from services.tts.engines.coqui.windows import Grid, bucket

TEXT: Final = "text"
FLOW: Final = "flow"
FIRST: Final = "first"
"""The window at the beginning: it has nothing in front."""
WINDOW: Final = "window"

_SEEDS: Final = 2**63
_PART_SEED: Final = 0x9E3779B97F4A7C15
"""Parts of a text get seeds far apart: 2^64 divided by the golden ratio."""


class Sizes(NamedTuple):
    """How big steps are."""

    grid: Grid
    tokens: Sequence[int]
    """Size classes of texts."""
    frames: Sequence[int]
    """Size classes of flows."""
    hop: int
    """Samples a frame."""
    most_frames: int | None = None
    """Of a part; what the model is configured to leave out beyond."""


class Spoken:
    """See the module; an `Utterance`.

    Args:
        parts: Of the text; none where it has nothing to say.
        speaker: Who speaks.
        scale: What durations are multiplied by.
        seed: Of the noise.
        sizes: Of the engine.

    """

    def __init__(
        self, parts: Sequence[Tokens], speaker: Speaker, scale: float, seed: int, sizes: Sizes
    ) -> None:
        self.speaker = speaker
        self.scale = scale
        self.step: Step | None = None
        self.frames = 0
        """Of the part at work that are heard, once it is encoded."""
        self.flowing = 0
        """Of the part at work with those that the model is configured to leave out."""
        self.frame = 0
        """Of this part, where the next window begins."""
        self.statistics: Any = None
        """[2, C, frames], between text and flow."""
        self.latent: Any = None
        """[C, frames], behind the flow."""
        self._parts = parts
        self._seed = seed
        self._sizes = sizes
        self._number = -1
        self._samples = 0
        self._pcm: list[bytes] = []
        self._words: list[Word] = []
        self._generator = torch.Generator()
        self._noise: Any = None
        self._next_part()

    @property
    def part(self) -> Tokens:
        """The part of the text that is at work."""
        return self._parts[self._number]

    def noise(self, channels: int, length: int) -> Any:
        """Return the normal noise of the step that is next: [channels, length], on the CPU.

        Drawn at its own length by its own generator, so it is the same in any batch and on any device. Drawn
        once: a step that did not fit into memory is taken again, with the same noise.
        """
        if self._noise is None:
            self._noise = torch.randn(channels, length, generator=self._generator)
        return self._noise

    def prepare(self, statistics: Any, frames: int) -> None:
        """Stand for any utterance with so many frames, where an engine warms up."""
        self.statistics, self.latent = statistics, statistics[0]
        self.frames = self.flowing = frames

    def encoded(self, statistics: Any, durations: Sequence[int]) -> None:
        """Take what the text stage made: the statistics of every frame, and the frames of every token."""
        self.statistics, self._noise = statistics, None
        self.flowing = sum(durations)
        most = self._sizes.most_frames
        self.frames = self.flowing if most is None else min(self.flowing, most)
        starts = [0]
        for count in durations:
            starts.append(starts[-1] + count)
        for token, offset, length in self.part.words:
            if starts[token] < self.frames:
                self._words.append(Word(offset, length, self._at(starts[token])))
        self.step = Step(FLOW, bucket(self.flowing, self._sizes.frames))

    def flowed(self, latent: Any) -> None:
        """Take what the flow made."""
        self.statistics = self._noise = None
        self.latent = latent[:, : self.frames]
        self._next_window()

    def decoded(self, samples: Any) -> None:
        """Take the s16 samples of a window; those beyond its end are left out."""
        window = self._sizes.grid.window(self.frame, self.frames)
        self._pcm.append(samples[: window.frames * self._sizes.hop].tobytes())
        self.frame += window.frames
        self._next_window()

    def take(self) -> tuple[bytes, list[Word]]:
        """See `Utterance`."""
        pcm, words = b"".join(self._pcm), self._words
        self._pcm, self._words = [], []
        return pcm, words

    def skip_to(self, sample: int) -> int:
        """See `Utterance`. Nothing is skipped before the text stage has run: no length is known then."""
        if self.step is None or self.step.stage == TEXT:
            return self._at(self.frame)
        wanted = (sample - self._samples) // self._sizes.hop
        if wanted >= self.frames and self._number + 1 < len(self._parts):
            self.frame = self.frames
            self._next_window()
        elif wanted > self.frame:
            # The last window is made in any case: how a text ends depends on what is heard there.
            self.frame = max(self.frame, self._sizes.grid.floor(min(wanted, self.frames - 1)))
            if self.step.stage != FLOW:
                self._next_window()
        return self._at(self.frame)

    def _at(self, frame: int) -> int:
        return self._samples + frame * self._sizes.hop

    def _next_window(self) -> None:
        if self.frame >= self.frames:
            self._samples = self._at(self.frames)
            self._next_part()
            return
        window = self._sizes.grid.window(self.frame, self.frames)
        # The first window keeps its shape however short the text is.
        first = self._sizes.grid.first
        self.step = Step(WINDOW, window.size) if self.frame else Step(FIRST, first)

    def _next_part(self) -> None:
        self._number += 1
        self.frame = self.frames = self.flowing = 0
        self.statistics = self.latent = self._noise = None
        if self._number >= len(self._parts):
            self.step = None
            return
        self._generator.manual_seed((self._seed + self._number * _PART_SEED) % _SEEDS)
        self.step = Step(TEXT, bucket(len(self.part.ids), self._sizes.tokens))
