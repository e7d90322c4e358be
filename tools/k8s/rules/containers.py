"""Rules for each container."""

import re
from collections.abc import Iterator

from k8s.objects import MESH, Doc, Manifests, Workload, ports_of, quantity
from k8s.rules.registry import rule
from voicemesh.runtime.health import ACCEPTS, ALIVE

_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION = re.compile(r"(^|[^0-9.])\d+\.\d+\.\d+($|[^0-9.])")
_OF_BASE = "0"


def _containers(manifests: Manifests) -> Iterator[tuple[Workload, Doc, str]]:
    for workload in manifests.workloads:
        for container in workload.containers:
            yield workload, container, f"container {container['name']}"


def _security(workload: Workload, container: Doc, key: str) -> object:
    """Return what holds for a container: its own word, or else its pod's."""
    own = container.get("securityContext") or {}
    return own.get(key, (workload.pod.get("securityContext") or {}).get(key))


def _images(manifests: Manifests) -> Iterator[tuple[Workload, str, str]]:
    """Yield every image, of containers and of volumes."""
    for workload, container, where in _containers(manifests):
        yield workload, where, str(container.get("image", ""))
    for workload in manifests.workloads:
        for volume in workload.pod.get("volumes", ()):
            if "image" in volume:
                yield workload, f"volume {volume['name']}", str(volume["image"].get("reference", ""))


@rule
def images_tagged(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every image has a digest, or a whole version in its tag, as `1.2.3`: none that moves."""
    for workload, where, image in _images(manifests):
        name, _, digest = image.partition("@")
        base, _, tag = name.rpartition("/")[2].partition(":")
        if not base:
            yield workload.title, f"{where}: {image!r} names no image"
        elif digest:
            if not _DIGEST.fullmatch(digest):
                yield workload.title, f"{where}: {image!r} has a digest that is none"
        elif not tag:
            yield workload.title, f"{where}: {image!r} has no tag: it would be another image tomorrow"
        elif not _VERSION.search(tag) and (tag != _OF_BASE or not name.startswith(f"{MESH}/")):
            yield workload.title, f"{where}: {image!r} has no whole version in its tag: it may move"


@rule
def images_released(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """An overlay takes no image with the tag 0, which stands in the base for the one that a release sets."""
    if not manifests.is_applied:
        return
    for workload, where, image in _images(manifests):
        if image.endswith(f":{_OF_BASE}"):
            yield (
                workload.title,
                f"{where}: {image!r} is the base's: components/release names it, behind what changes it",
            )


@rule
def resources_set(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every container asks for CPU and memory and is limited in both, with memory that it is sure to have."""
    for workload, container, where in _containers(manifests):
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for resource in ("cpu", "memory"):
            for part, given in (("requests", requests), ("limits", limits)):
                if resource not in given:
                    yield workload.title, f"{where}: no {part}.{resource}"
        for resource in requests.keys() & limits.keys():
            if quantity(requests[resource]) > quantity(limits[resource]):
                yield workload.title, f"{where}: requests.{resource} is above its limit"
        if "memory" in requests.keys() & limits.keys() and quantity(requests["memory"]) < quantity(
            limits["memory"]
        ):
            yield (
                workload.title,
                f"{where}: requests.memory is below its limit: who has more is ended first on a full node",
            )


@rule
def probes_set(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every container that serves says whether it has started, may be sent calls, and is alive."""
    for workload in manifests.workloads:
        if not workload.is_lasting:
            continue
        for container in workload.serving:
            # A service of the mesh loads and warms first. What has no port serves nobody.
            others = _PROBES[1:] if container.get("ports") else ()
            for probe in _PROBES if workload.service else others:
                if not container.get(probe):
                    yield workload.title, f"container {container['name']}: no {probe}"


@rule
def probes_ask_what_is_meant(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A service of the mesh is asked over gRPC: ready is who takes calls, alive is who answers at all."""
    right = {"startupProbe": ACCEPTS, "readinessProbe": ACCEPTS, "livenessProbe": ALIVE}
    for workload in manifests.workloads:
        for container in workload.pod["containers"] if workload.service else ():
            if container["name"] != workload.service:
                continue
            for probe, name in right.items():
                asked = (container.get(probe) or {}).get("grpc")
                if container.get(probe) and (asked or {}).get("service") != name:
                    yield (
                        workload.title,
                        f"container {container['name']}: {probe} must ask {name!r} over gRPC",
                    )


@rule
def probe_ports_exist(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A probe asks a port that its container has."""
    for workload, container, where in _containers(manifests):
        named = ports_of((container,))
        for probe in _PROBES:
            for how in ("grpc", "httpGet", "tcpSocket"):
                port = ((container.get(probe) or {}).get(how) or {}).get("port")
                if port is not None and port not in named and port not in named.values():
                    yield (
                        workload.title,
                        f"{where}: {probe} asks port {port}, which the container does not name",
                    )


@rule
def non_root(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No container runs as root, whatever its image says."""
    for workload, container, where in _containers(manifests):
        if _security(workload, container, "runAsNonRoot") is not True:
            yield workload.title, f"{where}: runAsNonRoot is not true"
        if not _security(workload, container, "runAsUser"):
            yield workload.title, f"{where}: runAsUser is not set, or root"
        if not _security(workload, container, "runAsGroup"):
            yield workload.title, f"{where}: runAsGroup is not set, or root's"


@rule
def read_only_root(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No container writes to its own file system."""
    for workload, container, where in _containers(manifests):
        if (container.get("securityContext") or {}).get("readOnlyRootFilesystem") is not True:
            yield workload.title, f"{where}: readOnlyRootFilesystem is not true"


@rule
def capabilities_dropped(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every container gives up all capabilities and takes none."""
    for workload, container, where in _containers(manifests):
        capabilities = (container.get("securityContext") or {}).get("capabilities") or {}
        if capabilities.get("drop") != ["ALL"]:
            yield workload.title, f"{where}: capabilities.drop is not [ALL]"
        if capabilities.get("add"):
            yield workload.title, f"{where}: adds capabilities {capabilities['add']}"


@rule
def no_escalation(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No container can get more rights than it began with."""
    for workload, container, where in _containers(manifests):
        own = container.get("securityContext") or {}
        if own.get("allowPrivilegeEscalation") is not False:
            yield workload.title, f"{where}: allowPrivilegeEscalation is not false"
        if own.get("privileged"):
            yield workload.title, f"{where}: is privileged"


@rule
def seccomp(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every container runs under the runtime's seccomp profile."""
    for workload, container, where in _containers(manifests):
        profile = _security(workload, container, "seccompProfile")
        if not isinstance(profile, dict) or profile.get("type") != "RuntimeDefault":
            yield workload.title, f"{where}: seccompProfile is not RuntimeDefault"
