"""Callers over gRPC are let in, or refused before a byte of their messages is read."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from grpc_status import rpc_status

from gateway.access.caller import CURRENT
from gateway.access.guard import Access
from gateway.access.table import METHODS
from voicemesh.runtime.errors import MeshError, PermissionDeniedError
from voicemesh.runtime.status import to_status
from voicemesh.runtime.streams import one_more_said
from voicemesh.tenant import METADATA_KEY

_STREAMS: Final = frozenset({"/voicemesh.gateway.v1.GatewayService/Converse"})


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in stubs only
    """Lets calls through that may be made; `CURRENT` says to what is behind it who makes them."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the handler of a call (`grpc.RpcMethodHandler`), or one that refuses it."""
        method = handler_call_details.method
        metadata: Any = handler_call_details.invocation_metadata or ()
        try:
            needs = METHODS.get(method)
            if needs is None:
                # What there is not is UNIMPLEMENTED; what there is, and nobody thought of, is nobody's.
                handler = await continuation(handler_call_details)
                return handler if handler is None else _refusing(PermissionDeniedError("nobody may do this"))
            caller = await self._access.admit(
                needs,
                [value for key, value in metadata if key == "authorization"],
                [value for key, value in metadata if key == METADATA_KEY],
                METADATA_KEY,
            )
        except MeshError as error:
            return _refusing(error, streams=method in _STREAMS)
        # The handler runs in this task, too.
        CURRENT.set(caller)
        return await continuation(handler_call_details)


def _refusing(error: MeshError, *, streams: bool = False) -> Any:
    async def refuse(requests: Any, context: Any) -> None:
        if streams:
            await one_more_said(requests)
        await context.abort_with_status(rpc_status.to_status(to_status(error)))

    # Whatever the method is: gRPC reads the message of a unary call before it asks its handler anything.
    return grpc.stream_stream_rpc_method_handler(refuse)
