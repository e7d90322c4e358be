"""Failures: what the mesh says, and what the transport says."""

import grpc
import pytest
from google.rpc import status_pb2
from grpc.aio import AioRpcError, Metadata

from tests.contract.fake_gateway import status
from voicemesh.client.errors import from_rpc_error, from_status
from voicemesh.runtime.errors import RateLimitedError
from voicemesh.runtime.status import to_status


def failure(code: grpc.StatusCode, *, details: str = "", trailing: Metadata | None = None) -> AioRpcError:
    return AioRpcError(code, Metadata(), trailing or Metadata(), details=details, debug_error_string=None)


def test_a_status_with_details():
    error = from_status(
        status(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_TURNS", "full", field="prompt", retry_ms=1500)
    )
    assert (error.code, error.reason, error.message) == ("RESOURCE_EXHAUSTED", "TOO_MANY_TURNS", "full")
    assert (error.retry_after_ms, error.field) == (1500, "prompt")
    assert str(error) == "TOO_MANY_TURNS: full"


def test_a_refusal_names_the_limit_that_was_met():
    refused = to_status(RateLimitedError("no more", limit="requests"))
    assert from_status(refused).limit == "requests"
    assert from_status(refused).copy().limit == "requests"


def test_a_status_without_details_has_its_code_for_a_reason():
    error = from_status(status_pb2.Status(code=5, message="nothing"))
    assert (error.code, error.reason, error.retry_after_ms, error.field) == (
        "NOT_FOUND",
        "NOT_FOUND",
        None,
        "",
    )
    assert from_status(status_pb2.Status(code=99)).code == "UNKNOWN"


def test_a_call_that_failed_with_details():
    packed = status(grpc.StatusCode.NOT_FOUND, "UNKNOWN_VOICE", "no such voice").SerializeToString()
    trailing = Metadata(("other", "x"), ("grpc-status-details-bin", packed))
    error = from_rpc_error(failure(grpc.StatusCode.NOT_FOUND, trailing=trailing), "host:1")
    assert error.reason == "UNKNOWN_VOICE"
    assert error.reached


@pytest.mark.parametrize(
    ("code", "reason", "reached"),
    [
        (grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE", False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", True),
        (grpc.StatusCode.UNIMPLEMENTED, "INTERNAL", True),
        (grpc.StatusCode.INTERNAL, "INTERNAL", True),
    ],
)
def test_a_call_that_the_transport_failed(code, reason, reached):
    error = from_rpc_error(failure(code, details="text of gRPC"), "host:1")
    assert (error.code, error.reason, error.reached) == (code.name, reason, reached)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        # grpc.aio's, where a message meets a call that has just ended: a conversation that is told to move.
        (grpc.StatusCode.INTERNAL, "Internal error from Core"),
        # A stream that was opened as the gateway went away.
        (grpc.StatusCode.CANCELLED, "CANCELLED"),
    ],
)
def test_a_call_that_ended_under_its_caller_is_lost(code, details):
    error = from_rpc_error(failure(code, details=details), "host:1")
    assert (error.code, error.reason, error.reached) == ("UNAVAILABLE", "SERVICE_UNAVAILABLE", False)
