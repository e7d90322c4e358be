"""Callers over HTTP are let in, or refused before their body is read."""

import functools
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.access.caller import CURRENT
from gateway.access.guard import Access
from gateway.access.table import OPEN, ROUTES, Needs
from gateway.http.errors import failure
from voicemesh.runtime.errors import MeshError, PermissionDeniedError
from voicemesh.tenant import HTTP_HEADER

Handler = Callable[[Request], Awaitable[Response]]
_PAGE: Final = "/live"


class WebGuard:
    """Stands in front of routes.

    Args:
        access: Lets callers in; None: nobody is asked.

    """

    def __init__(self, access: Access | None) -> None:
        self._access = access if access is not None and access.on else None

    def guarded(self, route: Route) -> Route:
        """Return a route that answers only whom it may."""
        (method,) = (route.methods or set()) - {"HEAD"}
        needs = ROUTES.get(f"{method} {route.path}")
        handler = route.endpoint

        @functools.wraps(handler)
        async def answer(request: Request) -> Response:
            try:
                await self._admit(request, needs, route.path)
            except MeshError as error:
                return _refused(error, page=_is_page(route.path))
            response: Response = await handler(request)
            return response

        return Route(route.path, answer, methods=[method])

    async def _admit(self, request: Request, needs: Needs | None, path: str) -> None:
        if needs is None:
            raise PermissionDeniedError("nobody may do this")
        if self._access is None:
            # The page looks for itself: others may link to it.
            if needs is not OPEN and not _is_page(path) and _is_cross_site(request.headers):
                raise PermissionDeniedError("another site's page must not ask for this")
            return
        headers = request.headers
        shown, tenants = headers.getlist("authorization"), headers.getlist(HTTP_HEADER)
        CURRENT.set(await self._access.admit(needs, shown, tenants, HTTP_HEADER, password=_is_page(path)))


def _is_page(path: str) -> bool:
    return path == _PAGE or path.startswith(f"{_PAGE}/")


def _is_cross_site(headers: Mapping[str, str]) -> bool:
    """Say whether a browser says that a page of another site asks: it could cause, not read, an answer."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _refused(error: MeshError, *, page: bool) -> Response:
    response = failure(error, error.field)
    response.headers["cache-control"] = "no-store"
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        # A browser asks its user for name and password, and shows them with all that the page asks for.
        response.headers["www-authenticate"] = (
            'Basic realm="voicemesh: any name, and a key as password", charset="UTF-8"'
            if page
            else 'Bearer realm="voicemesh"'
        )
    return response
