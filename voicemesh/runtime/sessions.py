"""Work that outlives the RPC handler that began it.

When a peer cancels a bidirectional call, or the server's grace expires, grpc.aio cancels the
handler, and the first `await` in its `finally` is cancelled again; `Server.stop()` returns before
it ends. So the tasks of a call belong to a session outside of it: the handler's `finally` makes one
synchronous `Session.cancel()`, and `run()` awaits the registry after `stop()`.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from voicemesh.runtime.errors import MeshError
from voicemesh.runtime.logs import get_logger

_log = get_logger(__name__)


class Session:
    """The tasks of one call. Made by `SessionRegistry.open`."""

    def __init__(self, registry: "SessionRegistry") -> None:
        self._registry = registry
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancelled = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` as a task of this session; cancelled at once if the session was.

        A failure is logged, whoever else awaits the task: with its traceback unless a `MeshError`.
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        self._registry.add(task)
        task.add_done_callback(self._done)
        if self._cancelled:
            task.cancel()
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, MeshError):
                _log.warning("task failed", task=task.get_name(), reason=error.reason, error=error.message)
            else:
                _log.error("task failed", task=task.get_name(), exc_info=error)

    def cancel(self) -> None:
        """Ask every task to end, those of now and those to come; does not wait."""
        self._cancelled = True
        for task in tuple(self._tasks):
            task.cancel()


class SessionRegistry:
    """All tasks of all sessions of a process."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self) -> Session:
        """Begin a session."""
        return Session(self)

    def add(self, task: asyncio.Task[Any]) -> None:
        """Keep `task` until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def __len__(self) -> int:
        """Number of tasks that are not done."""
        return len(self._tasks)

    async def join(self, timeout_s: float) -> None:
        """Wait for all tasks, also those that they begin; after `timeout_s` seconds cancel what is left.

        Tasks that do not end within as long again after that are named in the log and left behind.
        """
        await self._wait(timeout_s)
        for task in self._tasks:
            task.cancel()
        await self._wait(timeout_s)
        if self._tasks:
            _log.error("tasks do not end", tasks=sorted(task.get_name() for task in self._tasks))

    async def _wait(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._tasks and (left_s := deadline - loop.time()) > 0:
            await asyncio.wait(tuple(self._tasks), timeout=left_s)
