"""Whom a reply is asked of, and whom next where that failed. Decides at once, and waits for nothing.

    first ──> A ── failed before its first text ──> A again, after a wait that the turn can afford
              │                                      └ no retry, budget or time for it: B, at once
              └── broke off behind its first text ──> A or B, with what was said (`continuation`)

Nobody is asked twice for nothing: each question but the first to a provider is paid from its budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.llm.core.candidates import Candidate
from services.llm.core.model import AttemptError, FallbackNotice, Notice, RetryNotice
from services.llm.core.retries import RetryPolicy
from voicemesh.runtime.errors import (
    DeadlineError,
    LlmKeyRefusedError,
    LlmRateLimitedError,
    LlmStreamBrokenError,
    LlmUnavailableError,
    MeshError,
    UnknownModelError,
)

DEFAULT_RETRY_AFTER_MS: Final = 1000
"""What a caller is told where the provider did not say when to come back."""
_OF_THE_PROVIDER: Final = (LlmUnavailableError, LlmRateLimitedError, LlmKeyRefusedError, DeadlineError)
"""Failures that say nothing of the request: another provider may do better."""
_CONTINUATIONS: Final = 3
"""How often one reply is gone on with."""
_SPREAD: Final = 0.1
"""Turns that wait for the same provider come back spread over so much more of the wait."""


@dataclass(frozen=True)
class Step:
    """The next question, after `wait_s`; `notices` are told before that."""

    candidate: Candidate
    wait_s: float = 0.0
    notices: tuple[Notice, ...] = ()


class Route:
    """The questions of one reply.

    Args:
        candidates: Whom it can be asked of, in order.
        policy: When to ask again.
        now_s: The time, in seconds.
        deadline_s: When the reply must be complete, on the same clock.
        draw: Gives numbers from 0 to 1.
        asked_before: Whether the call was made before, in vain.

    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        policy: RetryPolicy,
        now_s: Callable[[], float],
        deadline_s: float,
        draw: Callable[[], float],
        *,
        asked_before: bool = False,
    ) -> None:
        self._candidates = candidates
        self._asked_before = asked_before
        self._policy = policy
        self._now_s = now_s
        self._deadline_s = deadline_s
        self._draw = draw
        self._at = 0
        self._retries = 0
        self._continued = 0
        self._again_asked = False
        self._errors: dict[str, str] = {}
        """What each provider failed with last, by its name."""

    def first(self) -> Step:
        """Return the first question.

        Raises:
            MeshError: Every provider is left alone for now.

        """
        usable = [
            (position, candidate)
            for position, candidate in enumerate(self._candidates)
            if candidate.listed.allows
        ]
        if not usable:
            return self._first_held()
        reached = (each for each in usable if not each[1].listed.unreachable)
        # One that nobody reached yet is still asked where there is no other: it may be there by now.
        self._at, candidate = next(reached, usable[0])
        self._asks(candidate)
        passed = self._candidates[: self._at]
        told = "; ".join(other.listed.why_passed for other in passed)
        return Step(candidate, notices=(self._fallback(told),) if passed else ())

    def _first_held(self) -> Step:
        """Wait for the one that can be asked again first; only for one that said when."""
        refusals = [candidate.listed.refusal() for candidate in self._candidates]
        held = [
            (refusal.retry_after_ms or 0, position)
            for position, refusal in enumerate(refusals)
            if self._candidates[position].listed.breaker.allows
        ]
        if held:
            wait_ms, position = min(held)
            wait_s = wait_ms / 1000 * (1 + _SPREAD * self._draw())
            if self._now_s() + wait_s < self._deadline_s:
                self._at = position
                candidate = self._candidates[position]
                self._asks(candidate)
                return Step(candidate, wait_s, (RetryNotice(f"{refusals[position].message}: waited for"),))
        soonest = min(refusals, key=lambda refusal: refusal.retry_after_ms or 0)
        if len(refusals) == 1:
            raise soonest
        told = "; ".join(refusal.message for refusal in refusals)
        raise type(soonest)(f"no provider can be asked now: {told}", retry_after_ms=soonest.retry_after_ms)

    def after_wait(self, step: Step, *, said: bool) -> Step:
        """Return `step` once its wait is over; another where its provider is to be left alone by now.

        Other turns asked it in the meantime: it failed them, or told them to wait.

        Raises:
            MeshError: Nobody can be asked in time.

        """
        listed = step.candidate.listed
        if listed.allows:
            return step
        refusal = listed.refusal()
        other = next(
            (each for each in self._behind() if each.listed.allows and self._can_continue(each, said=said)),
            None,
        )
        wait_s = (refusal.retry_after_ms or 0) / 1000 * (1 + _SPREAD * self._draw())
        too_long = other is not None and wait_s > self._policy.patience_s
        if listed.breaker.allows and not too_long and self._now_s() + wait_s < self._deadline_s:
            return Step(
                step.candidate, wait_s, () if said else (RetryNotice(f"{refusal.message}: waited for"),)
            )
        if other is None:
            raise self._given_up(AttemptError(refusal, retryable=True), said=said)
        self.went_to(other)
        self._asks(other)
        return Step(other, notices=(self._fallback(refusal.message),))

    def next_for_hedge(self) -> Candidate | None:
        """Return whom a late first text is asked of as well; None where there is nobody."""
        return next((candidate for candidate in self._behind() if candidate.listed.allows), None)

    def went_to(self, candidate: Candidate) -> None:
        """Note that another candidate than the last one asked goes on."""
        if candidate is not self._candidates[self._at]:
            self._at = self._candidates.index(candidate)
            self._retries = 0

    def after(self, failure: AttemptError, candidate: Candidate, *, said: bool) -> Step:
        """Return the question behind a failure.

        Args:
            failure: Why the last one failed.
            candidate: Who failed.
            said: Whether text of the reply was told.

        Raises:
            MeshError: Nobody can be asked any more; this is what the caller sees.

        """
        self.went_to(candidate)
        self._errors[candidate.listed.name] = failure.error.message
        if said:
            self._continued += 1
        can_go_on = not said or (self._policy.continues and self._continued <= _CONTINUATIONS)
        other = self._other(failure, candidate, said=said) if can_go_on else None
        step = self._again(failure, candidate, other, said=said) if can_go_on else None
        if step is None and other is not None:
            self.went_to(other)
            self._asks(other)
            step = Step(other, notices=(self._fallback(f"{candidate.listed.name}: {failure.error.message}"),))
        if step is None:
            raise self._given_up(failure, said=said) from failure
        self._again_asked = True
        return step

    def _asks(self, candidate: Candidate) -> None:
        """Note a first question to a provider; that of a call that was made before pays for no retry."""
        if not self._asked_before:
            candidate.listed.budget.earn()

    def _behind(self) -> Sequence[Candidate]:
        return self._candidates[self._at + 1 :]

    def _other(self, failure: AttemptError, candidate: Candidate, *, said: bool) -> Candidate | None:
        unknown = isinstance(failure.error, UnknownModelError)
        if not unknown and not isinstance(failure.error, _OF_THE_PROVIDER):
            return None
        for other in self._behind():
            # A model that the caller named and nobody has is the caller's mistake: no other answers for it.
            fits = other.named or not (unknown and candidate.named)
            if fits and other.listed.allows and self._can_continue(other, said=said):
                return other
        return None

    def _again(
        self, failure: AttemptError, candidate: Candidate, other: Candidate | None, *, said: bool
    ) -> Step | None:
        listed = candidate.listed
        if not failure.retryable or self._retries >= listed.spec.max_retries or not listed.breaker.allows:
            return None
        if not self._can_continue(candidate, said=said) or (failure.stalled and other is not None):
            return None
        wait_s = self._policy.wait_s(self._retries, failure.retry_after_ms, self._draw())
        if said and failure.retry_after_ms is None and self._continued == 1:
            wait_s = 0.0  # somebody listens
        too_long = other is not None and wait_s > self._policy.patience_s
        if too_long or self._now_s() + wait_s >= self._deadline_s or not listed.budget.spend():
            return None
        self._retries += 1
        if said:
            return Step(candidate, wait_s)
        detail = (
            f"{failure.error.message}; asked again after {wait_s:.2g} s "
            f"(retry {self._retries} of {listed.spec.max_retries})"
        )
        return Step(candidate, wait_s, (RetryNotice(detail),))

    @staticmethod
    def _can_continue(candidate: Candidate, *, said: bool) -> bool:
        return not said or candidate.listed.spec.continues_by != "never"

    def _fallback(self, why: str) -> FallbackNotice:
        candidate = self._candidates[self._at]
        return FallbackNotice(f"{why}; asked {candidate.listed.name} for {candidate.model!r} instead")

    def _given_up(self, failure: AttemptError, *, said: bool) -> MeshError:
        """Return what the caller sees; marked where more than one question was asked."""
        error = self._last_word(failure, said=said)
        if self._again_asked:
            error.retried_by = "llm"
        return error

    def _last_word(self, failure: AttemptError, *, said: bool) -> MeshError:
        error = failure.error
        if said:
            return LlmStreamBrokenError(f"the reply broke off in the middle: {error.message}")
        if isinstance(error, (LlmUnavailableError, LlmRateLimitedError)) and error.retry_after_ms is None:
            error.retry_after_ms = (
                DEFAULT_RETRY_AFTER_MS if failure.retry_after_ms is None else failure.retry_after_ms
            )
        if len(self._errors) == 1:
            return error
        retry_after_ms = error.retry_after_ms
        if retry_after_ms is not None:
            # Whoever may be asked first decides, not who failed last.
            soonest_ms = min(candidate.listed.wait_ms for candidate in self._candidates)
            retry_after_ms = soonest_ms or DEFAULT_RETRY_AFTER_MS
        by_message: dict[str, list[str]] = {}
        for name, message in self._errors.items():
            by_message.setdefault(message, []).append(name)
        told = "; ".join(f"{', '.join(names)}: {message}" for message, names in by_message.items())
        return type(error)(f"no provider answered: {told}", retry_after_ms=retry_after_ms)
