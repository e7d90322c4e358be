"""The file of keys: who is let in at the gateway, and what each may do.

    {"keys": [{
        "id": "shop", "sha256": "9f86d0…", "tenant": "acme",
        "scopes": ["speak", "converse"], "priority": "normal",
        "limits": {"requests_per_min": 600, "characters_per_min": 50000, "turns": 8},
        "expires": "2027-01-31T00:00:00Z", "disabled": false, "note": "the shop's kiosk"}]}

A key is `vmk_ID_SECRET`. The secret has 256 bits from the system's generator, so that one SHA-256 of the
whole key is enough to keep: nobody tries 2^256 of them, and a slow hash, which words of people need, would
let whoever sends wrong keys keep the gateway busy. This module is plain Python: the command line writes the
file, the gateway reads it.
"""

import base64
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from voicemesh import tenant as tenants

SCOPES: Final[Mapping[str, str]] = {
    "speak": "speak one text, over gRPC or HTTP, and see what can speak",
    "converse": "hold conversations, which ask the language model",
    "batch": "speak many texts, and warm the cache",
    "explain": "read the reports of turns of its own tenant",
    "usage": "read what its own tenant consumed",
    "operator": "see every tenant: turns, usage, the live page",
    "metrics": "scrape metrics from the HTTP port",
    "reflect": "ask for the contract by gRPC reflection",
    "tenant:any": "say for each call whose it is: for front ends that prove who their callers are",
}
"""What a key can be allowed, and what that means."""
USUAL_SCOPES: Final = ("speak", "converse", "explain")
PRIORITIES: Final = ("low", "normal", "high")
LIMITS: Final = ("requests_per_min", "characters_per_min", "turns")
PREFIX: Final = "vmk"
MAX_KEY_CHARS: Final = 200
MAX_BYTES: Final = 4_194_304
MAX_KEYS: Final = 10_000
_MOST: Final = 1_000_000_000
_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = (
    "id", "sha256", "tenant", "scopes", "priority", "limits", "created", "expires", "disabled", "note",
)  # fmt: skip
_SECRET_BYTES: Final = 32
_SHOWN: Final = 80


class KeyFileError(Exception):
    """The file cannot be used; the text says where and why, and never has a key in it."""


@dataclass(frozen=True)
class Key:
    """One entry."""

    id: str
    sha256: str
    """Of the whole key, in hexadecimal digits."""
    tenant: str
    scopes: tuple[str, ...]
    priority: str
    limits: Mapping[str, int]
    expires_unix_s: float | None
    disabled: bool
    note: str
    source: Mapping[str, Any]
    """As it stands in the file."""

    def state(self, now_s: float) -> str:
        """Return "active", "expired" or "revoked" at a time in seconds since 1970."""
        if self.disabled:
            return "revoked"
        return "expired" if self.expires_unix_s is not None and now_s >= self.expires_unix_s else "active"


def digest(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def id_of(key: str) -> str:
    """Return the id that is written into a key; "" for what is none."""
    prefix, _, rest = key.partition("_")
    name, found, _ = rest.partition("_")
    return name if prefix == PREFIX and found and len(key) <= MAX_KEY_CHARS else ""


def new_key(key_id: str) -> str:
    """Return a new key."""
    secret = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).decode().rstrip("=")
    return f"{PREFIX}_{key_id}_{secret}"


def parse(content: bytes) -> dict[str, Key]:
    """Return the keys of a file, by id.

    Raises:
        KeyFileError: Any part of it is wrong.

    """
    return {key.id: key for key in _checked(_document(content))}


def _document(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_BYTES:
        raise KeyFileError(f"has {len(content)} bytes; at most {MAX_BYTES} are taken")
    try:
        document = json.loads(content)
    except RecursionError:
        raise KeyFileError("is nested too deep") from None
    except ValueError as error:
        raise KeyFileError(f"is no JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise KeyFileError('must be an object with a list "keys"')
    if more := sorted(set(document) - {"keys"}):
        raise KeyFileError(f"has {more[0][:_SHOWN]!r}, which is nothing that it can have; it has keys")
    if len(document["keys"]) > MAX_KEYS:
        raise KeyFileError(f"keys: has {len(document['keys'])}; at most {MAX_KEYS} are taken")
    return document


def _checked(document: Mapping[str, Any]) -> list[Key]:
    keys: list[Key] = []
    seen: dict[str, int] = {}
    for place, source in enumerate(document["keys"]):
        try:
            key = _key(source)
        except ValueError as error:
            raise KeyFileError(f"keys[{place}].{error}") from None
        for what, value in (("id", key.id), ("sha256", key.sha256)):
            if value in seen:
                raise KeyFileError(f"keys[{place}].{what}: is that of keys[{seen[value]}], too")
            seen[value] = place
        keys.append(key)
    return keys


def _key(source: Any) -> Key:
    if not isinstance(source, dict):
        raise ValueError("id: is missing: a key is an object")  # noqa: TRY004 - told as all the others are
    for name in source:
        if name not in _FIELDS:
            raise ValueError(f"{name[:_SHOWN]}: is no field of a key; there are {', '.join(_FIELDS)}")
    key_id, sha256, tenant = (_text(source, name) for name in ("id", "sha256", "tenant"))
    check_id(key_id)
    if not _DIGEST.fullmatch(sha256):
        raise ValueError("sha256: must be the SHA-256 of the key: 64 digits of 0-9 and a-f")
    if wrong := tenants.problem(tenant):
        raise ValueError(f"tenant: {wrong}")
    scopes = source.get("scopes")
    if not isinstance(scopes, list) or not scopes:
        raise ValueError(f"scopes: must be a list of one or more of {', '.join(SCOPES)}")
    for scope in scopes:
        check_scope(scope)
    priority = source.get("priority", "normal")
    if priority not in PRIORITIES:
        raise ValueError(f"priority: must be one of {', '.join(PRIORITIES)}")
    disabled = source.get("disabled", False)
    if not isinstance(disabled, bool):
        raise ValueError("disabled: must be true or false")  # noqa: TRY004 - as above
    _text(source, "created")
    return Key(
        id=key_id,
        sha256=sha256,
        tenant=tenant,
        scopes=tuple(scopes),
        priority=priority,
        limits=_limits(source.get("limits", {})),
        expires_unix_s=time_of(expires) if (expires := _text(source, "expires")) else None,
        disabled=disabled,
        note=_text(source, "note"),
        source=source,
    )


def check_id(key_id: str) -> None:
    """Raise ValueError for what is no id."""
    if not _ID.fullmatch(key_id):
        raise ValueError("id: must be 1 to 64 of a-z, 0-9, '.' and '-', with a letter or digit at both ends")


def check_scope(scope: Any) -> None:
    """Raise ValueError for what is no scope."""
    if not isinstance(scope, str) or scope not in SCOPES:
        raise ValueError(f"scopes: {str(scope)[:_SHOWN]!r} is none of {', '.join(SCOPES)}")


def _text(source: Mapping[str, Any], name: str) -> str:
    value = source.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"{name}: must be text")  # noqa: TRY004 - told as all the others are
    return value


def _limits(source: Any) -> dict[str, int]:
    if not isinstance(source, dict):
        raise ValueError(f"limits: must be an object with {', '.join(LIMITS)}")  # noqa: TRY004 - as above
    for name, value in source.items():
        if name not in LIMITS:
            raise ValueError(f"limits.{name[:_SHOWN]}: is no limit; there are {', '.join(LIMITS)}")
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
            raise ValueError(
                f"limits.{name}: must be a whole number of 0 to {_MOST}; 0 is no limit of its own"
            )
    return dict(source)


def time_of(text: str) -> float:
    """Return the seconds since 1970 of a time in ISO 8601. Raises ValueError for what is none."""
    try:
        time = datetime.fromisoformat(text)
        seconds = (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError("expires: must be a time such as 2027-01-31T00:00:00Z")
    return seconds


def read(path: Path) -> dict[str, Key]:
    """Return the keys of a file.

    Raises:
        KeyFileError: It cannot be read, or used.

    """
    return parse(content_of(path))


def content_of(path: Path) -> bytes:
    """Return what is in the file, and no more of it than can be used.

    Raises:
        KeyFileError: It cannot be read.

    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"cannot be read: {error.strerror}") from None


def change(path: Path, edit: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the list of keys in a file as a whole; one that is not there is made, for its owner alone.

    Raises:
        KeyFileError: It cannot be used as it is, or as it would be, or not written.

    """
    try:
        with path.with_name(f"{path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            document = _document(content_of(path)) if path.exists() else {"keys": []}
            _checked(document)
            edit(document["keys"])
            _checked(document)
            _write(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise KeyFileError(f"cannot be written: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    """Write beside the file and rename: nobody reads half of it. Its mode stays."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
