"""The one table between exceptions and gRPC statuses."""

import asyncio
import contextlib
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.errors import MeshError

DOMAIN: Final = "voicemesh"
_UNSENT: Final = "Internal error from Core"
RETRIED_BY: Final = "retried_by"
"""Key of `ErrorInfo.metadata`: who asked again already, and gave up."""

_CODES: Final[dict[str, grpc.StatusCode]] = {
    "INVALID_FIELD": grpc.StatusCode.INVALID_ARGUMENT,
    "OUT_OF_ORDER": grpc.StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_VOICE": grpc.StatusCode.NOT_FOUND,
    "UNKNOWN_MODEL": grpc.StatusCode.NOT_FOUND,
    "LLM_KEY_REFUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "LLM_REQUEST_REFUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "LLM_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "LLM_RATE_LIMITED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "LLM_STREAM_BROKEN": grpc.StatusCode.ABORTED,
    "NO_ENGINE": grpc.StatusCode.UNAVAILABLE,
    "VOICE_NOT_READY": grpc.StatusCode.UNAVAILABLE,
    "SERVICE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "TOO_MANY_TURNS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "RATE_LIMITED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "QUEUE_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "SLOW_RECEIVER": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DRAINING": grpc.StatusCode.UNAVAILABLE,
    "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "UNKNOWN_TURN": grpc.StatusCode.NOT_FOUND,
    "UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "TOO_MANY_CALLS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}
_BY_NUMBER: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}
_FAILURES: Final = frozenset(_BY_NUMBER) - {code_pb2.OK}


class RemoteError(MeshError):
    """A failure that another service of the mesh reported; passed on as it came.

    Attributes:
        status: The `google.rpc.Status` of the failure.

    """

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message, retry_after_ms=_retry_after_ms(status))
        self.status = status
        self.reason = reason_of(status) or self.reason
        self.retried_by = _info_of(status).metadata.get(RETRIED_BY, "")

    @property
    def marked(self) -> status_pb2.Status:
        """The status, with the mark of who tried again where that was set since."""
        if self.retried_by == _info_of(self.status).metadata.get(RETRIED_BY, ""):
            return self.status
        return given_up(self, self.retried_by).status


def code_of(error: MeshError) -> grpc.StatusCode:
    """Return the gRPC code that stands for `error`."""
    if isinstance(error, RemoteError):
        return _BY_NUMBER.get(error.status.code, grpc.StatusCode.UNKNOWN)
    return _CODES[error.reason]


def to_status(error: BaseException, trace_id: str = "") -> status_pb2.Status:
    """Turn an exception into a `google.rpc.Status` with ErrorInfo.

    A `MeshError` keeps its text, its field (BadRequest), its retry delay (RetryInfo) and who retried
    it. Anything else is a fault of ours: INTERNAL with a generic text, because the exception's own
    text may hold what callers must not see; `trace_id` lets its log line be found. The cancellation
    of a task is CANCELLED, without details.
    """
    if isinstance(error, RemoteError):
        return error.marked
    if isinstance(error, asyncio.CancelledError):
        return status_pb2.Status(code=code_pb2.CANCELLED, message="cancelled")
    if not isinstance(error, MeshError):
        hint = f"; trace id {trace_id}" if trace_id else ""
        error = MeshError(f"internal error{hint}")
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if trace_id:
        info.metadata["trace_id"] = trace_id
    if error.retried_by:
        info.metadata[RETRIED_BY] = error.retried_by
    if error.limit:
        info.metadata["limit"] = error.limit
    details = [_pack(info)]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message, reason=error.reason
        )
        details.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    code: int = code_of(error).value[0]
    return status_pb2.Status(code=code, message=error.message, details=details)


def from_rpc_error(error: grpc.aio.AioRpcError, service: str) -> RemoteError:
    """Turn the failure of a call to `service` ("llm", "tts", …) into one to pass on.

    A status with ErrorInfo is kept as it is. One without came from the transport: it becomes
    SERVICE_UNAVAILABLE (or DEADLINE_EXCEEDED) and names the service.
    """
    trailers: Any = error.trailing_metadata()  # the stubs take it for a mapping; it yields pairs
    for key, value in trailers or ():
        if key == "grpc-status-details-bin":
            with contextlib.suppress(DecodeError):  # not ours, then: as if there were none
                status = status_pb2.Status.FromString(value)
                if status.code in _FAILURES and reason_of(status):
                    return RemoteError(status)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        reason, code, retry_ms = "DEADLINE_EXCEEDED", code_pb2.DEADLINE_EXCEEDED, None
        message = f"the {service} service did not answer in time"
    elif error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) or _is_unsent(error):
        reason, code, retry_ms = "SERVICE_UNAVAILABLE", code_pb2.UNAVAILABLE, 1000
        message = f"the {service} service cannot be reached"
    else:
        reason, code, retry_ms = "INTERNAL", code_pb2.INTERNAL, None
        message = f"the {service} service failed ({error.code().name})"
    details = [
        _pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata={"service": service}))
    ]
    if retry_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(retry_ms)
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return RemoteError(status_pb2.Status(code=code, message=message, details=details))


def _is_unsent(error: grpc.aio.AioRpcError) -> bool:
    """Say whether a call failed here, when a message was to be sent and the connection was gone.

    gRPC for Python calls that INTERNAL, in words of its own (`set_internal_error` in `grpc/aio/_call.py`),
    where it finds out by a message before it is told of the connection's end.
    """
    return error.code() is grpc.StatusCode.INTERNAL and (error.details() or "").startswith(_UNSENT)


def reason_of(status: status_pb2.Status) -> str:
    """Return `ErrorInfo.reason` of a status, or "" where it has none."""
    return str(_info_of(status).reason)


def given_up(error: RemoteError, by: str) -> RemoteError:
    """Return a failure with the mark that `by` tried again already: nobody above it does."""
    marked = status_pb2.Status()
    marked.CopyFrom(error.status)
    info = _info_of(marked)
    info.metadata[RETRIED_BY] = by
    others = [detail for detail in marked.details if not detail.Is(info.DESCRIPTOR)]
    del marked.details[:]
    marked.details.extend([_pack(info), *others])
    return RemoteError(marked)


def _info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            break
    return info


def _retry_after_ms(status: status_pb2.Status) -> int | None:
    retry = error_details_pb2.RetryInfo()
    return int(retry.retry_delay.ToMilliseconds()) if _found(status, retry) else None


def _found(
    status: status_pb2.Status, wanted: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo
) -> bool:
    """Fill `wanted` from the details of a status; what is there and cannot be read counts as not there."""
    with contextlib.suppress(DecodeError):
        return any(detail.Unpack(wanted) for detail in status.details)
    return False


def _pack(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def known_reasons() -> frozenset[str]:
    """Return every reason that the contract names, without the prefix."""
    prefix = "ERROR_REASON_"
    names = common_pb2.ErrorReason.DESCRIPTOR.values_by_name
    return frozenset(name.removeprefix(prefix) for name in names) - {"UNSPECIFIED"}
