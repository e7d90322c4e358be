"""A provider that needs neither key nor network: scripted text at a set pace, the same every time."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from services.llm.core.model import (
    AttemptError,
    Connected,
    FinishReason,
    ImagePart,
    ProviderEnd,
    ProviderEvent,
    ProviderRequest,
    Role,
    TextPiece,
    Usage,
)
from services.llm.core.rehearsal_text import compose, tokens_of
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import UnknownModelError

MODEL: Final = "rehearsal"
_IMAGE_TOKENS: Final = 85
"""What a picture counts in the usage; a small picture's price at OpenAI."""


class RehearsalProvider:
    """Speaks to the prompt's topic, and says first that it is a rehearsal.

    Token k, counted from 0, is due at `ttft_ms` + k / `tokens_per_s`: a late one does not delay
    those behind it.
    """

    name = "rehearsal"
    model = MODEL
    server: tuple[str, int] | None = None

    def __init__(self, *, ttft_ms: float, tokens_per_s: float, clock: Clock) -> None:
        self._ttft_ns = ttft_ms * 1e6
        self._token_ns = 1e9 / tokens_per_s
        self._clock = clock

    async def generate(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Yield the scripted reply on its schedule. Ends at `max_tokens` and before stop texts.

        A reply that is to be gone on with goes on exactly, wherever it broke off.

        Raises:
            AttemptError: A model other than "rehearsal" was asked for.

        """
        if request.model != MODEL:
            raise AttemptError(
                UnknownModelError(
                    f"there is no model {request.model!r} here: the rehearsal model answers, because neither "
                    "OPENAI_API_KEY nor OPENAI_BASE_URL is set. Set one, or leave the model empty"
                ),
                retryable=False,
            )
        began_ns = self._clock.now_ns()
        yield Connected()
        tokens, reason = _reply(request)
        input_tokens = _input_tokens(request)
        if not tokens:
            await self._wait_until(began_ns + self._ttft_ns)
        for position, token in enumerate(tokens):
            await self._wait_until(began_ns + self._ttft_ns + position * self._token_ns)
            # Before the text, so that a cancelled generation knows what it consumed.
            yield Usage(input_tokens=input_tokens, output_tokens=position + 1)
            yield TextPiece(token)
        yield Usage(input_tokens=input_tokens, output_tokens=len(tokens))
        yield ProviderEnd(reason, MODEL)

    async def _wait_until(self, due_ns: float) -> None:
        wait_ns = due_ns - self._clock.now_ns()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / 1e9)

    async def probe(self) -> None:
        """Return: it can always speak."""

    async def close(self) -> None:
        """Nothing is held."""


def _reply(request: ProviderRequest) -> tuple[list[str], FinishReason]:
    prompts = [message.text for message in request.messages if message.role is Role.USER]
    text = compose(prompts[-1], prompts[:-1])
    for stop in request.stop:
        text = text.partition(stop)[0]
    if request.continues:
        text = text.removeprefix(request.messages[-1].text)
    tokens = tokens_of(text)
    if len(tokens) > request.max_tokens:
        return tokens[: request.max_tokens], FinishReason.LENGTH
    return tokens, FinishReason.STOP


def _input_tokens(request: ProviderRequest) -> int:
    chars = sum(len(message.text) for message in request.messages)
    images = sum(isinstance(part, ImagePart) for message in request.messages for part in message.parts)
    return -(-chars // 4) + _IMAGE_TOKENS * images
