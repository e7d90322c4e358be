"""One chunk on its way to being heard: where its audio comes from, and what is known of it.

WAITING ── LOOKING_UP ──┬── hit ─────────────────────────────────────────────── DONE
                        ├── following, or the head of a hit ── FOLLOWING ──┬─── DONE
                        │                                ┌─── taken over ──┘
                        └── miss, granted ── MISSED <────┘
                                               └─ SPEAKING ──┬── spoken ─────── DONE
                                                             └── unspeakable ── DONE (speak_locally)
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.core import actions as do
from gateway.core.attribution import ChunkMarks
from gateway.core.heard import SpokenChunk
from gateway.core.report import ChunkAccount
from gateway.core.values import Chunk, Word
from voicemesh.runtime.frames import FrameSlicer


class State(Enum):
    """Where a chunk is; see the module."""

    WAITING = auto()
    LOOKING_UP = auto()
    FOLLOWING = auto()
    MISSED = auto()
    SPEAKING = auto()
    DONE = auto()


class Keep(Enum):
    """What becomes of the audio that an engine makes of a chunk."""

    NOTHING = auto()
    WHOLE = auto()
    """It is gathered, and given to the cache at the end."""
    LEASED = auto()
    """The chunk holds the lease: it goes to the cache, and so to those that follow, as it comes."""


@dataclass(eq=False, slots=True)
class Progress:
    """One chunk on its way."""

    chunk: Chunk
    account: ChunkAccount
    marks: ChunkMarks
    state: State = State.WAITING
    keep: Keep = Keep.NOTHING
    audio: bytearray = field(default_factory=bytearray)
    """What is gathered for the cache."""
    words: list[Word] = field(default_factory=list)
    sequence: int = 0
    made_samples: int = 0
    sent_samples: int = 0
    fallback: bool = False
    """Another voice than the one asked for spoke it, or some of it."""
    foreign: bool = False
    """Another voice, or another version of the voice, spoke it, or some of it."""
    lost: int = 0
    """How often the stream that it was asked for on broke off, and another went on."""
    slicer: FrameSlicer | None = None
    """Cuts what comes from the cache into frames, where it comes in parts."""
    asked_from: int = 0
    """The sample that the engine was asked to begin at."""
    surplus_samples: int = 0
    """So many of the engine's next samples are there already."""
    text_before: int = 0
    """Code points of the chunk's text before what the engine was asked to say."""
    samples_before: int = 0
    """Samples of the chunk before it."""
    held_back: list[do.Action] = field(default_factory=list)
    """What is to be sent once the chunk is the head."""

    @property
    def shares(self) -> bool:
        """True while the cache is asked for the chunk, or has it as the holder of a lease or a follower."""
        if self.state in (State.LOOKING_UP, State.FOLLOWING):
            return True
        return self.keep is Keep.LEASED and self.state is not State.DONE

    def new_words(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        """Return those of `words` that were not told before."""
        known = self.words[-1].text_offset if self.words else -1
        return tuple(word for word in words if word.text_offset > known)

    def sent(self, samples_per_char: int, *, complete: bool) -> SpokenChunk:
        """Return what was sent of it."""
        return SpokenChunk(self.chunk, tuple(self.words), self.sent_samples, complete, samples_per_char)

    def rest(self, samples_per_char: int) -> int:
        """Return where in `chunk.text` that begins which no audio so far has said, by whole words."""
        made = SpokenChunk(self.chunk, tuple(self.words), self.made_samples, False, samples_per_char)
        said, text = len(made.heard(self.made_samples)), self.chunk.text
        return said + len(text[said:]) - len(text[said:].lstrip())

    def resume(self, *, repeats: bool, samples_per_char: int) -> bool:
        """Decide where an engine goes on with what the cache gave; return False where nothing is left.

        Where the voice `repeats` itself that is the next sample, so that the whole is as if one had spoken
        it; else the next whole word.
        """
        self.asked_from = self.surplus_samples = 0
        if not self.made_samples:
            return True
        if not repeats:
            self.text_before, self.samples_before = self.rest(samples_per_char), self.made_samples
            return self.text_before < len(self.chunk.text)
        last = self.words[-1] if self.words else None
        # Estimated words are told late: those between the last one and here nobody has told yet.
        told_to = last.offset_samples + 1 if last is not None and last.estimated else self.made_samples
        self.asked_from = min(told_to, self.made_samples)
        self.surplus_samples = self.made_samples - self.asked_from
        return True
