"""Which variables of an environment hold secrets, and which process needs which: least privilege.

An operator has one environment; of what is secret in it each process gets what it uses itself. What is no
secret is passed on as it is: a setting that is missing would be another fault than a leak, and no better.

    VOICEMESH_<SERVICE>_…             of that service
    OPENAI_API_KEY                    of the LLM, and of the TTS where a voice may speak through such a server
    what a declaration names          of the service that has it declared (`api_key_env`, headers, options)
    OTEL_…                            of every service, of no worker
    any other name, or an address with a password in it        of nobody
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

SERVICES: Final = ("gateway", "llm", "chunker", "tts", "cache")

_OPENAI_KEY: Final = "OPENAI_API_KEY"
_SECRET_NAME: Final = re.compile(
    r"(^|_)(API_?KEYS?|ACCESS_KEY|KEYS?|TOKEN|AUTH|HEADERS|CREDENTIALS?|JWT|DSN|COOKIE)(_|$)"
    r"|SECRET|PASSW|PASSPHRASE"
)
_PASSWORD: Final = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_OWNED: Final = {
    "VOICEMESH_REDIS_URL": "cache",
    # Each may hold headers, or options of engines, that are secrets themselves.
    "VOICEMESH_LLM_PROVIDERS": "llm",
    "VOICEMESH_TTS_VOICES": "tts",
    # What Coqui's models are fetched with.
    "HF_TOKEN": "tts",
}
_DECLARATIONS: Final = {"llm": "VOICEMESH_LLM_PROVIDERS", "tts": "VOICEMESH_TTS_VOICES"}
_MOST_BYTES: Final = 4 * 1024 * 1024
_MOST_DEEP: Final = 16


def is_secret(name: str, value: str) -> bool:
    """Return whether a variable may hold a secret, by its name or because its value has a password in it."""
    upper = name.upper()
    if upper in _OWNED or _SECRET_NAME.search(upper):
        return True
    # A proxy is needed by whoever goes out, and grpc looks for one too.
    return not upper.endswith("_PROXY") and _PASSWORD.search(value) is not None


def environment_of(service: str, environment: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return what a service gets of an environment: all of it but the secrets of others.

    Args:
        service: One of `SERVICES`.
        environment: The operator's.
        root: The folder that the service runs in, for files of declarations.

    """
    named = frozenset(_named(service, environment, root))
    return {
        name: value
        for name, value in environment.items()
        if name in named or not is_secret(name, value) or _owns(service, name)
    }


def environment_of_worker(environment: Mapping[str, str], declared: object) -> dict[str, str]:
    """Return what a process gets that runs an engine: no secret but those that its declaration names.

    `declared` is any JSON value: each text in it that is the name of a variable is such a name.
    """
    named = frozenset(text for text in texts_of(declared) if text in environment)
    return {name: value for name, value in environment.items() if name in named or not is_secret(name, value)}


def texts_of(value: object, deep: int = _MOST_DEEP) -> Iterator[str]:
    """Yield the texts in a JSON value, to a depth of 16."""
    if isinstance(value, str):
        yield value
    elif deep and isinstance(value, Mapping):
        for each in value.values():
            yield from texts_of(each, deep - 1)
    elif deep and isinstance(value, Collection):
        for each in value:
            yield from texts_of(each, deep - 1)


def _owns(service: str, name: str) -> bool:
    upper = name.upper()
    owner = _OWNED.get(upper)
    if owner is not None:
        return owner == service
    if upper.startswith("OTEL_"):
        return True
    if not upper.startswith("VOICEMESH_"):
        return False
    of = upper.split("_")[1].lower()
    # What is of no service is of the mesh, as the paths of its certificates; a caller's own key is of none.
    return of == service or (of not in SERVICES and upper not in _CALLERS)


_CALLERS: Final = frozenset({"VOICEMESH_API_KEY", "VOICEMESH_KEY", "VOICEMESH_TOKEN"})
"""What a client shows the gateway."""


def _named(service: str, environment: Mapping[str, str], root: Path) -> Iterator[str]:
    """Yield the variables that the declarations of a service name, or that it reads without one."""
    variable = _DECLARATIONS.get(service)
    if variable is None:
        return
    if service == "llm":
        yield _OPENAI_KEY
    declared = [_read(environment.get(variable, ""))]
    if path := environment.get(f"{variable}_FILE", ""):
        declared.append(_read_file(root / path))
        yield _OPENAI_KEY  # the file may have such a voice later
    for text in texts_of(declared):
        if text in environment:
            yield text
        elif text == "openai":
            yield _OPENAI_KEY


def _read(text: str) -> object:
    # What is wrong with it the service says itself, better.
    try:
        read: object = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    return read


def _read_file(path: Path) -> object:
    try:
        with path.open("rb") as file:
            return _read(file.read(_MOST_BYTES).decode())
    except (OSError, ValueError):
        return None
