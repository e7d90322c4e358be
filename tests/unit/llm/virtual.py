"""Providers that do as told, in virtual time."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from services.llm.core.buffer import ReplyBuffer
from services.llm.core.candidates import ListedProvider, ProviderSpec, candidates_for
from services.llm.core.figures import Figures
from services.llm.core.generation import Generation
from services.llm.core.model import (
    UNWATCHED,
    AttemptError,
    Connected,
    Delta,
    FallbackNotice,
    Finished,
    FinishReason,
    GenerationEvent,
    HttpObserver,
    Message,
    Provider,
    ProviderEnd,
    ProviderEvent,
    ProviderRequest,
    ResumedNotice,
    RetryNotice,
    Role,
    TextPart,
    TextPiece,
    Timing,
    Usage,
)
from services.llm.core.retries import RetryPolicy
from tests.support.virtual_time import LoopClock
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.errors import LlmUnavailableError
from voicemesh.runtime.retry_budget import RetryBudget


def user(text: str) -> Message:
    return Message(Role.USER, (TextPart(text),))


def request(*texts: str, **changes: Any) -> ProviderRequest:
    messages = tuple(user(text) for text in texts or ("Why is the sky blue?",))
    defaults: dict[str, Any] = {
        "messages": messages,
        "model": "m",
        "max_tokens": 300,
        "temperature": 0.5,
        "top_p": 0.85,
    }
    return ProviderRequest(**(defaults | changes))


Step = ProviderEvent | float | Exception
"""An event to yield, seconds to sleep, or a failure."""


def failed(*, retryable: bool = True, retry_after_ms: int | None = None) -> AttemptError:
    return AttemptError(LlmUnavailableError("it failed"), retryable=retryable, retry_after_ms=retry_after_ms)


END = ProviderEnd(FinishReason.STOP, "m-2024")


class ScriptedProvider:
    """Plays one list of steps for each attempt."""

    model = "m"
    server: tuple[str, int] | None = None

    def __init__(self, *attempts: Sequence[Step], name: str = "scripted", closes_badly: bool = False) -> None:
        self.name = name
        self._closes_badly = closes_badly
        self._attempts = list(attempts)
        self.asked: list[ProviderRequest] = []
        self.closed = 0
        """Attempts whose generator was ended, in whichever way."""

    async def generate(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        self.asked.append(request)
        try:
            for step in self._attempts.pop(0):
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.closed += 1
            if self._closes_badly:
                raise failed()

    async def probe(self) -> None:
        """Fine."""

    async def close(self) -> None:
        """Nothing."""


class RecordingObserver:
    """Keeps what it saw of every attempt."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        """Provider and number of each attempt."""
        self.wants_text = True
        self.watched: list[tuple[str, str]] = []
        """Method and address of each HTTP request."""
        self.events: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.timings: list[Timing] = []
        self.ends: list[tuple[Finished | None, BaseException | None]] = []

    def attempt(self, provider: Provider, request: ProviderRequest, number: int) -> "RecordingObserver":
        self.begun.append((provider.name, number))
        return self

    def first_text(self, timing: Timing) -> None:
        self.timings.append(timing)

    def http(self, method: str, url: str) -> HttpObserver:
        self.watched.append((method, url))
        return UNWATCHED

    def event(self, name: str, provider: str, error_type: str = "") -> None:
        self.events.append((name, provider, error_type))

    def end(self, finished: Finished | None, error: BaseException | None, text: str = "") -> None:
        self.ends.append((finished, error))
        self.texts.append(text)


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until `condition` holds; virtual time stands still."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


def pieces(*texts: str) -> list[Step]:
    return [Connected(), *(TextPiece(text) for text in texts)]


USAGE = Usage(input_tokens=7, output_tokens=3, cached_input_tokens=2)


class Line:
    """A generation, its providers, its observer, and what the caller read.

    `attempts` are those of one provider; `then` are providers behind it.
    """

    def __init__(
        self,
        *attempts: list[Step],
        timeout_s: float = 30.0,
        retries: int = 2,
        then: Sequence[ScriptedProvider] = (),
        policy: RetryPolicy | None = None,
        draw: Callable[[], float] = lambda: 1.0,
        **spec: Any,
    ) -> None:
        self.provider = ScriptedProvider(*attempts)
        self.providers = [self.provider, *then]
        clock = LoopClock()
        # Waiting for long is what the tests of timeouts do.
        usual = {"first_token_timeout_s": 100.0, "idle_timeout_s": 100.0, "total_timeout_s": 100.0}
        self.listed = [
            ListedProvider(each, ProviderSpec(each.name, max_retries=retries, **(usual | spec)), clock)
            for each in self.providers
        ]
        self.observer = RecordingObserver()
        self.buffer = ReplyBuffer()
        self.figures = Figures()
        self.read: list[GenerationEvent] = []
        self.policy = policy or RetryPolicy(continues=False)
        self.hedges = RetryBudget(self.policy.hedge_percent)
        self.generation = self.again(timeout_s, draw)

    def again(
        self,
        timeout_s: float = 30.0,
        draw: Callable[[], float] = lambda: 1.0,
        *,
        asked_before: bool = False,
    ) -> Generation:
        """Return a further generation of the same providers."""
        return Generation(
            candidates_for("", self.listed),
            request(),
            self.buffer,
            clock=LoopClock(),
            policy=self.policy,
            hedges=self.hedges,
            figures=self.figures,
            timeout_s=timeout_s,
            observer=self.observer,
            draw=draw,
            asked_before=asked_before,
        )

    async def reading(self) -> None:
        async for event in self.buffer:
            self.read.append(event)

    async def play(self, then: Callable[[], Any] | None = None, after_s: float = 0.0) -> "Line":
        """Run to the end; call `then` on the way."""
        running = asyncio.ensure_future(self.generation.run())
        reading = asyncio.ensure_future(self.reading())
        try:
            if then is not None:
                await asyncio.sleep(after_s)
                then()
            await reading
        finally:
            await asyncio.wait({running, reading})
        return self

    @property
    def finished(self) -> Finished:
        (finished,) = [event for event in self.read if isinstance(event, Finished)]
        assert self.read[-1] is finished
        return finished

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.read if isinstance(event, Delta))


def another(*attempts: list[Step]) -> ScriptedProvider:
    """Return a provider to fall back to, which says `Hi` unless it is told something else."""
    return ScriptedProvider(*(attempts or ([*pieces("Hi"), END],)), name="second")


def notices(line: Line) -> list[type]:
    """Return what the caller was told about providers, by kind."""
    return [
        type(event) for event in line.read if isinstance(event, (RetryNotice, FallbackNotice, ResumedNotice))
    ]


def listed(name: str, model: str, *models: str) -> ListedProvider:
    """List a provider with a model of its own and others."""
    provider = ScriptedProvider(name=name)
    provider.model = model
    return ListedProvider(provider, ProviderSpec(name, models), ManualClock())


def replace_buffer(line: Line) -> Line:
    """Prepare a further generation of the same providers."""
    line.buffer, line.read = ReplyBuffer(), []
    line.generation = line.again()
    return line
