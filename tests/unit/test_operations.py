"""docs/operations.md tells people at night what to type: what it names is there."""

import pathlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import pytest
import typer
import yaml

from voicemesh.cli.app import app

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operations.md"
TEXT = PAGE.read_text()

KINDS: Final = {
    "deployment": "Deployment", "deployments": "Deployment", "deploy": "Deployment",
    "statefulset": "StatefulSet", "service": "Service", "svc": "Service", "configmap": "ConfigMap",
    "networkpolicy": "NetworkPolicy", "pdb": "PodDisruptionBudget", "certificate": "Certificate",
}  # fmt: skip
"""What kubectl calls a kind, and its name. Of others nothing is in the manifests by name."""
VERBS: Final = {
    *(
        "apply",
        "diff",
        "get",
        "describe",
        "logs",
        "exec",
        "scale",
        "rollout",
        "port-forward",
        "create",
        "delete",
    ),
    *("cordon", "drain", "uncordon", "top", "wait", "annotate", "patch", "set", "kustomize", "debug", "cp"),
}


def commands() -> list[str]:
    """Return what is behind each `$ `, with continued lines as one."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE):
        joined = re.sub(r"\\\n\s*", "", block)
        found += [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    return found


def programs(command: str) -> Iterator[list[str]]:
    """Return the words of each program in a line: of a pipe each one, of `$(…)` what is within."""
    inner = re.findall(r"\$\(([^()]*)\)", command)
    outer = re.sub(r"\$\([^()]*\)", "INNER", command)
    for part in [outer, *inner]:
        for one in re.split(r"\s(?:\||&&|;)\s", part):
            words = shlex.split(one.removesuffix("&"), comments=True)
            while words and (re.match(r"\w+=", words[0]) or words[0] in ("for", "do", "done", "export")):
                words = words[1:]
            if words:
                yield words


ALL = [words for command in commands() for words in programs(command)]


def of(program: str) -> list[Any]:
    return [pytest.param(words[1:], id=" ".join(words)[:80]) for words in ALL if words[0] == program]


@pytest.mark.parametrize("words", [*of("voicemesh"), *of(".venv/bin/voicemesh")])
def test_a_command_of_voicemesh_exists_with_its_options(words: list[str]) -> None:
    found: Any = typer.main.get_command(app)
    words = list(words)
    while words and hasattr(found, "commands") and not words[0].startswith("-"):
        known = found.commands
        if words[0] not in known and not found.invoke_without_command:
            raise AssertionError(f"no command {words[0]}: there are {sorted(known)}")
        found = known[words.pop(0)]
    options = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.split("=")[0] for word in words if word.startswith("-") and word != "-"}
    assert used <= options | {"--help"}, f"{sorted(used - options)} is no option of {found.name}"


@cache
def shipped() -> frozenset[tuple[str, str]]:
    """Return kind and name of all that the manifests have, in any base, component or overlay."""
    found = set()
    for path in [*(ROOT / "k8s").rglob("*.yaml"), *(ROOT / "deploy").rglob("kustomization.yaml")]:
        for document in yaml.safe_load_all(path.read_text()):
            if not isinstance(document, dict):
                continue
            name = document.get("metadata", {}).get("name")
            found.add((document.get("kind", ""), name))
            found |= {("ConfigMap", made["name"]) for made in document.get("configMapGenerator", ())}
    return frozenset(found)


@pytest.mark.parametrize("words", of("kubectl"))
def test_what_kubectl_is_asked_for_exists(words: list[str]) -> None:
    words = [word for word in words if word not in ("-n", "voicemesh", "monitoring")]
    assert words[0] in VERBS, words
    if "-k" in words:
        assert (ROOT / words[words.index("-k") + 1] / "kustomization.yaml").is_file(), words
    if words[0] == "kustomize":
        assert (ROOT / words[1] / "kustomization.yaml").is_file(), words
    if "monitoring" in words or words[0] in ("cordon", "drain", "uncordon"):
        return
    for word in words[1:]:
        kind, slash, name = word.partition("/")
        if slash and kind in KINDS and not name.startswith("$"):
            assert (KINDS[kind], name) in shipped(), f"{word} is in no manifest"
    for one, several in re.findall(r"/component(?:=(\w+)| in \(([^)]+)\))", " ".join(words)):
        for component in (one or several).split(", "):
            assert any(name == component for _, name in shipped()), component


def test_each_kubectl_line_says_where() -> None:
    """What has no namespace asks the one that a person happens to be in."""
    everywhere = {"apply", "diff", "kustomize", "cordon", "drain", "uncordon", "top"}
    for words in ALL:
        if words[0] == "kubectl" and not everywhere & set(words) and not {"node", "nodes"} & set(words):
            assert "-n" in words, words


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", TEXT)) | {words[1] for words in ALL if words[0] == "make"}
    assert named <= targets


def rules() -> str:
    return "".join(
        path.read_text()
        for path in (ROOT / "deploy" / "observability" / "prometheus" / "rules").glob("*.yml")
    )


def test_alerts_exist() -> None:
    known = set(re.findall(r"- alert: (\w+)", rules()))
    named = set(re.findall(r"\bVoicemesh[A-Z]\w+", TEXT))
    assert named <= known
    assert len(named) > 10


def test_every_alert_leads_here_or_says_all_itself() -> None:
    """An alert for which something is to be done on a cluster has a section of this page."""
    alerts = (ROOT / "docs" / "alerts.md").read_text()
    links = set(re.findall(r"operations\.md#([\w-]+)", alerts))
    assert links
    assert links <= anchors(TEXT)


def anchors(text: str) -> set[str]:
    titles = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_metrics_exist() -> None:
    known = set(re.findall(r"`([a-z][a-z_0-9]+)`", (ROOT / "docs" / "metrics.md").read_text()))
    known |= set(re.findall(r"record: (\S+)", rules()))
    named = set(re.findall(r"\b(?:voicemesh|gen_ai|rpc)_[a-z_]+\b", re.sub(r"\{[^{}\n]*\}", "", TEXT)))
    assert len(named) > 10
    for name in named:
        assert name in known or re.sub(r"_(bucket|count|sum)$", "", name) in known, name


def test_lines_of_logs_are_lines_that_processes_write() -> None:
    code = "".join(
        path.read_text()
        for folder in ("gateway", "services", "voicemesh")
        for path in (ROOT / folder).rglob("*.py")
    )
    events = set(re.findall(r'"event": ?"([^"]+)"', TEXT))
    assert len(events) > 10
    for event in events:
        assert f'"{event}"' in code, event


def test_settings_exist() -> None:
    known = set(
        re.findall(r"`((?:VOICEMESH|OPENAI)_[A-Z0-9_]+)`", (ROOT / "docs" / "settings.md").read_text())
    )
    named = set(re.findall(r"\b(?:VOICEMESH|OPENAI)_[A-Z0-9_]*[A-Z0-9]\b", TEXT))
    assert named <= known, sorted(named - known)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT):
        file, _, anchor = target.partition("#")
        if target.startswith("http"):
            continue
        path = PAGE.parent / file if file else PAGE
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path.read_text()), target
