"""What comes out of the turn engine. Actions are executed in order, at once, without waiting."""

from dataclasses import dataclass
from typing import Final

from gateway.core.pace import Pace
from gateway.core.report import TurnReport
from gateway.core.values import Chunk, Message, Usage, Word


@dataclass(frozen=True, slots=True)
class LoadHistory:
    """Ask the cache for the session's history."""


@dataclass(frozen=True, slots=True)
class SaveHistory:
    """Write the session's history if it still has `expected_version`; else read, add `added`, try again."""

    messages: tuple[Message, ...]
    added: tuple[Message, ...]
    expected_version: int


@dataclass(frozen=True, slots=True)
class LookUpReply:
    """Ask the cache for the reply to these messages."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class StoreReply:
    """Give the reply to the cache."""

    messages: tuple[Message, ...]
    text: str
    usage: Usage | None
    chunks: tuple[Chunk, ...] = ()
    """How it was cut; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class StartLlm:
    """Ask the LLM; again, behind `said`, where the stream that told this broke off."""

    messages: tuple[Message, ...]
    said: str = ""


@dataclass(frozen=True, slots=True)
class TellPatience:
    """Let the LLM service join its text for so long; 0: forward it at once."""

    join_ms: int


@dataclass(frozen=True, slots=True)
class CancelLlm:
    """End the generation."""


@dataclass(frozen=True, slots=True)
class FeedChunker:
    """Give text to the chunker."""

    text: str


@dataclass(frozen=True, slots=True)
class FlushChunker:
    """Have the chunker give what it holds."""


@dataclass(frozen=True, slots=True)
class EndChunker:
    """Tell the chunker that no more text comes."""


@dataclass(frozen=True, slots=True)
class RestartChunker:
    """Give all of the text to another stream to the chunker, which goes on behind the chunks that came.

    `anew`: it is given only what is behind them, and cuts that as a text of its own.
    """

    text: str
    flushes: tuple[int, ...]
    """Code points of text in front of each `FlushChunker` that there was."""
    chunks: tuple[Chunk, ...]
    anew: bool = False


@dataclass(frozen=True, slots=True)
class TellSlack:
    """Tell the chunker how much the player has left, and what was learned of the voice."""

    left_to_play_ms: int
    """With the rest of the audio of the chunks that are counted, estimated where it is not made yet."""
    chunks_counted: int
    pace: Pace


@dataclass(frozen=True, slots=True)
class LookUpAudio:
    """Ask the cache for the audio of a chunk."""

    index: int
    text: str
    due_ms: int = 0
    """Milliseconds from now in which its first sample is needed."""
    begin_ms: int = 0
    """Milliseconds that an engine takes to begin it at most, as far as is known."""


@dataclass(frozen=True, slots=True)
class AppendAudio:
    """Give the next audio and words of a chunk to the cache, under the lease that was granted."""

    index: int
    audio: bytes
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class SealAudio:
    """Complete the audio of a chunk in the cache, under the lease that was granted."""

    index: int


@dataclass(frozen=True, slots=True)
class ReleaseAudio:
    """Give the lease of a chunk back, or stop asking for its audio: others go on without this turn.

    `foreign`: what is made is not what was asked for, and would not be for them either.
    """

    index: int
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class StoreAudio:
    """Give the audio of a chunk to the cache, for which there was no lease."""

    text: str
    audio: bytes
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Synthesize:
    """Have a chunk spoken. Indexes rise, but for one that goes on with what another turn made."""

    index: int
    text: str
    deadline_ms: int
    start_offset_samples: int = 0
    """Samples of the text's audio that are there already; it is to go on behind them."""
    at_once: bool = False
    """True where others may wait for it: it is to come as it is made, not behind chunks before it."""


@dataclass(frozen=True, slots=True)
class CancelSpeech:
    """End all synthesis of the turn."""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Send `TimerFired` at this time; replaces an earlier timer."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class EmitText:
    """Tell the caller more of the reply's text."""

    text: str


@dataclass(frozen=True, slots=True)
class EmitChunk:
    """Tell the caller about a chunk."""

    chunk: Chunk


@dataclass(frozen=True, slots=True)
class EmitFrame:
    """Send audio to the caller. `first`: answer with `FirstFrameSent` once it is handed over."""

    index: int
    sequence: int
    offset_samples: int
    turn_offset_samples: int
    audio: bytes
    first: bool


@dataclass(frozen=True, slots=True)
class EmitWords:
    """Tell the caller when words are heard."""

    index: int
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class EmitSpeakLocally:
    """Ask the caller to speak."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class EmitDegraded:
    """Tell the caller what was given up: `cache`, `voice`, `model`, `history`, `local_speech`, `resumed`."""

    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class DropQueued:
    """Drop what is queued for the caller and not handed over yet."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The turn is over: tell the caller, with the report. Nothing of the turn follows."""

    report: TurnReport


Action = (
    LoadHistory | SaveHistory | LookUpReply | StoreReply | StartLlm | TellPatience | CancelLlm | FeedChunker
    | FlushChunker | EndChunker | RestartChunker | TellSlack | LookUpAudio | AppendAudio | SealAudio
    | ReleaseAudio | StoreAudio | Synthesize | CancelSpeech | SetTimer | EmitText | EmitChunk | EmitFrame
    | EmitWords | EmitSpeakLocally | EmitDegraded | DropQueued | Finish
)  # fmt: skip

_ASKS: Final = frozenset({LoadHistory, LookUpReply, StartLlm, LookUpAudio, Synthesize})
"""What a service is to answer before there is audio."""
_CAPTIONS: Final = frozenset({EmitText, EmitChunk})


def asked_first(actions: list[Action]) -> list[Action]:
    """Return the actions with questions ahead of the captions that came right before them.

    Each is a write of its own, and writes take turns. Nothing moves past audio, or past the end of it.
    """
    ordered: list[Action] = []
    captions: list[Action] = []
    for action in actions:
        if type(action) in _CAPTIONS:
            captions.append(action)
            continue
        if captions and type(action) not in _ASKS:
            ordered += captions
            captions.clear()
        ordered.append(action)
    return ordered + captions
