"""Settings from the environment: typed, validated at start, printed with secrets hidden."""

import difflib
import json
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as JsonSettingsError

from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.known_settings import KNOWN
from voicemesh.runtime.tls_files import TlsFiles

PREFIX: Final = "VOICEMESH_"
_PASSWORD: Final = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)")


def _check_address(value: str) -> str:
    if value.startswith("unix:"):
        if len(value) == len("unix:"):
            raise ValueError("unix: needs a path behind it")
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT with a port of 0 to 65535, or unix:PATH")
    return value


def _check_trace_url(value: str) -> str:
    if value and ("{trace_id}" not in value or not value.startswith(("http://", "https://"))):
        raise ValueError("must begin with http:// or https:// and have {trace_id} in it")
    return value


def _check_identity(value: str) -> str:
    if value.count("{service}") != 1:
        raise ValueError("must have {service} in it once, as in spiffe://example.org/voicemesh/{service}")
    return value


ListenAddress = Annotated[str, AfterValidator(_check_address)]
"""Where a server listens: `HOST:PORT` (port 0 takes a free one) or `unix:PATH`."""

MetricsAddress = Annotated[str, AfterValidator(lambda value: value and _check_address(value))]
"""Where Prometheus scrapes a process: as `ListenAddress`, or empty."""

HealthAddress = MetricsAddress
"""Where probes ask a process: as `ListenAddress`, or empty."""


class ServerSettings(BaseSettings):
    """What every process of the mesh can be told. Each field is the variable `VOICEMESH_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`json`: one object a line; `console`: for people; `auto`: the latter on a terminal."""
    log_trace_url: Annotated[str, AfterValidator(_check_trace_url)] = ""
    """Where a trace is looked at, with `{trace_id}` in it; lines of turns then have it as `trace_url`."""
    drain_grace_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Seconds that turns in flight may take after SIGTERM or SIGINT."""
    drain_notice_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """Seconds of them that new calls are still taken, for load balancers that ask only now and then."""
    max_connection_age_s: Annotated[float, Field(ge=0, le=86400)] = 0.0
    """Seconds, give or take a tenth, after which a peer is asked to connect anew; 0: never."""
    max_connection_age_grace_s: Annotated[float, Field(ge=0, le=86400)] = 0.0
    """Seconds that calls on a connection of that age may still take; 0: as long as they need."""
    health_listen: HealthAddress = ""
    """Where health alone is told as well, in plain text, for probes that can show no certificate, as
    Kubernetes' own; empty: nowhere."""
    max_message_bytes: Annotated[int, Field(ge=65536, le=67108864)] = 4194304
    """Largest message that is accepted from a peer."""
    trace_content: bool = False
    """Put the text of prompts, replies and chunks into traces, too: whoever sees these reads along."""
    reflection: bool = True
    """Answer gRPC reflection; on an address that others reach, only where this is set to true."""
    exit_with_stdin: bool = False
    """Drain when standard input ends: set by a supervisor, so that nothing outlives it."""
    tls_ca: str = ""
    """A PEM file with the authorities whose certificates are believed inside the mesh; see docs/tls.md."""
    tls_cert: str = ""
    """A PEM file with the certificate of this process inside the mesh. Empty: services speak plain text."""
    tls_key: str = ""
    """A PEM file with its private key."""
    tls_clients: Literal["authorized", "any", "off"] = "authorized"
    """Who may call a service over TLS: whose certificate names who may call the method; `any` with a
    certificate of `VOICEMESH_TLS_CA`; or everyone, without one (`off`)."""
    tls_identity: Annotated[str, AfterValidator(_check_identity)] = (
        "spiffe://cluster.local/voicemesh/{service}"
    )
    """The URI or DNS name in a certificate that says whose it is: `{service}` is gateway, llm, chunker, tts,
    cache or operator."""
    tls_server_name: str = ""
    """The name that a service's certificate must have, as `{service}.voicemesh`; empty: the host of its
    address."""
    tls_reload_s: Annotated[float, Field(ge=0.1, le=3600)] = 5.0
    """How often certificate files are looked at for a change."""
    allow_plaintext: bool = False
    """Do not warn where other machines reach a port without TLS: something else encrypts."""

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        self.tls_files.check_pair()
        self.edge_tls_files.check_pair()
        return self

    @property
    def tls_files(self) -> TlsFiles:
        """Where the certificates of the mesh's inside are."""
        return TlsFiles(self.tls_cert, self.tls_key, self.tls_ca)

    @property
    def edge_tls_files(self) -> TlsFiles:
        """Where the certificates of the edge are; only the gateway has one."""
        return TlsFiles()


S = TypeVar("S", bound=ServerSettings)


def load(settings_type: type[S]) -> S:
    """Read `settings_type` from the environment.

    Raises:
        SettingsError: A variable is wrong. The text has one line for each: its name, what is
            wrong with it, and never the value of a secret.

    """
    try:
        return settings_type()
    except ValidationError as error:
        lines = [
            _line(settings_type, problem) for problem in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("\n".join(lines)) from None
    except JsonSettingsError as error:
        raise SettingsError(_json_line(settings_type, str(error))) from None


def unknown(settings_type: type[ServerSettings], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that look like settings and are none of any process, with the nearest that is.

    The nearest is "" where none is near. Settings of other processes are known: those of a machine
    often share one environment. What Kubernetes sets for services of its own is left out.
    """
    known = KNOWN | {variable_of(settings_type, field) for field in settings_type.model_fields}
    strangers = [
        name
        for name in environment
        if name.upper().startswith(PREFIX)
        and name.upper() not in known
        and not _is_service_link(name, environment)
    ]
    near = {name.removeprefix(PREFIX): name for name in sorted(known)}
    found = {}
    for name in sorted(strangers):
        nearest = difflib.get_close_matches(name.upper().removeprefix(PREFIX), near, n=1)
        found[name] = near[nearest[0]] if nearest else ""
    return found


def _is_service_link(name: str, environment: Mapping[str, str]) -> bool:
    """Say whether Kubernetes set a variable, as `<NAME>_SERVICE_HOST` and its like for every service."""
    for link in ("_SERVICE_", "_PORT"):
        base, found, _ = name.partition(link)
        if found and f"{base}_SERVICE_HOST" in environment:
            return True
    return False


def describe(settings: ServerSettings) -> dict[str, Any]:
    """Return the settings for printing: variable name → value.

    Secrets are shown as `set` or `not set`, and the user and password of an address as `***`.
    """
    return {
        variable_of(type(settings), name): (
            ("set" if getattr(settings, name) else "not set")
            if _is_secret(field.annotation)
            else _shown(getattr(settings, name))
        )
        for name, field in type(settings).model_fields.items()
    }


def _is_secret(annotation: Any) -> bool:
    return SecretStr in (annotation, *get_args(annotation))


def _shown(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _shown(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _PASSWORD.sub("***", str(value))


def variable_of(settings_type: type[ServerSettings], field: str) -> str:
    """Return the environment variable that sets `field`."""
    info = settings_type.model_fields.get(field)
    if info is not None and isinstance(info.validation_alias, str):
        return info.validation_alias
    return f"{PREFIX}{field.upper()}"


def _line(settings_type: type[ServerSettings], problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not location:
        return message
    aliases = {
        info.validation_alias: name
        for name, info in settings_type.model_fields.items()
        if isinstance(info.validation_alias, str)
    }
    variable = variable_of(settings_type, aliases.get(location[0], location[0]))
    inside = ".".join(location[1:])
    return f"{variable}{f' ({inside})' if inside else ''}: {message}"


def _json_line(settings_type: type[ServerSettings], text: str) -> str:
    """Say which variable holds no JSON; `text` is what pydantic-settings said, which names the field."""
    for name in settings_type.model_fields:
        if f'"{name}"' in text:
            variable = variable_of(settings_type, name)
            try:
                json.loads(os.environ.get(variable, ""))
            except ValueError as error:
                return f"{variable}: not valid JSON: {error}"
    return text
