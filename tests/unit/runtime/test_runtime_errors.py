"""Every reason of the contract has an exception, a status and a comment that says whether to retry."""

import asyncio
import inspect
import itertools
from typing import TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from voicemesh.runtime import errors, status
from voicemesh.runtime.errors import InvalidFieldError, MeshError, TooManyTurnsError

M = TypeVar("M", bound=Message)
CLASSES = sorted(
    (member for _, member in inspect.getmembers(errors, inspect.isclass) if issubclass(member, MeshError)),
    key=lambda member: member.reason,
)


def make(kind: type[MeshError]) -> MeshError:
    """Make an error of any class."""
    return kind("text.field", "is wrong") if kind is InvalidFieldError else kind("it is wrong")


def detail(found: status_pb2.Status, kind: type[M]) -> M | None:
    """Return the detail of one type."""
    message = kind()
    return next((message for packed in found.details if packed.Unpack(message)), None)


def test_every_reason_of_the_contract_has_one_exception_and_each_exception_a_reason() -> None:
    reasons = [kind.reason for kind in CLASSES]
    assert len(reasons) == len(set(reasons))
    assert set(reasons) == status.known_reasons()


@pytest.mark.parametrize("reason", sorted(status.known_reasons()))
def test_every_reason_has_a_code(reason: str) -> None:
    error = MeshError("wrong")
    error.reason = reason
    assert status.code_of(error) is not grpc.StatusCode.OK


@pytest.mark.parametrize("kind", CLASSES)
def test_an_exception_becomes_a_status_with_its_reason_and_text(kind: type[MeshError]) -> None:
    error = make(kind)
    found = status.to_status(error, trace_id="ab" * 16)
    assert found.code == status.code_of(error).value[0]
    assert found.message == str(error) == error.message
    info = detail(found, error_details_pb2.ErrorInfo)
    assert info is not None
    assert (info.reason, info.domain, info.metadata["trace_id"]) == (kind.reason, "voicemesh", "ab" * 16)
    assert status.reason_of(found) == kind.reason


def test_the_table_has_no_reason_that_the_contract_lacks() -> None:
    for reason in ("", "UNSPECIFIED", "NO_SUCH_REASON"):
        error = MeshError("wrong")
        error.reason = reason
        with pytest.raises(KeyError):
            status.code_of(error)


def test_a_field_becomes_a_bad_request() -> None:
    found = status.to_status(InvalidFieldError("speech.rate", "must be 0.5 to 2, is 9"))
    bad = detail(found, error_details_pb2.BadRequest)
    assert bad is not None
    (violation,) = bad.field_violations
    assert (violation.field, violation.reason) == ("speech.rate", "INVALID_FIELD")
    assert violation.description == "speech.rate: must be 0.5 to 2, is 9"


def test_a_delay_becomes_a_retry_info() -> None:
    found = status.to_status(TooManyTurnsError("full", retry_after_ms=1500))
    retry = detail(found, error_details_pb2.RetryInfo)
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert detail(status.to_status(TooManyTurnsError("full")), error_details_pb2.RetryInfo) is None


def test_an_unexpected_exception_says_nothing_but_the_trace_id() -> None:
    found = status.to_status(ValueError("password=hunter2"), trace_id="cd" * 16)
    assert found.code == code_pb2.INTERNAL
    assert found.message == f"internal error; trace id {'cd' * 16}"
    assert b"hunter2" not in found.SerializeToString()
    assert status.to_status(ValueError("password=hunter2")).message == "internal error"


def test_a_cancellation_is_cancelled() -> None:
    assert status.to_status(asyncio.CancelledError()).code == code_pb2.CANCELLED


def rpc_error(code: grpc.StatusCode, *trailers: tuple[str, bytes]) -> AioRpcError:
    """Make the failure of a call as grpc.aio raises it."""
    return AioRpcError(code, Metadata(), Metadata(*trailers), "details of a peer", None)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_failure_of_another_service_is_passed_on_as_it_came(kind: type[MeshError]) -> None:
    sent = status.to_status(make(kind), trace_id="ef" * 16)
    raised = rpc_error(
        status.code_of(make(kind)), ("other", b"x"), ("grpc-status-details-bin", sent.SerializeToString())
    )
    passed = status.from_rpc_error(raised, "tts")
    assert status.to_status(passed, trace_id="99" * 16) == sent
    assert passed.reason == kind.reason
    assert status.code_of(passed) is status.code_of(make(kind))


def test_a_retry_delay_is_passed_on() -> None:
    sent = status.to_status(TooManyTurnsError("full", retry_after_ms=250))
    raised = rpc_error(
        grpc.StatusCode.RESOURCE_EXHAUSTED, ("grpc-status-details-bin", sent.SerializeToString())
    )
    assert status.from_rpc_error(raised, "tts").retry_after_ms == 250


@pytest.mark.parametrize(
    ("code", "reason", "passed_on", "retry_after_ms"),
    [
        (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE, 1000),
        (grpc.StatusCode.CANCELLED, "SERVICE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE, 1000),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", grpc.StatusCode.DEADLINE_EXCEEDED, None),
        (grpc.StatusCode.UNIMPLEMENTED, "INTERNAL", grpc.StatusCode.INTERNAL, None),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "INTERNAL", grpc.StatusCode.INTERNAL, None),
    ],
)
def test_a_failure_of_the_transport_names_the_service_and_hides_the_rest(
    code: grpc.StatusCode, reason: str, passed_on: grpc.StatusCode, retry_after_ms: int | None
) -> None:
    passed = status.from_rpc_error(rpc_error(code), "chunker")
    assert (passed.reason, status.code_of(passed)) == (reason, passed_on)
    assert passed.retry_after_ms == retry_after_ms
    assert "chunker" in passed.message
    assert "details of a peer" not in passed.message


def _with_info(code: int, info: bytes) -> bytes:
    made = status_pb2.Status(code=code)
    made.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info)
    wire: bytes = made.SerializeToString()
    return wire


_INFO = error_details_pb2.ErrorInfo(reason="QUEUE_FULL").SerializeToString()


@pytest.mark.parametrize(
    "details",
    [
        b"\xff\xff",
        b"",
        status_pb2.Status(code=5).SerializeToString(),
        _with_info(0, _INFO),  # no failure at all
        _with_info(77, _INFO),
        _with_info(8, b"\x0a\xff"),
    ],
)
def test_details_that_are_not_ours_are_as_none(details: bytes) -> None:
    raised = rpc_error(grpc.StatusCode.UNAVAILABLE, ("grpc-status-details-bin", details))
    assert status.from_rpc_error(raised, "llm").reason == "SERVICE_UNAVAILABLE"


def test_a_status_without_a_known_code_is_unknown() -> None:
    assert status.code_of(status.RemoteError(status_pb2.Status(code=999))) is grpc.StatusCode.UNKNOWN


def test_no_two_classes_share_their_text() -> None:
    for one, other in itertools.combinations(CLASSES, 2):
        assert one.__doc__ != other.__doc__


def test_a_message_that_cannot_be_sent_any_more_says_that_the_service_is_gone() -> None:
    # As gRPC for Python has it: see `set_internal_error`.
    for details, reason in (("Internal error from Core", "SERVICE_UNAVAILABLE"), ("oh no", "INTERNAL")):
        failure = AioRpcError(grpc.StatusCode.INTERNAL, Metadata(), Metadata(), details, None)
        assert status.from_rpc_error(failure, "tts").reason == reason
