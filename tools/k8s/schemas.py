"""Manifests against the schemas of Kubernetes itself, of several versions, in which no field is unknown."""

import functools
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import jsonschema
import kubernetes_validate.utils
import referencing

from k8s.objects import Doc, title_of

VERSIONS: Final = ("1.33", "1.35", "1.37")
"""The oldest that clouds still run, the newest, and one in between."""
_GROUPS: Final = frozenset({"", "apps", "autoscaling", "batch", "policy"})


def is_built_in(doc: Doc) -> bool:
    """Say whether a kind is of Kubernetes itself, and not of what is added to it."""
    group, slash, _ = doc["apiVersion"].partition("/")
    return not slash or group in _GROUPS or group.endswith(".k8s.io")


def problems(docs: Iterable[Doc], versions: Iterable[str] = VERSIONS) -> Iterator[str]:
    """Say which objects do not fit a version's schema, and where."""
    for doc in docs:
        for version in versions:
            validator = _validator(version, doc["kind"], doc["apiVersion"])
            if validator is None:
                yield f"{title_of(doc)}: Kubernetes {version} has no {doc['kind']} of {doc['apiVersion']}"
                continue
            for error in validator.iter_errors(doc):
                place = ".".join(map(str, error.absolute_path)) or "the object"
                yield f"{title_of(doc)}: {place}: {error.message} [Kubernetes {version}]"


@functools.cache
def _validator(version: str, kind: str, api_version: str) -> Any:
    """Return what validates a kind, or None where the version has no such kind."""
    group, slash, name = api_version.partition("/")
    suffix = f"{group.partition('.')[0]}-{name}" if slash else group
    try:
        schema = _contents(version, f"{kind.lower()}-{suffix}.json")
    except FileNotFoundError:
        return None
    registry: Any = referencing.Registry().with_resources(
        (each["$id"], referencing.Resource.from_contents(each))
        for each in (schema, _contents(version, "_definitions.json"))
        if "$id" in each
    )
    return jsonschema.Draft202012Validator(schema, registry=registry)


@functools.cache
def _contents(version: str, name: str) -> Any:
    # The package validates a single object by reading all of this anew each time, which takes a second.
    return kubernetes_validate.utils.schema_contents(
        f"kubernetes-json-schema/v{version}.0-local-strict/{name}", version
    )


def key_of(doc: Doc) -> str:
    """Return what two objects have in common that are the same."""
    return json.dumps(doc, sort_keys=True)
