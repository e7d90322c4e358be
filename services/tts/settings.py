"""What the TTS service can be told."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from services.tts.core.fallbacks import check_fallbacks
from services.tts.core.model import BreakerSpec, Limits, VoiceSpec
from services.tts.loudness import TARGET_LUFS
from services.tts.pauses import MAX_PAUSE_MS, PAUSES_MS
from voicemesh.digests import DIGEST
from voicemesh.runtime.declarations import explain
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.settings import ListenAddress, MetricsAddress, ServerSettings

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BUILT_IN_ENGINES: Final = ("espeak", "coqui", "openai", "piper", "simulated", "simulated-steps")
_CLASS_PATH: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


class BreakerDeclaration(BaseModel):
    """When an engine is left alone: after many failures, which are also half of all ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """So many within the window."""
    window_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """The window, in seconds."""
    open_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Seconds until one chunk tries it again; twice as long each time that fails, up to 8 times."""


class VoiceDeclaration(BaseModel):
    """A voice and the engine behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """What callers ask for; variants of the engine are asked for as `name/variant`."""
    engine: str
    """`espeak`: speech in many languages. `coqui`: models of Coqui TTS. `openai`: OpenAI's speech API, and
    what speaks its protocol. `piper`: voices of Piper, from a file each. `simulated`: settable delays and
    troubles, for tests. `simulated-steps`: the same for engines that batch.
    `package.module:Class`: your own, a subclass of `services.tts.engines.base.Engine`."""
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    """Worker processes."""
    language: str = "en-us"
    """The language that speaks when no variant is named, as the engine calls it."""
    options: dict[str, Any] = {}
    """For the engine; see its module."""
    digests: Annotated[dict[str, str], Field(max_length=10_000)] = {}
    """Files of the model, by name within its folder (or whole path), with the `sha256:…` that each must have
    before anything is loaded: what `voicemesh digest PATH` prints."""
    trim_silence: bool = True
    """False: the engine's own silence around each chunk stays, and nothing is faded."""
    pauses_ms: dict[str, Annotated[float, Field(ge=0, le=MAX_PAUSE_MS)]] = {}
    """Silence behind a chunk by how its text ends, where it is to differ from `services.tts.pauses`."""
    loudness: Annotated[float, Field(ge=-40, le=-10)] | None = TARGET_LUFS
    """How loud it is made, in LUFS (ITU-R BS.1770), where its engine repeats itself; null: as it is.
    Simulated engines are left as they are unless this is set."""
    gain_db: Annotated[float, Field(ge=-24, le=24)] = 0.0
    """What is added to that, in dB; peaks are bent, never cut off."""

    device: Annotated[str, Field(min_length=1, max_length=64)] = "cpu"
    """Where its model lives, as VOICEMESH_TTS_DEVICE_MEMORY_MB names it: `cpu`, `cuda:0`."""
    memory_mb: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """What one replica takes of its device, in MB (2^20 bytes); needed where the device has a budget."""
    max_resident_mb: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """A replica whose process holds more MB is recycled: its successor first, then it ends. 0: none is."""
    max_device_mb: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """A replica that holds more MB of its device is recycled. 0: none is."""
    preload: bool = True
    """False: the service serves before this voice is loaded."""

    fallback: Annotated[tuple[str, ...], Field(max_length=8)] = ()
    """Other voices of this list that speak where this one cannot, in order; `name` or `name/variant`."""
    breaker: BreakerDeclaration = BreakerDeclaration()
    """When its engine is left alone."""
    hedge: bool = True
    """False: a late first chunk is not asked for a second time, of this voice or as a fallback."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be 1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit")
        return value

    @field_validator("engine")
    @classmethod
    def _check_engine(cls, value: str) -> str:
        if value not in _BUILT_IN_ENGINES and not _CLASS_PATH.fullmatch(value):
            raise ValueError(f"must be {', '.join(_BUILT_IN_ENGINES)}, or a class as package.module:Class")
        return value

    @field_validator("digests")
    @classmethod
    def _check_digests(cls, value: dict[str, str]) -> dict[str, str]:
        for name, digest in value.items():
            if not DIGEST.fullmatch(digest):
                raise ValueError(f"{name}: must be sha256: and 64 digits of 0-9, a-f")
        return value

    @field_validator("pauses_ms")
    @classmethod
    def _check_pauses(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(value.keys() - PAUSES_MS.keys()):
            raise ValueError(f"{unknown[0]!r} is no kind of pause; there are {', '.join(PAUSES_MS)}")
        return value

    def _is_evened(self) -> bool:
        return "loudness" in self.model_fields_set or not self.engine.startswith("simulated")

    def spec(self) -> VoiceSpec:
        """Return it as the core takes it."""
        return VoiceSpec(
            self.name,
            self.engine,
            self.replicas,
            self.language,
            dict(self.options),
            trim_silence=self.trim_silence,
            pauses_ms=dict(self.pauses_ms),
            loudness=self.loudness if self._is_evened() else None,
            gain_db=self.gain_db,
            device=self.device,
            memory_mb=self.memory_mb,
            max_resident_mb=self.max_resident_mb,
            max_device_mb=self.max_device_mb,
            preload=self.preload,
            fallback=tuple(name.lower() for name in self.fallback),
            breaker=BreakerSpec(self.breaker.failures, self.breaker.window_s, self.breaker.open_s),
            hedge=self.hedge,
            digests=dict(self.digests),
        )


def _named(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError as error:
        raise ValueError(explain(error, value, VoiceDeclaration, "voice")) from None


VOICES_TYPE = Annotated[
    tuple[VoiceDeclaration, ...], Field(min_length=1, max_length=64), WrapValidator(_named)
]
"""The declarations of a service: a list that names each voice once."""


class TtsSettings(ServerSettings):
    """Settings of the TTS service. Each field is the variable `VOICEMESH_<FIELD>`."""

    tts_listen: ListenAddress = "127.0.0.1:50053"
    """Where to listen."""
    tts_metrics_listen: MetricsAddress = ""
    """Where Prometheus scrapes this process; empty: nowhere. `voicemesh up` sets it."""
    tts_voices: VOICES_TYPE = (VoiceDeclaration(name="espeak", engine="espeak", replicas=2),)
    """What can speak: a JSON list of declarations."""
    tts_voices_file: str = ""
    """A JSON file with that list instead, which is watched: what changes in it is applied while serving."""
    tts_require_digests: bool = False
    """Refuse a voice of which a file has no digest in its declaration."""
    tts_default_voice: str = ""
    """What speaks when no voice is named; empty for the first declared."""
    tts_max_chunk_chars: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """Longest chunk, in characters."""
    tts_max_queued_chunks: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Chunks that may wait for a replica, for each declared voice."""
    tts_max_pending_chunks: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Chunks of one stream that may be asked for and not answered yet."""
    tts_chunks_ahead: Annotated[int, Field(ge=0, le=64)] = 2
    """Chunks of one stream that are spoken before those in front of them are answered."""
    tts_max_attempts: Annotated[int, Field(ge=0, le=10)] = 2
    """Further replicas for a chunk that lost one."""
    tts_stall_timeout_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    """A replica that owes audio and says nothing for so many seconds is replaced."""
    tts_heartbeat_timeout_s: Annotated[float, Field(ge=2, le=600)] = 5.0
    """A replica whose heartbeat, one a second, is missing for so many seconds is replaced."""
    tts_starting_replicas: Annotated[int, Field(ge=1, le=64)] = 2
    """Replicas that start at the same time, of all voices together."""
    tts_device_memory_mb: dict[str, Annotated[int, Field(ge=1, le=10_000_000)]] = Field(default_factory=dict)
    """MB (2^20 bytes) of a device that its voices may take together: a JSON object, device → MB."""
    tts_warmup_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 20.0
    """Seconds from the start of a replica, or its last progress, to the end of its first text."""
    tts_buffer_s: Annotated[float, Field(ge=1, le=600)] = 30.0
    """Seconds of audio that are held for one chunk of a slow listener."""
    tts_max_lateness_ms: Annotated[int, Field(ge=0, le=600_000)] = 5000
    """A turn or batch whose first audio is expected so many milliseconds after it is due is refused, so that
    those that were admitted keep their time; 0: none is refused for that."""
    tts_batch_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Texts of one batch that are spoken at once."""
    tts_hedge_percent: Annotated[float, Field(ge=0, le=100)] = 3.0
    """Percent of all engine time that may go into asking twice for first chunks that are late; 0: never."""

    @model_validator(mode="after")
    def _check_names(self) -> "TtsSettings":
        if self.tts_voices_file and "tts_voices" in self.model_fields_set:
            raise ValueError(
                "VOICEMESH_TTS_VOICES_FILE: takes the place of VOICEMESH_TTS_VOICES; set one of them"
            )
        if not self.tts_voices_file:
            try:
                self.check_voices(self.tts_voices)
            except SettingsError as error:
                raise ValueError(str(error)) from None
        return self

    def check_voices(self, voices: Sequence[VoiceDeclaration], source: str = "VOICEMESH_TTS_VOICES") -> None:
        """Check what no declaration can tell alone.

        Raises:
            SettingsError: They do not go together, or not with the other settings.

        """
        names = [voice.name for voice in voices]
        if len(set(names)) < len(names):
            raise SettingsError(f"{source}: two voices have the same name")
        default = self.tts_default_voice.split("/")[0] or names[0]
        if default not in names:
            raise SettingsError(
                f"VOICEMESH_TTS_DEFAULT_VOICE: must be one of {', '.join(names)}, or NAME/VARIANT"
            )
        if not next(voice for voice in voices if voice.name == default).preload:
            raise SettingsError(f"{source}: {default!r} is the default voice and needs preload")
        try:
            check_fallbacks([voice.spec() for voice in voices])
        except SettingsError as error:
            raise SettingsError(f"{source}: {error}") from None
        for device, budget_mb in self.tts_device_memory_mb.items():
            there = [voice for voice in voices if voice.device == device]
            if unsized := [voice.name for voice in there if not voice.memory_mb]:
                raise SettingsError(f"{source}: {unsized[0]!r} needs memory_mb: {device} has a budget")
            sum_mb = sum(voice.replicas * voice.memory_mb for voice in there)
            if sum_mb > budget_mb:
                parts = " + ".join(f"{voice.replicas} * {voice.memory_mb} ({voice.name})" for voice in there)
                raise SettingsError(
                    f"{source}: {device} has {budget_mb} MB for voices, and these take {parts} = {sum_mb} MB"
                )

    def specs(self, voices: Sequence[VoiceDeclaration]) -> list[VoiceSpec]:
        """Return declarations as the core takes them."""
        return [replace(voice.spec(), require_digests=self.tts_require_digests) for voice in voices]

    def limits(self) -> Limits:
        """Return what the core bounds."""
        return Limits(
            max_chunk_chars=self.tts_max_chunk_chars,
            max_queued_chunks=self.tts_max_queued_chunks,
            max_pending_chunks=self.tts_max_pending_chunks,
            chunks_ahead=self.tts_chunks_ahead,
            max_attempts=self.tts_max_attempts,
            stall_timeout_s=self.tts_stall_timeout_s,
            heartbeat_timeout_s=self.tts_heartbeat_timeout_s,
            starting_replicas=self.tts_starting_replicas,
            warmup_timeout_s=self.tts_warmup_timeout_s,
            buffer_s=self.tts_buffer_s,
            max_lateness_ms=self.tts_max_lateness_ms,
            batch_concurrency=self.tts_batch_concurrency,
            hedge_percent=self.tts_hedge_percent,
        )
