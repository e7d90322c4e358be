"""What network policies allow is worked out as the cluster's network would."""

from collections.abc import Iterable

from k8s.objects import Doc
from k8s.rules import breaches

from tests.unit.k8s.sample import deployment, manifests, of, policy

SHUT = policy("shut", {}, policyTypes=["Ingress", "Egress"])
PORT = {"port": 50051}


def _said(rule: str, *policies: Doc) -> set[str]:
    return {each.text for each in breaches(manifests(*_mesh(), *policies), (rule,)) if "grpc" in each.text}


def _mesh() -> Iterable[Doc]:
    return (deployment("gateway", 50050), deployment("llm", 50051))


def _allowed(*policies: Doc) -> bool:
    return not _said("every-edge-is-open", *policies)


def test_without_policies_all_is_open() -> None:
    assert _allowed()
    assert _said("no-other-edge-is-open") == {"reaches Deployment/gateway at grpc (50050), which is no edge"}


def test_an_edge_must_be_open_at_both_ends() -> None:
    leaves = policy(
        "g",
        of("gateway"),
        policyTypes=["Egress"],
        egress=[{"to": [{"podSelector": of("llm")}], "ports": [PORT]}],
    )
    enters = policy(
        "l", of("llm"), ingress=[{"from": [{"podSelector": of("gateway")}], "ports": [{"port": "grpc"}]}]
    )
    assert not _allowed(SHUT)
    assert not _allowed(SHUT, leaves)
    assert not _allowed(SHUT, enters)
    assert _allowed(SHUT, leaves, enters)
    assert not _said("no-other-edge-is-open", SHUT, leaves, enters)


def test_another_port_protocol_or_namespace_is_no_way_in() -> None:
    peer = {"podSelector": of("gateway")}
    elsewhere = {**peer, "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}
    here = {**peer, "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "voicemesh"}}}
    for rule in (
        {"from": [peer], "ports": [{"port": 50052}]},
        {"from": [peer], "ports": [{"port": 50051, "protocol": "UDP"}]},
        {"from": [elsewhere], "ports": [PORT]},
        {"from": [{"podSelector": of("tts")}], "ports": [PORT]},
        {"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [PORT]},
    ):
        assert not _allowed(policy("l", of("llm"), ingress=[rule])), rule
    for allowing in (
        {"from": [here], "ports": [PORT]},
        {"from": [peer], "ports": [{"port": 50000, "endPort": 50060}]},
        {"from": [peer]},
        {},
    ):
        assert _allowed(policy("l", of("llm"), ingress=[allowing])), allowing


def test_a_policy_of_another_namespace_binds_nobody_here() -> None:
    foreign = policy("l", of("llm"))
    foreign["metadata"]["namespace"] = "other"
    assert _allowed(foreign)
