"""Why a turn that may have only what is cached ends where that is not."""

from typing import Final

from voicemesh.runtime.errors import OverloadedError

_RETRY_MS: Final = 1_000


def not_cached() -> OverloadedError:
    """Return what such a turn fails with."""
    return OverloadedError(
        "the mesh can take no more turns now but for those whose reply is cached, and this one is not",
        limit="cache",
        retry_after_ms=_RETRY_MS,
    )
