"""Settings: what is taken, what is refused and how it is said, and what is never shown."""

import json
import pathlib
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr

from voicemesh.runtime import settings
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.settings import ListenAddress, ServerSettings


class Engine(BaseModel):
    """One of a list."""

    name: Annotated[str, Field(min_length=2)]
    key: SecretStr | None = None
    address: str = ""


class Example(ServerSettings):
    """One of each kind."""

    example_listen: ListenAddress = "127.0.0.1:50099"
    example_replicas: Annotated[int, Field(ge=1, le=8)] = 2
    example_mode: Literal["fast", "good"] = "fast"
    example_key: SecretStr | None = None
    example_url: str = ""
    example_folder: pathlib.Path = pathlib.Path("here")
    example_engines: tuple[Engine, ...] = ()
    api_key: Annotated[SecretStr | None, Field(validation_alias="EXAMPLE_API_KEY")] = None


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return what is said about wrong variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        settings.load(Example)
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_everything_has_a_default() -> None:
    loaded = settings.load(ServerSettings)
    assert (loaded.log_level, loaded.log_format, loaded.drain_grace_s) == ("info", "auto", 30.0)
    assert (loaded.reflection, loaded.exit_with_stdin, loaded.max_message_bytes) == (True, False, 4 << 20)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEMESH_EXAMPLE_REPLICAS", "7")
    monkeypatch.setenv("VOICEMESH_EXAMPLE_ENGINES", '[{"name": "espeak"}]')
    monkeypatch.setenv("EXAMPLE_API_KEY", "k")
    loaded = settings.load(Example)
    assert loaded.example_replicas == 7
    assert loaded.example_engines == (Engine(name="espeak"),)
    assert loaded.api_key is not None


@pytest.mark.parametrize(
    "address", ["0.0.0.0:0", "localhost:65535", "[::1]:50051", "unix:/run/x.sock", "unix:relative"]
)
def test_addresses_that_are_taken(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("VOICEMESH_EXAMPLE_LISTEN", address)
    assert settings.load(Example).example_listen == address


@pytest.mark.parametrize(
    "address",
    ["", "unix:", "localhost", ":50051", "localhost:", "localhost:65536", "localhost:-1", "h:1x", "h:²"],
)
def test_addresses_that_are_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    assert refused(monkeypatch, VOICEMESH_EXAMPLE_LISTEN=address).startswith("VOICEMESH_EXAMPLE_LISTEN: ")


def test_each_wrong_variable_is_named_with_what_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(
        monkeypatch,
        VOICEMESH_EXAMPLE_REPLICAS="9",
        VOICEMESH_EXAMPLE_MODE="slow",
        VOICEMESH_LOG_LEVEL="loud",
        VOICEMESH_DRAIN_GRACE_S="soon",
    ).splitlines()
    assert [line.split(":")[0] for line in said] == [
        "VOICEMESH_LOG_LEVEL",
        "VOICEMESH_DRAIN_GRACE_S",
        "VOICEMESH_EXAMPLE_REPLICAS",
        "VOICEMESH_EXAMPLE_MODE",
    ]
    assert "'debug', 'info', 'warning' or 'error'" in said[0]
    assert "number" in said[1]
    assert "less than or equal to 8" in said[2]
    assert "'fast' or 'good'" in said[3]


def test_the_place_inside_a_list_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, VOICEMESH_EXAMPLE_ENGINES='[{"name": "espeak"}, {"name": "x"}]')
    assert said.startswith("VOICEMESH_EXAMPLE_ENGINES (1.name): ")


@pytest.mark.parametrize("text", ["[", "{]", "espeak", "", "[1,]"])
def test_text_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert refused(monkeypatch, VOICEMESH_EXAMPLE_ENGINES=text).startswith(
        "VOICEMESH_EXAMPLE_ENGINES: not valid JSON: "
    )


def test_a_variable_with_a_name_of_its_own_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Owned(ServerSettings):
        rate: Annotated[int, Field(validation_alias="OTHER_RATE")] = 1

    monkeypatch.setenv("OTHER_RATE", "many")
    with pytest.raises(SettingsError, match=r"^OTHER_RATE: "):
        settings.load(Owned)


def test_secrets_are_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hunter2"
    said = refused(
        monkeypatch,
        VOICEMESH_EXAMPLE_ENGINES=json.dumps([{"name": "x", "key": secret}]),
        VOICEMESH_EXAMPLE_KEY=secret,
    )
    assert secret not in said
    assert secret not in refused(monkeypatch, VOICEMESH_EXAMPLE_ENGINES=f'[{{"key": "{secret}"')


def test_secrets_are_not_shown() -> None:
    shown = settings.describe(
        Example(
            example_key=SecretStr("hunter2"),
            example_url="redis://someone:hunter2@cache:6379/0?x=1",
            example_engines=(
                Engine(name="one", key=SecretStr("hunter2"), address="https://:hunter2@host/path"),
                Engine(name="two"),
            ),
        )
    )
    assert "hunter2" not in json.dumps(shown)
    assert shown["VOICEMESH_EXAMPLE_KEY"] == "set"
    assert shown["EXAMPLE_API_KEY"] == "not set"
    assert shown["VOICEMESH_EXAMPLE_URL"] == "redis://***@cache:6379/0?x=1"
    assert shown["VOICEMESH_EXAMPLE_FOLDER"] == "here"
    assert [engine["name"] for engine in shown["VOICEMESH_EXAMPLE_ENGINES"]] == ["one", "two"]
    assert "hunter2" not in repr(Example(example_key=SecretStr("hunter2")))


def test_every_field_is_shown_under_its_variable() -> None:
    names = {settings.variable_of(Example, name) for name in Example.model_fields}
    assert set(settings.describe(settings.load(Example))) == names
    assert "VOICEMESH_DRAIN_GRACE_S" in names


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.load(Example).example_replicas = 3


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("VOICEMESH_TTS_VOICE", "VOICEMESH_TTS_VOICES"),
        ("VOICEMESH_EXAMPLE_REPLICA", "VOICEMESH_EXAMPLE_REPLICAS"),
        ("VOICEMESH_LLM_LISTENS", "VOICEMESH_LLM_LISTEN"),
        ("voicemesh_redis", "VOICEMESH_REDIS_URL"),
        ("VOICEMESH_QQQQ", ""),
    ],
)
def test_a_variable_that_no_process_has_is_named_with_the_nearest(variable: str, nearest: str) -> None:
    assert settings.unknown(Example, {variable: "1"}) == {variable: nearest}


def test_variables_of_any_process_and_of_other_programs_are_left_alone() -> None:
    environment = {
        "VOICEMESH_EXAMPLE_REPLICAS": "1",
        "voicemesh_log_level": "info",
        "VOICEMESH_TTS_VOICES": "[]",
        "VOICEMESH_GATEWAY_MAX_TURNS": "3",
        "VOICEMESH_ADDR": "host:1",
        "VOICES": "",
        # As Kubernetes has it for a service that is named voicemesh-llm.
        "VOICEMESH_LLM_SERVICE_HOST": "10.0.0.1",
        "VOICEMESH_LLM_SERVICE_PORT_GRPC": "50051",
        "VOICEMESH_LLM_PORT": "tcp://10.0.0.1:50051",
        "VOICEMESH_LLM_PORT_50051_TCP_ADDR": "10.0.0.1",
    }
    assert settings.unknown(Example, environment) == {}
