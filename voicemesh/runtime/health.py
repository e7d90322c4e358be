"""`grpc.health.v1`: SERVING only while a service can really work.

grpcio-health-checking has a servicer too, but its `Watch` never ends, so that one watching peer
holds a drain up for the whole grace, and its `set` waits for watchers that do not read.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from voicemesh.runtime.logs import get_logger

NAME: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
ACCEPTS: Final = "voicemesh.accepts"
"""Name under which a process says whether calls may be sent to it: from the end of its start to its drain.

Channels of the mesh watch it (`voicemesh.runtime.channels`). It is not the same as to be ready: a process
that lost one voice of ten, or cannot reach its provider, is to be asked, and says itself what is wrong.
"""
ALIVE: Final = "voicemesh.alive"
"""Name under which a process says that its event loop turns: as long as it answers, also while it drains.

For what restarts a process that hangs. Nothing that the process depends on is in it: a restart would mend
none of that, and would end turns.
"""

_log = get_logger(__name__)
_Status = health_pb2.HealthCheckResponse


class Readiness:
    """What a service says about itself.

    It is NOT_SERVING at first. While draining it stays NOT_SERVING, whatever it is told.

    Attributes:
        names: Those that say whether the service can work.
        serving: Whether the service can work.
        accepting: Whether calls may be sent here.
        draining: Whether the process is about to end.
        ending: Whether nobody is to watch any more.
        watchers: How many channels watch `ACCEPTS`.

    """

    def __init__(self, full_name: str) -> None:
        self.names: Final = ("", full_name)
        self.serving = False
        self.accepting = False
        self.draining = False
        self.ending = False
        self.watchers = 0
        self._changed = asyncio.Event()

    async def set(self, serving: bool, reason: str) -> None:
        """Say that the service can work, or that it cannot, and why."""
        serving = serving and not self.draining
        self.accepting = self.accepting or serving
        if serving != self.serving:
            (_log.info if serving else _log.warning)("serving" if serving else "not serving", reason=reason)
            self.serving = serving
            self._tell()

    def accept(self) -> None:
        """Say that calls may be sent here: the service has started, whether it can work or not."""
        if not self.accepting and not self.draining:
            self.accepting = True
            self._tell()

    async def drain(self) -> None:
        """Say NOT_SERVING from now on. Whoever watches goes on to, until `end`."""
        if not self.draining:
            self.draining = True
            self.accepting = False
            await self.set(False, "draining")
            self._tell()

    def end(self) -> None:
        """End what watches."""
        self.ending = True
        self._tell()

    async def changed(self) -> None:
        """Wait until anything of it changes."""
        await self._changed.wait()

    def _tell(self) -> None:
        # Whoever waits now wakes up; whoever comes later waits for the next change.
        self._changed.set()
        self._changed = asyncio.Event()


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # untyped base
    """Tells peers what a `Readiness` holds."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._names = (*readiness.names, ACCEPTS, ALIVE)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name in the contract
        """Answer with the status now; NOT_FOUND for a name that is not served here."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service[:200]!r} here")
        return _Status(status=self._status(request.service))

    async def List(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the contract's
        """Answer with the status of every name."""
        return health_pb2.HealthListResponse(
            statuses={name: _Status(status=self._status(name)) for name in self._names}
        )

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002, N802 - the contract's
        """Send the status now and after each change, until the process ends.

        A change back before a slow watcher has read the first is not sent: only the last counts.
        """
        told = None
        counts = request.service == ACCEPTS
        self._readiness.watchers += counts
        try:
            while True:
                status = self._status(request.service)
                if status != told:
                    told = status
                    yield _Status(status=status)
                elif self._readiness.ending:
                    return
                else:
                    await self._readiness.changed()
        finally:
            self._readiness.watchers -= counts

    def _status(self, name: str) -> Any:
        if name == ALIVE:
            return _Status.SERVING
        if name == ACCEPTS:
            return _Status.SERVING if self._readiness.accepting else _Status.NOT_SERVING
        if name not in self._readiness.names:
            return _Status.SERVICE_UNKNOWN
        return _Status.SERVING if self._readiness.serving else _Status.NOT_SERVING
