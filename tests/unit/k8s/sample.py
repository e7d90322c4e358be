"""A few objects that keep the rules, small enough to be changed in a test."""

from typing import Any

from k8s.objects import Doc, Manifests


def metadata(name: str, component: str) -> Doc:
    labels = {"app.kubernetes.io/name": "voicemesh", "app.kubernetes.io/component": component}
    return {"name": name, "namespace": "voicemesh", "labels": labels}


def deployment(name: str, port: int, **pod: Any) -> Doc:
    made = metadata(name, name)
    container: Doc = {
        "name": name,
        "image": f"voicemesh/{name}:1.2.3",
        "ports": [{"name": "grpc", "containerPort": port}],
        "envFrom": [{"configMapRef": {"name": f"{name}-settings-abc"}}],
    }
    spec = {"containers": [container], "serviceAccountName": name, **pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": made,
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": made["labels"]},
            "template": {"metadata": {"labels": made["labels"]}, "spec": spec},
        },
    }


def config(name: str, **data: str) -> Doc:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name, "x"), "data": data}


def policy(name: str, selector: Doc, **spec: Any) -> Doc:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name, "x"),
        "spec": {"podSelector": selector, **spec},
    }


def of(component: str) -> Doc:
    return {"matchLabels": {"app.kubernetes.io/component": component}}


def manifests(*docs: Doc, platform: frozenset[str] = frozenset()) -> Manifests:
    return Manifests("overlays/sample", docs, platform)
