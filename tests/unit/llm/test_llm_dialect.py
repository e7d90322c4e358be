from typing import Any

import pytest

from services.llm.core.dialect import Dialect

ASKED: dict[str, Any] = {"model": "m", "max_tokens": 300, "temperature": 0.5, "top_p": 0.85, "stream": True}
OLD_NAME = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
ONE_ONLY = "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) is."


def test_openai_is_asked_by_the_new_name_and_others_by_the_old_one() -> None:
    assert Dialect(is_openai=False).body(ASKED) == ASKED
    sent = Dialect(is_openai=True).body(ASKED)
    assert sent == {
        "model": "m",
        "max_completion_tokens": 300,
        "temperature": 0.5,
        "top_p": 0.85,
        "stream": True,
    }


@pytest.mark.parametrize("model", ["o3-mini", "o1", "gpt-5", "gpt-5-mini-2025-08-07"])
def test_openais_models_that_reason_take_no_sampling(model: str) -> None:
    sent = Dialect(is_openai=True).body(ASKED | {"model": model})
    assert sent == {"model": model, "max_completion_tokens": 300, "stream": True}
    assert Dialect(is_openai=False).body(ASKED | {"model": model})["temperature"] == 0.5


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-4.1", "gpt-5-chat-latest"])
def test_the_others_do(model: str) -> None:
    assert Dialect(is_openai=True).body(ASKED | {"model": model})["temperature"] == 0.5


def test_a_refused_name_is_replaced_and_a_refused_parameter_left_out_for_that_model() -> None:
    dialect = Dialect(is_openai=False)
    assert dialect.learn("m", dialect.body(ASKED), "max_tokens", OLD_NAME)
    assert dialect.body(ASKED)["max_completion_tokens"] == 300
    assert dialect.learn("m", dialect.body(ASKED), "", ONE_ONLY)
    assert dialect.body(ASKED) == {"model": "m", "max_completion_tokens": 300, "top_p": 0.85, "stream": True}
    assert dialect.body(ASKED | {"model": "n"})["max_tokens"] == 300


def test_a_server_that_takes_neither_name_is_asked_without() -> None:
    dialect = Dialect(is_openai=False)
    for name in ("max_tokens", "max_completion_tokens"):
        assert dialect.learn("m", dialect.body(ASKED), name, f"unknown field {name!r}")
    assert not {"max_tokens", "max_completion_tokens"} & dialect.body(ASKED).keys()


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("messages", "Unsupported parameter: 'messages'"),
        ("max_tokens", "max_tokens is too large: 900000"),
        ("", "the prompt is too long"),
        ("seed", "Unsupported parameter: 'seed'"),  # was not sent
    ],
)
def test_other_refusals_are_the_callers(param: str, message: str) -> None:
    dialect = Dialect(is_openai=False)
    assert not dialect.learn("m", dialect.body(ASKED), param, message)
    assert dialect.body(ASKED) == ASKED


def test_what_is_remembered_is_bounded() -> None:
    dialect = Dialect(is_openai=False)
    for number in range(300):
        assert dialect.learn(str(number), ASKED, "temperature", ONE_ONLY)
    assert dialect.body(ASKED | {"model": "0"})["temperature"] == 0.5
    assert "temperature" not in dialect.body(ASKED | {"model": "299"})
