"""`voicemesh keys`, and where the command line has its own key from."""

import io
import json
import pathlib
import sys

import pytest
from typer.testing import CliRunner

from voicemesh import keyfile
from voicemesh.cli import api_key
from voicemesh.cli.app import app
from voicemesh.cli.exits import Failure


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["keys", *arguments])
    assert result.exit_code == status, result.output
    return result.stdout


def test_a_key_is_printed_once_and_its_digest_kept(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "keys.json"
    key = run(
        "new", "shop", "--tenant", "acme", "--scope", "speak", "--scope", "batch", "--turns", "3",
        "--expires", "90d", "--note", "kiosk", "--file", str(path),
    ).strip()  # fmt: skip
    assert key not in path.read_text()
    entry = keyfile.read(path)["shop"]
    assert entry.sha256 == keyfile.digest(key)
    assert (entry.tenant, entry.scopes, entry.limits) == ("acme", ("speak", "batch"), {"turns": 3})
    assert entry.expires_unix_s is not None
    assert entry.expires_unix_s - keyfile.time_of(entry.source["created"]) == 90 * 86_400
    told = json.loads(run("list", "--file", str(path), "--json"))
    assert told["keys"][0]["state"] == "active"
    assert "sha256" not in told["keys"][0]
    assert "revoked" in run("revoke", "shop", "--file", str(path))
    shown = run("list", "--file", str(path))
    assert "revoked" in shown
    assert "kiosk" in shown
    assert keyfile.read(path)["shop"].disabled


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["new", "Shop"], 2),
        (["new", "shop", "--scope", "fly"], 2),
        (["new", "shop", "--expires", "soon"], 2),
        (["new", "shop", "--tenant", "a b"], 1),
        (["new", "shop", "--priority", "urgent"], 1),
        (["revoke", "none"], 1),
    ],
)
def test_what_cannot_be_changes_nothing(tmp_path: pathlib.Path, arguments: list[str], status: int) -> None:
    path = tmp_path / "keys.json"
    run("new", "old", "--file", str(path))
    before = path.read_bytes()
    assert run(*arguments, "--file", str(path), status=status) == ""
    run("new", "old", "--file", str(path), status=2)
    assert path.read_bytes() == before


def test_days_are_named_where_a_time_is_none(tmp_path: pathlib.Path) -> None:
    file = str(tmp_path / "keys.json")
    result = CliRunner().invoke(app, ["keys", "new", "shop", "--expires", "soon", "--file", file])
    assert result.exit_code == 2
    assert "2027-01-31T00:00:00Z, or a number of days such as 90d" in result.stderr


def test_a_broken_file_and_none_are_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("{")
    run("list", "--file", str(path), status=1)
    run("new", "shop", "--file", str(path), status=1)
    run("list", status=2)
    assert path.read_text() == "{"


def test_the_key_is_from_the_file_then_the_environment(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_key, "_file", [])
    monkeypatch.setattr(api_key, "_read", {})
    assert api_key.shown() == ""
    monkeypatch.setenv("VOICEMESH_API_KEY", "vmk_a_1\n")
    assert api_key.shown() == "vmk_a_1"
    path = tmp_path / "key"
    path.write_text("vmk_b_2\n")
    api_key.use(str(path))
    assert api_key.shown() == "vmk_b_2"
    monkeypatch.setattr(sys, "stdin", io.StringIO("vmk_c_3\nand a prompt\n"))
    api_key.use("-")
    assert [api_key.shown(), api_key.shown(), sys.stdin.readline()] == [
        "vmk_c_3",
        "vmk_c_3",
        "and a prompt\n",
    ]
    path.write_text("\n")
    for wrong in (tmp_path / "none", path):
        monkeypatch.setattr(api_key, "_read", {})
        api_key.use(str(wrong))
        with pytest.raises(Failure, match="--api-key-file"):
            api_key.shown()


@pytest.mark.parametrize(("value", "allowed"), [("true", True), ("1", True), ("", False), ("false", False)])
def test_a_key_goes_in_plain_text_where_that_is_said(
    monkeypatch: pytest.MonkeyPatch, value: str, allowed: bool
) -> None:
    monkeypatch.setenv("VOICEMESH_ALLOW_PLAIN_KEY", value)
    assert api_key.may_be_plain() is allowed
