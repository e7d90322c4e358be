r"""What makes two results equal: the one place that turns a request into the key of its entry.

    AudioKey / ReplyKey / HistoryKey ─ canonical bytes ─ SHA-256 ─┐
    voicemesh:v3:<kind>:<tenant tag>:<voice tag>:<revision tag>:<digest>

The canonical bytes are a typed, length-prefixed encoding, so that two different requests never give
the same bytes ("ab" + "c" is not "a" + "bc", absent is not zero). The tags are short hashes of the
names that `Invalidate` can ask for; they let both tiers find the entries of a voice, a model
revision or a tenant without an index that could get out of step with the entries. Nothing of a key
can be read from what is stored: no text, no name.

Audio: every field counts exactly. The text is as it is given to the engine: what became of markup,
links and pictographs is in it, so no version of what made it so need be. The revision stands for
all else that is heard: weights, settings and library of the engine, the variant, loudness, edges,
pauses, resampling (`services.tts.core.catalog`).

Replies: every field and message counts exactly, but for what the user typed, which counts as
`services.cache.prompts` says. Of a conversation, all that the user typed: else a prompt that is found
in spite of its spelling would make every later one of its session another.

Raise `SCHEME_VERSION` whenever any of this changes, the folding of prompts included: old entries then
just age out.
"""

import hashlib
import math
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Literal

from services.cache.prompts import Match, normalise
from services.cache.values import PCM_S16LE, ROLE_USER, AudioFormat, Image, Kind, Message
from voicemesh.runtime.errors import InvalidFieldError

SCHEME_VERSION: Final = 3
PREFIX: Final = f"voicemesh:v{SCHEME_VERSION}"
MAX_NAME_CHARS: Final = 512
"""Limit of every name in a key: engine, voice, revision, language, tenant, session, model."""

MAX_TAGS: Final = 8
MAX_TAG_CHARS: Final = 128
"""Limits of what a caller marks entries with."""

Target = Literal["key", "voice", "model_revision", "tenant", "tag", "all"]

_TAG_HEX_DIGITS: Final = 12
_KEPT_CHARS: Final = 300
"""Length of a text up to which its key is remembered: 4,096 of them take 4 MB."""

Canonical = str | bytes | int | float | bool | None | tuple["Canonical", ...]


@dataclass(frozen=True, slots=True)
class AudioKey:
    """Everything that makes two recordings the same."""

    engine: str
    model_revision: str
    voice: str
    language: str
    speed_permille: int
    format: AudioFormat
    text: str = field(repr=False)
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class GenerationParameters:
    """Settings of a generation; None where the service's default holds."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ReplyKey:
    """Everything that makes two prompts ask the same."""

    tenant: str
    llm_revision: str
    model: str
    parameters: GenerationParameters
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class HistoryKey:
    """One session of one tenant."""

    tenant: str
    session_id: str


@dataclass(frozen=True, slots=True)
class SimilarPrompt:
    """The last message of a `ReplyKey`, where it is the user's and text alone."""

    context: str
    """Stands for all the rest of the key, the tenant among it: prompts of two contexts are never similar."""
    text: str = field(repr=False)


Key = AudioKey | ReplyKey | HistoryKey


@dataclass(frozen=True, slots=True)
class StoredKey:
    """The key of an entry in both tiers: `name` alone identifies it, the tags are parts of it."""

    kind: Kind
    name: str
    tenant_tag: str
    voice_tag: str = "-"
    revision_tag: str = "-"


@dataclass(frozen=True, slots=True)
class Selector:
    """Which entries to remove: one, or all of a name, or all."""

    target: Target
    name: str = ""
    """For "key" the name of a `StoredKey`; for "all" empty; else the tag of what was named."""
    only_tenant: str = ""
    """The tag of the tenant whose entries alone are meant; "" for all tenants'."""

    def matches(  # noqa: PLR0911 - one return a target
        self, key: StoredKey, tags: Collection[str] | None = None
    ) -> bool:
        """Return whether an entry is to be removed.

        Args:
            key: Its key.
            tags: Its tags; None where they are not known yet, so that it may have any.

        """
        if self.only_tenant not in ("", key.tenant_tag):
            return False
        match self.target:
            case "key":
                return key.name == self.name
            case "tenant":
                return key.tenant_tag == self.name
            case "voice":
                return key.voice_tag == self.name
            case "model_revision":
                return key.revision_tag == self.name
            case "tag":
                return tags is None or self.name in tags
            case "all":
                return True

    @property
    def pattern(self) -> str:
        """The Redis glob pattern of the names that may match; tags hold no glob characters."""
        if self.target == "key":
            return self.name
        kind = "audio" if self.target in ("voice", "model_revision") else "*"
        tenant = self.name if self.target == "tenant" else self.only_tenant or "*"
        voice = self.name if self.target == "voice" else "*"
        revision = self.name if self.target == "model_revision" else "*"
        return f"{PREFIX}:{kind}:{tenant}:{voice}:{revision}:*"


def select(target: Target, name: str, only_tenant: str | None = None) -> Selector:
    """Select all entries of a voice, a model revision, a tenant or a tag, by its name.

    `only_tenant` names the tenant whose entries alone are meant; None for all tenants'.

    Raises:
        InvalidFieldError: A name is empty where it may not be, or over its limit.

    """
    _check_name("only_tenant", only_tenant or "", may_be_empty=True)
    within = "" if only_tenant is None else tag(only_tenant)
    if target in ("key", "all"):
        return Selector(target, name, within)
    _check_name(target, name, may_be_empty=target == "tenant")
    return Selector(target, tag(name), within)


def checked_tags(names: Sequence[str], path: str) -> tuple[str, ...]:
    """Return the tags of the names that a value is stored with, each once.

    Raises:
        InvalidFieldError: There are too many, or one is empty or over its limit.

    """
    if len(names) > MAX_TAGS:
        raise InvalidFieldError(path, f"has {len(names)} tags; the limit is {MAX_TAGS}")
    for index, name in enumerate(names):
        if not name:
            raise InvalidFieldError(f"{path}[{index}]", "must not be empty")
        if len(name) > MAX_TAG_CHARS:
            raise InvalidFieldError(
                f"{path}[{index}]", f"has {len(name)} characters; the limit is {MAX_TAG_CHARS}"
            )
    return tuple(dict.fromkeys(map(tag, names)))


def stored_key(key: Key, path: str, *, max_text_chars: int, match: Match = "typing") -> StoredKey:
    """Return the key under which the entry of `key` is stored.

    Args:
        key: The request's key.
        path: Where it stands in the request, for errors: "get.key".
        max_text_chars: Limit of the text of an `AudioKey`.
        match: Which prompts ask the same.

    Raises:
        InvalidFieldError: A field is missing, malformed or over its limit.

    """
    if isinstance(key, AudioKey):
        audio = _kept_audio if len(key.text) <= _KEPT_CHARS else _audio
        return audio(key, path, max_text_chars)
    if isinstance(key, ReplyKey):
        return _reply(key, f"{path}.reply", match)
    _check_name(f"{path}.history.tenant", key.tenant, may_be_empty=True)
    _check_name(f"{path}.history.session_id", key.session_id)
    return _named("history", (key.tenant, key.session_id), tag(key.tenant))


def canonical_format(format_: AudioFormat) -> AudioFormat:
    """Return `format_` with the contract's meanings of 0 written out: PCM s16le, one channel."""
    return AudioFormat(format_.encoding or PCM_S16LE, format_.sample_rate_hz, format_.channels or 1)


@lru_cache(maxsize=1024)
def tag(name: str) -> str:
    """Return the tag of a name: 12 hexadecimal digits.

    Should two names ever share one, `Invalidate` of either removes the entries of both; nothing
    is ever read by tag.
    """
    return hashlib.sha256(canonical(("tag", name))).hexdigest()[:_TAG_HEX_DIGITS]


def canonical(value: Canonical) -> bytes:  # noqa: PLR0911 - one return a type
    """Encode `value` so that different values give different bytes: type, length, content."""
    if value is None:
        return b"n"
    if isinstance(value, bool):  # before int: True is an int
        return b"b1" if value else b"b0"
    if isinstance(value, int):
        return b"i%d;" % value
    if isinstance(value, float):
        return b"f" + struct.pack(">d", value + 0.0)  # + 0.0 makes -0.0 the 0.0 that it means
    if isinstance(value, str):
        encoded = value.encode()
        return b"s%d:%b" % (len(encoded), encoded)
    if isinstance(value, bytes):
        return b"y%d:%b" % (len(value), value)
    return b"t%d:%b" % (len(value), b"".join(map(canonical, value)))


def _audio(key: AudioKey, path: str, max_text_chars: int) -> StoredKey:
    path = f"{path}.audio"
    for name in ("engine", "model_revision", "voice"):
        _check_name(f"{path}.{name}", getattr(key, name))
    _check_name(f"{path}.language", key.language, may_be_empty=True)
    _check_name(f"{path}.tenant", key.tenant, may_be_empty=True)
    if not key.text:
        raise InvalidFieldError(f"{path}.text", "must not be empty")
    if len(key.text) > max_text_chars:
        raise InvalidFieldError(
            f"{path}.text", f"has {len(key.text)} characters; the limit is {max_text_chars}"
        )
    if key.speed_permille < 1:
        raise InvalidFieldError(f"{path}.speed_permille", "must be at least 1; 1000 is normal")
    form = canonical_format(key.format)
    fields = (
        *(key.engine, key.model_revision, key.voice, key.language, key.speed_permille),
        *(form.encoding, form.sample_rate_hz, form.channels),
        *(key.text, key.tenant),
    )
    return _named("audio", fields, tag(key.tenant), tag(key.voice), tag(key.model_revision))


@lru_cache(maxsize=4096)
def _kept_audio(key: AudioKey, path: str, max_text_chars: int) -> StoredKey:
    """Return the key of a phrase that is likely to come again: to make it takes longer than to find it."""
    return _audio(key, path, max_text_chars)


def _reply(key: ReplyKey, path: str, match: Match) -> StoredKey:
    _check_name(f"{path}.tenant", key.tenant, may_be_empty=True)
    _check_name(f"{path}.llm_revision", key.llm_revision)
    _check_name(f"{path}.model", key.model, may_be_empty=True)
    wish = key.parameters
    for name in ("temperature", "top_p"):
        number = getattr(wish, name)
        if number is not None and not math.isfinite(number):
            raise InvalidFieldError(f"{path}.parameters.{name}", "must be a finite number")
    check_messages(key.messages, f"{path}.messages")
    return _named("reply", _reply_fields(key, match), tag(key.tenant))


def _reply_fields(key: ReplyKey, match: Match) -> Canonical:
    wish = key.parameters
    messages = tuple(
        (
            message.role,
            tuple(_part(part, match if message.role == ROLE_USER else "exact") for part in message.parts),
        )
        for message in key.messages
    )
    parameters = (wish.max_tokens, wish.temperature, wish.top_p, wish.stop, wish.seed)
    # A replica that folds otherwise has entries of its own.
    return (key.tenant, key.llm_revision, key.model, parameters, match, messages)


def similar_prompt(key: ReplyKey, match: Match) -> SimilarPrompt | None:
    """Return what may be similar in a key that `stored_key` has taken; None where nothing may."""
    last = key.messages[-1]
    texts = [part for part in last.parts if isinstance(part, str)]
    if last.role != ROLE_USER or len(texts) != len(last.parts):
        return None
    rest = _reply_fields(replace(key, messages=key.messages[:-1]), match)
    context = hashlib.sha256(canonical((SCHEME_VERSION, "similar", rest))).hexdigest()
    return SimilarPrompt(context, normalise("\n".join(texts), "typing"))


def check_messages(messages: tuple[Message, ...], path: str, *, may_be_empty: bool = False) -> None:
    """Check that every message has a role and parts.

    Raises:
        InvalidFieldError: One has not; or there is none and `may_be_empty` is false.

    """
    if not messages and not may_be_empty:
        raise InvalidFieldError(path, "must not be empty")
    for index, message in enumerate(messages):
        if message.role < 1:
            raise InvalidFieldError(f"{path}[{index}].role", "must be set")
        if not message.parts:
            raise InvalidFieldError(f"{path}[{index}].parts", "must not be empty")


def _part(part: str | Image, match: Match) -> Canonical:
    if isinstance(part, Image):
        return (part.data, part.url, part.media_type)
    return normalise(part, match)


def _named(
    kind: Kind, fields: Canonical, tenant_tag: str, voice_tag: str = "-", revision_tag: str = "-"
) -> StoredKey:
    digest = hashlib.sha256(canonical((SCHEME_VERSION, kind, fields))).hexdigest()
    name = f"{PREFIX}:{kind}:{tenant_tag}:{voice_tag}:{revision_tag}:{digest}"
    return StoredKey(kind, name, tenant_tag, voice_tag, revision_tag)


def _check_name(path: str, name: str, *, may_be_empty: bool = False) -> None:
    if not name and not may_be_empty:
        raise InvalidFieldError(path, "must not be empty")
    if len(name) > MAX_NAME_CHARS:
        raise InvalidFieldError(path, f"has {len(name)} characters; the limit is {MAX_NAME_CHARS}")
