"""The TTS service as `run()` hosts it."""

import asyncio
from pathlib import Path

import grpc

from services.tts.core.service import Speech
from services.tts.metrics import TtsMetrics
from services.tts.process import launch_worker
from services.tts.servicer import TtsServicer
from services.tts.settings import TtsSettings, VoiceDeclaration
from services.tts.voices_file import VoicesFile
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.server import Hosted, Runtime
from voicemesh.tts.v1 import tts_pb2_grpc


class HostedTts(Hosted):
    """Pools of worker processes behind the contract's service."""

    def __init__(self, settings: TtsSettings, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = settings
        self._saying: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._file = VoicesFile(Path(settings.tts_voices_file)) if settings.tts_voices_file else None
        self._source = self._file.source if self._file is not None else "VOICEMESH_TTS_VOICES"
        voices = settings.tts_voices
        if self._file is not None:
            voices = self._file.read()
            settings.check_voices(voices, self._file.source)
        self._speech = Speech(
            settings.specs(voices),
            settings.tts_default_voice,
            launch_worker,
            runtime.clock,
            settings.limits(),
            self._say_health,
            settings.tts_device_memory_mb,
            self._source,
        )

    def register(self, server: grpc.aio.Server) -> None:
        """See `Hosted`."""
        metrics = TtsMetrics(self._runtime.metrics, self._speech)
        servicer = TtsServicer(self._speech, self._runtime.telemetry, self._runtime.sessions, metrics)
        tts_pb2_grpc.add_TtsServiceServicer_to_server(servicer, server)

    async def start(self) -> None:
        """Start and warm every replica."""
        await self._speech.start()
        if self._file is not None:
            watch = self._file.watch(self._change, self._speech.refuse)
            self._watching = asyncio.get_running_loop().create_task(watch, name="voices file")

    def _change(self, voices: tuple[VoiceDeclaration, ...]) -> None:
        """Have these voices from now on. Raises `SettingsError` where they cannot be."""
        try:
            self._settings.check_voices(voices, self._source)
        except SettingsError as error:
            raise self._speech.refuse(str(error)) from None
        self._speech.change(self._settings.specs(voices))

    async def drain(self) -> None:
        """Change no voices any more; streams that were opened go on."""
        self._speech.drain()

    async def close(self) -> None:
        """End every worker."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._speech.close()
        await asyncio.gather(*self._saying)

    def _say_health(self, healthy: bool) -> None:
        reason = "every declared voice can speak" if healthy else "a declared voice has no replica"
        task = asyncio.get_running_loop().create_task(self._runtime.readiness.set(healthy, reason))
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)
