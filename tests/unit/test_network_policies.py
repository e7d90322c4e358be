"""The network policies let through what the table of edges has, and nothing else."""

import copy
import functools
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.support.network_policies import Cluster, Pod
from voicemesh.runtime.edges import (
    CALLER,
    COLLECTOR,
    DNS,
    EDGES,
    GRAFANA,
    KUBELET,
    ON_THE_INTERNET,
    PROMETHEUS,
    REDIS,
    SAMPLER,
    SERVICES,
    TEMPO,
)
from voicemesh.runtime.permissions import OPERATOR

K8S = pathlib.Path(__file__).resolve().parents[2] / "k8s"
HERE = "voicemesh"
NAMESPACES: Mapping[str, Mapping[str, str]] = {
    HERE: {"app.kubernetes.io/name": "voicemesh"},
    "shop": {"voicemesh/callers": "true"},
    "refused": {"voicemesh/callers": "false"},
    "strangers": {"app.kubernetes.io/name": "voicemesh"},
    "monitoring": {},
    "kube-system": {},
}
MESH = (*SERVICES, REDIS, COLLECTOR, SAMPLER, TEMPO, OPERATOR)


def of_mesh(component: str, name: str, namespace: str = HERE) -> Pod:
    labels = {"app.kubernetes.io/name": "voicemesh", "app.kubernetes.io/component": component}
    return Pod(name, namespace, labels, machine="first")


def app(namespace: str, **labels: str) -> Pod:
    named = {"app.kubernetes.io/name": labels.pop("name")} if "name" in labels else {}
    return Pod(f"{namespace}: {labels or named}", namespace, {**named, **labels}, machine="second")


def at(address: str) -> Pod:
    return Pod(address, "", address=address)


EVERYBODY: list[tuple[Pod, tuple[str, ...]]] = [
    *((of_mesh(each, f"{each} {number}"), (each,)) for each in MESH for number in (1, 2)),
    (of_mesh("newcomer", "a newcomer"), ()),
    (Pod("without labels", HERE), ()),
    (app("shop", name="shop"), (CALLER,)),
    (app("shop"), (CALLER,)),
    (app("refused", name="shop"), ()),
    (app("monitoring", name="prometheus"), (PROMETHEUS,)),
    (app("monitoring", name="opentelemetry-collector"), (COLLECTOR,)),
    (app("monitoring", name="grafana"), (GRAFANA,)),
    (app("monitoring", name="alertmanager"), ()),
    (app("kube-system", **{"k8s-app": "kube-dns"}), (DNS,)),
    (app("kube-system", **{"k8s-app": "kube-proxy"}), ()),
    # Labels are whatever who makes a pod says: in another namespace they open nothing.
    *((of_mesh(each, f"a stranger's {each}", "strangers"), ()) for each in MESH),
    (app("strangers", name="prometheus"), ()),
    (app("strangers", name="opentelemetry-collector"), ()),
    (app("strangers", **{"k8s-app": "kube-dns"}), ()),
    *(
        (at(each), ON_THE_INTERNET)
        for each in ("1.1.1.1", "172.15.0.1", "172.32.0.1", "2606:4700::6810:84e5")
    ),
    *(
        (at(each), ())
        for each in (
            *("10.0.0.7", "172.16.0.1", "172.31.255.254", "192.168.1.1", "127.0.0.1", "100.64.0.1"),
            *("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"),
            *("::1", "fe80::1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:a9fe:a9fe::1", "224.0.0.1"),
        )
    ),
    (Pod("another machine", "", address="192.0.2.9", machine="third"), ON_THE_INTERNET),
]
TRIED = [
    (port, protocol)
    for port in sorted({port for edge in EDGES for port in edge.ports} | {22, 80, 8443, 10250})
    for protocol in ("TCP", "UDP")
]


def manifests() -> list[dict[str, Any]]:
    return copy.deepcopy(_manifests())


@functools.cache
def _manifests() -> list[dict[str, Any]]:
    """Return the policies as Kustomize gives them: with the namespace."""
    folder = K8S / "base" / "network-policies"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    files = [*(folder / name for name in listed), *K8S.glob("components/*/network-polic*.yaml")]
    found = [each for path in files for each in yaml.safe_load_all(path.read_text())]
    for each in found:
        each["metadata"]["namespace"] = HERE
    return found


def differences(policies: list[dict[str, Any]], of: str = "") -> Iterator[str]:
    """Compare all pairs and ports with the table; with `of`, the pairs that a component is one of."""
    cluster = Cluster(policies, NAMESPACES)
    table: dict[tuple[str, str], set[tuple[int, str]]] = {}
    for edge in EDGES:
        found = table.setdefault((edge.caller, edge.callee), set())
        found |= set(itertools.product(edge.ports, edge.protocols))
    for (source, callers), (target, callees) in itertools.permutations(EVERYBODY, 2):
        if HERE not in (source.namespace, target.namespace) or (of and of not in (*callers, *callees)):
            continue
        ends = itertools.product(callers, callees)
        wanted = set().union(*(table.get(end, set()) for end in ends))
        allowed = cluster.allowed(source, target, TRIED)
        yield from (f"{source.name} -> {target.name}: {each} is open" for each in sorted(allowed - wanted))
        yield from (f"{source.name} -> {target.name}: {each} is shut" for each in sorted(wanted - allowed))


def test_the_policies_let_through_the_table_and_nothing_else() -> None:
    assert not list(differences(manifests()))


def test_the_machine_of_a_pod_reaches_it_and_no_other_machine_does() -> None:
    """So probes need no rule, and the table's edge of kubelet has none."""
    cluster = Cluster(manifests(), NAMESPACES)
    for service in SERVICES:
        pod = of_mesh(service, service)
        (port,) = (
            port for edge in EDGES if (edge.caller, edge.callee) == (KUBELET, service) for port in edge.ports
        )
        assert cluster.allows(Pod("its own", "", address="192.0.2.1", machine="first"), pod, port)
        assert not cluster.allows(Pod("another", "", address="192.0.2.2", machine="second"), pod, port)


def rules() -> Iterator[tuple[str, str, int]]:
    for each in manifests():
        for direction in ("ingress", "egress"):
            for number, _ in enumerate(each["spec"].get(direction) or ()):
                yield each["metadata"]["name"], direction, number


@pytest.mark.parametrize(("name", "direction", "number"), list(rules()))
def test_a_rule_that_is_gone_is_missed(name: str, direction: str, number: int) -> None:
    changed = manifests()
    (policy,) = [each for each in changed if each["metadata"]["name"] == name]
    del policy["spec"][direction][number]
    assert next(differences(changed, name), "").endswith("is shut")


@pytest.mark.parametrize("name", ["default-deny", *MESH])
def test_a_policy_that_is_gone_is_missed(name: str) -> None:
    changed = [each for each in manifests() if each["metadata"]["name"] != name]
    found = next(differences(changed, "" if name == "default-deny" else name), "")
    assert found.endswith("is open" if name == "default-deny" else "is shut")


@pytest.mark.parametrize("name", MESH)
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_rule_that_allows_all_is_found(name: str, direction: str) -> None:
    changed = manifests()
    (policy,) = [each for each in changed if each["metadata"]["name"] == name]
    policy["spec"][direction] = [*(policy["spec"].get(direction) or ()), {}]
    assert next(differences(changed, name), "").endswith("is open")
