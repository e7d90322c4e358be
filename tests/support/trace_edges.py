"""What must be in the traces of turns, as data, and what is wrong with some."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.otlp import ReceivedSpan
from voicemesh.client import TurnReport
from voicemesh.runtime import edges
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.permissions import CHUNK, EXCHANGE, GENERATE, SYNTHESIZE

GATEWAY, LLM, CHUNKER, TTS, CACHE = (
    f"voicemesh-{name}" for name in ("gateway", "llm", "chunker", "tts", "cache")
)

_CLIENT: Final[int] = trace_pb2.Span.SPAN_KIND_CLIENT

Node = tuple[str, str]
"""Service and span."""
Edge = tuple[Node, Node]
"""Parent and child."""

TURN: Node = (GATEWAY, names.TURN_SPAN)
CHUNKED: tuple[Edge, ...] = ((TURN, (GATEWAY, CHUNK)), ((GATEWAY, CHUNK), (CHUNKER, CHUNK)))
LOOKED: tuple[Edge, ...] = ((TURN, (GATEWAY, EXCHANGE)), ((GATEWAY, EXCHANGE), (CACHE, EXCHANGE)))


def asked(model: str) -> tuple[Edge, ...]:
    """Return the edges of a turn that asks a model."""
    chat = (LLM, f"{names.CHAT} {model}")
    return (
        (TURN, (GATEWAY, GENERATE)),
        ((GATEWAY, GENERATE), (LLM, GENERATE)),
        ((LLM, GENERATE), chat),
        (chat, (LLM, "POST")),
        *CHUNKED,
    )


def spoken(engine: str) -> tuple[Edge, ...]:
    """Return the edges of a turn that an engine speaks."""
    chunk = (TTS, f"{names.TEXT_TO_SPEECH} {engine}")
    return (
        (TURN, (GATEWAY, SYNTHESIZE)),
        ((GATEWAY, SYNTHESIZE), (TTS, SYNTHESIZE)),
        ((TTS, SYNTHESIZE), chunk),
    )


def edges_of(spans: Iterable[ReceivedSpan]) -> set[Edge]:
    """Return the edges that there are between spans."""
    by_id = {span.span_id: span for span in spans}
    return {
        ((parent.service, parent.name), (span.service, span.name))
        for span in by_id.values()
        if (parent := by_id.get(span.parent_id)) is not None
    }


def connections_of(spans: Iterable[ReceivedSpan]) -> set[tuple[str, str]]:
    """Return who connects to whom, in the words of `voicemesh.runtime.edges`, where spans show it.

    A span below one of another process says that this one was called; one of kind CLIENT with nobody's span
    below it, that somebody outside of the mesh was.
    """
    by_id = {span.span_id: span for span in spans}
    found = set()
    answered = set()
    for span in by_id.values():
        parent = by_id.get(span.parent_id)
        if parent is not None and parent.service != span.service:
            answered.add(parent.span_id)
            found.add((_short(parent), _short(span)))
    for span in by_id.values():
        if span.kind == _CLIENT and span.span_id not in answered and (outside := _outside(span)):
            found.add((_short(span), outside))
    return found


def _short(span: ReceivedSpan) -> str:
    return span.service.removeprefix("voicemesh-")


def _outside(span: ReceivedSpan) -> str:
    if names.DB_SYSTEM in span.attributes:
        return edges.REDIS
    if names.SERVER_ADDRESS in span.attributes and span.service == LLM:
        return edges.PROVIDER
    return edges.EMBEDDINGS if span.attributes.get(names.OPERATION) == names.EMBEDDINGS else ""


@dataclass
class Faults:
    """What is wrong with spans; all empty where nothing is."""

    orphans: list[ReceivedSpan] = field(default_factory=list)
    """Their parent never came."""
    foreign: list[ReceivedSpan] = field(default_factory=list)
    """In no turn's trace, below a span of another one, about another turn, or a second root."""
    rootless: list[str] = field(default_factory=list)
    """Traces of turns without the span of the turn."""
    early: list[ReceivedSpan] = field(default_factory=list)
    """They began before their parent, or ended before they began."""


def faults_of(spans: Sequence[ReceivedSpan], reports: Iterable[TurnReport]) -> Faults:
    """Look at all spans of a mesh that ran these turns, and no others."""
    found = Faults()
    turn_of = {report.trace_id: report.turn_id for report in reports}
    by_id = {span.span_id: span for span in spans}
    roots: Counter[str] = Counter()
    for span in spans:
        parent = by_id.get(span.parent_id)
        if span.parent_id and parent is None:
            found.orphans.append(span)
        if span.start_ns > span.end_ns or (parent is not None and span.start_ns < parent.start_ns):
            found.early.append(span)
        if span.name == names.BATCH_SPAN and not span.parent_id:
            continue  # a trace of its own, by intent
        roots[span.trace_id] += not span.parent_id
        if _is_foreign(span, parent, turn_of) or (not span.parent_id and roots[span.trace_id] > 1):
            found.foreign.append(span)
    found.rootless = [trace_id for trace_id in turn_of if not roots[trace_id]]
    return found


def _is_foreign(span: ReceivedSpan, parent: ReceivedSpan | None, turn_of: dict[str, str]) -> bool:
    if span.trace_id not in turn_of or (parent is not None and parent.trace_id != span.trace_id):
        return True
    if not span.parent_id and (span.service, span.name) != TURN:
        return True
    told, turn_id = span.attributes.get(names.TURN_ID), turn_of[span.trace_id]
    # The id of one that was refused may be cut short, and its caller may not have been told one.
    return bool(told) and bool(turn_id) and str(told)[:200] != turn_id[:200]
