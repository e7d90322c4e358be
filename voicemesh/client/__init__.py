"""The Python client of voicemesh.

import asyncio
from voicemesh.client import VoiceMesh

async def main() -> None:
    async with VoiceMesh("localhost:50050") as mesh:
        reply = await mesh.ask("What is a mesh?").collect()
        reply.save("reply.wav")
        print(reply.text, f"({reply.report.ttfa_ms:.0f} ms to first audio)")

asyncio.run(main())
"""

from voicemesh.client.chunk_report import ChunkReport, Underrun
from voicemesh.client.conversation import Conversation
from voicemesh.client.errors import VoiceMeshError
from voicemesh.client.events import (
    AudioFormat,
    Chunk,
    Degraded,
    Event,
    Frame,
    SpeakLocally,
    TextDelta,
    TextRun,
    TurnEnded,
    TurnStarted,
    Voice,
    Word,
    Words,
)
from voicemesh.client.files import write_audio
from voicemesh.client.listing import ListedTurn, TurnList
from voicemesh.client.mesh import DEFAULT_ADDRESS, BatchItem, VoiceMesh, WarmItem
from voicemesh.client.options import FLUSH, GenerationOptions, Image, SpeechOptions
from voicemesh.client.report import TurnReport
from voicemesh.client.turn import Recording, Turn
from voicemesh.client.usage import Cost, UsageTotals
from voicemesh.client.wav import write_wav
from voicemesh.tls import Tls

__all__ = [
    "DEFAULT_ADDRESS",
    "FLUSH",
    "AudioFormat",
    "BatchItem",
    "Chunk",
    "ChunkReport",
    "Conversation",
    "Cost",
    "Degraded",
    "Event",
    "Frame",
    "GenerationOptions",
    "Image",
    "ListedTurn",
    "Recording",
    "SpeakLocally",
    "SpeechOptions",
    "TextDelta",
    "TextRun",
    "Tls",
    "Turn",
    "TurnEnded",
    "TurnList",
    "TurnReport",
    "TurnStarted",
    "Underrun",
    "UsageTotals",
    "Voice",
    "VoiceMesh",
    "VoiceMeshError",
    "WarmItem",
    "Word",
    "Words",
    "write_audio",
    "write_wav",
]
