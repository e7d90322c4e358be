"""Meshes that are measured: their voices, the settings of each, and what they are asked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from voicemesh.capacity.profile import CPU, TIMERS

TOKENS: Final = 28
"""Of a reply: one or two sentences, as a voice assistant says them."""
TTFT_MS: Final = 80
TOKENS_PER_S: Final = 100
"""Of the model: a small one nearby."""
QUESTIONS: Final = (
    "What is a lighthouse for?",
    "Why is the sky blue at noon and red in the evening?",
    "How do bees find their way home?",
    "Tell me about the tides.",
    "Who was first at the South Pole, and how did he get there?",
    "What does a compiler do?",
    "Why do harbours silt up?",
    "How is paper made?",
    "What makes bread rise?",
    "Can you explain recursion to a child?",
    "When do swallows leave for the south?",
    "What is the difference between weather and climate?",
)


@dataclass(frozen=True)
class Scenario:
    """A mesh to measure."""

    name: str
    voices: list[dict[str, Any]]
    kind: str
    """Of `voicemesh.capacity.profile.KINDS`."""
    device: str
    full: int
    """Callers that fill it."""
    environment: Mapping[str, str]
    slots: int
    """Chunks that one replica speaks at once."""

    @property
    def voice(self) -> dict[str, Any]:
        """The only voice."""
        return self.voices[0]


def scenario(name: str) -> Scenario:
    """Return one by its name."""
    environment = {
        **_QUIET,
        "VOICEMESH_LLM_MAX_TOKENS": str(TOKENS),
        "VOICEMESH_REHEARSAL_TTFT_MS": str(TTFT_MS),
        "VOICEMESH_REHEARSAL_TOKENS_PER_S": str(TOKENS_PER_S),
    }
    if name == "waits":
        options = {"first_frame_ms": 150, "rtf": 0.15, "slots": 3, "char_ms": 55}
        voice: dict[str, Any] = {"name": "simulated", "engine": "simulated", "options": options}
        return Scenario(name, [voice], TIMERS, "timers that stand for a device", 16, environment, 3)
    voice = {"name": "espeak", "engine": "espeak", "replicas": 2}
    return Scenario(name, [voice], CPU, "the CPU", 24, environment, 1)


def declared(path: Path, kind: str, device: str, full: int, slots: int) -> Scenario:
    """Return that of voices of one's own, with the settings of the environment."""
    voices = json.loads(path.read_text(encoding="utf-8"))
    return Scenario(voices[0]["name"], voices, kind, device, full, _QUIET, slots)


_QUIET: Final = {"VOICEMESH_LOG_LEVEL": "error", "VOICEMESH_GATEWAY_MIN_TURNS": "256"}
