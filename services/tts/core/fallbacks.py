"""Which voices stand in for which: what may be declared, and which variant is meant."""

from collections.abc import Sequence

from services.tts.core.model import Capabilities, VoiceSpec
from voicemesh.runtime.errors import SettingsError


def check_fallbacks(specs: Sequence[VoiceSpec]) -> None:
    """Check the fallbacks of declared voices.

    A voice's own list is its whole order: fallbacks of fallbacks are not followed, so two voices may
    stand in for each other.

    Raises:
        SettingsError: A fallback is not declared, is the voice itself, or comes twice.

    """
    names = {spec.name for spec in specs}
    for spec in specs:
        name = spec.name
        seen: set[str] = set()
        for fallback in spec.fallback:
            declared = fallback.split("/")[0]
            where = f"voice {name!r}: fallback {fallback!r}"
            if declared not in names:
                raise SettingsError(f"{where} is not declared; there are {', '.join(sorted(names))}")
            if declared == name:
                raise SettingsError(f"{where} is the voice itself: it fails with it")
            if declared in seen:
                raise SettingsError(f"{where} has the engine of another fallback: it fails with that")
            seen.add(declared)


def variant_language(capabilities: Capabilities, variant: str) -> str:
    """Return the language of a variant, as a BCP 47 tag."""
    for known in capabilities.variants:
        if known.name == variant:
            return known.language
    return capabilities.language


def variant_for(capabilities: Capabilities, language: str) -> str:
    """Return the variant that stands in for a voice of `language`: the default one, if it speaks that.

    An engine without the language speaks with its default variant: better with an accent than not at all.
    """
    default = capabilities.default_variant
    for same in (_same_tag, _same_primary):
        if same(variant_language(capabilities, default), language):
            return default
        for variant in capabilities.variants:
            if same(variant.language, language):
                return variant.name
    return default


def _same_tag(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _same_primary(one: str, other: str) -> bool:
    return one.lower().split("-")[0] == other.lower().split("-")[0]
