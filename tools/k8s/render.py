"""What each overlay gives, and each component by itself over the base, as `kubectl kustomize` builds it."""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any, Final

import yaml

from k8s.objects import MESH, Doc, Manifests

_SPAN: Final = re.compile(r"`([^`\s]+)`")
BEHIND: Final = "voicemesh/behind"
"""Annotation of a component: others that must stand before it, apart by spaces."""


class RenderError(Exception):
    """Something does not build; the text is what kubectl said."""


def targets(folder: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """Return what is built: a name to its folders; several are a base and components."""
    found: dict[str, tuple[str, ...]] = {"base": ("base",)}
    for overlay in sorted((folder / "overlays").iterdir()):
        found[f"overlays/{overlay.name}"] = (f"overlays/{overlay.name}",)
    for component in sorted((folder / "components").iterdir()):
        found[f"components/{component.name}"] = ("base", *_chain(component))
    return found


def _chain(component: pathlib.Path) -> Iterator[str]:
    """Yield a component, and before it those that it stands behind."""
    kustomization = yaml.safe_load((component / "kustomization.yaml").read_text(encoding="utf-8"))
    annotations = (kustomization.get("metadata") or {}).get("annotations") or {}
    for before in annotations.get(BEHIND, "").split():
        yield from _chain(component.parent / before)
    yield f"components/{component.name}"


def render_all(
    kubectl: str, folder: pathlib.Path, jobs: int | None = None
) -> Iterator[Manifests | RenderError]:
    """Build everything at once, as many at a time as there are processors; yield in the order of `targets`.

    Args:
        kubectl: The program.
        folder: Where base, components and overlays are.
        jobs: How many are built at a time; None for as many as there are processors.

    """
    pages = (folder / "README.md", *sorted((folder.parent / "docs").glob("kubernetes*.md")))
    platform = frozenset(name for page in pages for name in named_in_docs(page))

    def one(item: tuple[str, tuple[str, ...]]) -> Manifests | RenderError:
        where, parts = item
        try:
            return Manifests(where, build(kubectl, folder, parts), platform)
        except RenderError as error:
            return error.__class__(f"{where}: {error}")

    with concurrent.futures.ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        yield from pool.map(one, targets(folder).items())


def data_of(kubectl: str, text: str) -> dict[str, str]:
    """Return what kustomize makes of a file of variables."""
    with tempfile.TemporaryDirectory() as made:
        generator = {"name": "made", "envs": ["settings.env"]}
        pathlib.Path(made, "settings.env").write_text(text, encoding="utf-8")
        pathlib.Path(made, "kustomization.yaml").write_text(
            yaml.safe_dump({"configMapGenerator": [generator]})
        )
        (found,) = parse(_kustomize(kubectl, pathlib.Path(made)))
        data: dict[str, str] = found.get("data") or {}
        return data


def build(kubectl: str, folder: pathlib.Path, parts: tuple[str, ...]) -> tuple[Doc, ...]:
    """Return the objects of one folder, or of a base with components.

    Raises:
        RenderError: It does not build.

    """
    if len(parts) == 1:
        return parse(_kustomize(kubectl, folder / parts[0]))
    with tempfile.TemporaryDirectory() as made:
        # Kustomize takes no absolute paths.
        above = os.path.relpath(folder.resolve(), pathlib.Path(made).resolve())
        whole: dict[str, Any] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": MESH,
            "resources": [f"{above}/{parts[0]}"],
            "components": [f"{above}/{part}" for part in parts[1:]],
        }
        pathlib.Path(made, "kustomization.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
        return parse(_kustomize(kubectl, pathlib.Path(made)))


def _kustomize(kubectl: str, folder: pathlib.Path) -> str:
    # Nothing of the person at the keyboard: a settings.env without a `=` would take it.
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent"}
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode or done.stderr:
        # A warning, as of a field that is deprecated, is told to whoever applies it, too.
        raise RenderError(done.stderr.strip() or f"kubectl ended with {done.returncode}")
    return done.stdout


def parse(text: str) -> tuple[Doc, ...]:
    """Return the objects in YAML."""
    return tuple(doc for doc in yaml.load_all(text, Loader=_Loader) if doc)


def keys_twice(text: str) -> Iterator[str]:
    """Yield the keys that stand twice in one mapping: kustomize takes the last, and says nothing."""
    waiting: list[Any] = list(yaml.compose_all(text, Loader=_Loader))
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if key.value in seen:
                    yield f"line {key.start_mark.line + 1}: {key.value!r} stands there twice"
                seen.add(key.value)
                waiting.append(value)


def named_in_docs(page: pathlib.Path) -> list[str]:
    """Return what a page names in code spans: what the platform brings is documented there."""
    return _SPAN.findall(page.read_text(encoding="utf-8"))


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
