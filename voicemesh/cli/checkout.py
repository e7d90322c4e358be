"""Where the servers are: a checkout of the repository; the installed package has none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from voicemesh.cli.exits import UNREACHABLE, Failure

SERVERS: Final = {
    "cache": "services.cache",
    "llm": "services.llm",
    "chunker": "services.chunker",
    "tts": "services.tts",
    "gateway": "gateway",
}
"""Short name of each process to its module; the gateway last, because it calls the others."""


def candidates() -> tuple[Path, ...]:
    """Return the folders that may be a checkout: that of this package, and the present one."""
    return (Path(__file__).resolve().parents[2], Path.cwd())


def missing_servers(root: Path) -> list[str]:
    """Return the modules of servers that `root` lacks."""
    paths = {module: root.joinpath(*module.split("."), "__main__.py") for module in SERVERS.values()}
    return [module for module, path in paths.items() if not path.is_file()]


def find_checkout(roots: Sequence[Path] | None = None) -> Path:
    """Return the first of `roots` (by default: the candidates) that has every server.

    Raises Failure, which says what is missing.
    """
    roots = candidates() if roots is None else roots
    for root in roots:
        if not missing_servers(root):
            return root
    nearest = min((missing_servers(root) for root in roots), key=len)
    raise Failure(
        UNREACHABLE,
        "NO_SERVERS",
        f"servers run from a checkout or an image, and there is none here (missing: {', '.join(nearest)})",
        "run this inside a checkout of voicemesh, or point --addr at a mesh that is running",
    )
