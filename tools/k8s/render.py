"""What each overlay gives, and each component by itself over the base, as `kubectl kustomize` builds it."""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from k8s.objects import MESH, Doc, Manifests

_SPAN: Final = re.compile(r"`([^`\s]+)`")
_SECRET: Final = re.compile(r"create secret generic (\S+)(.*)")
_KEY: Final = re.compile(r"--from-(?:literal=([\w.-]+)=|file=(\S+))")
BEHIND: Final = "voicemesh/behind"
"""Annotation of a component: others that must stand before it, apart by spaces."""


EXAMPLE: Final = "overlays/of-your-own (k8s/README.md)"
_ELSEWHERE: Final = re.compile(r"https://\S+//k8s(/\S+)\?ref=TAG")
COMBINATIONS: Final = (
    ("overlays/cpu", "hpa", "quotas", "canary"),
    ("overlays/cpu", "least-request", "keys", "keda", "quotas", "canary"),
    ("overlays/dev", "observability", "mtls", "redis-tls"),
    ("overlays/gpu", "models-image", "observability", "keda", "quotas", "quotas-gpu"),
    ("overlays/production", "canary"),
    ("overlays/production", "coqui", "gpu", "quotas-gpu", "release"),
)
"""What the documentation says of components that go together: an overlay, and what comes behind it."""


class RenderError(Exception):
    """Something does not build; the text is what kubectl said."""


def targets(folder: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """Return what is built: a name to its folders; several are a base and components."""
    found: dict[str, tuple[str, ...]] = {"base": ("base",)}
    for overlay in sorted((folder / "overlays").iterdir()):
        found[f"overlays/{overlay.name}"] = (f"overlays/{overlay.name}",)
    for component in sorted((folder / "components").iterdir()):
        found[f"components/{component.name}"] = ("base", *_chain(component))
    for overlay_, *components in COMBINATIONS:
        found[" + ".join((overlay_, *components))] = (
            overlay_,
            *(f"components/{each}" for each in components),
        )
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
    secrets = frozenset(made for page in pages for made in made_in_docs(page))

    def one(item: tuple[str, tuple[str, ...]]) -> Manifests | RenderError:
        where, parts = item
        try:
            docs = build(kubectl, folder, parts) if parts else example(kubectl, folder)
            return Manifests(where, docs, platform, secrets)
        except RenderError as error:
            return error.__class__(f"{where}: {error}")

    with concurrent.futures.ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        yield from pool.map(one, (*targets(folder).items(), (EXAMPLE, ())))


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


def build(
    kubectl: str, folder: pathlib.Path, parts: tuple[str, ...], further: Mapping[str, Any] | None = None
) -> tuple[Doc, ...]:
    """Return the objects of one folder, or of a base with components and what `further` says.

    Raises:
        RenderError: It does not build.

    """
    if len(parts) == 1 and not further:
        return parse(_kustomize(kubectl, folder / parts[0]))
    whole: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": MESH,
        "resources": [f"ABOVE/{parts[0]}"],
        "components": [f"ABOVE/{part}" for part in parts[1:]],
        **(further or {}),
    }
    return _build_text(kubectl, folder, yaml.safe_dump(whole))


def example(kubectl: str, folder: pathlib.Path) -> tuple[Doc, ...]:
    """Return the objects of the overlay that the README shows, with this checkout in the place of GitHub.

    Raises:
        RenderError: It does not build.

    """
    text = (folder / "README.md").read_text(encoding="utf-8")
    shown = text.partition("```yaml\n# our-mesh/kustomization.yaml\n")[2].partition("```")[0]
    return _build_text(kubectl, folder, _ELSEWHERE.sub(r"ABOVE\1", shown))


def _build_text(kubectl: str, folder: pathlib.Path, kustomization: str) -> tuple[Doc, ...]:
    """Return the objects of a kustomization, in which ABOVE is the folder."""
    with tempfile.TemporaryDirectory() as made:
        # Kustomize takes no absolute paths.
        above = os.path.relpath(folder.resolve(), pathlib.Path(made).resolve())
        text = kustomization.replace("ABOVE", above)
        pathlib.Path(made, "kustomization.yaml").write_text(text, encoding="utf-8")
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


def made_in_docs(page: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yield Secret and key of what the commands of a page make."""
    for name, options in _SECRET.findall(page.read_text(encoding="utf-8").replace("\\\n", " ")):
        for literal, file in _KEY.findall(options):
            yield name, literal or file.partition("=")[0].rpartition("/")[2]


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
