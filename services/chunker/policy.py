"""What the chunker is told, and what it says."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from services.chunker.pacing import UNKNOWN_PACE, Pace
from voicemesh.runtime.errors import InvalidFieldError

MAX_WORDS: Final = 50
DEFAULT_MAX_CHARS: Final = 400
DEFAULT_HOLD_NS: Final = 300_000_000
DEFAULT_MAX_TEXT_CHARS: Final = 1_000_000

_MERGE_CHARS: Final = 8
_FEW_WORDS: Final = 4
_FEW_WORDS_CHARS: Final = 5
_LANGUAGE: Final = re.compile(r"(?:[A-Za-z]{1,8}(?:[-_][A-Za-z0-9]{1,8})*)?")


class Policy(Enum):
    """Where chunks may end."""

    ADAPTIVE = "adaptive"
    SENTENCE = "sentence"
    CLAUSE = "clause"
    WORDS = "words"


class Reason(Enum):
    """Why a chunk was cut where it was."""

    SENTENCE = "sentence"
    CLAUSE = "clause"
    WORDS = "words"
    LIMIT = "limit"
    DEADLINE = "deadline"
    FLUSH = "flush"
    PHRASE = "phrase"


@dataclass(frozen=True, slots=True)
class ChunkerConfig:
    """How one text is to be cut.

    Raises:
        InvalidFieldError: On construction, naming the field of `ChunkRequest` at fault.

    """

    policy: Policy = Policy.ADAPTIVE
    words: int = 0
    """For WORDS: words per chunk, 1 to 50; otherwise 0."""
    min_chars: int = 0
    """A chunk shorter than this many characters merges forward. 0: the policy's own minimum."""
    max_chars: int = DEFAULT_MAX_CHARS
    """No chunk is longer than this many characters; at least 1."""
    language: str = ""
    """BCP 47 tag of the text; empty where unknown."""
    hold_ns: int = DEFAULT_HOLD_NS
    """Nanoseconds after which a chunk whose end is undecided leaves."""
    max_text_chars: int = DEFAULT_MAX_TEXT_CHARS
    """Characters that the whole text may have."""
    pace: Pace = UNKNOWN_PACE
    """What is known of the voice, for the adaptive policy."""

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        if self.policy is Policy.WORDS and not 1 <= self.words <= MAX_WORDS:
            raise InvalidFieldError("configure.policy.words", f"must be 1 to {MAX_WORDS}, not {self.words}")
        if self.policy is not Policy.WORDS and self.words:
            raise InvalidFieldError("configure.policy.words", "must be 0 for a policy other than words")
        if self.max_chars < 1:
            raise InvalidFieldError("configure.policy.max_chars", "must be at least 1")
        if not 0 <= self.min_chars <= self.max_chars:
            raise InvalidFieldError(
                "configure.policy.min_chars", f"must be at most max_chars, {self.max_chars}"
            )
        if not _LANGUAGE.fullmatch(self.language):
            raise InvalidFieldError("configure.language", "must be a BCP 47 tag, as in de-AT, or empty")

    def least_chars(self, *, first: bool) -> int:
        """Return the fewest characters that a chunk may have; the text's last one may be shorter.

        The policy's own minimum: for `sentence` 1; for `clause` and `adaptive` 8, and 1 for the first
        chunk, because waiting for more would be silence; for `words` 5 with up to 4 words, else 8.
        """
        if self.min_chars:
            return self.min_chars
        if self.policy is Policy.WORDS:
            least = _FEW_WORDS_CHARS if self.words <= _FEW_WORDS else _MERGE_CHARS
        elif self.policy is Policy.SENTENCE or first:
            least = 1
        else:
            least = _MERGE_CHARS
        return min(least, self.max_chars)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server allows."""

    max_chars: int = DEFAULT_MAX_CHARS
    max_text_chars: int = DEFAULT_MAX_TEXT_CHARS
    hold_ns: int = DEFAULT_HOLD_NS
    max_message_chars: int = DEFAULT_MAX_TEXT_CHARS

    def config(
        self,
        *,
        policy: Policy,
        words: int,
        min_chars: int,
        max_chars: int,
        language: str,
        voice_max_chars: int = 0,
        pace: Pace = UNKNOWN_PACE,
    ) -> ChunkerConfig:
        """Return the configuration that was asked for, under these limits; `max_chars` 0 takes the limit.

        `voice_max_chars` is what the voice can speak at a time, 0 where it has no limit: chunks keep to it
        whatever was asked for.

        Raises:
            InvalidFieldError: A field is over its limit or contradicts another.

        """
        if max_chars > self.max_chars:
            raise InvalidFieldError(
                "configure.policy.max_chars", f"must be at most {self.max_chars}, not {max_chars}"
            )
        most = max_chars or self.max_chars
        if voice_max_chars and voice_max_chars < most:
            most = voice_max_chars
            min_chars = min(min_chars, most)
        return ChunkerConfig(
            policy=policy,
            words=words,
            min_chars=min_chars,
            max_chars=most,
            language=language,
            hold_ns=self.hold_ns,
            max_text_chars=self.max_text_chars,
            pace=pace,
        )


@dataclass(frozen=True, slots=True)
class TextRun:
    """A part of a chunk, and what it stands for; equal lengths correspond character by character."""

    spoken_offset: int
    """Code points of the chunk's text before the part."""
    spoken_length: int
    source_offset: int
    """Code points of the whole text before what it stands for."""
    source_length: int


@dataclass(frozen=True, slots=True)
class KnownChunk:
    """A chunk that another process cut from the text: this one cuts it there, too."""

    text: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the text that is spoken as one unit.

    `text` is the input from `text_offset` on, `text_length` code points of it: white space at the
    edges is left out, nothing else; unless `alignment` says how the two differ.
    """

    index: int
    text: str
    text_offset: int
    text_length: int
    reason: Reason
    held_ns: int
    """From the arrival of its last character to the cut."""
    alignment: tuple[TextRun, ...] = ()
    """Empty where `text` corresponds to the input character by character."""
