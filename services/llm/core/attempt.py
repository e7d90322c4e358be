"""One question to one provider, read piece by piece.

asked ──> connected ──> text … ──> end
   └──────────┴───────────┴── AttemptError: it failed, or was silent for too long
"""

import asyncio
import contextlib
from dataclasses import replace
from typing import Final

from services.llm.core.candidates import Candidate
from services.llm.core.model import (
    AttemptError,
    AttemptObserver,
    Connected,
    Finished,
    FinishReason,
    ProviderEnd,
    ProviderEvent,
    ProviderRequest,
    TextPiece,
    Timing,
    Usage,
)
from services.llm.core.reasoning import ReasoningFilter
from services.llm.core.seam import RestartedError, Seam
from services.llm.core.silence import Silence
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import DeadlineError, LlmUnavailableError

_NO_REASON: Final = "the model's provider ended its answer without saying why"


class Attempt:
    """See the module.

    Args:
        candidate: Whom to ask.
        request: What.
        observer: Watches it.
        clock: For its times.
        seam: Where the reply goes on behind what was said; None where nothing was.

    Attributes:
        connected_ns: When the response headers came.
        accepted: Whether they did: from then on it is paid for.
        usage: What it consumed; None until the provider says.
        ending: How it ended; None before.
        failure: Why it failed; None where it did not.

    """

    def __init__(
        self,
        candidate: Candidate,
        request: ProviderRequest,
        observer: AttemptObserver,
        clock: Clock,
        seam: Seam | None = None,
    ) -> None:
        self.candidate = candidate
        self.accepted = False
        self.usage: Usage | None = None
        self.ending: ProviderEnd | None = None
        self.failure: AttemptError | None = None
        self._listed = listed = candidate.listed
        self._clock = clock
        self._observer = observer
        self._seam = seam
        # Behind the beginning of its own text, no template opens a tag.
        goes_on = seam is not None and seam.exact and listed.spec.reasoning == "begins_inside"
        self._filter = ReasoningFilter("strip" if goes_on else listed.spec.reasoning)
        self._asked_ns = self.connected_ns = clock.now_ns()
        loop_s = asyncio.get_running_loop().time()
        self._ends_s = loop_s + listed.spec.total_timeout_s
        self._first_due_s = loop_s + listed.spec.first_token_timeout_s
        self._silence = Silence()
        self._began = False
        self._first = ""
        self._spoke = False
        self._settled = False
        self._said: list[str] = []
        listed.asked()
        listed.breaker.admit()
        self._events = listed.provider.generate(replace(request, watch=observer.http))

    async def open(self) -> None:
        """Read up to the first text, or to the end of a reply without any.

        Raises:
            AttemptError: It failed before that.

        """
        self._first = await self._read() or ""
        if self._first or self._seam is None:
            took_us = (self._clock.now_ns() - self._asked_ns) // 1000
            self._listed.first_texts.took(took_us)

    async def next(self) -> str | None:
        """Return more text, None at the end of the reply. Comes behind `open`.

        Raises:
            AttemptError: It failed.

        """
        if self.failure is not None:
            raise self.failure
        if self._first:
            first, self._first = self._first, ""
            return first
        return await self._read()

    def first_text(self, timing: Timing) -> None:
        """Tell the observer of the first text of the reply."""
        self._observer.first_text(timing)

    async def close(self, error: BaseException | None = None) -> None:
        """Close the provider's stream, if it is not at its end. `error`: why it is closed, for the trace."""
        try:
            # A connection that cannot even be closed well is closed all the same.
            with contextlib.suppress(AttemptError):
                await self._events.aclose()
        finally:
            self._settle(error)

    async def _read(self) -> str | None:
        try:
            while self.ending is None:
                event = await self._event()
                if isinstance(event, TextPiece):
                    text = self._filter.feed(event.text)
                elif isinstance(event, ProviderEnd):
                    self.ending = event
                    text = self._filter.end()
                else:
                    self._note(event)
                    continue
                if self._seam is not None:
                    text = self._joined(self._seam, text)
                if text:
                    if not self._spoke:
                        # Now, and not at its end: where this is the probe, all others wait for it.
                        self._spoke = True
                        self._listed.succeeded()
                    if self._observer.wants_text:
                        self._said.append(text)
                    return text
            self._settle(None)
            return None
        except AttemptError as failure:
            self.failure = failure
            self._settle(failure)
            raise

    def _joined(self, seam: Seam, text: str) -> str:
        try:
            text = seam.feed(text)
            return text + seam.end() if self.ending is not None else text
        except RestartedError:
            restarted = LlmUnavailableError("the model began its reply anew instead of going on with it")
            raise AttemptError(restarted, retryable=False) from None

    async def _event(self) -> ProviderEvent:
        # Counted from when more is asked for: what a slow reader makes it wait is not its silence.
        loop_s = asyncio.get_running_loop().time()
        due_s = loop_s + self._listed.spec.idle_timeout_s if self._began else self._first_due_s
        try:
            event = await self._silence.wait(anext(self._events), min(due_s, self._ends_s))
        except StopAsyncIteration:
            raise AttemptError(LlmUnavailableError(_NO_REASON), retryable=True) from None
        except TimeoutError:
            if not self._silence.rang:
                raise
            raise self._too_late() from None
        if not isinstance(event, Connected):
            self._began = True
        return event

    def _too_late(self) -> AttemptError:
        spec = self._listed.spec
        if asyncio.get_running_loop().time() >= self._ends_s:
            late = DeadlineError(f"{spec.name} did not finish its reply within {spec.total_timeout_s:.3g} s")
            return AttemptError(late, retryable=False)
        silent_s = spec.idle_timeout_s if self._began else spec.first_token_timeout_s
        silent = LlmUnavailableError(f"the model's provider sent nothing for {silent_s:.3g} s")
        return AttemptError(silent, retryable=True, stalled=True)

    def _note(self, event: ProviderEvent) -> None:
        if isinstance(event, Connected):
            self.connected_ns = self._clock.now_ns()
            self.accepted = True
        elif isinstance(event, Usage):
            self.usage = event

    def _settle(self, error: BaseException | None) -> None:
        """Note once what the attempt says of its provider, and end its trace."""
        if self._settled:
            return
        self._settled = True
        self._silence.close()
        listed = self._listed
        if isinstance(error, AttemptError):
            listed.failed(error.error, retryable=error.retryable, retry_after_ms=error.retry_after_ms)
            self._observer.end(None, error.error, "".join(self._said))
            return
        if not self._spoke and self.ending is not None:
            listed.succeeded()
        elif not self._spoke:
            listed.breaker.release()
            took_us = (self._clock.now_ns() - self._asked_ns) // 1000
            if took_us >= listed.first_texts.late_us > 0:
                listed.first_texts.took(took_us)  # nobody waited any longer: it was late in any case
        ending = self.ending or ProviderEnd(FinishReason.CANCELLED, self.candidate.model)
        took_ns = self._clock.now_ns() - self._asked_ns
        finished = Finished(ending.reason, listed.name, ending.model, took_ns, self.usage, ending.response_id)
        self._observer.end(None if error else finished, error, "".join(self._said))
