"""`voicemesh chunk`: hands over to the chunker's own tool, which lives with the servers."""

import os
import subprocess
import sys
from collections.abc import Sequence

from voicemesh.cli.checkout import find_checkout
from voicemesh.cli.exits import STOPPED


def run_chunk(arguments: Sequence[str]) -> int:
    """Run `services.chunker.cut` with the same arguments and standard input; return its exit status."""
    root = find_checkout()
    # The path rather than the folder, so that relative names among the arguments keep their meaning.
    path = os.pathsep.join(part for part in (str(root), os.environ.get("PYTHONPATH", "")) if part)
    command = [sys.executable, "-m", "services.chunker.cut", *arguments]
    try:
        status = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode
    except KeyboardInterrupt:
        return STOPPED
    return 128 - status if status < 0 else status
