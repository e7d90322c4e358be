"""Lists of phrases that are spoken before anybody asks for them: read by `voicemesh warm` and by the gateway.

One phrase a line; empty lines do not count. In a file that ends in `.jsonl` each line is JSON: a string, or
an object with "text" and, where they are not to be the defaults, "voice", "speed", "sample_rate_hz",
"policy" and "tenant".
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from voicemesh.tenant import problem

MOST_PHRASES: Final = 10_000
MOST_CHARS: Final = 10_000
_NAMES: Final = {
    "text": str,
    "voice": str,
    "speed": float,
    "sample_rate_hz": int,
    "policy": str,
    "tenant": str,
}


@dataclass(frozen=True, kw_only=True)
class Phrase:
    """What is to be spoken, and how.

    Attributes:
        text: What to say.
        voice: Name of the voice; "" for the default voice.
        speed: 0.25 to 4.
        sample_rate_hz: Rate of the turns that are to find it, in hertz; 0 for the voice's own.
        policy: How those turns cut text, as `voicemesh say --policy` takes it; "" for the default.
        tenant: Whose turns are to find it; "" for those that name no tenant.

    """

    text: str
    voice: str = ""
    speed: float = 1.0
    sample_rate_hz: int = 0
    policy: str = ""
    tenant: str = ""


def read_phrases(path: Path) -> tuple[Phrase, ...]:
    """Return the phrases of a file, each once.

    Raises:
        OSError: It cannot be read.
        ValueError: It has none, or too many, or a line that is none; the text names the line.

    """
    return parse_phrases(path.read_bytes(), str(path), as_json=path.suffix == ".jsonl")


def parse_phrases(data: bytes, name: str, *, as_json: bool) -> tuple[Phrase, ...]:
    """Return the phrases of the contents of a file; `name` is for errors. Raises as `read_phrases`."""
    phrases: dict[Phrase, None] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        place = f"{name}: line {number}"
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{place}: not valid UTF-8 at byte {error.start + 1}") from None
        if text:
            phrases[_from_json(text, place) if as_json else _checked({"text": text}, place)] = None
        if len(phrases) > MOST_PHRASES:
            raise ValueError(f"{place}: at most {MOST_PHRASES} phrases are taken")
    if not phrases:
        raise ValueError(f"{name} has no phrase in it: write one a line")
    return tuple(phrases)


def _from_json(line: str, place: str) -> Phrase:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: not valid JSON: {error}") from None
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict) or "text" not in value:
        raise ValueError(f'{place}: must be a string, or an object with "text"')
    return _checked(value, place)


def _checked(value: dict[str, Any], place: str) -> Phrase:
    for name, given in value.items():
        wanted = _NAMES.get(name)
        if wanted is None:
            raise ValueError(f"{place}: {name!r} is none of {', '.join(_NAMES)}")
        is_number = isinstance(given, int) and not isinstance(given, bool)
        if not (isinstance(given, wanted) and not isinstance(given, bool)) and not (
            wanted is float and is_number
        ):
            kind = {str: "a string", float: "a number", int: "a whole number"}[wanted]
            raise ValueError(f"{place}: {name} must be {kind}, not {json.dumps(given)[:80]}")
    phrase = Phrase(**value)
    if not phrase.text.strip():
        raise ValueError(f"{place}: text is empty: it must say something")
    if len(phrase.text) > MOST_CHARS:
        raise ValueError(f"{place}: text has {len(phrase.text)} characters; at most {MOST_CHARS} are taken")
    if not 0.25 <= phrase.speed <= 4:
        raise ValueError(f"{place}: speed must be 0.25 to 4, not {phrase.speed:g}")
    if phrase.sample_rate_hz < 0:
        raise ValueError(f"{place}: sample_rate_hz must not be negative; 0 is the voice's own")
    if wrong := problem(phrase.tenant):
        raise ValueError(f"{place}: tenant {phrase.tenant[:80]!r} {wrong}")
    return phrase
