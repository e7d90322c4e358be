"""What a container would read of its environment."""

from typing import Any

from k8s.environments import environment_of, mounted, named_in
from k8s.objects import Workload

from tests.unit.k8s.sample import config, deployment, manifests


def _secret(name: str, *, optional: bool = False) -> dict[str, Any]:
    reference = {"name": "keys", "key": "k", **({"optional": True} if optional else {})}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def test_a_later_word_is_the_one_that_holds() -> None:
    there = manifests(config("a", X="1", Y="1"), config("b", X="2"))
    found = environment_of(
        there,
        {
            "envFrom": [{"configMapRef": {"name": "a"}}, {"configMapRef": {"name": "b"}}],
            "env": [{"name": "Y", "value": "3"}],
        },
    )
    assert found.values == {"X": "2", "Y": "3"}
    assert found.sources == {"X": "ConfigMap/b", "Y": ""}


def test_variables_are_put_into_others_where_they_stand_before() -> None:
    found = environment_of(
        manifests(),
        {
            "env": [
                _secret("PASSWORD"),
                {"name": "URL", "value": "redis://:$(PASSWORD)@r"},
                {"name": "A", "value": "$(B) $$(PASSWORD)"},
                {"name": "B", "value": "b"},
            ]
        },
    )
    assert found.values["URL"] == "redis://:stands-for-a-secret@r"
    assert found.values["A"] == "$(B) $(PASSWORD)"
    assert found.secrets == {"PASSWORD", "URL"}
    assert found.problems == ["A: $(B) is not set before it, and stays as it is"]


def test_a_secret_that_may_be_missing_is_told_apart() -> None:
    found = environment_of(manifests(), {"env": [_secret("A", optional=True), _secret("B")]})
    assert (found.secrets, found.optional) == ({"A", "B"}, {"A"})


def test_what_kubernetes_would_not_make_anything_of_is_told() -> None:
    found = environment_of(
        manifests(config("a", X="1")),
        {
            "envFrom": [{"secretRef": {"name": "all"}}],
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "Y"}}},
                {"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
        },
    )
    assert found.problems == ["takes all of Secret/all: name each variable", "A: ConfigMap/a has no 'Y'"]
    assert found.values == {"P": "1"}


def test_declarations_name_variables() -> None:
    assert named_in({"X": '[{"api_key_env": "GROQ_API_KEY", "name": "NOT_THIS"}]'}) == {"GROQ_API_KEY"}


def test_of_what_is_mounted_the_files_that_the_manifests_have_are_known() -> None:
    items = [{"key": "X", "path": "x"}, {"key": "Z", "path": "z"}]
    volumes = [
        {"name": "here", "configMap": {"name": "a", "items": items}},
        {"name": "yours", "configMap": {"name": "b", "optional": True, "items": items}},
    ]
    made = deployment("gateway", 50050, volumes=volumes)
    container = {"volumeMounts": [{"name": "here", "mountPath": "/a"}, {"name": "yours", "mountPath": "/b"}]}
    there = manifests(config("a", X="1", Q="2"))
    found = mounted(there, Workload(made, made["spec"]["template"]), container)
    assert found == {"/a": {"x": "1"}, "/b": None}
