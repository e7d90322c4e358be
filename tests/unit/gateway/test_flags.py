"""Flags of a provider that may be slow, wrong or gone: a turn goes on in any case."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from gateway.flags import Evaluation, Flags, open_flags
from gateway.settings import GatewaySettings
from tests.support.virtual_time import LoopClock, run_virtual
from voicemesh.flags.definitions import CHECKS, CHUNK_POLICY, MODEL, VOICE
from voicemesh.runtime.clock import SystemClock
from voicemesh.runtime.errors import SettingsError

KEYS = (MODEL, CHUNK_POLICY, VOICE)
TIMEOUT_S = 0.02


class Elsewhere(AbstractProvider):
    """Asks elsewhere, which takes a while; has one flag."""

    def __init__(self) -> None:
        super().__init__()
        self.takes_s = 0.0
        self.error: Exception | None = None
        self.value: Any = "sentence"
        self.variant: str | None = "whole"
        self.asked: list[EvaluationContext | None] = []

    def get_metadata(self) -> Metadata:
        return Metadata(name="elsewhere")

    async def resolve_string_details_async(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        self.asked.append(evaluation_context)
        await asyncio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        if flag_key != CHUNK_POLICY:
            raise FlagNotFoundError
        return FlagResolutionDetails(
            self.value, variant=self.variant, reason=Reason.SPLIT, flag_metadata={"override": True}
        )

    def _unused(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    resolve_boolean_details = resolve_string_details = resolve_integer_details = _unused
    resolve_float_details = resolve_object_details = _unused


SAID = Evaluation(CHUNK_POLICY, "whole", "sentence", override=True, reason="split", provider="elsewhere")


def in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    run_virtual(work)


async def registered(flags: Flags) -> None:
    """Let the thread that makes a provider ready end."""
    while flags._client.get_provider_status().value != "READY":  # noqa: ASYNC110 - a thread's doing
        await asyncio.sleep(0)


async def ask(flags: Flags, session: str = "s") -> tuple[Evaluation, ...]:
    return await flags.evaluate(KEYS, session, {"tenant": "acme"})


def test_a_provider_is_asked_with_what_is_known():
    async def work() -> None:
        elsewhere = Elsewhere()
        flags = Flags(LoopClock(), TIMEOUT_S, elsewhere)
        await registered(flags)
        assert await ask(flags) == (SAID,)
        assert elsewhere.asked[0] == EvaluationContext("s", {"tenant": "acme"})
        assert flags.problems == {}
        await flags.close()

    in_virtual_time(work())


def test_a_slow_provider_costs_its_time_once_and_a_session_keeps_what_it_had():
    async def work() -> None:
        loop, elsewhere = asyncio.get_running_loop(), Elsewhere()
        flags = Flags(LoopClock(), TIMEOUT_S, elsewhere)
        await registered(flags)
        assert await ask(flags, "old") == (SAID,)
        elsewhere.takes_s = 5.0
        began_s = loop.time()
        assert await ask(flags, "old") == (SAID,)
        assert loop.time() - began_s == pytest.approx(TIMEOUT_S)
        # Held off now: nobody waits, and new sessions are given nothing.
        assert await ask(flags, "new") == ()
        assert loop.time() - began_s == pytest.approx(TIMEOUT_S)
        # It is well again: the next question after the hold finds it.
        elsewhere.takes_s = 0.0
        await asyncio.sleep(1.1)
        assert await ask(flags, "new") == (SAID,)
        await flags.close()

    in_virtual_time(work())


def test_what_a_session_was_given_is_given_to_no_session_of_another_tenant():
    async def work() -> None:
        elsewhere = Elsewhere()
        flags = Flags(LoopClock(), TIMEOUT_S, elsewhere)
        await registered(flags)
        assert await ask(flags, "one") == (SAID,)
        elsewhere.takes_s = 5.0
        assert await flags.evaluate(KEYS, "one", {"tenant": "rival"}) == ()
        assert await ask(flags, "one") == (SAID,)
        await flags.close()

    in_virtual_time(work())


def test_a_name_that_no_message_can_carry_is_told_without_that_part():
    async def work() -> None:
        elsewhere = Elsewhere()
        elsewhere.variant = "who\ud800le"
        flags = Flags(LoopClock(), TIMEOUT_S, elsewhere)
        await registered(flags)
        assert [said.variant for said in await ask(flags)] == ["who?le"]
        await flags.close()

    in_virtual_time(work())


def test_a_late_answer_counts_from_the_next_turn_on():
    async def work() -> None:
        elsewhere = Elsewhere()
        flags = Flags(LoopClock(), TIMEOUT_S, elsewhere)
        await registered(flags)
        elsewhere.takes_s = 0.1
        assert await ask(flags) == ()
        await asyncio.sleep(0.2)
        assert await ask(flags) == (SAID,)
        await flags.close()

    in_virtual_time(work())


def test_a_provider_that_hangs_is_not_asked_without_end():
    async def work() -> None:
        elsewhere = Elsewhere()
        flags = Flags(LoopClock(), TIMEOUT_S, elsewhere)
        await registered(flags)
        elsewhere.takes_s = 1e9
        for _ in range(100):
            assert await ask(flags) == ()
            await asyncio.sleep(60)
        assert len(elsewhere.asked) <= 4 * 32
        await flags.close()

    in_virtual_time(work())


@pytest.mark.parametrize(
    ("value", "variant"), [("sometimes", "odd"), ("x" * 300, None), (7, "seven"), (None, "none")]
)
def test_a_value_that_cannot_be_is_left_out_and_counted(value: Any, variant: str | None):
    async def work() -> None:
        elsewhere = Elsewhere()
        elsewhere.value, elsewhere.variant = value, variant
        flags = Flags(LoopClock(), TIMEOUT_S, elsewhere)
        await registered(flags)
        for _ in range(3):
            assert await ask(flags) == ()
        assert flags.problems == {CHUNK_POLICY: 3}
        await flags.close()

    in_virtual_time(work())


def test_errors_of_a_provider_are_counted_and_cost_nothing():
    async def work() -> None:
        elsewhere = Elsewhere()
        flags = Flags(LoopClock(), TIMEOUT_S, elsewhere)
        await registered(flags)
        elsewhere.error = OSError("no route")
        assert await ask(flags) == ()
        assert flags.problems[CHUNK_POLICY] == 1
        assert flags.state == {
            "provider": "elsewhere",
            "problem": "",
            "problems": dict.fromkeys(CHECKS, 1),
            "reasons": dict.fromkeys(CHECKS, "no route"),
        }
        await flags.close()

    in_virtual_time(work())


def test_a_provider_that_names_no_variant_has_one_all_the_same():
    async def work() -> None:
        elsewhere = Elsewhere()
        elsewhere.variant = None
        flags = Flags(LoopClock(), TIMEOUT_S, elsewhere)
        await registered(flags)
        assert [said.variant for said in await ask(flags)] == ["custom"]
        await flags.close()

    in_virtual_time(work())


def in_memory() -> InMemoryProvider:
    """Return a provider as `VOICEMESH_FLAGS_PROVIDER` names one."""
    return InMemoryProvider({CHUNK_POLICY: InMemoryFlag("whole", {"whole": "sentence"})})


def test_any_provider_can_be_named():
    async def work() -> None:
        settings = GatewaySettings(flags_provider="tests.unit.gateway.test_flags:in_memory")
        flags = open_flags(settings, LoopClock())
        await registered(flags)
        assert [said.value for said in await ask(flags)] == ["sentence"]
        await flags.close()

    in_virtual_time(work())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere.at:all", "ModuleNotFoundError"),
        ("json:dumps_it", "AttributeError"),
        ("json:JSONDecoder", "JSONDecoder, which is no provider"),
    ],
)
def test_a_provider_that_cannot_be_made_is_a_wrong_setting(name: str, why: str):
    with pytest.raises(SettingsError, match=f"VOICEMESH_FLAGS_PROVIDER: {name}.*{why}"):
        open_flags(GatewaySettings(flags_provider=name), SystemClock())


def test_without_flags_there_is_nothing_to_ask():
    async def work() -> None:
        flags = open_flags(GatewaySettings(), LoopClock())
        flags.start()
        assert flags.silent
        assert await ask(flags) == ()
        assert flags.state is None
        await flags.close()

    in_virtual_time(work())
