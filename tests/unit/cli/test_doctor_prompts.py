"""`voicemesh doctor`: what it says of system prompts, asked of the gateway of this checkout."""

import json
from pathlib import Path

import pytest

from gateway import prompts
from gateway.core.tokens import text_tokens
from voicemesh.cli.doctor_prompts import prompt_check
from voicemesh.cli.findings import MISSING, OK

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROMPTS", "PROMPTS_FILE", "PROMPT_VARIANT", "PROMPT_TOKENS", "SYSTEM_PROMPT"):
        monkeypatch.delenv(f"VOICEMESH_GATEWAY_{name}", raising=False)


def test_each_prompt_is_told_with_its_tokens_and_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEMESH_GATEWAY_PROMPTS", json.dumps({"tutor": "You are a tutor."}))
    monkeypatch.setenv("VOICEMESH_GATEWAY_PROMPT_TOKENS", "100")
    check = prompt_check(ROOT)
    full, compact, tutor = (
        round(text_tokens(text)) for text in (prompts.FULL_TEXT, prompts.COMPACT_TEXT, "You are a tutor.")
    )
    assert check.state == OK
    assert check.detail == (
        f"tokens, about: full {full}, compact {compact}, tutor {tutor}; "
        "usually compact, of 100 for a whole prompt"
    )


def test_a_wrong_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEMESH_GATEWAY_PROMPT_VARIANT", "tutor")
    check = prompt_check(ROOT)
    assert check.state == MISSING
    assert "VOICEMESH_GATEWAY_PROMPT_VARIANT: there is no prompt 'tutor'" in check.detail


def test_a_folder_without_a_gateway_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    check = prompt_check(tmp_path / "nowhere")
    assert check.state == MISSING
    assert "the gateway cannot be asked" in check.detail
