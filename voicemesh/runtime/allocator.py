"""glibc's allocator: few heaps, so that what one thread freed is there for the others.

For threads that allocate at the same time glibc makes further heaps ("arenas"), up to eight for each core,
and what is free in one is of no use to another. gRPC has some ten threads, which mostly wait for one another
or for Python. Each heap comes to be as large as the worst moment of its threads, and the process as large as
the sum of these: it grows for hours while what it holds does not.
"""

import ctypes
import os
import sys
from typing import Final

_M_ARENA_MAX: Final = -8
"""Of `malloc.h`."""
_ARENAS: Final = 2
_ASKED_OTHERWISE: Final = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def keep_few_heaps() -> None:
    """Have at most two heaps, unless the environment says how many. To be called before threads begin.

    Where the C library is another one, nothing is done.
    """
    if sys.platform != "linux" or any(os.environ.get(name) for name in _ASKED_OTHERWISE):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
