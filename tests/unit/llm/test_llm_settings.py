import pytest

from services.llm.settings import LlmSettings
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.settings import describe, load


@pytest.fixture
def settings_from(monkeypatch: pytest.MonkeyPatch):
    def load_with(**variables: str) -> LlmSettings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load(LlmSettings)

    return load_with


def test_defaults(settings_from) -> None:
    settings = settings_from()
    assert settings.llm_listen == "127.0.0.1:50051"
    assert settings.answers_with == "rehearsal"
    assert (settings.llm_max_tokens, settings.llm_temperature, settings.llm_top_p) == (300, 0.5, 0.85)


@pytest.mark.parametrize(
    ("variables", "provider"),
    [
        ({"OPENAI_API_KEY": "sk-1"}, "openai"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}, "openai"),
        ({"OPENAI_API_KEY": " ", "OPENAI_BASE_URL": " "}, "rehearsal"),
        ({"OPENAI_API_KEY": "sk-1", "VOICEMESH_LLM_PROVIDER": "rehearsal"}, "rehearsal"),
        ({"OPENAI_API_KEY": "sk-1", "VOICEMESH_LLM_PROVIDER": "openai"}, "openai"),
    ],
)
def test_who_answers(settings_from, variables: dict[str, str], provider: str) -> None:
    assert settings_from(**variables).answers_with == provider


def test_a_key_is_trimmed_and_never_shown(settings_from) -> None:
    settings = settings_from(OPENAI_API_KEY="sk-secret\n")
    assert settings.openai_api_key.get_secret_value() == "sk-secret"
    assert describe(settings)["OPENAI_API_KEY"] == "set"
    assert "secret" not in f"{settings!r} {describe(settings)}"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VOICEMESH_LLM_PROVIDER", "openai"),
        ("VOICEMESH_LLM_PROVIDER", "anthropic"),
        ("OPENAI_API_KEY", "sk-geheim-ü"),
        ("OPENAI_API_KEY", "sk-geheim and more"),
        ("OPENAI_BASE_URL", "127.0.0.1:8000"),
        ("OPENAI_BASE_URL", "ftp://127.0.0.1"),
        ("OPENAI_BASE_URL", "http://"),
        ("OPENAI_BASE_URL", "http://host:port/v1"),
        ("OPENAI_BASE_URL", "http://user:geheim@host/v1"),
        ("VOICEMESH_LLM_LISTEN", "50051"),
        ("VOICEMESH_LLM_MODEL", ""),
        ("VOICEMESH_LLM_MAX_TOKENS", "0"),
        ("VOICEMESH_LLM_TEMPERATURE", "2.5"),
        ("VOICEMESH_LLM_TEMPERATURE", "nan"),
        ("VOICEMESH_LLM_TOP_P", "0"),
        ("VOICEMESH_LLM_CONNECT_TIMEOUT_S", "0"),
        ("VOICEMESH_LLM_TOTAL_TIMEOUT_S", "inf"),
        ("VOICEMESH_LLM_MAX_RETRIES", "-1"),
        ("VOICEMESH_REHEARSAL_TTFT_MS", "-1"),
        ("VOICEMESH_REHEARSAL_TOKENS_PER_S", "0"),
    ],
)
def test_a_wrong_setting_is_named_and_its_secret_kept(settings_from, variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_from(**{variable: value})
    assert str(caught.value).startswith(f"{variable}: ")
    assert "geheim" not in str(caught.value)
