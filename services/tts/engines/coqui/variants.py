"""The speakers of a model as variants of its voice.

Workers import this module: standard library only.
"""

import re
from collections.abc import Sequence

from services.tts.engines.base import OptionsError, Variant
from services.tts.engines.espeak import bcp47

_SHOWN = 20


def listed(speakers: Sequence[tuple[str, str]], language: str, *, several: bool) -> tuple[Variant, ...]:
    """Return a variant for each (speaker, language), in their order; none for one without a name.

    Args:
        speakers: As the model calls them.
        language: Of the declaration.
        several: True where the model speaks several languages: only then its own names for them count.

    Raises:
        OptionsError: Two names would be one.

    """
    if len(speakers) == 1 and not speakers[0][0]:
        return ()
    found = []
    for speaker, own in speakers:
        parts = [plain(part) for part in (speaker, own if several else "") if part]
        names = (plain(speaker),) if several and speaker and _same(own, language) else ()
        found.append(Variant("-".join(parts), bcp47(own if several else language), names))
    called = [variant.name for variant in found]
    if len(set(called)) < len(called):
        twice = next(name for name in called if called.count(name) > 1)
        raise OptionsError(f"option model: two of its speakers would be called {twice!r}")
    return tuple(found)


def wanted(
    variants: Sequence[Variant], speakers: Sequence[str], speaker: str, language: str, *, several: bool
) -> Variant | None:
    """Return the variant that speaks when none is named; None where the voice has one speaker.

    Args:
        variants: What `listed` gave.
        speakers: The model's name for each.
        speaker: The option; "" for the model's first one.
        language: Of the declaration.
        several: See `listed`.

    Raises:
        OptionsError: There is no such speaker, or no such language.

    """
    if not variants:
        if speaker and speaker not in speakers:
            raise OptionsError(f"option speaker: this model has one speaker and no names, not {speaker!r}")
        return None
    of_language = [
        (variant, name)
        for variant, name in zip(variants, speakers, strict=True)
        if not several or _same(variant.language, language)
    ]
    if not of_language:
        tags = sorted({variant.language for variant in variants})
        raise OptionsError(f"language: this model has no {language!r}; it has {', '.join(tags)}")
    for variant, name in of_language:
        if not speaker or speaker == name or plain(speaker) in (variant.name, plain(name)):
            return variant
    names = list(dict.fromkeys(speakers))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise OptionsError(
        f"option speaker: this model has no {speaker!r}; it has {', '.join(names[:_SHOWN])}{more}"
    )


def plain(name: str) -> str:
    """Return a name as callers write it: lower case, without blanks and slashes."""
    return re.sub(r"[\s/]+", "_", name.strip()).lower()


def _same(tag: str, other: str) -> bool:
    one, two = tag.lower().split("-"), other.lower().split("-")
    return one == two or (one[0] == two[0] and 1 in (len(one), len(two)))
