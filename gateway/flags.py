"""Feature flags: asked through OpenFeature once for each turn, before it begins.

    VOICEMESH_FLAGS_FILE      a file that is watched, evaluated here: no wait
    VOICEMESH_FLAGS_PROVIDER  any provider of OpenFeature: at most VOICEMESH_FLAGS_TIMEOUT_MS, then what the
                              session was last given

No flag ever fails a turn. What goes wrong is counted, logged once for each kind, and shown in `state`.
"""

import asyncio
import contextlib
import importlib
import logging
import threading
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.breaker import Breaker
from gateway.settings import GatewaySettings
from voicemesh.flags.definitions import CHECKS, OVERRIDE, check_value
from voicemesh.flags.errors import FlagsError
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)

_HOLD_S: Final = 1.0
_REMEMBERED: Final = 10_000
"""Sessions whose last variants are remembered, for a provider that does not answer."""
_MOST_ASKING: Final = 32
"""Questions to a provider that may be under way; while there are more, none is asked."""
_SHOWN_CHARS: Final = 300
_MOST_COMPLAINTS: Final = 1_000
_MAX_VARIANT_CHARS: Final = 200
_NO_VARIANT: Final = "custom"
"""The variant of a provider that does not name any."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a flag says to one turn.

    Attributes:
        key: The flag.
        variant: The variant's name.
        value: What it stands for; "" to leave things as they are.
        override: True where it also holds against what the caller asked for.
        reason: Why, in OpenFeature's words: "static", "targeting_match", "split", …
        provider: Who said so.

    """

    key: str
    variant: str
    value: str
    override: bool = False
    reason: str = ""
    provider: str = ""


class Watched(Protocol):
    """Where flags come from that are evaluated here."""

    @property
    def problem(self) -> str:
        """What is wrong with it now; "" where nothing is."""

    @property
    def keys(self) -> frozenset[str]:
        """The flags that there are."""

    async def watch(self) -> None:
        """Follow it for ever."""


class Flags:
    """The flags of this process. `close` must be called where there is a provider.

    Args:
        clock: For the breaker.
        timeout_s: Longest wait for a provider that is not watched.
        provider: Who evaluates; None where there are no flags.
        watched: Where its flags come from, if they are here.

    """

    def __init__(
        self, clock: Clock, timeout_s: float, provider: Any = None, watched: Watched | None = None
    ) -> None:
        self._provider = provider
        self._watched = watched
        self._timeout_s = timeout_s
        self.breaker = Breaker(clock, _HOLD_S, "flags", "VOICEMESH_FLAGS_TIMEOUT_MS")
        # By tenant and session: the same id in two tenants is two sessions.
        self._last: OrderedDict[tuple[str, str], tuple[Evaluation, ...]] = OrderedDict()
        self._asking: set[asyncio.Future[Any]] = set()
        self._watcher: asyncio.Task[None] | None = None
        self.problems: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        """The last problem of each flag, in words."""
        self._complained: set[tuple[str, ...]] = set()
        self._client: Any = None
        self._name = ""
        if provider is not None:
            self._register(provider)

    def _register(self, provider: Any) -> None:
        from openfeature import api  # noqa: PLC0415 - who has no flags needs no OpenFeature

        # It logs a traceback for each evaluation that fails: `complain` does, once.
        logging.getLogger("openfeature").setLevel(logging.CRITICAL)
        # Its own domain: a process may have other flags, and tests have several gateways.
        domain = f"voicemesh-{uuid.uuid4().hex}"
        if self._watched is not None:
            api.set_provider_and_wait(provider, domain)
        else:
            api.set_provider(provider, domain)  # on a thread: it may have to ask elsewhere
        self._client = api.get_client(domain)
        self._name = str(provider.get_metadata().name)

    @property
    def state(self) -> dict[str, Any] | None:
        """How the flags are, for the health page; None where there are none."""
        if self._provider is None:
            return None
        return {
            "provider": self._name,
            "problem": self._watched.problem if self._watched is not None else "",
            "problems": dict(self.problems),
            "reasons": dict(self._reasons),
        }

    @property
    def silent(self) -> bool:
        """True where no flag has anything to say: nothing need be asked."""
        return self._client is None or (self._watched is not None and not self._watched.keys)

    def start(self) -> None:
        """Follow the file from now on."""
        if self._watched is not None:
            self._watcher = asyncio.get_running_loop().create_task(self._watched.watch(), name="watch flags")

    async def close(self) -> None:
        """End what is under way, and the provider."""
        tasks = [*self._asking, *([self._watcher] if self._watcher is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._provider is not None and self._watched is None:
            # As it may wait for somebody else, nobody waits for it.
            threading.Thread(target=self._provider.shutdown, name="end flags", daemon=True).start()

    async def evaluate(
        self, keys: Sequence[str], targeting_key: str, attributes: Mapping[str, str]
    ) -> tuple[Evaluation, ...]:
        """Return what the flags `keys` say to a turn; those that say nothing are left out.

        Args:
            keys: The flags that matter to it.
            targeting_key: What stays the same as long as a caller is to be given the same.
            attributes: What rules may look at.

        """
        if self._client is None:
            return ()
        if self._watched is not None:
            # No wait, and no other turn in between. The provider is asked itself: no hooks and no context of
            # others can be here, and OpenFeature's client takes longer for them than the rules do.
            context = _context(targeting_key, attributes)
            given = (self._resolved(key, context) for key in keys if key in self._watched.keys)
            return tuple(evaluation for evaluation in given if evaluation is not None)
        told = await self._ask(targeting_key, attributes)
        return tuple(evaluation for evaluation in told if evaluation.key in keys)

    def complain(self, key: str, variant: str, why: str) -> None:
        """Note that what a flag says cannot be used: counted each time, logged once."""
        self.problems[key] += 1
        self._reasons[key] = (f"{variant}: {why}" if variant else why)[:_SHOWN_CHARS]
        complaint = (key, variant, why)
        if complaint not in self._complained and len(self._complained) < _MOST_COMPLAINTS:
            self._complained.add(complaint)
            _log.warning("flag is not used", flag=key, variant=variant, reason=why)

    # ------------------------------------------------------------ evaluation

    def _resolved(self, key: str, context: Any) -> Evaluation | None:
        """Ask the provider of the file."""
        try:
            details = self._provider.resolve_string_details(key, "", context)
        except Exception as error:  # noqa: BLE001 - a rule's own mistake, which it finds with this session
            self.complain(key, "", str(error) or type(error).__name__)
            return None
        return self._evaluation(key, details)

    def _details(self, key: str, targeting_key: str, attributes: Mapping[str, str]) -> Any:
        return self._client.get_string_details(key, "", _context(targeting_key, attributes))

    def _evaluations(self, found: Sequence[Any]) -> tuple[Evaluation, ...]:
        evaluations = (self._evaluation(details.flag_key, details) for details in found)
        return tuple(evaluation for evaluation in evaluations if evaluation is not None)

    def _evaluation(self, key: str, details: Any) -> Evaluation | None:
        """Check what a provider said."""
        # A name that no message can carry must not end the turn that would tell it.
        variant = str(details.variant or "").encode(errors="replace").decode()
        if details.error_code is not None:
            if details.error_code.value != "FLAG_NOT_FOUND":
                self.complain(key, variant, details.error_message or details.error_code.value)
            return None
        if not variant and not details.value:
            return None  # switched off, or left to the default
        try:
            check_value("the value", key, details.value)
        except FlagsError as error:
            self.complain(key, variant, str(error))
            return None
        return Evaluation(
            key,
            variant[:_MAX_VARIANT_CHARS] or _NO_VARIANT,
            details.value,
            details.flag_metadata.get(OVERRIDE) is True,
            str(details.reason or "unknown").lower(),
            self._name,
        )

    async def _ask(self, targeting_key: str, attributes: Mapping[str, str]) -> tuple[Evaluation, ...]:
        """Ask a provider that may have to ask elsewhere."""
        session = attributes.get("tenant", ""), targeting_key
        if len(self._asking) < _MOST_ASKING and self.breaker.allows():
            asked = asyncio.ensure_future(self._answer(session, attributes))
            self._asking.add(asked)
            asked.add_done_callback(self._asking.discard)
            done, _ = await asyncio.wait({asked}, timeout=self._timeout_s)
            if done:
                self.breaker.succeeded()
                return asked.result()
            why = f"the provider takes more than {self._timeout_s * 1000:g} ms"
            self.breaker.failed(why)
            self.complain("", "", why)
        return self._last.get(session, ())

    async def _answer(
        self, session: tuple[str, str], attributes: Mapping[str, str]
    ) -> tuple[Evaluation, ...]:
        _, targeting_key = session
        try:
            if _waits_by_itself(self._provider):
                context = _context(targeting_key, attributes)
                questions = (self._client.get_string_details_async(key, "", context) for key in CHECKS)
                found = await asyncio.gather(*questions)
            else:
                found = await _on_thread(
                    lambda: [self._details(key, targeting_key, attributes) for key in CHECKS]
                )
            told = self._evaluations(found)
        except Exception as error:  # noqa: BLE001 - whatever a provider raises, the turn goes on
            self.complain("", "", f"{type(error).__name__}: {error}")
            return self._last.get(session, ())
        self._last[session] = told
        self._last.move_to_end(session)
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        return told


def _context(targeting_key: str, attributes: Mapping[str, str]) -> Any:
    from openfeature.evaluation_context import EvaluationContext  # noqa: PLC0415 - as above

    return EvaluationContext(targeting_key, attributes)


def _waits_by_itself(provider: Any) -> bool:
    """Say whether a provider has a way of its own to wait; else it may block."""
    from openfeature.provider import AbstractProvider  # noqa: PLC0415 - as above

    own = getattr(type(provider), "resolve_string_details_async", None)
    return own is not None and own is not AbstractProvider.resolve_string_details_async


async def _on_thread(work: Callable[[], list[Any]]) -> list[Any]:
    """Do what may block on a thread that nobody waits for at the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Any]] = loop.create_future()

    def settle(result: list[Any] | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result or [])

    def run() -> None:
        result: list[Any] | None = None
        failure: BaseException | None = None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - told to who waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="ask flags", daemon=True).start()
    return await future


def open_flags(settings: GatewaySettings, clock: Clock) -> Flags:
    """Return the flags that the settings name; without any, nothing of OpenFeature is loaded.

    Raises:
        SettingsError: What is needed is not installed, or the provider cannot be made.

    """
    timeout_s = settings.flags_timeout_ms / 1000
    if settings.flags_provider:
        return Flags(clock, timeout_s, _made(settings.flags_provider))
    if not settings.flags_file:
        return Flags(clock, timeout_s)
    try:
        from gateway.flags_file import WatchedFile  # noqa: PLC0415 - needs the extra `flags`
    except ImportError as error:
        raise SettingsError(
            f"VOICEMESH_FLAGS_FILE: {error.name} is not installed; pip install 'voicemesh[flags]'"
        ) from None
    watched = WatchedFile(Path(settings.flags_file))
    return Flags(clock, timeout_s, watched.provider, watched)


def _made(name: str) -> Any:
    """Make the provider that `module:factory` returns."""
    variable = "VOICEMESH_FLAGS_PROVIDER"
    module, _, factory = name.partition(":")
    try:
        provider = getattr(importlib.import_module(module), factory)()
    except Exception as error:
        raise SettingsError(f"{variable}: {name}: {type(error).__name__}: {error}") from error
    if not callable(getattr(provider, "resolve_string_details", None)):
        raise SettingsError(f"{variable}: {name} returns {type(provider).__name__}, which is no provider")
    return provider
