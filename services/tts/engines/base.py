"""What an engine is.

An engine lives in a worker process, which drives it in one of two ways:

    Engine           one thread a request: at most `Capabilities.slots` calls of `synthesize` at once
    SteppedEngine    one thread for all: at most `Capabilities.slots` utterances are open, and a
                     scheduler decides which of them take their next step together

Workers import this module: standard library only, and little of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from services.tts.wire import SpeakRequest, Word

__all__ = [
    "CannotSpeakError",
    "Capabilities",
    "Engine",
    "OptionsError",
    "OutOfMemoryError",
    "Output",
    "RequestFailedError",
    "SpeakRequest",
    "Step",
    "SteppedEngine",
    "Utterance",
    "Variant",
    "Word",
]


class CannotSpeakError(Exception):
    """The text is at fault: this engine cannot speak it, and is well."""


class RequestFailedError(Exception):
    """What this request depends on failed, such as a server; the engine is well, and its process stays.

    The chunk goes to another voice where one is free, else it is asked for again; where most requests
    fail, the engine is left alone for a while.
    """


class OptionsError(Exception):
    """The declaration of the voice is wrong; the text says which option and what it may be."""


class OutOfMemoryError(Exception):
    """A step did not fit into the device's memory. Nothing has advanced; fewer at once may fit."""


class Variant(NamedTuple):
    """One of several voices that one engine has."""

    name: str
    """Lower case; what callers write behind the declared voice's name and a slash."""
    language: str
    """BCP 47 tag."""
    aliases: tuple[str, ...] = ()
    """Other names for it, lower case."""
    max_chars: int = 0
    """Characters that it speaks well at a time; 0 where it has no limit."""


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
    max_chars: int = 0
    """Characters that it speaks well at a time by default; 0 where it has no limit. Chunks are kept shorter
    where the chunker knows; a longer text is spoken all the same."""
    own_edges: bool = False
    """True where its audio begins with the sound and ends with the pause that belongs behind the text:
    nothing is trimmed, faded or added then."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**self._asdict(), "variants": [list(variant) for variant in self.variants]}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Capabilities":
        """Return what `to_json` was given."""
        variants = tuple(
            Variant(name, tag, tuple(names), most) for name, tag, names, most in value["variants"]
        )
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
            RequestFailedError: This request failed, and the engine is well.
            Exception: Anything else means that the engine is broken; its process is replaced.

        """


class Step(NamedTuple):
    """What an utterance needs next: utterances whose steps are equal may take it together."""

    stage: str
    """Which part of the model runs, as traces and figures call it."""
    size: int
    """The size class (bucket) of its tensors in this stage's own unit, padding included."""


class Utterance(Protocol):
    """One request at work in a stepped engine."""

    step: Step | None
    """What it needs next; None once its audio is complete."""

    def take(self) -> tuple[bytes, list[Word]]:
        """Return what the last steps made: s16le mono PCM, and the words that begin in it or later.

        Each sample and each word is returned once, in order.
        """
        ...

    def skip_to(self, sample: int) -> int:
        """Leave out audio in front of `sample`, as far as whole steps allow; return where it goes on.

        Samples from there on are the same as without the call, bit for bit. Never goes back, and may
        return where it is anyhow: it is asked again after each step. Called when all that was made is
        taken. Words in what is left out are still returned by `take`, with the samples of the whole.
        """
        ...


class SteppedEngine(ABC):
    """One loaded model that advances many utterances, a batch of equal steps at a time.

    All calls come from one thread. A step is short (some ten milliseconds): between steps cancels
    take effect and other work gets its turn.
    """

    capabilities: Capabilities

    @abstractmethod
    def open(self, request: SpeakRequest) -> Utterance:
        """Begin a request; cheap. The utterance's `step` is None for a text that has nothing to say.

        Raises:
            CannotSpeakError: The text is at fault.

        """

    @abstractmethod
    def run(self, utterances: Sequence[Utterance]) -> None:
        """Take one step with each of `utterances`, whose `step` is the same, in one batch.

        Raises:
            OutOfMemoryError: The batch does not fit; none has advanced.
            Exception: Anything else means that the engine is broken; its process is replaced.

        """

    @abstractmethod
    def batch_limit(self, step: Step) -> int:
        """Return how many utterances may take `step` together; 1 where a batch gains nothing."""

    @abstractmethod
    def steps(self) -> Sequence[Step]:
        """Return every step there is, smallest first: what is run and captured before the first request."""

    @abstractmethod
    def prepare(self, step: Step, batch: int) -> None:
        """Run `step` with a batch of that size and no request behind it: warm kernels, capture graphs."""
