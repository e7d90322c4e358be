"""voicemesh as a runner of the harness: copied there as `peerbench/runners/gateway_runner.py`.

The mesh runs as a person runs it: `voicemesh up`, five processes on free ports, its LLM service at the
harness's LLM server, the harness's voice in a worker process of its TTS service. A session is a
conversation of the Python client whose stream is open before the clock starts. Nothing is paced, and no
cache is asked: the same reply comes many times here.

Beside the harness's figures it leaves an account of each turn (chunks, reasons, stages) and the CPU time
of each process, as lines of JSON in the file that `VOICEMESH_PEER_NOTES` names.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import resource
import sys
import tempfile
import time
from typing import Any

import psutil
from peerbench.runner import Runner, Session, TurnRecorder

# The checkout that is measured, whatever else is installed.
CHECKOUT = os.environ["VOICEMESH_PEER_CHECKOUT"]
sys.path.insert(0, CHECKOUT)

from voicemesh.client import Chunk, Frame, SpeechOptions, TextDelta, TurnReport, VoiceMesh  # noqa: E402 - as above

SPEECH = SpeechOptions(cache=False, max_lead_ms=0)


class GatewayRunner(Runner):  # type: ignore[misc]  # the harness is not there when types are checked
    """Starts the mesh, opens conversations with it, and stops it."""

    async def setup(self) -> None:
        """Start the mesh and connect."""
        self._folder = tempfile.TemporaryDirectory(prefix="voicemesh-peer-")
        calls = pathlib.Path(self._folder.name) / "calls.jsonl"
        calls.touch()
        self.calls = EngineCalls(calls)
        self.notes = Notes(os.environ.get("VOICEMESH_PEER_NOTES", ""))
        self._meter: Meter | None = None
        self._up = await start_mesh(self.llm_url, self.engine.mode, calls)
        ready = json.loads(await _stdout(self._up).readline())
        self._services: dict[str, int] = ready["pids"]
        self._mesh = VoiceMesh(ready["addresses"]["gateway"])
        await self._mesh.__aenter__()
        await self._mesh.connect()

    def pids(self) -> list[int]:
        """Every process of the mesh: five services and the workers. Called when a level begins."""
        self._meter = Meter(processes(self._services))
        return self._meter.pids

    async def open_session(self) -> "GatewaySession":
        """Open a conversation and its stream."""
        conversation = self._mesh.converse(speech=SPEECH, reply_cache=False)
        await conversation.__aenter__()
        return GatewaySession(self, conversation)

    def session_closed(self) -> None:
        """Take the time when the first session of a level is closed."""
        meter, self._meter = self._meter, None
        if meter is not None:
            self.notes.add(meter.used())

    async def close(self) -> None:
        """Stop the mesh."""
        await self._mesh.__aexit__(None, None, None)
        with contextlib.suppress(ProcessLookupError):
            self._up.terminate()
        await self._up.wait()
        self._folder.cleanup()

    def versions(self) -> dict[str, str]:
        """Return what ran."""
        import grpc  # noqa: PLC0415 - for its version alone

        return {"grpcio": grpc.__version__, "python": sys.version.split()[0]}


class GatewaySession(Session):  # type: ignore[misc]  # as above
    """One conversation."""

    def __init__(self, runner: GatewayRunner, conversation: Any) -> None:
        self._runner = runner
        self._conversation = conversation

    async def turn(self, rec: TurnRecorder) -> None:
        """Ask, and report text and frames as they come."""
        chunks: list[Chunk] = []
        first_frame_s: dict[int, float] = {}
        turn = await self._conversation.ask(rec.prompt)
        async for event in turn:
            if isinstance(event, Frame):
                rec.audio(len(event.audio))
                first_frame_s.setdefault(event.chunk_index, time.monotonic())
            elif isinstance(event, TextDelta):
                rec.token()
            elif isinstance(event, Chunk):
                chunks.append(event)
        assert turn.report is not None
        for chunk in chunks:
            call = self._runner.calls.take(chunk.text, rec.t_prompt, first_frame_s.get(chunk.index))
            if call is not None:
                rec.tts(*call)
        self._runner.notes.add(account(rec, chunks, turn.report))

    async def close(self) -> None:
        """End the conversation."""
        self._runner.session_closed()
        await self._conversation.aclose()


class EngineCalls:
    """What the engine noted, read as it grows; a call belongs to the turn that heard it."""

    def __init__(self, path: pathlib.Path) -> None:
        self._file = path.open(encoding="utf-8")
        self._calls: list[tuple[str, float, float, int]] = []

    def take(self, text: str, since_s: float, heard_s: float | None) -> tuple[str, float, float, int] | None:
        """Return the call behind a chunk.

        Turns that run at once may have the same text: of the calls that nobody took, the last one that ended
        before the chunk was heard is the best guess.
        """
        self._calls += [tuple(json.loads(line)) for line in self._file]
        if heard_s is None:
            return None
        mine = [call for call in self._calls if call[0] == text and since_s <= call[1] and call[2] <= heard_s]
        if not mine:
            return None
        call = max(mine, key=lambda each: each[2])
        self._calls.remove(call)
        return call


class Meter:
    """CPU time of each process from its construction on."""

    def __init__(self, named: dict[str, psutil.Process]) -> None:
        self._named = named
        self._before = self._times()

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [process.pid for process in self._named.values()]

    def _times(self) -> dict[str, float]:
        times = {}
        for name, process in self._named.items():
            used = process.cpu_times()
            times[name] = used.user + used.system
            if name.startswith("worker"):
                # The voice's own processes, which the harness counts apart for the other peers.
                times[f"{name} espeak"] = used.children_user + used.children_system
        own = resource.getrusage(resource.RUSAGE_SELF)
        times["caller"] = own.ru_utime + own.ru_stime
        return times

    def used(self) -> dict[str, Any]:
        """Return seconds by process."""
        return {"cpu_s": {name: now - self._before[name] for name, now in self._times().items()}}


class Notes:
    """A file of JSON lines, or none."""

    def __init__(self, path: str) -> None:
        self._path = pathlib.Path(path) if path else None

    def add(self, note: dict[str, Any]) -> None:
        """Add a line."""
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(note) + "\n")


def account(rec: TurnRecorder, chunks: list[Chunk], report: TurnReport) -> dict[str, Any]:
    """Return the account of one turn; chunks say where in the reply they stand."""
    return {
        "turn": rec.turn_id,
        "case": rec.case,
        "offsets": [[chunk.text_offset, chunk.text_length] for chunk in chunks],
        "hops": {hop: round(value, 3) for hop, value in report.hops.items()},
        "report": report.to_json(),
    }


def processes(services: dict[str, int]) -> dict[str, psutil.Process]:
    """Return each service's process and its workers, by name."""
    named: dict[str, psutil.Process] = {}
    for name, pid in services.items():
        named[name] = psutil.Process(pid)
        for number, child in enumerate(named[name].children()):
            named[f"worker {number}"] = child
    return named


async def start_mesh(llm_url: str, mode: str, calls: pathlib.Path) -> asyncio.subprocess.Process:
    """Run `voicemesh up` with the harness's LLM server and voice."""
    voice = {
        "name": "harness",
        "engine": "benchmarks.peers.engine:HarnessEngine",
        "language": "en",
        "options": {"mode": mode, "calls": str(calls)},
    }
    harness = str(pathlib.Path(sys.modules["peerbench"].__path__[0]).parent)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (CHECKOUT, harness, os.environ.get("PYTHONPATH")))),
        "OPENAI_BASE_URL": llm_url,
        "OPENAI_API_KEY": "none",
        "VOICEMESH_LLM_MODEL": "bench",
        "VOICEMESH_TTS_VOICES": json.dumps([voice]),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "voicemesh.cli",
        "up",
        "--free-ports",
        "--json",
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )


def _stdout(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    assert process.stdout is not None
    return process.stdout
