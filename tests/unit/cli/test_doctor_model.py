import json
import socket

import pytest

from voicemesh.cli.doctor_model import model_checks


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "VOICEMESH_LLM_PROVIDERS",
        "VOICEMESH_LLM_PROVIDERS_FILE",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
    ):
        monkeypatch.delenv(name, raising=False)


def _nobody() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://user:geheim@127.0.0.1:{free.getsockname()[1]}/v1"


def test_each_provider_of_the_list_is_shown_without_its_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("MAIN_KEY", "sk-geheim")
    declared = [
        {"name": "main", "model": "large", "api_key_env": "MAIN_KEY"},
        {"name": "plain", "model": "m"},
        {"name": "local", "model": "small", "base_url": _nobody()},
    ]
    monkeypatch.setenv("VOICEMESH_LLM_PROVIDERS", json.dumps(declared))
    checks = list(model_checks())
    assert [(check.name, check.state) for check in checks] == [
        ("model 1", "ok"),
        ("model 2", "missing"),
        ("model 3", "note"),
    ]
    assert checks[0].detail == "main: large at OpenAI, MAIN_KEY set"
    assert "set OPENAI_API_KEY" in checks[1].fix
    assert "nothing answers there" in checks[2].detail
    assert "geheim" not in str(checks)
    path = tmp_path / "providers.json"
    path.write_text(json.dumps(declared[:1]))
    monkeypatch.delenv("VOICEMESH_LLM_PROVIDERS")
    monkeypatch.setenv("VOICEMESH_LLM_PROVIDERS_FILE", str(path))
    assert [check.detail for check in model_checks()] == [checks[0].detail]


@pytest.mark.parametrize("value", ["[{]", "{}", "7", '["openai"]', "null"])
def test_a_list_that_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("VOICEMESH_LLM_PROVIDERS", value)
    (check,) = model_checks()
    assert check.state == "missing"
    assert "VOICEMESH_LLM_PROVIDERS" in check.detail


def test_without_a_list_there_is_one_or_the_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = model_checks()
    assert check.state == "note"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-geheim")
    (check,) = model_checks()
    assert check.detail == "OPENAI_BASE_URL default, OPENAI_API_KEY set"
