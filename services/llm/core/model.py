"""What the parts of the LLM service say to one another."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, Protocol

from voicemesh.runtime.errors import MeshError


class Role(Enum):
    """Who said a message; the value is the name that providers know."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(Enum):
    """Why a reply ended; the value is the name in traces."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class TextPart:
    """Text of a message."""

    text: str


@dataclass(frozen=True)
class ImagePart:
    """A picture of a message: `data` with its `media_type`, or a `url`; the other is empty."""

    data: bytes = b""
    media_type: str = ""
    url: str = ""


Part = TextPart | ImagePart


@dataclass(frozen=True)
class Message:
    """One message of a conversation. `role` is None where the caller named none that is known."""

    role: Role | None
    parts: tuple[Part | None, ...]

    @property
    def text(self) -> str:
        """The text parts, joined by a space."""
        return " ".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True)
class Parameters:
    """Settings of one generation; None takes the service's default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """What `start` asks for."""

    turn_id: str
    messages: tuple[Message, ...]
    model: str = ""
    parameters: Parameters = Parameters()
    session_id: str = ""
    tenant: str = ""
    said: str = ""
    """What a stream that broke off told of the reply, which goes on behind it."""
    attempt: int = 0
    """How often its caller asked for it before, in vain."""


@dataclass(frozen=True)
class ProviderRequest:
    """One question to a provider: every default is filled in."""

    messages: tuple[Message, ...]
    model: str
    max_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...] = ()
    seed: int | None = None
    session_id: str = ""
    tenant: str = ""
    """Whose session that is."""
    watch: "Callable[[str, str], HttpObserver]" = field(default=lambda *_: UNWATCHED, compare=False)
    """Watches each HTTP request that is made for it, told its method and address."""
    continues: bool = False
    """The last message is the assistant's own, and the reply is to go on behind its end."""


@dataclass(frozen=True)
class Usage:
    """Tokens that a generation consumed, as the provider counted them."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0


@dataclass(frozen=True)
class Connected:
    """The provider accepted the request: its response headers are there."""


@dataclass(frozen=True)
class TextPiece:
    """Some text of the reply; never empty."""

    text: str


@dataclass(frozen=True)
class Unspoken:
    """The model is at work on something that is no text: it reasons, or writes the call of a tool."""


@dataclass(frozen=True)
class ProviderEnd:
    """The provider ended the reply."""

    reason: FinishReason
    model: str
    response_id: str = ""


ProviderEvent = Connected | TextPiece | Unspoken | Usage | ProviderEnd


class AttemptError(Exception):
    """One attempt at a provider failed before its end.

    Attributes:
        error: What the caller sees if nothing is tried again.
        retryable: True where the same request may succeed a moment later.
        retry_after_ms: How long the provider asked to be left alone, in milliseconds; None if it did not.
        stalled: It went silent, and may be as silent when it is asked again.

    """

    def __init__(
        self,
        error: MeshError,
        *,
        retryable: bool,
        retry_after_ms: int | None = None,
        stalled: bool = False,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.stalled = stalled


class Provider(Protocol):
    """Something that answers conversations."""

    name: str
    """As in `gen_ai.provider.name`, for example "openai"."""
    model: str
    """The model that answers where the caller names none."""
    server: tuple[str, int] | None
    """Host and port that it is reached at, for traces; None where there is no server."""

    def generate(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Ask once.

        Yields `Connected`, then any number of `TextPiece` and `Unspoken`, `Usage` at any time (the
        last one counts), and `ProviderEnd` last. Closing the generator, or cancelling its task, closes the
        connection that the reply comes over before it returns.

        Raises:
            AttemptError: It failed.

        """
        ...

    async def probe(self) -> None:
        """Return if the provider can be used.

        Raises:
            AttemptError: It cannot, and why.

        """
        ...

    async def close(self) -> None:
        """Give back connections. Nothing is asked any more."""
        ...


@dataclass(frozen=True)
class Timing:
    """Where the time to the first text went, in nanoseconds.

    connect_ns: From the arrival of `start` to the provider's response headers; with retries, those
        of the attempt that answered.
    ttft_ns: From those headers to the first text.
    """

    connect_ns: int
    ttft_ns: int


@dataclass(frozen=True)
class Delta:
    """A piece of the reply; `timing` is set on the first only."""

    text: str
    timing: Timing | None = None


@dataclass(frozen=True)
class RetryNotice:
    """The provider failed before its first text and is asked again."""

    detail: str


@dataclass(frozen=True)
class FallbackNotice:
    """Another provider than the first is asked, or another than the last one that answered."""

    detail: str


@dataclass(frozen=True)
class ResumedNotice:
    """The stream broke after its first text; what follows goes on behind what was told."""

    detail: str


@dataclass(frozen=True)
class Billed:
    """A question that was accepted, and so is paid for; `usage` is None where its provider did not say."""

    provider: str
    model: str
    usage: Usage | None


@dataclass(frozen=True)
class Finished:
    """The end of a reply. `usage` is None where the provider did not say; `also_billed` is beside it."""

    reason: FinishReason
    provider: str
    model: str
    total_ns: int
    usage: Usage | None = None
    response_id: str = ""
    also_billed: tuple[Billed, ...] = ()


Notice = RetryNotice | FallbackNotice | ResumedNotice
GenerationEvent = Delta | Notice | Finished


class HttpObserver(Protocol):
    """Watches one HTTP request to a provider, for traces."""

    headers: Mapping[str, str]
    """HTTP headers that carry the trace to the provider."""

    def answered(self, status: int, version: str) -> None:
        """The response headers came: their status, and the version of HTTP, as in "HTTP/1.1"."""
        ...

    def end(self, error: BaseException | None = None) -> None:
        """The response was read, or `error` ended it. May be called again, which does nothing."""
        ...


class _Unwatched:
    """Nobody watches."""

    headers: Mapping[str, str] = MappingProxyType({})

    def answered(self, status: int, version: str) -> None:
        """See `HttpObserver`."""

    def end(self, error: BaseException | None = None) -> None:
        """See `HttpObserver`."""


UNWATCHED: Final[HttpObserver] = _Unwatched()


class AttemptObserver(Protocol):
    """Watches one attempt at a provider, for traces."""

    wants_text: bool
    """Whether `end` is to be told what was said."""

    def http(self, method: str, url: str) -> HttpObserver:
        """Watch an HTTP request that is made for it."""
        ...

    def first_text(self, timing: Timing) -> None:
        """The first text of the whole reply is there."""
        ...

    def end(self, finished: Finished | None, error: BaseException | None, text: str = "") -> None:
        """The attempt is over; one of the first two is None. `text` is what it said, where that is wanted."""
        ...


class Observer(Protocol):
    """Watches one generation."""

    def attempt(self, provider: Provider, request: ProviderRequest, number: int) -> AttemptObserver:
        """Watch the attempt with this number, counted from 0."""
        ...

    def event(self, name: str, provider: str, error_type: str = "") -> None:
        """Note an event of `voicemesh.runtime.trace_names`: who is asked now, and what led to it."""
        ...
