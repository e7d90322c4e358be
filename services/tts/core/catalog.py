"""What ListVoices tells: every voice and variant, with its revision."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

from services.tts import edges, loudness, resampling, text
from services.tts.core.fallbacks import variant_language
from services.tts.core.model import Capabilities, Variant, VoiceInfo, VoiceSpec
from services.tts.core.pool import Pool
from services.tts.core.voices import Voice, Voices, VoiceState
from services.tts.pauses import PAUSES_MS
from services.tts.versions import version_of
from voicemesh.runtime.errors import NoEngineError, VoiceNotReadyError

First = Callable[[str], tuple[Pool, str, bool]]
"""See `services.tts.core.routes.Routes.first`."""


def voices(living: Voices, first: First, default: str, language: str, *, everything: bool) -> list[VoiceInfo]:
    """Return the voices of `language` or a narrower one, or all, by name.

    Args:
        living: The voices.
        first: Says who speaks for a voice that was never ready.
        default: Name of the one that speaks where none is named.
        language: A BCP 47 tag; "" for all.
        everything: Whether those are listed that nobody can begin to speak with.

    """
    listed: list[VoiceInfo] = []
    for voice in living.declared.values():
        if voice.state is VoiceState.READY:
            listed += _variants(voice.pool, default, voice.state)
        elif (info := _not_ready(voice, first, default)).model_revision or everything:
            listed.append(info)
    if everything:
        for pool in living.draining():
            if pool.replicas.capabilities is not None and pool.spec.name not in living.declared:
                listed += _variants(pool, "", VoiceState.DRAINING)
    wanted = language.lower().replace("_", "-")
    return sorted(
        (v for v in listed if not wanted or f"{v.language.lower()}-".startswith(f"{wanted}-")),
        key=lambda voice: voice.name,
    )


def _variants(pool: Pool, default: str, state: VoiceState) -> Iterator[VoiceInfo]:
    capabilities = pool.replicas.capabilities
    assert capabilities is not None
    ready = pool.snapshot().ready_replicas
    own = Variant("", capabilities.language, max_chars=capabilities.max_chars)
    for variant in (own, *capabilities.variants):
        name = f"{pool.spec.name}/{variant.name}" if variant.name else pool.spec.name
        yield VoiceInfo(
            name=name,
            engine=pool.spec.engine,
            language=variant.language,
            model_revision=revision(pool.spec, capabilities, variant.name or capabilities.default_variant),
            sample_rate_hz=capabilities.sample_rate_hz,
            has_word_timings=capabilities.word_timings,
            ready_replicas=ready,
            is_default=name == default,
            max_chars=variant.max_chars,
            state=state.name,
            declared_replicas=pool.spec.replicas,
            repeats=capabilities.deterministic,
        )


def _not_ready(voice: Voice, first: First, default: str) -> VoiceInfo:
    """Return a voice that was never ready; where another speaks for it, with what is heard then."""
    pool = voice.pool
    unknown = VoiceInfo(
        name=pool.spec.name,
        engine=pool.spec.engine,
        language=pool.spec.language,
        model_revision="",
        sample_rate_hz=0,
        has_word_timings=False,
        ready_replicas=0,
        is_default=pool.spec.name == default,
        state=voice.state.name,
        declared_replicas=pool.spec.replicas,
    )
    try:
        other, variant, _ = first(pool.spec.name)
    except (NoEngineError, VoiceNotReadyError):
        return unknown
    capabilities = other.replicas.capabilities
    assert capabilities is not None
    return replace(
        unknown,
        language=variant_language(capabilities, variant),
        model_revision=revision(other.spec, capabilities, variant),
        sample_rate_hz=capabilities.sample_rate_hz,
        has_word_timings=capabilities.word_timings,
        max_chars=capabilities.max_chars,
    )


def revision(spec: VoiceSpec, capabilities: Capabilities, variant: str) -> str:
    """Return the revision of a variant: another one whenever the same text would sound different."""
    joins = [
        edges.RENDERING,
        text.RENDERING,
        resampling.RENDERING,
        version_of("soxr"),
        *(loudness.RENDERING, spec.loudness, spec.gain_db),
        spec.trim_silence,
        sorted({**PAUSES_MS, **spec.pauses_ms}.items()),
    ]
    facts = json.dumps([spec.engine, capabilities.revision, variant, joins])
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()
