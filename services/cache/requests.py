"""What a caller can ask of a stream, and the checks that a request must pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.cache.keys import (
    AudioKey,
    Key,
    ReplyKey,
    SimilarPrompt,
    StoredKey,
    canonical_format,
    check_messages,
    checked_tags,
    similar_prompt,
    stored_key,
)
from services.cache.needs import AT_ONCE, Need
from services.cache.prompts import Match
from services.cache.values import (
    AudioFormat,
    AudioValue,
    HistoryValue,
    ReplyValue,
    Value,
    kind_of,
    size_bytes,
)
from voicemesh.runtime.errors import InvalidFieldError, MeshError


@dataclass(frozen=True, slots=True)
class Get:
    """Reads an entry; with `lease_format`, takes or follows the lease of audio that is missing."""

    key: StoredKey
    lease_format: AudioFormat | None = None
    head_ms: int = 0
    """Milliseconds of audio that are enough to begin with; 0: the whole entry."""
    keep: bool = False
    """What is stored under the key is kept, whether or not it was asked for before."""
    need: Need = AT_ONCE
    """How badly the caller of a lease needs the audio."""
    prompt: SimilarPrompt | None = None
    """Where the reply to a similar prompt will do: what may be similar."""
    similar_ms: int = 0
    """How long the request may be held for that, in milliseconds from its arrival."""


@dataclass(frozen=True, slots=True)
class Put:
    """Writes a whole entry; a history only if it has `expected_version`, unless that is None."""

    key: StoredKey
    value: Value
    expected_version: int | None = None
    age_ms: int = 0
    """How long ago began what made the value, in milliseconds."""
    prompt: SimilarPrompt | None = None
    """Of a reply: what may be similar to another prompt."""


@dataclass(frozen=True, slots=True)
class Append:
    """Adds to the entry that a lease is for."""

    lease_id: str
    part: AudioValue


@dataclass(frozen=True, slots=True)
class Seal:
    """Completes the entry that a lease is for."""

    lease_id: str
    tags: tuple[str, ...] = ()
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """Gives a lease back, or stops following."""

    lease_id: str


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came: what it wants, or why that cannot be understood."""

    request_id: int
    operation: Get | Put | Append | Seal | Release | MeshError
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may measure."""

    max_value_bytes: int
    max_text_chars: int
    match: Match = "typing"
    """Which prompts ask the same."""
    similar: bool = False
    """Whether the reply to a similar prompt may be given out."""

    def prompt(self, key: Key) -> SimilarPrompt | None:
        """Return what may be similar in a key that was found right; None where nothing may."""
        return similar_prompt(key, self.match) if self.similar and isinstance(key, ReplyKey) else None

    def stored(self, key: Key, path: str) -> StoredKey:
        """Return the key under which the entry of `key` is stored; errors as `stored_key`."""
        return stored_key(key, path, max_text_chars=self.max_text_chars, match=self.match)


def checked_get(
    key: Key,
    limits: Limits,
    *,
    lease: bool,
    head_ms: int = 0,
    keep: bool = False,
    need: Need = AT_ONCE,
    similar_ms: int = 0,
) -> Get:
    """Return the request to read an entry.

    Raises:
        InvalidFieldError: The key is unusable, or the lease or the head is not for audio whose samples
            can be counted, or similar prompts are asked for where there is no prompt.

    """
    stored = limits.stored(key, "get.key")
    if similar_ms and not isinstance(key, ReplyKey):
        raise InvalidFieldError("get.similar_ms", "a similar prompt is for replies only")
    if not lease and not head_ms:
        prompt = limits.prompt(key) if similar_ms else None
        return Get(stored, keep=keep, prompt=prompt, similar_ms=similar_ms)
    if not isinstance(key, AudioKey):
        path, what = ("get.on_miss", "a lease") if lease else ("get.head_ms", "a head")
        raise InvalidFieldError(path, f"{what} is for audio only")
    form = canonical_format(key.format)
    if not form.sample_bytes:
        what = "a lease" if lease else "a head"
        raise InvalidFieldError("get.key.audio.format.encoding", f"{what} needs PCM s16le or mu-law")
    return Get(stored, form if lease else None, head_ms, keep, need)


def checked_put(
    key: Key,
    value: Value,
    limits: Limits,
    *,
    expected_version: int | None = None,
    tags: Sequence[str] = (),
    age_ms: int = 0,
) -> Put:
    """Return the request to write an entry; `tags` are names.

    Raises:
        InvalidFieldError: The key is unusable, the value is not of its kind, empty or too large, or there
            is something wrong with a tag.

    """
    stored = limits.stored(key, "put.key")
    kind = kind_of(value)
    if kind != stored.kind:
        raise InvalidFieldError("put.value", f"is of the kind {kind}, but its key is of {stored.kind}")
    path = f"put.value.{kind}"
    if isinstance(value, AudioValue):
        assert isinstance(key, AudioKey)
        value = checked_audio(value, canonical_format(key.format), path)
        if not value.audio:
            raise InvalidFieldError(f"{path}.audio", "must not be empty")
    elif isinstance(value, ReplyValue):
        if not value.text:
            raise InvalidFieldError(f"{path}.text", "must not be empty")
    else:
        check_messages(value.messages, f"{path}.messages", may_be_empty=True)
    if isinstance(value, HistoryValue):
        if tags:
            raise InvalidFieldError("put.tags", "are for audio and replies; a history has its session")
    else:
        value = replace(value, tags=checked_tags(tags, "put.tags"))
    size = size_bytes(value)
    if size > limits.max_value_bytes:
        raise InvalidFieldError(path, f"takes {size} bytes; the limit is {limits.max_value_bytes}")
    return Put(stored, value, expected_version, age_ms, limits.prompt(key))


def checked_audio(value: AudioValue, wanted: AudioFormat, path: str) -> AudioValue:
    """Return `value` with its whole format: what it leaves unsaid is as its key wants it.

    Raises:
        InvalidFieldError: Its format is another, or it is not whole samples.

    """
    given = value.format
    form = AudioFormat(
        given.encoding or wanted.encoding,
        given.sample_rate_hz or wanted.sample_rate_hz,
        given.channels or wanted.channels,
    )
    if form != AudioFormat(wanted.encoding, wanted.sample_rate_hz or form.sample_rate_hz, wanted.channels):
        raise InvalidFieldError(f"{path}.format", "is not the format of the key")
    if not form.sample_rate_hz:
        raise InvalidFieldError(f"{path}.format.sample_rate_hz", "must be set: the key leaves it open")
    if form.sample_bytes and len(value.audio) % form.sample_bytes:
        raise InvalidFieldError(f"{path}.audio", f"is not whole samples of {form.sample_bytes} bytes")
    return AudioValue(form, value.audio, value.words, value.tags)
