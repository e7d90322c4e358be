"""Each process gets its own secrets, and no other's."""

import json
from pathlib import Path

import pytest

from voicemesh.cli.plan import plan_on_free_ports
from voicemesh.secret_variables import SERVICES, environment_of, environment_of_worker, is_secret

SECRETS = {
    "OPENAI_API_KEY": "mark-openai",
    "GROQ_API_KEY": "mark-groq",
    "SPEECH_TOKEN": "mark-speech",
    "HF_TOKEN": "mark-hf",
    "AWS_SECRET_ACCESS_KEY": "mark-aws",
    "DATABASE_URL": "postgres://me:mark-database@db/x",
    "VOICEMESH_REDIS_URL": "redis://:mark-redis@127.0.0.1:6379/0",
    "VOICEMESH_CACHE_SIMILAR_API_KEY": "mark-similar",
    "VOICEMESH_GATEWAY_JWT_SECRET": "mark-jwt",
    "VOICEMESH_API_KEY": "mark-caller",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=mark-otel",
}
PLAIN = {
    "PATH": "/usr/bin",
    "HTTPS_PROXY": "http://me:proxy@proxy:3128",
    "VOICEMESH_TLS_KEY": "/etc/voicemesh/key.pem",
    "VOICEMESH_LLM_CONTEXT_TOKENS": "9000",
    "VOICEMESH_CACHE_MEMORY_BYTES": "9999999",
    "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
}


def marks_of(environment: dict[str, str]) -> set[str]:
    return {name for name, mark in SECRETS.items() if name in environment and environment[name] == mark}


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("gateway", {"VOICEMESH_GATEWAY_JWT_SECRET", "OTEL_EXPORTER_OTLP_HEADERS"}),
        ("llm", {"OPENAI_API_KEY", "OTEL_EXPORTER_OTLP_HEADERS"}),
        ("chunker", {"OTEL_EXPORTER_OTLP_HEADERS"}),
        ("tts", {"HF_TOKEN", "OTEL_EXPORTER_OTLP_HEADERS"}),
        (
            "cache",
            {"VOICEMESH_REDIS_URL", "VOICEMESH_CACHE_SIMILAR_API_KEY", "OTEL_EXPORTER_OTLP_HEADERS"},
        ),
    ],
)
def test_a_service_gets_its_own_secrets_alone(service: str, expected: set[str], tmp_path: Path) -> None:
    found = environment_of(service, {**SECRETS, **PLAIN}, tmp_path)
    assert marks_of(found) == expected
    assert PLAIN.items() <= found.items()


def test_a_service_gets_what_its_declarations_name(tmp_path: Path) -> None:
    providers = json.dumps([{"name": "groq", "api_key_env": "GROQ_API_KEY", "headers": {"x": "secret"}}])
    voices = json.dumps([{"name": "v", "engine": "openai", "options": {"api_key_env": "SPEECH_TOKEN"}}])
    environment = {**SECRETS, "VOICEMESH_LLM_PROVIDERS": providers, "VOICEMESH_TTS_VOICES": voices}
    assert {"GROQ_API_KEY", "OPENAI_API_KEY"} <= marks_of(environment_of("llm", environment, tmp_path))
    assert "SPEECH_TOKEN" not in environment_of("llm", environment, tmp_path)
    assert "VOICEMESH_TTS_VOICES" not in environment_of("llm", environment, tmp_path)
    speaking = environment_of("tts", environment, tmp_path)
    assert {"SPEECH_TOKEN", "OPENAI_API_KEY"} <= marks_of(speaking)
    assert "GROQ_API_KEY" not in speaking
    for service in ("gateway", "chunker", "cache"):
        found = environment_of(service, environment, tmp_path)
        assert not {"GROQ_API_KEY", "SPEECH_TOKEN", "VOICEMESH_LLM_PROVIDERS"} & found.keys()


def test_a_file_of_declarations_is_read_where_the_service_reads_it(tmp_path: Path) -> None:
    (tmp_path / "providers.json").write_text('[{"name": "a", "api_key_env": "GROQ_API_KEY"}]')
    environment = {**SECRETS, "VOICEMESH_LLM_PROVIDERS_FILE": "providers.json"}
    assert "GROQ_API_KEY" in environment_of("llm", environment, tmp_path)
    assert "GROQ_API_KEY" not in environment_of("tts", environment, tmp_path)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b'"no list"', None])
def test_a_declaration_that_cannot_be_read_names_nothing(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "voices.json").write_bytes(content)
    environment = {**SECRETS, "VOICEMESH_TTS_VOICES_FILE": "voices.json"}
    assert "SPEECH_TOKEN" not in environment_of("tts", environment, tmp_path)


def test_a_worker_gets_no_secret_but_what_its_voice_names() -> None:
    environment = {**SECRETS, **PLAIN}
    assert not marks_of(environment_of_worker(environment, {"pitch": 50}))
    named = environment_of_worker(environment, {"api_key_env": "SPEECH_TOKEN"})
    assert marks_of(named) == {"SPEECH_TOKEN"}
    assert "VOICEMESH_TLS_KEY" not in named
    assert named["PATH"] == PLAIN["PATH"]


def test_every_child_of_up_has_its_own_environment(tmp_path: Path) -> None:
    mesh = plan_on_free_ports(tmp_path)
    specs = {spec.name: spec.env for spec in mesh.specs({**SECRETS, **PLAIN})}
    assert specs.keys() == set(SERVICES)
    for name, environment in specs.items():
        assert environment["VOICEMESH_EXIT_WITH_STDIN"] == "true"
        assert marks_of(dict(environment)) == marks_of(environment_of(name, SECRETS, tmp_path))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MY_SECRET", "", True),
        ("pgpassword", "", True),
        ("SSH_AUTH_SOCK", "/tmp/x", True),
        ("MONKEY", "", False),
        ("VOICEMESH_LLM_MAX_TOKENS", "", False),
        ("KEYBOARD", "", False),
        ("X", "https://user:pass@host", True),
        ("X", "https://host/a@b", False),
    ],
)
def test_secrets_are_told_by_name_or_by_a_password_in_an_address(
    name: str, value: str, expected: bool
) -> None:
    assert is_secret(name, value) is expected
