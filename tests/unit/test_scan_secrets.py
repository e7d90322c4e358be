"""What looks like a secret in the repository is found, and what is let through is needed."""

import importlib.util
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parents[2] / "tools" / "scan_secrets.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("scan_secrets", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


scan_secrets = _load()
KEY = "-----BEGIN RSA " + "PRIVATE KEY-----"
ACCESS = "AKIA" + "Q3EGRIPVHW5OQ7ZT"


def test_secrets_of_known_shapes_are_found_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"x = 1\ny = '{KEY}'\n")
    (tmp_path / "b.txt").write_text(f"key={ACCESS}\n")
    (tmp_path / "c.py").write_text("nothing = 'here'\n")
    found = scan_secrets.findings(tmp_path, ["a.py", "b.txt", "c.py"])
    assert found == {"a.py": {"Private Key": [2]}, "b.txt": {"AWS Access Key": [1]}}
    (first, second) = scan_secrets.complaints(found, {})
    assert first.startswith("a.py:2: looks like a secret (Private Key)")
    assert second.startswith("b.txt:1:")
    assert ACCESS not in second


def test_what_is_allowed_is_let_through_and_must_be_needed() -> None:
    found = {"tests/a.py": {"Private Key": [2]}}
    assert scan_secrets.complaints(found, {"tests/a.py": frozenset({"Private Key"})}) == []
    assert scan_secrets.complaints(found, {"tests/": frozenset({"Private Key"})}) == []
    assert len(scan_secrets.complaints(found, {"test": frozenset({"Private Key"})})) == 2
    (unneeded,) = scan_secrets.complaints({}, {"tests/a.py": frozenset({"Private Key"})})
    assert "which has none" in unneeded
