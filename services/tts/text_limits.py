"""How long a text engines take at once: facts about models, for declarations of voices."""

from collections.abc import Mapping
from typing import Final

XTTS_MAX_CHARS: Final[Mapping[str, int]] = {
    "ar": 166, "cs": 186, "de": 253, "en": 250, "es": 239, "fr": 273, "hi": 150, "hu": 224, "it": 213,
    "ja": 71, "ko": 95, "nl": 251, "pl": 224, "pt": 203, "ru": 182, "tr": 226, "zh": 82,
}  # fmt: skip
"""Characters by language beyond which XTTS cuts its audio off: `char_limits` of its tokenizer.

https://github.com/idiap/coqui-ai-TTS/blob/main/TTS/tts/layers/xtts/tokenizer.py
"""


def xtts_max_chars(language: str) -> int:
    """Return XTTS's limit for a BCP 47 `language`; for one that it does not know, the smallest."""
    known = XTTS_MAX_CHARS.get(language.replace("_", "-").partition("-")[0].lower())
    return known or XTTS_MAX_CHARS["ja"]
