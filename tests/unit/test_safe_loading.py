"""Nothing that is read can be code: no pickle, no YAML that makes objects, no weights that are executed."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("voicemesh", "services", "gateway")
CODE_IN_DATA = {"cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve"}
"""Modules whose files run when they are read."""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def faults(source: str) -> list[str]:
    """Return what in a module could run what it reads."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"import {name}" for name in names if name.partition(".")[0] in CODE_IN_DATA]
    for name, call in calls(tree):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            found.append(name)
        if name == "torch.load" and keywords.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if keywords.get("allow_pickle", "False") != "False":
            found.append(f"{name} with allow_pickle")
        if keywords.get("trust_remote_code", "False") != "False":
            found.append(f"{name} with trust_remote_code")
        if keywords.get("shell", "False") != "False":
            found.append(f"{name} with a shell")
    return found


def test_nothing_that_is_shipped_runs_what_it_reads() -> None:
    modules = [path for folder in SHIPPED for path in (ROOT / folder).rglob("*.py")]
    assert len(modules) > 300
    wrong = {str(path): found for path in modules if (found := faults(path.read_text(encoding="utf-8")))}
    assert not wrong


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.memory",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "numpy.load(x, allow_pickle=True)",
        "yaml.load(x)",
        "eval(x)",
        "subprocess.run(x, shell=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
    ],
)
def test_what_is_looked_for_is_found(source: str) -> None:
    assert faults(source)
