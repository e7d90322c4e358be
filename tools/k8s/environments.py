"""The environment that a container would have, of ConfigMaps, Secrets and its own words."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from k8s.objects import Doc, Manifests, Workload
from k8s.settings_env import settings_type
from services.tts.settings import TtsSettings
from services.tts.voices_file import VoicesFile
from voicemesh.runtime import settings
from voicemesh.runtime.errors import SettingsError

_REFERENCE: Final = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_NAMED: Final = re.compile(r'"\w*_env"\s*:\s*"(\w+)"')
_STAND_INS: Final = {
    "VOICEMESH_REDIS_URL": "rediss://redis:6379/0",
    "VOICEMESH_CACHE_HMAC_KEYS": "0" * 64,
}
"""What stands for a secret that must have a form."""


@dataclass
class Environment:
    """What a container would read.

    Attributes:
        values: Variable to its value; a secret has one that stands for it.
        sources: Variable to the object that it comes from; "" for the container's own words.
        secrets: The variables whose values come from Secrets, as a whole or in part.
        optional: Those of them that may be missing.
        problems: What Kubernetes would not make anything of.

    """

    values: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def put(
        self, name: str, value: str, source: str, *, secret: bool = False, optional: bool = False
    ) -> None:
        """Set a variable; what it was before is gone."""
        self.values[name] = value
        self.sources[name] = source
        (self.secrets.add if secret else self.secrets.discard)(name)
        (self.optional.add if optional else self.optional.discard)(name)

    def expanded(self, name: str, text: str) -> tuple[str, bool]:
        """Return `text` with the values of what it names as `$(NAME)`, and whether one is a secret."""
        used = [found[1] for found in _REFERENCE.finditer(text) if found[1]]
        for missing in (each for each in used if each not in self.values):
            self.problems.append(f"{name}: $({missing}) is not set before it, and stays as it is")
        expanded = _REFERENCE.sub(
            lambda found: self.values.get(found[1], found[0]) if found[1] else "$", text
        )
        return expanded, any(each in self.secrets for each in used)


def environment_of(manifests: Manifests, container: Doc) -> Environment:
    """Return what a container would read: of `envFrom` first, then of `env`, the last of a name."""
    found = Environment()
    for source in container.get("envFrom", ()):
        _take_all(found, source, manifests)
    for entry in container.get("env", ()):
        _take_one(found, entry, manifests)
    return found


def _take_all(found: Environment, source: Doc, manifests: Manifests) -> None:
    """Take the entries of an `envFrom`."""
    if "secretRef" in source:
        found.problems.append(f"takes all of Secret/{source['secretRef']['name']}: name each variable")
    if "configMapRef" in source:
        name = source["configMapRef"]["name"]
        for key, value in _data(manifests, name).items():
            found.put(f"{source.get('prefix', '')}{key}", value, f"ConfigMap/{name}")


def _take_one(found: Environment, entry: Doc, manifests: Manifests) -> None:
    """Take an entry of `env`."""
    name, source = str(entry["name"]), entry.get("valueFrom")
    if source is None:
        value, secret = found.expanded(name, str(entry.get("value", "")))
        found.put(name, value, "", secret=secret)
    elif "secretKeyRef" in source:
        reference = source["secretKeyRef"]
        value = _STAND_INS.get(name, "stands-for-a-secret")
        optional = bool(reference.get("optional"))
        found.put(name, value, f"Secret/{reference['name']}", secret=True, optional=optional)
    elif "configMapKeyRef" in source:
        reference = source["configMapKeyRef"]
        data = _data(manifests, reference["name"])
        if reference["key"] in data:
            found.put(name, data[reference["key"]], f"ConfigMap/{reference['name']}")
        elif not reference.get("optional"):
            found.problems.append(f"{name}: ConfigMap/{reference['name']} has no {reference['key']!r}")
    else:
        # Of the pod itself, known when it runs.
        found.put(name, "1", next(iter(source)))


def _data(manifests: Manifests, name: str) -> dict[str, str]:
    config = manifests.find("ConfigMap", name) or {}
    return {key: str(value) for key, value in (config.get("data") or {}).items()}


def values_of(manifests: Manifests, workload: Workload, container_name: str) -> dict[str, str]:
    """Return the variables of the container with that name; none where there is none."""
    for container in workload.containers:
        if container["name"] == container_name:
            return environment_of(manifests, container).values
    return {}


def named_in(values: Mapping[str, str]) -> set[str]:
    """Return the variables that declarations in these values name, as `"api_key_env": "GROQ_API_KEY"`."""
    return {name for value in values.values() for name in _NAMED.findall(value)}


def mounted(manifests: Manifests, workload: Workload, container: Doc) -> dict[str, dict[str, str] | None]:
    """Return path → name → content of what a container mounts; None for what no ConfigMap of theirs is."""
    volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", ())}
    found: dict[str, dict[str, str] | None] = {}
    for mount in container.get("volumeMounts", ()):
        source = (volumes.get(mount["name"]) or {}).get("configMap")
        if source is None or manifests.find("ConfigMap", source["name"]) is None:
            found[mount["mountPath"]] = None
            continue
        data = _data(manifests, source["name"])
        items = source.get("items") or [{"key": key, "path": key} for key in data]
        found[mount["mountPath"]] = {each["path"]: data[each["key"]] for each in items if each["key"] in data}
    return found


def refusals(
    service: str, values: Mapping[str, str], files: Mapping[str, dict[str, str] | None], folder: Path
) -> Iterator[str]:
    """Yield what the settings of a service say against an environment, as the process would when it starts.

    Args:
        service: One of the mesh's.
        values: The environment.
        files: Path to name to content, as `mounted` gives it.
        folder: An empty folder, for these files.

    """
    placed = dict(values)
    for number, (path, contents) in enumerate(files.items()):
        for name, content in (contents or {}).items():
            file = folder / str(number) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
            whole = f"{path.rstrip('/')}/{name}"
            placed = {key: str(file) if value == whole else value for key, value in placed.items()}
    with _environment(placed):
        try:
            loaded: Any = settings.load(settings_type(service))
            if isinstance(loaded, TtsSettings) and loaded.tts_voices_file:
                loaded.check_voices(
                    VoicesFile(Path(loaded.tts_voices_file)).read(), "VOICEMESH_TTS_VOICES_FILE"
                )
        except SettingsError as error:
            yield str(error).replace(str(folder), "")


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have no other variables than these."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
