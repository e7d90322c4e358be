"""What warm connections, HTTP/2 and late first tokens asked for twice are worth at the model's providers.

    .venv/bin/python -m benchmarks.llm_providers [--asks 60] [--turns 600] [--slow 0.03] [--slow-ms 1500]

*Connections*: a scripted provider in a process of its own, over plain TCP on loopback, with `--rtt-ms`
of delay put into the opening of each connection, as the handshakes of TCP and TLS 1.3 cost two round
trips. `cold` closes all connections before each question, `warm` keeps one. Measured from the question
to the response headers, in the provider's client.

*Late first tokens*: two providers, the first with 60 ms to its first token, but `--slow-ms` for a share
of `--slow`; the second with 90 ms. Every run gets the same slow ones; it differs in the percentage that
may be asked for twice alone. Measured in the LLM service's core, from the question to the first text.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import AsyncGenerator

from services.llm.core.buffer import ReplyBuffer
from services.llm.core.candidates import ListedProvider, ProviderSpec, candidates_for
from services.llm.core.figures import Figures
from services.llm.core.generation import Generation
from services.llm.core.model import (
    UNWATCHED,
    Connected,
    Delta,
    Finished,
    FinishReason,
    HttpObserver,
    Message,
    Provider,
    ProviderEnd,
    ProviderEvent,
    ProviderRequest,
    Role,
    TextPart,
    TextPiece,
    Timing,
)
from services.llm.core.openai_provider import OpenAiProvider
from services.llm.core.retries import RetryPolicy
from tests.support.openai_server import OpenAiServer, Reply
from voicemesh.runtime.clock import SystemClock
from voicemesh.runtime.retry_budget import RetryBudget

PERCENTS = (0.0, 2.0, 5.0, 10.0)
FIRST_MS, SECOND_MS = 60.0, 90.0
UNKNOWN = 50
"""Turns at the beginning, by which the first provider is known; they are not counted."""
REQUEST = ProviderRequest(
    messages=(Message(Role.USER, (TextPart("Why is the sky blue?"),)),),
    model="m",
    max_tokens=100,
    temperature=0.0,
    top_p=1.0,
)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class DelayedLine:
    """Hands connections to a server behind a wait for each new one, as handshakes over a line take."""

    def __init__(self, port: int, rtt_s: float) -> None:
        self._port = port
        self._rtt_s = rtt_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> str:
        """Listen; return the address of the API."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self._rtt_s)  # TCP's handshake, then that of TLS 1.3
        there, to_there = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, to_there))
                group.create_task(_copy(there, writer))
        finally:
            writer.close()
            to_there.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def connections(asks: int, rtt_ms: float) -> None:
    print(f"connect: question to response headers, {asks} questions each, {rtt_ms:g} ms round trip")
    async with OpenAiServer(default=Reply(tokens=("Hi",))) as server:
        port = int(server.base_url.rsplit(":", 1)[1].split("/")[0])
        async with DelayedLine(port, rtt_ms / 1000) as url:
            for name, kept in (("cold", 0), ("warm", 20)):
                provider = OpenAiProvider(
                    model="m",
                    api_key="",
                    base_url=url,
                    connect_timeout_s=5,
                    total_timeout_s=30,
                    max_connections=100,
                    max_keepalive_connections=kept,
                )
                await provider.probe()
                took_us = [await _connect_us(provider) for _ in range(asks)]
                await provider.close()
                print(
                    f"  {name}: p50 {statistics.median(took_us) / 1000:.2f} ms, "
                    f"p95 {quantile(took_us, 0.95) / 1000:.2f} ms"
                )


async def _connect_us(provider: Provider) -> float:
    began_ns = time.monotonic_ns()
    took_us = 0.0
    async for event in provider.generate(REQUEST):
        if isinstance(event, Connected):
            took_us = (time.monotonic_ns() - began_ns) / 1000
    return took_us


class SometimesSlow:
    """A provider whose first token is sometimes late, by a plan."""

    server: tuple[str, int] | None = None
    model = "m"

    def __init__(
        self, name: str, ttft_ms: float, slow_ms: float = 0.0, slow: frozenset[int] = frozenset()
    ) -> None:
        self.name = name
        self.asked = 0
        self._ttft_ms, self._slow_ms, self._slow = ttft_ms, slow_ms, slow

    async def generate(self, request: ProviderRequest) -> AsyncGenerator[ProviderEvent, None]:  # noqa: ARG002 - as the protocol has it
        """See `Provider.generate`."""
        number, self.asked = self.asked, self.asked + 1
        yield Connected()
        await asyncio.sleep((self._slow_ms if number in self._slow else self._ttft_ms) / 1000)
        yield TextPiece("Hi")
        yield ProviderEnd(FinishReason.STOP, "m")

    async def probe(self) -> None:
        """It can be used."""

    async def close(self) -> None:
        """Nothing is held."""


class Nobody:
    """Watches nothing."""

    def __init__(self) -> None:
        self.wants_text = False

    def attempt(self, provider: Provider, request: ProviderRequest, number: int) -> "Nobody":  # noqa: ARG002 - as the protocol has it
        """Watch it as well."""
        return self

    def first_text(self, timing: Timing) -> None:
        """See `AttemptObserver`."""

    def http(self, method: str, url: str) -> HttpObserver:  # noqa: ARG002 - as the protocol has it
        """See `AttemptObserver`."""
        return UNWATCHED

    def event(self, name: str, provider: str, error_type: str = "") -> None:
        """See `Observer`."""

    def end(self, finished: Finished | None, error: BaseException | None, text: str = "") -> None:
        """See `AttemptObserver`."""


class Core:
    """Two providers, and what asking the second costs."""

    def __init__(self, percent: float, slow_ms: float, slow: frozenset[int]) -> None:
        clock = SystemClock()
        self.providers = (SometimesSlow("first", FIRST_MS, slow_ms, slow), SometimesSlow("second", SECOND_MS))
        self.listed = [ListedProvider(each, ProviderSpec(each.name), clock) for each in self.providers]
        self.policy = RetryPolicy(hedge_percent=percent)
        self.hedges = RetryBudget(percent)
        self.figures = Figures()

    async def one(self) -> float:
        """Ask once; return milliseconds to the first text."""
        buffer = ReplyBuffer()
        generation = Generation(
            candidates_for("", self.listed),
            REQUEST,
            buffer,
            clock=SystemClock(),
            policy=self.policy,
            hedges=self.hedges,
            figures=self.figures,
            timeout_s=30,
            observer=Nobody(),
        )
        began_ns = time.monotonic_ns()
        took_ms = 0.0
        running = asyncio.create_task(generation.run())
        async for event in buffer:
            if isinstance(event, Delta):
                took_ms = (time.monotonic_ns() - began_ns) / 1e6
        await running
        return took_ms


async def hedges(turns: int, share: float, slow_ms: float) -> None:
    print(f"late first tokens: {turns} turns, {share:.0%} of them {slow_ms:g} ms instead of {FIRST_MS:g} ms")
    draws = random.Random(3)
    slow = frozenset(UNKNOWN + turn for turn in range(turns) if draws.random() < share)
    for percent in PERCENTS:
        core = Core(percent, slow_ms, slow)
        for _ in range(UNKNOWN):
            await core.one()
        took_ms: list[float] = []
        for start in range(0, turns, 10):
            took_ms += await asyncio.gather(*(core.one() for _ in range(min(10, turns - start))))
        figures = core.figures
        p95_ms, p99_ms = quantile(took_ms, 0.95), quantile(took_ms, 0.99)
        print(
            f"  up to {percent:4.1f}%: p50 {statistics.median(took_ms):.0f} ms, p95 {p95_ms:.0f} ms, "
            f"p99 {p99_ms:.0f} ms; {figures.hedges / turns:.1%} more questions, "
            f"{figures.hedges_won} of {figures.hedges} won"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--asks", type=int, default=60)
    parser.add_argument("--rtt-ms", type=float, default=20.0)
    parser.add_argument("--turns", type=int, default=600)
    parser.add_argument("--slow", type=float, default=0.03)
    parser.add_argument("--slow-ms", type=float, default=1500.0)
    given = parser.parse_args()
    asyncio.run(connections(given.asks, 0.0))
    asyncio.run(connections(given.asks, given.rtt_ms))
    asyncio.run(hedges(given.turns, given.slow, given.slow_ms))


if __name__ == "__main__":
    main()
