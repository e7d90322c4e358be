"""The files `k8s/base/SERVICE/settings.env`: every setting of a process, as a comment where it is not set.

Kustomize makes a ConfigMap of such a file, and its parser knows neither quotes nor escapes:

    VAR=value     the value is all behind the first `=`, quotes and spaces at its end with it
    # anything    nothing
    VAR           whatever VAR is in the environment of who builds: never meant, so refused here
"""

import importlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr

from voicemesh.runtime.settings import ServerSettings, variable_of

ROOT: Final = pathlib.Path(__file__).resolve().parents[2]
SERVICES: Final = {
    "gateway": ("gateway.settings", "GatewaySettings"),
    "llm": ("services.llm.settings", "LlmSettings"),
    "chunker": ("services.chunker.settings", "ChunkerSettings"),
    "tts": ("services.tts.settings", "TtsSettings"),
    "cache": ("services.cache.settings", "CacheSettings"),
}
"""Service to the module and the class of its settings."""
HEADER: Final = """\
# What the {service} service is told. Behind a `#` is what is not set, with its default.
# docs/settings.md says what each does. `make docs-settings` writes this file anew: it keeps what is set, and
# lines that begin with `##` above it.
"""
_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_MOST_BYTES: Final = 60_000
"""Kustomize reads lines of 64 KiB at most."""


@dataclass(frozen=True)
class Setting:
    """One setting of a process.

    Attributes:
        variable: Its environment variable.
        default: What the variable would be to give the default; "" where that is none.
        secret: Whether it comes from a Secret alone.
        shared: Whether every process has it.

    """

    variable: str
    default: str
    secret: bool
    shared: bool


@dataclass
class SettingsFile:
    """What a file says.

    Attributes:
        values: Variable to its value, of those that are set.
        notes: Variable to the lines above it that begin with `##`.
        problems: What is wrong with lines, each with its number.

    """

    values: dict[str, str] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def settings_type(service: str) -> type[ServerSettings]:
    """Return the class of the settings of a service."""
    module, name = SERVICES[service]
    found: type[ServerSettings] = getattr(importlib.import_module(module), name)
    return found


def settings_of(service: str) -> tuple[Setting, ...]:
    """Return the settings of a service, those of every process first, in the order of the code."""
    owner = settings_type(service)
    found = [
        Setting(
            variable_of(owner, name),
            written(info.get_default(call_default_factory=True, validated_data={})),
            secret=SecretStr in (info.annotation, *get_args(info.annotation)),
            shared=name in ServerSettings.model_fields,
        )
        for name, info in owner.model_fields.items()
    ]
    return tuple(sorted(found, key=lambda setting: not setting.shared))


def written(value: Any) -> str:
    """Return a value as a variable of the environment has it."""
    if value is None:
        return ""
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, pathlib.PurePath):
        return str(value)
    return getattr(value, "value", value)


def read(text: str) -> SettingsFile:
    """Read a file as kustomize does, and refuse what means something else to people than to it."""
    found = SettingsFile()
    notes: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("##"):
            notes.append(line)
            continue
        if not line or line.startswith("#"):
            notes.clear()
            continue
        problem, name, value = _read_line(line)
        if not problem and name in found.values:
            problem = f"{name} is set twice"
        if problem:
            found.problems.append(f"line {number}: {problem}")
        else:
            found.values[name] = value
            if notes:
                found.notes[name] = tuple(notes)
        notes.clear()
    return found


def _read_line(line: str) -> tuple[str, str, str]:
    """Return what is wrong with a line, or the name and the value in it."""
    name, equals, value = line.partition("=")
    problem = ""
    if not equals:
        problem = f"{name!r} has no `=`: kustomize would take its value from the environment of who builds"
    elif not _NAME.fullmatch(name):
        problem = f"{name!r} is no name of a variable: capitals, digits and `_`, with nothing around them"
    elif value != value.strip() or "\r" in value:
        problem = f"{name} has spaces around its value, which would be part of it"
    elif len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        problem = f"{name} is in quotes, which would be part of its value"
    elif len(line.encode()) > _MOST_BYTES:
        problem = f"{name} is longer than the {_MOST_BYTES} bytes that fit in a line: use a file"
    return problem, name, value


def problems_of(service: str, text: str) -> Iterator[str]:
    """Say what is wrong with the file of a service, apart from how it is laid out."""
    found = read(text)
    yield from found.problems
    known = {setting.variable: setting for setting in settings_of(service)}
    for name in found.values:
        setting = known.get(name)
        if setting is None:
            yield f"{name} is no setting of the {service} service"
        elif setting.secret:
            yield f"{name} is a secret: it comes from a Secret, by secretKeyRef"


def write(service: str, kept: SettingsFile) -> str:
    """Return the file of a service: with the values and notes of `kept`, and every other setting."""
    lines = [*HEADER.format(service=service).splitlines(), ""]
    settings = settings_of(service)
    for title, shared in (("Of every process", True), ("Of this one", False)):
        lines += [f"# {title}:", ""]
        for setting in settings:
            if setting.shared is not shared or setting.secret:
                continue
            if setting.variable in kept.values:
                lines += kept.notes.get(setting.variable, ())
                lines.append(f"{setting.variable}={kept.values[setting.variable]}")
            else:
                lines.append(f"# {setting.variable}={setting.default}")
        lines.append("")
    secrets = [setting.variable for setting in settings if setting.secret]
    if secrets:
        lines += ["# Secrets, which come by secretKeyRef and never stand here:", ""]
        lines += [f"# {variable}" for variable in secrets] + [""]
    return "\n".join(lines)
