"""One generation: from the caller's `start` to `finished`, over as many attempts as it takes.

                     ┌── cancel() ── provider closed ──────────────┐
start ── attempt ──> connected ── text … ── end ──> finished        └─> finished (CANCELLED)
            │  ▲         │           └── broken: LlmStreamBrokenError, never asked again
            └──┴─────────┘ failed before the first text: notice, wait, ask again
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from services.llm.core.buffer import ReplyBuffer
from services.llm.core.model import (
    AttemptError,
    Connected,
    Delta,
    Finished,
    FinishReason,
    Observer,
    Provider,
    ProviderEnd,
    ProviderRequest,
    RetryNotice,
    TextPiece,
    Timing,
    Usage,
)
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import (
    DeadlineError,
    LlmRateLimitedError,
    LlmStreamBrokenError,
    LlmUnavailableError,
    MeshError,
)

DEFAULT_RETRY_AFTER_MS = 1000
"""What a caller is told where the provider did not say when to come back."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after which wait, a provider is asked again before its first text.

    The n-th wait is drawn evenly from the upper half of `first_wait_s` · 2ⁿ, at most `longest_wait_s`;
    or it is what the provider asked for. A wait that ends behind the deadline is not begun.
    """

    max_retries: int
    first_wait_s: float = 0.2
    longest_wait_s: float = 4.0

    def wait_s(self, retry: int, retry_after_ms: int | None, draw: float) -> float:
        """Return seconds to wait before the retry numbered `retry` from 0; `draw` is 0 to 1."""
        if retry_after_ms is not None:
            return retry_after_ms / 1000
        wait_s: float = min(self.first_wait_s * 2**retry, self.longest_wait_s)
        return wait_s * (0.5 + draw / 2)


class Generation:
    """One reply in the making. `run` in a task makes it and speaks into `events`."""

    def __init__(
        self,
        provider: Provider,
        request: ProviderRequest,
        events: ReplyBuffer,
        *,
        clock: Clock,
        retries: RetryPolicy,
        timeout_s: float,
        observer: Observer,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._events = events
        self._provider = provider
        self._request = request
        self._clock = clock
        self._retries = retries
        self._timeout_s = timeout_s
        self._observer = observer
        self._draw = draw
        self._started_ns = clock.now_ns()
        self._usage: Usage | None = None
        self._end: ProviderEnd | None = None
        self._first_text_seen = False
        self._asking: asyncio.Task[None] | None = None
        self._cancelled = False
        self._failure: MeshError | None = None

    def cancel(self) -> None:
        """End the reply: the provider is closed, what was not read is dropped, `Finished` follows."""
        if not self._events.closed:
            self._cancelled = True
            self._events.drop()
            self._stop_asking()

    def fail(self, error: MeshError) -> None:
        """End the reply with `error`: the provider is closed and what was not read is dropped."""
        if not self._events.closed:
            self._failure = error
            self._events.abort(error)
            self._stop_asking()

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def run(self) -> None:
        """Make the reply. Cancelling this closes the provider's stream and ends without a word."""
        finished: Finished | None = None
        error: BaseException | None = None
        headers = self._observer.begin(self._provider, self._request)
        self._request = replace(self._request, headers=headers)
        try:
            finished = await self._make()
        except Exception as caught:  # noqa: BLE001 - the caller's iteration raises it, the error table ends the call
            error = caught
        finally:
            self._observer.end(finished, error)
            if finished is not None:
                self._events.finish(finished)
            self._events.close(error)

    async def _make(self) -> Finished:
        self._asking = asking = asyncio.ensure_future(self._ask_in_time())
        if self._cancelled or self._failure:
            asking.cancel()
        try:
            # Not awaited directly: that could not tell the caller's cancel from the end of the call.
            await asyncio.wait({asking})
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait({asking})
        failure = None if asking.cancelled() else asking.exception()
        if self._failure is not None:
            raise self._failure
        if self._cancelled:
            return self._finished(FinishReason.CANCELLED)
        if failure is not None:
            raise failure
        assert self._end is not None
        return self._finished(self._end.reason)

    def _finished(self, reason: FinishReason) -> Finished:
        return Finished(
            reason=reason,
            provider=self._provider.name,
            model=self._end.model if self._end else self._request.model,
            total_ns=self._clock.now_ns() - self._started_ns,
            usage=self._usage,
            response_id=self._end.response_id if self._end else "",
        )

    async def _ask_in_time(self) -> None:
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._ask_until_answered(deadline_s)
        except TimeoutError:
            raise DeadlineError(
                f"the model {self._request.model!r} did not finish its reply within {self._timeout_s:.3g} s"
            ) from None

    async def _ask_until_answered(self, deadline_s: float) -> None:
        retry = 0
        while True:
            try:
                await self._ask_once()
                return
            except AttemptError as failure:
                wait_s = self._wait_before_retry(failure, retry, deadline_s)
                notice = (
                    f"{failure.error.message}; asked again after {wait_s:.2g} s "
                    f"(retry {retry + 1} of {self._retries.max_retries})"
                )
            await self._events.put(RetryNotice(notice))
            await asyncio.sleep(wait_s)
            retry += 1

    def _wait_before_retry(self, failure: AttemptError, retry: int, deadline_s: float) -> float:
        """Return the wait in seconds, or raise what the caller sees."""
        if self._first_text_seen:
            raise LlmStreamBrokenError(
                f"the reply broke off in the middle: {failure.error.message}"
            ) from failure
        wait_s = self._retries.wait_s(retry, failure.retry_after_ms, self._draw())
        fits = asyncio.get_running_loop().time() + wait_s < deadline_s
        if failure.retryable and retry < self._retries.max_retries and fits:
            return wait_s
        error = failure.error
        if isinstance(error, (LlmUnavailableError, LlmRateLimitedError)) and error.retry_after_ms is None:
            error.retry_after_ms = (
                DEFAULT_RETRY_AFTER_MS if failure.retry_after_ms is None else failure.retry_after_ms
            )
        raise error from failure

    async def _ask_once(self) -> None:
        self._end = None
        connected_ns = self._clock.now_ns()
        async with aclosing(self._provider.generate(self._request)) as events:
            async for event in events:
                if isinstance(event, Connected):
                    connected_ns = self._clock.now_ns()
                elif isinstance(event, Usage):
                    self._usage = event
                elif isinstance(event, ProviderEnd):
                    self._end = event
                else:
                    await self._say(event, connected_ns)
        if self._end is None:
            raise AttemptError(
                LlmUnavailableError("the model's provider ended its answer without saying why"),
                retryable=True,
            )

    async def _say(self, piece: TextPiece, connected_ns: int) -> None:
        timing = None
        if not self._first_text_seen:
            self._first_text_seen = True
            timing = Timing(
                connect_ns=connected_ns - self._started_ns, ttft_ns=self._clock.now_ns() - connected_ns
            )
            self._observer.first_text(timing)
        await self._events.put(Delta(piece.text, timing))
