"""A mesh of which each stage can be made slower by a known time, to see whether that stage is blamed.

Everything is done from outside, to real processes: the provider answers later, a proxy holds back what a
service or Redis answers, an engine takes longer, a replica is taken. Only the gateway has no such handle:
its process is given a `sitecustomize` that blocks its event loop in front of a first frame.
"""

import asyncio
import contextlib
import json
import pathlib
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from tests.support.clocks import shifted
from tests.support.delaying_proxy import DelayingProxy, delaying_proxy
from tests.support.mesh import ROOT, Mesh, Own, running_mesh_with
from tests.support.openai_server import OpenAiServer, Reply
from tests.support.redis_server import redis_server
from voicemesh.client import SpeechOptions, TurnReport, VoiceMesh
from voicemesh.stages import Stage

DELAY_MS: Final = 100
_DELAY_S: Final = DELAY_MS / 1000
_TEXT: Final = "One two three four. Five six seven."
_WORDS: Final = ("One", " two", " three", " four.", " Five six seven.")
"""Three waits up to the end of the first chunk, and one more until the chunker sees that it is one."""
_SENTENCES: Final = ("One two three four.", " Five six seven.")
_QUICK: Final = Reply(tokens=_WORDS)
_VOICES: Final = [
    {"name": "quick", "engine": "simulated", "options": {"first_frame_ms": 5}},
    {"name": "late", "engine": "simulated", "options": {"first_frame_ms": 5 + DELAY_MS}},
    {"name": "narrow", "engine": "simulated", "options": {"first_frame_ms": 4 * DELAY_MS, "slots": 1}},
]
_SLOW_GATEWAY: Final = """
import os, sys, time
sys.path.insert(0, {root!r})
from gateway import callers
_send = callers.OutboxCaller.send
def send(self, event, message, on_sent=None):
    if event == "frame" and on_sent is not None and os.path.exists(os.environ["SLOW_GATEWAY"]):
        time.sleep({delay_s})
    _send(self, event, message, on_sent)
callers.OutboxCaller.send = send
"""


@dataclass
class Lab:
    """The mesh, and what slows it down."""

    mesh: Mesh
    client: VoiceMesh
    far: VoiceMesh
    """A client that reaches the gateway through a proxy."""
    caller: DelayingProxy
    llm: OpenAiServer
    redis: DelayingProxy
    slow_gateway: pathlib.Path
    _asked: int = 0

    async def ask(self, *, voice: str = "quick", far: bool = False) -> TurnReport:
        """Ask what nobody has asked before; the audio is made anew."""
        self._asked += 1
        client = self.far if far else self.client
        speech = SpeechOptions(voice=voice, max_lead_ms=0, policy="sentence", cache=False)
        return (await client.ask(f"Question {self._asked}?", speech=speech).collect()).report

    async def say(self) -> TurnReport:
        """Say what nobody has said before; its audio is looked for in the cache."""
        self._asked += 1
        speech = SpeechOptions(voice="quick", max_lead_ms=0, policy="sentence")
        return (await self.client.say(f"Number {self._asked}. {_TEXT}", speech=speech).collect()).report

    async def queue(self, *, taken: bool) -> TurnReport:
        """Ask a voice of one replica, while that is `taken` by another turn or free."""
        if not taken:
            return await self.ask(voice="narrow")
        speech = SpeechOptions(voice="narrow", max_lead_ms=0, cache=False)
        first = asyncio.ensure_future(self.client.say("One two three four.", speech=speech).collect())
        report = await self.ask(voice="narrow")
        await first
        return report


Run = Callable[[Lab, bool], Awaitable[TurnReport]]


@dataclass(frozen=True)
class Delay:
    """One stage that is made slower."""

    name: str
    stage: Stage
    run: Run
    """A turn; it is told whether it is to be delayed."""
    set_to: Callable[[Lab, float], None]
    """Sets the delay in seconds; 0 takes it away."""
    hop: str = ""
    """For transport: the service at the other end."""
    exact: bool = True
    """False: a turn meets it more than once, or for another time; then it is as long as the turn is later."""

    def blamed_ms(self, report: TurnReport) -> float:
        """Return what a report says of the stage, or of the hop."""
        return report.hops.get(self.hop, 0.0) if self.hop else report.stages[self.stage]


def _ask(lab: Lab, _: bool) -> Awaitable[TurnReport]:
    return lab.ask()


def _provider(reply: Callable[[float], Reply]) -> Callable[[Lab, float], None]:
    def set_to(lab: Lab, delay_s: float) -> None:
        lab.llm.default = reply(delay_s)

    return set_to


def _hop(name: str) -> Callable[[Lab, float], None]:
    def set_to(lab: Lab, delay_s: float) -> None:
        lab.mesh.proxies[name].delay_s = delay_s

    return set_to


def _redis(lab: Lab, delay_s: float) -> None:
    lab.redis.delay_s = delay_s


def _caller(lab: Lab, delay_s: float) -> None:
    lab.caller.delay_s = delay_s


def _gateway(lab: Lab, delay_s: float) -> None:
    if delay_s:
        lab.slow_gateway.touch()
    else:
        lab.slow_gateway.unlink(missing_ok=True)


def _nothing(lab: Lab, delay_s: float) -> None:
    del lab, delay_s


DELAYS: Final = (
    Delay(
        "provider's headers",
        Stage.LLM_CONNECT,
        _ask,
        _provider(lambda delay_s: Reply(tokens=_WORDS, header_delay_s=delay_s)),
    ),
    Delay(
        "provider's first token",
        Stage.LLM_TTFT,
        _ask,
        _provider(lambda delay_s: Reply(tokens=_WORDS, ttft_s=delay_s)),
    ),
    Delay(
        "provider's token rate",
        Stage.LLM_TEXT,
        _ask,
        _provider(lambda delay_s: Reply(tokens=_WORDS, token_interval_s=delay_s / 3)),
    ),
    Delay(
        "chunker's hold",
        Stage.CHUNK_HOLD,
        _ask,
        _provider(lambda delay_s: Reply(tokens=_SENTENCES, token_interval_s=delay_s)),
    ),
    Delay("Redis, for a reply", Stage.REPLY_CACHE, _ask, _redis),
    Delay("Redis, for audio", Stage.AUDIO_CACHE, lambda lab, _: lab.say(), _redis, exact=False),
    Delay(
        "engine",
        Stage.TTS_SYNTHESIS,
        lambda lab, delayed: lab.ask(voice="late" if delayed else "quick"),
        _nothing,
    ),
    Delay(
        "queue for a replica",
        Stage.TTS_QUEUE,
        lambda lab, delayed: lab.queue(taken=delayed),
        _nothing,
        exact=False,
    ),
    Delay("way to the LLM service", Stage.TRANSPORT, _ask, _hop("llm"), "llm"),
    Delay("way to the chunker", Stage.TRANSPORT, _ask, _hop("chunker"), "chunker"),
    Delay("way to the TTS service", Stage.TRANSPORT, _ask, _hop("tts"), "tts"),
    Delay("way to the cache", Stage.TRANSPORT, _ask, _hop("cache"), "cache"),
    Delay("way to the caller", Stage.TRANSPORT, lambda lab, _: lab.ask(far=True), _caller, "caller"),
    Delay("gateway", Stage.GATEWAY, _ask, _gateway),
)


@contextlib.contextmanager
def _processes() -> Iterator[tuple[dict[str, Own], pathlib.Path]]:
    """Give what each process has of its own, and the file that makes the gateway slow while it is there."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        flag = folder / "slow"
        own = shifted(folder, gateway=_SLOW_GATEWAY.format(delay_s=_DELAY_S, root=str(ROOT)))
        own["gateway"] = replace(
            own["gateway"], environment={**own["gateway"].environment, "SLOW_GATEWAY": str(flag)}
        )
        yield own, flag


@contextlib.asynccontextmanager
async def running_lab() -> AsyncIterator[Lab]:
    """Run a mesh in which everything can be slowed down, and no two processes agree about the time."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-"))
        redis = await stack.enter_async_context(redis_server())
        to_redis = delaying_proxy(f"{folder}/redis.sock", redis.url.removeprefix("unix://"))
        redis_behind = await stack.enter_async_context(to_redis)
        llm = await stack.enter_async_context(OpenAiServer(default=_QUICK))
        own, flag = stack.enter_context(_processes())
        environment = {
            "OPENAI_BASE_URL": llm.base_url,
            "VOICEMESH_TTS_VOICES": json.dumps(_VOICES),
            "VOICEMESH_TTS_HEDGE_PERCENT": "0",
            "VOICEMESH_REDIS_URL": f"unix://{redis_behind.path}",
            "VOICEMESH_CACHE_REDIS_TIMEOUT_MS": "2000",
            # What is slow on purpose, on a busy machine, is not to be taken for what hangs.
            "VOICEMESH_GATEWAY_PEER_PING_TIMEOUT_MS": "20000",
        }
        proxied = ("llm", "chunker", "tts", "cache")
        mesh = await stack.enter_async_context(running_mesh_with(environment, own=own, proxied=proxied))
        client = await stack.enter_async_context(VoiceMesh(mesh.address("gateway")))
        to_gateway = delaying_proxy(f"{folder}/far.sock", f"{mesh.folder}/gateway.sock")
        caller = await stack.enter_async_context(to_gateway)
        far = await stack.enter_async_context(VoiceMesh(f"unix:{caller.path}"))
        yield Lab(mesh, client, far, caller, llm, redis_behind, flag)


@contextlib.asynccontextmanager
async def delayed(lab: Lab, delay: Delay) -> AsyncIterator[None]:
    """Have a delay for as long as it is entered."""
    delay.set_to(lab, _DELAY_S)
    try:
        yield
    finally:
        delay.set_to(lab, 0.0)


@dataclass(frozen=True)
class Blame:
    """What came of a delay, in milliseconds: medians with it less medians without it."""

    delay: Delay
    injected_ms: float
    blamed_ms: float
    """On the right stage."""
    later_ms: float
    """So much later the first frame was heard."""

    @property
    def share(self) -> float:
        """How much of what was injected the right stage is blamed for."""
        return self.blamed_ms / self.injected_ms


async def measure(lab: Lab, delay: Delay, turns: int) -> Blame:
    """Run so many turns without a delay, and then as many with it.

    Not in turns: what a proxy still holds back of one turn would keep the next one waiting.
    """
    found: dict[bool, list[TurnReport]] = {False: [], True: []}
    await delay.run(lab, False)
    for delayed, reports in found.items():
        delay.set_to(lab, _DELAY_S if delayed else 0.0)
        for _ in range(turns):
            reports.append(await delay.run(lab, delayed))
    delay.set_to(lab, 0.0)

    def gain(of: Callable[[TurnReport], float]) -> float:
        with_it, without = (statistics.median(map(of, found[delayed])) for delayed in (True, False))
        return with_it - without

    later_ms = gain(lambda report: report.ttfa_ms)
    return Blame(delay, DELAY_MS if delay.exact else later_ms, gain(delay.blamed_ms), later_ms)
