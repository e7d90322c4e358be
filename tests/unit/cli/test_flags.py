"""`voicemesh flags`: what it shows, and how it says that it did nothing."""

import json
import pathlib
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from voicemesh.cli.app import app

KEY = "voicemesh.chunk_policy"


class Cli:
    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["flags", *arguments], env={"VOICEMESH_FLAGS_FILE": str(self.path)})

    def listed(self, *arguments: str) -> Any:
        return json.loads(self("--json", *arguments).stdout)


@pytest.fixture
def flags(tmp_path: pathlib.Path) -> Cli:
    return Cli(tmp_path / "flags.json")


@pytest.fixture
def split(flags: Cli) -> Cli:
    assert flags("set", KEY, "short", "--value", "words:4").exit_code == 0
    assert flags("set", KEY, "usual", "--value", "adaptive").exit_code == 0
    assert flags("set", KEY, "usual=90,short=10").exit_code == 0
    return flags


def test_a_change_and_its_rollback_say_what_is_different(split: Cli):
    back = split("rollback")
    assert back.exit_code == 0
    assert f"{KEY}: of sessions: 10% short, 90% usual -> everyone: usual" in back.stdout
    assert "as it was in version 2; gateways take it with their next turns" in back.stdout
    again = json.loads(split("rollback", "--json").stdout)
    assert again == {
        "file": str(split.path),
        "version": 5,
        "went_back_to": 3,
        "changes": [f"{KEY}: everyone: usual -> of sessions: 10% short, 90% usual"],
    }
    assert split("rollback", KEY, "--to", "1").exit_code == 0
    assert split.listed()["flags"][KEY]["who"] == ["everyone: short"]


def test_the_list_says_who_gets_what(split: Cli):
    shown = split().stdout
    assert f'{KEY}\n  of sessions: 10% short, 90% usual\n    short = "words:4"\n' in shown
    assert "3 versions are kept, the newest is 3" in shown
    listed = split.listed("--session", "s1")
    assert listed["flags"][KEY] == {
        "enabled": True,
        "variants": {"short": "words:4", "usual": "adaptive"},
        "default": "usual",
        "override": False,
        "who": ["of sessions: 10% short, 90% usual"],
        "known": True,
    }
    assert listed["problem"] is None
    assert [version["version"] for version in listed["versions"]] == [1, 2, 3]


def test_what_a_session_gets_is_told(flags: Cli):
    rule = {"if": [{"==": [{"var": "tenant"}, "acme"]}, "b", "a"]}
    variants = {"a": "clause", "b": "sentence"}
    flag = {"state": "ENABLED", "variants": variants, "defaultVariant": "a", "targeting": rule}
    flags.path.write_text(json.dumps({"flags": {KEY: flag}}))
    assert flags.listed("--session", "s1", "--tenant", "acme")["session"] == {KEY: "b"}
    assert "this session: a" in flags("--session", "s1").stdout


def test_rules_look_at_attributes_that_are_given(flags: Cli):
    rule = {"if": [{"==": [{"var": "language"}, "de"]}, "b", "a"]}
    variants = {"a": "clause", "b": "sentence"}
    flag = {"state": "ENABLED", "variants": variants, "defaultVariant": "a", "targeting": rule}
    flags.path.write_text(json.dumps({"flags": {KEY: flag}}))
    assert flags.listed("--session", "s1")["session"] == {KEY: "a"}
    assert flags.listed("--session", "s1", "--attribute", "language=de")["session"] == {KEY: "b"}
    for wrong in ("language", "=de", "tenant=acme", "$flagd=1"):
        refused = flags("--session", "s1", "--attribute", wrong)
        assert (refused.exit_code, "--attribute: " in refused.stderr) == (2, True)
    assert flags("--attribute", "language=de").exit_code == 2


def test_a_broken_file_is_told_and_taken_back(split: Cli):
    split.path.write_text('{"flags": {"voicemesh.model": {}}}')
    shown = split()
    assert shown.exit_code == 1
    assert 'voicemesh.model.state: must be "ENABLED"' in shown.stderr
    assert "version 3, which is good, follows" in shown.stderr
    assert "of sessions: 10% short, 90% usual" in shown.stdout
    refused = split("set", KEY, "usual")
    assert (refused.exit_code, split.path.read_text()) == (1, '{"flags": {"voicemesh.model": {}}}')
    assert "FLAGS_NOT_CHANGED" in refused.stderr
    assert "`voicemesh flags rollback` takes the last change back" in refused.stderr
    assert split("rollback").exit_code == 0
    assert split().exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("set", KEY, "usual=90"), 2, "SHARES: the shares add up to 90%"),
        (
            ("set", KEY, "usual=80,short=20", "--value", "clause"),
            1,
            "for the one variant that is new, and none is",
        ),
        (("set", KEY, "long"), 1, "'long' is no variant; there are short, usual. --value VALUE makes one"),
        (("set", KEY, "usual", "--value", "words:99"), 1, "policy: 'words:99' is none of"),
        (("set", "voicemesh.voices", "a", "--value", "b"), 1, "there is no flag 'voicemesh.voices'"),
        (("set", KEY, "usual=90,short=10"), 1, "nothing to change"),
        (("rollback", "voicemesh.model"), 1, "nothing to take back"),
        (("rollback", "--to", "9"), 1, "no version 9 is kept"),
        (("--file", "/", "rollback"), 2, "is a folder"),
    ],
)
def test_what_cannot_be_done_changes_nothing(split: Cli, arguments: tuple[str, ...], status: int, told: str):
    before = split.path.read_text()
    result = split(*arguments)
    assert (result.exit_code, split.path.read_text()) == (status, before)
    assert told in " ".join(result.stderr.split())


def test_a_file_must_be_named():
    result = CliRunner().invoke(app, ["flags"], env={"VOICEMESH_FLAGS_FILE": ""})
    assert result.exit_code == 2
    assert "VOICEMESH_FLAGS_FILE" in result.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path: pathlib.Path):
    (tmp_path / "mounted").write_text("")  # no folder can be made in a file
    result = Cli(tmp_path / "mounted" / "flags.json")("set", KEY, "a", "--value", "clause")
    assert result.exit_code == 1
    assert "flags.json.versions" in result.stderr
