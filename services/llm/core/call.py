"""One call of Generate: the order of its messages, and what the service fills in."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.llm.core.buffer import ReplyBuffer
from services.llm.core.candidates import ListedProvider, candidates_for
from services.llm.core.continuation import continuing
from services.llm.core.figures import Figures
from services.llm.core.generation import Generation
from services.llm.core.model import GenerationRequest, Observer, ProviderRequest
from services.llm.core.retries import RetryPolicy
from services.llm.core.validation import Limits, check
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import InvalidFieldError, MeshError, OutOfOrderError
from voicemesh.runtime.retry_budget import RetryBudget

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


@dataclass(frozen=True)
class Cancel:
    """The caller wants no more of the reply."""


@dataclass(frozen=True)
class Patience:
    """Text may wait so long for more; 0: it is told at once."""

    join_ms: int


@dataclass(frozen=True)
class Unknown:
    """A message without an event, or with one that this version does not know."""


Incoming = GenerationRequest | Patience | Cancel | Unknown

MAX_JOIN_MS: Final = 1000


@dataclass(frozen=True)
class Defaults:
    """What a request takes where it says nothing."""

    max_tokens: int
    temperature: float
    top_p: float


@dataclass(frozen=True)
class Ready:
    """What the service would answer with; `revision` changes with all that changes replies."""

    provider: str
    model: str
    revision: str
    max_tokens: int = 0
    """Longest reply where a request sets none; 0: not known."""
    context_tokens: int = 0
    """What prompt and reply may have together at any provider; 0: not known."""


class LlmCore:
    """Makes generations of the providers of a list.

    `reply_source` is what else decides about replies: the providers' addresses, or the version of texts.

    Attributes:
        figures: What was done about the providers.

    """

    def __init__(
        self,
        providers: Sequence[ListedProvider],
        defaults: Defaults,
        *,
        limits: Limits,
        policy: RetryPolicy,
        total_timeout_s: float,
        clock: Clock,
        reply_source: str = "",
        context_tokens: int = 0,
    ) -> None:
        self.figures = Figures()
        self._providers = tuple(providers)
        self._defaults = defaults
        self._limits = limits
        self._policy = policy
        self._hedges = RetryBudget(policy.hedge_percent)
        self._total_timeout_s = total_timeout_s
        self._clock = clock
        first = self._providers[0]
        known = [
            first.name,
            first.provider.model,
            reply_source,
            defaults.max_tokens,
            defaults.temperature,
            defaults.top_p,
        ]
        revision = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:12]
        self.ready = Ready(first.name, first.provider.model, revision, defaults.max_tokens, context_tokens)

    def generation(
        self,
        request: GenerationRequest,
        events: ReplyBuffer,
        observer: Observer,
        time_remaining_s: float | None,
    ) -> Generation:
        """Check `request`, fill in what it leaves open, and return its generation, not yet running.

        The generation speaks into `events` and ends them.

        Raises:
            InvalidFieldError: A field is missing, malformed or over its limit.
            UnknownModelError: No provider may be asked for the model.
            LlmStreamBrokenError: The reply is to go on behind what was said, and nobody may be asked to.

        """
        check(request, self._limits)
        candidates = candidates_for(request.model, self._providers)
        if request.said:
            candidates = continuing(candidates, self._policy)
        asked = request.parameters
        timeout_s = self._total_timeout_s
        if time_remaining_s is not None:
            timeout_s = min(timeout_s, time_remaining_s)
        return Generation(
            candidates,
            ProviderRequest(
                messages=request.messages,
                model=candidates[0].model,
                max_tokens=self._defaults.max_tokens if asked.max_tokens is None else asked.max_tokens,
                temperature=self._defaults.temperature if asked.temperature is None else asked.temperature,
                top_p=self._defaults.top_p if asked.top_p is None else asked.top_p,
                stop=asked.stop,
                seed=asked.seed,
                session_id=request.session_id,
                tenant=request.tenant,
            ),
            events,
            clock=self._clock,
            policy=self._policy,
            hedges=self._hedges,
            figures=self.figures,
            timeout_s=timeout_s,
            observer=observer,
            said=request.said,
            asked_before=request.attempt > 0,
        )


class Call:
    """The caller's side of one call: `events` is what it gets, `turn_id` what it called its turn.

    `failed` is true once it ended by what the caller did wrong.

    Args:
        core: Makes the generation.
        observer: Watches it.
        spawn: Runs it, in the session of the call.
        time_remaining_s: Returns seconds until the call's own deadline, None where it has none.

    """

    def __init__(
        self,
        core: LlmCore,
        observer: Observer,
        spawn: Spawn,
        time_remaining_s: Callable[[], float | None],
    ) -> None:
        self.events = ReplyBuffer()
        self.turn_id = ""
        self.failed = False
        self._core = core
        self._observer = observer
        self._spawn = spawn
        self._time_remaining_s = time_remaining_s
        self._generation: Generation | None = None
        self._running: asyncio.Task[None] | None = None
        self._cancelled = False

    def take(self, message: Incoming) -> None:
        """Take what the caller says.

        A message out of order ends the call with `OutOfOrderError`, a wrong one with
        `InvalidFieldError`, and the provider's stream is closed.
        """
        try:
            self._take(message)
        except MeshError as error:
            self.fail(error)

    def fail(self, error: MeshError) -> None:
        """End the call with `error`, and close the provider's stream."""
        self.failed = True
        if self._generation is None:
            self.events.abort(error)
        else:
            self._generation.fail(error)

    def no_more(self) -> None:
        """The caller says no more. One that never said `start` asked for nothing and gets nothing."""
        if self._generation is None:
            self.events.close()

    def _take(self, message: Incoming) -> None:
        if isinstance(message, GenerationRequest):
            if self._generation is not None:
                raise OutOfOrderError("a second `start`: a call is one generation", field="start")
            self.turn_id = message.turn_id
            self._generation = self._core.generation(
                message, self.events, self._observer, self._time_remaining_s()
            )
            self._running = self._spawn(self._generation.run(), "generation")
        elif isinstance(message, Cancel):
            if self._generation is None:
                raise OutOfOrderError("`cancel` before `start`", field="cancel")
            if self._cancelled:
                raise OutOfOrderError("a second `cancel`", field="cancel")
            self._cancelled = True
            self._generation.cancel()
        elif isinstance(message, Patience):
            if self._generation is None:
                raise OutOfOrderError("`patience` before `start`", field="patience")
            if message.join_ms > MAX_JOIN_MS:
                raise InvalidFieldError(
                    "patience.join_ms", f"must be at most {MAX_JOIN_MS}, not {message.join_ms}"
                )
            self.events.join(message.join_ms / 1000)
        else:
            raise OutOfOrderError("a message without `start`, `patience` or `cancel`", field="event")

    def when_over(self, then: Callable[[], None]) -> None:
        """Call `then` once the provider's stream is closed; at once where there is none."""
        if self._running is None or self._running.done():
            then()
        else:
            self._running.add_done_callback(lambda _: then())
