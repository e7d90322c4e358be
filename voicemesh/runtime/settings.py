"""Settings from the environment: typed, validated at start, printed with secrets hidden."""

import json
import os
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as JsonSettingsError

from voicemesh.runtime.errors import SettingsError

PREFIX = "VOICEMESH_"


def _check_address(value: str) -> str:
    if value.startswith("unix:"):
        if len(value) == len("unix:"):
            raise ValueError("unix: needs a path behind it")
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT with a port of 0 to 65535, or unix:PATH")
    return value


ListenAddress = Annotated[str, AfterValidator(_check_address)]
"""Where a server listens: `HOST:PORT` (port 0 takes a free one) or `unix:PATH`."""


class ServerSettings(BaseSettings):
    """What every process of the mesh can be told. Each field is the variable `VOICEMESH_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    """Least severe level that is logged."""
    log_format: Annotated[str, Field(pattern="^(json|console)$")] = "json"
    """`json`: one object a line; `console`: for people."""
    drain_grace_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Seconds that turns in flight may take after SIGTERM or SIGINT."""
    max_message_bytes: Annotated[int, Field(ge=65536, le=67108864)] = 4194304
    """Largest message that is accepted from a peer."""
    reflection: bool = True
    """Answer gRPC reflection."""
    exit_with_stdin: bool = False
    """Drain when standard input ends: set by a supervisor, so that nothing outlives it."""


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
    except JsonSettingsError:
        raise SettingsError(_json_line(settings_type)) from None


def describe(settings: ServerSettings) -> dict[str, Any]:
    """Return the settings for printing: variable name → value, secrets shown as `set` or `not set`."""
    shown: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if field.annotation is not None and SecretStr in (
            field.annotation,
            *getattr(field.annotation, "__args__", ()),
        ):
            value = "set" if value else "not set"
        elif hasattr(value, "model_dump"):
            value = value.model_dump(mode="json")
        elif isinstance(value, (list, tuple)):
            value = [item.model_dump(mode="json") if hasattr(item, "model_dump") else item for item in value]
        shown[variable_of(type(settings), name)] = value
    return shown


def variable_of(settings_type: type[ServerSettings], field: str) -> str:
    """Return the environment variable that sets `field`."""
    info = settings_type.model_fields.get(field)
    if info is not None and isinstance(info.validation_alias, str):
        return info.validation_alias
    return f"{PREFIX}{field.upper()}"


def _line(settings_type: type[ServerSettings], problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    if not location:
        return str(problem["msg"])
    aliases = {
        info.validation_alias: name
        for name, info in settings_type.model_fields.items()
        if isinstance(info.validation_alias, str)
    }
    variable = variable_of(settings_type, aliases.get(location[0], location[0]))
    inside = ".".join(location[1:])
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{variable}{f' ({inside})' if inside else ''}: {message}"


def _json_line(settings_type: type[ServerSettings]) -> str:
    for name in settings_type.model_fields:
        variable = variable_of(settings_type, name)
        value = os.environ.get(variable)
        if value is not None and value.lstrip()[:1] in "[{":
            try:
                json.loads(value)
            except ValueError as error:
                return f"{variable}: not valid JSON: {error}"
    return "a setting that takes JSON does not hold valid JSON"
