"""The status that a call really ended with, whatever grpc.aio says.

Where a message is sent to a call that has just ended, the send fails, and grpc.aio 1.85 puts INTERNAL,
"Internal error from Core", in place of the status that had come (https://github.com/grpc/grpc/issues/36066):

    status comes ──> done callbacks are told ──> a send fails ──> INTERNAL ──> who reads the call sees that
                             │
                             └── kept here
"""

from collections.abc import Coroutine
from typing import Any, Final

import grpc

_REPLACED: Final = "Internal error from Core"


class CallEnd:
    """Keeps the status of one call. Make it right behind the call, before anything is awaited.

    Args:
        call: A call of grpc.aio that sends a stream.

    """

    def __init__(self, call: Any) -> None:
        self._kept: grpc.aio.AioRpcError | None = None
        self._known = False
        call.add_done_callback(self._keep)

    def why(self, failure: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError | None:
        """Return what stands behind a failure that the call has raised; None where it ended with OK."""
        return self._kept if self._known and is_replaced(failure) else failure

    def _keep(self, call: Any) -> None:
        code = _at_once(call.code())
        if self._known or code is None:
            return
        self._known = True
        if code is not grpc.StatusCode.OK:
            self._kept = grpc.aio.AioRpcError(
                code,
                _at_once(call.initial_metadata()) or grpc.aio.Metadata(),
                _at_once(call.trailing_metadata()) or grpc.aio.Metadata(),
                details=_at_once(call.details()),
                debug_error_string=None,
            )


def is_replaced(failure: grpc.aio.AioRpcError) -> bool:
    """Return whether a failure is what grpc.aio puts in a status's place."""
    return failure.code() is grpc.StatusCode.INTERNAL and failure.details() == _REPLACED


def _at_once(answer: Coroutine[Any, Any, Any]) -> Any:
    """Return what a call that has ended answers without waiting; None where it would wait."""
    try:
        answer.send(None)
    except StopIteration as ended:
        return ended.value
    answer.close()
    return None
