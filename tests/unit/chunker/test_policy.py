"""What the chunker can be told, and what it refuses."""

import pytest

from services.chunker.policy import ChunkerConfig, Limits, Policy
from services.chunker.settings import ChunkerSettings
from voicemesh.runtime.errors import InvalidFieldError, SettingsError
from voicemesh.runtime.settings import load


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"policy": Policy.WORDS}, "configure.policy.words"),
        ({"policy": Policy.WORDS, "words": 51}, "configure.policy.words"),
        ({"policy": Policy.SENTENCE, "words": 3}, "configure.policy.words"),
        ({"max_chars": 401}, "configure.policy.max_chars"),
        ({"min_chars": 401}, "configure.policy.min_chars"),
        ({"min_chars": 30, "max_chars": 20}, "configure.policy.min_chars"),
        ({"language": "not a tag"}, "configure.language"),
        ({"language": "x" * 50}, "configure.language"),
    ],
)
def test_a_wrong_field_is_named(options: dict[str, object], field: str) -> None:
    asked = {"policy": Policy.ADAPTIVE, "words": 0, "min_chars": 0, "max_chars": 0, "language": ""} | options
    with pytest.raises(InvalidFieldError) as caught:
        Limits().config(**asked)  # type: ignore[arg-type]  # fields by name
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_zero_takes_the_server_s_limits() -> None:
    limits = Limits(max_chars=100, max_text_chars=500, hold_ns=7)
    config = limits.config(policy=Policy.CLAUSE, words=0, min_chars=0, max_chars=0, language="de-AT")
    assert (config.max_chars, config.max_text_chars, config.hold_ns) == (100, 500, 7)


def test_each_policy_has_a_minimum_of_its_own() -> None:
    def least(policy: Policy, words: int = 0, min_chars: int = 0) -> tuple[int, int]:
        config = ChunkerConfig(policy=policy, words=words, min_chars=min_chars)
        return config.least_chars(first=True), config.least_chars(first=False)

    assert least(Policy.SENTENCE) == (1, 1)
    assert least(Policy.CLAUSE) == least(Policy.ADAPTIVE) == (1, 8)
    assert least(Policy.WORDS, words=3) == (5, 5)
    assert least(Policy.WORDS, words=5) == (8, 8)
    assert least(Policy.CLAUSE, min_chars=20) == (20, 20)


def test_the_settings_are_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(ChunkerSettings)
    assert settings.chunker_listen == "127.0.0.1:50052"
    assert settings.limits() == Limits()
    monkeypatch.setenv("VOICEMESH_CHUNKER_HOLD_MS", "50")
    monkeypatch.setenv("VOICEMESH_CHUNKER_MAX_CHARS", "200")
    assert load(ChunkerSettings).limits() == Limits(max_chars=200, hold_ns=50_000_000)


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEMESH_CHUNKER_MAX_CHARS", "5")
    with pytest.raises(SettingsError, match="VOICEMESH_CHUNKER_MAX_CHARS"):
        load(ChunkerSettings)
