"""What the LLM service can be told."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from voicemesh.runtime.settings import ListenAddress, ServerSettings


class LlmSettings(ServerSettings):
    """Settings of the LLM service. `OPENAI_API_KEY` and `OPENAI_BASE_URL` are the `openai` package's own."""

    llm_listen: ListenAddress = "127.0.0.1:50051"
    """Where the service listens."""
    openai_api_key: Annotated[SecretStr | None, Field(validation_alias="OPENAI_API_KEY")] = None
    """Key of the provider. Not needed for servers that ask for none."""
    openai_base_url: Annotated[str, Field(validation_alias="OPENAI_BASE_URL")] = ""
    """Address of anything that speaks OpenAI's protocol; empty for OpenAI itself."""
    llm_provider: Literal["auto", "openai", "rehearsal"] = "auto"
    """Who answers. `auto`: `openai` where a key or a base URL is set, else the built-in `rehearsal`."""
    llm_model: Annotated[str, Field(min_length=1, max_length=256)] = "gpt-4o-mini"
    """Model of the provider `openai`, where the caller names none."""
    llm_max_tokens: Annotated[int, Field(ge=1, le=131072)] = 300
    """Longest reply in tokens, where the caller sets none."""
    llm_temperature: Annotated[float, Field(ge=0, le=2)] = 0.5
    """Sampling temperature, where the caller sets none."""
    llm_top_p: Annotated[float, Field(gt=0, le=1)] = 0.85
    """Nucleus sampling mass, where the caller sets none."""
    llm_connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Seconds that a connection to the provider may take."""
    llm_total_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Seconds that a whole reply may take, with retries."""
    llm_max_connections: Annotated[int, Field(ge=1, le=10000)] = 100
    """Connections to the provider at once; further replies wait for one."""
    llm_max_keepalive_connections: Annotated[int, Field(ge=0, le=10000)] = 20
    """Idle connections that are kept for the next reply."""
    llm_max_retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often a provider that fails before its first token is asked again."""
    llm_max_message_chars: Annotated[int, Field(ge=1, le=4194304)] = 200000
    """Characters of text over all messages of one request."""
    llm_max_image_bytes: Annotated[int, Field(ge=0, le=67108864)] = 2097152
    """Bytes of one picture; of a data: address, its characters."""
    rehearsal_ttft_ms: Annotated[float, Field(ge=0, le=60000)] = 150.0
    """Rehearsal model: milliseconds to its first token."""
    rehearsal_tokens_per_s: Annotated[float, Field(gt=0, le=1000000)] = 50.0
    """Rehearsal model: tokens per second from then on."""

    @field_validator("openai_api_key")
    @classmethod
    def _check_key(cls, value: SecretStr | None) -> SecretStr | None:
        # Keys out of files and Kubernetes secrets often end in a newline, which no HTTP header may hold.
        key = value.get_secret_value().strip() if value is not None else ""
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("must be printable ASCII without spaces")
        return SecretStr(key) if key else None

    @field_validator("openai_base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
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
            raise ValueError("must not hold a user or a password: it is printed. Use OPENAI_API_KEY")
        return value

    @field_validator("llm_provider")
    @classmethod
    def _check_provider(cls, value: str, info: ValidationInfo) -> str:
        needs = value == "openai" and not {"openai_api_key", "openai_base_url"} - info.data.keys()
        if needs and not info.data["openai_api_key"] and not info.data["openai_base_url"]:
            raise ValueError(
                "openai needs OPENAI_API_KEY, or OPENAI_BASE_URL for a server that asks for no key"
            )
        return value

    @property
    def answers_with(self) -> Literal["openai", "rehearsal"]:
        """The provider that `llm_provider` stands for."""
        if self.llm_provider != "auto":
            return self.llm_provider
        return "openai" if self.openai_api_key or self.openai_base_url else "rehearsal"
