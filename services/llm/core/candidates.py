"""The providers of the list, what is known of each, and whom a question goes to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from services.llm.core.model import Provider
from voicemesh.runtime.breaker import Breaker, BreakerSpec
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import (
    DeadlineError,
    LlmKeyRefusedError,
    LlmRateLimitedError,
    LlmUnavailableError,
    MeshError,
    UnknownModelError,
)
from voicemesh.runtime.lateness import Lateness
from voicemesh.runtime.retry_budget import RetryBudget

ANY_MODEL: Final = "*"
_LONGEST_HOLD_MS: Final = 60_000
"""What asks to be left alone for longer is looked at again after this."""


@dataclass(frozen=True)
class ProviderSpec:
    """How a provider is used; see `ProviderDeclaration` for each field."""

    name: str
    models: tuple[str, ...] = (ANY_MODEL,)
    max_retries: int = 2
    retry_percent: float = 10.0
    first_token_timeout_s: float = 10.0
    idle_timeout_s: float = 5.0
    total_timeout_s: float = 30.0
    continues_by: Literal["ask", "prefill", "prefix", "assistant", "never"] = "ask"
    reasoning: Literal["strip", "begins_inside", "keep"] = "strip"
    breaker: BreakerSpec = field(default_factory=BreakerSpec)


class ListedProvider:
    """A provider of the list, and what all turns of the process know of it.

    Attributes:
        budget: How often it may be asked again; shared by all turns.
        first_texts: How long it takes to its first text.
        unreachable: Why it could not be reached when it was looked for at the start of the process; "" once
            it was. A question goes to another first, if there is one.

    """

    def __init__(self, provider: Provider, spec: ProviderSpec, clock: Clock) -> None:
        self.provider = provider
        self.spec = spec
        self.breaker = Breaker(spec.breaker, clock)
        self.budget = RetryBudget(spec.retry_percent)
        self.first_texts = Lateness()
        self.unreachable = ""
        self._clock = clock
        self._held_until_ns = 0
        self._last_error: MeshError | None = None
        self._asked_ns = clock.now_ns()

    @property
    def name(self) -> str:
        """What it is called."""
        return self.spec.name

    @property
    def allows(self) -> bool:
        """Whether it may be asked now: its breaker is not open, and no other turn was told to wait."""
        return self.breaker.allows and self._clock.now_ns() >= self._held_until_ns

    @property
    def idle_ns(self) -> int:
        """Nanoseconds since it was last asked."""
        return self._clock.now_ns() - self._asked_ns

    def takes(self, model: str) -> bool:
        """Say whether callers may name `model` to it."""
        return model == self.provider.model or model in self.spec.models or ANY_MODEL in self.spec.models

    def asked(self) -> None:
        """Note that it is asked."""
        self._asked_ns = self._clock.now_ns()

    def succeeded(self) -> None:
        """Note that it answered."""
        self.unreachable = ""
        self.breaker.succeeded()

    def failed(self, error: MeshError, *, retryable: bool, retry_after_ms: int | None) -> None:
        """Note why an attempt failed. What is wrong with a request says nothing of its provider."""
        if retry_after_ms is not None:
            hold_ms = min(retry_after_ms, _LONGEST_HOLD_MS)
            until_ns = self._clock.now_ns() + hold_ms * 1_000_000
            # Answers to questions that were asked at the same time come in any order: the longest counts.
            self._held_until_ns = max(self._held_until_ns, until_ns)
        limited = isinstance(error, LlmRateLimitedError)  # it is well, and said when to come back
        if not limited and (retryable or isinstance(error, (LlmKeyRefusedError, DeadlineError))):
            self._last_error = error
            self.breaker.failed()
        else:
            self.breaker.release()

    @property
    def wait_ms(self) -> int:
        """Milliseconds until it may be asked; 0 where it may be now, or nobody knows better."""
        held_ms = max(0, self._held_until_ns - self._clock.now_ns()) // 1_000_000
        return max(held_ms, self.breaker.retry_after_ms)

    @property
    def why_passed(self) -> str:
        """What a turn is told that asks another one in its place."""
        if self.allows and self.unreachable:
            return f"{self.name} was not reached yet: {self.unreachable}"
        return self.refusal().message

    def refusal(self) -> MeshError:
        """Return what a turn is told that cannot ask it now."""
        wait_ms = max(self.wait_ms, 1)
        last = self._last_error
        why = f" after it failed: {last.message}" if last is not None and not self.breaker.allows else ""
        error = type(last) if isinstance(last, LlmKeyRefusedError) else LlmUnavailableError
        return error(f"{self.name} is left alone for {wait_ms / 1000:.2g} s{why}", retry_after_ms=wait_ms)


@dataclass(frozen=True)
class Candidate:
    """A provider that may be asked for a reply, and the model that it is asked for."""

    listed: ListedProvider
    model: str
    named: bool
    """The caller named the model."""


def candidates_for(model: str, providers: Sequence[ListedProvider]) -> tuple[Candidate, ...]:
    """Return whom a question goes to, in order.

    Those that may be asked for the model that the caller named come first; behind them the others, with
    their own: another model that answers is better than none. "" names none.

    Raises:
        UnknownModelError: No provider may be asked for it.

    """
    if not model:
        return tuple(Candidate(listed, listed.provider.model, named=False) for listed in providers)
    takers = [listed for listed in providers if listed.takes(model)]
    if not takers:
        known = sorted(
            {name for listed in providers for name in (listed.provider.model, *listed.spec.models)}
        )
        raise UnknownModelError(
            f"no provider may be asked for the model {model!r}; there are {', '.join(known)} "
            "(VOICEMESH_LLM_PROVIDERS)",
            field="start.model",
        )
    return (
        *(Candidate(listed, model, named=True) for listed in takers),
        *(
            Candidate(listed, listed.provider.model, named=False)
            for listed in providers
            if listed not in takers
        ),
    )
