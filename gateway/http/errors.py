"""Errors of HTTP as OpenAI's API says them, those of the server and the router too."""

from typing import Any, Final

from grpc import StatusCode
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.status import reason_of, to_status

_INVALID: Final = "invalid_request_error"
_KINDS: Final = {400: _INVALID, 401: _INVALID, 403: _INVALID, 404: _INVALID, 429: "rate_limit_error"}
"""What OpenAI calls an error, by the code of HTTP; others are the server's."""
_HTTP_CODES: Final = {
    StatusCode.INVALID_ARGUMENT.value[0]: 400,
    StatusCode.UNAUTHENTICATED.value[0]: 401,
    StatusCode.PERMISSION_DENIED.value[0]: 403,
    StatusCode.NOT_FOUND.value[0]: 404,
    StatusCode.RESOURCE_EXHAUSTED.value[0]: 429,
    StatusCode.FAILED_PRECONDITION.value[0]: 502,
    StatusCode.UNAVAILABLE.value[0]: 503,
    StatusCode.DEADLINE_EXCEEDED.value[0]: 504,
}
_CODES: Final = {404: "not_found", 405: "method_not_allowed"}


def error_body(
    message: str, code: str, kind: str = _INVALID, param: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the body of a response that tells of an error."""
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


def failure(error: MeshError, field: str = "") -> JSONResponse:
    """Return the response that tells of a failure; `field` is the parameter at fault, as it is named here."""
    status = to_status(error)
    code = _HTTP_CODES.get(status.code, 500)
    body = error_body(
        error.message, reason_of(status).lower(), _KINDS.get(code, "server_error"), field or None
    )
    headers = {}
    if error.retry_after_ms is not None:
        headers["retry-after"] = str(-(-error.retry_after_ms // 1000))
    return JSONResponse(body, code, headers)


async def unrouted(request: Request, error: Exception) -> Response:
    """Answer what no route takes, or not with this method."""
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow", "")
    if error.status_code == 405:
        message = f"{request.method[:20]} is not possible here; {allowed} is"
    else:
        message = "nothing answers at this path; GET / lists what there is"
    body = error_body(message, _CODES.get(error.status_code, "invalid_request"))
    return JSONResponse(body, error.status_code, error.headers)
