"""Every text and every list of a request has a limit: this one is taken, and one more is not."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from gateway import limits
from tests.contract.test_gateway_limits import ELSEWHERE
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.runtime.errors import InvalidFieldError

_SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"]


def fields(descriptor: Descriptor, seen: set[str]) -> Iterator[FieldDescriptor]:
    """Give every field that a caller may make long, in a message and in all that is in it."""
    if descriptor.full_name in seen:
        return
    seen.add(descriptor.full_name)
    for field in descriptor.fields:
        if field.is_repeated or field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            yield field
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from fields(field.message_type, seen)


def asked() -> dict[str, FieldDescriptor]:
    seen: set[str] = set()
    return {
        field.full_name: field for method in _SERVICE.methods for field in fields(method.input_type, seen)
    }


def test_every_field_that_can_be_long_has_a_limit_and_every_limit_a_field() -> None:
    known = {*limits.CHARS, *limits.COUNTS, *ELSEWHERE}
    assert set(asked()) - known == set(), "say here or in gateway/limits.py how long they may be"
    assert known - set(asked()) == set()


def made(field: FieldDescriptor, length: int, count: int = 1) -> Any:
    owner: Any = field.containing_type
    message: Any = GetMessageClass(owner)()
    value: Any = "x" * length
    if field.message_type is not None:
        getattr(message, field.name).extend(GetMessageClass(field.message_type)() for _ in range(count))
    elif field.is_repeated:
        getattr(message, field.name).extend(
            [value if field.type == FieldDescriptor.TYPE_STRING else 1] * count
        )
    else:
        setattr(message, field.name, value)
    return message


@pytest.mark.parametrize("name", limits.CHARS)
def test_a_text_of_the_limit_is_taken_and_a_longer_one_named(name: str) -> None:
    field, most = asked()[name], limits.CHARS[name]
    limits.check(made(field, most))
    with pytest.raises(InvalidFieldError, match=f"{field.name}.*has {most + 1} characters; at most {most}"):
        limits.check(made(field, most + 1))


@pytest.mark.parametrize("name", limits.COUNTS)
def test_a_list_of_the_limit_is_taken_and_a_longer_one_named(name: str) -> None:
    field, most = asked()[name], limits.COUNTS[name]
    limits.check(made(field, 1, most))
    with pytest.raises(InvalidFieldError, match=f"{field.name}: has {most + 1} members; at most {most}"):
        limits.check(made(field, 1, most + 1))


def test_the_path_of_what_is_too_long_is_told() -> None:
    prompt = gateway_pb2.Prompt()
    prompt.parts.add(text="a")
    prompt.parts.add().image.media_type = "x" * 101
    with pytest.raises(InvalidFieldError, match=r"^prompt\.parts\[1\]\.image\.media_type: has 101") as raised:
        limits.check(prompt, "prompt")
    assert raised.value.field == "prompt.parts[1].image.media_type"
    configure = gateway_pb2.Configure()
    configure.parameters.stop.extend(["a", "x" * 257])
    with pytest.raises(InvalidFieldError, match=r"^configure\.parameters\.stop\[1\]: has 257"):
        limits.check(configure, "configure")


@pytest.mark.parametrize(("turn_id", "trace", "field"), [(201, 0, "turn_id"), (0, 257, "traceparent")])
def test_words_have_the_same_limits(turn_id: int, trace: int, field: str) -> None:
    limits.check_text("x" * 200, "x" * 256, "text")
    with pytest.raises(InvalidFieldError, match=f"^text.{field}: has"):
        limits.check_text("x" * turn_id, "x" * trace, "text")
    message = gateway_pb2.TextInput(turn_id="x" * turn_id, traceparent="x" * trace)
    with pytest.raises(InvalidFieldError, match=f"^text.{field}: has"):
        limits.check(message, "text")
