"""`voicemesh bench`: drives turns through a mesh and keeps the account of each.

Every turn has a conversation of its own, opened 50 ms ahead of it, as by a caller who is there before a
person has spoken. Its times count from the prompt.

Closed loop (`--concurrency C`): C callers, each asks again when its turn has ended.
Open loop (`--rate R`): turn i is meant to begin at i/R seconds, whatever the mesh does, and its
times count from there; a slow mesh cannot hide its waiting by slowing the tool down (coordinated
omission, https://www.scylladb.com/2021/04/22/on-coordinated-omission/).

With two arms, each prompt is asked of both, one right behind the other, which first being drawn: whatever
else the machine does meets both alike.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from voicemesh.cli.speak import mesh_at
from voicemesh.client import SpeechOptions, Turn, TurnReport, VoiceMesh, VoiceMeshError

_FIRST_GUESS_S: Final = 0.5
_MOST_IN_FLIGHT: Final = 4096
_AHEAD_S: Final = 0.05
"""How long a conversation is open before its prompt."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """A run.

    Attributes:
        addr: Where the mesh is.
        tenant: Whose turns they are.
        turns: How many turns.
        concurrency: Callers of a closed loop.
        rate_per_s: Turns a second of an open loop; None for a closed one.
        prompts: What is asked, in turn.
        interrupt_share: Share of the turns that are interrupted, 0 to 1.
        seed: Seed of the choice of those turns, and of their moments.
        speech: How it is spoken.
        reply_cache: False to bypass cached replies.
        limit_s: Seconds that the run may take; None for no limit.

    """

    addr: str
    tenant: str = ""
    turns: int
    concurrency: int
    rate_per_s: float | None
    prompts: Sequence[str]
    interrupt_share: float
    seed: int
    speech: SpeechOptions
    reply_cache: bool
    limit_s: float | None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What turns are asked for, and of whom: a run has one, a comparison two.

    Attributes:
        label: How it is called, as it was given.
        addr: Where the mesh is.
        tenant: Whose turns they are.
        speech: How it is spoken.
        model: Model to ask for; "" for the mesh's.
        system_prompt: Instructions to it; "" for the mesh's.
        prompt_variant: Name of the mesh's prompt; "" for its choice.
        reply_cache: False to bypass cached replies.

    """

    label: str = ""
    addr: str
    tenant: str = ""
    speech: SpeechOptions
    model: str = ""
    system_prompt: str = ""
    prompt_variant: str = ""
    reply_cache: bool = True


@dataclass(frozen=True)
class Job:
    """One turn to run.

    Attributes:
        number: Which prompt it is, from 0; turns of two arms that are compared have the same.
        arm: Which of the arms it is for.
        prompt: What to ask.
        due_ns: When it is meant to begin; None for at once.
        interrupt_at: The moment of its interruption, as a share of what a turn takes; None for none.

    """

    number: int
    arm: int
    prompt: str
    due_ns: int | None
    interrupt_at: float | None


@dataclass(frozen=True)
class BenchRun:
    """What came of a run.

    Attributes:
        reports: The account of each turn, in the order of their end.
        wall_s: How long it took, in seconds.
        late_ms: For each turn of an open loop, how late the tool itself began it, in milliseconds.
        cut_short: True where the time limit ended the run.
        by_job: The same reports by number of the prompt and of the arm.

    """

    reports: Sequence[TurnReport]
    wall_s: float
    late_ms: Sequence[float]
    cut_short: bool
    by_job: Mapping[tuple[int, int], TurnReport] = field(default_factory=dict)


class Bench:
    """Runs a bench.

    Args:
        options: What to run.
        done: Told of each turn that ended.
        arms: What to compare, `options.turns` turns of each; by default what the options say.

    """

    def __init__(
        self, options: BenchOptions, done: Callable[[TurnReport], None], arms: Sequence[Arm] = ()
    ) -> None:
        self._options = options
        self._arms = arms or (
            Arm(
                addr=options.addr,
                tenant=options.tenant,
                speech=options.speech,
                reply_cache=options.reply_cache,
            ),
        )
        self._done = done
        self._by_job: dict[tuple[int, int], TurnReport] = {}
        self._reports: list[TurnReport] = []
        self._late_ms: list[float] = []
        self._typical_s = _FIRST_GUESS_S

    async def run(self) -> BenchRun:
        """Run it. Raises `VoiceMeshError` where the mesh cannot be reached at the start."""
        options = self._options
        cut_short = False
        async with contextlib.AsyncExitStack() as stack:
            meshes = [await stack.enter_async_context(mesh_at(arm.addr, arm.tenant)) for arm in self._arms]
            for mesh in meshes:
                await mesh.connect()
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(options.limit_s):
                    if options.rate_per_s is None:
                        await self._closed_loop(meshes)
                    else:
                        await self._open_loop(meshes, options.rate_per_s)
            except TimeoutError:
                cut_short = True
            wall_s = time.monotonic() - began_s
        return BenchRun(self._reports, wall_s, self._late_ms, cut_short, self._by_job)

    def _jobs(self) -> Iterator[Job]:
        options = self._options
        chance = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
        first = random.Random(f"{options.seed} order")  # noqa: S311 - its own, so that arms change no draw
        prompts = itertools.cycle(options.prompts)
        start_ns = time.monotonic_ns() + round(_AHEAD_S * 1e9)
        begun = itertools.count()
        for number in range(options.turns):
            # Both drawn for every turn, so that another share interrupts some of the same turns.
            drawn, moment = chance.random(), chance.random()
            prompt, interrupt_at = next(prompts), moment if drawn < options.interrupt_share else None
            for arm in first.sample(range(len(self._arms)), len(self._arms)):
                place, due_ns = next(begun), None
                if options.rate_per_s is not None:
                    due_ns = start_ns + round(place * 1e9 / options.rate_per_s)
                yield Job(number, arm, prompt, due_ns, interrupt_at)

    async def _closed_loop(self, meshes: Sequence[VoiceMesh]) -> None:
        jobs = self._jobs()

        async def caller() -> None:
            for job in jobs:
                await self._turn(meshes[job.arm], job)

        async with asyncio.TaskGroup() as callers:
            for _ in range(min(self._options.concurrency, self._options.turns * len(self._arms))):
                callers.create_task(caller())

    async def _open_loop(self, meshes: Sequence[VoiceMesh], rate_per_s: float) -> None:
        places = asyncio.Semaphore(_MOST_IN_FLIGHT)

        async def arrive(job: Job) -> None:
            try:
                await self._turn(meshes[job.arm], job)
            finally:
                places.release()

        async with asyncio.TaskGroup() as arrivals:
            for job in self._jobs():
                assert job.due_ns is not None
                wait_s = (job.due_ns - time.monotonic_ns()) / 1e9 - _AHEAD_S
                # The loop's timer is coarse; also give way to arrivals that are already running.
                await asyncio.sleep(max(wait_s, 0))
                await places.acquire()
                arrivals.create_task(arrive(job), name=f"turn-at-{rate_per_s:g}-per-s")

    async def _turn(self, mesh: VoiceMesh, job: Job) -> None:
        report = await self._report(mesh, job)
        if report.outcome == "completed":
            self._typical_s += 0.2 * (report.total_ms / 1000 - self._typical_s)
        self._reports.append(report)
        self._by_job[job.number, job.arm] = report
        self._done(report)

    async def _report(self, mesh: VoiceMesh, job: Job) -> TurnReport:
        arm = self._arms[job.arm]
        asked = mesh.converse(
            speech=arm.speech,
            reply_cache=arm.reply_cache,
            model=arm.model,
            system_prompt=arm.system_prompt,
            prompt_variant=arm.prompt_variant,
        )
        try:
            async with asked as conversation:
                await self._until_due(job)
                turn = await conversation.ask(job.prompt, asked_at_ns=job.due_ns)
                if job.interrupt_at is None:
                    return await _read(turn)
                reading = asyncio.create_task(_read(turn))
                try:
                    await asyncio.wait({reading}, timeout=job.interrupt_at * self._typical_s)
                    if not reading.done():
                        await conversation.interrupt(played_ms=turn.observer.played_ms())
                    return await reading
                finally:
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
        except VoiceMeshError as error:
            return error.report or TurnReport(turn_id="", prompt=job.prompt, error=error)

    async def _until_due(self, job: Job) -> None:
        if job.due_ns is None:
            await asyncio.sleep(_AHEAD_S)
            return
        await asyncio.sleep(max((job.due_ns - time.monotonic_ns()) / 1e9, 0))
        self._late_ms.append(max(time.monotonic_ns() - job.due_ns, 0) / 1e6)


async def _read(turn: Turn) -> TurnReport:
    async for _ in turn:
        pass
    assert turn.report is not None
    return turn.report


def as_json_config(options: BenchOptions, run: BenchRun) -> dict[str, object]:
    """Return the settings of a run, in JSON form."""
    return {
        "addr": options.addr,
        "turns": options.turns,
        "loop": "closed" if options.rate_per_s is None else "open",
        "concurrency": options.concurrency if options.rate_per_s is None else None,
        "rate_per_s": options.rate_per_s,
        "prompts": len(options.prompts),
        "interrupt_share": options.interrupt_share,
        "seed": options.seed,
        "voice": options.speech.voice,
        "policy": options.speech.policy,
        "cache": options.reply_cache,
        "paced": options.speech.max_lead_ms is None,
        "limit_s": options.limit_s,
        "cut_short": run.cut_short,
        "percentiles": "linear between closest ranks",
    }
