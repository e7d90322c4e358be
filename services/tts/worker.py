"""The process of one replica: `python -m services.tts.worker FD`, a socket inherited as FD.

    main thread     reads commands; ends the process when the socket ends
    slot threads    run an `Engine`, one request each, at most `Capabilities.slots`
    engine thread   loads the engine, and runs a `SteppedEngine` for all requests (`services.tts.stepping`)
    heartbeat       tells once a second that the process runs, and its memory (`services.tts.heartbeat`)

A command reaches a running native call through its request: the engine's next `write` returns
False, or its next step is not taken. Nothing here imports gRPC, pydantic or numpy: a worker with
espeak-ng holds about 20 MB. See `services.tts.wire` for the bytes.
"""

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import sys
import threading
from typing import Any, Final

from services.tts import heartbeat, resampling, wire
from services.tts.delivery import Voice
from services.tts.engines.base import Engine, OptionsError, SteppedEngine
from services.tts.engines.cores import share_cores
from services.tts.engines.digests import check_digests
from services.tts.engines.loading import listen
from services.tts.requests import Threads
from services.tts.stepping import Stepping
from services.tts.wire import SpeakRequest

_READ_BYTES: Final = 65536
_PR_SET_PDEATHSIG: Final = 1


_ENGINES: Final = {
    "coqui": "services.tts.engines.coqui:load",
    "espeak": "services.tts.engines.espeak:EspeakEngine",
    "openai": "services.tts.engines.openai_speech:OpenAiSpeechEngine",
    "piper": "services.tts.engines.piper:PiperEngine",
    "simulated": "services.tts.engines.simulated:SimulatedEngine",
    "simulated-steps": "services.tts.engines.simulated_steps:SimulatedSteps",
}
"""What is called with language and options, by the name of the engine."""


class Worker:
    """Serves one socket with one engine."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._driver: Threads | Stepping | None = None

    def run(self) -> None:
        """Serve until the socket ends."""
        heartbeat.start(self.send, self._figures)
        parser = wire.Parser()
        while data := self._received():
            for kind, request_id, payload in parser.feed(data):
                self._command(kind, request_id, payload)

    def _received(self) -> bytes:
        """Wait for what comes; nothing once the service is gone."""
        try:
            return self._connection.recv(_READ_BYTES)
        except ConnectionResetError:  # it was killed, with messages of this process that it had not read
            return b""

    def _command(self, kind: int, request_id: int, payload: bytes) -> None:
        if kind == wire.LOAD:
            # Not here: the end of the socket ends the process while it loads, too.
            threading.Thread(target=self._load, args=(wire.parse_json(payload),), daemon=True).start()
        elif (driver := self._driver) is None:
            raise wire.ProtocolError(f"message kind {kind} came before READY")
        elif kind == wire.SPEAK:
            driver.speak(request_id, SpeakRequest(**wire.parse_json(payload)))
        elif kind == wire.CANCEL:
            driver.cancel(request_id)
        elif kind == wire.CREDIT:
            driver.add_credit(request_id, wire.parse_credit(payload))

    def _load(self, declaration: dict[str, Any]) -> None:
        """Load the engine; the thread of a stepped one is this one, from first to last."""
        listen(lambda what: self._progress(0, 0, what))
        share_cores(declaration.get("replicas", 1))
        try:
            check_digests(
                declaration["engine"],
                declaration["options"],
                declaration.get("digests", {}),
                required=declaration.get("require_digests", False),
            )
            engine = load_engine(declaration["engine"], declaration["language"], declaration["options"])
            resampling.prepare()
            voice = Voice.declared(engine.capabilities, declaration.get("joins", {}))
            if isinstance(engine, Engine):
                self._driver = Threads(engine, voice, self.send)
            else:
                self._driver = Stepping(engine, voice, self.send)
                self._driver.prepare(self._progress)
        except OptionsError as error:
            self.send(wire.failed_message(0, wire.Fault.OPTIONS, str(error)))
        except Exception as error:  # noqa: BLE001 - the service is told
            self.send(wire.failed_message(0, wire.Fault.ENGINE, f"{type(error).__name__}: {error}"))
        else:
            self.send(wire.json_message(wire.READY, 0, engine.capabilities.to_json()))
            if isinstance(self._driver, Stepping):
                self._driver.run()

    def _progress(self, done: int, total: int, what: str) -> None:
        self.send(wire.progress_message(wire.Progress(done, total, what)))

    def _figures(self) -> dict[str, Any]:
        """Return what heartbeats tell beside memory; called in a thread of its own."""
        return self._driver.figures() if isinstance(self._driver, Stepping) else {}

    def send(self, message: bytes) -> None:
        """Send a whole message. Where nobody reads any more, the process ends."""
        with self._sending:
            try:
                self._connection.sendall(message)
            except OSError:
                os._exit(0)


def load_engine(name: str, language: str, options: dict[str, Any]) -> Engine | SteppedEngine:
    """Load an engine by its name, or by its class as `package.module:Class`.

    Raises:
        OptionsError: The declaration is wrong.
        Exception: The engine cannot be loaded.

    """
    if name in _ENGINES:
        # Imported now: a worker holds one engine, and none pays for another.
        module_name, _, maker = _ENGINES[name].partition(":")
        made: Engine | SteppedEngine = getattr(importlib.import_module(module_name), maker)(language, options)
        return made
    if ":" in name:
        from services.tts.engines.imported import engine_class  # noqa: PLC0415 - see above

        return engine_class(name)(language, options)
    raise OptionsError(f"engine: there is no engine {name!r}")


def _die_with_parent() -> None:
    """Have the kernel end this process with its parent, even while it is stopped (Linux)."""
    parent = os.getppid()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended in between
        os._exit(0)


def main() -> None:
    """Serve the socket whose file descriptor is the first argument."""
    # Signals to the process group are for the service: it drains, and then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with_parent()
    Worker(socket.socket(fileno=int(sys.argv[1]))).run()
    # At once, also while a native call runs in another thread.
    os._exit(0)


if __name__ == "__main__":
    main()
