"""Replicas killed (SIGKILL) and stopped (SIGSTOP) under turns: what fails, what is heard, and when.

    .venv/bin/python -m benchmarks.faults [--repetitions 10] [--concurrency 40] [--json FILE]
        [--only tts,gateway]

Two of each process and of the gateway, a scripted model that writes the same to the same prompt, a simulated
voice with room for all, a Redis behind two caches. Callers listen as people do (paced), ask again when their
turn has ended, and know both gateways. One replica of one service is broken at a time, is away for two
seconds (a stopped one is killed then, as `voicemesh up` would), and is started again. A turn is *affected*
where it ran at the moment of the fault. Told for each service and signal:

- turns that failed, by reason; affected turns, and those of them that failed;
- turns whose audio is not, bit for bit, what a TTS service that nothing disturbs makes of the chunks that
  were told; turns whose text is not the model's;
- the longest time that a player of an affected turn had nothing to play;
- time to first audio, of turns that met no fault, and of those that began while a replica was away;
- of a gateway: from its death to the error, in turns that had audio, and to the other gateway's connection,
  in those that had none.

The targets: 0 failed turns and no wrong audio but with a gateway; the longest gap 250 ms where a replica was
killed and 1 s where it was stopped; a caller of a gateway knows within 1 s.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import pathlib
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.meshes import percentile
from benchmarks.soak.lab import References
from benchmarks.soak.load import answer, reply_to
from benchmarks.tts_endurance import service
from tests.support.mesh import Mesh, running_mesh_with
from tests.support.openai_server import OpenAiServer
from tests.support.redis_server import redis_server
from voicemesh.client import Chunk, Degraded, Frame, SpeechOptions, TextDelta, VoiceMesh, VoiceMeshError

SERVICES: Final = ("llm", "chunker", "tts", "cache", "gateway")
SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
THERE_S: Final = 2.0
AWAY_S: Final = 2.0
GUARD_S: Final = 60.0
VOICE: Final = "quick"
VOICES: Final = [
    {
        "name": VOICE,
        "engine": "simulated",
        "replicas": 1,
        "options": {"first_frame_ms": 50, "rtf": 0.02, "slots": 64},
    }
]


@dataclass(slots=True)
class Heard:
    """One turn, as its caller heard it. Times are of one clock, in seconds."""

    prompt: str
    began_s: float
    ended_s: float = 0.0
    first_s: float | None = None
    gap_s: float = 0.0
    asked_again_s: float | None = None
    text: str = ""
    said: dict[int, str] = field(default_factory=dict)
    audio: dict[int, bytearray] = field(default_factory=dict)
    error: VoiceMeshError | None = None
    degraded: tuple[str, ...] = ()


@dataclass(slots=True)
class Fault:
    """One fault that was made."""

    service: str
    kind: str
    at_s: float
    back_s: float = 0.0


class Callers:
    """So many at a time, each with one turn after another."""

    def __init__(self, mesh: VoiceMesh) -> None:
        self._mesh = mesh
        self._speech = SpeechOptions(voice=VOICE, policy="sentence", cache=False)
        self._asked = 0
        self.done: list[Heard] = []
        self.until = asyncio.Event()

    async def run(self, concurrency: int) -> None:
        """Ask until `until` is set."""
        async with asyncio.TaskGroup() as group:
            for caller in range(concurrency):
                group.create_task(self._caller(caller / concurrency))

    async def _caller(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)  # not all at once
        while not self.until.is_set():
            self._asked += 1
            heard = Heard(f"What is it, number {self._asked}?", time.monotonic())
            try:
                async with asyncio.timeout(GUARD_S):
                    await self._turn(heard)
            except VoiceMeshError as error:
                heard.error = error
            except TimeoutError:
                heard.error = VoiceMeshError("DEADLINE_EXCEEDED", "HUNG", f"no end in {GUARD_S:.0f} s")
            heard.ended_s = time.monotonic()
            self.done.append(heard)

    async def _turn(self, heard: Heard) -> None:
        plays_until_s, rate_hz = 0.0, 24_000
        turn = self._mesh.ask(heard.prompt, speech=self._speech, reply_cache=False)
        async for event in turn:
            now_s = time.monotonic()
            match event:
                case TextDelta():
                    heard.text += event.text
                case Chunk():
                    heard.said[event.index] = event.text
                case Degraded(what="gateway"):
                    heard.asked_again_s, heard.text = now_s, ""
                    heard.said.clear()
                case Frame():
                    if heard.first_s is None:
                        heard.first_s = plays_until_s = now_s
                    heard.gap_s = max(heard.gap_s, now_s - plays_until_s)
                    plays_until_s = max(plays_until_s, now_s) + len(event.audio) / 2 / rate_hz
                    heard.audio.setdefault(event.chunk_index, bytearray()).extend(event.audio)
                case _:
                    rate_hz = getattr(getattr(event, "format", None), "sample_rate_hz", rate_hz)
        if turn.report is not None:
            heard.degraded = turn.report.degraded


async def broken(mesh: Mesh, name: str, kind: str) -> Fault:
    """Break one replica at a time, turn about, and start it again."""
    fault = Fault(name.partition("-")[0], kind, time.monotonic())
    mesh.processes[name].process.send_signal(SIGNALS[kind])
    await asyncio.sleep(AWAY_S)
    await mesh.start(name)  # which ends what it was
    fault.back_s = time.monotonic()
    return fault


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[tuple[Mesh, References]]:
    """Run everything, and beside it the TTS service that speaks the references."""
    async with (
        OpenAiServer(default=answer) as provider,
        redis_server() as redis,
        service(VOICES) as (stub, _),
        running_mesh_with(
            {
                "VOICEMESH_LLM_PROVIDERS": json.dumps(
                    [{"name": "only", "base_url": provider.base_url, "model": "m"}]
                ),
                "VOICEMESH_TTS_VOICES": json.dumps(VOICES),
                "VOICEMESH_REDIS_URL": redis.url,
                "VOICEMESH_GATEWAY_MAX_TURNS": "200",
            },
            replicas=[f"{name}-b" for name in SERVICES],
        ) as mesh,
    ):
        yield mesh, References(stub)


async def wrong(heard: Heard, references: References) -> tuple[list[str], bool]:
    """Return what is wrong with the audio of a whole turn, in words, and whether its text is."""
    known = await references.of(VOICE, list(heard.said.values()))
    as_told = {index: known[text] for index, text in heard.said.items()}
    spoken = {index: bytes(audio) for index, audio in heard.audio.items()}
    return [
        f"{heard.prompt} degraded {heard.degraded}, chunk {index} of {sorted(as_told)}: "
        + difference(spoken.get(index, b""), as_told.get(index, b""))
        for index in sorted(spoken.keys() | as_told.keys())
        if spoken.get(index, b"") != as_told.get(index, b"")
    ], heard.text != reply_to(heard.prompt)


def difference(spoken: bytes, as_told: bytes) -> str:
    """Say how audio differs from what it should be."""
    pairs = enumerate(zip(spoken, as_told, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(spoken), len(as_told)))
    return f"{len(spoken)} bytes instead of {len(as_told)}, others from byte {at} on"


async def summary(faults: list[Fault], turns: list[Heard], references: References) -> dict[str, Any]:
    """Return what became of the turns of one sort of fault."""
    affected = [
        (turn, fault) for turn in turns for fault in faults if turn.began_s <= fault.at_s < turn.ended_s
    ]
    met = {id(turn) for turn, _ in affected}
    during = [turn for turn in turns if any(fault.at_s <= turn.began_s < fault.back_s for fault in faults)]
    calm = [turn for turn in turns if id(turn) not in met and turn not in during]
    whole = [turn for turn in turns if turn.error is None]
    judged = [await wrong(turn, references) for turn in whole]
    of_gateways = faults[0].service == "gateway"
    told = [
        turn.ended_s - _last_before(turn.ended_s, faults) for turn, _ in affected if turn.error is not None
    ]
    again = [
        turn.asked_again_s - _last_before(turn.asked_again_s, faults)
        for turn in turns
        if turn.asked_again_s is not None
    ]
    return {
        "service": faults[0].service,
        "signal": faults[0].kind,
        "faults": len(faults),
        "turns": len(turns),
        "failed": len(turns) - len(whole),
        "affected": len(affected),
        "affected_failed": sum(turn.error is not None for turn, _ in affected),
        "reasons": dict(collections.Counter(turn.error.reason for turn in turns if turn.error is not None)),
        "wrong_audio": sum(bool(audio) for audio, _ in judged),
        "wrong_audio_is": [said for audio, _ in judged for said in audio],
        "wrong_text": sum(text for _, text in judged),
        "longest_gap_ms": _most_ms([turn.gap_s for turn, _ in affected]),
        "gap_ms_of_calm": _most_ms([turn.gap_s for turn in calm]),
        "ttfa_ms_calm": _ttfa_ms(calm),
        "ttfa_ms_during": _ttfa_ms(during),
        "degraded": dict(collections.Counter(what for turn in turns for what in turn.degraded)),
        "error_after_ms": _most_ms(told) if of_gateways else None,
        "asked_again_after_ms": _most_ms(again) if of_gateways else None,
        "asked_again": len(again),
    }


def _last_before(at_s: float, faults: list[Fault]) -> float:
    """Return when the last fault was: a turn that outlived one may meet the next."""
    return max(fault.at_s for fault in faults if fault.at_s <= at_s)


def _most_ms(values_s: list[float]) -> float | None:
    return round(max(values_s) * 1000, 1) if values_s else None


def _ttfa_ms(turns: list[Heard]) -> dict[str, float]:
    values = [(turn.first_s - turn.began_s) * 1000 for turn in turns if turn.first_s is not None]
    return {f"p{percent}": round(percentile(values, percent), 1) for percent in (50, 95)} if values else {}


async def run(repetitions: int, concurrency: int, services: list[str]) -> dict[str, Any]:
    """Print the table; return the figures."""
    rows = []
    async with running() as (mesh, references):
        addresses = [mesh.address("gateway"), mesh.address("gateway-b")]
        for name in services:
            for kind in SIGNALS:
                async with VoiceMesh(addresses, stall_s=1.0) as client:
                    callers, faults = Callers(client), []
                    calling = asyncio.create_task(callers.run(concurrency))
                    await asyncio.sleep(THERE_S)
                    for number in range(repetitions):
                        # The client asks whichever gateway it did not lose last.
                        target = name if number % 2 == 0 else f"{name}-b"
                        faults.append(await broken(mesh, target, kind))
                        await asyncio.sleep(THERE_S)
                    callers.until.set()
                    await calling
                rows.append(await summary(faults, callers.done, references))
                print(line(rows[-1]), *rows[-1]["wrong_audio_is"], sep="\n  ", flush=True)
    cpus, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{repetitions} faults each under {concurrency} turns, on {cpus} CPUs, load {load:.1f}")
    return {"repetitions": repetitions, "concurrency": concurrency, "cpus": cpus, "load": load, "rows": rows}


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    calm, during = row["ttfa_ms_calm"], row["ttfa_ms_during"]
    text = (
        f"{row['signal']:<5}{row['service']:<8} {row['turns']:>5} turns, {row['affected']:>4} affected, "
        f"{row['failed']:>3} failed {row['reasons'] or ''} · {row['wrong_audio']} wrong audio, "
        f"{row['wrong_text']} wrong text · longest gap {row['longest_gap_ms']} ms "
        f"(calm {row['gap_ms_of_calm']}) · first audio p50/p95 {calm.get('p50')}/{calm.get('p95')} ms, "
        f"meanwhile {during.get('p50')}/{during.get('p95')} ms"
    )
    if row["service"] == "gateway":
        text += (
            f" · error after {row['error_after_ms']} ms at most, {row['asked_again']} asked again after "
            f"{row['asked_again_after_ms']} ms at most"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=40)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file")
    parser.add_argument("--only", default=",".join(SERVICES), help="services, parted by commas")
    given = parser.parse_args()
    found = asyncio.run(run(given.repetitions, given.concurrency, given.only.split(",")))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
