"""All that speaks: the pools, the names of voices, and the one timer."""

import asyncio
import difflib
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Final

from services.tts import edges, resampling
from services.tts.core.batch import Batch
from services.tts.core.chunk import Observe, Speaker
from services.tts.core.model import (
    AudioFormat,
    Capabilities,
    Launcher,
    Limits,
    PoolStats,
    ReplicaStartError,
    Variant,
    VoiceInfo,
    VoiceSpec,
)
from services.tts.core.pool import Pool
from services.tts.core.turn import Turn, check_speed
from services.tts.pauses import PAUSES_MS
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import (
    DrainingError,
    InvalidFieldError,
    NoEngineError,
    SettingsError,
    UnknownVoiceError,
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

    """

    def __init__(
        self,
        voices: Sequence[VoiceSpec],
        default_voice: str,
        launch: Launcher,
        clock: Clock,
        limits: Limits,
        on_health: Callable[[bool], None],
    ) -> None:
        self._pools = {spec.name: Pool(spec, launch, clock, limits, self._health_changed) for spec in voices}
        self._default_voice = default_voice or voices[0].name
        self._clock = clock
        self._limits = limits
        self._on_health = on_health
        self._started = False
        self._draining = False
        self._timer: asyncio.Task[None] | None = None

    # ---- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all replicas at once, and wait until each is warm or failed.

        Raises:
            SettingsError: A declaration or the default voice is wrong.

        """
        self._timer = asyncio.get_running_loop().create_task(self._tick_forever())
        results = await asyncio.gather(
            *(pool.start() for pool in self._pools.values()), return_exceptions=True
        )
        for name, result in zip(self._pools, results, strict=True):
            if isinstance(result, ReplicaStartError):
                raise SettingsError(f"VOICEMESH_TTS_VOICES: voice {name!r}: {result}")
            if isinstance(result, BaseException):
                raise result
        if self._pools[self._default_voice.split("/")[0]].replicas.capabilities is not None:
            try:
                self.find("")
            except UnknownVoiceError as error:
                raise SettingsError(f"VOICEMESH_TTS_DEFAULT_VOICE: {error}") from None
        self._started = True
        self._health_changed()

    @property
    def healthy(self) -> bool:
        """Whether every declared voice can be spoken."""
        return self._started and all(pool.replicas.healthy for pool in self._pools.values())

    def _health_changed(self) -> None:
        if self._started:
            self._on_health(self.healthy)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - without the timer no stall would be found
                _log.error("timer failed", exc_info=error)

    def tick(self) -> None:
        """Look for replicas that stall or are due to be tried again."""
        for pool in self._pools.values():
            pool.tick()

    def drain(self) -> None:
        """Refuse new turns and batches; those that run go on."""
        self._draining = True

    async def close(self) -> None:
        """End every replica; returns when each process is gone."""
        self._draining = True
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))

    # ---- work ---------------------------------------------------------------------------------

    def open_turn(self, observe: Observe) -> Turn:
        """Begin a stream.

        Raises:
            DrainingError: The service is about to end.

        """
        self._refuse_when_draining()
        return Turn(self._speaker, self._clock, self._limits, observe)

    def open_batch(
        self, texts: Sequence[str], voice: str, wanted: AudioFormat, speed: float, observe: Observe
    ) -> Batch:
        """Begin a batch.

        Raises:
            DrainingError: The service is about to end.
            UnknownVoiceError: There is no such voice.
            InvalidFieldError: A field is wrong.

        """
        self._refuse_when_draining()
        checked = check_speed(speed, "speed")
        speaker = self._speaker(voice, wanted, "")
        return Batch(texts, speaker, checked, self._clock, self._limits, observe)

    def _refuse_when_draining(self) -> None:
        if self._draining:
            raise DrainingError("the service is shutting down", retry_after_ms=0)

    # ---- voices -------------------------------------------------------------------------------

    def find(self, voice: str) -> tuple[Pool, str]:
        """Return the pool and the variant of a voice; letters' case does not matter.

        Raises:
            UnknownVoiceError: There is no such voice; the text names some that are near.
            NoEngineError: The voice has not been ready yet, so nobody knows its variants.

        """
        name, slash, wanted = (voice or self._default_voice).lower().partition("/")
        pool = self._pools.get(name)
        if pool is None:
            raise self._unknown(voice)
        capabilities = pool.replicas.capabilities
        if capabilities is None:
            raise NoEngineError(f"the voice {name!r} is not ready yet", retry_after_ms=1000)
        if not slash:
            return pool, capabilities.default_variant
        for variant in capabilities.variants:
            if wanted == variant.name or wanted in variant.aliases:
                return pool, variant.name
        raise self._unknown(voice)

    def _unknown(self, voice: str) -> UnknownVoiceError:
        names = []
        for name, pool in self._pools.items():
            capabilities = pool.replicas.capabilities
            names.append(name)
            for variant in capabilities.variants if capabilities is not None else ():
                names += [f"{name}/{tag}" for tag in (variant.name, *variant.aliases)]
        near = difflib.get_close_matches((voice or self._default_voice).lower(), names, _NEAR, 0.5)
        hint = f"near it are {', '.join(near)}; " if near else ""
        return UnknownVoiceError(f"there is no voice {voice[:100]!r}; {hint}ListVoices has them all")

    def _speaker(self, voice: str, wanted: AudioFormat, message: str) -> Speaker:
        pool, variant = self.find(voice)
        capabilities = pool.replicas.capabilities
        assert capabilities is not None
        own_hz = capabilities.sample_rate_hz
        _check_format(wanted, f"{message}.format".lstrip("."), pool.spec.name, own_hz)
        return Speaker(
            name=f"{pool.spec.name}/{variant}" if variant else pool.spec.name,
            pool=pool,
            variant=variant,
            model_revision=_revision(pool.spec, capabilities, variant),
            sample_rate_hz=wanted.sample_rate_hz or own_hz,
        )

    def voices(self, language: str = "") -> list[VoiceInfo]:
        """Return what can be asked for, by name: those of `language` or a narrower one, or all."""
        listed = []
        default = self._default_name()
        for pool in self._pools.values():
            capabilities = pool.replicas.capabilities
            if capabilities is None:
                continue
            own = Variant("", capabilities.language, max_chars=capabilities.max_chars)
            for variant in (own, *capabilities.variants):
                name = f"{pool.spec.name}/{variant.name}" if variant.name else pool.spec.name
                listed.append(
                    VoiceInfo(
                        name=name,
                        engine=pool.spec.engine,
                        language=variant.language,
                        model_revision=_revision(
                            pool.spec, capabilities, variant.name or capabilities.default_variant
                        ),
                        sample_rate_hz=capabilities.sample_rate_hz,
                        has_word_timings=capabilities.word_timings,
                        ready_replicas=pool.snapshot().ready_replicas,
                        is_default=name == default,
                        max_chars=variant.max_chars,
                    )
                )
        wanted = language.lower().replace("_", "-")
        return sorted(
            (
                voice
                for voice in listed
                if f"{voice.language.lower()}-".startswith(f"{wanted}-" if wanted else "")
            ),
            key=lambda voice: voice.name,
        )

    def _default_name(self) -> str:
        try:
            pool, variant = self.find("")
        except NoEngineError:
            return ""
        return f"{pool.spec.name}/{variant}" if "/" in self._default_voice else pool.spec.name

    def stats(self) -> list[PoolStats]:
        """Return the figures of every declared voice."""
        return [pool.snapshot() for pool in self._pools.values()]


def _revision(spec: VoiceSpec, capabilities: Capabilities, variant: str) -> str:
    """Return the revision of a variant: another one whenever the same text would sound different."""
    joins = [
        edges.RENDERING,
        resampling.RENDERING,
        spec.trim_silence,
        sorted({**PAUSES_MS, **spec.pauses_ms}.items()),
    ]
    facts = json.dumps([spec.engine, capabilities.revision, variant, joins])
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()


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
