"""The providers that the LLM service may ask, as they are declared: a JSON list, in order."""

import importlib.util
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from services.llm.core.candidates import ProviderSpec
from voicemesh.runtime.breaker import BreakerSpec
from voicemesh.runtime.declarations import explain
from voicemesh.runtime.errors import SettingsError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS: Final = frozenset({"authorization", "content-length", "content-type", "host", "traceparent"})
_MAX_BYTES: Final = 1024 * 1024
_REHEARSAL: Final = "rehearsal"
OPENAI_KEY: Final = "OPENAI_API_KEY"
HTTP2_ADVICE: Final = "needs the package h2: pip install h2"

ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Continuing = Literal["ask", "prefill", "prefix", "assistant", "never"]
Reasoning = Literal["strip", "begins_inside", "keep"]


def checked_url(value: str, advice: str) -> str:
    """Return the address of an API without the blanks around it; "" for OpenAI's own.

    Raises:
        ValueError: It is none, or holds a password. `advice` says where that belongs.

    """
    value = value.strip()
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("not an address: the host or the port is malformed") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be http://HOST… or https://HOST…, for example http://127.0.0.1:8000/v1")
    if parts.username or parts.password:
        raise ValueError(f"must not hold a user or a password: it is printed. Use {advice}")
    return value


def checked_key(value: str) -> str:
    """Return a key without the blanks around it.

    Keys out of files and Kubernetes secrets often end in a newline, which no HTTP header may hold.

    Raises:
        ValueError: No header can hold it. The text does not.

    """
    key = value.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("must be printable ASCII without spaces")
    return key


class BreakerDeclaration(BaseModel):
    """When a provider is left alone: after many failures, which are also half of all ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """So many within the window."""
    window_s: Seconds = 30.0
    """The window, in seconds."""
    open_s: Seconds = 5.0
    """Seconds until one question tries it again; twice as long each time that fails, up to 8 times."""


class ProviderDeclaration(BaseModel):
    """One provider: OpenAI, or anything that speaks its chat completions protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """What it is called in reports, traces and notices."""
    base_url: str = ""
    """Address of its API; empty for OpenAI itself."""
    api_key_env: str | None = None
    """The environment variable that holds its key. Left out: OPENAI_API_KEY for OpenAI itself, and for any
    other address no key. The key itself never stands here."""
    model: ModelName
    """The model that it answers with, where the caller names none that it may be asked for."""
    models: Annotated[tuple[ModelName, ...], Field(max_length=256)] = ()
    """Further models that callers may name; `*` for any."""
    connect_timeout_s: Seconds = 5.0
    """Seconds that a connection may take."""
    total_timeout_s: Seconds = 30.0
    """Seconds that one answer may take."""
    first_token_timeout_s: Seconds = 10.0
    """Seconds that it may send nothing before its first token; reasoning is something."""
    idle_timeout_s: Seconds = 5.0
    """Seconds that it may send nothing between two tokens; then the stream counts as broken."""
    max_connections: Annotated[int, Field(ge=1, le=10000)] = 100
    """Connections at once; further questions wait for one."""
    max_keepalive_connections: Annotated[int, Field(ge=0, le=10000)] = 20
    """Idle connections that are kept."""
    http2: bool = False
    """Ask by HTTP/2 where the server offers it over TLS; needs the package h2."""
    max_retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often it is asked again before its first token; a budget bounds that over all turns."""
    headers: Annotated[dict[str, SecretStr], Field(max_length=32)] = {}
    """HTTP headers of every request. A value `$NAME` is that of the environment variable NAME."""
    continues_by: Continuing = "ask"
    """How a reply that broke off is gone on with. `ask`: what was said, and an instruction. `prefill`: by
    `continue_final_message` (vLLM, SGLang). `prefix`: by `prefix` in the message (DeepSeek, Mistral).
    `assistant`: a last message of the assistant is enough (llama.cpp, OpenRouter). `never`."""
    reasoning: Reasoning = "strip"
    """Reasoning between tags in the text. `strip`: left out at the beginning of a reply. `begins_inside`:
    the model's template opens the tag, so that a reply begins with reasoning. `keep`: spoken."""
    breaker: BreakerDeclaration = BreakerDeclaration()
    """When it is left alone."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be 1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit")
        if value == _REHEARSAL:
            raise ValueError(f"{_REHEARSAL!r} is the built-in provider; take another name")
        return value

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        return checked_url(value, "api_key_env")

    @field_validator("api_key_env")
    @classmethod
    def _check_variable(cls, value: str | None) -> str | None:
        # What is wrong here may be a key: it is not repeated.
        if value and not _VARIABLE.fullmatch(value):
            raise ValueError("must be the name of an environment variable, not a key")
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, content in value.items():
            if not _HEADER.fullmatch(name) or name.lower() in _OWN_HEADERS:
                raise ValueError(f"{name!r} is no header that can be set here")
            text = content.get_secret_value()
            if not text.isascii() or not text.isprintable():
                raise ValueError(f"{name}: must be printable ASCII")
        return value

    @field_validator("http2")
    @classmethod
    def _check_http2(cls, value: bool) -> bool:
        if value and importlib.util.find_spec("h2") is None:
            raise ValueError(HTTP2_ADVICE)
        return value

    @property
    def key_variable(self) -> str:
        """The variable that holds the key, "" for none."""
        if self.api_key_env is not None:
            return self.api_key_env
        return "" if self.base_url else OPENAI_KEY

    def key(self, environment: Mapping[str, str]) -> str:
        """Return its key; "" where it needs none.

        Raises:
            SettingsError: The variable is not set, or holds no key.

        """
        if not self.key_variable:
            return ""
        try:
            key = checked_key(environment.get(self.key_variable, ""))
        except ValueError as error:
            raise SettingsError(f"{self.key_variable}: {error}") from None
        if not key:
            raise SettingsError(f"provider {self.name!r}: api_key_env: {self.key_variable} is not set")
        return key

    def header_values(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return its headers, with what the variables hold.

        Raises:
            SettingsError: A variable is not set, or no header can hold it.

        """
        found = {}
        for name, content in self.headers.items():
            text = content.get_secret_value()
            if text.startswith("$"):
                try:
                    text = checked_key(environment.get(variable := text[1:], ""))
                except ValueError as error:
                    raise SettingsError(f"{variable}: {error}") from None
                if not text:
                    raise SettingsError(f"provider {self.name!r}: headers: {name}: {variable} is not set")
            found[name] = text
        return found

    def spec(self, retry_percent: float) -> ProviderSpec:
        """Return it as the core takes it."""
        return ProviderSpec(
            name=self.name,
            models=self.models,
            max_retries=self.max_retries,
            retry_percent=retry_percent,
            first_token_timeout_s=self.first_token_timeout_s,
            idle_timeout_s=self.idle_timeout_s,
            total_timeout_s=self.total_timeout_s,
            continues_by=self.continues_by,
            reasoning=self.reasoning,
            breaker=BreakerSpec(self.breaker.failures, self.breaker.window_s, self.breaker.open_s),
        )


def _named(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        declared = handler(value)
    except ValidationError as error:
        raise ValueError(explain(error, value, ProviderDeclaration, "provider")) from None
    names = [declaration.name for declaration in declared]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two providers are named {twice[0]!r}")
    return declared


PROVIDERS_TYPE = Annotated[tuple[ProviderDeclaration, ...], Field(max_length=16), WrapValidator(_named)]
"""The declarations, in the order in which the providers are asked; each name once."""
_PROVIDERS: Final[TypeAdapter[tuple[ProviderDeclaration, ...]]] = TypeAdapter(PROVIDERS_TYPE)


def read_providers(path: Path) -> tuple[ProviderDeclaration, ...]:
    """Return what the file at `path` declares.

    Raises:
        ValueError: It cannot be read, or says something wrong. The text names the file.

    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{path}: more than {_MAX_BYTES} bytes")
    try:
        declared = _PROVIDERS.validate_python(json.loads(content))
    except ValidationError as error:
        (problem,) = error.errors(include_url=False, include_input=False)  # all of them, in one text
        raise ValueError(f"{path}: {str(problem['msg']).removeprefix('Value error, ')}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    if not declared:
        raise ValueError(f"{path}: declares no provider")
    return declared


def check_secrets(
    declared: tuple[ProviderDeclaration, ...], environment: Mapping[str, str] = os.environ
) -> None:
    """Check that every variable that is referred to is set.

    Raises:
        ValueError: One is not.

    """
    for declaration in declared:
        try:
            declaration.key(environment)
            declaration.header_values(environment)
        except SettingsError as error:
            raise ValueError(str(error)) from None
