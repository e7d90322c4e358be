"""What asking twice for late first chunks gains, and what it costs.

    .venv/bin/python -m benchmarks.hedging [--turns 1500] [--rate 20] [--slow 0.02] [--slow-ms 600]

Turns of one chunk come at random moments (Poisson) to one voice with two worker processes: the
simulated engine, 30 ms to its first frame, but 600 ms for 2 of 100. Every run gets the same texts at
the same moments; it differs in VOICEMESH_TTS_HEDGE_PERCENT alone. Measured in the TTS service, from
the request to the first frame, for the turns behind the first 100, by which the voice is known.
Extra work is the engine time of the ones that lost, as the pool counts it, of all engine time.
"""

import argparse
import asyncio
import logging
import random
import statistics
import time
from collections.abc import Sequence

import structlog

from services.tts.core.chunk import ChunkObserver
from services.tts.core.figures import PoolStats
from services.tts.core.job import JobEnd
from services.tts.core.legs import LeaseObserver
from services.tts.core.model import (
    AudioFormat,
    ChunkOrder,
    FailedEvent,
    FinishedEvent,
    FrameEvent,
    Limits,
    Start,
    Together,
    VoiceSpec,
)
from services.tts.core.service import Speech
from services.tts.core.speaker import Speaker
from services.tts.process import launch_worker
from voicemesh.runtime.clock import SystemClock

PERCENTS = (0.0, 1.0, 3.0, 10.0)
FIRST_FRAME_MS = 30
RTF = 0.1
SLOTS = 16
UNKNOWN = 100


class NoLease:
    """Watches no lease."""

    def together(self, together: Together, others: Sequence[LeaseObserver]) -> None:
        """See `LeaseObserver`."""

    def end(self, lost: str = "", end: JobEnd | None = None) -> None:
        """See `LeaseObserver`."""


class Nobody:
    """Watches nothing."""

    traced = False

    def leased(self, replica: str, queue_us: int) -> None:
        """See `ChunkObserver`."""

    def first_frame(self, start: Start) -> None:
        """See `ChunkObserver`."""

    def lost(self, replica: str, reason: str) -> None:
        """See `ChunkObserver`."""

    def fell_back(self, voice: str, reason: str) -> None:
        """See `ChunkObserver`."""

    def hedged(self, replica: str) -> None:
        """See `ChunkObserver`."""

    def watch(self, speaker: Speaker, replica: str) -> "NoLease":  # noqa: ARG002 - as the protocol has it
        """See `ChunkObserver`."""
        return NoLease()

    def ended(self, event: FinishedEvent | FailedEvent, audio_ms: float) -> None:
        """See `ChunkObserver`."""


def observe(_order: ChunkOrder, _speaker: Speaker) -> ChunkObserver:
    """Make a watcher."""
    return Nobody()


async def one_turn(speech: Speech, text: str) -> float:
    """Speak a text; return the milliseconds until its first frame."""
    turn = speech.open_turn(observe)
    turn.configure("turn", "", AudioFormat(), 0)
    began_ns = time.monotonic_ns()
    turn.add(ChunkOrder(0, text))
    turn.half_close()
    took_ms = 0.0
    async for event in turn:
        if isinstance(event, FrameEvent) and not took_ms:
            took_ms = (time.monotonic_ns() - began_ns) / 1e6
        elif isinstance(event, FailedEvent):
            raise event.error
    return took_ms


async def run(percent: float, arguments: argparse.Namespace) -> tuple[list[float], PoolStats]:
    """Speak all turns; return their times to the first frame, and what the pool counted."""
    options = {
        "first_frame_ms": FIRST_FRAME_MS,
        "slow_rate": arguments.slow,
        "slow_first_frame_ms": arguments.slow_ms,
        "rtf": RTF,
        "slots": SLOTS,
    }
    voice = VoiceSpec("voice", "simulated", 2, "en", options)
    limits = Limits(hedge_percent=percent)
    speech = Speech([voice], "", launch_worker, SystemClock(), limits, lambda _: None)
    draw = random.Random(4)
    await speech.start()
    try:
        turns = []
        for number in range(arguments.turns):
            turns.append(
                asyncio.create_task(one_turn(speech, f"Sentence number {number} is what this one says."))
            )
            await asyncio.sleep(draw.expovariate(arguments.rate))
        took_ms = await asyncio.gather(*turns)
        # Losers acknowledge their end.
        while any(pool.active_leases for pool in speech.stats()):  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)
        return took_ms[UNKNOWN:], speech.stats()[0]
    finally:
        await speech.close()


async def main() -> None:
    """Run all, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=20.0, help="turns a second")
    parser.add_argument("--slow", type=float, default=0.02, help="share of slow first frames")
    parser.add_argument("--slow-ms", type=float, default=600.0)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if arguments.turns < 2 * UNKNOWN:
        parser.error(f"--turns: at least {2 * UNKNOWN} are needed")
    print("| budget | p50 ms | p95 ms | p99 ms | most ms | asked twice | second won | extra work |")
    print("|---|---|---|---|---|---|---|---|")
    for percent in PERCENTS:
        took_ms, stats = await run(percent, arguments)
        cuts = statistics.quantiles(took_ms, n=100, method="inclusive")
        extra = 100 * stats.hedge_us / stats.synthesis_us
        print(
            f"| {percent:g} % | {cuts[49]:.1f} | {cuts[94]:.1f} | {cuts[98]:.1f} | {max(took_ms):.1f} "
            f"| {stats.hedged_chunks} | {stats.hedges_won} | {extra:.2f} % |",
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(main())
