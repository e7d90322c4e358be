"""The process of one replica: `python -m services.tts.worker FD`, a socket inherited as FD.

    main thread     reads commands; ends the process when the socket ends
    slot threads    run the engine, one request each, at most `Capabilities.slots`
    heartbeat       tells once a second that the process runs, and its memory (`services.tts.heartbeat`)

A command reaches a running native call through its request: the engine's next `write` returns
False. Nothing here imports gRPC, pydantic or numpy: a worker with espeak-ng holds about 20 MB.
See `services.tts.wire` for the bytes.
"""

import contextlib
import ctypes
import os
import queue
import signal
import socket
import sys
import threading
from typing import Any, Final

from services.tts import heartbeat, wire
from services.tts.engines.base import CannotSpeakError, Engine, OptionsError, SteppedEngine
from services.tts.requests import Request, Voice
from services.tts.wire import SpeakRequest

_READ_BYTES: Final = 65536
_PR_SET_PDEATHSIG: Final = 1


class Worker:
    """Serves one socket with one engine."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._requests: dict[int, Request] = {}
        self._work: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._threads = 0
        self._engine: Engine | None = None
        self._voice: Voice | None = None

    def run(self) -> None:
        """Serve until the socket ends."""
        heartbeat.start(self.send, self._figures)
        parser = wire.Parser()
        while data := self._connection.recv(_READ_BYTES):
            for kind, request_id, payload in parser.feed(data):
                self._command(kind, request_id, payload)

    def _command(self, kind: int, request_id: int, payload: bytes) -> None:
        if kind == wire.SPEAK:
            assert self._voice is not None
            speak = SpeakRequest(**wire.parse_json(payload))
            request = Request(self.send, request_id, speak, self._voice)
            self._requests[request_id] = request
            if self._threads < min(self._voice.capabilities.slots, len(self._requests)):
                self._threads += 1
                threading.Thread(target=self._speak_forever, daemon=True).start()
            self._work.put(request)
        elif kind == wire.LOAD:
            self._load(wire.parse_json(payload))
        elif (known := self._requests.get(request_id)) is not None:
            if kind == wire.CANCEL:
                known.cancel()
            elif kind == wire.CREDIT:
                known.add_credit(wire.parse_credit(payload))

    def _load(self, declaration: dict[str, Any]) -> None:
        try:
            engine = load_engine(declaration["engine"], declaration["language"], declaration["options"])
            assert isinstance(engine, Engine), "nothing here drives an engine that speaks in steps"
            self._engine = engine
        except OptionsError as error:
            self.send(wire.failed_message(0, wire.FAILED_OPTIONS, str(error)))
        except Exception as error:  # noqa: BLE001 - the service is told
            self.send(wire.failed_message(0, wire.FAILED_ENGINE, f"{type(error).__name__}: {error}"))
        else:
            self._voice = Voice.declared(self._engine.capabilities, declaration.get("joins", {}))
            self.send(wire.json_message(wire.READY, 0, self._engine.capabilities.to_json()))

    def _figures(self) -> dict[str, Any]:
        """Return what heartbeats tell beside memory; called in a thread of its own."""
        return {}

    def _speak_forever(self) -> None:
        while True:
            request = self._work.get()
            assert self._engine is not None
            try:
                end = request.run(self._engine)
            except CannotSpeakError as error:
                end = wire.failed_message(request.id, wire.FAILED_TEXT, str(error))
            except Exception as error:  # noqa: BLE001 - the service is told
                end = wire.failed_message(request.id, wire.FAILED_ENGINE, f"{type(error).__name__}: {error}")
            # Out of the table before the end is told: the service may give the slot away at once.
            self._requests.pop(request.id, None)
            self.send(end)

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
    # Imported here: a worker holds one engine, and none pays for another.
    if name == "espeak":
        from services.tts.engines.espeak import EspeakEngine  # noqa: PLC0415 - see above

        return EspeakEngine(language, options)
    if name == "simulated":
        from services.tts.engines.simulated import SimulatedEngine  # noqa: PLC0415 - see above

        return SimulatedEngine(language, options)
    if name == "coqui":
        from services.tts.engines import coqui  # noqa: PLC0415 - see above

        return coqui.load(language, options)
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
