"""The services that the gateway talks to: channels, what they can do, and whether they can."""

import asyncio
import contextlib
from functools import partial
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.breaker import Breaker
from gateway.cache_link import Patience
from gateway.core.budget import Answerer
from gateway.core.calibration import Calibration
from gateway.core.pace import Paces
from gateway.core.tokens import tiles_of
from gateway.moves import Moves
from gateway.settings import GatewaySettings
from gateway.stand_ins import StandIns
from voicemesh.cache.v1 import cache_pb2_grpc
from voicemesh.chunker.v1 import chunker_pb2_grpc
from voicemesh.common.v1 import common_pb2
from voicemesh.following import Moved, News
from voicemesh.llm.v1 import llm_pb2, llm_pb2_grpc
from voicemesh.rotating import RotatingChannel
from voicemesh.runtime.calls import CLIENT, CallMeter
from voicemesh.runtime.channels import Pings, open_channel
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import (
    NoEngineError,
    ServiceUnavailableError,
    UnknownVoiceError,
    VoiceNotReadyError,
)
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.metrics import Metrics
from voicemesh.runtime.retry_budget import Retries
from voicemesh.runtime.server import Readiness
from voicemesh.runtime.streams import Outbox
from voicemesh.runtime.tls import ProcessTls
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

_log = get_logger(__name__)
NEEDED: Final = ("llm", "chunker", "tts")
"""Without these no turn works; without the cache turns go on, degraded."""
_EOF: Final[Any] = grpc.aio.EOF  # type: ignore[attr-defined]  # not in the stubs
_RETRY_S: Final = 0.1
_MOVE_S: Final = 0.25
"""How long a service may be without a process that says that it serves before it is taken for lost."""
_STARTING_S: Final = 2.0
"""How long the first callers of a gateway wait for it to know what can speak."""
_LOOK_AROUND_S: Final = 1.0
"""How long one that does not serve is listened to before another one is asked."""
_NEAR: Final = 5
_NEVER_READY: Final = (common_pb2.VOICE_STATE_LOADING, common_pb2.VOICE_STATE_FAILED)
"""Of these only those can be asked for that have a revision: another voice speaks for them meanwhile."""


class Peers:
    """Channels and stubs of the four services.

    Attributes:
        voices: What is declared, by lower-case name; empty until the TTS service was asked.
        llm_ready: What the LLM service would answer with; empty until known.
        chunker_revision: Which chunker cuts; "" until one has.
        calibration: What estimates of tokens are multiplied by, as providers showed.
        lookups: What turns have for the cache, but for histories.
        histories: What they have for those.
        paces: How fast each voice speaks, as turns showed.
        stand_ins: Voices that another one speaks for at present.
        llm_moves: Tells when calls to the LLM service begin to go to other processes than before.
        calls: Measures the calls to the services.
        retries: Says which calls are made again, of another replica, and pays for them.

    """

    def __init__(
        self,
        settings: GatewaySettings,
        readiness: Readiness,
        clock: Clock,
        metrics: Metrics | None = None,
        tls: ProcessTls | None = None,
    ) -> None:
        self._readiness = readiness
        self._channels = {
            name: open_channel(
                address,
                max_message_bytes=settings.max_message_bytes,
                credentials=tls.peer(name) if tls is not None else None,
                watched=name not in settings.gateway_proxied,
                pings=Pings(settings.gateway_peer_ping_ms, settings.gateway_peer_ping_timeout_ms),
                lookup_s=settings.gateway_lookup_s,
                tell=partial(_tell, name),
            )
            for name, address in (
                ("llm", settings.llm_addr),
                ("chunker", settings.chunker_addr),
                ("tts", settings.tts_addr),
                ("cache", settings.cache_addr),
            )
        }
        self.llm = llm_pb2_grpc.LlmServiceStub(self._channels["llm"])
        self.chunker = chunker_pb2_grpc.ChunkerServiceStub(self._channels["chunker"])
        self.tts = tts_pb2_grpc.TtsServiceStub(self._channels["tts"])
        self.cache = cache_pb2_grpc.CacheServiceStub(self._channels["cache"])
        self.voices: dict[str, common_pb2.Voice] = {}
        self.llm_ready = llm_pb2.GenerateReady()
        self.chunker_revision = ""
        self.calibration = Calibration()
        self.lookups = Patience(
            settings.gateway_cache_timeout_ms / 1000,
            Breaker(
                clock,
                settings.gateway_cache_breaker_s,
                "cache",
                "VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS, VOICEMESH_GATEWAY_CACHE_BREAKER_S",
            ),
        )
        self.histories = Patience(
            max(settings.gateway_history_timeout_ms, settings.gateway_cache_timeout_ms) / 1000,
            Breaker(
                clock,
                settings.gateway_cache_breaker_s,
                "histories in the cache",
                "VOICEMESH_GATEWAY_HISTORY_TIMEOUT_MS, VOICEMESH_GATEWAY_CACHE_BREAKER_S",
            ),
        )
        self.paces = Paces()
        self.stand_ins = StandIns(clock)
        self.llm_moves = Moves(clock)
        if isinstance(channel := self._channels["llm"], RotatingChannel):
            channel.subscribe(self.llm_moves.moved)
        self.calls = CallMeter(metrics or Metrics.off(), CLIENT)
        self.retries = Retries(NEEDED, clock, turns=settings.gateway_max_turns)
        self._default_voice = ""
        self._told = asyncio.Event()
        self._voices_poll_s = settings.gateway_voices_poll_s
        self._serving = dict.fromkeys(self._channels, False)
        self._watchers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Watch the health of every service from now on."""
        self._watchers = [
            asyncio.get_running_loop().create_task(self._watch(name), name=f"watch {name}")
            for name in self._channels
        ]
        follow = self._follow_voices()
        self._watchers.append(asyncio.get_running_loop().create_task(follow, name="follow voices"))

    async def close(self) -> None:
        """End the watches and close the channels."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for channel in self._channels.values():
            await channel.close(grace=None)

    def voice(self, name: str, field: str) -> common_pb2.Voice:
        """Return the voice of that name; the default voice for "". `field` is where the caller named it.

        Raises:
            ServiceUnavailableError: The TTS service has not said yet what can speak.
            VoiceNotReadyError: The voice is being loaded.
            NoEngineError: The voice cannot be loaded.
            UnknownVoiceError: There is none; the text names some that there are.

        """
        if not self.voices:
            raise ServiceUnavailableError("the TTS service is not ready yet", retry_after_ms=1000)
        asked = (name or self._default_voice).lower()
        found = self.voices.get(asked)
        declared = self.voices.get(asked.partition("/")[0])
        if found is None and declared is not None and declared.state in _NEVER_READY:
            found = common_pb2.Voice()  # its variants are not known yet
            found.CopyFrom(declared)
            found.name = asked
        if found is not None and found.state in _NEVER_READY and not found.model_revision:
            if found.state == common_pb2.VOICE_STATE_LOADING:
                message = f"the voice {found.name!r} is being loaded"
                raise VoiceNotReadyError(message, field=field, retry_after_ms=1000)
            raise NoEngineError(f"the voice {found.name!r} cannot be loaded as it is declared", field=field)
        if found is None or found.state == common_pb2.VOICE_STATE_DRAINING:
            near = [voice for voice in self.voices if voice.split("/")[0] == name.lower().split("/")[0]]
            some = ", ".join((near or list(self.voices))[:_NEAR])
            raise UnknownVoiceError(
                f"there is no voice named {name[:80]!r}; ListVoices names them all, for example {some}",
                field=field,
            )
        return found

    def list_voices(self, language: str, *, include_not_ready: bool) -> list[common_pb2.Voice]:
        """Return the voices of a language or a narrower one, by name; all for ""."""
        wanted = language.lower()
        return [
            voice
            for _, voice in sorted(self.voices.items())
            if (include_not_ready or _can_be_asked_for(voice))
            and (
                not wanted
                or voice.language.lower() == wanted
                or voice.language.lower().startswith(f"{wanted}-")
            )
        ]

    async def _watch(self, name: str) -> None:
        """Follow one service's health for ever: that of one process of it, and when that goes, of another.

        The service is lost when no other one says in `_MOVE_S` that it serves.
        """
        stub = health_pb2_grpc.HealthStub(self._channels[name])
        loop = asyncio.get_running_loop()
        patience_s = _MOVE_S
        while True:
            began_s = loop.time()
            call = stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            try:
                await self._follow(name, call, patience_s)
            except grpc.aio.AioRpcError as error:
                _log.info("peer lost", peer=name, code=error.code().name)
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                # Not we: its channel made way for another, and what served a moment ago is likely to.
                patience_s = _LOOK_AROUND_S
                continue
            finally:
                call.cancel()
            patience_s = _MOVE_S
            # A peer that answers Watch with an error at once must not be asked in a tight loop.
            if loop.time() - began_s < _RETRY_S:
                await asyncio.sleep(_RETRY_S)

    async def _follow(self, name: str, call: Any, patience_s: float) -> None:
        """Take what one process says, until another one is to be asked; it may take `patience_s` to begin."""
        found = await self._next(name, call, patience_s)
        while found == health_pb2.HealthCheckResponse.SERVING:
            if not await self._heard(name, serving=True):
                return  # it says that it serves and does not answer: watch it anew
            found = await self._next(name, call, None)
            if found != health_pb2.HealthCheckResponse.SERVING:
                return  # it goes, or it is not well: another one may be
        await self._heard(name, serving=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AROUND_S):
                await call.read()

    async def _next(self, name: str, call: Any, within_s: float | None) -> int | None:
        """Return what a process says next; None where it ended. Late, the service is taken for lost."""
        reading = asyncio.ensure_future(call.read())
        try:
            done, _ = await asyncio.wait({reading}, timeout=within_s)
            if not done:
                await self._heard(name, serving=False)
            response = await reading
        finally:
            reading.cancel()
        return None if response is _EOF else int(response.status)

    async def _heard(self, name: str, *, serving: bool) -> bool:
        """Take what a service says of itself; return whether it is taken to serve."""
        if serving and not self._serving[name]:
            try:
                await self._learn(name)
            except grpc.aio.AioRpcError as error:
                _log.warning("peer does not answer", peer=name, code=error.code().name)
                serving = False
        if name == "chunker" and not serving:
            self.chunker_revision = ""  # another may come back
        self._serving[name] = serving
        missing = [needed for needed in NEEDED if not self._serving[needed]]
        reason = (
            f"waiting for {', '.join(missing)}" if missing else "every service that a turn needs is serving"
        )
        await self._readiness.set(not missing, reason)
        return serving

    async def _learn(self, name: str) -> None:
        """Ask a service that has just become ready what it can do."""
        if name == "tts":
            await self._learn_voices()
        elif name == "llm":
            silence = Outbox[llm_pb2.GenerateRequest](1)  # the LLM service introduces itself first
            call = self.llm.Generate(silence, timeout=5)
            try:
                async for response in call:
                    self.hear_llm(response.ready)
                    break
            finally:
                silence.abort()  # else gRPC's task that reads it outlives the call
                call.cancel()
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                    await call.code()
        elif name == "cache":
            self.lookups.breaker.succeeded()
            self.histories.breaker.succeeded()

    async def known(self, left_s: float | None) -> None:
        """Wait a moment for what can speak, where this gateway has just started and was never told.

        Callers that connect by address find a gateway before it is ready; `left_s` is what they have left.
        """
        if not self.voices:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STARTING_S if left_s is None else min(left_s, _STARTING_S)):
                    await self._told.wait()

    async def _learn_voices(self) -> None:
        request = tts_pb2.ListVoicesRequest(include_not_ready=True)
        listed = await self.tts.ListVoices(request, timeout=5)
        self.voices = {voice.name.lower(): self._known_of(voice) for voice in listed.voices}
        self._told.set()
        self._default_voice = next((v.name for v in listed.voices if v.is_default), self._default_voice)

    def _known_of(self, voice: common_pb2.Voice) -> common_pb2.Voice:
        """Return a voice as it was known where the process that was asked now has yet to load it.

        Another process may have it; where none has, who is asked to speak says so.
        """
        known = self.voices.get(voice.name.lower())
        loads = voice.state == common_pb2.VOICE_STATE_LOADING and not voice.model_revision
        return known if loads and known is not None and known.model_revision else voice

    async def _follow_voices(self) -> None:
        """Ask again and again what can speak: voices come, change and go while they serve."""
        while True:
            await asyncio.sleep(self._voices_poll_s)
            if self._serving["tts"]:
                # One that does not answer is found by its health.
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self._learn_voices()

    def hear_llm(self, ready: llm_pb2.GenerateReady) -> None:
        """Note what the LLM service would answer with."""
        self.llm_ready = ready

    def hear_chunker(self, revision: str) -> None:
        """Note which chunker cuts."""
        self.chunker_revision = revision

    @property
    def llm_revision(self) -> str:
        """What changes with every setting of the LLM service that changes replies; "" until known."""
        return self.llm_ready.revision

    @property
    def serving(self) -> dict[str, bool]:
        """Whether each service says that it serves, by its name."""
        return dict(self._serving)

    def answerer(self, model: str) -> Answerer:
        """Return who is expected to answer where a caller asks for `model`, "" for the default."""
        provider, model = self.llm_ready.provider, model or self.llm_ready.model
        return Answerer(provider, model, self.calibration.factor(provider, model), tiles_of(model))


def _can_be_asked_for(voice: common_pb2.Voice) -> bool:
    if voice.state in _NEVER_READY:
        return bool(voice.model_revision)
    return voice.state != common_pb2.VOICE_STATE_DRAINING


def _tell(peer: str, news: News) -> None:
    """Log what became of the name of a service."""
    match news:
        case Moved(addresses=now, before=before):
            _log.info(
                "peer addresses",
                peer=peer,
                name=news.name.host,
                addresses=len(now),
                new=sorted(now - before),
                gone=sorted(before - now),
            )
        case _:
            _log.warning("peer not looked up", peer=peer, name=news.name.host, why=news.why)
