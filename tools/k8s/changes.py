"""Changes to manifests, as data: what `k8s.mutations` breaks rules with."""

import copy
import itertools
from collections.abc import Callable
from typing import Any, Final

from k8s.objects import Doc, name_of

Change = Callable[[list[Doc]], bool]
"""Changes objects; False where there is nothing that it could change."""
GONE: Final = object()
POD: Final = ("spec", "template", "spec")
CONTAINER: Final = (*POD, "containers", 0)


def put(kind: str, name: str, *path: str | int, value: Any = GONE) -> Change:
    """Return a change that sets a place of an object, or takes it away; "" is the first of its kind."""

    def change(docs: list[Doc]) -> bool:
        for doc in docs:
            if doc["kind"] == kind and (name in ("", name_of(doc)) or _generated(doc, name)):
                return _put(doc, path, value)
        return False

    return change


def _generated(doc: Doc, name: str) -> bool:
    """Say whether kustomize has put a hash behind the name."""
    return doc["kind"] == "ConfigMap" and name_of(doc).rpartition("-")[0] == name


def _put(place: Any, path: tuple[Any, ...], value: Any) -> bool:
    for step, following in itertools.pairwise(path):
        if isinstance(place, list) and len(place) <= int(step):
            return False
        if isinstance(place, dict) and step not in place:
            if isinstance(following, int):
                return False
            place[step] = {}
        place = place[step]
    last = path[-1]
    if isinstance(place, list) and last == len(place):
        place.append(None)
    if value is not GONE:
        place[last] = value
    elif isinstance(place, list) or last in place:
        del place[last]
    else:
        return False
    return True


def add(doc: Doc) -> Change:
    """Return a change that adds an object, in the namespace of the others."""

    def change(docs: list[Doc]) -> bool:
        docs.append(copy.deepcopy(doc))
        return True

    return change


def both(*changes: Change) -> Change:
    """Return a change that makes several."""

    def change(docs: list[Doc]) -> bool:
        done = [each(docs) for each in changes]
        return all(done)

    return change


def without(kind: str, name: str) -> Change:
    """Return a change that takes an object away; "" takes all of the kind."""

    def change(docs: list[Doc]) -> bool:
        found = [doc for doc in docs if doc["kind"] == kind and name in ("", name_of(doc))]
        for doc in found:
            docs.remove(doc)
        return bool(found)

    return change


def of(kind: str, name: str = "made", **rest: Any) -> Doc:
    """Return an object of a kind."""
    return {"kind": kind, "metadata": {"name": name, "namespace": "voicemesh"}, **rest}


def pod(*path: str | int, value: Any = GONE) -> Change:
    """Return a change of the gateway's pods."""
    return put("Deployment", "gateway", *POD, *path, value=value)


def container(*path: str | int, value: Any = GONE) -> Change:
    """Return a change of the gateway's container."""
    return put("Deployment", "gateway", *CONTAINER, *path, value=value)


def variable(name: str, value: str, service: str = "gateway") -> Change:
    """Return a change of a setting of a service."""
    return put("ConfigMap", f"{service}-settings", "data", name, value=value)


def volume(**source: Any) -> Change:
    """Return a change of the gateway's first volume."""
    return pod("volumes", 0, value={"name": "tmp", **source})


def policy(**spec: Any) -> Change:
    """Return a change that adds a NetworkPolicy of the LLM service."""
    labels = {"app.kubernetes.io/component": "llm"}
    return add(
        of(
            "NetworkPolicy",
            apiVersion="networking.k8s.io/v1",
            spec={"podSelector": {"matchLabels": labels}, **spec},
        )
    )
