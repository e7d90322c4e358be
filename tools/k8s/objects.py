"""What was built, in a form that is easy to ask: objects, workloads, containers, selectors."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

Doc = dict[str, Any]
"""An object as it is in YAML."""

NAME_LABEL: Final = "app.kubernetes.io/name"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
MESH: Final = "voicemesh"
SERVICES: Final = ("gateway", "llm", "chunker", "tts", "cache")

_TEMPLATED: Final = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Rollout")
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)(m|k|[MGTPE]|[KMGTPE]i)?")
_UNITS: Final = {
    "": 1.0,
    "m": 1e-3,
    **{unit: 1e3**power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{f"{unit}i": 1024.0**power for power, unit in enumerate(("K", "M", "G", "T", "P", "E"), start=1)},
}


@dataclass(frozen=True)
class Workload:
    """What makes pods.

    Attributes:
        doc: The whole object.
        template: The template of its pods, with metadata and spec.

    """

    doc: Doc
    template: Doc

    @property
    def kind(self) -> str:
        """As it is written."""
        return str(self.doc["kind"])

    @property
    def name(self) -> str:
        """As it is written."""
        return name_of(self.doc)

    @property
    def namespace(self) -> str:
        """Where it runs."""
        return namespace_of(self.doc)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its pods."""
        found: dict[str, str] = self.template.get("metadata", {}).get("labels") or {}
        return found

    @property
    def pod(self) -> Doc:
        """The spec of its pods."""
        found: Doc = self.template["spec"]
        return found

    @property
    def containers(self) -> tuple[Doc, ...]:
        """Its containers, those that run first with them."""
        return (*self.pod.get("initContainers", ()), *self.pod["containers"])

    @property
    def serving(self) -> tuple[Doc, ...]:
        """The containers that run for as long as a pod does."""
        sidecars = (
            each for each in self.pod.get("initContainers", ()) if each.get("restartPolicy") == "Always"
        )
        return (*sidecars, *self.pod["containers"])

    @property
    def is_lasting(self) -> bool:
        """Whether it runs until somebody ends it."""
        return self.kind not in ("Job", "CronJob")

    @property
    def service(self) -> str:
        """The service of the mesh that it runs; "" for none."""
        component = self.labels.get(COMPONENT_LABEL, "")
        return component if self.labels.get(NAME_LABEL) == MESH and component in SERVICES else ""

    @property
    def title(self) -> str:
        """What messages call it."""
        return title_of(self.doc)


@dataclass(frozen=True)
class Manifests:
    """All that one folder gives.

    Attributes:
        where: The folder, as people write it: "overlays/cpu".
        docs: Its objects.
        platform: Names of what the platform brings.
        secrets: Secrets and keys of them that commands in the documentation make.
        own: Whether it is an overlay of a platform's own.

    """

    where: str
    docs: tuple[Doc, ...]
    platform: frozenset[str] = frozenset()
    secrets: frozenset[tuple[str, str]] = frozenset()
    own: bool = False

    @property
    def is_applied(self) -> bool:
        """Whether it is what a cluster is given, and no part of that."""
        return self.own or self.where.startswith("overlays/")

    def of_kind(self, *kinds: str) -> Iterator[Doc]:
        """Yield the objects of these kinds."""
        return (doc for doc in self.docs if doc["kind"] in kinds)

    def find(self, kind: str, name: str) -> Doc | None:
        """Return the object of that kind and name, or None."""
        return next((doc for doc in self.of_kind(kind) if name_of(doc) == name), None)

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        """All that makes pods."""
        found = [
            Workload(doc, doc["spec"]["template"]) for doc in self.of_kind(*_TEMPLATED) if _has_pods(doc)
        ]
        found += [
            Workload(doc, doc["spec"]["jobTemplate"]["spec"]["template"]) for doc in self.of_kind("CronJob")
        ]
        return tuple(found)

    def selected(self, selector: Mapping[str, Any] | None, namespace: str) -> tuple[Workload, ...]:
        """Return the workloads of a namespace whose pods a selector takes; None takes none."""
        return tuple(
            each
            for each in self.workloads
            if selector is not None and each.namespace == namespace and matches(selector, each.labels)
        )


def _has_pods(doc: Doc) -> bool:
    # A Rollout may take its template from a Deployment, which is there itself.
    return "template" in doc["spec"]


def name_of(doc: Doc) -> str:
    """Return the name of an object."""
    return str(doc["metadata"]["name"])


def namespace_of(doc: Doc) -> str:
    """Return the namespace of an object; "" where it has none."""
    return str(doc["metadata"].get("namespace", ""))


def title_of(doc: Doc) -> str:
    """Return what messages call an object."""
    return f"{doc['kind']}/{name_of(doc)}"


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Say whether a label selector, with `matchLabels` and `matchExpressions`, takes these labels."""
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_matches_expression(each, labels) for each in selector.get("matchExpressions") or ())


def _matches_expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case operator:
            raise ValueError(f"{operator!r} is no operator of a selector")


def quantity(value: object) -> float:
    """Return an amount, as `500m` or `384Mi`, as a number.

    Raises:
        ValueError: It is none.

    """
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        raise ValueError(f"{value!r} is no amount")
    return float(found[1]) * _UNITS[found[2] or ""]


def texts(value: object) -> Iterator[str]:
    """Yield all texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from texts(each)


def ports_of(containers: tuple[Doc, ...]) -> dict[str, int]:
    """Return the named ports of containers."""
    return {
        str(port["name"]): int(port["containerPort"])
        for container in containers
        for port in container.get("ports", ())
        if "name" in port
    }
