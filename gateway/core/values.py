"""What turns are made of."""

from dataclasses import dataclass, field

from gateway.core.budget import Answerer, Budget


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a prompt: either `data` with a `media_type`, or a `url`."""

    data: bytes = b""
    url: str = ""
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    parts: tuple[str | Image, ...]
    """Texts and pictures, in order."""

    @property
    def text(self) -> str:
        """The texts of the message, joined by new lines."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a generation consumed."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    provider: str = ""
    """Who counted them; "" where it is not known."""
    model: str = ""
    """The model, as the provider names it."""
    estimated: bool = False
    """True where the provider did not say."""


@dataclass(frozen=True, slots=True)
class Word:
    """When one word of a chunk is heard."""

    word: str
    text_offset: int
    """Code points of the chunk's text before the word."""
    text_length: int
    offset_samples: int
    """Samples of the chunk before the word."""
    estimated: bool = False
    source_offset: int = 0
    """Code points of the turn's text before what the word stands for; set where the caller is told."""
    source_length: int = 0


@dataclass(frozen=True, slots=True)
class TextRun:
    """A part of a chunk, and what it stands for; equal lengths correspond character by character."""

    spoken_offset: int
    """Code points of the chunk's text before the part."""
    spoken_length: int
    source_offset: int
    """Code points of the turn's text before what it stands for."""
    source_length: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text that is spoken as one unit."""

    index: int
    text: str
    text_offset: int
    """Code points of the turn's text before the chunk."""
    text_length: int
    reason: str
    held_us: int
    alignment: tuple[TextRun, ...] = ()
    """Empty where `text` corresponds to the turn's text character by character."""

    @property
    def said(self) -> str:
        """`text` as it is given to engines: a line that ended without a mark is told by a line break."""
        return f"{self.text}\n" if self.reason == "sentence" and self.text[-1:].isalnum() else self.text

    def source(self, begin: int, end: int) -> tuple[int, int]:
        """Return where in the turn's text the part of `text` from `begin` to `end` stands: begin and end.

        What stands for something as a whole is never cut: of "3 < 5" for "3 &lt; 5" the middle is "&lt;".
        """
        if not self.alignment:
            return self.text_offset + begin, self.text_offset + end
        first = last = self.text_offset
        for run in self.alignment:
            same = run.spoken_length == run.source_length
            if run.spoken_offset <= begin and run.spoken_length:
                first = run.source_offset + (min(begin - run.spoken_offset, run.spoken_length) if same else 0)
            if run.spoken_offset < end and run.spoken_length:
                within = min(end - run.spoken_offset, run.spoken_length) if same else run.source_length
                last = run.source_offset + within
        return first, max(first, last)


@dataclass(frozen=True, slots=True)
class TurnSpec:
    """What is asked of a turn."""

    turn_id: str
    session_id: str
    received_ns: int
    """When the prompt was read: the zero of every duration of the turn."""
    sample_rate_hz: int
    """Of the turn's audio: 16-bit mono PCM."""
    tenant: str = ""
    """Whose turn it is; the session and what is cached are this tenant's. "": who names none."""
    shares_audio: bool = False
    """True where audio is cached for all tenants."""
    shares_replies: bool = False
    """True where replies are cached for all tenants."""
    cache_tags: tuple[str, ...] = ()
    """What the turn stores in the cache can be invalidated by these."""
    prompt: Message | None = None
    """What the LLM is to answer; None where the caller brings its own words."""
    system_prompt: str = ""
    remembered: tuple[Message, ...] = ()
    """The history as this gateway last saw it: used where the cache cannot be asked."""
    new_session: bool = False
    """True where the session cannot have a history yet."""
    keep_history: bool = True
    reply_cache: bool = True
    audio_cache: bool = True
    voice_repeats: bool = True
    """True where the voice says the same text with the same samples each time."""
    max_lead_ms: int = 5000
    """Synthesis stays at most this far ahead of playback; 0: no limit."""
    word_timings: bool = False
    draft: bool = False
    """True where the caller is not sure yet: nothing is told until `Confirmed`."""
    draft_ms: int = 10_000
    """A draft that is not confirmed by then is discarded."""
    text_idle_ms: int = 0
    """Longest wait for more of the caller's own words; 0: no limit."""
    patience_ms: int = 0
    """Every chunk may wait this much longer for an engine: for work that nobody listens to as it comes."""
    keeps_audio: bool = False
    """Its audio is worth keeping though nobody asked for it before: others will."""
    prompt_variant: str = ""
    """The named system prompt that `system_prompt` is; "" for one of the caller's own."""
    budget: Budget = field(default_factory=Budget)
    """What the prompt, and so the history, may have."""
    answerer: Answerer = field(default_factory=Answerer)
    """Who is expected to write the reply."""
    variants: tuple[tuple[str, str], ...] = ()
    """Feature flags that had a say in the turn, and the variant that each gave it."""
    given_up: tuple[tuple[str, str], ...] = ()
    """What was given up before it began, and why, as for `EmitDegraded`."""
    cached_only: bool = False
    """True where it may have what is in the cache, and nothing else."""
    priority: int = 0
    """As the contract numbers them."""
