"""What gRPC's C core is told by variables. It reads them when it is imported.

So the packages that are run as processes of the mesh call this ahead of all other imports. Of the programs
that use the client library nothing is changed, and what the environment says already stays.
"""

import importlib.metadata
import os
from typing import Final

EXPERIMENTS: Final = "GRPC_EXPERIMENTS"
VERBOSITY: Final = "GRPC_VERBOSITY"
POLLED: Final = "-event_engine_client,-event_engine_listener"
"""Leaves the sockets of both ends to the thread that waits for their messages."""
_GONE_IN: Final = (1, 86)
"""The first release that may not have it any more: upstream is taking the older way out."""


def read_sockets_where_waited() -> None:
    """Have the thread that asyncio is woken by read the sockets, where the installed grpcio can.

    Since 1.80 threads of the core's EventEngine read them and hand each message on: a thread more to wake for
    each, which is most of what a message costs between processes that are mostly idle. See ADR 64.
    """
    if not os.environ.get(EXPERIMENTS) and _installed() < _GONE_IN:
        os.environ[EXPERIMENTS] = POLLED


def tell_errors_alone() -> None:
    """Have the core write errors alone to standard error, unless somebody asks for more.

    It tells there of every connection that a peer gave up, as one does to a process that stood still for half
    a second. That is in the log already, as a line of who gave it up, and this is no line of a log: it is no
    JSON.
    """
    if not os.environ.get(VERBOSITY):
        os.environ[VERBOSITY] = "ERROR"


def _installed() -> tuple[int, int]:
    try:
        major, minor, *_ = importlib.metadata.version("grpcio").split(".")
    except importlib.metadata.PackageNotFoundError:  # nobody can say what it knows
        return _GONE_IN
    return int(major), int(minor)
