"""Providers that do as told, in virtual time."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from services.llm.core.model import (
    AttemptError,
    Connected,
    Finished,
    FinishReason,
    Message,
    Provider,
    ProviderEnd,
    ProviderEvent,
    ProviderRequest,
    Role,
    TextPart,
    TextPiece,
    Timing,
    Usage,
)
from voicemesh.runtime.errors import LlmUnavailableError


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

    name = "scripted"
    model = "m"
    server: tuple[str, int] | None = None

    def __init__(self, *attempts: Sequence[Step]) -> None:
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

    async def probe(self) -> None:
        """Fine."""

    async def close(self) -> None:
        """Nothing."""


class RecordingObserver:
    """Keeps what it saw."""

    def __init__(self) -> None:
        self.begun = 0
        self.timings: list[Timing] = []
        self.ends: list[tuple[Finished | None, BaseException | None]] = []

    def begin(self, provider: Provider, request: ProviderRequest) -> Mapping[str, str]:
        self.begun += 1
        return {"traceparent": "here"}

    def first_text(self, timing: Timing) -> None:
        self.timings.append(timing)

    def end(self, finished: Finished | None, error: BaseException | None) -> None:
        self.ends.append((finished, error))


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
