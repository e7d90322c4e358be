"""What a file of flags says, checked as a whole before anything of it is used.

The format is flagd's (https://flagd.dev/reference/flag-definitions/):

    {"flags": {"voicemesh.chunk_policy": {
        "state": "ENABLED",
        "variants": {"usual": "adaptive", "short": "words:4"},
        "defaultVariant": "usual",
        "targeting": {"fractional": [["usual", 90], ["short", 10]]}}}}
"""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from voicemesh.client.options import parse_policy
from voicemesh.flags import rules
from voicemesh.flags.errors import FlagsError

PROMPT: Final = "voicemesh.prompt"
"""The instructions to the model: the name of a prompt that the gateway has, or their text."""
MODEL: Final = "voicemesh.model"
"""The model to ask for."""
CHUNK_POLICY: Final = "voicemesh.chunk_policy"
"""How text is cut: `adaptive`, `sentence`, `clause` or `words:N`."""
VOICE: Final = "voicemesh.voice"
"""Who speaks."""

OVERRIDE: Final = "override"
"""In a flag's `metadata`: true to apply also where the caller asked for something itself."""
MAX_BYTES: Final = 1_048_576
MAX_PROMPT_CHARS: Final = 32_768
MAX_NAME_CHARS: Final = 200
_MOST_DEEP: Final = 200
"""Objects and lists in one another, of the whole file."""
_SHOWN_CHARS: Final = 200
_OWN: Final = "voicemesh."
_FIELDS: Final = ("state", "variants", "defaultVariant", "targeting", "metadata", "source", "selector")
_TOP: Final = ("$schema", "$evaluators", "flags", "metadata")
_STATES: Final = ("ENABLED", "DISABLED")


def check_prompt(value: str) -> None:
    """Raise ValueError for instructions that are too long."""
    _check_length(value, MAX_PROMPT_CHARS)


def check_name(value: str) -> None:
    """Raise ValueError for a name that is too long."""
    _check_length(value, MAX_NAME_CHARS)


def check_policy(value: str) -> None:
    """Raise ValueError for what is no chunk policy."""
    parse_policy(value)


CHECKS: Final[Mapping[str, Callable[[str], None]]] = {
    PROMPT: check_prompt,
    MODEL: check_name,
    CHUNK_POLICY: check_policy,
    VOICE: check_name,
}
"""The flags that turns are made by, and what refuses a value of each."""


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        key: Its name.
        enabled: False where it is switched off: callers get what there is without it.
        variants: Name of a variant to its value; "" leaves things as they are without the flag.
        default: The variant of who no rule names; "" for what there is without the flag.
        targeting: Rules in JsonLogic, or {}.
        override: True where it also holds for callers who asked for something themselves.
        source: As it stands in the file.

    """

    key: str
    enabled: bool
    variants: Mapping[str, Any]
    default: str
    targeting: Mapping[str, Any]
    override: bool
    source: Mapping[str, Any]

    @property
    def who(self) -> tuple[str, ...]:
        """Who gets what, a line each."""
        if not self.enabled:
            return ("switched off",)
        return rules.describe(self.targeting, self.default)


@dataclass(frozen=True)
class Definitions:
    """A whole file that was checked.

    Attributes:
        flags: The flags, by name.
        document: The file's JSON.

    """

    flags: Mapping[str, Flag]
    document: Mapping[str, Any]

    @property
    def own(self) -> Mapping[str, Flag]:
        """The flags that turns are made by."""
        return {key: flag for key, flag in self.flags.items() if key in CHECKS}


EMPTY: Final = Definitions({}, {"flags": {}})
"""No flag at all."""


def parse(content: bytes) -> Definitions:
    """Check a file's content, and return what it says.

    Raises:
        FlagsError: Something in it is wrong. The text names the place, and what to do.

    """
    if len(content) > MAX_BYTES:
        raise FlagsError(f"has {len(content)} bytes; at most {MAX_BYTES} are read")
    try:
        document = json.loads(content, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise FlagsError(f"not valid JSON: {error}") from None
    return checked(document)


def checked(document: Any) -> Definitions:
    """Check a file's JSON, and return what it says. Raises FlagsError as `parse` does."""
    _check_whole(document)
    _check_keys("the file", _as_object("the file", document), _TOP)
    flags = _as_object("flags", document.get("flags"))
    evaluators = _as_object("$evaluators", document.get("$evaluators", {}))
    _check_metadata("metadata", document.get("metadata", {}))
    return Definitions({key: _flag(key, flag, evaluators) for key, flag in flags.items()}, document)


def _flag(key: str, value: Any, evaluators: Mapping[str, Any]) -> Flag:
    fields = _as_object(key, value)
    _check_keys(key, fields, _FIELDS)
    if key.startswith(_OWN) and key not in CHECKS:
        raise FlagsError(f"{key}: there is no such flag{_near(key, CHECKS)}; there are {', '.join(CHECKS)}")
    if fields.get("state") not in _STATES:
        raise FlagsError(f'{key}.state: must be "ENABLED" or "DISABLED"')
    variants = _as_object(f"{key}.variants", fields.get("variants"))
    if not variants:
        raise FlagsError(f"{key}.variants: must have at least one")
    for name, given in variants.items():
        if not name:
            raise FlagsError(f"{key}.variants: a variant must have a name")
        if key in CHECKS:
            check_value(f"{key}.variants.{name}", key, given)
    default = fields.get("defaultVariant")
    default = "" if default is None else default
    if default != "" and (not isinstance(default, str) or default not in variants):
        raise FlagsError(f"{key}.defaultVariant: {default!r} is none of {', '.join(variants)}")
    targeting = _as_object(f"{key}.targeting", fields.get("targeting") or {})
    rules.check(f"{key}.targeting", targeting, variants, evaluators)
    metadata = fields.get("metadata", {})
    _check_metadata(f"{key}.metadata", metadata)
    override = metadata.get(OVERRIDE, False)
    if not isinstance(override, bool):
        raise FlagsError(f"{key}.metadata.{OVERRIDE}: must be true or false")
    return Flag(key, fields["state"] == "ENABLED", variants, default, targeting, override, fields)


def check_value(place: str, key: str, value: Any) -> None:
    """Check a variant's value of a flag that turns are made by; "" is always one.

    Raises:
        FlagsError: It is none.

    """
    if not isinstance(value, str):
        raise FlagsError(f'{place}: must be text; "" leaves things as they are')
    check_text(place, value)
    try:
        if value:
            CHECKS[key](value)
    except ValueError as error:
        raise FlagsError(f"{place}: {error}") from None


def check_text(place: str, value: Any) -> None:
    """Raise FlagsError for what is no text, or half of a surrogate pair, which no message can carry."""
    if not isinstance(value, str):
        raise FlagsError(f"{place}: must be text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise FlagsError(f"{place}: has half of a surrogate pair at character {error.start}") from None


def _check_whole(document: Any) -> None:
    """Check what holds at every place of a file: its texts, and how deep it is."""
    level: list[tuple[str, Any]] = [("", document)]
    for _ in range(_MOST_DEEP):
        below: list[tuple[str, Any]] = []
        for place, value in level:
            if isinstance(value, dict):
                for name, inner in value.items():
                    check_text(f"a name in {place or 'the file'}", name)
                    below.append((f"{place}.{name}" if place else name, inner))
            elif isinstance(value, list):
                below += ((place, item) for item in value)
            elif isinstance(value, str):
                check_text(place, value)
        level = below
    if level:
        raise FlagsError(f"{level[0][0][:_SHOWN_CHARS]}: is nested more than {_MOST_DEEP} deep")


def _check_metadata(place: str, metadata: Any) -> None:
    for name, value in _as_object(place, metadata).items():
        if not name or not isinstance(value, bool | int | float | str):
            raise FlagsError(f"{place}.{name}: must be text, a number, true or false")


def _check_keys(place: str, fields: Mapping[str, Any], known: Iterable[str]) -> None:
    for name in fields:
        if name not in known:
            raise FlagsError(f"{place}: {name!r} is no field of it{_near(name, known)}")


def _check_length(value: str, limit: int) -> None:
    if len(value) > limit:
        raise ValueError(f"has {len(value)} characters; at most {limit} are taken")


def _as_object(place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise FlagsError(f"{place}: must be an object")
    return value


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found
