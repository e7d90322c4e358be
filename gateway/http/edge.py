"""The HTTP edge: speech as OpenAI's clients ask for it, and health for load balancers.

GET  /                  what answers here; a browser on this machine is sent to the live page
GET  /live              the live page (gateway/live/api.py)
POST /v1/audio/speech   text in, audio out while it is made
GET  /v1/voices         what can speak
GET  /healthz           200 while the gateway is SERVING, else 503
GET  /metrics           the gateway's metrics, for Prometheus
"""

import asyncio
import contextlib
import pathlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any, Final, cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.access.guard import Access
from gateway.access.web import WebGuard
from gateway.http.connections import Connections, GuardedConnection, HttpLimits
from gateway.http.errors import unrouted
from gateway.http.metrics import MetricsPage
from gateway.http.speech import Speech
from gateway.live.api import PATH, LivePage
from gateway.turns import Turns
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.metrics import Metrics
from voicemesh.runtime.server import Readiness
from voicemesh.runtime.sessions import SessionRegistry

_LIMITS: Final = HttpLimits()
_CLOSE_S: Final = 1.0
_PAGE_S: Final = 0.5
"""How long the streams of the live page may take to end by themselves."""
_ENDPOINTS: Final = {
    "POST /v1/audio/speech": "text in, audio out while it is made; as OpenAI's clients ask for it",
    "GET /v1/voices": "what can speak",
    "GET /healthz": "200 while turns can be taken, else 503",
}
_METRICS: Final = {"GET /metrics": "the gateway's metrics for Prometheus, at its own address, too"}
_LIVE: Final = {
    "GET /live": "turns as they happen, for browsers on this machine; see VOICEMESH_GATEWAY_LIVE_PAGE",
}


def version() -> str:
    """Return the version of the installed package; "" in a checkout that was never installed."""
    try:
        return metadata.version("voicemesh")
    except metadata.PackageNotFoundError:
        return ""


class HttpEdge:
    """Serves HTTP beside gRPC, in the same process and event loop.

    Args:
        turns: Begins turns.
        sessions: Holds their tasks.
        readiness: Whether the gateway can work.
        listen: Where to listen.
        fail: Is told when it no longer answers although nobody has stopped it, and why.
        metrics: What is measured.
        page: The live page; None where there is none.
        access: Lets callers in; None: nobody is asked for a key.
        limits: What connections may take.
        tls: Gives that with which the next connection speaks TLS; None: plain text.

    """

    def __init__(
        self,
        turns: Turns,
        sessions: SessionRegistry,
        readiness: Readiness,
        listen: str,
        fail: Callable[[str, BaseException | None], None],
        metrics: Metrics | None = None,
        page: LivePage | None = None,
        access: Access | None = None,
        limits: HttpLimits = _LIMITS,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._fail = fail
        self._turns = turns
        self._speech = Speech(turns, sessions)
        self._readiness = readiness
        self._page = page
        self._metrics = metrics or Metrics.off()
        self._socket = _bind(listen)
        self._path = listen.removeprefix("unix:") if listen.startswith("unix:") else ""
        guard = WebGuard(access)
        self.routes = [
            guard.guarded(route)
            for route in (
                Route("/", self._index),
                Route("/v1/audio/speech", self._speech.answer, methods=["POST"]),
                Route("/v1/voices", self._voices),
                Route("/healthz", self._health),
                Route("/metrics", MetricsPage(self._metrics).answer),
                *(page.routes if page is not None else ()),
            )
        ]
        self._connections = Connections(limits)
        config = uvicorn.Config(
            Starlette(routes=self.routes, exception_handlers={HTTPException: unrouted}),
            # A class is what its type asks for; all that is done with it is to call it.
            http=cast(
                "type[asyncio.Protocol]",
                partial(GuardedConnection, connections=self._connections, tls=tls),
            ),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
        )
        config.load()
        self._server = _Server(config, self._connections)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Answer from now on."""
        serving = self._server.serve(sockets=[self._socket])
        self._task = asyncio.get_running_loop().create_task(serving, name="http")
        self._task.add_done_callback(self._served)

    def _served(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (task.exception() is not None or not self._server.should_exit):
            self._fail("HTTP is no longer answered", task.exception())

    async def drain(self) -> None:
        """Take no more requests, and wait until the responses that are under way have ended."""
        self._server.should_exit = True
        if self._task is None:
            return
        # Streams of the live page end with its feed. One whose reader does not read would not: nobody who
        # waits for speech is to wait for it, nor the process.
        await asyncio.wait({self._task}, timeout=_PAGE_S)
        self._server.abort(PATH)
        await asyncio.wait({self._task})

    async def close(self) -> None:
        """End at once, and remove what was bound."""
        self._server.should_exit = self._server.force_exit = True
        self._speech.abandon()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CLOSE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._connections.end()
        self._connections.tell()
        self._socket.close()
        if self._path:
            pathlib.Path(self._path).unlink(missing_ok=True)  # noqa: ASYNC240 - the last act of the process

    # ------------------------------------------------------------ routes

    async def _index(self, request: Request) -> Response:
        headers = {"vary": "accept"}
        if self._page is not None and _wants_page(request) and self._page.admits(request):
            return RedirectResponse(PATH, 303, headers)
        endpoints = {
            **_ENDPOINTS,
            **(_METRICS if self._metrics.scraping is not None else {}),
            **(_LIVE if self._page is not None else {}),
        }
        return JSONResponse(
            {"name": "voicemesh", "version": version(), "endpoints": endpoints}, headers=headers
        )

    async def _health(self, _request: Request) -> Response:
        serving = self._readiness.serving
        status = "serving" if serving else "not serving"
        # Flags that are broken are no reason to send callers elsewhere.
        flags = {"flags": state} if (state := self._turns.flags.state) is not None else {}
        return JSONResponse({"status": status, **flags}, status_code=200 if serving else 503)

    async def _voices(self, _request: Request) -> Response:
        voices = [
            {"name": voice.name, "language": voice.language, "default": voice.is_default}
            for voice in self._turns.peers.list_voices("", include_not_ready=False)
        ]
        return JSONResponse({"voices": voices})


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: `run()` has those. It waits for nobody who has asked nothing.

    Args:
        config: As uvicorn's.
        guarded: What its connections may take.

    """

    def __init__(self, config: uvicorn.Config, guarded: Connections) -> None:
        super().__init__(config)
        self._guarded = guarded

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close connections on which nothing is answered, and wait for the others.

        uvicorn closes those that it knows, once. One that was taken in and is told of later, or whose
        handshake ends later, would stay, and be answered as often as it asks.
        """
        self._guarded.end()
        for connection in tuple(self.server_state.connections):
            cast("GuardedConnection", connection).hurry()
        await super().shutdown(sockets)

    def capture_signals(self) -> Any:
        """Leave the signals alone."""
        return contextlib.nullcontext()

    def abort(self, path: str) -> None:
        """Cut the connections on which something below `path` is being answered."""
        for connection in tuple(self.server_state.connections):
            scope = getattr(connection, "scope", None) or {}
            asked = scope.get("path", "")
            if asked == path or asked.startswith(f"{path}/"):
                connection.transport.abort()


def _wants_page(request: Request) -> bool:
    """Say whether a person asks: browsers name HTML, and programs that take anything do not."""
    return "text/html" in request.headers.get("accept", "")


def _bind(listen: str) -> socket.socket:
    """Bind before anything runs, so that an address in use is told as such.

    Raises:
        SettingsError: The address cannot be bound.

    """
    try:
        if listen.startswith("unix:"):
            bound = socket.socket(socket.AF_UNIX)
            _remove_stale(listen.removeprefix("unix:"))
            bound.bind(listen.removeprefix("unix:"))
        else:
            host, _, port = listen.rpartition(":")
            bound = socket.create_server((host.strip("[]"), int(port)), family=_family(host))
    except OSError as error:
        raise SettingsError(
            f"VOICEMESH_HTTP_LISTEN: cannot listen on {listen}: {error.strerror}. Stop what uses it, choose "
            "another address, or set VOICEMESH_HTTP_ENABLED=false."
        ) from None
    bound.setblocking(False)
    return bound


def _remove_stale(path: str) -> None:
    """Remove the socket that a gateway which was killed has left: nobody answers there any more."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pathlib.Path(path).unlink(missing_ok=True)
        except OSError:
            return


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
