"""Refuses calls inside the mesh that the table in `voicemesh.runtime.permissions` does not have.

The names in the caller's certificate stand for a role; the role may call the method, and the handler is
called, or it may not, and the call ends with PERMISSION_DENIED.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from voicemesh.runtime.instruments import Instrument, Kind
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.metrics import Metrics
from voicemesh.runtime.permissions import HEALTH, ROLES, Identities, callers_of

DENIED: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.tls.denied",
    unit="{call}",
    description="Calls refused because the caller's certificate does not allow them.",
    labels={"voicemesh.tls.caller": ROLES},
)
_NAMES: Final = ("peer_uri", "peer_dns")
_MOST_SAID: Final = 256
_SHOWN_CHARS: Final = 200

_log = get_logger(__name__)


class PermissionInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in stubs only
    """Holds the calls of a server to the table. Health is open: whoever got this far has a certificate.

    Args:
        identities: Which role a certificate stands for.
        metrics: Counts what is refused.

    """

    def __init__(self, identities: Identities, metrics: Metrics) -> None:
        self._identities = identities
        self._denied = metrics.counter(DENIED)
        self._said: set[tuple[str, str]] = set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call (`grpc.RpcMethodHandler`)."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method.removeprefix("/")
        if handler is None or method.startswith(HEALTH):
            return handler
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        behaviour = self._held(getattr(handler, kind), method)
        return make(behaviour, handler.request_deserializer, handler.response_serializer)

    def _held(
        self, behaviour: Callable[[Any, Any], Any], method: str
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        allowed = callers_of(method)

        async def held(request: Any, context: Any) -> Any:
            names = _names_of(context)
            role = self._identities.role(names)
            if role not in allowed:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, self._refusal(names, role, method))
            if not inspect.isasyncgenfunction(behaviour):
                return await behaviour(request, context)
            async for response in behaviour(request, context):  # reflection, which is gRPC's own
                await context.write(response)
            return None

        return held

    def _refusal(self, names: tuple[str, ...], role: str, method: str) -> str:
        who = ", ".join(names)[:_SHOWN_CHARS] or "a caller whose certificate names nobody"
        allowed = callers_of(method)
        whose = f"it is for {' and '.join(allowed)}" if allowed else "nobody may"
        text = f"{who} may not call {method}: {whose}"
        self._denied.add(1, {"voicemesh.tls.caller": role or "other"})
        if (who, method) not in self._said and len(self._said) < _MOST_SAID:
            self._said.add((who, method))
            _log.warning("call refused", caller=who, role=role or "none", method=method, allowed=allowed)
        return text


def _names_of(context: Any) -> tuple[str, ...]:
    told = context.auth_context()
    return tuple(name.decode(errors="replace") for key in _NAMES for name in told.get(key, ()))
