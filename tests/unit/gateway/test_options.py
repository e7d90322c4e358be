"""What callers may choose, and what the gateway makes of the contract's messages."""

import pytest

from gateway.settings import GatewaySettings
from gateway.translation import chunk_from
from services.chunker.settings import ChunkerSettings
from voicemesh.common.v1 import common_pb2

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
