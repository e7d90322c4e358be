"""`python -m services.chunker`: the chunker service in its own process."""

import sys

from services.chunker.hosted import HostedChunker
from services.chunker.metrics import ChunkerMetrics
from services.chunker.servicer import FULL_NAME, ChunkerServicer
from services.chunker.settings import ChunkerSettings
from voicemesh.runtime.server import Runtime, run


def build(settings: ChunkerSettings, runtime: Runtime) -> HostedChunker:
    """Make the service."""
    servicer = ChunkerServicer(
        settings.limits(),
        runtime.clock,
        runtime.sessions,
        runtime.telemetry,
        ChunkerMetrics(runtime.metrics),
    )
    return HostedChunker(servicer, runtime)


if __name__ == "__main__":
    sys.exit(
        run(
            "chunker",
            FULL_NAME,
            ChunkerSettings,
            lambda settings: settings.chunker_listen,
            build,
            lambda settings: settings.chunker_metrics_listen,
        )
    )
