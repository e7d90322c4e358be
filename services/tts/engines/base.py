"""What an engine is.

An engine lives in a worker process and is driven by its threads: at most `Capabilities.slots` calls
of `synthesize` run at once. Workers import this module: standard library only, and little of it.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol

from services.tts.wire import SpeakRequest, Word

__all__ = [
    "CannotSpeakError",
    "Capabilities",
    "Engine",
    "OptionsError",
    "Output",
    "SpeakRequest",
    "Variant",
    "Word",
]


class CannotSpeakError(Exception):
    """The text is at fault: this engine cannot speak it, and is well. Anything else means a broken engine."""


class OptionsError(Exception):
    """The declaration of the voice is wrong; the text says which option and what it may be."""


class Variant(NamedTuple):
    """One of several voices that one engine has."""

    name: str
    """Lower case; what callers write behind the declared voice's name and a slash."""
    language: str
    """BCP 47 tag."""
    aliases: tuple[str, ...] = ()
    """Other names for it, lower case."""


class Capabilities(NamedTuple):
    """What an engine can do: data, so that nobody has to guess."""

    sample_rate_hz: int
    """Of the PCM that it makes."""
    slots: int
    """Chunks that it speaks at once."""
    word_timings: bool
    """True where it says when each word is heard."""
    deterministic: bool
    """True where the same request gives the same samples, bit for bit, in any process."""
    revision: str
    """Changes whenever the same request would sound different."""
    variants: tuple[Variant, ...] = ()
    """Its voices; empty where it has one."""
    default_variant: str = ""
    """Name of the variant for the declared language; "" where it has none."""
    language: str = ""
    """BCP 47 tag of what it speaks by default."""
    own_edges: bool = False
    """True where its audio begins with the sound and ends with the pause that belongs behind the text:
    nothing is trimmed, faded or added then."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**self._asdict(), "variants": [list(variant) for variant in self.variants]}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Capabilities":
        """Return what `to_json` was given."""
        variants = tuple(Variant(name, tag, tuple(aliases)) for name, tag, aliases in value["variants"])
        return Capabilities(**{**value, "variants": variants})


class Output(Protocol):
    """Where an engine puts what it makes."""

    def write(self, pcm: bytes) -> bool:
        """Take s16le mono PCM, as soon as it is made. Return False when the engine is to stop.

        May wait where the listener is slow. Slices of about 20 to 200 ms let a cancel through in time.
        """
        ...

    def words(self, words: list[Word]) -> None:
        """Take the times of words, in order of the text, before the PCM that holds them.

        A word that is left out is given an estimated time when the next one comes.
        """
        ...

    def pause(self, seconds: float) -> bool:
        """Wait. Return False, at once, when the engine is to stop."""
        ...


class Engine(ABC):
    """One loaded model."""

    capabilities: Capabilities

    @abstractmethod
    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        """Speak the whole text of `request` from its first sample, into `output`.

        Returns at the end, or early once `output` said to stop. Writes nothing at all for a text
        that has nothing to say. The request's offset, window and attempt are not the engine's
        business (except where it simulates trouble).

        Raises:
            CannotSpeakError: The text is at fault.
            Exception: Anything else means that the engine is broken; its process is replaced.

        """
