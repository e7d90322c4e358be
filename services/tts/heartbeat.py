"""The heartbeat of a worker: that its process runs, and what memory it holds.

It comes from a thread of its own, so a worker that is stopped, swapped out or held by native code
that keeps the interpreter is told apart from one that has nothing to do.

Workers import this module: standard library only.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from services.tts import wire

INTERVAL_S: Final = 1.0

_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Return the memory that this process holds, in bytes; 0 where the system does not tell (Linux does)."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def device_bytes() -> int:
    """Return what PyTorch holds of its CUDA devices, in bytes; 0 where this process uses none.

    That is what its allocator has reserved. The driver's own context, some hundred MB a process, is
    the same for every worker and not in it.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    # While torch is being imported its parts come one by one.
    is_initialized = getattr(cuda, "is_initialized", None)
    if cuda is None or is_initialized is None or not is_initialized():
        return 0
    return sum(int(cuda.memory_reserved(device)) for device in range(cuda.device_count()))


def start(send: Callable[[bytes], None], figures: Callable[[], Mapping[str, Any]]) -> None:
    """Send a heartbeat now, and one about every second until the process ends.

    `figures` tells what else is known, as JSON types by name; it is called in the heartbeat's thread.
    """

    def beat_forever() -> None:
        while True:
            send(wire.heartbeat_message(wire.Heartbeat(resident_bytes(), device_bytes(), dict(figures()))))
            time.sleep(INTERVAL_S)  # a thread of its own: nothing else waits

    threading.Thread(target=beat_forever, name="heartbeat", daemon=True).start()
