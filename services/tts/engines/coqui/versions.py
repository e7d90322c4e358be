"""The libraries whose versions are heard: what reads the text, and what computes."""

from typing import Final

from services.tts.versions import version_of

LIBRARIES: Final = tuple(version_of(package) for package in ("coqui-tts", "torch", "espeakng-loader"))
