"""The status that a call really ended with, whatever grpc.aio says.

Where a message is sent to a call that has just ended, the send fails, and grpc.aio 1.85 puts INTERNAL,
"Internal error from Core", in place of the status that had come (https://github.com/grpc/grpc/issues/36066):

    status comes ──> done callbacks are told ──> a send fails ──> INTERNAL ──> who reads the call sees that
                             │
                             └── kept here

Where responses lie unread the send fails first, and the status comes when they were read: that is waited for.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import grpc

_REPLACED: Final = "Internal error from Core"
_LOOKS: Final = 50
_LOOK_S: Final = 0.01


class CallEnd:
    """Keeps the status of one call. Make it right behind the call, before anything is awaited.

    Args:
        call: A call of grpc.aio that sends a stream.

    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._kept: grpc.aio.AioRpcError | None = None
        self._known = False
        call.add_done_callback(self._keep)

    async def why(self, failure: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError | None:
        """Return what stands behind a failure that the call has raised; None where it ended with OK.

        Call it once all responses were read. Waits for half a second at most, and that is rare.
        """
        if not is_replaced(failure):
            return failure
        for _ in range(_LOOKS):
            if not self._known:
                self._keep(self._call)
            if self._known:
                return self._kept
            await asyncio.sleep(_LOOK_S)
        return failure

    def _keep(self, call: Any) -> None:
        code = _at_once(call.code())
        details = _at_once(call.details())
        if self._known or code is None or _is_replaced(code, details):
            return
        self._known, self._call = True, None
        if code is not grpc.StatusCode.OK:
            self._kept = grpc.aio.AioRpcError(
                code,
                _at_once(call.initial_metadata()) or grpc.aio.Metadata(),
                _at_once(call.trailing_metadata()) or grpc.aio.Metadata(),
                details=details,
                debug_error_string=None,
            )


def is_replaced(failure: grpc.aio.AioRpcError) -> bool:
    """Return whether a failure is what grpc.aio puts in a status's place."""
    return _is_replaced(failure.code(), failure.details())


def _is_replaced(code: object, details: str | None) -> bool:
    return code is grpc.StatusCode.INTERNAL and details == _REPLACED


def _at_once(answer: Coroutine[Any, Any, Any]) -> Any:
    """Return what a call that has ended answers without waiting; None where it would wait."""
    try:
        answer.send(None)
    except StopIteration as ended:
        return ended.value
    answer.close()
    return None
