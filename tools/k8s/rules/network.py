"""Rules for NetworkPolicies: what they allow between the pods that are here is just the edges of the mesh.

The edges are those of the table that calls are held to, so that a policy which was made from another one, or
by hand, is compared with what the processes do.
"""

from collections.abc import Iterator
from typing import Any, Final

from k8s.objects import COMPONENT_LABEL, SERVICES, Doc, Manifests, Workload, matches, namespace_of, ports_of
from k8s.rules.registry import rule
from voicemesh.runtime.permissions import PERMISSIONS

_AROUND: Final = {
    ("cache", "redis", "redis"),
    *((service, "collector", "otlp") for service in SERVICES),
    ("collector", "sampler", "otlp"),
    ("sampler", "tempo", "otlp"),
}
"""Who reaches what else of what may be here: component, component, name of the port."""
EDGES: Final = _AROUND | {
    (each.caller, each.service, "grpc")
    for each in PERMISSIONS
    if each.caller in SERVICES and each.service in SERVICES
}
_DNS: Final = (("UDP", 53), ("TCP", 53))
_KUBE_DNS: Final = {"k8s-app": "kube-dns"}


def _component(workload: Workload) -> str:
    return workload.labels.get(COMPONENT_LABEL, "")


def _policies(manifests: Manifests, workload: Workload, direction: str) -> list[Doc]:
    """Return the policies that bind a workload in a direction: "Ingress" or "Egress"."""
    return [
        doc
        for doc in manifests.of_kind("NetworkPolicy")
        if namespace_of(doc) == workload.namespace
        and matches(doc["spec"]["podSelector"] or {}, workload.labels)
        and direction in _types(doc)
    ]


def _types(doc: Doc) -> list[str]:
    given = doc["spec"].get("policyTypes")
    return list(given) if given else ["Ingress", *(["Egress"] if doc["spec"].get("egress") else [])]


def _takes(peers: list[Any] | None, labels: dict[str, str], namespace: str, own: str) -> bool:
    """Say whether peers of a rule take such pods of a namespace, in a policy of `own`; None takes all."""
    if not peers:
        return True
    for peer in peers:
        where = peer.get("namespaceSelector")
        there = (
            namespace == own if where is None else matches(where, {"kubernetes.io/metadata.name": namespace})
        )
        if "ipBlock" not in peer and there and matches(peer.get("podSelector") or {}, labels):
            return True
    return False


def _has_port(rule_of: Doc, protocol: str, number: int, name: str) -> bool:
    ports = rule_of.get("ports")
    return not ports or any(
        each.get("protocol", "TCP") == protocol
        and (
            each.get("port") in (None, number, name)
            or number in range(_first(each), each.get("endPort", -1) + 1)
        )
        for each in ports
    )


def _first(port: Doc) -> int:
    return port["port"] if isinstance(port.get("port"), int) else 0


def _allowed(manifests: Manifests, caller: Workload, callee: Workload, number: int, name: str) -> bool:
    """Say whether a pod of the one may open a connection to a port of the other."""
    sides = (("Egress", "egress", "to", caller, callee), ("Ingress", "ingress", "from", callee, caller))
    for direction, key, ends, own, other in sides:
        policies = _policies(manifests, own, direction)
        if policies and not any(
            _has_port(each, "TCP", number, name)
            and _takes(each.get(ends), other.labels, other.namespace, own.namespace)
            for doc in policies
            for each in doc["spec"].get(key) or ()
        ):
            return False
    return True


def _pairs(manifests: Manifests) -> Iterator[tuple[Workload, Workload, str, int, tuple[str, str, str]]]:
    for caller in manifests.workloads:
        for callee in manifests.workloads:
            for name, number in ports_of(callee.serving).items():
                if caller is not callee:
                    yield caller, callee, name, number, (_component(caller), _component(callee), name)


@rule
def shut_by_default(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A namespace with pods has a policy that takes all of them and allows nothing, in both directions."""
    for namespace in sorted({workload.namespace for workload in manifests.workloads}):
        if not any(
            namespace_of(doc) == namespace
            and not doc["spec"]["podSelector"]
            and set(_types(doc)) == {"Ingress", "Egress"}
            and not doc["spec"].get("ingress")
            and not doc["spec"].get("egress")
            for doc in manifests.of_kind("NetworkPolicy")
        ):
            yield f"Namespace/{namespace}", "no NetworkPolicy shuts it by default"


@rule
def every_edge_is_open(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Each edge of the mesh is allowed at both of its ends."""
    for caller, callee, name, number, edge in _pairs(manifests):
        if edge in EDGES and not _allowed(manifests, caller, callee, number, name):
            yield caller.title, f"does not reach {callee.title} at {name} ({number})"


@rule
def no_other_edge_is_open(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No pod reaches a port of another one that is no edge of the mesh."""
    for caller, callee, name, number, edge in _pairs(manifests):
        if edge not in EDGES and _allowed(manifests, caller, callee, number, name):
            yield caller.title, f"reaches {callee.title} at {name} ({number}), which is no edge"


@rule
def names_can_be_looked_up(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A pod that calls others by name reaches the cluster's DNS, over UDP and TCP."""
    callers = {edge[0] for edge in EDGES} | {"llm", "tts"}
    for workload in manifests.workloads:
        if _component(workload) not in callers:
            continue
        for protocol, port in _DNS:
            policies = _policies(manifests, workload, "Egress")
            if policies and not any(
                _has_port(each, protocol, port, "dns")
                and _takes(each.get("to"), _KUBE_DNS, "kube-system", workload.namespace)
                for doc in policies
                for each in doc["spec"].get("egress") or ()
            ):
                yield workload.title, f"does not reach the cluster's DNS over {protocol}"


@rule
def no_door_is_wide_open(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No policy allows everybody or every port, and no range of addresses has the cluster in it."""
    for doc in manifests.of_kind("NetworkPolicy"):
        for key, ends in (("ingress", "from"), ("egress", "to")):
            for each in doc["spec"].get(key) or ():
                title = f"NetworkPolicy/{doc['metadata']['name']}"
                if not each.get("ports"):
                    yield title, f"{key}: allows every port"
                if not each.get(ends):
                    yield title, f"{key}: allows everybody"
                for peer in each.get(ends) or ():
                    block = peer.get("ipBlock")
                    if block and block["cidr"] == "0.0.0.0/0" and not _leaves_out_private(block):
                        yield (
                            title,
                            f"{key}: 0.0.0.0/0 has private addresses in it, the cluster's and metadata's",
                        )
                    if peer.get("namespaceSelector") == {} and not peer.get("podSelector"):
                        yield title, f"{key}: allows pods of every namespace"


def _leaves_out_private(block: Doc) -> bool:
    wanted = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}
    return wanted <= set(block.get("except") or ())
