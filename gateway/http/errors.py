"""Errors of HTTP as OpenAI's API says them, those of the server and the router too."""

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_INVALID: Final = "invalid_request_error"
_CODES: Final = {404: "not_found", 405: "method_not_allowed"}


def error_body(
    message: str, code: str, kind: str = _INVALID, param: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the body of a response that tells of an error."""
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


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
