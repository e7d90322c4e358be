"""The images: their Dockerfile, what they pin, what gets into them, as far as it is seen without building."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from services.cache.settings import CacheSettings
from services.chunker.settings import ChunkerSettings
from services.llm.settings import LlmSettings
from services.tts.settings import TtsSettings
from voicemesh.runtime.settings import ServerSettings
from voicemesh.secret_variables import SERVICES

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SETTINGS: dict[str, type[ServerSettings]] = {
    "gateway": GatewaySettings,
    "llm": LlmSettings,
    "chunker": ChunkerSettings,
    "tts": TtsSettings,
    "cache": CacheSettings,
}
# What a service imports where it is asked for, and its image goes without.
ELSEWHERE = {"tts": {"TTS", "librosa", "onnxruntime", "piper", "soundfile", "torch", "torchaudio"}}


def _tool(name: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        return importlib.import_module(name)


check_images = _tool("check_images")
image_targets = _tool("image_targets")
image_builds = _tool("image_builds")
TARGETS = {target.name: target for target in image_targets.TARGETS}


def _stages() -> dict[str, str]:
    blocks = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]
    return {re.findall(r"^FROM \S+ AS (\S+)$", block, re.MULTILINE)[0]: block for block in blocks}


STAGES = _stages()


def _stands_on(name: str) -> Iterator[str]:
    """Yield the text of a stage and of those that it is FROM."""
    while name in STAGES:
        yield STAGES[name]
        name = STAGES[name].split()[1]


# ---- the Dockerfile -------------------------------------------------------------------------------


def test_a_target_for_each_image_and_no_other() -> None:
    used = {
        word for block in STAGES.values() for word in (block.split()[1], *re.findall(r"--from=(\S+)", block))
    }
    assert STAGES.keys() - used == TARGETS.keys()
    assert {target.package.removeprefix("services.") for target in TARGETS.values()} == {*SERVICES, ""}


def test_one_base_and_its_digest() -> None:
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert {block.split()[1] for block in STAGES.values()} - STAGES.keys() == {"${BASE}"}


@pytest.mark.parametrize("name", TARGETS)
def test_an_image_has_its_own_packages_and_code_and_runs_as_nobody(name: str) -> None:
    stages = list(_stands_on(name))
    code = "tts" if name.startswith("tts") else name
    assert f"COPY --from={name}-packages /opt/voicemesh /opt/voicemesh\n" in stages[0]
    assert f"COPY --from=code /code/{code} /opt/mesh\n" in stages[0]
    assert f"/tmp/images/{name}.lock\n" in STAGES[f"{name}-packages"]
    users = [line for block in stages for line in block.splitlines() if line.startswith("USER ")]
    assert users == ["USER 10001:10001"]
    assert not any(line.startswith("RUN ") for block in stages[:-1] for line in block.splitlines())


@pytest.mark.parametrize("name", TARGETS)
def test_process_1_is_python_and_listens_where_the_settings_say(name: str) -> None:
    text = "".join(_stands_on(name))
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)
    target = TARGETS[name]
    if not target.package:
        assert json.loads(entrypoint) == ["/opt/mesh/bin/voicemesh"]
        return
    assert json.loads(entrypoint) == ["/opt/voicemesh/bin/python", "-m", target.package]
    assert (ROOT / target.package.replace(".", "/") / "__main__.py").exists()
    service = target.package.removeprefix("services.")
    fields = SETTINGS[service].model_fields
    listens = {f"{service}_listen", "http_listen"} & fields.keys()
    ports = {field: str(fields[field].default).rpartition(":")[2] for field in listens}
    told = dict(re.findall(r"(VOICEMESH_\w+_LISTEN)=0\.0\.0\.0:(\d+)", text))
    assert told == {f"VOICEMESH_{field.upper()}": port for field, port in ports.items()}
    (exposed,) = re.findall(r"^EXPOSE (.+)$", text, re.MULTILINE)
    assert set(exposed.split()) == set(ports.values())


def test_the_proof_builds_the_stages_of_a_target_alone() -> None:
    text = image_builds.stages_for(DOCKERFILE, "chunker")
    names = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    assert names == {"python", "build", "code", "chunker-packages", "process", "chunker"}
    assert text.startswith(DOCKERFILE[: DOCKERFILE.index("FROM ")])


# ---- what gets in ---------------------------------------------------------------------------------


def _ignored(path: str) -> bool:
    """Whether .dockerignore leaves a file out: the last pattern for it, or for a folder above, decides."""
    above = [path, *(str(each) for each in Path(path).parents)][:-1]
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            body = line.lstrip("!")
            pattern = re.escape(body).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
            pattern = pattern.replace(r"\[", "[").replace(r"\]", "]")
            if any(re.fullmatch(pattern, each) for each in above):
                ignored = not line.startswith("!")
    return ignored


def test_the_code_gets_into_the_build_and_nothing_else_that_git_knows() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\n")
    wanted = ("voicemesh/", "services/", "gateway/", "deploy/images/")
    left_out = {name for name in listed if name.startswith(wanted) and _ignored(name)}
    assert left_out == set()
    let_in = {name for name in listed if name and not name.startswith(wanted) and not _ignored(name)}
    assert let_in == {"pyproject.toml", "README.md", "LICENSE"}


@pytest.mark.parametrize(
    "name",
    [
        *image_builds.PLANTED,
        ".env",
        ".git/config",
        ".venv/bin/python",
        "gateway/.netrc",
        "gateway/access/jwks.jwk",
        "services/llm/client_secret.json",
        "services/tts/server.crt",
        "voicemesh/__pycache__/tls.cpython-311.pyc",
        "k8s/overlays/cpu/kustomization.yaml",
        "notes.txt",
    ],
)
def test_what_only_one_machine_has_stays_out(name: str) -> None:
    assert _ignored(name)


# ---- what is pinned -------------------------------------------------------------------------------


def test_locks_agree_with_constraints_and_extras() -> None:
    assert check_images.main() == 0


def test_a_lock_that_disagrees_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = (ROOT / "deploy/images/chunker.lock").read_text()
    text = own.replace("structlog==", "structlog==1.", 1).replace("protobuf==", "stranger==", 1)
    (tmp_path / "chunker.lock").write_text(text)
    target = TARGETS["chunker"]
    other = image_targets.Target("chunker", target.extras, target.package)
    monkeypatch.setattr(check_images, "TARGETS", (other,))
    monkeypatch.setattr(image_targets, "FOLDER", tmp_path)
    pins = list(check_images.wrong_in_pins())
    assert any(
        re.match(r"chunker\.lock: structlog is 1\.\S+, and the constraints say ", line) for line in pins
    )
    assert "chunker.lock: stranger is in no file of constraints" in pins
    assert list(check_images.wrong_in_sets()) == [
        "chunker.lock: protobuf is missing",
        "chunker.lock: nothing needs stranger",
    ]


def test_a_lock_holds_pins_alone(tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_text("# words\nprotobuf>=7\n")
    with pytest.raises(ValueError, match=r"x\.lock: 'protobuf>=7' is no name==version with hashes"):
        image_targets.read_lock(tmp_path / "x.lock")


def test_no_lock_names_a_place() -> None:
    for path in (ROOT / "deploy/images").iterdir():
        if path.suffix == ".lock":
            assert not re.search(r"://|^-", path.read_text(), re.MULTILINE), path.name


@pytest.mark.parametrize(
    "name", [name for name, target in TARGETS.items() if target.package and not target.heavy]
)
def test_an_image_holds_what_its_service_imports(name: str) -> None:
    target = TARGETS[name]
    locked = set(image_targets.read_lock(target.lock))
    known = metadata.packages_distributions()
    missing = set()
    for folder in (target.package.replace(".", "/"), "voicemesh/runtime"):
        for path in (ROOT / folder).rglob("*.py"):
            for top in _imports(path) - sys.stdlib_module_names - {"voicemesh", "services", "gateway"}:
                brought = {each.lower().replace("_", "-") for each in known.get(top, ())}
                if not brought & locked and top not in ELSEWHERE.get(name, ()):
                    missing.add(f"{top} ({path.relative_to(ROOT)})")
    assert missing == set()


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


# ---- what runs them -------------------------------------------------------------------------------


def test_manifests_run_images_that_are_built() -> None:
    paths = [*(ROOT / "k8s").rglob("*.yaml")]
    # A model in an image of its own (components/models-image) is a platform's to build.
    named = re.compile(r"(?:image: |\{name: )voicemesh/([a-z-]+)(?::|, newTag)")
    assert {name for path in paths for name in named.findall(path.read_text())} == TARGETS.keys() - {"cli"}
