"""Named system prompts: what can be one, where they come from, and which is meant."""

import json
from pathlib import Path

import pytest

from gateway import prompts
from gateway.core.budget import Answerer, Budget, Tiles
from gateway.core.tokens import text_tokens
from gateway.settings import GatewaySettings
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.settings import load

TUTOR = "You are a patient tutor."


@pytest.mark.parametrize("name", ["tutor", "a", "0", "class-7.b_2", "x" * 64])
def test_names_that_can_be(name: str) -> None:
    assert prompts.checked({name: TUTOR}) == {name: TUTOR}


@pytest.mark.parametrize("name", ["", "Tutor", "-a", "a b", "a=b", "a,b", "x" * 65, "auto", "ä"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a prompt"):
        prompts.checked({name: TUTOR})


def test_a_text_says_something_and_not_too_much() -> None:
    longest = "x" * prompts.MAX_CHARS
    assert prompts.checked({"a": longest}) == {"a": longest}
    with pytest.raises(ValueError, match="'a' has 32769 characters; at most 32768"):
        prompts.checked({"a": longest + "x"})
    with pytest.raises(ValueError, match="'a' is empty"):
        prompts.checked({"a": " \n"})
    with pytest.raises(ValueError, match="has 101 prompts; at most 100"):
        prompts.checked({f"p{number}": TUTOR for number in range(101)})


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"tutor": TUTOR}), encoding="utf-8")
    assert prompts.read(str(path)) == {"tutor": TUTOR}
    assert prompts.read("") == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "is not JSON in UTF-8"),
        (b'{"a": "\xff"}', "is not JSON in UTF-8"),
        (b'["tutor"]', "must hold one object"),
        (b'{"a": 7}', "must hold one object"),
        (b'{"Tutor": "You are."}', "no name of a prompt"),
    ],
)
def test_a_file_that_cannot_be_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=problem) as caught:
        prompts.read(str(path))
    assert "prompts.json" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*nowhere\.json: No such file"):
        prompts.read(str(tmp_path / "nowhere.json"))


# ------------------------------------------------------------ which is meant


def _budget(tokens: int, *, context: int = 0, factor: float = 1.0) -> Budget:
    answerer = Answerer("openai", "o1", factor, Tiles(1, 2))
    return prompts.budget_of(
        tokens=tokens, context_tokens=context, reply_tokens=300, messages=4, chars=500, answerer=answerer
    )


def test_a_prompt_has_what_the_context_leaves_beside_the_reply() -> None:
    assert _budget(8000) == Budget(8000, 4, 500, Tiles(1, 2))
    assert _budget(8000, context=100_000).tokens == 8000
    assert _budget(8000, context=2048).tokens == 1748
    # A context that the reply fills leaves something all the same: the question goes, and the model says so.
    assert _budget(8000, context=200).tokens == 1
    assert _budget(8000, factor=2.0).tokens == 4000


def test_auto_is_full_unless_that_takes_more_than_a_quarter() -> None:
    texts = {"full": prompts.FULL_TEXT, "compact": prompts.COMPACT_TEXT, "tutor": TUTOR}
    four_times = text_tokens(prompts.FULL_TEXT) * 4
    assert prompts.choose(texts, "auto", Budget(four_times)) == "full"
    assert prompts.choose(texts, "auto", Budget(four_times - 1)) == "compact"
    # What is named is what is meant.
    assert prompts.choose(texts, "full", Budget(1)) == "full"
    assert prompts.choose(texts, "tutor", Budget(1)) == "tutor"


def test_compact_is_the_shorter_one() -> None:
    assert text_tokens(prompts.COMPACT_TEXT) < text_tokens(prompts.FULL_TEXT) / 2


# ------------------------------------------------------------ settings


def _settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> GatewaySettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load(GatewaySettings)


def test_prompts_of_the_settings_go_before_those_of_the_file_and_the_built_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"compact": "From the file.", "tutor": "From the file."}))
    settings = _settings(
        monkeypatch,
        VOICEMESH_GATEWAY_SYSTEM_PROMPT="In full.",
        VOICEMESH_GATEWAY_PROMPTS_FILE=str(path),
        VOICEMESH_GATEWAY_PROMPTS=json.dumps({"tutor": TUTOR}),
        VOICEMESH_GATEWAY_PROMPT_VARIANT="tutor",
    )
    assert settings.system_prompts == {"full": "In full.", "compact": "From the file.", "tutor": TUTOR}


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("VOICEMESH_GATEWAY_PROMPT_VARIANT", "tutor", "no prompt 'tutor'; there are auto, full, compact"),
        ("VOICEMESH_GATEWAY_PROMPTS", '{"Tutor": "You are."}', "'Tutor' is no name of a prompt"),
        ("VOICEMESH_GATEWAY_PROMPTS", '{"tutor": ""}', "'tutor' is empty"),
        ("VOICEMESH_GATEWAY_PROMPTS_FILE", "/nowhere/prompts.json", "cannot read /nowhere/prompts.json"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, problem: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        _settings(monkeypatch, **{variable: value})
    assert variable in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("VOICEMESH_PRICE_INPUT_USD_PER_MTOK", "VOICEMESH_PRICES_LLM"),
        ("VOICEMESH_PRICE_CACHED_INPUT_USD_PER_MTOK", "VOICEMESH_PRICES_LLM"),
        ("VOICEMESH_PRICE_OUTPUT_USD_PER_MTOK", "VOICEMESH_PRICES_LLM"),
        ("VOICEMESH_PRICE_SPEECH_USD_PER_MCHAR", "VOICEMESH_PRICES_SPEECH"),
        ("voicemesh_price_input_usd_per_mtok", "VOICEMESH_PRICES_LLM"),
    ],
)
def test_a_price_of_earlier_versions_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    with pytest.raises(SettingsError, match=rf"{old}: is no setting any more: say it in {new} "):
        _settings(monkeypatch, **{old: "0.15"})
