"""`voicemesh explain` and `voicemesh voices`: what the mesh knows."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

from voicemesh.cli.characters import printable
from voicemesh.cli.console import console_for, print_table, table_of
from voicemesh.cli.exits import DONE
from voicemesh.cli.failures import failure_of
from voicemesh.cli.pools import refusal, said_refused
from voicemesh.cli.speak import mesh_at
from voicemesh.cli.waterfall import show
from voicemesh.client import VoiceMesh, VoiceMeshError

T = TypeVar("T")


def run_explain(turn_id: str, addr: str, tenant: str, *, as_json: bool) -> int:
    """Print the account of a turn of a tenant; "" for the last one. Raises Failure."""
    report = asyncio.run(ask_mesh(addr, lambda mesh: mesh.explain(turn_id), tenant))
    if as_json:
        print(json.dumps(report.to_json()))
    else:
        show(console_for(), report, seen_by="gateway")
        if report.error is not None:
            print(f"failed: {report.error.reason}: {printable(report.error.message)}")
    return DONE


def run_voices(language: str, addr: str, tts_addr: str, *, as_json: bool) -> int:
    """Print what can speak.

    Args:
        language: Only this one; "" for all.
        addr: Where the mesh is.
        tts_addr: Where its TTS service is, which alone knows what became of the voices file; "" where
            that is not known.
        as_json: True to print one JSON object.

    Raises:
        Failure: The mesh cannot be asked.

    """
    voices = asyncio.run(ask_mesh(addr, lambda mesh: mesh.voices(language, include_not_ready=True)))
    if as_json:
        rows = [
            {
                "name": voice.name,
                "engine": voice.engine,
                "language": voice.language,
                "sample_rate_hz": voice.format.sample_rate_hz,
                "word_timings": voice.has_word_timings,
                "ready_replicas": voice.ready_replicas,
                "default": voice.is_default,
                "state": voice.state,
                "declared_replicas": voice.declared_replicas,
            }
            for voice in voices
        ]
        print(json.dumps({"voices": rows}))
        return DONE
    table = table_of("voice", "language", "engine", "state", "words", "rate", "warm", left=5)
    for voice in voices:
        table.add_row(
            voice.name + (" (default)" if voice.is_default else ""),
            voice.language,
            voice.engine,
            voice.state,
            "timed" if voice.has_word_timings else "-",
            f"{voice.format.sample_rate_hz} Hz" if voice.format.sample_rate_hz else "-",
            f"{voice.ready_replicas}/{voice.declared_replicas}"
            if voice.declared_replicas
            else str(voice.ready_replicas),
        )
    console = console_for()
    print_table(console, table)
    if not voices:
        console.print(f"no voice speaks {language!r}" if language else "no voice is there")
    if reason := asyncio.run(refusal(tts_addr)) if tts_addr else "":
        console.print(said_refused(reason), markup=False, soft_wrap=True)
    if any(voice.state == "failed" for voice in voices):
        console.print("`voicemesh voices --pools` says why a voice failed", markup=False)
    return DONE


async def ask_mesh(addr: str, call: Callable[[VoiceMesh], Awaitable[T]], tenant: str = "") -> T:
    """Return what one call of the mesh returns. Raises Failure."""
    async with mesh_at(addr, tenant) as mesh:
        try:
            await mesh.connect()
            return await call(mesh)
        except VoiceMeshError as error:
            raise failure_of(error, addr) from None
