"""Who may look: by default only a browser on this machine.

A page on another site can have the browser ask a server on this machine. What keeps it out is the `Host`
header: a name that was made to point to 127.0.0.1 (DNS rebinding) is not one of ours.
"""

from collections.abc import Container, Mapping
from typing import Final, Literal

from starlette.requests import Request

from gateway.access.local import is_address, is_local_name, is_loopback, name_of
from voicemesh.tenant import HTTP_HEADER

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Sent with everything of the page."""
_PROXY: Final = ("forwarded", "x-forwarded-for", "x-real-ip")


def refusal(
    request: Request,
    mode: Literal["local", "open"],
    *,
    page: bool,
    hosts: Container[str] | None = None,
) -> str:
    """Return why a request is refused; "" where it is not.

    Args:
        request: The request.
        mode: `local`: only from this machine. `open`: from everywhere.
        page: True for what a person opens, to which other sites may link.
        hosts: Names under which it may be asked for, beside addresses and this machine's own; None: any, for
            who asks has shown a key.

    """
    if mode == "local" and not _is_local(request):
        return (
            "the live page is for browsers on the gateway's own machine, under the name localhost or a "
            "loopback address, without a proxy; VOICEMESH_GATEWAY_LIVE_PAGE=open shows it to everybody "
            "who reaches this port"
        )
    if hosts is not None and not _is_ours(request.headers.get("host", ""), hosts):
        return (
            "this name may have been made to point here by another site; ask for the page by the gateway's "
            "address, or list the name in VOICEMESH_GATEWAY_LIVE_HOSTS"
        )
    headers = request.headers
    if HTTP_HEADER in headers:
        return f"the live page shows the turns of every tenant: it is not for callers with {HTTP_HEADER}"
    if not page and _is_foreign(headers):
        return "another site's page must not ask for this"
    return ""


def _is_local(request: Request) -> bool:
    if any(name in request.headers for name in _PROXY):
        return False  # whoever asks is somewhere else
    hosts = request.headers.getlist("host")
    # A unix socket has no address: its file's mode says who may.
    from_here = request.client is None or not request.client.host or is_loopback(request.client.host)
    return from_here and len(hosts) == 1 and is_local_name(hosts[0])


def _is_ours(host: str, hosts: Container[str]) -> bool:
    name = name_of(host)
    return is_local_name(host) or is_address(name) or name in hosts


def _is_foreign(headers: Mapping[str, str]) -> bool:
    """Say whether a browser says that a page of another site asks."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
