"""Overlays of a platform's own are held to the rules, but for what is theirs to decide."""

import pathlib

import pytest
from k8s.objects import Doc, Manifests
from k8s.render import RenderError
from k8s.rules import RULES, breaches

from k8s import own
from tests.unit.k8s.sample import config, deployment, metadata


def _own(*docs: Doc, brought: frozenset[str] = frozenset()) -> Manifests:
    return Manifests("../our-mesh", docs, brought, own=True)


def _rules(*docs: Doc) -> set[str]:
    return {breach.rule for breach in own.found(_own(*docs))}


def _door(**spec: object) -> Doc:
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata("door", "gateway"), "spec": spec}


def test_what_is_not_asked_is_a_rule() -> None:
    assert own.NOT_ASKED.keys() <= RULES.keys()


def test_what_is_theirs_to_decide_is_not_asked() -> None:
    balancer = _door(type="LoadBalancer", selector={"app.kubernetes.io/component": "gateway"}, ports=[])
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata("door", "x")}
    assert "services-stay-inside" in {each.rule for each in breaches(_own(balancer))}
    assert not _rules(balancer, ingress) & {"services-stay-inside", "api-versions-current"}


def test_what_is_old_is_told_of_kinds_that_are_known() -> None:
    assert "api-versions-current" in _rules({**_door(selector={}, ports=[]), "apiVersion": "v1beta1"})


def test_an_image_of_the_base_is_not_applied() -> None:
    made = deployment("tts", 50053)
    assert "images-released" not in _rules(made)
    made["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.org/mesh/tts:0"
    assert "images-released" in _rules(made)


def test_a_secret_may_be_made_and_may_not_stand_among_settings() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata("made", "x"), "data": {"a": "Yg=="}}
    assert "secrets-by-reference" not in _rules(secret)
    assert "secrets-by-reference" in _rules(config("llm-settings", OPENAI_API_KEY="sk-" + "a" * 40))


def test_what_the_cluster_must_have_is_listed() -> None:
    made = deployment("tts", 50053, imagePullSecrets=[{"name": "registry"}])
    assert list(own.needed(_own(made))) == [("ConfigMap", "tts-settings-abc"), ("Secret", "registry")]
    assert list(own.needed(_own(made, config("tts-settings-abc")))) == [("Secret", "registry")]


def test_what_is_no_folder_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RenderError, match="nowhere is no folder; OVERLAYS takes"):
        own.overlay("kubectl", tmp_path / "nowhere")
