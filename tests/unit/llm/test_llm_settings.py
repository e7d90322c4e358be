import json

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
        ("VOICEMESH_LLM_IDLE_TIMEOUT_S", "0"),
        ("VOICEMESH_LLM_RETRY_PERCENT", "101"),
        ("VOICEMESH_LLM_CONTINUES_BY", "magic"),
        ("VOICEMESH_LLM_REASONING", "loud"),
        ("VOICEMESH_LLM_PROVIDERS", "[{]"),
        ("VOICEMESH_LLM_PROVIDERS_FILE", "/nowhere/providers.json"),
        ("VOICEMESH_REHEARSAL_TTFT_MS", "-1"),
        ("VOICEMESH_REHEARSAL_TOKENS_PER_S", "0"),
    ],
)
def test_a_wrong_setting_is_named_and_its_secret_kept(settings_from, variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_from(**{variable: value})
    assert str(caught.value).startswith(f"{variable}: ")
    assert "geheim" not in str(caught.value)


LIST = [
    {"name": "main", "model": "large", "api_key_env": "MAIN_KEY", "headers": {"X-Team": "$TEAM"}},
    {"name": "local", "base_url": "http://127.0.0.1:8000/v1", "model": "small", "models": ["tiny"]},
]


def test_a_list_of_providers_refers_to_its_secrets(settings_from) -> None:
    settings = settings_from(VOICEMESH_LLM_PROVIDERS=json.dumps(LIST), MAIN_KEY="sk-geheim\n", TEAM="geheim")
    assert settings.answers_with == "openai"
    main, local = settings.declared_providers
    assert (main.name, main.model, settings.key_of(main)) == ("main", "large", "sk-geheim")
    assert main.header_values({"TEAM": "geheim"}) == {"X-Team": "geheim"}
    assert (local.base_url, local.models, settings.key_of(local)) == (
        "http://127.0.0.1:8000/v1",
        ("tiny",),
        "",
    )
    assert (main.connect_timeout_s, main.total_timeout_s) == (5.0, 30.0)
    assert (main.max_connections, main.max_keepalive_connections) == (100, 20)
    shown = json.dumps(describe(settings))
    assert "MAIN_KEY" in shown
    assert "geheim" not in shown + repr(settings)
    assert "TEAM" not in shown


def test_a_list_can_stand_in_a_file(settings_from, tmp_path) -> None:
    path = tmp_path / "providers.json"
    path.write_text(json.dumps(LIST[1:]))
    settings = settings_from(VOICEMESH_LLM_PROVIDERS_FILE=str(path))
    assert [each.name for each in settings.declared_providers] == ["local"]
    assert settings.answers_with == "openai"


def test_the_variables_of_one_provider_are_a_list_of_one(settings_from) -> None:
    settings = settings_from(
        OPENAI_API_KEY="sk-1",
        VOICEMESH_LLM_MODEL="m",
        VOICEMESH_LLM_MAX_RETRIES="1",
        VOICEMESH_LLM_CONTINUE="off",
    )
    (one,) = settings.declared_providers
    assert (one.name, one.model, one.models, one.max_retries) == ("openai", "m", ("*",), 1)
    assert settings.key_of(one) == "sk-1"
    assert not settings.llm_continue


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_url": "ftp://x"}, "provider 'a': base_url: must be http"),
        ({"base_url": "http://u:geheim@host/v1"}, "provider 'a': base_url: must not hold"),
        ({"api_key_env": "sk-geheim"}, "provider 'a': api_key_env: must be the name"),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
        ({"base_url": ""}, "OPENAI_API_KEY is not set"),
        ({"api_key": "sk-geheim"}, "no such field; did you mean api_key_env?"),
        ({"name": "rehearsal"}, "take another name"),
        ({"name": "Ä"}, "name: must be 1 to 64"),
        ({"headers": {"Authorization": "geheim"}}, "is no header that can be set here"),
        ({"headers": {"X-A": "geheim\n"}}, "X-A: must be printable ASCII"),
        ({"headers": {"X-A": "$NOT_SET_ANYWHERE"}}, "headers: X-A: NOT_SET_ANYWHERE is not set"),
        ({"model": ""}, "provider 'a': model"),
        ({"idle_timeout_s": 0}, "idle_timeout_s"),
        ({"breaker": {"failure": 3}}, "did you mean failures?"),
        ({"http2": True}, "needs the package h2"),
        ({"name": "b"}, "two providers are named 'b'"),
    ],
)
def test_what_is_wrong_in_a_list_is_named_and_its_secrets_kept(
    settings_from, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], words: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    declared = [
        {"name": "a", "base_url": "http://127.0.0.1:1/v1", "model": "m"} | change,
        {"name": "b", "base_url": "http://127.0.0.1:2/v1", "model": "m"},
    ]
    with pytest.raises(SettingsError) as caught:
        settings_from(VOICEMESH_LLM_PROVIDERS=json.dumps(declared))
    text = str(caught.value)
    assert text.startswith("VOICEMESH_LLM_PROVIDERS: ")
    assert words in text
    assert "geheim" not in text


def test_a_list_and_a_file_are_one_too_many(settings_from, tmp_path) -> None:
    path = tmp_path / "providers.json"
    path.write_text("[]")
    with pytest.raises(SettingsError, match="VOICEMESH_LLM_PROVIDERS_FILE: takes the place"):
        settings_from(VOICEMESH_LLM_PROVIDERS_FILE=str(path), VOICEMESH_LLM_PROVIDERS=json.dumps(LIST[1:]))


def test_a_file_without_a_provider_is_refused(settings_from, tmp_path) -> None:
    path = tmp_path / "providers.json"
    path.write_text("[]")
    with pytest.raises(SettingsError, match="declares no provider"):
        settings_from(VOICEMESH_LLM_PROVIDERS_FILE=str(path))


def test_one_provider_has_the_defaults_of_a_declaration(settings_from) -> None:
    (one,) = settings_from(OPENAI_API_KEY="sk-1").declared_providers
    declared = type(one)(name="x", model="y", base_url="http://host/v1")
    names = [name for name in type(one).model_fields if name.endswith("_s") or name.startswith("max_")]
    assert "first_token_timeout_s" in names
    assert {name: getattr(one, name) for name in names} == {name: getattr(declared, name) for name in names}
