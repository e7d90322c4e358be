"""Rules for what selects what: labels, Services and their ports, monitors."""

from collections.abc import Iterator

from k8s.objects import COMPONENT_LABEL, Doc, Manifests, matches, name_of, namespace_of, ports_of, title_of
from k8s.rules.registry import rule

_PROBED = "health"
"""A port for kubelet alone, which no Service has."""


@rule
def selectors_match(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every selector takes something, and that of a workload its own pods and no others."""
    for workload in manifests.workloads:
        selector = workload.doc["spec"].get("selector")
        if selector is None:
            continue
        if not matches(selector, workload.labels):
            yield workload.title, "its selector does not take its own pods"
        for other in manifests.selected(selector, workload.namespace):
            if other is not workload:
                yield workload.title, f"its selector takes the pods of {other.title}, too"
    for doc in manifests.of_kind("Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
        selector = _pod_selector(doc)
        if selector is not None and not manifests.selected(selector, namespace_of(doc)):
            yield title_of(doc), "its selector takes no pod of what is here"
    for doc in manifests.of_kind("ServiceMonitor"):
        services = [each for each in manifests.of_kind("Service") if _labelled(each, doc["spec"]["selector"])]
        if not services:
            yield title_of(doc), "its selector takes no Service of what is here"
        for endpoint in doc["spec"]["endpoints"]:
            for service in services:
                if endpoint.get("port") not in {port.get("name") for port in service["spec"]["ports"]}:
                    yield title_of(doc), f"{title_of(service)} has no port {endpoint.get('port')!r}"


def _pod_selector(doc: Doc) -> Doc | None:
    """Return what an object takes pods by; None where it takes none, or all of them."""
    spec = doc["spec"]
    if doc["kind"] == "Service":
        return {"matchLabels": spec["selector"]} if spec.get("selector") else None
    if doc["kind"] == "NetworkPolicy":
        return spec["podSelector"] or None
    found: Doc | None = spec.get("selector")
    return found


def _labelled(doc: Doc, selector: Doc) -> bool:
    return matches(selector, doc["metadata"].get("labels") or {})


@rule
def service_ports_lead_somewhere(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every port of a Service is a port of all pods that it takes."""
    for doc in manifests.of_kind("Service"):
        selector = doc["spec"].get("selector")
        for workload in manifests.selected(
            {"matchLabels": selector} if selector else None, namespace_of(doc)
        ):
            named = ports_of(workload.serving)
            for port in doc["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                if target not in named and target not in named.values():
                    yield title_of(doc), f"port {port['port']}: {workload.title} has no port {target!r}"


@rule
def every_port_is_served(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every port of a service of the mesh is reached by a Service, but that for its health."""
    for workload in manifests.workloads:
        if not workload.service:
            continue
        reached = {
            port.get("targetPort", port["port"])
            for doc in manifests.of_kind("Service")
            if doc["spec"].get("selector")
            and matches({"matchLabels": doc["spec"]["selector"]}, workload.labels)
            for port in doc["spec"]["ports"]
        }
        for name, number in ports_of(tuple(workload.pod["containers"])).items():
            if name != _PROBED and not {name, number} & reached:
                yield workload.title, f"port {name} is behind no Service"


@rule
def grpc_services_are_headless(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A Service with a gRPC port is headless: callers balance streams over pods, and no proxy connections."""
    for doc in manifests.of_kind("Service"):
        grpc = any(port.get("name") == "grpc" for port in doc["spec"]["ports"])
        if grpc and doc["spec"].get("clusterIP") != "None":
            yield title_of(doc), "clusterIP is not None"
        # Inside the mesh whoever calls asks each address itself; callers of the gateway may not.
        of_gateway = (doc["spec"].get("selector") or {}).get(COMPONENT_LABEL) == "gateway"
        if grpc and of_gateway and doc["spec"].get("publishNotReadyAddresses"):
            yield title_of(doc), "publishes addresses of pods that are not ready"


@rule
def monitors_reach_ports(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A PodMonitor asks ports that the pods have which it takes."""
    for doc in manifests.of_kind("PodMonitor"):
        for workload in manifests.selected(doc["spec"]["selector"], namespace_of(doc)):
            for endpoint in doc["spec"]["podMetricsEndpoints"]:
                if endpoint.get("port") not in ports_of(workload.serving):
                    yield title_of(doc), f"{workload.title} has no port {endpoint.get('port')!r}"


@rule
def named_once(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """The names of containers, ports and volumes of a pod are given once."""
    for workload in manifests.workloads:
        ports = [port.get("name") for each in workload.containers for port in each.get("ports", ())]
        for what, given in (
            ("container", [name_of({"metadata": each}) for each in workload.containers]),
            ("port", ports),
            ("volume", [volume["name"] for volume in workload.pod.get("volumes", ())]),
        ):
            for twice in sorted({str(name) for name in given if given.count(name) > 1}):
                yield workload.title, f"{what} {twice} is there twice"
