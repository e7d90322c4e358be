"""Rules say what breaks them, and each has a change to see. Real manifests are for `make check-k8s`."""

import sys
from pathlib import Path
from typing import Any

import pytest
from k8s.changes import put
from k8s.mutations import MUTATIONS, blind
from k8s.objects import Doc
from k8s.rules import RULES, breaches

from tests.unit.k8s.sample import config, deployment, manifests, metadata


def _texts(rule: str, *docs: Doc, **rest: Any) -> list[str]:
    return [str(each) for each in breaches(manifests(*docs, **rest), (rule,))]


def test_every_rule_says_what_must_be_true_and_has_a_change_to_see() -> None:
    assert RULES.keys() == {mutation.rule for mutation in MUTATIONS}
    assert all(rule.says.endswith(".") and "\n" not in rule.says for rule in RULES.values())


def test_a_rule_that_sees_nothing_is_told() -> None:
    said = list(blind([manifests(deployment("gateway", 50050))]))
    assert not [each for each in said if "images-tagged: does not see" in each]
    assert "rule resources-set: does not see 'memory that is not sure' in overlays/sample" in said
    assert "rule shut-by-default: 'open' can be tried nowhere" in said


@pytest.mark.parametrize(
    ("image", "problems"),
    [
        ("voicemesh/tts:1.2.3", 0),
        ("registry:5000/voicemesh/tts:1.2.3", 0),
        ("voicemesh/tts@sha256:" + "0" * 64, 0),
        ("voicemesh/tts:1.2.3@sha256:" + "0" * 64, 0),
        ("registry:5000/voicemesh/tts", 1),
        ("voicemesh/tts:latest", 1),
        ("voicemesh/tts:LATEST", 1),
        ("voicemesh/tts:1.2-latest", 1),
        ("voicemesh/tts:distroless-v1.2.3", 0),
        ("voicemesh/tts:0", 0),
        ("redis:0", 1),
        ("voicemesh/tts@sha256:" + "g" * 64, 1),
        ("@sha256:" + "0" * 64, 1),
        ("voicemesh/tts@sha256:0", 1),
        ("", 1),
    ],
)
def test_an_image_is_the_same_one_tomorrow(image: str, problems: int) -> None:
    made = deployment("tts", 50053)
    put("Deployment", "tts", "spec", "template", "spec", "containers", 0, "image", value=image)([made])
    assert len(_texts("images-tagged", made)) == problems


def test_a_breach_names_place_object_and_rule() -> None:
    made = deployment("tts", 50053)
    assert _texts("no-service-links", made) == [
        "overlays/sample: Deployment/tts: enableServiceLinks is not false [no-service-links]"
    ]


def test_a_secret_that_the_platform_brings_is_documented() -> None:
    made = deployment("llm", 50051)
    secret = {"secretKeyRef": {"name": "voicemesh-llm", "key": "openai-api-key"}}
    made["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "OPENAI_API_KEY", "valueFrom": secret}
    ]
    there = (made, config("llm-settings-abc"), {"kind": "ServiceAccount", "metadata": metadata("llm", "llm")})
    (said,) = _texts("references-exist", *there)
    assert "Secret/voicemesh-llm" in said
    assert not _texts("references-exist", *there, platform=frozenset({"voicemesh-llm"}))


@pytest.mark.parametrize("optional", [True, False])
def test_a_config_map_of_yours_is_documented_and_may_be_missing(optional: bool) -> None:
    volume = {"name": "flags", "configMap": {"name": "gateway-flags", "optional": optional}}
    made = deployment("gateway", 50050, volumes=[volume])
    account = {"kind": "ServiceAccount", "metadata": metadata("gateway", "gateway")}
    there = (made, config("gateway-settings-abc"), account)
    assert len(_texts("references-exist", *there)) == 1
    documented = _texts("references-exist", *there, platform=frozenset({"gateway-flags"}))
    assert len(documented) == (0 if optional else 1)


@pytest.mark.parametrize(
    ("least", "most", "replicas", "allowed"),
    [
        (None, 1, 2, True),
        (1, None, 2, True),
        (2, None, 2, False),
        ("100%", None, 2, False),
        (None, 0, 2, False),
    ],
)
def test_a_budget_lets_nodes_be_drained(least: object, most: object, replicas: int, allowed: bool) -> None:
    made = deployment("tts", 50053)
    made["spec"]["replicas"] = replicas
    given = {"minAvailable": least, "maxUnavailable": most, "selector": made["spec"]["selector"]}
    spec = {key: value for key, value in given.items() if value is not None}
    budget = {"kind": "PodDisruptionBudget", "metadata": metadata("tts", "tts"), "spec": spec}
    assert (not _texts("a-budget-for-each", made, budget)) is allowed


def test_the_grace_holds_hook_drain_and_end() -> None:
    made = deployment("tts", 50053, terminationGracePeriodSeconds=195)
    settings = config("tts-settings-abc", VOICEMESH_DRAIN_GRACE_S="180", VOICEMESH_DRAIN_NOTICE_S="5")
    assert not _texts("grace-is-enough", made, settings)
    hook = {"preStop": {"sleep": {"seconds": 11}}}
    made["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = hook
    (said,) = _texts("grace-is-enough", made, settings)
    assert "it needs 196" in said


def test_the_check_finds_the_rules_where_the_tools_are() -> None:
    assert str(Path(__file__).resolve().parents[3] / "tools") in sys.path
