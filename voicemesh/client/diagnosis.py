"""Why a mesh is not reached, where TLS is the reason: gRPC says no more than "Socket closed".

nobody listens ─────────────────────────────────────────── nothing to say
plain client ── TLS handshake ── it answers one ─────────── "it speaks TLS, and …"
TLS client ──── TLS handshake ─┬ not believed ────────────── what OpenSSL says of the certificate
├ the server ends it ───────── it wants a certificate, or another one
└ no TLS at all ── HTTP/2 ──── "it speaks plain text, and …"
"""

import asyncio
import contextlib
import ssl
from typing import Final

from voicemesh.tls import Tls

_WAIT_S: Final = 2.0
_LATE_S: Final = 0.5
"""With TLS 1.3 a server looks at the caller's certificate when the caller has finished already."""
_SETTINGS: Final = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS

SPEAKS_TLS: Final = "it speaks TLS, and the caller does not"
SPEAKS_PLAIN: Final = "it speaks plain text, and the caller TLS"
WANTS_CERTIFICATE: Final = "it asks callers for a certificate, and none was shown"
REFUSES_CERTIFICATE: Final = "it does not believe the caller's certificate"


async def why_not_reached(address: str, tls: Tls | None) -> str:
    """Return what is wrong between a caller and the mesh at `address`; "" where TLS is not the reason.

    Takes up to a few seconds, and never raises.
    """
    try:
        async with asyncio.timeout(_WAIT_S):
            return await (_of_plain_client(address) if tls is None else _of_tls_client(address, tls))
    except (OSError, ValueError, TimeoutError):  # what ssl raises is an OSError, too
        return ""


async def _of_plain_client(address: str) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        await _close(await _open(address, context, "localhost"))
    except ssl.SSLError as error:
        # An alert is TLS. What is no TLS at all is called a wrong version.
        return SPEAKS_TLS if "ALERT" in (error.reason or "") else ""
    return SPEAKS_TLS


async def _of_tls_client(address: str, tls: Tls) -> str:
    context = tls.check()
    context.set_alpn_protocols(["h2"])
    try:
        opened = await _open(address, context, tls.server_name or _host(address))
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not believed: {error.verify_message}"
    except (ssl.SSLError, ConnectionError) as error:
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return REFUSES_CERTIFICATE if tls.cert else WANTS_CERTIFICATE
        return SPEAKS_PLAIN if await _speaks_http2(address) else ""
    try:
        async with asyncio.timeout(_LATE_S):
            opened[1].write(_PREFACE)
            heard = await opened[0].read(9)
    except (ssl.SSLError, ConnectionError):
        heard = b""
    except TimeoutError:
        return ""
    finally:
        await _close(opened)
    if heard:
        return ""
    return REFUSES_CERTIFICATE if tls.cert else WANTS_CERTIFICATE


async def _speaks_http2(address: str) -> bool:
    opened = await _open(address, None, None)
    try:
        opened[1].write(_PREFACE)
        return (await opened[0].readexactly(9))[3] == _SETTINGS[3]
    except asyncio.IncompleteReadError:
        return False
    finally:
        await _close(opened)


async def _open(
    address: str, context: ssl.SSLContext | None, name: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect. Raises ValueError for an address that is none, and OSError."""
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(
            address.removeprefix("unix:"), ssl=context, server_hostname=name if context else None
        )
    port = _bare(address).rpartition(":")[2]
    return await asyncio.open_connection(
        _host(address), int(port), ssl=context, server_hostname=name if context else None
    )


async def _close(opened: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    opened[1].close()
    with contextlib.suppress(OSError):
        await opened[1].wait_closed()


def _bare(address: str) -> str:
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        address = address.removeprefix(scheme)
    return address.rpartition("/")[2]


def _host(address: str) -> str:
    if address.startswith("unix:"):
        return "localhost"
    return _bare(address).rpartition(":")[0].strip("[]")
