"""`python -m services.cache`: the cache service in a process of its own."""

import sys

from services.cache.hosted import build
from services.cache.servicer import FULL_NAME
from services.cache.settings import CacheSettings
from voicemesh.runtime.server import run


def main() -> int:
    """Run the service; return the exit status of the process."""
    return run(
        "cache",
        FULL_NAME,
        CacheSettings,
        lambda settings: settings.cache_listen,
        build,
        lambda settings: settings.cache_metrics_listen,
    )


if __name__ == "__main__":
    sys.exit(main())
