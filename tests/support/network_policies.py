"""What a cluster's network plugin lets through, worked out from manifests.

As https://kubernetes.io/docs/concepts/services-networking/network-policies/ has it: a pod that no policy
selects in a direction is open in it; one that some select may do what any rule of any of them allows; a
connection needs both ends. Traffic between a pod and its own machine is always let through.
"""

import functools
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod, or with no namespace an address outside of the cluster.

    Attributes:
        name: For failures of tests.
        namespace: Where it is; "": outside.
        labels: Its own.
        address: Its address.
        named_ports: Numbers of the ports of its containers, by name.
        machine: The machine that it runs on; of an address outside of the cluster, the machine that it is.

    """

    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.244.0.9"
    named_ports: Mapping[str, int] = field(default_factory=dict)
    machine: str = ""

    def is_machine_of(self, other: "Pod") -> bool:
        """Say whether this is the machine that another one runs on."""
        return not self.namespace and bool(self.machine) and self.machine == other.machine


class Cluster:
    """Policies, and the labels of namespaces.

    Args:
        manifests: Of which the policies are taken.
        namespaces: Labels of every namespace, by name; their name is added, as a cluster does.

    """

    def __init__(self, manifests: Iterable[Manifest], namespaces: Mapping[str, Mapping[str, str]]) -> None:
        self._policies = [each for each in manifests if each["kind"] == "NetworkPolicy"]
        self._namespaces = {
            name: {**labels, "kubernetes.io/metadata.name": name} for name, labels in namespaces.items()
        }

    def allows(self, source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
        """Say whether `source` may connect to a port of `target`."""
        return bool(self.allowed(source, target, [(port, protocol)]))

    def allowed(self, source: Pod, target: Pod, tried: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
        """Return those of some ports, each with its protocol, that `source` may connect to at `target`."""
        left = set(tried)
        if source.is_machine_of(target) or target.is_machine_of(source):
            return left
        for pod, other, direction in ((source, target, "Egress"), (target, source, "Ingress")):
            if left:
                left = self._open(pod, other, target, left, direction)
        return left

    def _of(self, pod: Pod, direction: str) -> list[Manifest]:
        return [
            each
            for each in self._policies
            if each["metadata"]["namespace"] == pod.namespace
            and direction in _directions(each["spec"])
            and _selects(each["spec"]["podSelector"], pod.labels)
        ]

    def _open(
        self, pod: Pod, other: Pod, target: Pod, tried: set[tuple[int, str]], direction: str
    ) -> set[tuple[int, str]]:
        """Return those of some ports that one end lets through."""
        policies = self._of(pod, direction) if pod.namespace else []
        if not policies:
            return tried
        key, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
        rules = [
            rule
            for policy in policies
            for rule in policy["spec"].get(key) or ()
            if self._has_peer(rule.get(peers), pod.namespace, other)
        ]
        return {each for each in tried if any(_has_port(rule.get("ports"), target, *each) for rule in rules)}

    def _has_peer(self, peers: list[Manifest] | None, namespace: str, other: Pod) -> bool:
        if not peers:
            return True
        return any(self._is_peer(peer, namespace, other) for peer in peers)

    def _is_peer(self, peer: Manifest, namespace: str, other: Pod) -> bool:
        if "ipBlock" in peer:
            return _in_block(peer["ipBlock"], other.address)
        if not other.namespace:
            return False
        if "namespaceSelector" in peer:
            if not _selects(peer["namespaceSelector"], self._namespaces[other.namespace]):
                return False
        elif other.namespace != namespace:
            return False
        return "podSelector" not in peer or _selects(peer["podSelector"], other.labels)


def _directions(spec: Manifest) -> list[str]:
    given: list[str] = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return given


def _selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    return all(
        labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()
    ) and all(_meets(each, labels) for each in selector.get("matchExpressions") or ())


def _meets(expression: Manifest, labels: Mapping[str, str]) -> bool:
    has, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return has in values
        case "NotIn":
            return has not in values
        case "Exists":
            return has is not None
        case "DoesNotExist":
            return has is None
    raise ValueError(f"no operator of a selector: {expression['operator']}")


def _in_block(block: Manifest, address: str) -> bool:
    found = ipaddress.ip_address(address)
    return found in _network(block["cidr"]) and not any(
        found in _network(each) for each in block.get("except") or ()
    )


_network = functools.lru_cache(ipaddress.ip_network)


def _has_port(ports: list[Manifest] | None, target: Pod, port: int, protocol: str) -> bool:
    if not ports:
        return True
    return any(each.get("protocol", "TCP") == protocol and _is_port(each, target, port) for each in ports)


def _is_port(given: Manifest, target: Pod, port: int) -> bool:
    if "port" not in given:
        return True
    first = given["port"]
    if isinstance(first, str):
        return target.named_ports.get(first) == port
    return bool(first <= port <= given.get("endPort", first))
