"""All that speaks: the pools, the names of voices, and the one timer."""

import asyncio
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from services.tts import resampling
from services.tts.core import catalog
from services.tts.core.batch import Batch
from services.tts.core.chunk import Observe
from services.tts.core.fallbacks import check_fallbacks
from services.tts.core.figures import Changes, OnBatches, PoolStats, unheard
from services.tts.core.hedging import Hedges
from services.tts.core.model import (
    AudioFormat,
    Launcher,
    Limits,
    ReplicaStartError,
    VoiceInfo,
    VoiceSpec,
)
from services.tts.core.pool import Pool
from services.tts.core.routes import Routes
from services.tts.core.speaker import Speaker
from services.tts.core.starting import DeviceMemory
from services.tts.core.turn import Turn, check_speed
from services.tts.core.voices import Voices
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import (
    DrainingError,
    InvalidFieldError,
    NoEngineError,
    SettingsError,
    UnknownVoiceError,
    VoiceNotReadyError,
)
from voicemesh.runtime.frames import SAMPLE_RATES_HZ
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)

_TICK_S: Final = 0.1
_NEAR: Final = 3


class Speech:
    """Every declared voice, with its pool.

    Args:
        voices: The declarations; their names differ.
        default_voice: What speaks where no voice is named; "" for the first declared.
        launch: Starts a replica.
        clock: See `Chunk`.
        limits: See `Limits`.
        on_health: Told whether every declared voice can be spoken, whenever that may have changed.
        device_memory_mb: What the voices of a device may take together, where that is limited.

    """

    def __init__(
        self,
        voices: Sequence[VoiceSpec],
        default_voice: str,
        launch: Launcher,
        clock: Clock,
        limits: Limits,
        on_health: Callable[[bool], None],
        device_memory_mb: Mapping[str, int] | None = None,
        source: str = "VOICEMESH_TTS_VOICES",
    ) -> None:
        self._voices = Voices(
            voices,
            lambda spec, place: Pool(
                spec, launch, clock, limits, self._health_changed, place, self._batches_ran
            ),
            limits.starting_replicas,
            DeviceMemory(device_memory_mb),
            clock,
            self._health_changed,
        )
        self._source = source
        self._default_voice = default_voice or voices[0].name
        self._clock = clock
        self._limits = limits
        self._on_health = on_health
        self._started = False
        self._draining = False
        self._closed = False
        self._timer: asyncio.Task[None] | None = None
        self.changes = Changes()
        self.on_batches: OnBatches = unheard
        self.hedges = Hedges(clock, limits.hedge_percent, self._arm_hedges)
        self._hedge_timer: asyncio.TimerHandle | None = None
        self._routes = Routes(self._voices, self.find, self.hedges)

    # ---- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the replicas, and wait until each that is preloaded is warm or failed.

        Raises:
            SettingsError: A declaration or the default voice is wrong.

        """
        self._check([voice.spec for voice in self._voices.declared.values()])
        self._timer = asyncio.get_running_loop().create_task(self._tick_forever())
        try:
            await self._voices.start()
        except ReplicaStartError as error:
            raise SettingsError(f"{self._source}: {error}") from None
        default = self._voices.declared[self._default_voice.split("/")[0]]
        if default.pool.replicas.capabilities is not None:
            try:
                self.find("")
            except UnknownVoiceError as error:
                raise SettingsError(f"VOICEMESH_TTS_DEFAULT_VOICE: {error}") from None
        try:
            self._routes.check()
        except SettingsError as error:
            raise SettingsError(f"{self._source}: {error}") from None
        self._started = True
        self._health_changed()

    def _check(self, specs: Sequence[VoiceSpec]) -> None:
        try:
            check_fallbacks(specs)
        except SettingsError as error:
            raise SettingsError(f"{self._source}: {error}") from None

    @property
    def healthy(self) -> bool:
        """Whether every declared voice can be spoken."""
        return self._started and self._voices.healthy

    def _health_changed(self) -> None:
        self._voices.health_changed()
        if self._started:
            self._on_health(self.healthy)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - without the timer no stall would be found
                _log.error("timer failed", exc_info=error)

    def _batches_ran(self, voice: str, sizes: Mapping[int, int]) -> None:
        self.on_batches(voice, sizes)

    def tick(self) -> None:
        """Look for replicas that stall or are due to be tried again, and for voices that have drained."""
        self._voices.tick()

    def change(self, voices: Sequence[VoiceSpec]) -> None:
        """Have these voices from now on, as `Voices.change` does it.

        Raises:
            SettingsError: The default voice is not among them, or a fallback is not; nothing has changed.

        """
        if self._draining:
            return
        name = self._default_voice.split("/")[0]
        if name not in {spec.name for spec in voices}:
            raise self.refuse(
                f"{name!r} is the default voice and cannot be removed: leave it declared, or name another in "
                "VOICEMESH_TTS_DEFAULT_VOICE and start again"
            )
        try:
            check_fallbacks(voices)
        except SettingsError as error:
            raise self.refuse(str(error)) from None
        self.changes.accepted += 1
        self.changes.refusal = ""
        self._voices.change(voices, self._objection)

    def refuse(self, reason: str) -> SettingsError:
        """Count a change that is refused as a whole; the voices go on as they are. Return the error."""
        self.changes.refused += 1
        self.changes.refusal = reason
        return SettingsError(reason)

    def _objection(self, coming: Pool) -> str:
        """Say why a new pool may not take the place of its voice's present one."""
        name, slash, variant = self._default_voice.lower().partition("/")
        capabilities = coming.replicas.capabilities
        if coming.spec.name != name or not slash or capabilities is None:
            return ""
        if any(variant == known.name or variant in known.aliases for known in capabilities.variants):
            return ""
        return f"it has no {variant!r}, which is the default voice"

    def _arm_hedges(self, due_ns: int) -> None:
        if self._hedge_timer is not None:
            self._hedge_timer.cancel()
        wait_s = max(0.001, (due_ns - self._clock.now_ns()) / 1e9)
        self._hedge_timer = asyncio.get_running_loop().call_later(wait_s, self.hedges.poll)

    def drain(self) -> None:
        """Have the voices that there are to the end. No call comes in any more; those that did go on."""
        self._draining = True

    async def close(self) -> None:
        """End every replica; returns when each process is gone."""
        self._draining = self._closed = True
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
        if self._hedge_timer is not None:
            self._hedge_timer.cancel()
        await self._voices.close()

    # ---- work ---------------------------------------------------------------------------------

    def open_turn(self, observe: Observe) -> Turn:
        """Begin a stream.

        Raises:
            DrainingError: The service has ended.

        """
        self._refuse_when_closed()
        return Turn(self._speaker, self._clock, self._limits, observe)

    def open_batch(
        self, texts: Sequence[str], voice: str, wanted: AudioFormat, speed: float, observe: Observe
    ) -> Batch:
        """Begin a batch.

        Raises:
            DrainingError: The service has ended.
            UnknownVoiceError: There is no such voice.
            InvalidFieldError: A field is wrong.

        """
        self._refuse_when_closed()
        checked = check_speed(speed, "speed")
        speaker = self._speaker(voice, wanted, "")
        return Batch(texts, speaker, checked, self._clock, self._limits, observe)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise DrainingError("the service is shutting down", retry_after_ms=0)

    # ---- voices -------------------------------------------------------------------------------

    def find(self, voice: str) -> tuple[Pool, str]:
        """Return the pool and the variant of a voice; letters' case does not matter.

        Raises:
            UnknownVoiceError: There is no such voice; the text names some that are near.
            VoiceNotReadyError: The voice is being loaded, so nobody knows its variants.
            NoEngineError: It cannot be loaded.

        """
        name, slash, wanted = (voice or self._default_voice).lower().partition("/")
        declared = self._voices.declared.get(name)
        if declared is None:
            raise self._unknown(voice)
        pool = declared.pool
        capabilities = pool.replicas.capabilities
        if capabilities is None and declared.fault:
            raise NoEngineError(f"the voice {name!r} cannot be loaded: {declared.fault}")
        if capabilities is None:
            raise VoiceNotReadyError(f"the voice {name!r} is being loaded", retry_after_ms=1000)
        if not slash:
            return pool, capabilities.default_variant
        for variant in capabilities.variants:
            if wanted == variant.name or wanted in variant.aliases:
                return pool, variant.name
        raise self._unknown(voice)

    def _unknown(self, voice: str) -> UnknownVoiceError:
        names = []
        for name, declared in self._voices.declared.items():
            capabilities = declared.pool.replicas.capabilities
            names.append(name)
            for variant in capabilities.variants if capabilities is not None else ():
                names += [f"{name}/{tag}" for tag in (variant.name, *variant.aliases)]
        near = difflib.get_close_matches((voice or self._default_voice).lower(), names, _NEAR, 0.5)
        hint = f"near it are {', '.join(near)}; " if near else ""
        return UnknownVoiceError(f"there is no voice {voice[:100]!r}; {hint}ListVoices has them all")

    def _speaker(self, voice: str, wanted: AudioFormat, message: str) -> Speaker:
        asked = voice or self._default_voice
        pool, variant, is_fallback = self._routes.first(asked)
        capabilities = pool.replicas.capabilities
        assert capabilities is not None
        own_hz = capabilities.sample_rate_hz
        _check_format(wanted, f"{message}.format".lstrip("."), pool.spec.name, own_hz)
        rate_hz = wanted.sample_rate_hz or own_hz
        return self._routes.speaker(asked, pool, variant, rate_hz, is_fallback=is_fallback)

    def voices(self, language: str = "", *, everything: bool = False) -> list[VoiceInfo]:
        """Return what can be asked for, by name: those of `language` or a narrower one, or all.

        With `everything` also what is being loaded, drains, or cannot be loaded.
        """
        return catalog.voices(
            self._voices, self._routes.first, self._default_name(), language, everything=everything
        )

    def _default_name(self) -> str:
        try:
            pool, variant = self.find("")
        except (NoEngineError, VoiceNotReadyError):
            return self._default_voice.split("/")[0]  # nobody knows its variants yet
        return f"{pool.spec.name}/{variant}" if "/" in self._default_voice else pool.spec.name

    def stats(self) -> list[PoolStats]:
        """Return the figures of every pool; see `Voices.stats`."""
        return self._voices.stats()


def _check_format(wanted: AudioFormat, path: str, voice: str, sample_rate_hz: int) -> None:
    if wanted.encoding not in ("", "UNSPECIFIED", "PCM_S16LE"):
        raise InvalidFieldError(
            f"{path}.encoding",
            f"{wanted.encoding} is not to be had here: this service speaks PCM_S16LE; the gateway encodes it",
        )
    if wanted.sample_rate_hz not in (0, sample_rate_hz, *SAMPLE_RATES_HZ):
        offered = ", ".join(map(str, sorted({*SAMPLE_RATES_HZ, sample_rate_hz})))
        raise InvalidFieldError(
            f"{path}.sample_rate_hz",
            f"{wanted.sample_rate_hz} is not to be had: the voice {voice!r} speaks at {offered} Hz; "
            f"0 asks for its own, {sample_rate_hz} Hz",
        )
    if wanted.sample_rate_hz not in (0, sample_rate_hz) and (package := resampling.missing()):
        raise InvalidFieldError(
            f"{path}.sample_rate_hz",
            f"{wanted.sample_rate_hz} is not to be had: the package {package} is not installed where the TTS "
            f"service runs (pip install 'voicemesh[server]'); 0 asks for the voice's own {sample_rate_hz} Hz",
        )
    if wanted.channels not in (0, 1):
        raise InvalidFieldError(
            f"{path}.channels", f"{wanted.channels} is not to be had: speech has 1 channel"
        )
