"""`voicemesh digest`: what the declaration of a voice has as `digests`."""

import json
from pathlib import Path

from voicemesh.cli.exits import DONE, usage
from voicemesh.digests import digest_of, files_in


def run_digest(path: Path) -> int:
    """Print the digests of a model's files as JSON; return the exit status."""
    try:
        digests = {name: digest_of(file) for name, file in files_in(path)}
    except OSError as error:
        raise usage(f"{path}: {error.strerror or error}") from None
    print(json.dumps({"digests": digests}, indent=2))
    return DONE
