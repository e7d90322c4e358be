"""The one exception that the client raises, and how the mesh's statuses become it."""

import contextlib
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from voicemesh.call_end import is_replaced

if TYPE_CHECKING:
    from voicemesh.client.report import TurnReport

_DETAILS_KEY: Final = "grpc-status-details-bin"
_RETRIED_BY: Final = "retried_by"
_LIMIT: Final = "limit"

UNREACHABLE: Final = "SERVICE_UNAVAILABLE"
"""Reason of a failure to reach the mesh at all, as of one service that another cannot reach."""
DRAINING: Final = "DRAINING"
"""Reason of a refusal by a process that is about to stop."""

_HANDSHAKES: Final = {
    "WRONG_VERSION_NUMBER": "it speaks plain text, and the caller TLS",
    "Hostname Verification Check failed": "its certificate has another name",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not believed",
}
"""What gRPC 1.85 says of a handshake that failed, and what that means."""


class VoiceMeshError(Exception):
    """A turn or a call failed.

    Attributes:
        code: Name of the gRPC status code, for example "UNAVAILABLE".
        reason: Why, for programs: the name of a `voicemesh.common.v1.ErrorReason` without its prefix.
        message: Why, for people. Names the field and the limit where there is one.
        retry_after_ms: When trying again makes sense, in milliseconds; None where the mesh did not say.
        field: The request field at fault, as a path in the message, or "".
        limit: Of a refusal, the limit that was met: of a key `requests`, `characters` or `turns`, of load the
            cause (docs/overload.md); or "".
        retried_by: The process of the mesh that tried again and gave up: another try would be one too many.
        reached: False where the mesh could not be reached, or the connection to it was lost.
        heard_ms: Of a turn whose gateway was lost behind its first frame: how much of it a player that
            started at that frame has played, in milliseconds; None of all else.
        tls: True where it was not, because the two sides do not agree about TLS; `message` says how.
        report: The account of the turn up to the failure; None where it was no turn that failed.

    """

    def __init__(
        self,
        code: str,
        reason: str,
        message: str,
        retry_after_ms: int | None = None,
        field: str = "",
        *,
        reached: bool = True,
        retried_by: str = "",
        tls: bool = False,
        limit: str = "",
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.field = field
        self.limit = limit
        self.reached = reached
        self.retried_by = retried_by
        self.heard_ms: int | None = None
        self.tls = tls
        self.report: TurnReport | None = None

    def copy(self) -> "VoiceMeshError":
        """Return the same failure without a report."""
        return VoiceMeshError(
            self.code,
            self.reason,
            self.message,
            self.retry_after_ms,
            self.field,
            reached=self.reached,
            retried_by=self.retried_by,
            tls=self.tls,
            limit=self.limit,
        )


def from_status(status: status_pb2.Status) -> VoiceMeshError:
    """Turn a `google.rpc.Status` into the exception; details that it does not know or read are left out."""
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    request = error_details_pb2.BadRequest()
    reason, field, retried_by, limit, retry_after_ms = "", "", "", "", None
    for detail in status.details:
        with contextlib.suppress(DecodeError):
            if detail.Unpack(info):
                reason, retried_by = info.reason, info.metadata.get(_RETRIED_BY, "")
                limit = info.metadata.get(_LIMIT, "")
            elif detail.Unpack(retry):
                retry_after_ms = max(0, retry.retry_delay.ToMilliseconds())
            elif detail.Unpack(request) and request.field_violations:
                field = request.field_violations[0].field
    code = _code_name(status.code)
    return VoiceMeshError(
        code, reason or code, status.message, retry_after_ms, field, retried_by=retried_by, limit=limit
    )


def from_rpc_error(error: grpc.aio.AioRpcError, address: str) -> VoiceMeshError:
    """Turn the failure of a call to the mesh at `address` into the exception.

    A status with details came from the mesh and is kept. One without came from the transport.
    """
    metadata: Any = error.trailing_metadata()
    for key, value in metadata or ():
        if key == _DETAILS_KEY:
            # Who reads a call must not end by what a stranger wrote: nobody would tell its turns.
            with contextlib.suppress(DecodeError):
                return from_status(status_pb2.Status.FromString(bytes(value)))
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return unreachable(address, _of_tls(error.details() or ""))
    if code is grpc.StatusCode.CANCELLED or is_replaced(error):
        return lost(address)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return VoiceMeshError(code.name, code.name, f"the mesh at {address} did not answer in time")
    return VoiceMeshError(code.name, "INTERNAL", error.details() or f"the call failed ({code.name})")


def unreachable(address: str, why: str = "") -> VoiceMeshError:
    """Return the failure of having no connection to the mesh at `address`.

    `why` is what is wrong about TLS, "" where that is not the reason. Then it helps nobody to try again.
    """
    message = f"cannot reach the mesh at {address}" + (f": {why}" if why else "")
    after_ms = None if why else 1000
    return VoiceMeshError("UNAVAILABLE", UNREACHABLE, message, after_ms, reached=False, tls=bool(why))


def is_unexplained(error: VoiceMeshError, address: str) -> bool:
    """Return whether `error` says no more than that there is no connection to the mesh at `address`."""
    return not error.reached and error.message == unreachable(address).message


def _of_tls(details: str) -> str:
    """Return what gRPC's text means where a handshake has failed, "" where none has."""
    return next((meaning for part, meaning in _HANDSHAKES.items() if part in details), "")


def lost(address: str) -> VoiceMeshError:
    """Return the failure of a call that ended before its turn did."""
    message = f"the mesh at {address} ended the call before the turn"
    return VoiceMeshError("UNAVAILABLE", UNREACHABLE, message, 1000, reached=False)


def cut_off(error: VoiceMeshError, arrived_ms: int, heard_ms: int) -> VoiceMeshError:
    """Return the failure to reach the mesh in the middle of a turn's audio, which says how far it came."""
    cut = error.copy()
    cut.message = f"{error.message}, after {arrived_ms} ms of audio, of which {heard_ms} ms were played"
    cut.args = (f"{cut.reason}: {cut.message}",)
    cut.heard_ms = heard_ms
    return cut


def _code_name(number: int) -> str:
    for code in grpc.StatusCode:
        if code.value[0] == number:
            return str(code.name)
    return "UNKNOWN"
