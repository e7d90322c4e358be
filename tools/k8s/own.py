"""Overlays of a platform's own: the same rules, but for what is a platform's to decide."""

import pathlib
from collections.abc import Iterator
from typing import Final

from k8s import render
from k8s.objects import Manifests
from k8s.rules import RULES, Breach, breaches
from k8s.rules.references import named_by

NOT_ASKED: Final = {
    "policies-of-the-table": "a platform opens doors to what it has beside the mesh",
    "secrets-have-commands": "it brings its own Secrets in its own way",
    "services-stay-inside": "it opens the mesh to the outside",
}
"""Rule to why overlays of others need not keep it."""


def found(manifests: Manifests) -> Iterator[Breach]:
    """Yield what breaks the rules that are asked."""
    for breach in breaches(manifests, tuple(name for name in RULES if name not in NOT_ASKED)):
        # What an overlay makes of a Secret may be sealed elsewhere; a secret in a ConfigMap is not.
        if breach.rule != "secrets-by-reference" or not breach.title.startswith("Secret/"):
            yield breach


def overlay(kubectl: str, path: pathlib.Path) -> Manifests:
    """Build an overlay by its path.

    Raises:
        RenderError: It is no folder with a kustomization, or does not build.

    """
    if not path.is_dir():
        raise render.RenderError(f"{path} is no folder; OVERLAYS takes folders with a kustomization.yaml")
    docs = render.build(kubectl, path, (".",))
    brought = frozenset(name for doc in docs for kind, name in named_by(doc) if kind in _BROUGHT)
    return Manifests(str(path), docs, platform=brought, own=True)


def needed(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Yield kind and name of what must be in the cluster before these are applied, in their order."""
    here = {(doc["kind"], doc["metadata"]["name"]) for doc in manifests.docs}
    here |= {("Secret", doc["spec"]["secretName"]) for doc in manifests.of_kind("Certificate")}
    named = {each for doc in manifests.docs for each in named_by(doc) if each[0] in _BROUGHT}
    yield from sorted(named - here)


_BROUGHT: Final = ("ConfigMap", "PersistentVolumeClaim", "RuntimeClass", "Secret")
"""Kinds of what may be in the cluster already."""
