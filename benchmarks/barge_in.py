"""How fast an interrupt takes effect, and what a confirmed draft saves.

    .venv/bin/python -m benchmarks.barge_in [--interrupts 300] [--drafts 40]

Interrupts: turns are asked in rounds of 1 and of 10 at once; each round is interrupted a random moment
behind its first frames, all turns together. Measured at the caller, from before it writes `interrupt`: to
the last frame that it receives of the turn (0 where none came any more), to the turn's end, and until the
TTS service's pool has no lease out and nothing queued, as often as it can be asked. The LLM is the
rehearsal model, the engine the simulated one (50 ms to its first frame, five times as fast as speech).

Drafts: the same prompts asked plainly, and as a draft that is confirmed 300 ms later; TTFA as the caller
saw it, from the prompt or the confirmation.
"""

import argparse
import asyncio
import json
import random
import time
from typing import Any

import grpc

from benchmarks.meshes import HEADER, row, running_mesh
from voicemesh.client import SpeechOptions, VoiceMesh
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from voicemesh.tts.v1 import tts_pb2
from voicemesh.tts.v1.tts_pb2_grpc import TtsServiceStub

VOICE = {"first_frame_ms": 50, "rtf": 0.2, "slots": 64}
VOICES = json.dumps([{"name": "simulated", "engine": "simulated", "replicas": 1, "options": VOICE}])
CONFIGURE = pb.Configure(
    speech=pb.SpeechOptions(bypass_audio_cache=True, max_lead_ms=0), bypass_reply_cache=True
)
LONGEST_S = 0.8
CONFIRMED_AFTER_S = 0.3


class Caller:
    """One conversation, message by message; notes when frames and ends arrive."""

    def __init__(self, stub: Any) -> None:
        self._call = stub.Converse()
        self._reader = asyncio.create_task(self._read())
        self.speaks = asyncio.Event()
        self.ended = asyncio.Event()
        self.last_frame_s = 0.0
        self.ended_s = 0.0

    async def _read(self) -> None:
        async for response in self._call:
            kind = response.WhichOneof("event")
            if kind == "frame":
                self.last_frame_s = time.monotonic()
                self.speaks.set()
            elif kind in ("turn_completed", "turn_failed"):
                self.ended_s = time.monotonic()
                self.ended.set()

    async def configure(self) -> None:
        """Say how it is to be spoken."""
        await self._call.write(pb.ConverseRequest(configure=CONFIGURE))

    async def ask(self, text: str) -> None:
        """Begin a turn, and wait for its first frame."""
        self.speaks.clear()
        self.ended.clear()
        prompt = pb.Prompt(parts=[common_pb2.ContentPart(text=text)])
        await self._call.write(pb.ConverseRequest(prompt=prompt))
        await self.speaks.wait()

    async def interrupt(self) -> tuple[float, float] | None:
        """Return milliseconds to the last frame and to the end; None where the turn had ended already."""
        if self.ended.is_set():
            return None
        began_s = time.monotonic()
        await self._call.write(pb.ConverseRequest(interrupt=pb.Interrupt(played_ms=100)))
        await self.ended.wait()
        return max(0.0, self.last_frame_s - began_s) * 1000, (self.ended_s - began_s) * 1000

    async def close(self) -> None:
        """End the call."""
        await self._call.done_writing()
        await self._reader


async def until_idle(tts: Any, began_s: float) -> float:
    """Return milliseconds from `began_s` until the pool is idle."""
    while True:
        stats = await tts.GetPoolStats(tts_pb2.GetPoolStatsRequest())
        if not sum(pool.active_leases + pool.queued_chunks for pool in stats.pools):
            return (time.monotonic() - began_s) * 1000


async def interrupts(gateway: str, tts_address: str, at_once: int, count: int) -> None:
    draw = random.Random(at_once)
    frames: list[float] = []
    ends: list[float] = []
    idle: list[float] = []
    async with (
        grpc.aio.insecure_channel(gateway) as channel,
        grpc.aio.insecure_channel(tts_address) as tts_channel,
    ):
        tts = TtsServiceStub(tts_channel)
        callers = [Caller(GatewayServiceStub(channel)) for _ in range(at_once)]
        await asyncio.gather(*(caller.configure() for caller in callers))
        while len(ends) < count:
            prompts = [f"Why do harbours number {draw.random()} silt up?" for _ in callers]
            await asyncio.gather(*(one.ask(text) for one, text in zip(callers, prompts, strict=True)))
            await asyncio.sleep(draw.uniform(0, LONGEST_S))
            asking = asyncio.create_task(until_idle(tts, time.monotonic()))
            done = await asyncio.gather(*(caller.interrupt() for caller in callers))
            idle.append(await asking)
            frames += [one[0] for one in done if one is not None]
            ends += [one[1] for one in done if one is not None]
        await asyncio.gather(*(caller.close() for caller in callers))
    print(row(f"to the last frame, {at_once} at once, {len(frames)}", frames))
    print(row("  to the turn's end", ends))
    print(row("  to an idle pool", idle))


async def drafts(gateway: str, count: int) -> None:
    plain: list[float] = []
    drafted: list[float] = []
    speech = SpeechOptions(cache=False)
    async with VoiceMesh(gateway) as mesh, mesh.converse(speech=speech, reply_cache=False) as conversation:
        for number in range(count):
            prompt = f"Why do harbours number {number} silt up?"
            turn = await conversation.ask(prompt)
            plain.append(await ttfa_ms(conversation, turn))
            turn = await conversation.draft(prompt)
            await asyncio.sleep(CONFIRMED_AFTER_S)
            await conversation.confirm()
            drafted.append(await ttfa_ms(conversation, turn))
    print(row("TTFA of a prompt", plain))
    print(row("TTFA of a draft confirmed at 300 ms", drafted))


async def ttfa_ms(conversation: Any, turn: Any) -> float:
    """Return a turn's time to first audio; it is interrupted behind that."""
    async for event in turn:
        if type(event).__name__ == "Frame":
            await conversation.interrupt()
    return float(turn.report.ttfa_ms)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--interrupts", type=int, default=300)
    parser.add_argument("--drafts", type=int, default=40)
    given = parser.parse_args()
    with running_mesh(VOICEMESH_TTS_VOICES=VOICES) as mesh:
        mesh.bench("--turns", "10", "--no-cache")
        print(HEADER)
        for at_once in (1, 10):
            asyncio.run(interrupts(mesh.address, mesh.addresses["tts"], at_once, given.interrupts))
        asyncio.run(drafts(mesh.address, given.drafts))


if __name__ == "__main__":
    main()
