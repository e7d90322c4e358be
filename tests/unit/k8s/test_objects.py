"""Manifests in a form that is easy to ask."""

from typing import Any

import pytest
from k8s.objects import matches, quantity, texts
from k8s.render import keys_twice

from tests.unit.k8s.sample import deployment, manifests


@pytest.mark.parametrize(
    ("written", "expected"),
    [("500m", 0.5), (2, 2.0), ("1.5", 1.5), ("64Mi", 64 * 2**20), ("2G", 2e9), ("1Ki", 1024.0), ("0", 0.0)],
)
def test_an_amount_is_read_as_kubernetes_does(written: object, expected: float) -> None:
    assert quantity(written) == expected


@pytest.mark.parametrize("written", ["", "64MB", "-1", "1 Gi", "Mi"])
def test_what_is_no_amount_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        quantity(written)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchLabels": {"a": "1", "b": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
    ],
)
def test_a_selector_takes_labels(selector: dict[str, Any], expected: bool) -> None:
    assert matches(selector, {"a": "1"}) is expected


def test_a_workload_says_what_it_runs() -> None:
    stranger = deployment("redis", 6379)
    (gateway, redis) = manifests(deployment("gateway", 50050), stranger).workloads
    assert gateway.service == "gateway"
    assert redis.service == ""
    assert gateway.title == "Deployment/gateway"


def test_a_container_that_starts_first_and_stays_serves() -> None:
    (workload,) = manifests(
        deployment("tts", 1, initContainers=[{"name": "fetch"}, {"name": "proxy", "restartPolicy": "Always"}])
    ).workloads
    assert [each["name"] for each in workload.containers] == ["fetch", "proxy", "tts"]
    assert [each["name"] for each in workload.serving] == ["proxy", "tts"]


def test_texts_are_found_at_any_depth() -> None:
    assert list(texts({"a": ["x", {"b": "y"}], "c": 1})) == ["x", "y"]


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("a: {b: 1}\nc: {b: 1}\n", []),
        ("- {a: 1}\n- {a: 1}\n", []),
        ("a: 1\nb: 2\na: 1\n", [3]),
        ("a:\n  - b: 1\n    b: 2\n", [3]),
        ("a: 1\n---\na: 1\nb: {c: 1, c: 2}\n", [4]),
    ],
)
def test_a_key_that_stands_twice_is_found(written: str, lines: list[int]) -> None:
    assert [int(each.split()[1].rstrip(":")) for each in keys_twice(written)] == lines
