"""What gRPC's C core writes to standard error by itself: errors alone, unless somebody asks for more.

It tells there of every connection that a peer gave up, as one does to a process that stood still for half a
second. That is in the log already, as a line of who gave it up, and this is no line of a log: it is no JSON.
gRPC reads the variable when it is imported, so the packages that are run import this before anything else.
"""

import os
from typing import Final

VARIABLE: Final = "GRPC_VERBOSITY"


def quieten() -> None:
    """Have errors alone written, unless the environment asks for more. Call it before gRPC is imported."""
    if not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = "ERROR"
