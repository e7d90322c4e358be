"""`voicemesh doctor`: who answers prompts."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from voicemesh.cli.findings import MISSING, NOTE, OK, Check

REACH_TIMEOUT_S: Final = 1.0
_LIST: Final = "VOICEMESH_LLM_PROVIDERS"
_FILE: Final = "VOICEMESH_LLM_PROVIDERS_FILE"


def model_checks() -> Iterator[Check]:
    """Look at the providers that are declared, at the one that the variables of OpenAI name, or at none."""
    source = _FILE if os.environ.get(_FILE) else _LIST
    if os.environ.get(source, "").strip() not in ("", "[]"):
        yield from _declared(source)
        return
    url = os.environ.get("OPENAI_BASE_URL", "")
    key = "set" if os.environ.get("OPENAI_API_KEY") else "not set"
    if url or key == "set":
        shown = f"OPENAI_BASE_URL {without_secret(url) or 'default'}, OPENAI_API_KEY {key}"
        if url and (trouble := _unreachable(url)):
            yield Check(
                "model", MISSING, f"{shown}: {trouble}", "start the model's server, or set OPENAI_BASE_URL"
            )
        else:
            yield Check("model", OK, shown)
    else:
        yield Check(
            "model",
            NOTE,
            "no key and no base URL: the built-in rehearsal answers",
            "set OPENAI_API_KEY, or OPENAI_BASE_URL for any server that speaks its protocol",
        )


def _declared(source: str) -> Iterator[Check]:
    """Look at each provider of the list; what is wrong with its fields, the service itself says."""
    value = os.environ[source]
    try:
        found = json.loads(Path(value).read_bytes() if source == _FILE else value)
        providers = [each for each in found if isinstance(each, dict)]
        malformed = not providers or len(providers) < len(found)
    except (OSError, ValueError, TypeError) as error:
        yield Check("models", MISSING, f"{source}: {error}", "see docs/llm.md")
        return
    if malformed:
        yield Check("models", MISSING, f"{source}: must be a list of objects", "see docs/llm.md")
        return
    for number, provider in enumerate(providers, start=1):
        yield _provider(f"model {number}", provider, first=number == 1)


def _provider(title: str, provider: Mapping[str, Any], *, first: bool) -> Check:
    url = str(provider.get("base_url") or "")
    variable = provider.get("api_key_env")
    variable = str(variable) if variable is not None else "" if url else "OPENAI_API_KEY"
    key = f"{variable} {'set' if os.environ.get(variable) else 'not set'}" if variable else "no key"
    where = without_secret(url) or "OpenAI"
    shown = f"{provider.get('name', 'without a name')}: {provider.get('model', 'no model')} at {where}, {key}"
    if variable and not os.environ.get(variable):
        return Check(title, MISSING, shown, f"set {variable}: the service does not start without it")
    if url and (trouble := _unreachable(url)):
        # Turns go on without one that is not the first, and with less also without that.
        state = MISSING if first else NOTE
        return Check(
            title, state, f"{shown}: {trouble}", "start the model's server, or take it out of the list"
        )
    return Check(title, OK, shown)


def _unreachable(url: str) -> str:
    """Return why nobody listens at `url`, or "" where somebody does."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=REACH_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        return f"nothing answers there ({error})"
    return ""


def without_secret(url: str) -> str:
    """Return `url` without user and password."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url
