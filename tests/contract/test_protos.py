"""Rules of the contract that buf does not know, checked on the descriptors of everything generated."""

import importlib
import pathlib
import pkgutil
import re
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
)

import voicemesh
from voicemesh.common.v1 import common_pb2
from voicemesh.stages import STAGES, Stage

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNITS = ("_us", "_ms", "_s", "_hz", "_samples", "_bytes", "_chars", "_tokens", "_usd", "_seconds")
MEASURES = re.compile(
    r"(?:^|_)(?:duration|offset|time|age|ttl|rate|delay|timeout|size|limit|wait|held|left)(?:_|$)"
)
NUMBERS = {
    FieldDescriptor.TYPE_DOUBLE,
    FieldDescriptor.TYPE_FLOAT,
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_UINT64,
}


def files() -> Iterator[FileDescriptor]:
    """Find every generated file of messages."""
    for found in pkgutil.walk_packages(voicemesh.__path__, "voicemesh."):
        if re.fullmatch(r"voicemesh\.\w+\.v1\.\w+_pb2", found.name):
            yield importlib.import_module(found.name).DESCRIPTOR


FILES = list(files())


def messages_in(found: FileDescriptor | Descriptor) -> Iterator[Descriptor]:
    """Find every message, also inside others."""
    inside = found.message_types_by_name if isinstance(found, FileDescriptor) else found.nested_types_by_name
    for message in inside.values():
        yield message
        yield from messages_in(message)


MESSAGES = [message for found in FILES for message in messages_in(found)]
ENUMS: list[EnumDescriptor] = [
    *(enum for found in FILES for enum in found.enum_types_by_name.values()),
    *(enum for message in MESSAGES for enum in message.enum_types),
]
METHODS: list[MethodDescriptor] = [
    method for found in FILES for service in found.services_by_name.values() for method in service.methods
]


def test_the_contract_is_whole() -> None:
    assert {found.package for found in FILES} == {
        f"voicemesh.{name}.v1" for name in ("common", "llm", "chunker", "tts", "cache", "gateway")
    }
    assert {method.full_name.removeprefix("voicemesh.") for method in METHODS} >= {
        "llm.v1.LlmService.Generate",
        "chunker.v1.ChunkerService.Chunk",
        "tts.v1.TtsService.Synthesize",
        "tts.v1.TtsService.SynthesizeBatch",
        "tts.v1.TtsService.ListVoices",
        "tts.v1.TtsService.GetPoolStats",
        "cache.v1.CacheService.Exchange",
        "cache.v1.CacheService.GetStats",
        "cache.v1.CacheService.Invalidate",
        "gateway.v1.GatewayService.Converse",
        "gateway.v1.GatewayService.Speak",
        "gateway.v1.GatewayService.SpeakBatch",
        "gateway.v1.GatewayService.ListVoices",
        "gateway.v1.GatewayService.ExplainTurn",
    }


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.full_name)
def test_an_enum_starts_with_unspecified(enum: EnumDescriptor) -> None:
    assert enum.values[0].number == 0
    assert enum.values[0].name.endswith("_UNSPECIFIED")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_a_stream_both_ways_is_one_oneof_each_way(method: MethodDescriptor) -> None:
    if method.client_streaming and method.server_streaming:
        for message in (method.input_type, method.output_type):
            written = [name for name in message.oneofs_by_name if not name.startswith("_")]
            assert len(written) == 1, message.full_name


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.full_name)
def test_measures_have_their_unit_in_their_name(message: Descriptor) -> None:
    for field in message.fields:
        if field.type in NUMBERS and MEASURES.search(field.name):
            named = field.name.endswith(UNITS) or field.name in NO_UNIT
            assert named, f"{message.full_name}.{field.name} says no unit"


NO_UNIT = {"text_offset", "spoken_offset", "source_offset", "limit"}
"""Code points, everywhere: said once at the top of common.proto. Of what is listed: so many of it."""


@pytest.mark.parametrize("name", ["Frame", "Chunk", "WordTimings"])
def test_what_belongs_to_a_turn_names_it(name: str) -> None:
    assert common_pb2.DESCRIPTOR.message_types_by_name[name].fields_by_name["turn_id"].number == 1


def test_the_stages_are_the_same_in_the_contract_and_in_the_code() -> None:
    values = common_pb2.Stage.DESCRIPTOR.values
    assert [value.name for value in values[1:]] == [f"STAGE_{stage.name}" for stage in STAGES]
    assert [stage.value for stage in Stage] == [stage.name.lower() for stage in Stage]


def test_each_reason_of_failure_says_whether_to_retry() -> None:
    text = (ROOT / "protos/voicemesh/common/v1/common.proto").read_text()
    reasons = common_pb2.ErrorReason.DESCRIPTOR.values_by_name
    for name in set(reasons) - {"ERROR_REASON_UNSPECIFIED"}:
        comment = re.search(rf"((?:^ *//.*\n)+) *{name} = ", text, re.MULTILINE)
        assert comment, name
        assert re.search(r"\bretr(?:y|ied)\b", comment[1], re.IGNORECASE), name
