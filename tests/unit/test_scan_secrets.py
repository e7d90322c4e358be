"""What looks like a secret in the repository is found, and what is let through is needed."""

from pathlib import Path

from tools.scan_secrets import complaints, findings

KEY = "-----BEGIN RSA " + "PRIVATE KEY-----"
ACCESS = "AKIA" + "Q3EGRIPVHW5OQ7ZT"


def test_secrets_of_known_shapes_are_found_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"x = 1\ny = '{KEY}'\n")
    (tmp_path / "b.txt").write_text(f"key={ACCESS}\n")
    (tmp_path / "c.py").write_text("nothing = 'here'\n")
    found = findings(tmp_path, ["a.py", "b.txt", "c.py"])
    assert found == {"a.py": {"Private Key": [2]}, "b.txt": {"AWS Access Key": [1]}}
    (first, second) = complaints(found, {})
    assert first.startswith("a.py:2: looks like a secret (Private Key)")
    assert second.startswith("b.txt:1:")
    assert ACCESS not in second


def test_what_is_allowed_is_let_through_and_must_be_needed() -> None:
    found = {"tests/a.py": {"Private Key": [2]}}
    assert complaints(found, {"tests/a.py": frozenset({"Private Key"})}) == []
    assert complaints(found, {"tests/": frozenset({"Private Key"})}) == []
    assert len(complaints(found, {"test": frozenset({"Private Key"})})) == 2
    (unneeded,) = complaints({}, {"tests/a.py": frozenset({"Private Key"})})
    assert "which has none" in unneeded
