"""The TTS service as `run()` hosts it."""

import asyncio

import grpc

from services.tts.core.service import Speech
from services.tts.process import launch_worker
from services.tts.servicer import TtsServicer
from services.tts.settings import TtsSettings
from voicemesh.runtime.server import Hosted, Runtime
from voicemesh.tts.v1 import tts_pb2_grpc


class HostedTts(Hosted):
    """Pools of worker processes behind the contract's service."""

    def __init__(self, settings: TtsSettings, runtime: Runtime) -> None:
        self._runtime = runtime
        self._saying: set[asyncio.Task[None]] = set()
        self._speech = Speech(
            [voice.spec() for voice in settings.tts_voices],
            settings.tts_default_voice,
            launch_worker,
            runtime.clock,
            settings.limits(),
            self._say_health,
        )

    def register(self, server: grpc.aio.Server) -> None:
        """See `Hosted`."""
        servicer = TtsServicer(self._speech, self._runtime.telemetry, self._runtime.sessions)
        tts_pb2_grpc.add_TtsServiceServicer_to_server(servicer, server)

    async def start(self) -> None:
        """Start and warm every replica."""
        await self._speech.start()

    async def drain(self) -> None:
        """Refuse new turns."""
        self._speech.drain()

    async def close(self) -> None:
        """End every worker."""
        await self._speech.close()
        await asyncio.gather(*self._saying)

    def _say_health(self, healthy: bool) -> None:
        reason = "every declared voice can speak" if healthy else "a declared voice has no replica"
        task = asyncio.get_running_loop().create_task(self._runtime.readiness.set(healthy, reason))
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)
