"""Settings of the gateway."""

import os
from functools import cached_property
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from gateway import prompts
from gateway.access.algorithms import Algorithm
from gateway.access.local import is_local_name
from gateway.admission import rules
from gateway.admission.brownout import Step
from gateway.prices import SpeechPrice, TextPrice
from voicemesh import tenant
from voicemesh.runtime.server import LEAST_PING_INTERVAL_MS
from voicemesh.runtime.settings import ListenAddress, MetricsAddress, ServerSettings
from voicemesh.runtime.tls_files import TlsFiles

_GONE: Final = {
    "VOICEMESH_PRICE_INPUT_USD_PER_MTOK": "VOICEMESH_PRICES_LLM",
    "VOICEMESH_PRICE_CACHED_INPUT_USD_PER_MTOK": "VOICEMESH_PRICES_LLM",
    "VOICEMESH_PRICE_OUTPUT_USD_PER_MTOK": "VOICEMESH_PRICES_LLM",
    "VOICEMESH_PRICE_SPEECH_USD_PER_MCHAR": "VOICEMESH_PRICES_SPEECH",
}
"""Variables of earlier versions, and what says the same now: ignored, they would make every cost wrong."""


def _check_tenant(name: str) -> str:
    if wrong := tenant.problem(name) or ("" if name else "is empty"):
        raise ValueError(wrong)
    return name


TenantName = Annotated[str, AfterValidator(_check_tenant)]


class GatewaySettings(ServerSettings):
    """What the gateway can be told."""

    gateway_listen: ListenAddress = "127.0.0.1:50050"
    """Where callers reach the gateway over gRPC."""
    gateway_metrics_listen: MetricsAddress = ""
    """Where Prometheus scrapes this process; empty: nowhere. `voicemesh up` sets it."""
    gateway_metrics_tenants: Annotated[tuple[TenantName, ...], Field(max_length=8)] = ()
    """Tenants that metrics show by name, as a JSON list; all others are `other`. Without any, none are."""
    gateway_ttfa_objective_ms: Annotated[int, Field(ge=1, le=60_000)] = 800
    """A turn whose first audio comes later has missed the objective that `voicemesh.turn.slo` counts by."""
    http_listen: ListenAddress = "127.0.0.1:8080"
    """Where callers reach the gateway over HTTP."""
    http_enabled: bool = True
    """Answer HTTP at all."""
    gateway_tls_cert: str = ""
    """A PEM file with the certificate that callers see, over gRPC and HTTP; empty: plain text."""
    gateway_tls_key: str = ""
    """A PEM file with its private key."""
    gateway_tls_client_ca: str = ""
    """A PEM file with authorities: callers must show a certificate of one of them. Empty: they need none."""
    gateway_tls_min: Literal["1.2", "1.3"] = "1.2"
    """Lowest version of TLS over HTTP. Over gRPC it is 1.2, which Python's gRPC cannot change."""
    llm_addr: str = "127.0.0.1:50051"
    """Where the LLM service is: any gRPC target."""
    chunker_addr: str = "127.0.0.1:50052"
    """Where the chunker service is."""
    tts_addr: str = "127.0.0.1:50053"
    """Where the TTS service is."""
    cache_addr: str = "127.0.0.1:50054"
    """Where the cache service is."""
    gateway_proxied: tuple[Literal["llm", "chunker", "tts", "cache"], ...] = ()
    """Services behind a proxy that picks the process and asks it whether it accepts calls, as a JSON list:
    the gateway then does not."""
    gateway_lookup_s: Annotated[float, Field(ge=0, le=3_600)] = 1.0
    """How often names in those addresses are looked up, so that new processes get turns; 0: when a
    connection ends, as gRPC does."""
    gateway_peer_ping_ms: Annotated[int, Field(ge=LEAST_PING_INTERVAL_MS, le=600_000)] = 250
    """A service from which nothing came for so long is pinged, to find a process that hangs."""
    gateway_peer_ping_timeout_ms: Annotated[int, Field(ge=50, le=600_000)] = 500
    """One that does not answer that within this time is taken to hang: turns go on at another process."""
    gateway_system_prompt: Annotated[str, Field(min_length=1, max_length=prompts.MAX_CHARS)] = (
        prompts.FULL_TEXT
    )
    """Instructions to the model, where a caller gives none of its own: the prompt that is named `full`."""
    gateway_prompts: dict[str, str] = Field(default_factory=dict)
    """Further named system prompts, as a JSON object of names and texts; also `full`, `compact`."""
    gateway_prompts_file: str = ""
    """A file with such an object; names in `VOICEMESH_GATEWAY_PROMPTS` go before those in it."""
    gateway_prompt_variant: str = prompts.AUTO
    """System prompt where a caller names none; `auto`: `full`, or `compact` where context is scarce."""
    gateway_prompt_tokens: Annotated[int, Field(ge=100, le=10_000_000)] = 8_000
    """Most tokens of a prompt, with its history and question. Above, the oldest turns go, down to 70%."""
    gateway_max_turns: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Turns that may run at once; more are refused with RESOURCE_EXHAUSTED."""
    gateway_min_turns: Annotated[int, Field(ge=1, le=100_000)] = 64
    """The limit that is learned of engines never goes below; as much as VOICEMESH_GATEWAY_MAX_TURNS: off.
    Fewer where engines speak few chunks at once."""
    gateway_start_turns: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Where that limit begins, while nothing is known of the mesh; 0: at VOICEMESH_GATEWAY_MAX_TURNS."""
    gateway_lateness_ms: Annotated[int, Field(ge=0, le=60_000)] = 0
    """How late engines may be by load before fewer turns are let in; 0: a tenth of the TTFA objective."""
    gateway_brownout: Annotated[tuple[Step, ...], Field(max_length=3)] = (
        Step.LONGER_CHUNKS,
        Step.CHEAPER_VOICE,
    )
    """What is given up before a turn is refused, in order, as a JSON list; also `cached_only`. See
    docs/overload.md."""
    gateway_overload_voices: dict[str, str] = Field(default_factory=dict)
    """What `cheaper_voice` takes, as a JSON object: a voice, or `*` for all others, and the cheaper one."""
    gateway_limits: str = ""
    """What tenants and keys may take, as a JSON object; docs/overload.md has the form. Empty: no limits."""
    gateway_limits_file: str = ""
    """A file with such an object, instead; it is read at start."""
    gateway_max_prompt_chars: Annotated[int, Field(ge=1, le=1_000_000)] = 32_768
    """Most characters of a prompt."""
    gateway_max_text_chars: Annotated[int, Field(ge=1, le=10_000_000)] = 200_000
    """Most characters of a turn of the caller's own words."""
    chunker_max_chars: Annotated[int, Field(ge=20, le=10_000)] = 400
    """Most characters of a chunk, as the chunker is told by the same variable: no caller may ask for more."""
    gateway_text_idle_s: Annotated[float, Field(ge=0, le=3_600)] = 60.0
    """Longest wait for more of a caller's words; then the turn fails: DEADLINE_EXCEEDED. 0: no limit."""
    gateway_draft_s: Annotated[float, Field(ge=0.1, le=600)] = 10.0
    """A draft that is not confirmed by then is discarded; its confirmation begins it anew."""
    gateway_max_channels: Annotated[int, Field(ge=0, le=100_000)] = 64
    """Channels that there may be at once; streams that name more are refused with RESOURCE_EXHAUSTED."""
    gateway_max_listeners: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Streams that may share one channel."""
    gateway_channel_backlog_s: Annotated[float, Field(ge=1, le=600)] = 60.0
    """Audio that a channel keeps for members who are slow, or join late; who falls behind it loses frames."""
    gateway_max_image_bytes: Annotated[int, Field(ge=0, le=50_000_000)] = 2_097_152
    """Most bytes of the pictures of a prompt; the LLM service and the cache have limits of their own."""
    gateway_max_images: Annotated[int, Field(ge=0, le=100)] = 4
    """Most pictures of a prompt; 0: none are taken."""
    gateway_max_lead_ms: Annotated[int, Field(ge=0, le=600_000)] = 5_000
    """Synthesis stays at most this far ahead of playback, where the caller says nothing; 0: no limit."""
    gateway_history_messages: Annotated[int, Field(ge=0, le=1_000)] = 40
    """Most messages that a session's history keeps; 0: none."""
    gateway_history_chars: Annotated[int, Field(ge=1_000, le=1_000_000)] = 100_000
    """Most characters that a session's history keeps, and its last picture."""
    gateway_cache_timeout_ms: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Longest that a turn waits for an answer of the cache, but for its session's history."""
    gateway_history_timeout_ms: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Longest that it waits for that, which nobody else has: this, or the former where that is more."""
    gateway_cache_breaker_s: Annotated[float, Field(ge=0.1, le=600)] = 1.0
    """How long the cache is left alone after it failed; doubles, up to 30 times this, while it fails."""
    gateway_shared_cache: Literal["none", "audio", "all"] = "none"
    """What all tenants find of each other in the cache: nothing, `audio`, or `all`, which is replies too."""
    flags_file: str = ""
    """A JSON file of feature flags, which is watched: see docs/flags.md."""
    flags_provider: str = ""
    """Another provider of OpenFeature, as `module:factory`; then `VOICEMESH_FLAGS_FILE` is not read."""
    flags_timeout_ms: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Longest that a turn waits for such a provider; then its session keeps what it was last given."""
    gateway_follow_stall_ms: Annotated[int, Field(ge=10, le=600_000)] = 3_000
    """Longest that a turn waits for more of the audio that another one has made; then it goes on by itself.
    More than VOICEMESH_CACHE_LEASE_TTL_MS, after which the cache hands over."""
    gateway_standby_s: Annotated[float, Field(ge=0, le=3_600)] = 60.0
    """How long a stream to the LLM service stands by for a caller's next prompt; 0: none does."""
    gateway_voices_poll_s: Annotated[float, Field(gt=0, le=3_600)] = 1.0
    """How often the TTS service is asked for its voices, which may change while it serves."""
    gateway_warm_file: str = ""
    """Phrases, one a line or as JSONL, that are kept spoken in the cache; see docs/cache.md. Empty: none."""
    gateway_warm_every_s: Annotated[float, Field(ge=1, le=86_400)] = 3_600.0
    """How often those phrases are looked up, so that what has expired is spoken again."""
    gateway_remembered_turns: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Turns whose reports `ExplainTurn` and `ListTurns` can find, and as many that were refused."""
    gateway_remembered_bytes: Annotated[int, Field(ge=100_000, le=10_000_000_000)] = 33_554_432
    """Most bytes of those reports, which hold the texts of replies; the oldest go first."""
    gateway_attribution_check: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of turns of which it is checked that their stages add up; a violation is counted and logged."""
    gateway_live_page: Literal["local", "off", "open"] = "local"
    """Who sees the live page at /live: a browser on this machine, nobody, or whoever reaches the port."""
    gateway_live_text: bool = False
    """Show prompts and replies on the live page; else ids and figures alone."""
    gateway_live_audio_bytes: Annotated[int, Field(ge=0, le=10_000_000_000)] = 0
    """Bytes of audio that are kept to hear turns again on the live page, as PCM; 0: none is."""
    gateway_live_audio_s: Annotated[float, Field(ge=1, le=86_400)] = 600.0
    """How long that audio is kept at most."""
    gateway_live_hosts: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    """Names, as a JSON list, under which browsers may ask for an open live page; addresses will do always."""
    gateway_keys_file: str = ""
    """The file of keys that callers must show, which is watched: docs/access.md. Empty: nobody is asked."""
    gateway_jwt_jwks: str = ""
    """Public keys of tokens: a JWKS file, or its https:// address. Empty: no tokens are taken."""
    gateway_jwt_issuer: str = ""
    """`iss` that a token must have."""
    gateway_jwt_audience: str = ""
    """`aud` that a token must have, alone or among others."""
    gateway_jwt_algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256")
    """What tokens may be signed with, as a JSON list; key pairs alone can be named."""
    gateway_jwt_leeway_s: Annotated[float, Field(ge=0, le=600)] = 30.0
    """How much the clocks of who issues tokens and of this machine may differ."""
    gateway_jwt_refresh_s: Annotated[float, Field(ge=10, le=86_400)] = 300.0
    """How often an address of public keys is asked; once more where a token names another key."""
    gateway_jwt_tenant_claim: Annotated[str, Field(min_length=1, max_length=200)] = "tenant"
    """The claim that says whose calls they are."""
    gateway_jwt_scope_claim: Annotated[str, Field(min_length=1, max_length=200)] = "scope"
    """The claim that lists scopes: names with spaces between them, or a list."""
    gateway_max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 4_096
    """gRPC connections that there may be at once; further ones are closed as they come."""
    gateway_max_connection_streams: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Calls that one gRPC connection may have open; who opens more waits."""
    gateway_max_caller_streams: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Streams that one caller may have open, by key or, without keys, by address; then RESOURCE_EXHAUSTED."""
    gateway_caller_streams_per_s: Annotated[float, Field(ge=0, le=1_000_000)] = 100.0
    """Streams that one caller may open in a second, ten seconds' worth at once; then RESOURCE_EXHAUSTED.
    A Converse stream carries any number of turns. 0: no limit."""
    gateway_configure_s: Annotated[float, Field(ge=0, le=3_600)] = 30.0
    """How long a Converse stream may be open before its `configure`; 0: no limit."""
    gateway_idle_s: Annotated[float, Field(ge=0, le=86_400)] = 3_600.0
    """How long a Converse stream may say and be told nothing; 0: no limit."""
    gateway_slow_reader_s: Annotated[float, Field(ge=0, le=3_600)] = 60.0
    """A caller that takes nothing of what waits for it for so long is cut off; 0: never."""
    http_max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 1_024
    """HTTP connections that there may be at once; further ones are closed as they come."""
    http_max_address_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """The same for those of one address, which may be that of a proxy."""
    http_request_s: Annotated[float, Field(ge=0.1, le=3_600)] = 30.0
    """How long an HTTP request may take to arrive, header and body, and a connection to begin with one."""
    prices_llm: dict[str, TextPrice] = Field(default_factory=dict)
    """Prices of models in US dollars, as JSON by PROVIDER/MODEL; `docs/cost.md` has the form."""
    prices_speech: dict[str, SpeechPrice] = Field(default_factory=dict)
    """Prices of voices in US dollars, as JSON by voice; `docs/cost.md` has the form."""

    @field_validator("gateway_prompts")
    @classmethod
    def _check_prompts(cls, value: dict[str, str]) -> dict[str, str]:
        return prompts.checked(value)

    @field_validator("gateway_brownout")
    @classmethod
    def _check_brownout(cls, value: tuple[Step, ...]) -> tuple[Step, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a step twice")
        return value

    @field_validator("gateway_prompts_file")
    @classmethod
    def _check_prompts_file(cls, value: str) -> str:
        prompts.read(value)
        return value

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        for name in os.environ:
            if new := _GONE.get(name.upper()):
                raise ValueError(
                    f"{name}: is no setting any more: say it in {new} (docs/cost.md has the form)"
                )
        if self.gateway_jwt_jwks:
            self._check_tokens()
        if self.gateway_prompt_variant not in (prompts.AUTO, *self.system_prompts):
            known = ", ".join((prompts.AUTO, *self.system_prompts))
            raise ValueError(
                f"VOICEMESH_GATEWAY_PROMPT_VARIANT: there is no prompt {self.gateway_prompt_variant!r}; "
                f"there are {known}"
            )
        return self

    def _check_tokens(self) -> None:
        for name in ("gateway_jwt_issuer", "gateway_jwt_audience"):
            if not getattr(self, name):
                raise ValueError(
                    f"VOICEMESH_{name.upper()}: must be set where VOICEMESH_GATEWAY_JWT_JWKS is: a token for "
                    "somebody else is not to be taken"
                )
        address = urlsplit(self.gateway_jwt_jwks)
        if address.scheme == "http" and not is_local_name(address.netloc):
            raise ValueError(
                "VOICEMESH_GATEWAY_JWT_JWKS: must begin with https://: who changes keys on their way is in"
            )

    @property
    def edge_tls_files(self) -> TlsFiles:
        """Where the certificates of the edge are."""
        return TlsFiles(
            self.gateway_tls_cert,
            self.gateway_tls_key,
            self.gateway_tls_client_ca,
            "VOICEMESH_GATEWAY_TLS_CERT",
            "VOICEMESH_GATEWAY_TLS_KEY",
            "VOICEMESH_GATEWAY_TLS_CLIENT_CA",
        )

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        assert self.admission_rules is not None  # read now, so that what is wrong is told at start
        return self

    @cached_property
    def admission_rules(self) -> rules.Rules:
        """What tenants and keys may take."""
        return rules.read(self.gateway_limits, self.gateway_limits_file)

    @property
    def accepted_lateness_ms(self) -> float:
        """How late engines may be by load before fewer turns are let in."""
        return self.gateway_lateness_ms or self.gateway_ttfa_objective_ms / 10

    @cached_property
    def system_prompts(self) -> dict[str, str]:
        """The named system prompts."""
        return {
            prompts.FULL: self.gateway_system_prompt,
            prompts.COMPACT: prompts.COMPACT_TEXT,
            **prompts.read(self.gateway_prompts_file),
            **self.gateway_prompts,
        }
