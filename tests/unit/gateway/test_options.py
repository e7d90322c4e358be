"""What callers may choose, and what the gateway makes of the contract's messages."""

from typing import Any

import pytest

from gateway.options import text_choice
from gateway.settings import GatewaySettings
from gateway.translation import chunk_from
from services.chunker.settings import ChunkerSettings
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.runtime.errors import InvalidFieldError

_SHARED = "chunker_max_chars"


def test_gateway_and_chunker_have_one_limit_of_chunks_from_one_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = GatewaySettings.model_fields[_SHARED], ChunkerSettings.model_fields[_SHARED]
    assert (ours.default, ours.metadata) == (theirs.default, theirs.metadata)
    monkeypatch.setenv("VOICEMESH_CHUNKER_MAX_CHARS", "250")
    assert GatewaySettings().chunker_max_chars == ChunkerSettings().chunker_max_chars == 250


def test_a_chunk_of_a_later_version_is_taken_for_a_reason_that_this_one_does_not_know() -> None:
    chunk = common_pb2.Chunk(text="So.", text_length=3, reason=99)  # type: ignore[arg-type] # as a later one may
    assert chunk_from(chunk).reason == "unspecified"


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"stop": ["no", ""]}, "configure.parameters.stop[1]"),
        ({"stop": ["x" * 257]}, "configure.parameters.stop[0]"),
        ({"stop": list("abcde")}, "configure.parameters.stop"),
        ({"top_p": 0.0}, "configure.parameters.top_p"),
        ({"top_p": float("nan")}, "configure.parameters.top_p"),
        ({"max_tokens": 0}, "configure.parameters.max_tokens"),
    ],
)
def test_what_no_model_takes_is_refused_by_the_name_that_its_caller_knows(
    parameters: dict[str, Any], field: str
) -> None:
    configure = gateway_pb2.Configure(parameters=common_pb2.GenerationParameters(**parameters))
    with pytest.raises(InvalidFieldError) as refused:
        text_choice(configure, GatewaySettings())
    assert refused.value.field == field
