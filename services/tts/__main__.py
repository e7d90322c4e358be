"""`python -m services.tts`: runs the TTS service until it is told to stop."""

import sys

from services.tts.hosted import HostedTts
from services.tts.servicer import SERVICE
from services.tts.settings import TtsSettings
from voicemesh.runtime.server import run


def main() -> int:
    """Run; return the exit status."""
    return run(
        "tts",
        SERVICE,
        TtsSettings,
        lambda settings: settings.tts_listen,
        HostedTts,
        lambda settings: settings.tts_metrics_listen,
    )


if __name__ == "__main__":
    sys.exit(main())
