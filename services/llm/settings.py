"""What the LLM service can be told."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator

from services.llm.core.candidates import ANY_MODEL
from services.llm.declarations import (
    HTTP2_ADVICE,
    OPENAI_KEY,
    PROVIDERS_TYPE,
    Continuing,
    ProviderDeclaration,
    Reasoning,
    check_secrets,
    checked_key,
    checked_url,
    read_providers,
)
from voicemesh.runtime.settings import ListenAddress, MetricsAddress, ServerSettings


class LlmSettings(ServerSettings):
    """Settings of the LLM service. `OPENAI_API_KEY` and `OPENAI_BASE_URL` are the `openai` package's own."""

    llm_listen: ListenAddress = "127.0.0.1:50051"
    """Where the service listens."""
    llm_metrics_listen: MetricsAddress = ""
    """Where Prometheus scrapes this process; empty: nowhere. `voicemesh up` sets it."""
    openai_api_key: Annotated[SecretStr | None, Field(validation_alias="OPENAI_API_KEY")] = None
    """Key of the provider. Not needed for servers that ask for none."""
    openai_base_url: Annotated[str, Field(validation_alias="OPENAI_BASE_URL")] = ""
    """Address of anything that speaks OpenAI's protocol; empty for OpenAI itself."""
    llm_providers: PROVIDERS_TYPE = ()
    """Providers in the order in which they are asked: a JSON list of declarations, see docs/llm.md. Empty:
    one, of OPENAI_API_KEY, OPENAI_BASE_URL and the variables below that speak of `the provider`."""
    llm_providers_file: str = ""
    """A JSON file with that list instead, which is read at start."""
    llm_provider: Literal["auto", "openai", "rehearsal"] = "auto"
    """Who answers. `auto`: `openai` where a list, key or base URL is set, else the built-in `rehearsal`."""
    llm_model: Annotated[str, Field(min_length=1, max_length=256)] = "gpt-4o-mini"
    """Model of the provider `openai`, where the caller names none."""
    llm_max_tokens: Annotated[int, Field(ge=1, le=131072)] = 300
    """Longest reply in tokens, where the caller sets none."""
    llm_context_tokens: Annotated[int, Field(ge=0, le=100000000)] = 0
    """Tokens that prompt and reply may have together, the least of all providers; 0: not known."""
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
    """How often the provider is asked again that fails before its first token."""
    llm_first_token_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """Seconds that the provider may send nothing before its first token; reasoning is something."""
    llm_idle_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Seconds that the provider may send nothing between two tokens; then the stream counts as broken."""
    llm_http2: bool = False
    """Ask the provider by HTTP/2, where it offers that over TLS; needs the package h2."""
    llm_continues_by: Continuing = "ask"
    """How the provider goes on with a reply that broke off; see docs/llm.md."""
    llm_reasoning: Reasoning = "strip"
    """Reasoning between tags at the beginning of the provider's text: left out (`strip`), left out up to the
    closing tag of one that its template opened (`begins_inside`), or spoken (`keep`)."""
    llm_retry_percent: Annotated[float, Field(ge=0, le=100)] = 10.0
    """Percent of all questions to a provider that may be asked of it again, over all turns; 0: none is."""
    llm_retry_wait_s: Annotated[float, Field(ge=0, le=60)] = 1.0
    """Longest wait for a provider while another can be asked instead."""
    llm_continue: bool = True
    """A reply that breaks off behind its first token is gone on with; `false`: the turn fails there."""
    llm_hedge_percent: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Percent of all questions that may be asked of the next provider as well, because their first token is
    later than 95 % of the last ones; 0: none."""
    llm_keep_warm_s: Annotated[float, Field(ge=0, le=3600)] = 20.0
    """A provider that was asked nothing for so many seconds is asked for its list of models, so that a
    connection stays open; 0: only at start."""
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
        key = checked_key(value.get_secret_value()) if value is not None else ""
        return SecretStr(key) if key else None

    @field_validator("openai_base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        return checked_url(value, OPENAI_KEY)

    @field_validator("llm_http2")
    @classmethod
    def _check_http2(cls, value: bool) -> bool:
        if value and importlib.util.find_spec("h2") is None:
            raise ValueError(HTTP2_ADVICE)
        return value

    @field_validator("llm_provider")
    @classmethod
    def _check_provider(cls, value: str, info: ValidationInfo) -> str:
        named = ("openai_api_key", "openai_base_url", "llm_providers", "llm_providers_file")
        needs = value == "openai" and not set(named) - info.data.keys()
        if needs and not any(info.data[name] for name in named):
            raise ValueError(
                "openai needs OPENAI_API_KEY, OPENAI_BASE_URL for a server that asks for no key, or "
                "VOICEMESH_LLM_PROVIDERS"
            )
        return value

    _declared: tuple[ProviderDeclaration, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _check_providers(self) -> "LlmSettings":
        source = "VOICEMESH_LLM_PROVIDERS"
        declared = self.llm_providers
        try:
            if self.llm_providers_file:
                source = "VOICEMESH_LLM_PROVIDERS_FILE"
                if declared:
                    raise ValueError("takes the place of VOICEMESH_LLM_PROVIDERS; set one of them")  # noqa: TRY301
                declared = read_providers(Path(self.llm_providers_file))
            if self.answers_with == "openai":
                check_secrets(declared, os.environ)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
        self._declared = declared
        return self

    @property
    def answers_with(self) -> Literal["openai", "rehearsal"]:
        """The provider that `llm_provider` stands for."""
        if self.llm_provider != "auto":
            return self.llm_provider
        listed = self.llm_providers or self.llm_providers_file
        return "openai" if listed or self.openai_api_key or self.openai_base_url else "rehearsal"

    @property
    def declared_providers(self) -> tuple[ProviderDeclaration, ...]:
        """The list of providers; of one, where the variables of a single provider are all there is."""
        return self._declared or (
            ProviderDeclaration(
                name="openai",
                base_url=self.openai_base_url,
                api_key_env=OPENAI_KEY if self.openai_api_key else "",
                model=self.llm_model,
                models=(ANY_MODEL,),
                connect_timeout_s=self.llm_connect_timeout_s,
                total_timeout_s=self.llm_total_timeout_s,
                first_token_timeout_s=self.llm_first_token_timeout_s,
                idle_timeout_s=self.llm_idle_timeout_s,
                max_connections=self.llm_max_connections,
                max_keepalive_connections=self.llm_max_keepalive_connections,
                http2=self.llm_http2,
                max_retries=self.llm_max_retries,
                continues_by=self.llm_continues_by,
                reasoning=self.llm_reasoning,
            ),
        )

    def key_of(self, declaration: ProviderDeclaration) -> str:
        """Return the key of a provider, "" for none. The environment was checked when this was made."""
        if not self._declared:
            return self.openai_api_key.get_secret_value() if self.openai_api_key else ""
        return declaration.key(os.environ)
