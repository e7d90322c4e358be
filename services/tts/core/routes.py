"""Who speaks for whom: the voice that was asked for, and those that stand in for it."""

from collections.abc import Callable

from services.tts import resampling
from services.tts.core import catalog
from services.tts.core.fallbacks import variant_for, variant_language
from services.tts.core.hedging import Hedges
from services.tts.core.pool import Pool
from services.tts.core.speaker import Speaker
from services.tts.core.voices import Voices
from voicemesh.runtime.errors import NoEngineError, SettingsError, UnknownVoiceError, VoiceNotReadyError

Find = Callable[[str], tuple[Pool, str]]
"""See `services.tts.core.service.Speech.find`."""


class Routes:
    """See the module. A voice that is not loaded stands in for nobody.

    Args:
        voices: The voices there are.
        find: Looks one up by its name in full.
        hedges: Looks after late first chunks.

    """

    def __init__(self, voices: Voices, find: Find, hedges: Hedges) -> None:
        self._voices = voices
        self._find = find
        self._hedges = hedges

    def check(self) -> None:
        """Check the fallbacks of voices that are loaded.

        Raises:
            SettingsError: One is no variant of its voice, or has a rate that nothing converts.

        """
        for name, voice in self._voices.declared.items():
            own = voice.pool.replicas.capabilities
            for fallback in voice.spec.fallback:
                theirs = self._voices.declared[fallback.split("/")[0]].pool.replicas.capabilities
                if own is None or theirs is None:
                    continue
                where = f"voice {name!r}: fallback {fallback!r}"
                try:
                    self._find(fallback)
                except UnknownVoiceError as error:
                    raise SettingsError(f"{where}: {error}") from None
                if own.sample_rate_hz != theirs.sample_rate_hz and (package := resampling.missing()):
                    raise SettingsError(
                        f"{where} speaks at {theirs.sample_rate_hz} Hz instead of {own.sample_rate_hz} Hz: "
                        f"that needs the package {package} (pip install 'voicemesh[server]')"
                    )

    def first(self, voice: str) -> tuple[Pool, str, bool]:
        """Return pool and variant of a voice, or of its first fallback where it was never ready, and which.

        Raises:
            UnknownVoiceError: There is no such voice.
            VoiceNotReadyError: It is being loaded, and so are its fallbacks.
            NoEngineError: It cannot be loaded, and no fallback is.

        """
        try:
            return *self._find(voice), False
        except (NoEngineError, VoiceNotReadyError):
            declared = self._voices.declared[voice.lower().partition("/")[0]]
            for name in declared.spec.fallback:
                try:
                    return *self._find(name), True
                except (NoEngineError, VoiceNotReadyError, UnknownVoiceError):
                    continue
            raise

    def speaker(self, voice: str, pool: Pool, variant: str, rate_hz: int, *, is_fallback: bool) -> Speaker:
        """Return who was found for `voice`. Who stands in for it is found when a chunk is asked for."""
        capabilities = pool.replicas.capabilities
        assert capabilities is not None
        asked, language = voice.lower(), variant_language(capabilities, variant)

        def stand_ins() -> tuple[Speaker, ...]:
            declared = self._voices.declared.get(asked.partition("/")[0])
            if declared is None:
                return ()
            # A model that took the place of this one goes on for it; so does a voice that was loaded late.
            own = self._stand_in(asked, language, rate_hz, is_fallback=False)
            found = (own, *(self._stand_in(name, language, rate_hz) for name in declared.spec.fallback))
            return tuple(speaker for speaker in found if speaker is not None and speaker.pool is not pool)

        return self._speaker(pool, variant, rate_hz, is_fallback, stand_ins)

    def _speaker(
        self,
        pool: Pool,
        variant: str,
        rate_hz: int,
        is_fallback: bool,
        stand_ins: Callable[[], tuple[Speaker, ...]] = tuple,
    ) -> Speaker:
        capabilities = pool.replicas.capabilities
        assert capabilities is not None
        return Speaker(
            name=f"{pool.spec.name}/{variant}" if variant else pool.spec.name,
            pool=pool,
            variant=variant,
            model_revision=catalog.revision(pool.spec, capabilities, variant),
            sample_rate_hz=rate_hz,
            is_fallback=is_fallback,
            stand_ins=stand_ins,
            hedges=self._hedges,
        )

    def _stand_in(
        self, name: str, language: str, rate_hz: int, *, is_fallback: bool = True
    ) -> Speaker | None:
        """Return a voice as it speaks for one of that language; None where it cannot."""
        declared = self._voices.declared.get(name.split("/", maxsplit=1)[0])
        capabilities = declared.pool.replicas.capabilities if declared is not None else None
        if declared is None or capabilities is None:
            return None
        if capabilities.sample_rate_hz != rate_hz and resampling.missing():
            return None
        variant = variant_for(capabilities, language)
        if "/" in name:
            try:
                variant = self._find(name)[1]
            except UnknownVoiceError:
                return None  # its model changed, and has that variant no more
        return self._speaker(declared.pool, variant, rate_hz, is_fallback)
