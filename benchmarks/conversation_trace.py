"""What the caches save in the recorded conversations, beside the same turns without any.

    .venv/bin/python -m benchmarks.conversation_trace [--speedup 30] [--crowd 1] [--redis] [--turns N]

Plays `benchmarks.conversations` through `voicemesh up`, twice: with both caches bypassed, then with both on
and empty. The model is a server that speaks OpenAI's protocol and says what the trace's model says; the
voice is the simulated engine. Time runs `--speedup` times as fast, and so do the lifetimes of entries. The
sessions keep their order, their tenants and their history. Calls are counted at the provider, hits and cost
in the turns' reports. Prices are those of gpt-4o-mini and of 16 US dollars a million characters of speech,
at which the guides' 5 million interactions cost the 20,000 to 40,000 dollars a year that they state.

`--crowd 4` generates four times as many people instead of playing the file: the guides' traffic. `--redis`
puts a redis-server behind memory. The gateway waits for the cache as long as it takes: what is worth
keeping is measured here, not how soon it comes, and a second without the cache would be a minute. Every
other setting of the mesh can be given in the environment.
"""

import argparse
import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from benchmarks.conversations import SYSTEM_PROMPTS, Turn, load, record, reply_to
from benchmarks.meshes import RunningMesh, percentile, running_mesh
from tests.support.openai_server import OpenAiServer, Reply, Request, tokens_of
from tests.support.redis_server import redis_server
from voicemesh.cache.v1 import cache_pb2
from voicemesh.cache.v1.cache_pb2_grpc import CacheServiceStub
from voicemesh.client import SpeechOptions, TurnReport, VoiceMesh

REPLY_TTL_S = 1800
AUDIO_TTL_S = 7200
SPEECH_USD_PER_MCHAR = 16
VOICE = json.dumps(
    [
        {
            "name": "simulated",
            "engine": "simulated",
            "replicas": 1,
            "options": {"first_frame_ms": 5, "rtf": 0.0, "slots": 64},
        }
    ]
)


@dataclass
class Played:
    """What came of playing the trace once."""

    reports: dict[int, TurnReport] = field(default_factory=dict)
    """By the turn's place in the trace."""
    calls: int = 0
    """To the provider."""
    stats: cache_pb2.GetStatsResponse | None = None

    @property
    def cost_usd(self) -> float:
        """Cost of all turns, in US dollars."""
        return sum(report.cost.total_usd for report in self.reports.values())

    @property
    def characters(self) -> int:
        """Characters that were given to engines."""
        return sum(report.characters for report in self.reports.values())

    @property
    def reply_hits(self) -> float:
        """Share of the prompts whose reply was in the cache."""
        asked = [report.reply_cache for report in self.reports.values() if report.reply_cache != "off"]
        return sum(outcome == "hit" for outcome in asked) / len(asked) if asked else 0.0

    @property
    def audio_hits(self) -> float:
        """Share of the chunks whose audio was in the cache, or was being made for another turn."""
        chunks = [chunk for report in self.reports.values() for chunk in report.chunks]
        return sum(chunk.cache in ("memory", "redis", "shared") for chunk in chunks) / len(chunks)

    def ttfa_ms(self, percent: float) -> float:
        """Return a percentile of the time to first audio."""
        return percentile([report.ttfa_ms for report in self.reports.values()], percent)


def answer(request: Request) -> Reply:
    """Answer as the trace's model does."""
    messages = request.body["messages"]
    system = next((text_of(message) for message in messages if message["role"] == "system"), "")
    prompts = [text_of(message) for message in messages if message["role"] == "user"]
    return Reply(tokens=tokens_of(reply_to(system, prompts)))


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message, which may be in parts."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


class Player:
    """Plays a trace. `name` keeps the sessions of one playing apart from those of another."""

    def __init__(
        self, address: str, turns: Sequence[Turn], speedup: float, name: str, *, cache: bool
    ) -> None:
        self._address = address
        self._turns = turns
        self._speedup = speedup
        self._name = name
        self._cache = cache
        self._speech = SpeechOptions(max_lead_ms=0, cache=cache)
        self.played = Played()

    async def run(self) -> Played:
        """Play all of it, each session in its own time."""
        sessions: dict[str, list[tuple[int, Turn]]] = {}
        for place, turn in enumerate(self._turns):
            # Where there is no history nobody waits for the answer before.
            name = turn.session if turn.history else f"{turn.session} {place}"
            sessions.setdefault(name, []).append((place, turn))
        begins_s = asyncio.get_running_loop().time()
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            meshes = {
                tenant: await stack.enter_async_context(VoiceMesh(self._address, tenant=tenant))
                for tenant in {turn.tenant for turn in self._turns}
            }
            for session in sessions.values():
                group.create_task(self._session(meshes[session[0][1].tenant], session, begins_s))
        return self.played

    async def _session(self, mesh: VoiceMesh, session: list[tuple[int, Turn]], begins_s: float) -> None:
        first = session[0][1]
        await self._until(first, begins_s)  # nobody is there before
        options = {"session_id": f"{self._name} {first.session}"} if first.history else {}
        async with mesh.converse(
            speech=self._speech,
            system_prompt=SYSTEM_PROMPTS[first.app],
            reply_cache=self._cache,
            **options,  # type: ignore[arg-type] # of one string
        ) as conversation:
            for place, turn in session:
                await self._until(turn, begins_s)
                if turn.use == "phrase":
                    asked = mesh.say(turn.text, speech=self._speech)
                else:
                    asked = await conversation.ask(turn.text)
                async for _ in asked:
                    pass
                assert asked.report is not None
                self.played.reports[place] = asked.report

    async def _until(self, turn: Turn, begins_s: float) -> None:
        due_s = begins_s + turn.at_ms / 1000 / self._speedup
        await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))


@contextlib.asynccontextmanager
async def mesh_for(base_url: str, redis_url: str, speedup: float) -> AsyncIterator[RunningMesh]:
    """Run a mesh whose entries live as much shorter as time is faster."""
    environment = {
        "OPENAI_BASE_URL": base_url,
        "VOICEMESH_LLM_PROVIDER": "openai",
        "VOICEMESH_TTS_VOICES": VOICE,
        "VOICEMESH_CACHE_REPLY_TTL_S": str(max(1, round(REPLY_TTL_S / speedup))),
        "VOICEMESH_CACHE_AUDIO_TTL_S": str(max(1, round(AUDIO_TTL_S / speedup))),
        "VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS": "5000",
        "VOICEMESH_CACHE_REDIS_TIMEOUT_MS": "2000",
        "VOICEMESH_PRICES_SPEECH": json.dumps({"*": {"mchar": SPEECH_USD_PER_MCHAR}}),
    }
    if redis_url:
        environment["VOICEMESH_REDIS_URL"] = redis_url
    with contextlib.ExitStack() as stack:
        # The mesh asks the provider while it starts, and that is served by this loop.
        mesh = await asyncio.to_thread(stack.enter_context, running_mesh(**environment))
        try:
            yield mesh
        finally:
            await asyncio.to_thread(stack.close)


async def stats_of(address: str) -> cache_pb2.GetStatsResponse:
    """Return the cache's own counts."""
    async with grpc.aio.insecure_channel(address) as channel:
        stats = await CacheServiceStub(channel).GetStats(cache_pb2.GetStatsRequest())
    assert isinstance(stats, cache_pb2.GetStatsResponse)
    return stats


def show(without: Played, cached: Played) -> None:
    """Print what was measured, and which figures that are wished for were reached."""
    print(f"{'':<34} {'bypassed':>12} {'cached':>12} {'down':>7}")
    for name, before, after in (
        ("calls to the provider", float(without.calls), float(cached.calls)),
        ("characters given to engines", without.characters, cached.characters),
        ("cost, US dollars", without.cost_usd, cached.cost_usd),
        ("time to first audio p50, ms", without.ttfa_ms(50), cached.ttfa_ms(50)),
        ("time to first audio p95, ms", without.ttfa_ms(95), cached.ttfa_ms(95)),
    ):
        print(f"{name:<34} {before:>12.4g} {after:>12.4g} {1 - after / before:>7.1%}")
    differ = sum(without.reports[place].text != report.text for place, report in cached.reports.items())
    failed = sum(
        report.outcome != "completed" for one in (without, cached) for report in one.reports.values()
    )
    lines: Iterable[tuple[str, float, float]] = (
        ("replies that were in the cache", cached.reply_hits, 0.30),
        ("audio that was in the cache", cached.audio_hits, 0.70),
        ("fewer calls to the provider", 1 - cached.calls / without.calls, 0.60),
        ("less cost", 1 - cached.cost_usd / without.cost_usd, 0.30),
    )
    print()
    for name, share, wish in lines:
        print(f"{name:<34} {share:>7.1%}  wished for {wish:.0%}: {'yes' if share >= wish else 'no'}")
    print(f"{'turns whose words differ':<34} {differ:>7}  wished for 0: {'no' if differ else 'yes'}")
    print(f"{'turns that failed':<34} {failed:>7}")
    print(f"\nthe cache's own counts:\n{cached.stats}")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speedup", type=float, default=30.0)
    parser.add_argument("--crowd", type=int, default=1)
    parser.add_argument("--repetition", type=float, default=1.0)
    parser.add_argument("--redis", action="store_true")
    parser.add_argument("--turns", type=int, default=None, help="only the first so many")
    arguments = parser.parse_args()
    as_recorded = (arguments.crowd, arguments.repetition) == (1, 1.0)
    turns = load() if as_recorded else record(repetition=arguments.repetition, crowd=arguments.crowd)
    turns = turns[: arguments.turns]
    async with contextlib.AsyncExitStack() as stack:
        provider = await stack.enter_async_context(OpenAiServer(default=answer))
        redis_url = ""
        if arguments.redis:
            redis_url = (await stack.enter_async_context(redis_server())).url
        mesh = await stack.enter_async_context(mesh_for(provider.base_url, redis_url, arguments.speedup))
        played = []
        for cache in (False, True):
            before = len(provider.requests)
            name = "cached" if cache else "bypassed"
            player = Player(mesh.address, turns, arguments.speedup, name, cache=cache)
            played.append(await player.run())
            played[-1].calls = len(provider.requests) - before
        played[-1].stats = await stats_of(mesh.addresses["cache"])
    show(*played)


if __name__ == "__main__":
    asyncio.run(main())
