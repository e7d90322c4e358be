"""One generation: from the caller's `start` to `finished`, over as many attempts as it takes.

                     ┌── cancel() ── provider closed ──────────────┐
start ── attempt ──> connected ── text … ── end ──> finished        └─> finished (CANCELLED)
            │  ▲         │           └── broken: asked to go on behind what was told, or LlmStreamBrokenError
            └──┴─────────┘ failed before the first text: notice, wait, ask again or ask the next (`route`)
"""

import asyncio
import random
from collections.abc import Callable, Sequence

from services.llm.core.attempt import Attempt
from services.llm.core.buffer import ReplyBuffer
from services.llm.core.candidates import Candidate
from services.llm.core.continuation import request_for, seam_for
from services.llm.core.figures import Figures
from services.llm.core.hedging import open_first
from services.llm.core.model import (
    AttemptError,
    Billed,
    Delta,
    FallbackNotice,
    Finished,
    FinishReason,
    Observer,
    ProviderRequest,
    ResumedNotice,
    Timing,
)
from services.llm.core.retries import RetryPolicy
from services.llm.core.route import Route
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import DeadlineError, MeshError
from voicemesh.runtime.retry_budget import RetryBudget


class Generation:
    """One reply in the making. `run` in a task makes it and speaks into `events`.

    Args:
        candidates: Whom it may be asked of, in order.
        request: What; the model is each candidate's.
        events: Where it speaks.
        clock: For its times.
        policy: When to ask again.
        hedges: Pays for first texts that are asked for twice.
        figures: Are told what was done.
        timeout_s: How long the whole reply may take.
        observer: Watches each attempt.
        draw: Gives numbers from 0 to 1.
        said: What another process told of the reply before its stream broke off; "" where this begins it.
        asked_before: Whether the call was made before, in vain: it pays for no retries.

    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        request: ProviderRequest,
        events: ReplyBuffer,
        *,
        clock: Clock,
        policy: RetryPolicy,
        hedges: RetryBudget,
        figures: Figures,
        timeout_s: float,
        observer: Observer,
        draw: Callable[[], float] = random.random,
        said: str = "",
        asked_before: bool = False,
    ) -> None:
        self._events = events
        self._candidates = candidates
        self._request = request
        self._clock = clock
        self._policy = policy
        self._hedges = hedges
        self._figures = figures
        self._timeout_s = timeout_s
        self._observer = observer
        self._draw = draw
        self._started_ns = clock.now_ns()
        self._tried: list[Attempt] = []
        self._attempts = 0
        self._answered: Attempt | None = None
        self._said: list[str] = [said] if said else []
        self._resumed = "the stream to the LLM service broke off, and the reply goes on" if said else ""
        self._asked_before = asked_before
        self._asking: asyncio.Task[None] | None = None
        self._limit: asyncio.Timeout | None = None
        self._stopped = False
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
        # Once: a second cancel would end the closing of the provider's streams, which awaits.
        if self._asking is not None and not self._stopped:
            self._stopped = True
            self._asking.cancel()

    async def run(self) -> None:
        """Make the reply. Cancelling this closes the provider's stream and ends without a word."""
        error: BaseException | None = None
        try:
            self._events.finish(await self._make())
        except Exception as caught:  # noqa: BLE001 - the caller's iteration raises it, the error table ends the call
            error = caught
        finally:
            self._events.close(error)

    async def _make(self) -> Finished:
        self._asking = asking = asyncio.ensure_future(self._ask_in_time())
        if self._cancelled or self._failure:
            self._stop_asking()
        try:
            # Not awaited directly: that could not tell the caller's cancel from the end of the call.
            await asyncio.wait({asking})
        finally:
            if not asking.done():
                self._stop_asking()
                await asyncio.wait({asking})
            elif not asking.cancelled():
                asking.exception()  # looked at, also where this task is cancelled in the same step
        failure = None if asking.cancelled() else asking.exception()
        if self._failure is not None:
            raise self._failure
        if self._cancelled:
            return self._finished(FinishReason.CANCELLED)
        if failure is not None:
            raise failure
        assert self._answered is not None
        assert self._answered.ending is not None
        return self._finished(self._answered.ending.reason)

    def _finished(self, reason: FinishReason) -> Finished:
        attempt = self._answered
        candidate = attempt.candidate if attempt else self._candidates[0]
        ending = attempt.ending if attempt else None
        return Finished(
            reason=reason,
            provider=candidate.listed.name,
            model=ending.model if ending else candidate.model,
            total_ns=self._clock.now_ns() - self._started_ns,
            usage=attempt.usage if attempt else None,
            response_id=ending.response_id if ending else "",
            also_billed=tuple(
                Billed(tried.candidate.listed.name, tried.candidate.model, tried.usage)
                for tried in self._tried
                if tried is not attempt and tried.accepted
            ),
        )

    async def _ask_in_time(self) -> None:
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        try:
            async with asyncio.timeout_at(deadline_s) as self._limit:
                await self._ask_until_answered(deadline_s)
        except TimeoutError:
            raise self._too_late() from None

    def _too_late(self) -> DeadlineError:
        model = self._candidates[0].model
        return DeadlineError(f"the model {model!r} did not finish its reply within {self._timeout_s:.3g} s")

    def _ended_by(self) -> MeshError | None:
        """Return what ends an attempt from outside, for its trace."""
        if self._failure is None and self._limit is not None and self._limit.expired():
            return self._too_late()
        return self._failure

    async def _ask_until_answered(self, deadline_s: float) -> None:
        loop = asyncio.get_running_loop()
        route = Route(
            self._candidates,
            self._policy,
            loop.time,
            deadline_s,
            self._draw,
            asked_before=self._asked_before,
        )
        step, why = route.first(), ""
        while True:
            for notice in step.notices:
                self._figures.fallbacks += isinstance(notice, FallbackNotice)
                name = names.FAILED_OVER if isinstance(notice, FallbackNotice) else names.RETRIED
                self._observer.event(name, step.candidate.listed.name, why)
                await self._events.put(notice)
            if step.wait_s:
                await asyncio.sleep(step.wait_s)
                waited, step = step, route.after_wait(step, said=bool(self._said))
                if step is not waited:
                    continue
            attempt = self._attempt(step.candidate)
            try:
                attempt = await self._opened(attempt, route)
                self._answered = attempt
                await self._hear(attempt)
                return
            except AttemptError as failure:
                said, why = "".join(self._said), failure.error.reason
                step = route.after(failure, attempt.candidate, said=bool(said))
                if step.candidate is attempt.candidate:
                    self._figures.retried[attempt.candidate.listed.name, why] += 1
                    if said:  # nobody is told, and it is asked again all the same
                        self._observer.event(names.RETRIED, step.candidate.listed.name, why)
                if said:
                    self._resumed = f"the reply broke off and goes on: {failure.error.message}"
            except Exception as fault:
                await attempt.close(fault)
                raise
            finally:
                await attempt.close(self._ended_by())

    def _attempt(self, candidate: Candidate) -> Attempt:
        """Begin to ask a candidate, behind what was said."""
        said = "".join(self._said)
        seam = seam_for(candidate, said) if said else None
        request = request_for(candidate, self._request, said, seam)
        watch = self._observer.attempt(candidate.listed.provider, request, self._attempts)
        self._attempts += 1
        self._figures.asked += 1
        self._tried.append(Attempt(candidate, request, watch, self._clock, seam))
        return self._tried[-1]

    async def _opened(self, attempt: Attempt, route: Route) -> Attempt:
        """Return the attempt that has the first text, which may be that of another candidate."""
        late_us = attempt.candidate.listed.first_texts.late_us
        if not self._policy.hedge_percent or self._said or not late_us:
            await attempt.open()
            return attempt
        if not self._asked_before:
            self._hedges.earn()
        before = self._attempts
        opened = await open_first(attempt, late_us / 1e6, lambda: self._second(route))
        won = opened is not attempt and opened.failure is None
        if self._attempts > before:
            self._figures.hedges_won += won
            self._figures.hedges_lost += not won
        if opened is not attempt:
            route.went_to(opened.candidate)
            if opened.failure is None:
                self._observer.event(names.FAILED_OVER, opened.candidate.listed.name, names.LATE)
                told = f"{attempt.candidate.listed.name} was late, {opened.candidate.listed.name} was faster"
                await self._events.put(FallbackNotice(told))
        return opened

    def _second(self, route: Route) -> Attempt | None:
        candidate = route.next_for_hedge()
        if candidate is None or not self._hedges.spend():
            return None
        self._figures.hedges += 1
        self._observer.event(names.HEDGED, candidate.listed.name, names.LATE)
        return self._attempt(candidate)

    async def _hear(self, attempt: Attempt) -> None:
        while (text := await attempt.next()) is not None:
            await self._tell_resumed()
            timing = None
            if not self._said:
                timing = Timing(
                    connect_ns=attempt.connected_ns - self._started_ns,
                    ttft_ns=self._clock.now_ns() - attempt.connected_ns,
                )
                attempt.first_text(timing)
            self._said.append(text)
            await self._events.put(Delta(text, timing))
        # Nothing more came: nobody can say whether that was all, so it is no reply like others.
        await self._tell_resumed()

    async def _tell_resumed(self) -> None:
        """Tell once of each time that a reply went on, when it does."""
        if self._resumed:
            self._figures.resumed += 1
            self._observer.event(names.RESUMED, self._tried[-1].candidate.listed.name)
            await self._events.put(ResumedNotice(self._resumed))
            self._resumed = ""
