"""A replica in a process of its own: starts `services.tts.worker` and speaks with it over a socket.

Nothing is ever waited for here while audio comes: the loop reads the socket, and each message goes
straight to the listener.
"""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Final, cast

from services.tts import wire
from services.tts.core.model import Capabilities, ReplicaListener, ReplicaStartError, SpeakRequest, VoiceSpec
from voicemesh.secret_variables import environment_of_worker

_ROOT: Final = str(Path(__file__).resolve().parents[2])
_EXIT_TIMEOUT_S: Final = 1.0


class WorkerReplica(asyncio.Protocol):
    """One worker process, as the pool sees it (`services.tts.core.model.Replica`)."""

    def __init__(self, listener: ReplicaListener) -> None:
        self.pid = 0
        self.capabilities = Capabilities(0, 0, word_timings=False, deterministic=False, revision="")
        self._listener: ReplicaListener | None = listener
        self._parser = wire.Parser()
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._ready: asyncio.Future[Capabilities] = asyncio.get_running_loop().create_future()

    async def launch(self, spec: VoiceSpec) -> None:
        """Start the process and wait until its engine is loaded.

        Raises:
            ReplicaStartError: It does not start. No process is left; after a cancellation neither.

        """
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.tts.worker",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_environment(spec),
            )
        except OSError as error:
            ours.close()
            raise ReplicaStartError(f"no process can be started: {error}") from error
        except asyncio.CancelledError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)
            self._send(wire.json_message(wire.LOAD, 0, _declaration(spec)))
            self.capabilities = await self._ready
        except BaseException:
            self.kill()
            await asyncio.shield(self.close())
            raise

    # ---- what the pool asks for ---------------------------------------------------------------

    def speak(self, request_id: int, request: SpeakRequest) -> None:
        """See `Replica`."""
        self._send(wire.json_message(wire.SPEAK, request_id, request._asdict()))

    def cancel(self, request_id: int) -> None:
        """See `Replica`."""
        self._send(wire.message(wire.CANCEL, request_id))

    def grant(self, request_id: int, samples: int) -> None:
        """See `Replica`."""
        self._send(wire.credit_message(request_id, samples))

    def kill(self) -> None:
        """See `Replica`."""
        self._listener = None
        self._kill_process()
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """See `Replica`. The worker ends by itself when its socket does; one that does not is killed."""
        self._listener = None
        if self._transport is not None:
            self._transport.close()
        if self._process is None:
            return
        try:
            async with asyncio.timeout(_EXIT_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._kill_process()
            await self._process.wait()

    def _kill_process(self) -> None:
        # Not by `Process.kill`: before Python 3.13 it reaps a process that has just ended in front of
        # asyncio's watcher, which then complains of an unknown child (python/cpython#87744).
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _send(self, message: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(message)

    # ---- what the socket says -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            for kind, request_id, payload in self._parser.feed(data):
                self._message(kind, request_id, payload)
        except (wire.ProtocolError, ValueError, LookupError, TypeError, struct.error) as error:
            self._gone(f"it does not keep to the protocol: {error}")
            self.kill()

    def _message(self, kind: int, request_id: int, payload: bytes) -> None:
        listener = self._listener
        if listener is None:
            return
        if kind == wire.FRAME:
            listener.frame(request_id, *wire.parse_frame(payload))
        elif kind == wire.WORDS:
            listener.words(request_id, wire.parse_words(payload))
        elif kind == wire.DONE:
            listener.done(request_id, wire.parse_done(payload))
        elif kind == wire.FAILED:
            fault, text = wire.parse_failed(payload)
            if self._ready.done():
                listener.failed(request_id, text, fault)
            else:
                at_fault = fault is wire.Fault.OPTIONS
                self._ready.set_exception(ReplicaStartError(text, declaration_at_fault=at_fault))
        elif kind == wire.BATCH:
            listener.together(wire.parse_together(payload))
        elif kind == wire.HEARTBEAT:
            listener.heartbeat(wire.parse_heartbeat(payload))
        elif kind == wire.PROGRESS:
            listener.progress(wire.parse_progress(payload))
        elif kind == wire.READY:
            if not self._ready.done():  # its start may have been given up, and nobody has closed it yet
                self._ready.set_result(Capabilities.from_json(wire.parse_json(payload)))
        else:
            raise wire.ProtocolError(f"message kind {kind}")

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._gone("its process ended" if exc is None else f"its socket broke: {exc}")

    def _gone(self, reason: str) -> None:
        listener, self._listener = self._listener, None
        if not self._ready.done():
            if listener is not None:
                self._ready.set_exception(ReplicaStartError(reason))
        elif listener is not None:
            listener.lost(reason)


def _declaration(spec: VoiceSpec) -> dict[str, object]:
    return {
        "engine": spec.engine,
        "language": spec.language,
        "options": spec.options,
        "digests": dict(spec.digests),
        "require_digests": spec.require_digests,
        "replicas": spec.replicas,
        "joins": {
            "trim_silence": spec.trim_silence,
            "pauses_ms": dict(spec.pauses_ms),
            "loudness": spec.loudness,
            "gain_db": spec.gain_db,
        },
    }


def _environment(spec: VoiceSpec) -> dict[str, str]:
    """Return what the worker gets of this process's environment: no secret that its voice does not name.

    An engine runs native code over text of anybody: what it does not have, it cannot tell.
    """
    defaults = ("OPENAI_API_KEY",) if spec.engine == "openai" and "api_key_env" not in spec.options else ()
    fetching = ("HF_TOKEN",) if spec.engine == "coqui" else ()
    own = environment_of_worker(os.environ, [spec.options, defaults, fetching])
    return {**own, "PYTHONPATH": _python_path()}


def _python_path() -> str:
    """Return a module path on which the worker finds this package."""
    return os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))


async def launch_worker(spec: VoiceSpec, listener: ReplicaListener) -> WorkerReplica:
    """Start a worker process for `spec`; see `Launcher`."""
    replica = WorkerReplica(listener)
    await replica.launch(spec)
    return replica
