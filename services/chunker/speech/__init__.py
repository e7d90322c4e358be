"""Turns written text into what should be said, piece by piece, with offsets back to the original."""

from services.chunker.speech.filter import SpeechText
from services.chunker.speech.inline import SPECIAL_CLASS
from services.chunker.speech.spoken import Spoken

__all__ = ["SPECIAL_CLASS", "SpeechText", "Spoken"]
