"""`python -m gateway`: the edge of the mesh."""

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from typing import Any, Final

import grpc

from gateway import encoding, instruments
from gateway.access.guard import Access
from gateway.access.interceptor import AccessInterceptor
from gateway.admission.metrics import observe_door
from gateway.flags import open_flags
from gateway.http.connections import HttpLimits
from gateway.http.edge import HttpEdge, version
from gateway.live.api import LivePage
from gateway.live.live import Live
from gateway.peers import Peers
from gateway.recorder import Recorder
from gateway.servicer import GatewayServicer
from gateway.settings import GatewaySettings
from gateway.streams import Streams
from gateway.turns import Turns
from gateway.warming import WarmFile
from voicemesh.gateway.v1.gateway_pb2_grpc import add_GatewayServiceServicer_to_server
from voicemesh.runtime.breaker_metrics import observe_breakers
from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.server import Hosted, Runtime, run

_HANDSHAKE_MS: Final = 10_000
_ACQUAINTED_S: Final = 5.0
"""How long a gateway that starts waits for its services before it takes turns without them."""


class Gateway(Hosted):
    """Puts the gateway together."""

    def __init__(self, settings: GatewaySettings, runtime: Runtime) -> None:
        self._peers = Peers(settings, runtime.readiness, runtime.clock, runtime.metrics, runtime.tls)
        self._flags = open_flags(settings, runtime.clock)
        observe_breakers(
            runtime.metrics,
            lambda: [
                ("cache", self._peers.lookups.breaker.state),
                ("cache.history", self._peers.histories.breaker.state),
                ("flags", self._flags.breaker.state),
            ],
        )
        self._access = Access(settings, runtime.clock, runtime.metrics)
        self._settings = settings
        self._readiness = runtime.readiness
        recorder = Recorder(settings, runtime.telemetry, metrics=runtime.metrics)
        self._live: Live | None = None
        page: LivePage | None = None
        if settings.http_enabled and settings.gateway_live_page != "off":
            self._live = Live(settings, recorder.record, self._peers, runtime.clock, version())
            # Where a key is asked for, another site's page cannot show one.
            hosts = None if self._access.on else settings.gateway_live_hosts
            page = LivePage(self._live, settings.gateway_live_page, hosts)
        self._turns = Turns(
            settings,
            self._peers,
            recorder,
            runtime.telemetry,
            runtime.clock,
            self._flags,
            self._live.overhear if self._live is not None else None,
        )
        runtime.metrics.observe(instruments.ACTIVE, lambda: [(len(self._turns), {})])
        observe_door(runtime.metrics, self._turns.door)
        self._streams = Streams(settings, runtime.clock)
        self._servicer = GatewayServicer(self._turns, recorder, runtime.sessions, self._streams)
        self._warm_file = WarmFile(settings, self._turns, runtime.sessions)
        self._watching: asyncio.Task[None] | None = None
        self._http: HttpEdge | None = None
        if settings.http_enabled:
            context = runtime.tls.http_context(settings.gateway_tls_min)
            if context is None:
                runtime.tls.warn_of_plain_text(settings.http_listen, "VOICEMESH_HTTP_LISTEN")
            self._http = HttpEdge(
                self._turns,
                runtime.sessions,
                runtime.readiness,
                settings.http_listen,
                runtime.fail,
                metrics=runtime.metrics,
                page=page,
                access=self._access,
                limits=HttpLimits(
                    settings.http_max_connections,
                    settings.http_max_address_connections,
                    settings.http_request_s,
                    settings.gateway_slow_reader_s,
                ),
                tls=context,
            )

    @property
    def interceptors(self) -> Sequence[Any]:
        """Ask callers who they are, where that is wanted."""
        return (AccessInterceptor(self._access),) if self._access.on else ()

    @property
    def server_options(self) -> Sequence[tuple[str, Any]]:
        """Limit what strangers can hold open."""
        return (
            ("grpc.max_allowed_incoming_connections", self._settings.gateway_max_connections),
            ("grpc.max_concurrent_streams", self._settings.gateway_max_connection_streams),
            # A connection that does not even speak HTTP/2; the default is two minutes.
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        )

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer."""
        add_GatewayServiceServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Watch the services; ready when they are, and when encoders are loaded.

        Turns are accepted from then on. Where services do not come they are accepted all the same, a little
        later: a gateway says better what is wrong than nobody.
        """
        encoding.load()
        self._peers.start()
        self._access.start()
        self._watching = asyncio.get_running_loop().create_task(self._streams.watch(), name="watch streams")
        self._flags.start()
        self._warm_file.start()
        if self._live is not None:
            self._live.start()
        if self._http is not None:
            self._http.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ACQUAINTED_S):
                while not self._readiness.serving:
                    await self._readiness.changed()

    async def drain(self) -> None:
        """Refuse new turns; streams end behind the turn that runs on them."""
        self._turns.draining.set()
        self._warm_file.stop()
        if self._live is not None:
            self._live.drain()
        if self._http is not None:
            await self._http.drain()

    def cut(self, error: MeshError) -> None:
        """Fail the turns that still run."""
        self._turns.cut(error)

    async def close(self) -> None:
        """Close the HTTP edge and the channels."""
        if self._http is not None:
            await self._http.close()
        if self._live is not None:
            await self._live.close()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._access.close()
        await self._flags.close()
        await self._peers.close()


def main() -> int:
    """Run the gateway until it is told to stop."""
    return run(
        "gateway",
        "voicemesh.gateway.v1.GatewayService",
        GatewaySettings,
        lambda settings: settings.gateway_listen,
        Gateway,
        lambda settings: settings.gateway_metrics_listen,
    )


if __name__ == "__main__":
    sys.exit(main())
