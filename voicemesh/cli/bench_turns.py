"""The turns of a bench, as a caller makes them.

Every turn has a conversation of its own, opened ahead of it, as by a caller who is there before a person
has spoken. Its times count from the prompt, or from the moment at which it was due.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from voicemesh.cli.bench import AHEAD_S, Bench, BenchRun
from voicemesh.cli.bench_options import OWN_WORDS, Arm, BenchOptions, Job, arm_of, now_ns, uses_cache
from voicemesh.cli.speak import mesh_at
from voicemesh.client import Conversation, Turn, TurnReport, VoiceMesh, VoiceMeshError

_FIRST_GUESS_S: Final = 0.5


async def run_turns(
    options: BenchOptions, done: Callable[[TurnReport], None], arms: Sequence[Arm] = ()
) -> BenchRun:
    """Run a bench against the meshes of its arms, by default against that of the options.

    Raises `VoiceMeshError` where a mesh cannot be reached at the start.
    """
    arms = arms or (arm_of(options),)
    async with contextlib.AsyncExitStack() as stack:
        meshes = [await stack.enter_async_context(mesh_at(arm.addr, arm.tenant)) for arm in arms]
        for mesh in meshes:
            await mesh.connect()
        bench = Bench(options, Caller(options, arms, meshes).ask, done, arms=len(arms))
        with _ended_by_ctrl_c(bench):
            return await bench.run()


@contextlib.contextmanager
def _ended_by_ctrl_c(bench: Bench) -> Iterator[None]:
    """Let the first Ctrl-C end the run, and what was measured be told; a second one ends everything."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        bench.stop()

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


class Caller:
    """Asks for turns.

    Args:
        options: What to run.
        arms: What turns of each arm are asked for.
        meshes: Of whom, in the same order.

    """

    def __init__(self, options: BenchOptions, arms: Sequence[Arm], meshes: Sequence[VoiceMesh]) -> None:
        self._options = options
        self._arms = arms
        self._meshes = meshes
        self._typical_s = _FIRST_GUESS_S

    async def ask(self, job: Job, begun: Callable[[], None]) -> TurnReport:
        """Run one turn when it is due; one that fails is told by its report."""
        try:
            report = await self._report(job, begun)
        except VoiceMeshError as error:
            return error.report or TurnReport(turn_id="", prompt=job.prompt, error=error)
        if report.outcome == "completed":
            self._typical_s += 0.2 * (report.total_ms / 1000 - self._typical_s)
        return report

    async def _report(self, job: Job, begun: Callable[[], None]) -> TurnReport:
        arm = self._arms[job.arm]
        speech, cached = arm.speech, uses_cache(self._options, job.kind)
        conversation = self._meshes[job.arm].converse(
            speech=speech if cached else replace(speech, cache=False),
            reply_cache=arm.reply_cache and cached,
            model=arm.model,
            system_prompt=arm.system_prompt,
            prompt_variant=arm.prompt_variant,
        )
        async with conversation:
            wait_s = AHEAD_S if job.due_ns is None else (job.due_ns - now_ns()) / 1e9
            await asyncio.sleep(max(wait_s, 0))
            begun()
            put = conversation.say if job.kind == OWN_WORDS else conversation.ask
            turn = await put(job.prompt, asked_at_ns=job.due_ns)
            if job.interrupt_at is None:
                return await _read(turn)
            return await self._interrupted(conversation, turn, job.interrupt_at)

    async def _interrupted(self, conversation: Conversation, turn: Turn, interrupt_at: float) -> TurnReport:
        reading = asyncio.create_task(_read(turn))
        try:
            await asyncio.wait({reading}, timeout=interrupt_at * self._typical_s)
            if not reading.done():
                await conversation.interrupt(played_ms=turn.observer.played_ms())
            return await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _read(turn: Turn) -> TurnReport:
    async for _ in turn:
        pass
    assert turn.report is not None
    return turn.report
